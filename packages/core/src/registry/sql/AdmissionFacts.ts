/**
 * What one admission has to know, read in its transaction.
 *
 * Counts end at their limits, so that they cost the same however many rows there are.
 */
import { Effect, Schema } from "effect"
import { Agent } from "../../agent/Agent.ts"
import type { AdmissionFacts, HomeLimit } from "../Admission.ts"
import type { Database } from "./Database.ts"
import type { Reading } from "./Reading.ts"

const CountRows = Schema.Array(Schema.Struct({
  task_total: Schema.Int,
  task_active: Schema.Int,
  home_active: Schema.Int,
  same_type: Schema.NullOr(Agent.fields.id)
}))

export const make = ({ decode, sql }: Pick<Database, "decode" | "sql">, reading: Reading) => {
  const decodeCounts = decode(CountRows)

  return Effect.fnUntraced(function*(candidate: Agent, homeLimit: HomeLimit) {
    const task = yield* reading.task(candidate.taskId)
    const parent = candidate.parent === null ? undefined : yield* reading.agent(candidate.parent)
    const sameKey = candidate.key === null ? undefined : yield* reading.agentByKey(candidate.key)
    // No order: SQLite would go through all agents of the task by an index on the time.
    const [counts] = yield* Effect.flatMap(
      sql`SELECT
        (SELECT CAST(count(*) AS INTEGER) FROM (
          SELECT 1 FROM agents WHERE task_id = ${candidate.taskId} AND status <> 'rolled-back'
          LIMIT ${task?.limits.maxAgents ?? 0}) AS counted) AS task_total,
        (SELECT CAST(count(*) AS INTEGER) FROM agents
          WHERE task_id = ${candidate.taskId} AND holds_slot = 1) AS task_active,
        (SELECT CAST(count(*) AS INTEGER) FROM (
          SELECT 1 FROM agents WHERE holds_slot = 1 LIMIT ${homeLimit.maxActive}) AS active) AS home_active,
        (SELECT id FROM agents
          WHERE task_id = ${candidate.taskId} AND type = ${candidate.type} AND holds_slot = 1 LIMIT 1) AS same_type`,
      decodeCounts
    )
    const facts: AdmissionFacts = {
      task,
      parent,
      sameKey,
      sameType: counts?.same_type ?? undefined,
      taskTotal: counts?.task_total ?? 0,
      taskActive: counts?.task_active ?? 0,
      homeActive: counts?.home_active ?? 0,
      homeLimit
    }
    return facts
  })
}
