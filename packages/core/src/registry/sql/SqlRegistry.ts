/**
 * The registry on SQL: SQLite through `NodeSqlite`, and any client of `effect/sql` that understands the same statements. What
 * it promises of locks and transactions stands in `Database`.
 */
import { Context, Effect, Layer } from "effect"
import type { SqlClient } from "effect/sql"
import { Counters } from "../Counters.ts"
import { EventLog } from "../EventLog.ts"
import { Ledger } from "../Ledger.ts"
import type { Registry } from "../Registry.ts"
import type { RegistryError } from "../RegistryError.ts"
import * as Database from "./Database.ts"
import * as Reading from "./Reading.ts"
import * as SqlCounters from "./SqlCounters.ts"
import * as SqlEventLog from "./SqlEventLog.ts"
import * as SqlLedger from "./SqlLedger.ts"

export type { Options } from "./Database.ts"

/** The registry on the client that is provided; see `SqliteRegistry` for one on a file. */
export const layer = (options: Database.Options): Layer.Layer<Registry, RegistryError, SqlClient.SqlClient> =>
  Layer.effectContext(Effect.map(Database.make(options), (database) => {
    const reading = Reading.make(database)
    return Context.make(Ledger, SqlLedger.make(database, reading)).pipe(
      Context.add(EventLog, SqlEventLog.make(database)),
      Context.add(Counters, SqlCounters.make(database, reading))
    )
  }))
