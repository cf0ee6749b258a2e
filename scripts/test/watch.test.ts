/** The watch that the proof of the real agents rests on, tried on a command. */
import { assert, describe, it } from "@effect/vitest"
import { Slipway } from "@slipway/core"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Watch from "../agents/Watch.ts"

const directory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "slipway-watch-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, maxRetries: 5 }))
)

const controlClients = (socket: string) =>
  spawnSync("tmux", ["-S", socket, "list-clients", "-F", "#{client_pid}"], { encoding: "utf8" })
    .stdout.split("\n").filter((line) => line !== "").map(Number)

describe("the watch over a real agent", () => {
  it.live("counts the agent's processes, and neither the deployer's tmux client nor the home's server", () =>
    Effect.gen(function*() {
      const root = yield* directory
      const caller = { environment: { PATH: process.env["PATH"] }, cwd: root, umask: 0o022, isRoot: false }
      yield* Effect.gen(function*() {
        const slipway = yield* Slipway
        const { socket } = slipway.home
        yield* Effect.addFinalizer(() => Effect.sync(() => spawnSync("tmux", ["-S", socket, "kill-server"])))
        const watch = Watch.make(root, { deployer: { pid: process.pid, socket } })
        const { agent } = yield* slipway.deploy({
          project: root,
          prompt: "wait",
          agent: { kind: "command", argv: ["sh", "-c", "sleep 300 & echo started; wait"] },
          ready: "output"
        })
        const [client = 0] = controlClients(socket)
        assert.isAbove(client, 0)

        assert.include(watch.alive().map(({ argv }) => argv.trim()), "sleep 300")
        assert.deepStrictEqual(watch.alive().filter(({ argv }) => argv.startsWith("tmux")), [])
        watch.end()
        assert.deepStrictEqual(watch.alive(), [])
        // The deployer goes on with the client that it had.
        yield* slipway.wait(agent.id)
        assert.deepStrictEqual(controlClients(socket), [client])
      }).pipe(Effect.provide(Slipway.layer({ directory: join(root, "home"), caller })))
    }))
})
