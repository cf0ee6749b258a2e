/**
 * The ledger on SQL. Each operation that writes is one transaction (see `Database`), with the event and the counts of what it
 * changes.
 */
import { Effect, Option, Schema } from "effect"
import { Agent, StateTag } from "../../agent/Agent.ts"
import { isSameRequest, type Task } from "../../agent/Task.ts"
import { decide, TaskKeyTaken } from "../Admission.ts"
import type { TransitionEvent } from "../EventLog.ts"
import { Ledger } from "../Ledger.ts"
import { AgentNotFound } from "../RegistryError.ts"
import * as AdmissionFacts from "./AdmissionFacts.ts"
import type { Database } from "./Database.ts"
import * as Increments from "./Increments.ts"
import type { Reading } from "./Reading.ts"
import { agentRow, agentUpdate, taskRow } from "./Rows.ts"
import * as SqlCounters from "./SqlCounters.ts"
import * as SqlEventLog from "./SqlEventLog.ts"

const StatusRows = Schema.Array(Schema.Struct({ id: Schema.String, status: StateTag }))
const NameRows = Schema.Array(
  Schema.Struct({ id: Agent.fields.id, type: Agent.fields.type, is_active: Schema.Int })
)
const CheckRows = Schema.Array(Schema.Struct({ quick_check: Schema.String }))
const TaskCountRows = Schema.Array(Schema.Struct({ total: Schema.Int, active: Schema.Int }))

export const make = (database: Database, reading: Reading): Ledger["Service"] => {
  const { decode, guarded, sql, transaction } = database
  const decodeTaskCounts = decode(TaskCountRows)
  const decodeStatuses = decode(StatusRows)
  const decodeNames = decode(NameRows)
  const decodeChecks = decode(CheckRows)
  const admissionFacts = AdmissionFacts.make(database, reading)

  const insertTask = Effect.fnUntraced(function*(task: Task) {
    yield* sql`INSERT INTO tasks ${sql.insert(yield* taskRow(task))}`
    return task
  })

  const insertAgent = Effect.fnUntraced(function*(agent: Agent) {
    yield* sql`INSERT INTO agents ${sql.insert(yield* agentRow(agent))}`
    yield* SqlEventLog.append(database, agent, { at: agent.createdAt, detail: "admitted" })
  })

  const storeAgent = Effect.fnUntraced(function*(before: Agent, after: Agent, event: TransitionEvent) {
    if (after === before) return before
    yield* sql`UPDATE agents SET ${sql.update(yield* agentUpdate(after))} WHERE id = ${after.id}`
    yield* SqlEventLog.append(database, after, event)
    yield* SqlCounters.add(database, Increments.ofTransition(before, after, event), event.at)
    return after
  })

  return Ledger.of({
    addTask: Effect.fn("Ledger.addTask")(function*(task) {
      const { key } = task
      return yield* transaction(
        "store the task",
        Effect.gen(function*() {
          const first = key === undefined ? undefined : yield* reading.taskByKey(key)
          if (first === undefined) return yield* insertTask(task)
          return isSameRequest(first, task) ? first : yield* new TaskKeyTaken({ key: key ?? "", existing: first.id })
        })
      )
    }),

    defaultTask: Effect.fn("Ledger.defaultTask")(function*(candidate) {
      // Read first: the lock is only needed the first time.
      const existing = yield* guarded("read the default task", reading.defaultTask(candidate.project))
      if (existing !== undefined) return existing
      return yield* transaction(
        "store the default task",
        Effect.gen(function*() {
          const first = yield* reading.defaultTask(candidate.project)
          return first ?? (yield* insertTask({ ...candidate, isDefault: true }))
        })
      )
    }),

    task: (id) => guarded("read the task", Effect.map(reading.task(id), Option.fromUndefinedOr)),

    tasks: guarded("list the tasks", reading.tasks),

    taskCounts: (id) =>
      guarded(
        "count the agents",
        Effect.map(
          Effect.flatMap(
            sql`SELECT CAST(count(*) AS INTEGER) AS total, CAST(coalesce(sum(holds_slot), 0) AS INTEGER) AS active
                FROM agents WHERE task_id = ${id} AND status <> 'rolled-back'`,
            decodeTaskCounts
          ),
          (rows) => rows[0] ?? { total: 0, active: 0 }
        )
      ),

    admit: (candidate, options) =>
      transaction(
        "admit the deployment",
        Effect.gen(function*() {
          const facts = yield* admissionFacts(candidate, yield* options.homeLimit)
          const decision = yield* Effect.fromResult(decide(candidate, options, facts))
          if (decision._tag === "Admit") yield* insertAgent({ ...candidate, depth: decision.depth })
          return decision
        })
      ).pipe(Effect.withSpan("Ledger.admit")),

    exclusively: (effect) => transaction("take its lock", effect),

    agent: (id) => guarded("read the agent", Effect.map(reading.agent(id), Option.fromUndefinedOr)),

    agents: (filter) => guarded("list the agents", reading.agents(filter)),

    agentsNamed: (beginning) =>
      guarded(
        "find the agents of that name",
        Effect.map(
          Effect.flatMap(
            sql`SELECT id, type, is_active FROM agents WHERE substr(id, 1, ${beginning.length}) = ${beginning}
                ORDER BY created_at DESC, id DESC`,
            decodeNames
          ),
          (rows) => rows.map(({ id, is_active, type }) => ({ id, type, isActive: is_active === 1 }))
        )
      ),

    transition: (id, f, event) =>
      transaction(
        "store the agent's state",
        Effect.gen(function*() {
          const before = yield* reading.agent(id)
          if (before === undefined) return yield* new AgentNotFound({ agentId: id })
          const after = yield* Effect.fromResult(f(before))
          return yield* storeAgent(before, after, event)
        })
      ).pipe(Effect.withSpan("Ledger.transition")),

    transitionFamily: (id, f, event) =>
      transaction(
        "store the agents' states",
        Effect.gen(function*() {
          const root = yield* reading.agent(id)
          if (root === undefined) return yield* new AgentNotFound({ agentId: id })
          const members = [...(yield* reading.activeDescendants(id)), root]
          const stored: Array<Agent> = []
          for (const member of members) {
            const after = yield* Effect.fromResult(f(member, member.id === id ? "self" : "descendant"))
            stored.push(yield* storeAgent(member, after, event))
          }
          return stored
        })
      ).pipe(Effect.withSpan("Ledger.transitionFamily")),

    statuses: guarded(
      "read the agents' states",
      Effect.map(
        Effect.flatMap(sql`SELECT id, status FROM agents`, decodeStatuses),
        (rows) => new Map(rows.map((row) => [row.id, row.status]))
      )
    ),

    integrity: guarded(
      "check itself",
      Effect.gen(function*() {
        const rows = yield* sql.onDialectOrElse({
          pg: () => sql`SELECT 'ok' AS quick_check`,
          orElse: () => sql`PRAGMA quick_check`
        })
        return (yield* decodeChecks(rows)).map((row) => row.quick_check).filter((line) => line !== "ok")
      })
    ),

    forget: (ids) =>
      transaction(
        "forget agents",
        Effect.forEach(
          ids,
          Effect.fnUntraced(function*(id) {
            const rows = yield* sql`DELETE FROM agents WHERE id = ${id} AND is_active = 0 RETURNING id`
            if (rows.length > 0) yield* sql`DELETE FROM findings WHERE subject = ${id}`
            return rows.length
          })
        )
      ).pipe(
        Effect.map((counts) => counts.reduce((a, b) => a + b, 0)),
        Effect.withSpan("Ledger.forget")
      )
  })
}
