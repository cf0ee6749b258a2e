/**
 * The rebuild of a registry that is refused, on an explicit request only. The old registry is set aside. A new one is
 * made from the rows that can still be read, the task entries, and the agents' directories.
 *
 * It refuses where the registry is healthy, written by a newer Slipway, or open in a living process, which would go on
 * writing to the file that was set aside. It also refuses where the home is a copy of one that still stands. Nothing is
 * ever deleted: the old file keeps its bytes under another name. What could not be restored is reported, and left where
 * it is.
 *
 * A failure or an interruption leaves the old registry in place. A rebuild that is killed leaves that, or a home that
 * refuses all commands but this one, which then completes it. Rows are restored as their sources say, and what runs is
 * not assessed here. An agent whose entry says `running` is `running`, and the next command that reads it reconciles it. A
 * directory without an entry is a deployment that never committed, and the next command that reads it rolls it back.
 * Totals and histories begin anew.
 */
import { Sentence } from "@slipway/tmux"
import { Context, Effect, Layer, Option, Schema, type Scope } from "effect"
import * as Path from "node:path"
import type { Agent } from "../agent/Agent.ts"
import { InvalidRequest } from "../agent/InvalidRequest.ts"
import type { Task } from "../agent/Task.ts"
import { Home, HomeUnusable, recordedRegistry } from "../home/Home.ts"
import { choose, type HomeUnknown, resolvePath } from "../home/HomeChoice.ts"
import { holdFile } from "../home/ReaperLock.ts"
import { type Caller, currentCaller, type WorkingDirectoryUnusable } from "../machine/Caller.ts"
import { type FileError, Files } from "../machine/Files.ts"
import { Ledger } from "../registry/Ledger.ts"
import { type RegistryError, RegistryTooNew, type UnavailableBecause } from "../registry/RegistryError.ts"
import { salvage, type Salvaged, write } from "../registry/sqlite/Restore.ts"
import * as SqliteRegistry from "../registry/sqlite/SqliteRegistry.ts"
import { machine, type ServicesOptions } from "../Services.ts"
import { openers } from "./Openers.ts"
import { type Problem, type RestoredAgent, survey } from "./Survey.ts"
import * as Swap from "./Swap.ts"

/** There is nothing to rebuild. */
export class RegistryHealthy extends Schema.TaggedError<RegistryHealthy>()("RegistryHealthy", { path: Schema.String }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry ${this.path} is healthy and was left as it is; 'slipway doctor' shows what does not agree with it, and 'slipway reap' cleans it up`
  }
}

/** Processes have the registry open, and would go on writing to the file that is set aside. */
export class RegistryInUse extends Schema.TaggedError<RegistryInUse>()("RegistryInUse", {
  path: Schema.String,
  /** None where the system does not show which processes have a file open. */
  pids: Schema.Array(Schema.Int)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return this.pids.length === 0
      ? `this system does not show which processes have the registry ${this.path} open; install lsof, and run 'slipway rebuild' again`
      : `the registry ${this.path} is open in process ${
        this.pids.join(", ")
      }; end it, or wait for it, and run 'slipway rebuild' again`
  }
}

/** Another rebuild of this home is under way. */
export class RebuildRunning extends Schema.TaggedError<RebuildRunning>()("RebuildRunning", { pid: Schema.Int }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `process ${this.pid} already rebuilds the registry of this home, or changes its limits; try again when it is done`
  }
}

/** The home is a copy of one that still stands: what runs belongs to that one. */
export class HomeCopied extends Schema.TaggedError<HomeCopied>()("HomeCopied", {
  path: Schema.String,
  original: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the home ${this.path} is a copy of ${this.original}, which still stands and answers for its agents; use that one, or make a new home`
  }
}

export type RebuildError =
  | FileError
  | HomeCopied
  | HomeUnusable
  | InvalidRequest
  | RebuildRunning
  | RegistryError
  | RegistryHealthy
  | RegistryInUse
  | WorkingDirectoryUnusable

export interface RebuildRequest {
  /** Projects whose workspaces are read, beside those that are found; by default the working directory. */
  readonly projects?: ReadonlyArray<string> | undefined
  /** Only report what would be done. */
  readonly dryRun?: boolean | undefined
}

/** What a rebuild did, or would do. */
export interface Rebuilt {
  readonly dryRun: boolean
  /** Why the registry was refused. */
  readonly damage: string
  /** Where the old registry is now; null when there was none. */
  readonly setAside: string | null
  readonly tasks: ReadonlyArray<Task>
  readonly agents: ReadonlyArray<RestoredAgent>
  readonly problems: ReadonlyArray<Problem>
}

export type { Problem, RestoredAgent } from "./Survey.ts"

