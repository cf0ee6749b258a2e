/**
 * The registry on SQL: SQLite through `NodeSqlite`, and any client of `effect/sql` that understands the same
 * statements.
 *
 * Each operation that writes is one transaction that holds the write lock from its first read. (SQLite begins
 * immediately; elsewhere an advisory lock of the database replaces that.) A lock held by another process is retried for
 * ten seconds by default, in steps that leave the event loop free. Then the operation fails with `RegistryUnavailable`
 * and nothing of it is stored.
 */
import { Array as Arr, DateTime, type Duration, Effect, Layer, Option, Predicate, Schema } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { Agent, type AgentId, endDetail, holdsSlot, isActive, isLeaked, StateTag, status } from "../../agent/Agent.ts"
import * as CleanupReport from "../../agent/CleanupReport.ts"
import { ReleaseRecord } from "../../agent/Release.ts"
import { Task, type TaskId } from "../../agent/Task.ts"
import { decide, type HomeLimit } from "../Admission.ts"
import {
  AgentEvent,
  AgentNotFound,
  AgentTotal,
  type Found,
  HomeEvent,
  Registry,
  RegistryCorrupt,
  type RegistryError,
  RegistryTooNew,
  RegistryUnavailable,
  type TransitionEvent,
  type UnavailableBecause
} from "../Registry.ts"
import * as Counters from "./Counters.ts"
import { isPassing, retryLocked } from "./Locked.ts"
import * as Migrations from "./Migrations.ts"

const TaskRows = Schema.Array(Schema.Struct({ document: Schema.fromJsonString(Task) }))
const AgentRows = Schema.Array(Schema.Struct({ document: Schema.fromJsonString(Agent) }))
const EventRows = Schema.Array(AgentEvent)
const CountRows = Schema.Array(Schema.Struct({ n: Schema.NullOr(Schema.Int) }))
const StatusRows = Schema.Array(Schema.Struct({ id: Schema.String, status: StateTag }))
const AgentTotalRows = Schema.Array(AgentTotal)
const CounterRows = Schema.Array(Counters.Counter)
const Releases = Schema.fromJsonString(Schema.Array(ReleaseRecord))
const HomeEventRows = Schema.Array(Schema.Struct({ ...HomeEvent.fields, cleanup: Schema.NullOr(Releases) }))
const CheckRows = Schema.Array(Schema.Struct({ quick_check: Schema.String }))
const ActivityRows = Schema.Array(
  Schema.Struct({ active: Schema.NullOr(Schema.Int), last: Schema.NullOr(Schema.DateTimeUtcFromString) })
)
const TaskCountRows = Schema.Array(Schema.Struct({ total: Schema.Int, active: Schema.Int }))
const AdmissionCountRows = Schema.Array(Schema.Struct({
  task_total: Schema.Int,
  task_active: Schema.Int,
  home_active: Schema.Int,
  same_type: Schema.NullOr(Agent.fields.id)
}))

const encodeTaskJson = Schema.encodeEffect(Schema.fromJsonString(Task))
const encodeAgentJson = Schema.encodeEffect(Schema.fromJsonString(Agent))
const encodeReleases = Schema.encodeEffect(Releases)
const unwritable = (error: Schema.SchemaError) =>
  new RegistryUnavailable({ operation: "write a row", because: "content", reason: error.message, cause: error })

// SQLITE_CORRUPT and SQLITE_NOTADB.
const damaged = new Set([11, 26])

const errnoOf = (error: SqlError.SqlError): number | undefined => {
  const cause = error.reason.cause
  return Predicate.hasProperty(cause, "errno") && Predicate.isNumber(cause.errno) ? cause.errno & 0xff : undefined
}

// The primary result codes of SQLite.
const becauses = new Map<number | undefined, UnavailableBecause>([
  [3, "read-only"],
  [8, "read-only"],
  [10, "input-output"],
  [13, "disk-full"],
  [14, "cannot-open"]
])

const becauseOf = (error: SqlError.SqlError): UnavailableBecause =>
  isPassing(error) ? "locked" : becauses.get(errnoOf(error)) ?? "other"

const reasonOf = (error: SqlError.SqlError): string => error.reason.message ?? error.reason._tag

