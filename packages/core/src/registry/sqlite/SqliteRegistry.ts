/**
 * The registry on one SQLite file: `SqlRegistry` over `NodeSqlite`; every failure to open it is a `RegistryError`.
 *
 * A file that is damaged, or of a newer schema, is refused and left as it is, byte for byte. Any number of processes
 * may open the same file at once, an empty one too: one of them makes the schema, the others wait for it.
 *
 * A home's registry is the very file that the home records when it is open, and is never made by opening it. A process
 * that read the home before a rebuild, and opens the registry only after it, is refused before a byte is written.
 */
import { type Duration, Effect, Layer } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, SqlError } from "effect/sql"
import { Home, type HomeUnusable } from "../../home/Home.ts"
import { type FileError, Files } from "../../machine/Files.ts"
import type { Host } from "../../machine/Host.ts"
import type { Registry } from "../Registry.ts"
import { type RegistryError, RegistryReplaced, RegistryUnavailable } from "../RegistryError.ts"
import { toRegistryError } from "../sql/Failures.ts"
import * as SqlRegistry from "../sql/SqlRegistry.ts"
import * as NodeSqlite from "./NodeSqlite.ts"

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

/** The registry of the home, which `Home` has made. */
export const ofHome = (
  options: Omit<Options, "path"> = {}
): Layer.Layer<Registry, HomeUnusable | RegistryError, Files | Home | Host> =>
  Layer.unwrap(Effect.map(Home, ({ registry: path }) =>
    SqlRegistry.layer({ ...options, path }).pipe(
      Layer.provide(Layer.effect(SqlClient.SqlClient, openRecorded({ ...options, path }))),
      Layer.provide(Reactivity.layer)
    )))

const open = <E = never>(options: Options, more: Pick<NodeSqlite.Config<E>, "create" | "verify"> = {}) =>
  NodeSqlite.make({
    ...more,
    filename: options.path,
    busyTimeout: options.busyTimeout ?? "20 millis",
    lockTimeout: options.lockTimeout
  }).pipe(Effect.catchIf(
    SqlError.isSqlError,
    (error) => Effect.fail(toRegistryError(options.path, "open its file", error))
  ))

const openRecorded = Effect.fnUntraced(function*(options: Options) {
  const files = yield* Files
  const home = yield* Home
  const { path } = options
  const unreadable = (error: FileError) =>
    new RegistryUnavailable({
      operation: "inspect its file",
      because: "input-output",
      reason: error.message,
      cause: error
    })
  const look = Effect.gen(function*() {
    const found = yield* Effect.mapError(files.inspect(path), unreadable)
    return found ?? (yield* new RegistryReplaced({ path, reason: "the file is missing" }))
  })
  const before = yield* look
  // A registry's path changes to another file only once: so the file found there before and after is the one that was
  // opened.
  const verify = Effect.gen(function*() {
    const after = yield* look
    const isRecorded = yield* home.recorded
    if (after.inode !== before.inode || after.device !== before.device || !isRecorded(after)) {
      return yield* new RegistryReplaced({ path, reason: "it is another file than the one recorded in home.json" })
    }
  })
  return yield* open(options, { create: false, verify }).pipe(
    Effect.catchTag("RegistryUnavailable", (error) => Effect.andThen(verify, Effect.fail(error)))
  )
})
