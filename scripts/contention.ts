/**
 * Processes that deploy, stop and reap at random on one home, and a table of what became of it.
 *
 * `--seconds 60 --processes 16 --seed 1`; the seed repeats what is drawn, not how the processes meet. Exits with 0 when no
 * promise was broken, 1 when one was.
 */
import { Effect, Logger } from "effect"
import { parseArgs } from "node:util"
import * as Contention from "../packages/core/test/support/Contention.ts"
import * as ClosedPipes from "./ClosedPipes.ts"

ClosedPipes.outlive()

const { values: options } = parseArgs({
  options: {
    seconds: { type: "string", default: "60" },
    processes: { type: "string", default: "16" },
    seed: { type: "string", default: "1" }
  }
})

const table = (headings: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string | number>>): void => {
  console.log("")
  for (const cells of [headings, headings.map(() => "---"), ...rows]) console.log(`| ${cells.join(" | ")} |`)
}

/** The cells of a name whose parts are divided by a slash, and what was counted, in order. */
const counted = <A>(counts: ReadonlyMap<string, A>, cells: (value: A) => ReadonlyArray<string | number>) =>
  Array.from(counts).toSorted(([a], [b]) => a < b ? -1 : 1).map(([name, value]) =>
    name.split("/").concat(cells(value).map(String))
  )

const print = (report: Contention.Report): void => {
  const number = (count: number) => [count]
  table(["operation", "outcome", "count"], counted(report.operations, number))
  table(
    ["step", "refusal", "count", "the last of them"],
    counted(report.refusals, ({ count, message }) => [count, message])
  )
  table(
    ["active at once in", "sampled", "replayed", "limit"],
    report.most.map(({ limit, of, replayed, sampled }) => [of, sampled, replayed, limit])
  )
  table(["row", "count"], counted(report.rows, number))
  table(["one reap at the end", "outcome", "count"], counted(report.reaped, number))
  if (report.logs.size > 0) table(["logged", "count"], counted(report.logs, number))
  const { answers, count } = report.keys
  console.log(
    `\n${report.kills} processes killed, ${report.samples} samples, ${answers} answers under ${count} keys, ` +
      `${report.violations.length} violations`
  )
  for (const violation of report.violations) console.log(`violation: ${violation}`)
  for (const [id, story] of report.stories) console.log([`\n${id}:`, ...story].join("\n    "))
}

const stop = new AbortController()
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stop.abort())

const program = Contention.run({
  seconds: Number(options.seconds),
  processes: Number(options.processes),
  seed: Number(options.seed)
}).pipe(Effect.provide(Logger.layer([])))

const report = await Effect.runPromise(program, { signal: stop.signal })
print(report)
process.exit(report.violations.length === 0 ? 0 : 1)
