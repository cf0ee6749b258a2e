/**
 * The counters on SQL: sums that the transaction of what is counted adds to, and findings, each stored once.
 */
import { Array as Arr, DateTime, Effect, Schema } from "effect"
import { isLeaked } from "../../agent/Agent.ts"
import { AgentTotal, Counters, type Found } from "../Counters.ts"
import type { Database } from "./Database.ts"
import * as Increments from "./Increments.ts"
import type { Reading } from "./Reading.ts"

const AgentTotalRows = Schema.Array(AgentTotal)
const CounterRows = Schema.Array(Increments.Counter)

/** Adds to the sums; within the transaction of what they count. */
export const add = Effect.fnUntraced(function*(
  { sql }: Pick<Database, "sql">,
  increments: ReadonlyArray<Increments.Increment>,
  at: DateTime.Utc
) {
  if (!Arr.isReadonlyArrayNonEmpty(increments)) return
  const moment = DateTime.formatIso(at)
  const rows = Arr.map(increments, ({ reason, ...increment }) => ({
    ...increment,
    first_at: moment,
    last_at: moment,
    last_reason: reason
  }))
  // Clocks of several processes need not agree on what came last.
  yield* sql`INSERT INTO tallies ${sql.insert(rows)} ON CONFLICT (metric, label, detail) DO UPDATE SET
    count = tallies.count + excluded.count,
    micros = tallies.micros + excluded.micros,
    first_at = CASE WHEN excluded.first_at < tallies.first_at THEN excluded.first_at ELSE tallies.first_at END,
    last_reason = CASE WHEN excluded.last_at < tallies.last_at THEN tallies.last_reason ELSE excluded.last_reason END,
    last_at = CASE WHEN excluded.last_at < tallies.last_at THEN tallies.last_at ELSE excluded.last_at END`
})

export const make = (database: Database, reading: Reading): Counters["Service"] => {
  const { asNumber, decode, guarded, sql, transaction } = database
  const decodeAgentTotals = decode(AgentTotalRows)
  const decodeCounters = decode(CounterRows)

  return Counters.of({
    totals: guarded(
      "count what happened",
      Effect.all({
        agents: Effect.flatMap(
          sql`SELECT status, end_detail AS detail, CAST(count(*) AS INTEGER) AS count FROM agents
              GROUP BY status, end_detail ORDER BY status, end_detail`,
          decodeAgentTotals
        ),
        leaked: Effect.map(reading.ending, (agents) => agents.filter(isLeaked).length),
        counted: Effect.flatMap(
          sql`SELECT metric, label, detail, ${asNumber("count")} AS count, ${asNumber("micros")} AS micros,
                first_at AS "firstAt", last_at AS "lastAt", last_reason AS "lastReason"
              FROM tallies ORDER BY metric, label, detail`,
          decodeCounters
        )
      }).pipe(Effect.map(({ counted, ...now }) => ({ ...now, ...Increments.totals(counted) })))
    ),

    found: Effect.fn("Counters.found")(function*(findings, at) {
      const isNew = ({ subject, verdict }: Found) =>
        Effect.map(
          sql`SELECT 1 AS n FROM findings WHERE subject = ${subject} AND verdict = ${verdict}`,
          (rows) => rows.length === 0
        )
      // Read first: what stays is found turn after turn, and takes no lock.
      const unknown = yield* guarded("read what was found", Effect.filter(findings, isNew))
      if (unknown.length === 0) return 0
      return yield* transaction(
        "store what was found",
        Effect.gen(function*() {
          const verdicts: Array<string> = []
          for (const { subject, verdict } of unknown) {
            const row = { subject, verdict, at: DateTime.formatIso(at) }
            const stored = yield* sql`INSERT INTO findings ${
              sql.insert(row)
            } ON CONFLICT (subject, verdict) DO NOTHING RETURNING subject`
            if (stored.length > 0) verdicts.push(verdict)
          }
          yield* add(database, Increments.ofFindings(verdicts), at)
          return verdicts.length
        })
      )
    })
  })
}
