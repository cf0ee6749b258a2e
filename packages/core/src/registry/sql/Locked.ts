/**
 * How a database that another process has locked is asked again: about every ten milliseconds, with the event loop free
 * in between, up to a time limit. Only a lock, a deadlock, or a lost race is retried: what is missing or forbidden
 * stays so.
 */
import { type Duration, Schedule } from "effect"
import { SqlError } from "effect/sql"

const passing: ReadonlySet<string> = new Set<SqlError.SqlErrorReason["_tag"]>([
  "LockTimeoutError",
  "DeadlockError",
  "SerializationError"
])

/** Whether the statement failed because of another process, and may succeed when it is put again. */
export const isPassing = (error: SqlError.SqlError): boolean => passing.has(error.reason._tag)

/** The options of `Effect.retry` that wait for a lock, for ten seconds by default. */
export const retryLocked = (timeout: Duration.Input = "10 seconds") => ({
  while: (error: unknown) => SqlError.isSqlError(error) && isPassing(error),
  schedule: Schedule.spaced("10 millis").pipe(Schedule.jittered, Schedule.upTo({ duration: timeout }))
})