export class Rebuild extends Context.Service<Rebuild, {
  readonly run: (request?: RebuildRequest) => Effect.Effect<Rebuilt, RebuildError>
}>()("@slipway/core/Rebuild") {
  /** Over given services; the home is one that was opened by `Home.reopen`. */
  static readonly layerNoDeps = (options: { readonly caller?: Caller | undefined } = {}) =>
    Layer.effect(Rebuild, Effect.suspend(() => make(options)))
  /** Ready to use on this machine. */
  static readonly layer = (options: ServicesOptions = {}) => layer(options)
}

/** What was found of the registry that the home has now. */
interface Damage {
  readonly reason: string
  readonly salvaged: Salvaged
  readonly isRecorded: boolean
}

const nothing: Salvaged = { tasks: [], agents: [] }

/** What passes by itself, or by mending the machine, says nothing about the file. */
const ofTheMachine: ReadonlySet<UnavailableBecause> = new Set([
  "locked",
  "disk-full",
  "read-only",
  "cannot-open",
  "input-output"
])

const readAll = (path: string) =>
  Effect.scoped(
    Effect.gen(function*() {
      const ledger = yield* Ledger
      const complaints = yield* ledger.integrity
      return { complaints, tasks: yield* ledger.tasks, agents: yield* ledger.agents({}) }
    }).pipe(Effect.provide(SqliteRegistry.layer({ path })))
  )

