/**
 * Bundles the command: `dist/bin.mjs` has its first lines, `dist/slipway.cjs` the program, so that it installs
 * nothing and starts fast. What is imported lazily becomes a chunk.
 */
import { decode, encode } from "@jridgewell/sourcemap-codec"
import type { Plugin, RolldownOptions } from "rolldown"

// Node has loaded these before any program runs, but for what `node:fs` loads when it is asked for its streams.
const loaded = new Set(["node:fs", "node:module", "node:os", "node:path", "node:url", "node:vm"])

// What is used of the others, each in another command or at another moment; of a class, that it is only constructed.
const late = new Map([
  ["node:child_process", []],
  ["node:crypto", []],
  ["node:fs/promises", []],
  ["node:net", ["Socket"]],
  ["node:readline", []],
  ["node:stream", ["PassThrough"]],
  ["node:tty", ["ReadStream"]],
  ["node:zlib", []]
])

const isClass = (value: unknown): boolean =>
  typeof value === "function" && Object.getOwnPropertyNames(value.prototype ?? {}).length > 1

/**
 * Loads Node's own modules when they are first used: an import of node:child_process and node:crypto takes as long as a
 * third of Node's own start. What stands in for a function or a class may be called and constructed, and nothing else.
 */
const lateBuiltins: Plugin = {
  name: "late-builtins",
  resolveId: (id) => loaded.has(id) || late.has(id) ? { id: `\0${id}`, moduleSideEffects: false } : null,
  load: async (id) => {
    const name = id.slice(1)
    if (!id.startsWith("\0node:")) return null
    const builtin: Record<string, unknown> = await import(name)
    const module = `process.getBuiltinModule(${JSON.stringify(name)})`
    const lines = Object.keys(builtin).filter((key) => key !== "default" && /^\w+$/.test(key)).map((key) => {
      if (name === "node:fs" && key === "promises") return "export * as promises from \"node:fs/promises\""
      const standsIn = typeof builtin[key] === "function" && !isClass(builtin[key]) || late.get(name)?.includes(key)
      if (loaded.has(name) || !standsIn) return `export const ${key} = /*@__PURE__*/ (() => ${module}.${key})()`
      return `export function ${key}(...args) {
  const { ${key}: original } = ${module}
  return new.target ? Reflect.construct(original, args) : original(...args)
}`
    })
    return `${lines.join("\n")}\nexport default /*@__PURE__*/ (() => ${module})()`
  }
}

/** Modules that do at once what a start doesn't need, and what is put in place of that. */
const eager = [{
  // Loading ICU's rules for graphemes takes as long as a third of Node's own start; only prompts measure text by them.
  module: /\/effect\/dist\/cli\/CliOutput\.js$/,
  found:
    /const graphemeSegmenter = \/\*#__PURE__\*\/(new Intl\.Segmenter\(undefined, \{\s*granularity: "grapheme"\s*\}\));/,
  replaced: "let segmenter; const graphemeSegmenter = { segment: (text) => (segmenter ??= $1).segment(text) };"
}, {
  // Whether the engine names such a function in a trace; V8 does, and would parse the whole program again to say so.
  module: /\/effect\/dist\/Utils\.js$/,
  found: /error\.stack\?\.includes\(InternalTypeId\) === true/,
  replaced: "true"
}]

const lateModules: Plugin = {
  name: "late-modules",
  transform(code, id) {
    const change = eager.find(({ module }) => module.test(id))
    if (change === undefined) return null
    if (!change.found.test(code)) this.error(`${id} no longer has what is replaced in it: ${change.found}`)
    return { code: code.replace(change.found, change.replaced), map: null }
  }
}

const notAscii = /[^\0-\x7f]/g
const hex = (unit: string): string => unit.charCodeAt(0).toString(16).padStart(4, "0")
/** How many characters an escape is longer than what it stands for. */
const longer = 5

/**
 * Escapes what is not ASCII, since the program is read as Latin-1; after the minifier, which would undo it. Behind each
 * escape the columns of the map move by what it is longer.
 */
const ascii: Plugin = {
  name: "ascii",
  generateBundle(_, bundle) {
    for (const [name, chunk] of Object.entries(bundle)) {
      if (chunk.type !== "chunk") continue
      const lines = chunk.code.split("\n").map((line) => Array.from(line.matchAll(notAscii), ({ index }) => index))
      chunk.code = chunk.code.replaceAll(notAscii, (unit) => `\\u${hex(unit)}`)
      const map = bundle[`${name}.map`]
      if (map?.type !== "asset") continue
      const parsed: { readonly mappings: string } = JSON.parse(String(map.source))
      const moved = decode(parsed.mappings).map((segments, line) => {
        const escaped = lines[line] ?? []
        return segments.map((segment): typeof segment => {
          const [column, ...rest] = segment
          return [column + longer * escaped.filter((index) => index < column).length, ...rest]
        })
      })
      map.source = JSON.stringify({ ...parsed, mappings: encode(moved) })
    }
  }
}

const common = {
  cwd: import.meta.dirname,
  platform: "node",
  resolve: { conditionNames: ["source", "import", "node", "default"] },
  plugins: [lateBuiltins, lateModules, ascii]
} satisfies RolldownOptions

const output = {
  dir: "dist",
  sourcemap: true,
  sourcemapExcludeSources: true,
  // Names stay, so that a stack trace in a bug report can be read without the map.
  minify: { compress: true, mangle: false, codegen: { removeWhitespace: true } }
} satisfies RolldownOptions["output"]

export default [
  {
    ...common,
    input: { slipway: "src/bin.ts" },
    output: {
      ...output,
      cleanDir: true,
      format: "cjs",
      entryFileNames: "[name].cjs",
      chunkFileNames: "chunks/[name]-[hash].cjs"
    }
  },
  {
    ...common,
    input: { bin: "src/Start.ts" },
    output: { ...output, format: "esm", entryFileNames: "[name].mjs" }
  }
] satisfies ReadonlyArray<RolldownOptions>
