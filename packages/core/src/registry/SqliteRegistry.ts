/**
 * The registry on one SQLite file: `SqlRegistry` over `NodeSqlite`, with every failure to open it told as the registry's.
 *
 * A file that is damaged, or of a newer schema, is refused and left as it is, byte for byte. Any number of processes may open
 * the same file at once, an empty one too: one of them makes the schema, the others wait for it.
 */
import { type Duration, Effect, Layer } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient } from "effect/sql"
import type { Registry, RegistryError } from "../Registry.ts"
import * as NodeSqlite from "./NodeSqlite.ts"
import * as SqlRegistry from "./SqlRegistry.ts"

export interface Options extends SqlRegistry.Options {
  /** How long one statement may block the event loop waiting for a lock; 20 milliseconds by default. */
  readonly busyTimeout?: Duration.Input | undefined
}

/** The registry on the file at `path`, which is made when it is missing. */
export const layer = (options: Options): Layer.Layer<Registry, RegistryError> =>
  SqlRegistry.layer(options).pipe(
    Layer.provide(Layer.effect(SqlClient.SqlClient, open(options))),
    Layer.provide(Reactivity.layer)
  )

const open = (options: Options) =>
  NodeSqlite.make({
    filename: options.path,
    busyTimeout: options.busyTimeout ?? "20 millis",
    lockTimeout: options.lockTimeout
  }).pipe(Effect.mapError((error) => SqlRegistry.toRegistryError(options.path, "open its file", error)))
