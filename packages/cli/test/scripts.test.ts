/**
 * What the project's own programs leave when they are cut short: nothing.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { procFile } from "./sandbox.ts"

const root = Path.join(import.meta.dirname, "..", "..", "..")

/** Processes that were started on something in the directory, or with their temporary files there. */
const processesOn = (directory: string): ReadonlyArray<string> =>
  Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))
    .filter((pid) =>
      ["cmdline", "environ"].some((file) => procFile(pid, file).includes(directory)) &&
      !/\) [ZX]/.test(procFile(pid, "stat"))
    )
    .map((pid) => `${pid} ${procFile(pid, "cmdline").replaceAll("\0", " ")}`)

/** A program of the project, with temporary files of its own. */
const start = Effect.fnUntraced(function*(script: string) {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "slipway-script-"))),
    (directory) =>
      Effect.sync(() => {
        for (const line of processesOn(directory)) process.kill(Number(line.split(" ")[0]), "SIGKILL")
        Fs.rmSync(directory, { recursive: true, force: true })
      })
  )
  const child = spawn(process.execPath, ["--conditions=source", Path.join(root, script)], {
    env: { ...process.env, TMPDIR: directory, SLIPWAY_HOME: Path.join(directory, "home") },
    stdio: ["ignore", "pipe", "pipe"]
  })
  let said = ""
  child.stdout.setEncoding("utf8").on("data", (text: string) => (said += text))
  const saying = (text: string) =>
    Effect.callback<void>((resume) => {
      const look = () => said.includes(text) && resume(Effect.void)
      look()
      child.stdout.on("data", look)
    })
  let problems = ""
  child.stderr.setEncoding("utf8").on("data", (text: string) => (problems += text))
  const exited = new Promise<number | null>((resolve) => child.on("exit", resolve))
  return {
    child,
    directory,
    said: saying,
    code: Effect.promise(() => exited),
    problems: () => problems
  }
})

/** All that is still there of a program that has ended; the tmux server, a home and their files are among them. */
const left = (directory: string) => Effect.sync(() => [...processesOn(directory), ...Fs.readdirSync(directory)])

describe("the demo", () => {
  for (const line of ["1. A deployment", "committed greeter"]) {
    it.live(
      `leaves nothing when its reader has left after ${JSON.stringify(line)}, and goes on to its end`,
      () =>
        Effect.gen(function*() {
          const { child, code, directory, problems, said } = yield* start("scripts/demo.ts")
          yield* said(line)
          child.stdout.destroy()
          assert.strictEqual(yield* code, 0, problems())
          assert.deepStrictEqual(yield* left(directory), [])
        }),
      240_000
    )
  }

  for (const signal of ["SIGINT", "SIGHUP"] as const) {
    it.live(
      `leaves nothing when ${signal} ends it, no agent either that ignores signals`,
      () =>
        Effect.gen(function*() {
          const { child, code, directory, said } = yield* start("scripts/demo.ts")
          yield* said("2. A deployment")
          child.kill(signal)
          assert.notStrictEqual(yield* code, 0)
          assert.deepStrictEqual(yield* left(directory), [])
        }),
      240_000
    )
  }
})

describe("the example of an orchestrator", () => {
  it.live("goes on to its end when its reader has left", () =>
    Effect.gen(function*() {
      const { child, code, directory, problems } = yield* start("examples/orchestrator.ts")
      child.stdout.destroy()
      assert.strictEqual(yield* code, 0, problems())
      // Its home and its tmux server are there for the next one; no agent is.
      assert.deepStrictEqual(
        processesOn(directory).filter((line) => !line.includes("tmux -u")),
        []
      )
    }), 240_000)
})
