/**
 * The registry: the record of truth about tasks and agents (`Ledger`), what happened to them (`EventLog`), and what was
 * counted (`Counters`). The three are one store, and one layer gives all of them.
 *
 * These are the contracts; `registry/sql/SqlRegistry` fulfils them on a database. Every write is one durable transaction:
 * when it has answered, it survives a crash of the process and of the machine; when it failed, nothing of it was stored.
 * A busy registry is retried for a few seconds; no operation waits without end.
 */
import type { Counters } from "./Counters.ts"
import type { EventLog } from "./EventLog.ts"
import type { Ledger } from "./Ledger.ts"

/** All three, as a layer gives them. */
export type Registry = Counters | EventLog | Ledger
