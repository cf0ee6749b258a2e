/**
 * The registry's schema, as numbered migrations that run in one transaction; written for SQLite and Postgres.
 *
 * A row's truth is its document. The columns beside it are what queries and constraints need; one function writes both
 * together. Partial indexes keep an admission as cheap among ten thousand ended agents as among ten.
 */
import { Clock, Effect, Schema } from "effect"
import { Migrator, SqlClient } from "effect/sql"
import * as Increments from "./Increments.ts"
import * as Legacy from "./Legacy.ts"

export const table = "slipway_migrations"

const decodeDocuments = Schema.decodeUnknownEffect(
  Schema.Array(Schema.Struct({ id: Schema.String, document: Schema.fromJsonString(Schema.Unknown) }))
)

const initial = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  const eventId = sql.onDialectOrElse({
    pg: () => "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    orElse: () => "INTEGER PRIMARY KEY AUTOINCREMENT"
  })
  yield* sql`CREATE TABLE tasks (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    is_default INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    document TEXT NOT NULL
  )`
  yield* sql`CREATE UNIQUE INDEX tasks_default ON tasks (project) WHERE is_default = 1`
  yield* sql`CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    task_id TEXT NOT NULL REFERENCES tasks (id),
    parent TEXT,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    is_active INTEGER NOT NULL,
    holds_slot INTEGER NOT NULL,
    request_key TEXT,
    end_detail TEXT,
    created_at TEXT NOT NULL,
    document TEXT NOT NULL
  )`
  yield* sql`CREATE INDEX agents_slots ON agents (task_id, type) WHERE holds_slot = 1`
  yield* sql`CREATE INDEX agents_active ON agents (created_at) WHERE is_active = 1`
  yield* sql`CREATE INDEX agents_counted ON agents (task_id) WHERE status <> 'rolled-back'`
  yield* sql`CREATE INDEX agents_task ON agents (task_id, created_at)`
  yield* sql`CREATE INDEX agents_children ON agents (parent) WHERE parent IS NOT NULL`
  yield* sql`CREATE UNIQUE INDEX agents_key ON agents (request_key) WHERE status <> 'rolled-back'`
  yield* sql`CREATE TABLE events (
    id ${sql.literal(eventId)},
    agent_id TEXT NOT NULL REFERENCES agents (id) ON DELETE CASCADE,
    at TEXT NOT NULL,
    status TEXT NOT NULL,
    detail TEXT NOT NULL
  )`
  yield* sql`CREATE INDEX events_agent ON events (agent_id, id)`
  // No reference to the agent: the count of releases outlives the agent's row.
  yield* sql`CREATE TABLE releases (
    agent_id TEXT NOT NULL,
    at TEXT NOT NULL,
    resource TEXT NOT NULL,
    outcome TEXT NOT NULL,
    reason TEXT,
    millis INTEGER NOT NULL
  )`
  yield* sql`CREATE INDEX releases_outcome ON releases (resource, outcome)`
})

/**
 * Counts move from rows that are scanned to sums that are kept, and an event can carry the cleanup that led to it. The
 * counts from the rows are carried over. Durations of
 * deployments were not recorded before.
 */
const sums = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE events ADD COLUMN cleanup TEXT`
  yield* sql`CREATE TABLE tallies (
    metric TEXT NOT NULL,
    label TEXT NOT NULL,
    detail TEXT NOT NULL,
    count BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    first_at TEXT NOT NULL,
    last_at TEXT NOT NULL,
    last_reason TEXT,
    PRIMARY KEY (metric, label, detail)
  )`
  // What reaps found, so that what stays is counted once; a stray has no agent to refer to.
  yield* sql`CREATE TABLE findings (
    subject TEXT NOT NULL,
    verdict TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (subject, verdict)
  )`
  yield* sql`CREATE INDEX agents_counts ON agents (status, end_detail)`
  const columns = sql.literal("metric, label, detail, count, micros, first_at, last_at, last_reason")
  yield* sql`INSERT INTO tallies (${columns})
    SELECT 'release', resource, outcome, count(*), sum(millis) * 1000, min(at), max(at),
      (SELECT last.reason FROM releases last
        WHERE last.resource = releases.resource AND last.outcome = releases.outcome ORDER BY last.at DESC LIMIT 1)
    FROM releases GROUP BY resource, outcome`
  const bucket = sql.literal(
    `CASE ${
      Increments.releaseBounds.map((bound) => `WHEN millis <= ${bound * 1000} THEN '${bound}'`).join(" ")
    } ELSE '${Increments.beyond}' END`
  )
  yield* sql`INSERT INTO tallies (${columns})
    SELECT 'release-duration', resource, ${bucket}, count(*), sum(millis) * 1000, min(at), max(at), NULL
    FROM releases GROUP BY resource, ${bucket}`
  yield* sql`INSERT INTO tallies (${columns})
    SELECT 'deployment', 'committed', '', count(DISTINCT agent_id), 0, min(at), max(at), NULL
    FROM events WHERE status = 'running' HAVING count(*) > 0`
  const rolledBack = sql.literal(
    `agents WHERE status = 'rolled-back' OR status = 'ending' AND NOT EXISTS
      (SELECT 1 FROM events WHERE events.agent_id = agents.id AND events.status = 'running')`
  )
  yield* sql`INSERT INTO tallies (${columns})
    SELECT 'deployment', 'rolled-back', '', count(*), 0, min(created_at), max(created_at), NULL
    FROM ${rolledBack} HAVING count(*) > 0`
  yield* sql`INSERT INTO tallies (${columns})
    SELECT 'rollback', coalesce(end_detail, 'unknown'), '', count(*), 0, min(created_at), max(created_at), NULL
    FROM ${rolledBack} GROUP BY end_detail`
  // A registry made in place of another one gives out cursors after all that the other gave out, so a follower misses
  // none of its events: no registry stores a million events a second.
  const micros = (yield* Clock.currentTimeMillis) * 1000
  yield* sql.onDialectOrElse({
    pg: () => Effect.void,
    orElse: () =>
      Effect.asVoid(sql`INSERT INTO sqlite_sequence (name, seq)
        SELECT 'events', ${micros} WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events')`)
  })
})

/** Rows come to keep their plan as a list, and what is left says by itself whether it may live. */
const plans = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  let last = ""
  for (;;) {
    const page = yield* sql`SELECT id, document FROM agents WHERE id > ${last} ORDER BY id LIMIT 500`
    const rows = yield* decodeDocuments(page)
    if (rows.length === 0) return
    for (const { document, id } of rows) {
      yield* sql`UPDATE agents SET document = ${JSON.stringify(Legacy.upgrade(document))} WHERE id = ${id}`
      last = id
    }
  }
})

/** A task can be made under a key; and the rows from which the sums of the second schema were made go. */
const taskKeys = Effect.gen(function*() {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE tasks ADD COLUMN request_key TEXT`
  yield* sql`CREATE UNIQUE INDEX tasks_key ON tasks (request_key) WHERE request_key IS NOT NULL`
  yield* sql`DROP TABLE releases`
})

/** All migrations, in their order; tests make registries of former schemas with the first of them. */
export const migrations = {
  "0001_initial": initial,
  "0002_sums": sums,
  "0003_plans": plans,
  "0004_task_keys": taskKeys
}

/** The newest schema that this version knows. */
export const newest = Object.keys(migrations).length

/** Brings the schema up to date; what fails is rolled back whole. */
export const run = Migrator.make({})({ loader: Migrator.fromRecord(migrations), table })
