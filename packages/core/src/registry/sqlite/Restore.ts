/**
 * A registry as a file of rows: reads what can still be read of a damaged one, and writes a new one whole.
 *
 * `salvage` reads row by row from both ends of each table, so that a damaged page costs the rows on it and not those
 * behind it. It must be given a copy, since opening a database may change it. `write` stores everything in one
 * transaction: after its answer the file is complete, durable, and has no log beside it. Both work on files that no
 * command opens.
 */
import { DateTime, Effect, Option, Schema } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, type SqlError } from "effect/sql"
import { Agent, status } from "../../agent/Agent.ts"
import { Task } from "../../agent/Task.ts"
import { type RegistryError, RegistryUnavailable, type UnavailableBecause } from "../RegistryError.ts"
import { toRegistryError } from "../sql/Failures.ts"
import * as Legacy from "../sql/Legacy.ts"
import * as Migrations from "../sql/Migrations.ts"
import { agentRow, taskRow } from "../sql/Rows.ts"
import * as NodeSqlite from "./NodeSqlite.ts"

export interface Salvaged {
  readonly tasks: ReadonlyArray<Task>
  readonly agents: ReadonlyArray<Agent>
}

export interface Content {
  readonly tasks: ReadonlyArray<Task>
  /** Each with the one event that it begins with. */
  readonly agents: ReadonlyArray<{ readonly agent: Agent; readonly detail: string }>
}

const Rows = Schema.Array(Schema.Struct({ n: Schema.Int, document: Schema.Unknown }))
const decodeRows = Schema.decodeUnknownEffect(Rows)
const decodeTask = Schema.decodeUnknownOption(Schema.fromJsonString(Task))
const decodeDocument = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Unknown))
const decodeUpgraded = Schema.decodeUnknownOption(Agent)
/** A row of whichever version. */
const decodeAgent = (row: unknown) =>
  Option.flatMap(decodeDocument(row), (document) => decodeUpgraded(Legacy.upgrade(document)))

const onFile = <A, E>(path: string, use: (sql: SqlClient.SqlClient) => Effect.Effect<A, E | SqlError.SqlError>) =>
  Effect.scoped(Effect.flatMap(NodeSqlite.make({ filename: path, create: false, busyTimeout: "1 second" }), use)).pipe(
    Effect.provide(Reactivity.layer)
  )

/** All readable documents of a table: from its beginning up to the first unreadable one, and then from its end. */
const documents = Effect.fnUntraced(function*(sql: SqlClient.SqlClient, table: "agents" | "tasks") {
  const found = new Map<number, unknown>()
  const walk = Effect.fnUntraced(function*(forward: boolean) {
    let last: number | undefined
    while (true) {
      const rows = yield* decodeRows(
        yield* sql`SELECT rowid AS n, document FROM ${sql(table)} WHERE ${
          last === undefined ? sql`1 = 1` : forward ? sql`rowid > ${last}` : sql`rowid < ${last}`
        } ORDER BY rowid ${sql.literal(forward ? "ASC" : "DESC")} LIMIT 1`
      )
      const row = rows[0]
      if (row === undefined || found.has(row.n)) return
      found.set(row.n, row.document)
      last = row.n
    }
  })
  yield* Effect.catch(walk(true), () => Effect.ignore(walk(false)))
  return [...found.values()]
})

const nothing: Salvaged = { tasks: [], agents: [] }

/** What can be read of the registry in this file, which may be anything. */
export const salvage = (path: string): Effect.Effect<Salvaged> =>
  onFile(path, (sql) =>
    Effect.gen(function*() {
      const decoded = <A>(rows: ReadonlyArray<unknown>, decode: (row: unknown) => Option.Option<A>) =>
        rows.flatMap((row) => Option.toArray(decode(row)))
      return {
        tasks: decoded(yield* documents(sql, "tasks"), decodeTask),
        agents: decoded(yield* documents(sql, "agents"), decodeAgent)
      }
    })).pipe(Effect.orElseSucceed(() => nothing))

const unwritable = (error: Error, because: UnavailableBecause) =>
  Effect.fail(
    new RegistryUnavailable({ operation: "write what was found", because, reason: error.message, cause: error })
  )

/** Turns the empty file at the path into a registry with this content. */
export const write = (path: string, { agents, tasks }: Content): Effect.Effect<void, RegistryError> =>
  onFile(path, (sql) =>
    Effect.gen(function*() {
      yield* Effect.provideService(Migrations.run, SqlClient.SqlClient, sql)
      const at = DateTime.formatIso(yield* DateTime.now)
      yield* sql.withTransaction(Effect.gen(function*() {
        for (const task of tasks) yield* sql`INSERT INTO tasks ${sql.insert(yield* taskRow(task))}`
        for (const { agent, detail } of agents) {
          yield* sql`INSERT INTO agents ${sql.insert(yield* agentRow(agent))}`
          yield* sql`INSERT INTO events ${sql.insert({ agent_id: agent.id, at, status: status(agent), detail })}`
        }
      }))
      yield* sql`PRAGMA wal_checkpoint(TRUNCATE)`
    })).pipe(
      Effect.catchTags({
        MigrationError: (error) => unwritable(error, "other"),
        SqlError: (error) => Effect.fail(toRegistryError(path, "write what was found", error))
      })
    )
