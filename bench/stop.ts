/**
 * What the proof costs: `slipway.stop` of an agent that ends at TERM, from the call to the proof that nothing of it is left,
 * beside a bare `tmux kill-session` on a session that runs the same program.
 *
 * Both are measured by turns in one run, in a home and on sockets of their own. A bare kill-session answers before the
 * processes are gone; the third line adds the wait until they are, which a caller that wants to know would have to do.
 *
 *     node --conditions=source bench/stop.ts [--json]
 */
import { type DeployInput, Slipway } from "@slipway/core"
import { Console, Duration, Effect, Logger } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { cpus, tmpdir } from "node:os"
import { join } from "node:path"

const rounds = 20
const warmUps = 3
const script = "echo up; exec sleep 1000"

const directory = Fs.mkdtempSync(join(tmpdir(), "slipway-bench-"))
const project = join(directory, "project")
const home = join(directory, "home")
const bare = join(directory, "bare.sock")

const tmux = (...args: ReadonlyArray<string>): string =>
  spawnSync("tmux", ["-S", bare, "-f", "/dev/null", ...args], { encoding: "utf8", cwd: "/" }).stdout

const lives = (pid: number): boolean => {
  try {
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "latin1")
    return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z")
  } catch {
    return false
  }
}

const untilGone = (pid: number): Effect.Effect<void> =>
  Effect.suspend(() => lives(pid) ? Effect.andThen(Effect.sleep("1 millis"), untilGone(pid)) : Effect.void)

const untilWritten = (path: string): Effect.Effect<void> =>
  Effect.suspend(() =>
    Fs.existsSync(path) && Fs.statSync(path).size > 0
      ? Effect.void
      : Effect.andThen(Effect.sleep("1 millis"), untilWritten(path))
  )

const request: DeployInput = {
  project,
  prompt: "the bench",
  type: "worker",
  agent: { kind: "command", argv: ["sh", "-c", script] },
  ready: "output",
  readyWithinMillis: 20_000
}

const millis = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.timed(effect), ([took]) => Duration.toMillis(took))

const round = Effect.fnUntraced(function*(index: number) {
  const slipway = yield* Slipway
  const { agent } = yield* slipway.deploy(request)
  const stop = yield* millis(slipway.stop([agent.id]))
  const { state } = yield* slipway.agent(agent.id)
  if (state._tag !== "stopped") return yield* Effect.die(`the agent is ${state._tag}`)

  const log = join(directory, `bare-${index}.log`)
  const start = [
    "set-option",
    "-s",
    "exit-empty",
    "off",
    ";",
    "new-session",
    "-d",
    "-s",
    "bare",
    "-P",
    "-F",
    "#{pane_pid}"
  ]
  const pid = Number(tmux(...start, "--", "/bin/sh", "-c", `(${script}) </dev/null >'${log}' 2>&1; exit`))
  yield* untilWritten(log)
  let kill = 0
  const proven = yield* millis(Effect.gen(function*() {
    kill = yield* millis(Effect.sync(() => tmux("kill-session", "-t", "=bare")))
    yield* untilGone(pid)
  }))
  return { stop, kill, proven }
})

const spread = (values: ReadonlyArray<number>) => {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.round((sorted.length - 1) * share)] ?? Number.NaN
  const rounded = (value: number) => Number(value.toFixed(2))
  const median = (at(0.5) + (sorted.at(-1 - Math.round((sorted.length - 1) * 0.5)) ?? Number.NaN)) / 2
  return {
    median: rounded(median),
    p10: rounded(at(0.1)),
    p90: rounded(at(0.9)),
    min: rounded(at(0)),
    max: rounded(at(1))
  }
}

const program = Effect.gen(function*() {
  for (let index = 0; index < warmUps; index++) yield* round(index)
  const samples = yield* Effect.forEach(Array.from({ length: rounds }), (_, index) => round(warmUps + index))
  const result = {
    bench: "stop",
    rounds,
    unit: "ms",
    node: process.version,
    cores: cpus().length,
    stop: spread(samples.map(({ stop }) => stop)),
    kill_session: spread(samples.map(({ kill }) => kill)),
    kill_session_until_gone: spread(samples.map(({ proven }) => proven))
  }
  const ratio = Number((result.stop.median / result.kill_session.median).toFixed(2))
  if (process.argv.includes("--json")) return yield* Console.log(JSON.stringify({ ...result, ratio }))
  const row = (name: string, { max, median, min, p10, p90 }: ReturnType<typeof spread>) =>
    Console.log(
      [name.padEnd(30), ...[median, p10, p90, min, max].map((value) => value.toFixed(1).padStart(8))].join("")
    )
  yield* Console.log(`${`${rounds} rounds, ms`.padEnd(30)}  median     p10     p90     min     max`)
  yield* row("slipway stop, to the proof", result.stop)
  yield* row("tmux kill-session", result.kill_session)
  yield* row("the same, until it is gone", result.kill_session_until_gone)
  yield* Console.log(`slipway stop takes ${ratio} times a bare kill-session`)
})

const cleanUp = Effect.sync(() => {
  tmux("kill-server")
  spawnSync("tmux", ["-S", join(home, "tmux.sock"), "kill-server"])
  Fs.rmSync(directory, { recursive: true, force: true })
})

Fs.mkdirSync(project)
const main = Effect.provide(program, [Slipway.layer({ directory: home }), Logger.layer([])])
Effect.runPromise(Effect.ensuring(main, cleanUp)).catch((error: unknown) => {
  console.error(error)
  process.exitCode = 1
})
