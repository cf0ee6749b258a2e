/**
 * One database as the registry uses it: operations that are tried again while another process holds the lock, one kind of
 * transaction, rows that are decoded, and a schema that is brought up to date before anything else.
 *
 * A transaction holds the write lock from its first read. (SQLite begins immediately; elsewhere an advisory lock of the
 * database replaces that.) A lock held by another process is retried for ten seconds by default, in steps that leave the
 * event loop free. Then the operation fails with `RegistryUnavailable` and nothing of it is stored.
 */
import { type Duration, Effect, Schema } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import { RegistryCorrupt, RegistryTooNew } from "../RegistryError.ts"
import { migrationFailed, toRegistryError } from "./Failures.ts"
import { retryLocked } from "./Locked.ts"
import * as Migrations from "./Migrations.ts"

export interface Options {
  /** Used in messages only. */
  readonly path: string
  /** How long to wait for a lock that another process holds; ten seconds by default. */
  readonly lockTimeout?: Duration.Input | undefined
}

// Any number, as long as every Slipway on one database takes the same: "slipway" in ASCII.
const writeLock = 32_484_433_827_717_497n

const CountRows = Schema.Array(Schema.Struct({ n: Schema.NullOr(Schema.Int) }))

/** The database of the client that is provided, with the newest schema. */
export const make = Effect.fnUntraced(function*({ lockTimeout, path }: Options) {
  const sql = yield* SqlClient.SqlClient
  const policy = retryLocked(lockTimeout)

  /**
   * An operation, by the name that the sentence of its failure has. A COMMIT that failed and could not be rolled back comes
   * as a defect; it is a failure of the registry all the same.
   */
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

  /** The same in one transaction, under the write lock. */
  const transaction = <A, E>(operation: string, effect: Effect.Effect<A, E>) =>
    guarded(operation, sql.withTransaction(Effect.andThen(lockWrites, effect)))

  /** Rows as a Schema of them says; others show that the registry is damaged. */
  const decode = <S extends Schema.ConstraintDecoder<unknown>>(schema: S) => {
    const decodeRows = Schema.decodeUnknownEffect(schema)
    return (rows: unknown) =>
      Effect.mapError(decodeRows(rows), () => new RegistryCorrupt({ path, reason: "a row can't be read" }))
  }

  const decodeCounts = decode(CountRows)
  /** The number `n` of the first row; 0 where it is null, or where there is no row. */
  const count = (statement: Effect.Effect<ReadonlyArray<unknown>, SqlError.SqlError>) =>
    Effect.map(Effect.flatMap(statement, decodeCounts), (rows) => rows[0]?.n ?? 0)

  /** The one kind of number that clients of every database read as a number; exact far beyond what is counted here. */
  const asNumber = (expression: string) => sql.literal(`CAST(${expression} AS DOUBLE PRECISION)`)

  // Before anything is written: a registry of a newer Slipway stays as it is.
  const version = Effect.gen(function*() {
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
  if ((yield* guarded("check its schema", version)) !== Migrations.newest) {
    const migrated = Migrations.run.pipe(
      Effect.provideService(SqlClient.SqlClient, sql),
      Effect.catchTag("MigrationError", (error) => Effect.fail(migrationFailed(error)))
    )
    yield* guarded("migrate", migrated)
  }

  return { sql, guarded, transaction, decode, count, asNumber }
})

export type Database = Effect.Success<ReturnType<typeof make>>
