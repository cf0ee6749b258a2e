/**
 * What a failure of the database means for the registry. Pure.
 */
import { Predicate } from "effect"
import { type Migrator, SqlError } from "effect/sql"
import { RegistryCorrupt, type RegistryError, RegistryUnavailable, type UnavailableBecause } from "../RegistryError.ts"
import { isPassing } from "./Locked.ts"

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

/** A failed statement, as the error of the operation that it belongs to; `path` is named in messages only. */
export const toRegistryError = (path: string, operation: string, error: SqlError.SqlError): RegistryError =>
  damaged.has(errnoOf(error) ?? 0)
    ? new RegistryCorrupt({ path, reason: reasonOf(error) })
    : new RegistryUnavailable({ operation, because: becauseOf(error), reason: reasonOf(error), cause: error })

/** A migration that failed: by the database, or by what it found there. */
export const migrationFailed = (error: Migrator.MigrationError): RegistryUnavailable | SqlError.SqlError =>
  SqlError.isSqlError(error.cause)
    ? error.cause
    : new RegistryUnavailable({ operation: "migrate", because: "other", reason: error.message, cause: error })
