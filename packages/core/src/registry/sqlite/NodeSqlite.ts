/**
 * An Effect SQL client on `node:sqlite`; the one module that knows this driver.
 *
 * One connection, write-ahead log, `synchronous = FULL`: a transaction that has answered survives a power loss. `BEGIN
 * IMMEDIATE` takes the write lock first, so that what a transaction read can't be outdated by its writes. Statements
 * are synchronous: a lock held by another process blocks this process's event loop for at most `busyTimeout`. Then the
 * statement fails with a retryable `LockTimeoutError`. Callers retry in Effect, which serves other fibers and signals
 * in between.
 *
 * Connection handling is Effect's own `SqlClient.makeSqliteAcquirers`; published SQLite drivers do not accept Effect
 * 4.1.
 */
import { Context, Duration, Effect, Predicate, type Scope, Semaphore, Stream } from "effect"
import type { Reactivity } from "effect/reactivity"
import { SqlClient, type SqlConnection, SqlError, Statement } from "effect/sql"
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite"
import { pathToFileURL } from "node:url"
import { retryLocked } from "../sql/Locked.ts"
import { sqlite } from "./SqliteModule.ts"

export interface Config<E = never> {
  readonly filename: string
  /** Whether to make a missing file, which is the default; otherwise opening it fails. */
  readonly create?: boolean | undefined
  /** Runs when the file is open, and before anything in it is read or written. */
  readonly verify?: Effect.Effect<void, E> | undefined
  /** How long one statement may block the event loop waiting for a lock. */
  readonly busyTimeout: Duration.Input
  /** How long opening waits for a lock in all; ten seconds by default. */
  readonly lockTimeout?: Duration.Input | undefined
}

// SQLITE_CONSTRAINT_PRIMARYKEY and SQLITE_CONSTRAINT_UNIQUE: Postgres has one error for both.
const primaryKeyViolation = 1555
const uniqueViolation = 2067

const attempt = <A>(operation: string, f: () => A): Effect.Effect<A, SqlError.SqlError> =>
  Effect.try({
    try: f,
    catch: (cause) => {
      const message = Predicate.isError(cause) ? cause.message : String(cause)
      const code = Predicate.hasProperty(cause, "errcode") && Predicate.isNumber(cause.errcode)
        ? cause.errcode
        : undefined
      // The classifier reads `errno`, and node:sqlite reports the extended result code as `errcode`.
      const errno = code === primaryKeyViolation ? uniqueViolation : code
      return new SqlError.SqlError({
        reason: SqlError.classifySqliteError(errno === undefined ? cause : { cause, message, errno }, {
          operation,
          message
        })
      })
    }
  })

const isInput = (value: unknown): value is SQLInputValue =>
  value === null || Predicate.isString(value) || Predicate.isNumber(value) || Predicate.isBigInt(value) ||
  value instanceof Uint8Array

const inputs = (params: ReadonlyArray<unknown>): Array<SQLInputValue> =>
  params.map((value) => isInput(value) ? value : value === undefined ? null : JSON.stringify(value))

type Prepare = (sql: string) => StatementSync

const cachedPrepare = (db: DatabaseSync, size: number): Prepare => {
  const cache = new Map<string, StatementSync>()
  return (sql) => {
    const known = cache.get(sql)
    if (known !== undefined) return known
    for (const oldest of cache.size >= size ? cache.keys() : []) {
      cache.delete(oldest)
      break
    }
    const statement = db.prepare(sql)
    cache.set(sql, statement)
    return statement
  }
}

const connect = (db: DatabaseSync): SqlConnection.Connection => {
  const prepared = cachedPrepare(db, 200)
  const unprepared: Prepare = (sql) => db.prepare(sql)

  const on = <A>(prepare: Prepare, sql: string, use: (statement: StatementSync) => A) =>
    Effect.withFiber<A, SqlError.SqlError>((fiber) =>
      attempt("execute", () => {
        const statement = prepare(sql)
        statement.setReadBigInts(Context.get(fiber.context, SqlClient.SafeIntegers))
        return use(statement)
      })
    )

  const rows = (prepare: Prepare): SqlConnection.Connection["execute"] => (sql, params, transform) => {
    const read = on(prepare, sql, (statement): ReadonlyArray<object> => {
      statement.setReturnArrays(false)
      if (statement.columns().length > 0) return statement.all(...inputs(params))
      statement.run(...inputs(params))
      return []
    })
    return transform === undefined ? read : Effect.map(read, transform)
  }

  const values = (prepare: Prepare): SqlConnection.Connection["executeValues"] => (sql, params) =>
    on(prepare, sql, (statement): ReadonlyArray<ReadonlyArray<unknown>> => {
      statement.setReturnArrays(true)
      return statement.all(...inputs(params)).map((row) => Array.isArray(row) ? row : Object.values(row))
    })

  const execute = rows(prepared)
  return {
    execute,
    executeRaw: (sql, params) => on(prepared, sql, (statement) => statement.run(...inputs(params))),
    executeValues: values(prepared),
    executeValuesUnprepared: values(unprepared),
    executeUnprepared: rows(unprepared),
    executeStream: (sql, params, transform) => Stream.fromIterableEffect(execute(sql, params, transform))
  }
}

/** The file as a URL by which SQLite opens it for reading and writing, and does not make it. */
const existing = (path: string): URL => {
  const url = pathToFileURL(path)
  url.searchParams.set("mode", "rw")
  return url
}

/** Opens the database for as long as the scope; a file that is made has the mode that the umask leaves. */
export const make = Effect.fnUntraced(function*<E = never>(
  config: Config<E>
): Effect.fn.Return<SqlClient.SqlClient, E | SqlError.SqlError, Scope.Scope | Reactivity.Reactivity> {
  const location = config.create === false ? existing(config.filename) : config.filename
  const db = yield* Effect.acquireRelease(
    attempt("open", () => {
      const { DatabaseSync } = sqlite()
      return new DatabaseSync(location, { timeout: Duration.toMillis(config.busyTimeout) })
    }),
    (db) => Effect.ignore(attempt("close", () => db.close()))
  )
  if (config.verify !== undefined) yield* config.verify
  yield* attempt(
    "configure",
    () => db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON")
  ).pipe(Effect.retry(retryLocked(config.lockTimeout)))
  return yield* SqlClient.make({
    driver: "node:sqlite",
    ...SqlClient.makeSqliteAcquirers({
      connection: Effect.succeed(connect(db)),
      semaphore: Semaphore.makeUnsafe(1),
      isTransaction: () => db.isTransaction
    }),
    compiler: Statement.makeCompilerSqlite(),
    beginTransaction: "BEGIN IMMEDIATE",
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    prepareTransactionControls: true,
    spanAttributes: [["db.system.name", "sqlite"]]
  })
})
