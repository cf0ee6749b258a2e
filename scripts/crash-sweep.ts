/**
 * Kills Slipway at every system call that changes anything, and shows that after one reap each thing is whole or
 * removed.
 *
 * `--sample 60 --seed 1` takes so many trials from all sweeps alike, `--full` takes all. `--only NAME` takes the sweeps
 * whose name begins so, `--transport control` or `process` those of one transport, `--json` prints every trial as JSON.
 * Exits with 0 when no trial failed, 1 when one did, 2 when there can be no sweep on this machine.
 */
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { parseArgs } from "node:util"
import { rolldown } from "rolldown"
import * as ClosedPipes from "./ClosedPipes.ts"
import { obstacle } from "./crash/trace.ts"
import {
  clientTrials,
  faultTrials,
  killTrials,
  type Result,
  signalTrials,
  tmuxTrials,
  type Tools,
  type Transport,
  type Trial
} from "./crash/trials.ts"
import { removeAll } from "./crash/world.ts"

ClosedPipes.outlive()

const { values: options } = parseArgs({
  options: {
    full: { type: "boolean", default: false },
    sample: { type: "string", default: "60" },
    seed: { type: "string", default: "1" },
    signals: { type: "string", default: "200" },
    workers: { type: "string", default: "2" },
    only: { type: "string", multiple: true, default: [] },
    transport: { type: "string", multiple: true, default: ["control", "process"] },
    json: { type: "boolean", default: false }
  }
})

const isTransport = (name: string): name is Transport => name === "control" || name === "process"
const transports = options.transport.filter(isTransport)
if (transports.length < options.transport.length) {
  console.error("crash-sweep: --transport is control or process")
  process.exit(1)
}

const problem = obstacle()
if (problem !== undefined) {
  console.error(`crash-sweep: ${problem}`)
  process.exit(2)
}

// mulberry32: the same seed takes the same trials.
const generator = (seed: number) => {
  let state = seed >>> 0
  return (): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}
const random = generator(Number(options.seed))

const shuffled = <A>(items: ReadonlyArray<A>): ReadonlyArray<A> =>
  items.map((item) => ({ item, order: random() })).toSorted((a, b) => a.order - b.order).map(({ item }) => item)

/** Takes from each sweep and transport in turn, so that each has its share of a sample. */
const sampled = (trials: ReadonlyArray<Trial>, count: number): ReadonlyArray<Trial> => {
  const bySweep = [...Map.groupBy(shuffled(trials), ({ sweep, transport }) => `${sweep} ${transport}`).values()]
  const longest = Math.max(0, ...bySweep.map((group) => group.length))
  return Array.from({ length: longest }, (_, index) => bySweep.flatMap((group) => group[index] ?? [])).flat().slice(
    0,
    count
  )
}

const bundle = async (directory: string): Promise<string> => {
  const build = await rolldown({
    cwd: Path.join(import.meta.dirname, ".."),
    input: Path.join(import.meta.dirname, "crash", "deployer.ts"),
    platform: "node",
    resolve: { conditionNames: ["source", "import", "node", "default"] },
    logLevel: "silent"
  })
  const file = Path.join(directory, "deployer.mjs")
  await build.write({ file, format: "esm", codeSplitting: false })
  await build.close()
  return file
}

const wanted = (name: string): boolean =>
  options.only.length === 0 || options.only.some((start) => name.startsWith(start))

const directory = Fs.mkdtempSync(Path.join(tmpdir(), "slipway-sweep-"))
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    removeAll()
    Fs.rmSync(directory, { recursive: true, force: true })
    process.exit(130)
  })
}
const started = Date.now()
const results: Array<Result> = []
try {
  const deployer = await bundle(directory)
  const count = Math.ceil(Number(options.signals) / transports.length)
  const trialsOf = async (transport: Transport): Promise<ReadonlyArray<Trial>> => {
    const tools: Tools = { deployer, directory, transport }
    const chance = generator(Number(options.seed) + (transport === "control" ? 1 : 2))
    return [
      ...(await killTrials(tools, wanted)),
      ...(await tmuxTrials(tools, wanted)),
      ...(await clientTrials(tools, wanted, chance, count)),
      ...(await faultTrials(tools, wanted)),
      ...(await signalTrials(tools, wanted, chance, count))
    ]
  }
  const all = (await Promise.all(transports.map(trialsOf))).flat()
  const chosen = options.full ? all : sampled(all, Number(options.sample))
  console.error(`crash-sweep: ${chosen.length} of ${all.length} trials`)
  const queue = [...chosen]
  const work = async (): Promise<void> => {
    for (let trial = queue.shift(); trial !== undefined; trial = queue.shift()) {
      const result = await trial.run().catch((error: unknown): Result => ({
        sweep: trial?.sweep ?? "",
        transport: trial?.transport ?? "control",
        phase: "none",
        syscall: "none",
        about: trial?.name ?? "",
        outcome: "missed",
        failures: [`the trial itself broke: ${String(error)}`]
      }))
      results.push(result)
      for (const failure of result.failures) {
        console.error(`${result.sweep}, ${result.transport}, ${result.phase}, ${result.about}\n    ${failure}`)
      }
      if (results.length % 50 === 0) console.error(`crash-sweep: ${results.length} done`)
    }
  }
  await Promise.all(Array.from({ length: Number(options.workers) }, work))
} finally {
  Fs.rmSync(directory, { recursive: true, force: true })
}

const count = (rows: ReadonlyArray<Result>, outcome: Result["outcome"]) =>
  rows.filter((row) => row.outcome === outcome && row.failures.length === 0).length

const failed = results.filter(({ failures }) => failures.length > 0)
if (options.json) {
  console.log(JSON.stringify({ seconds: (Date.now() - started) / 1000, failed: failed.length, results }, null, 2))
} else {
  const headings = ["sweep", "transport", "phase", "call", "points", "whole", "ended", "gone", "missed", "failed"]
  const groups = Map.groupBy(
    results,
    ({ phase, sweep, syscall, transport }) => [sweep, transport, phase, syscall].join("\t")
  )
  const line = (name: string, rows: ReadonlyArray<Result>) => [
    ...name.split("\t"),
    String(rows.length),
    ...(["whole", "ended", "gone", "missed"] as const).map((outcome) => String(count(rows, outcome))),
    String(rows.filter(({ failures }) => failures.length > 0).length)
  ]
  const table = [
    headings,
    headings.map(() => "---"),
    ...Array.from(groups, ([name, rows]) => line(name, rows)),
    line("all\t\t\t", results)
  ]
  for (const cells of table) console.log(`| ${cells.join(" | ")} |`)
  console.log(`\n${results.length} trials in ${Math.round((Date.now() - started) / 1000)} s, ${failed.length} failed`)
}
process.exit(failed.length === 0 ? 0 : 1)
