/**
 * What grows: the plan of a reap by rows and live sessions, with its memory; `ps` at many rows; and what an orchestrator holds
 * with 200 agents.
 */
import { Effect, Fiber, Schema, Stream } from "effect"
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { compare, type Line, line, timed } from "./Measure.ts"
import * as Place from "./Place.ts"

const Answer = Schema.fromJsonString(
  Schema.Struct({ millis: Schema.Array(Schema.Finite), peakMegabytes: Schema.Finite, items: Schema.Int })
)

/** In a process of its own, so that its memory is that of a reap and of nothing else. */
const inChild = (home: string, what: "open" | "plan" | "list") =>
  Effect.suspend(() => {
    const script = join(import.meta.dirname, "child.ts")
    const child = spawnSync(process.execPath, ["--conditions=source", script, home, what], { encoding: "utf8" })
    return Schema.decodeUnknownEffect(Answer)(child.stdout)
  })

const sizes = [
  { rows: 100, live: 5 },
  { rows: 1000, live: 50 },
  { rows: 10_000, live: 500 }
]

export const reap = Effect.fnUntraced(function*(place: Place.Place) {
  const name = "the plan of a reap: one listing, one scan, no query per row"
  const lines: Array<Line> = []
  for (const { live, rows } of sizes) {
    const opened = yield* Place.open(place, `reap-${rows}`)
    yield* Place.fill(opened, rows - live)
    yield* Place.populate(opened, live)
    const bare = yield* inChild(opened.directory, "open")
    const found = yield* inChild(opened.directory, "plan")
    if (found.items > 0) return yield* Effect.die(`${found.items} items in the plan of a healthy home`)
    const subject = `${rows} rows, ${live} of them live`
    const millis = line(name, subject, found.millis)
    lines.push(lines[0] === undefined ? millis : compare(millis, lines[0]))
    const grown = Math.max(0, found.peakMegabytes - bare.peakMegabytes)
    lines.push(line(name, `${subject}: peak memory beyond an open home`, [grown], "MB"))
  }
  return lines
})

export const ps = Effect.fnUntraced(function*(place: Place.Place, scale: number) {
  const name = "ps --all, in the library and as a command"
  const opened = yield* Place.open(place, "ps")
  yield* Place.fill(opened, 10_000)
  const inside: Array<number> = []
  const outside: Array<number> = []
  const command = join(import.meta.dirname, "..", "packages", "cli", "bin", "slipway.mjs")
  for (let round = 0; round < 5 * scale + 1; round++) {
    const [list, agents] = yield* timed(opened.slipway.agents())
    if (agents.length < 10_000) return yield* Effect.die(`${agents.length} agents`)
    const args = ["--home", opened.directory, "ps", "--all", "--json"]
    const [process] = yield* timed(Effect.sync(() => spawnSync(command, args, { maxBuffer: 2 ** 28 })))
    if (round === 0) continue
    inside.push(list)
    outside.push(process)
  }
  return [line(name, "library, 10 000 rows", inside), line(name, "slipway ps --all --json, 10 000 rows", outside)]
})

const megabytes = (bytes: number): number => bytes / 2 ** 20

export const memory = Effect.fnUntraced(function*(place: Place.Place) {
  const name = "an orchestrator with 200 agents, 16 deployed at once"
  const opened = yield* Place.open(place, "memory")
  const settled = Effect.gen(function*() {
    for (let index = 0; index < 3; index++) {
      globalThis.gc?.()
      yield* Effect.sleep("50 millis")
    }
    return process.memoryUsage()
  })
  yield* Effect.forEach(
    Array.from({ length: 20 }),
    () => Effect.flatMap(opened.slipway.deploy(Place.sleeper(opened)), ({ agent }) => opened.slipway.stop([agent.id]))
  )
  const before = yield* settled
  const [millis] = yield* timed(Effect.forEach(
    Array.from({ length: 200 }),
    () => opened.slipway.deploy(Place.sleeper(opened)),
    { concurrency: 16, discard: true }
  ))
  const after = yield* settled
  return [
    line(name, "deployments per second", [200 / millis * 1000], "/s"),
    line(name, "resident memory before", [megabytes(before.rss)], "MB"),
    line(name, "resident memory with 200 agents", [megabytes(after.rss)], "MB"),
    line(name, "heap per agent", [Math.max(0, after.heapUsed - before.heapUsed) / 200 / 1024], "kB")
  ]
})

/** What it costs to wait for agents and to follow their output while nothing happens. */
export const idle = Effect.fnUntraced(function*(place: Place.Place) {
  const name = "50 agents waited for and followed, while nothing happens"
  const opened = yield* Place.open(place, "idle")
  const ids = yield* Place.populate(opened, 50)
  const { slipway } = opened
  const watching = Effect.forEach(
    ids,
    (id) =>
      Effect.all([slipway.wait(id), Stream.runDrain(slipway.output(id, { follow: true }))], {
        concurrency: "unbounded",
        discard: true
      }),
    { concurrency: "unbounded", discard: true }
  )
  const perSecond = Effect.gen(function*() {
    yield* Effect.sleep("2 seconds")
    const before = process.cpuUsage()
    const [millis] = yield* timed(Effect.sleep("4 seconds"))
    const { system, user } = process.cpuUsage(before)
    return (system + user) / 1000 / (millis / 1000)
  })
  const bare = yield* perSecond
  const fiber = yield* Effect.forkChild(watching)
  const busy = yield* perSecond
  yield* Fiber.interrupt(fiber)
  return [
    line(name, "CPU of the program without", [bare], "ms/s"),
    line(name, "CPU of the program with all of them", [busy], "ms/s")
  ]
})
