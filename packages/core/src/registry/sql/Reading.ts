/**
 * The rows of tasks and agents that more than one operation reads, within whatever transaction it is in.
 */
import { Effect } from "effect"
import type { SqlError } from "effect/sql"
import type { AgentId } from "../../agent/Agent.ts"
import type { TaskId } from "../../agent/Task.ts"
import type { AgentFilter } from "../Ledger.ts"
import type { Database } from "./Database.ts"
import { AgentRows, TaskRows } from "./Rows.ts"

export const make = ({ decode, sql }: Pick<Database, "decode" | "sql">) => {
  const decodeTasks = decode(TaskRows)
  const decodeAgents = decode(AgentRows)
  const tasks = (statement: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
    Effect.map(Effect.flatMap(statement, decodeTasks), (rows) => rows.map(({ document }) => document))
  const agents = (statement: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
    Effect.map(Effect.flatMap(statement, decodeAgents), (rows) => rows.map(({ document }) => document))
  const first = <A, E>(rows: Effect.Effect<ReadonlyArray<A>, E>) => Effect.map(rows, ([row]) => row)

  return {
    task: (id: TaskId) => first(tasks(sql`SELECT document FROM tasks WHERE id = ${id}`)),
    taskByKey: (key: string) => first(tasks(sql`SELECT document FROM tasks WHERE request_key = ${key}`)),
    defaultTask: (project: string) =>
      first(tasks(sql`SELECT document FROM tasks WHERE project = ${project} AND is_default = 1`)),
    /** Newest first. */
    tasks: tasks(sql`SELECT document FROM tasks ORDER BY created_at DESC, id`),
    agent: (id: AgentId) => first(agents(sql`SELECT document FROM agents WHERE id = ${id}`)),
    /** Of those that were not rolled back: a key is free again after that. */
    agentByKey: (key: string) =>
      first(agents(sql`SELECT document FROM agents WHERE request_key = ${key} AND status <> 'rolled-back'`)),
    agents: ({ activeOnly, taskId }: AgentFilter) =>
      agents(
        sql`SELECT document FROM agents WHERE ${
          sql.and([
            ...(taskId === undefined ? [] : [sql`task_id = ${taskId}`]),
            ...(activeOnly === true ? [sql`is_active = 1`] : []),
            sql`1 = 1`
          ])
        } ORDER BY created_at DESC, id DESC`
      ),
    /** Those that were claimed and have something left. */
    ending: agents(sql`SELECT document FROM agents WHERE status = 'ending'`),
    /**
     * Children first. An agent that has ended may have children that have not, so the walk goes through all and keeps the active
     * ones.
     */
    activeDescendants: (id: AgentId) =>
      agents(sql`WITH RECURSIVE family (id, distance) AS (
          SELECT id, 1 FROM agents WHERE parent = ${id}
          UNION ALL
          SELECT agents.id, family.distance + 1 FROM family JOIN agents ON agents.parent = family.id
        )
        SELECT agents.document FROM family JOIN agents ON agents.id = family.id
        WHERE agents.is_active = 1
        ORDER BY family.distance DESC, agents.created_at, agents.id`)
  }
}

export type Reading = ReturnType<typeof make>
