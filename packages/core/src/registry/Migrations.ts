/**
 * The registry's schema, as numbered migrations that run in one transaction; written for SQLite and Postgres.
 *
 * A row's truth is its document; the columns beside it are what queries and constraints need, and are written together with it by
 * one function. Partial indexes keep an admission as cheap among ten thousand ended agents as among ten.
 */
import { Effect } from "effect"
import { Migrator, SqlClient } from "effect/sql"

export const table = "slipway_migrations"

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
  // No reference to the agent: what releases did is counted for longer than an agent is remembered.
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

const migrations = { "0001_initial": initial }

/** The newest schema that this version knows. */
export const newest = Object.keys(migrations).length

/** Brings the schema up to date; what fails is rolled back whole. */
export const run = Migrator.make({})({ loader: Migrator.fromRecord(migrations), table })
