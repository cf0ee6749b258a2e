/**
 * A real tmux server on a socket in a temporary directory. At the end of its scope the server is ended, and the test
 * fails if the server, a process of a session, or the directory is still there.
 */
import { NodeServices } from "@effect/platform-node"
import { assert } from "@effect/vitest"
import { Effect, Layer, Schedule } from "effect"
import { execFile } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { Target, TmuxControl, TmuxProcess } from "../src/index.ts"
import { Fixture } from "./TmuxContract.ts"

/** Runs tmux on a socket behind the back of the service, and answers with its output. */
export const tmux = (socket: string, ...args: ReadonlyArray<string>): Effect.Effect<string> =>
  Effect.callback((resume) => {
    execFile("tmux", ["-u", "-S", socket, "-f", "/dev/null", ...args], (_error, stdout) => {
      resume(Effect.succeed(stdout.trim()))
    })
  })

/** Whether a process runs; one that only waits to be reaped does not. */
export const isAlive = (pid: number): boolean => {
  try {
    return !/\) [ZX]/.test(Fs.readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return false
  }
}

/** Waits until a condition holds, and fails after twenty seconds. */
export const until = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.fail("not yet" as const)).pipe(
    Effect.retry(Schedule.spaced("2 millis")),
    Effect.timeout("20 seconds"),
    Effect.orDie
  )

export const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "slipway-tmux-"))),
  (directory) =>
    Effect.sync(() => {
      Fs.rmSync(directory, { recursive: true })
      assert.isFalse(Fs.existsSync(directory))
    })
)

/** Ends the server of a socket with its sessions, and waits until all their processes have ended. */
export const endServer = Effect.fnUntraced(function*(socket: string) {
  const pids = (yield* tmux(socket, "display-message", "-p", "#{pid}", ";", "list-panes", "-a", "-F", "#{pane_pid}"))
    .split("\n").filter((line) => line !== "").map(Number)
  yield* tmux(socket, "kill-server")
  yield* until(() => !pids.some(isAlive))
  assert.strictEqual(yield* tmux(socket, "display-message", "-p", "#{pid}"), "")
})

export const makeFixture = Effect.gen(function*() {
  const directory = yield* temporaryDirectory
  const socket = Target.SocketPath.make(Path.join(directory, "socket"))
  const script = Path.join(directory, "script.sh")
  Fs.writeFileSync(script, "exec sleep 300\n")
  yield* Effect.addFinalizer(() => endServer(socket))
  return {
    directory,
    socket,
    script,
    rename: (target: Target.Target, name: string) =>
      Effect.asVoid(tmux(socket, "rename-session", "-t", Target.render(target), "--", name)),
    endServer: endServer(socket),
    startEmpty: Effect.map(
      tmux(
        socket,
        "set-option",
        "-s",
        "exit-empty",
        "off",
        ";",
        "start-server",
        ";",
        "display-message",
        "-p",
        "#{pid}"
      ),
      Number
    )
  }
})

/** The transport on the installed tmux. */
export const transport = (options?: TmuxProcess.Options) =>
  TmuxProcess.layer(options).pipe(Layer.provide(NodeServices.layer))

/** The transport of control clients on the installed tmux: a client only comes to a server without sessions. */
export const control = (options?: TmuxControl.Options) =>
  TmuxControl.layer(options).pipe(Layer.provide(NodeServices.layer))

// What the contract promises is not how fast a busy machine starts 24 processes at once.
const patient = { timeout: "30 seconds" } as const

export const layer = Layer.merge(transport(patient), Layer.effect(Fixture, makeFixture))

export const controlLayer = Layer.merge(control(patient), Layer.effect(Fixture, makeFixture))