const make = Effect.fnUntraced(function*(options: { readonly caller?: Caller | undefined }) {
  const caller = options.caller ?? (yield* currentCaller)
  const files = yield* Files
  const home = yield* Home
  const below = yield* Effect.context<Effect.Services<ReturnType<typeof survey>>>()
  const { hold } = yield* holdFile("rebuild", ({ holder }) => new RebuildRunning({ pid: holder.pid }))
  const registryFiles = Swap.besides.map((suffix) => `${home.registry}${suffix}`)

  const removeCopy = (copy: string) =>
    Effect.forEach(Swap.besides, (suffix) => Effect.ignore(files.removeFile(`${copy}${suffix}`)))

  /** A copy of the registry and its log, since opening the file itself may change it. */
  const copied = Effect.acquireRelease(Swap.copyName, removeCopy).pipe(
    Effect.tap((copy) =>
      Effect.forEach(["", "-wal"], (suffix) =>
        Effect.gen(function*() {
          const info = yield* files.inspect(`${home.registry}${suffix}`)
          if (info?.kind !== "file") return
          const content = yield* files.readChunk(`${home.registry}${suffix}`, 0, info.size)
          yield* files.createFile(`${copy}${suffix}`, content, 0o600)
        }))
    ),
    Effect.provideContext(below)
  )

  /** What is wrong with the registry; fails with `RegistryHealthy` when nothing is. */
  const diagnose = Effect.fnUntraced(function*(): Effect.fn.Return<Damage, RebuildError, Scope.Scope> {
    const info = yield* files.inspect(home.registry)
    if (info === undefined) return { reason: "the file is missing", salvaged: nothing, isRecorded: false }
    // A directory can't be given a second name, and SQLite did not make it.
    if (info.kind === "directory") {
      return yield* new HomeUnusable({ path: home.directory, reason: "its registry.db is a directory; move it away" })
    }
    if (info.kind !== "file") return { reason: "it is not a plain file", salvaged: nothing, isRecorded: false }
    const isRecorded = (yield* Effect.provideContext(recordedRegistry(home), below))(info)
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
    if (failure._tag === "RegistryUnavailable" && ofTheMachine.has(failure.because)) {
      return yield* failure
    }
    return { reason: failure.reason, salvaged, isRecorded }
  })

  const findOpeners = Effect.fnUntraced(function*() {
    const found = yield* Effect.forEach(registryFiles, (path) => files.inspect(path))
    return yield* openers({ paths: registryFiles, files: found.filter((file) => file !== undefined) })
  })

  const refuseOpen = Effect.gen(function*() {
    const pids = yield* findOpeners()
    if (pids === undefined || pids.length > 0) {
      return yield* new RegistryInUse({ path: home.registry, pids: pids ?? [] })
    }
  })

  const refuseCopy = Effect.fnUntraced(function*(homes: ReadonlyArray<string>) {
    for (const directory of homes) {
      const real = yield* Effect.orElseSucceed(files.realPath(directory), () => undefined)
      if (real === undefined || real === home.directory) continue
      const text = yield* Effect.orElseSucceed(files.readText(Path.join(real, "home.json")), () => "")
      if (text.includes(`"${home.id}"`)) return yield* new HomeCopied({ path: home.directory, original: real })
    }
  })

  const chosen = Effect.fnUntraced(function*(projects: ReadonlyArray<string>) {
    if (projects.length === 0) {
      return caller.cwd === undefined ? [] : Option.toArray(yield* Effect.option(files.realPath(caller.cwd)))
    }
    return yield* Effect.forEach(
      projects,
      (project) =>
        Effect.flatMap(resolvePath(caller, project), (path) =>
          Effect.mapError(
            files.realPath(path),
            () =>
              new InvalidRequest({
                issues: [{
                  path: ["projects"],
                  expected: `a directory to search for tasks, and there is none at ${path}`
                }]
              })
          ))
    )
  })

  /** A rebuild that was interrupted after its draft was complete. */
  const resume = Effect.gen(function*() {
    const cut = yield* Swap.pending
    if (cut === undefined) return undefined
    const found = yield* Effect.option(readAll(cut.draft))
    return found._tag === "Some" && found.value.complaints.length === 0 ? { ...cut, ...found.value } : undefined
  }).pipe(Effect.provideContext(below))

  /** Puts the draft in place; reports the processes that opened the old registry meanwhile. */
  const place = Effect.fnUntraced(function*(made: { readonly draft: string; readonly setAside: string }) {
    yield* refuseOpen
    const old = yield* files.inspect(home.registry)
    const setAside = yield* Effect.provideContext(Swap.place(made, refuseOpen), below)
    const late = old === undefined ? [] : (yield* openers({ paths: [], files: [old] })) ?? []
    const problems = late.map((pid): Problem => ({
      subject: `process ${pid}`,
      reason: `it opened the registry while it was set aside, and writes to ${setAside ?? "the old file"}: end it`
    }))
    return { setAside, problems }
  })

  /** Where the old registry would be when the draft had been placed. */
  const wouldBe = (named: string) =>
    Effect.gen(function*() {
      const isThere = (yield* files.inspect(home.registry)) !== undefined
      return isThere ? yield* Swap.freeAside(named) : yield* Swap.isAside([named])
    }).pipe(Effect.provideContext(below))

  const complete = Effect.fnUntraced(function*(
    cut: Effect.Success<typeof resume> & {},
    dryRun: boolean
  ) {
    const { problems, setAside } = dryRun ? { problems: [], setAside: yield* wouldBe(cut.setAside) } : yield* place(cut)
    const rebuilt: Rebuilt = {
      dryRun,
      damage: "a rebuild of it was interrupted",
      setAside,
      tasks: cut.tasks,
      agents: cut.agents.map((agent) => ({ agent, source: "row" })),
      problems
    }
    return rebuilt
  })

  const rebuild = Effect.fnUntraced(function*(projects: ReadonlyArray<string>, dryRun: boolean) {
    const damage = yield* diagnose()
    const found = yield* Effect.provideContext(
      survey({ projects, salvaged: damage.salvaged, isRecorded: damage.isRecorded }),
      below
    )
    yield* refuseCopy(found.homes)
    const { agents, problems, tasks } = found
    const told = { dryRun, damage: damage.reason, tasks, agents }
    const made = yield* Effect.provideContext(Swap.names, below)
    if (dryRun) return { ...told, setAside: yield* wouldBe(made.setAside), problems }
    const file = yield* Effect.acquireRelease(Effect.provideContext(Swap.makeFile, below), removeCopy)
    yield* write(file, { tasks, agents: agents.map((each) => ({ agent: each.agent, detail: storyOf(each) })) })
    yield* Effect.acquireRelease(
      files.link(file, made.draft),
      () => Effect.flatMap(isPending(made.draft), (kept) => kept ? Effect.void : removeCopy(made.draft))
    )
    yield* files.removeFile(file)
    const placed = yield* place(made)
    const rebuilt: Rebuilt = { ...told, setAside: placed.setAside, problems: [...problems, ...placed.problems] }
    return rebuilt
  })

  // A draft that the home has recorded is its registry, wherever it still stands.
  const isPending = (draft: string) =>
    Swap.pending.pipe(
      Effect.map((cut) => cut?.draft === draft),
      Effect.orElseSucceed(() => true),
      Effect.provideContext(below)
    )

  const run = Effect.fn("Rebuild.run")(function*({ dryRun = false, projects = [] }: RebuildRequest = {}) {
    const looked = yield* chosen(projects)
    yield* refuseOpen
    yield* hold
    const cut = yield* resume
    if (!dryRun) yield* Effect.provideContext(Swap.sweep(cut?.draft), below)
    return cut === undefined ? yield* rebuild(looked, dryRun) : yield* complete(cut, dryRun)
  }, Effect.scoped)

  return Rebuild.of({ run })
})

const sources = {
  row: "a row of the registry that was set aside",
  entry: "its task entry",
  directory: "its directory: it has no task entry"
} as const satisfies Record<RestoredAgent["source"], string>

const storyOf = ({ source }: { readonly agent: Agent; readonly source: RestoredAgent["source"] }): string =>
  `rebuilt from ${sources[source]}`

const layer = (
  options: ServicesOptions
): Layer.Layer<Rebuild, HomeUnknown | HomeUnusable | RegistryError | WorkingDirectoryUnusable> => {
  const home = Layer.unwrap(Effect.gen(function*() {
    const chosen = yield* choose(options, options.caller ?? (yield* currentCaller))
    return Home.reopen({ ...options, ...chosen })
  }))
  return Layer.fresh(
    Rebuild.layerNoDeps(options).pipe(Layer.provide(home), Layer.provide(machine(options)))
  )
}
