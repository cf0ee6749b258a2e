import { defineConfig } from "rolldown"

/** One file for the command, so that it starts fast and installs nothing; what is imported lazily becomes a chunk. */
export default defineConfig({
  cwd: import.meta.dirname,
  input: { bin: "src/bin.ts" },
  platform: "node",
  resolve: { conditionNames: ["source", "import", "node", "default"] },
  output: {
    dir: "dist",
    cleanDir: true,
    format: "esm",
    entryFileNames: "[name].mjs",
    chunkFileNames: "chunks/[name]-[hash].mjs",
    sourcemap: true,
    sourcemapExcludeSources: true,
    // Names stay, so that a stack trace in a bug report can be read without the map.
    minify: { compress: true, mangle: false, codegen: { removeWhitespace: true } }
  }
})
