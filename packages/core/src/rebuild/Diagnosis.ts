/**
 * What is wrong with the registry that the home has now, and what can still be read of it.
 *
 * It reads a copy, since opening a database may change it, and changes nothing itself. What passes by itself, or by mending
 * the machine (a lock, a full disk), says nothing about the file: then the rebuild fails with that, and begins nothing.
 */
import { Effect, type Scope } from "effect"
import type { Agent } from "../agent/Agent.ts"
import type { Task } from "../agent/Task.ts"
import { type Home, HomeUnusable } from "../home/Home.ts"
import type { FileError, Files } from "../machine/Files.ts"
import { Ledger } from "../registry/Ledger.ts"
import { type RegistryError, RegistryTooNew, type UnavailableBecause } from "../registry/RegistryError.ts"
import { salvage, type Salvaged } from "../registry/sqlite/Restore.ts"
import * as SqliteRegistry from "../registry/sqlite/SqliteRegistry.ts"
import { RegistryHealthy } from "./Refusals.ts"
import { besides, type Swap } from "./Swap.ts"

/** What was found of the registry that the home has now. */
export interface Damage {
  readonly reason: string
  readonly salvaged: Salvaged
  /** Whether it is the very file that the home recorded. */
  readonly isRecorded: boolean
}

/** All that a registry holds, with what the database itself complains of. */
export interface Content {
  readonly complaints: ReadonlyArray<string>
  readonly tasks: ReadonlyArray<Task>
  readonly agents: ReadonlyArray<Agent>
}

const nothing: Salvaged = { tasks: [], agents: [] }

const ofTheMachine: ReadonlySet<UnavailableBecause> = new Set([
  "locked",
  "disk-full",
  "read-only",
  "cannot-open",
  "input-output"
])

/** Reads a registry whole. */
export const readAll = (path: string): Effect.Effect<Content, RegistryError> =>
  Effect.scoped(
    Effect.gen(function*() {
      const ledger = yield* Ledger
      const complaints = yield* ledger.integrity
      return { complaints, tasks: yield* ledger.tasks, agents: yield* ledger.agents({}) }
    }).pipe(Effect.provide(SqliteRegistry.layer({ path })))
  )

/** Removes a database that no command opens, with what stands beside it. */
export const removeCopy = (files: Files["Service"], copy: string) =>
  Effect.forEach(besides, (suffix) => Effect.ignore(files.removeFile(`${copy}${suffix}`)))

/** Finds what is wrong; fails with `RegistryHealthy` when nothing is. The copy that it reads goes with the scope. */
export const diagnose = Effect.fnUntraced(function*(
  files: Files["Service"],
  home: Home["Service"],
  swap: Swap["Service"]
): Effect.fn.Return<Damage, FileError | HomeUnusable | RegistryError | RegistryHealthy, Scope.Scope> {
  const copied = Effect.acquireRelease(swap.copyName, (copy) => removeCopy(files, copy)).pipe(
    Effect.tap((copy) =>
      Effect.forEach(["", "-wal"], (suffix) =>
        Effect.gen(function*() {
          const info = yield* files.inspect(`${home.registry}${suffix}`)
          if (info?.kind !== "file") return
          const content = yield* files.readChunk(`${home.registry}${suffix}`, 0, info.size)
          yield* files.createFile(`${copy}${suffix}`, content, 0o600)
        }))
    )
  )

  const info = yield* files.inspect(home.registry)
  if (info === undefined) return { reason: "the file is missing", salvaged: nothing, isRecorded: false }
  // A directory can't be given a second name, and SQLite did not make it.
  if (info.kind === "directory") {
    return yield* new HomeUnusable({ path: home.directory, reason: "its registry.db is a directory; move it away" })
  }
  if (info.kind !== "file") return { reason: "it is not a plain file", salvaged: nothing, isRecorded: false }
  const isRecorded = (yield* home.recorded)(info)
  if (info.size === 0) {
    const isNew = isRecorded && (yield* files.list(home.agents)).length === 0
    if (isNew) return yield* new RegistryHealthy({ path: home.registry })
    return { reason: "it is empty", salvaged: nothing, isRecorded }
  }
  const copy = yield* copied
  const found = yield* Effect.result(readAll(copy))
  const salvaged = yield* salvage(copy)
  if (found._tag === "Success") {
    const { agents, complaints, tasks } = found.success
    const [complaint] = complaints
    if (complaint !== undefined) return { reason: complaint, salvaged, isRecorded }
    if (isRecorded) return yield* new RegistryHealthy({ path: home.registry })
    const reason = "it is another file than the one recorded in home.json"
    return { reason, salvaged: { agents, tasks }, isRecorded }
  }
  const { failure } = found
  if (failure._tag === "RegistryTooNew") {
    const { found, supported } = failure
    return yield* new RegistryTooNew({ path: home.registry, found, supported })
  }
  if (failure._tag === "RegistryUnavailable" && ofTheMachine.has(failure.because)) return yield* failure
  return { reason: failure.reason, salvaged, isRecorded }
})