/** What a failure of the database means for the registry. */
export const toRegistryError = (path: string, operation: string, error: SqlError.SqlError): RegistryError =>
  damaged.has(errnoOf(error) ?? 0)
    ? new RegistryCorrupt({ path, reason: reasonOf(error) })
    : new RegistryUnavailable({ operation, because: becauseOf(error), reason: reasonOf(error), cause: error })

export interface Options {
  /** Used in messages only. */
  readonly path: string
  /** How long to wait for a lock that another process holds; ten seconds by default. */
  readonly lockTimeout?: Duration.Input | undefined
}

/** The registry on the client that is provided; see `SqliteRegistry` for one on a file. */
export const layer = (options: Options): Layer.Layer<Registry, RegistryError, SqlClient.SqlClient> =>
  Layer.effect(Registry, make(options))

// Any number, as long as every Slipway on one database takes the same: "slipway" in ASCII.
const writeLock = 32_484_433_827_717_497n

const make = Effect.fnUntraced(function*(
  options: Options
): Effect.fn.Return<Registry["Service"], RegistryError, SqlClient.SqlClient> {
  const sql = yield* SqlClient.SqlClient
  const { lockTimeout, path } = options
  const policy = retryLocked(lockTimeout)

  // A COMMIT that failed and could not be rolled back comes as a defect; it is a failure of the registry all the same.
  const guarded = <A, E>(operation: string, effect: Effect.Effect<A, E>) =>
    effect.pipe(
      Effect.catchDefect((defect) => SqlError.isSqlError(defect) ? Effect.fail(defect) : Effect.die(defect)),
      Effect.retry(policy),
      Effect.catchIf(SqlError.isSqlError, (error) => Effect.fail(toRegistryError(path, operation, error)))
    )

  const lockWrites = sql.onDialectOrElse({
    pg: () => Effect.asVoid(sql`SELECT pg_advisory_xact_lock(${sql.literal(String(writeLock))})`),
    orElse: () => Effect.void
  })

  const transaction = <A, E>(operation: string, effect: Effect.Effect<A, E>) =>
    guarded(operation, sql.withTransaction(Effect.andThen(lockWrites, effect)))

  const unreadable = () => new RegistryCorrupt({ path, reason: "a row can't be read" })
  const decode = <S extends Schema.ConstraintDecoder<unknown>>(schema: S) => {
    const decodeRows = Schema.decodeUnknownEffect(schema)
    return (rows: unknown) => Effect.mapError(decodeRows(rows), unreadable)
  }
  const decodeTasks = decode(TaskRows)
  const decodeAgents = decode(AgentRows)
  const decodeEvents = decode(EventRows)
  const decodeCounts = decode(CountRows)
  const decodeTaskCounts = decode(TaskCountRows)
  const decodeAdmissionCounts = decode(AdmissionCountRows)
  const decodeActivity = decode(ActivityRows)
  const decodeStatuses = decode(StatusRows)
  const decodeAgentTotals = decode(AgentTotalRows)
  const decodeCounters = decode(CounterRows)
  const decodeHomeEvents = decode(HomeEventRows)
  const decodeChecks = decode(CheckRows)
  const encodeTask = (task: Task) => Effect.mapError(encodeTaskJson(task), unwritable)
  const encodeAgent = (agent: Agent) => Effect.mapError(encodeAgentJson(agent), unwritable)

  // The one kind of number that clients of every database read as a number; exact far beyond these counts.
  const asNumber = (expression: string) => sql.literal(`CAST(${expression} AS DOUBLE PRECISION)`)

  const count = (statement: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
    Effect.map(Effect.flatMap(statement, decodeCounts), (rows) => rows[0]?.n ?? 0)

  // Before anything is written: a registry of a newer Slipway stays as it is.
  const schema = Effect.gen(function*() {
    const exists = yield* sql.onDialectOrElse({
      pg: () => sql`SELECT 1 AS n WHERE to_regclass(${Migrations.table}) IS NOT NULL`,
      orElse: () => sql`SELECT 1 AS n FROM sqlite_master WHERE type = 'table' AND name = ${Migrations.table}`
    })
    if (exists.length === 0) return 0
    const found = yield* count(sql`SELECT CAST(max(migration_id) AS INTEGER) AS n FROM ${sql(Migrations.table)}`)
    if (found > Migrations.newest) return yield* new RegistryTooNew({ path, found, supported: Migrations.newest })
    return found
  })
  // A migration takes the write lock, which a reader does not need, and which another process may hold for long.
  const isCurrent = (yield* guarded("check its schema", schema)) === Migrations.newest
  if (!isCurrent) {
    yield* guarded(
      "migrate",
      Migrations.run.pipe(
        Effect.provideService(SqlClient.SqlClient, sql),
        Effect.catchTag("MigrationError", (error) =>
          Effect.fail(
            SqlError.isSqlError(error.cause)
              ? error.cause
              : new RegistryUnavailable({ operation: "migrate", because: "other", reason: error.message, cause: error })
          ))
      )
    )
  }

  const findTask = (id: TaskId) =>
    Effect.map(
      Effect.flatMap(sql`SELECT document FROM tasks WHERE id = ${id}`, decodeTasks),
      (rows) => rows[0]?.document
    )
  const findAgent = (id: AgentId) =>
    Effect.map(
      Effect.flatMap(sql`SELECT document FROM agents WHERE id = ${id}`, decodeAgents),
      (rows) => rows[0]?.document
    )

  const findDefaultTask = (project: string) =>
    Effect.map(
      Effect.flatMap(sql`SELECT document FROM tasks WHERE project = ${project} AND is_default = 1`, decodeTasks),
      (rows) => rows[0]?.document
    )

  const insertEvent = (agent: Agent, at: DateTime.Utc, detail: string, cleanup: string | null) =>
    sql`INSERT INTO events ${
      sql.insert({ agent_id: agent.id, at: DateTime.formatIso(at), status: status(agent), detail, cleanup })
    }`

  const tally = Effect.fnUntraced(function*(increments: ReadonlyArray<Counters.Increment>, at: DateTime.Utc) {
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

  const insertAgent = Effect.fnUntraced(function*(agent: Agent) {
    yield* sql`INSERT INTO agents ${sql.insert(agentRow(agent, yield* encodeAgent(agent)))}`
    yield* insertEvent(agent, agent.createdAt, "admitted", null)
  })

  const storeAgent = Effect.fnUntraced(function*(
    before: Agent,
    after: Agent,
    event: TransitionEvent
  ) {
    if (after === before) return before
    yield* sql`UPDATE agents SET ${sql.update(columns(after, yield* encodeAgent(after)))} WHERE id = ${after.id}`
    const { releases = [] } = event
    const cleanup = releases.length === 0 ? null : yield* Effect.mapError(encodeReleases(releases), unwritable)
    yield* insertEvent(after, event.at, event.detail, cleanup)
    yield* tally(Counters.ofTransition(before, after, event), event.at)
    return after
  })

  const admissionFacts = Effect.fnUntraced(function*(candidate: Agent, homeLimit: HomeLimit) {
    const task = yield* findTask(candidate.taskId)
    const parent = candidate.parent === null ? undefined : yield* findAgent(candidate.parent)
    const sameKey = candidate.key === null ? [] : yield* Effect.flatMap(
      sql`SELECT document FROM agents WHERE request_key = ${candidate.key} AND status <> 'rolled-back'`,
      decodeAgents
    )
    // Counts end at their limits, so that they cost the same however many rows there are. No order: SQLite would go
    // through all agents of the task by an index on the time.
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
      decodeAdmissionCounts
    )
    return {
      task,
      parent,
      sameKey: sameKey[0]?.document,
      sameType: counts?.same_type ?? undefined,
      taskTotal: counts?.task_total ?? 0,
      taskActive: counts?.task_active ?? 0,
      homeActive: counts?.home_active ?? 0,
      homeLimit
    }
  })

  // An agent that has ended may have children that have not, so the walk goes through all and keeps the active ones.
  const activeDescendants = (id: AgentId) =>
    Effect.map(
      Effect.flatMap(
        sql`WITH RECURSIVE family (id, distance) AS (
              SELECT id, 1 FROM agents WHERE parent = ${id}
              UNION ALL
              SELECT agents.id, family.distance + 1 FROM family JOIN agents ON agents.parent = family.id
            )
            SELECT agents.document FROM family JOIN agents ON agents.id = family.id
            WHERE agents.is_active = 1
            ORDER BY family.distance DESC, agents.created_at, agents.id`,
        decodeAgents
      ),
      (rows) => rows.map((row) => row.document)
    )

  const quickCheck = Effect.gen(function*() {
    const rows = yield* sql.onDialectOrElse({
      pg: () => sql`SELECT 'ok' AS quick_check`,
      orElse: () => sql`PRAGMA quick_check`
    })
    return (yield* decodeChecks(rows)).map((row) => row.quick_check).filter((line) => line !== "ok")
  })

  return Registry.of({
    insertTask: (task) =>
      transaction(
        "store the task",
        Effect.flatMap(encodeTask(task), (document) => sql`INSERT INTO tasks ${sql.insert(taskRow(task, document))}`)
      ).pipe(Effect.asVoid, Effect.withSpan("Registry.insertTask")),

    defaultTask: Effect.fn("Registry.defaultTask")(function*(candidate) {
      // Read first: the lock is only needed the first time.
      const existing = yield* guarded("read the default task", findDefaultTask(candidate.project))
      if (existing !== undefined) return existing
      return yield* transaction(
        "store the default task",
        Effect.gen(function*() {
          const first = yield* findDefaultTask(candidate.project)
          if (first !== undefined) return first
          const task: Task = { ...candidate, isDefault: true }
          yield* sql`INSERT INTO tasks ${sql.insert(taskRow(task, yield* encodeTask(task)))}`
          return task
        })
      )
    }),

    task: (id) => guarded("read the task", Effect.map(findTask(id), Option.fromUndefinedOr)),

    tasks: guarded(
      "list the tasks",
      Effect.map(
        Effect.flatMap(sql`SELECT document FROM tasks ORDER BY created_at DESC, id`, decodeTasks),
        (rows) => rows.map((row) => row.document)
      )
    ),

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
      ).pipe(Effect.withSpan("Registry.admit")),

    exclusively: (effect) => transaction("take its lock", effect),

    agent: (id) => guarded("read the agent", Effect.map(findAgent(id), Option.fromUndefinedOr)),

    agents: ({ activeOnly, taskId }) =>
      guarded(
        "list the agents",
        Effect.map(
          Effect.flatMap(
            sql`SELECT document FROM agents WHERE ${
              sql.and([
                ...(taskId === undefined ? [] : [sql`task_id = ${taskId}`]),
                ...(activeOnly === true ? [sql`is_active = 1`] : []),
                sql`1 = 1`
              ])
            } ORDER BY created_at DESC, id DESC`,
            decodeAgents
          ),
          (rows) => rows.map((row) => row.document)
        )
      ),

    transition: (id, f, event) =>
      transaction(
        "store the agent's state",
        Effect.gen(function*() {
          const before = yield* findAgent(id)
          if (before === undefined) return yield* new AgentNotFound({ agentId: id })
          const after = yield* Effect.fromResult(f(before))
          return yield* storeAgent(before, after, event)
        })
      ).pipe(Effect.withSpan("Registry.transition")),

    transitionFamily: (id, f, event) =>
      transaction(
        "store the agents' states",
        Effect.gen(function*() {
          const root = yield* findAgent(id)
          if (root === undefined) return yield* new AgentNotFound({ agentId: id })
          const members = [...(yield* activeDescendants(id)), root]
          const stored: Array<Agent> = []
          for (const member of members) {
            const after = yield* Effect.fromResult(f(member, member.id === id ? "self" : "descendant"))
            stored.push(yield* storeAgent(member, after, event))
          }
          return stored
        })
      ).pipe(Effect.withSpan("Registry.transitionFamily")),

    statuses: guarded(
      "read the agents' states",
      Effect.map(
        Effect.flatMap(sql`SELECT id, status FROM agents`, decodeStatuses),
        (rows) => new Map(rows.map((row) => [row.id, row.status]))
      )
    ),

    totals: guarded(
      "count what happened",
      Effect.all({
        agents: Effect.flatMap(
          sql`SELECT status, end_detail AS detail, CAST(count(*) AS INTEGER) AS count FROM agents
              GROUP BY status, end_detail ORDER BY status, end_detail`,
          decodeAgentTotals
        ),
        leaked: Effect.map(
          Effect.flatMap(sql`SELECT document FROM agents WHERE status = 'ending'`, decodeAgents),
          (rows) => rows.filter((row) => isLeaked(row.document)).length
        ),
        counted: Effect.flatMap(
          sql`SELECT metric, label, detail, ${asNumber("count")} AS count, ${asNumber("micros")} AS micros,
                first_at AS "firstAt", last_at AS "lastAt", last_reason AS "lastReason"
              FROM tallies ORDER BY metric, label, detail`,
          decodeCounters
        )
      }).pipe(Effect.map(({ counted, ...now }) => ({ ...now, ...Counters.totals(counted) })))
    ),

    integrity: guarded("check itself", quickCheck),

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
        Effect.withSpan("Registry.forget")
      ),

    events: (id) =>
      guarded(
        "read the agent's events",
        Effect.flatMap(
          sql`SELECT agent_id AS "agentId", at, status, detail FROM events WHERE agent_id = ${id} ORDER BY id`,
          decodeEvents
        )
      ),

    // Ids are given out under the write lock, so that their order is the order of the commits, and none is given out twice.
    eventsAfter: (cursor, limit) =>
      guarded(
        "read the events",
        Effect.map(
          Effect.flatMap(
            sql`SELECT ${asNumber("events.id")} AS "cursor", events.agent_id AS "agentId", agents.task_id AS "taskId",
                  events.at, events.status AS "to", events.detail, events.cleanup,
                  (SELECT earlier.status FROM events earlier
                    WHERE earlier.agent_id = events.agent_id AND earlier.id < events.id
                    ORDER BY earlier.id DESC LIMIT 1) AS "from"
                FROM events JOIN agents ON agents.id = events.agent_id
                WHERE events.id > ${cursor} ORDER BY events.id LIMIT ${limit}`,
            decodeHomeEvents
          ),
          (rows) => rows.map((row) => ({ ...row, cleanup: row.cleanup === null ? null : cleanupOf(row.cleanup) }))
        )
      ),

    activity: guarded(
      "query the active agents",
      Effect.map(
        Effect.flatMap(
          sql`SELECT (SELECT 1 FROM agents WHERE is_active = 1 LIMIT 1) AS active,
                (SELECT at FROM events ORDER BY id DESC LIMIT 1) AS last`,
          decodeActivity
        ),
        ([row]) => ({ isActive: row?.active === 1, lastEventAt: row?.last ?? null })
      )
    ),

    lastEvent: guarded("read the last event", count(sql`SELECT ${asNumber("max(id)")} AS n FROM events`)),

    found: Effect.fn("Registry.found")(function*(findings, at) {
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
          yield* tally(Counters.ofFindings(verdicts), at)
          return verdicts.length
        })
      )
    })
  })
})

const cleanupOf = (releases: ReadonlyArray<ReleaseRecord>) => {
  const report = { releases }
  return {
    releases,
    survivors: CleanupReport.survivors(report),
    escalated: CleanupReport.escalated(report),
    millis: CleanupReport.millis(report)
  }
}

const columns = (agent: Agent, document: string) => ({
  status: agent.state._tag,
  is_active: isActive(agent.state) ? 1 : 0,
  holds_slot: holdsSlot(agent.state) ? 1 : 0,
  request_key: agent.key,
  end_detail: endDetail(agent.state),
  document
})

/** An agent as a row of its table. */
export const agentRow = (agent: Agent, document: string) => ({
  id: agent.id,
  task_id: agent.taskId,
  parent: agent.parent,
  type: agent.type,
  created_at: DateTime.formatIso(agent.createdAt),
  ...columns(agent, document)
})

/** A task as a row of its table. */
export const taskRow = (task: Task, document: string) => ({
  id: task.id,
  project: task.project,
  is_default: task.isDefault ? 1 : 0,
  created_at: DateTime.formatIso(task.createdAt),
  document
})
