/**
 * What a start of the command costs: `slipway` as it is installed, in processes of its own, beside a bare `tmux
 * new-session`. Also beside `node -e 0`, which no command on Node can be faster than.
 *
 *     npm run build && node --conditions=source bench/start.ts [--scale N] [--json FILE]
 *
 * The home is made before, and the compiled code is in the cache, as from a user's third run on; the last line is
 * without.
 */
import { Console, Effect, Logger } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { delimiter, dirname, join } from "node:path"
import { parseArgs } from "node:util"
import { atMost, compare, interleave, line, table, timed } from "./Measure.ts"
import * as Place from "./Place.ts"

const slipway = join(import.meta.dirname, "..", "packages", "cli", "bin", "slipway.mjs")

interface Options {
  readonly home?: string
  readonly env?: Readonly<Record<string, string>>
}

/** Runs programs to their end, with a cache of their own and the Node that runs this. */
const runner = (place: Place.Place) => {
  const path = [dirname(process.execPath), process.env["PATH"]].join(delimiter)
  const inherited = Object.entries(process.env).filter(([name]) => !/^(SLIPWAY_|NODE_|TMUX)/.test(name))
  return (program: string, args: ReadonlyArray<string>, { env, home = "start" }: Options = {}) =>
    Effect.sync(() => {
      const { error, status, stderr, stdout } = spawnSync(program, args, {
        cwd: place.project,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "pipe"],
        env: {
          ...Object.fromEntries(inherited),
          PATH: path,
          SLIPWAY_HOME: place.home(home),
          XDG_CACHE_HOME: join(place.root, "cache"),
          ...env
        }
      })
      if (error !== undefined) throw error
      if (status !== 0) throw new Error(`${program} ${args.join(" ")} ended with ${status}: ${stderr}`)
      return stdout
    })
}

export const cost = Effect.fnUntraced(function*(place: Place.Place, scale: number) {
  const run = runner(place)
  Fs.mkdirSync(join(place.root, "cache"))
  const { task_id: task } = JSON.parse(
    yield* run(slipway, ["task", "create", "the bench", "--json", "--max-agents", "1000000"])
  )
  const millis = (program: string, args: ReadonlyArray<string>, options?: Options) => () =>
    Effect.map(timed(run(program, args, options)), ([took]) => took)
  const flags = ["--json", "--task", task, "--ready", "none", "--allow-duplicate", "--prompt", "the bench"]
  const deployed = (options?: Options) =>
    Effect.fnUntraced(function*() {
      const [took, answer] = yield* timed(run(slipway, ["deploy", ...flags, "--", "sleep", "100000"], options))
      yield* run(slipway, ["stop", JSON.parse(answer).agent_id])
      return took
    })
  const uncached = { env: { NODE_DISABLE_COMPILE_CACHE: "1" } }
  const samples = yield* interleave({
    node: millis(process.execPath, ["-e", "0"]),
    tmux: (round) =>
      Effect.map(
        timed(Effect.sync(() => place.tmux("new-session", "-d", "-s", `start-${round}`, "--", "sleep", "100000"))),
        ([took]) => {
          place.tmux("kill-session", "-t", `=start-${round}`)
          return took
        }
      ),
    version: millis(slipway, ["--version"]),
    help: millis(slipway, ["--help"]),
    ps: millis(slipway, ["ps", "--json"], { home: "empty" }),
    deploy: deployed(),
    uncached: deployed(uncached)
  }, { rounds: 20 * scale, warmUps: 4 })
  const name = "a start of the command"
  const base = line(name, "node -e 0", samples("node"))
  return [
    base,
    compare(line(name, "tmux new-session (a process)", samples("tmux")), base),
    compare(line(name, "slipway --version", samples("version")), base, atMost(2)),
    compare(line(name, "slipway --help", samples("help")), base),
    compare(line(name, "slipway ps --json, an empty home", samples("ps")), base),
    compare(line(name, "slipway deploy --ready none", samples("deploy")), base, atMost(4)),
    compare(line(name, "the same with nothing compiled before", samples("uncached")), base)
  ]
})

if (import.meta.main) {
  const { values } = parseArgs({ options: { scale: { type: "string" }, json: { type: "string" } } })
  const program = Effect.gen(function*() {
    const lines = yield* Effect.flatMap(Place.make, (place) => cost(place, Number(values.scale ?? "1")))
    yield* Console.log(table(lines))
    if (values.json !== undefined) Fs.writeFileSync(values.json, `${JSON.stringify(lines, null, 2)}\n`)
  })
  Effect.runPromise(Effect.provide(Effect.scoped(program), Logger.layer([]))).catch((error: unknown) => {
    console.error(error)
    process.exitCode = 1
  })
}
