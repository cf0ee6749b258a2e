import { defaultServerConditions } from "vite"
import { defineConfig } from "vitest/config"

// Packages resolve each other to their sources, so that no test ever runs against a stale build.
const conditions = ["source", ...defaultServerConditions]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["packages/*/test/**/*.test.ts", "scripts/**/*.test.ts", "examples/**/*.test.ts"],
    environment: "node",
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    teardownTimeout: 10_000,
    env: { NO_COLOR: "1" }
  }
})
