/**
 * All benches: a table for a person on stdout, and the same as JSON for a machine.
 *
 *     npm run bench [-- --only NAME,NAME] [--scale N] [--json FILE]
 *
 * Everything runs in homes and on sockets of its own, which are removed afterwards. Each ratio is one of medians of a
 * single run, in which its subjects took turns.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Console, DateTime, Effect, Logger, type Scope } from "effect"
import * as Fs from "node:fs"
import { cpus, release } from "node:os"
import { parseArgs } from "node:util"
import * as ClosedPipes from "../scripts/ClosedPipes.ts"
import * as deploy from "./deploy.ts"
import { isMet, type Line, table } from "./Measure.ts"
import * as Place from "./Place.ts"
import * as scale from "./scale.ts"
import * as start from "./start.ts"
import * as stop from "./stop.ts"

type Bench = (place: Place.Place, scale: number) => Effect.Effect<ReadonlyArray<Line>, unknown, Scope.Scope>

const benches: Readonly<Record<string, Bench>> = {
  deploy: deploy.cost,
  throughput: deploy.throughput,
  rows: deploy.rows,
  sessions: deploy.sessions,
  exits: deploy.exits,
  stop: stop.cost,
  start: start.cost,
  reap: scale.reap,
  ps: scale.ps,
  memory: scale.memory,
  idle: scale.idle
}

const { values } = parseArgs({
  options: { only: { type: "string" }, scale: { type: "string" }, json: { type: "string" } }
})
const chosen = values.only?.split(",")
const rounds = Number(values.scale ?? "1")

const program = Effect.gen(function*() {
  const lines: Array<Line> = []
  for (const [name, bench] of Object.entries(benches)) {
    if (chosen?.includes(name) === false) continue
    const found = yield* Effect.scoped(Effect.flatMap(Place.make, (place) => bench(place, rounds)))
    lines.push(...found)
    yield* Console.log(table(found))
  }
  const judged = lines.flatMap((line) => isMet(line) ?? [])
  yield* Console.log(`\n${judged.filter((met) => met).length} of ${judged.length} targets met`)
  if (values.json === undefined) return
  const machine = { node: process.version, cores: cpus().length, cpu: cpus()[0]?.model, kernel: release() }
  Fs.writeFileSync(
    values.json,
    `${JSON.stringify({ at: DateTime.formatIso(yield* DateTime.now), machine, lines }, null, 2)}\n`
  )
})

ClosedPipes.outlive()
process.once("SIGHUP", () => process.kill(process.pid, "SIGTERM"))
NodeRuntime.runMain(Effect.provide(program, Logger.layer([])))
