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
import { Context, Effect, Layer, Option } from "effect"
import * as Path from "node:path"
import { InvalidRequest } from "../agent/InvalidRequest.ts"
import type { Task } from "../agent/Task.ts"
import { Home, type HomeUnusable } from "../home/Home.ts"
import { choose, type HomeUnknown, resolvePath } from "../home/HomeChoice.ts"
import { holdFile } from "../home/ReaperLock.ts"
import { type Caller, currentCaller, type WorkingDirectoryUnusable } from "../machine/Caller.ts"
import { type FileError, Files } from "../machine/Files.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { write } from "../registry/sqlite/Restore.ts"
import { machine, type ServicesOptions } from "../Services.ts"
import { diagnose, readAll, removeCopy } from "./Diagnosis.ts"
import { openers } from "./Openers.ts"
import type { Problem } from "./Problem.ts"
import { HomeCopied, RebuildRunning, type RegistryHealthy, RegistryInUse } from "./Refusals.ts"
import type { RestoredAgent } from "./Restoration.ts"
import { Survey } from "./Survey.ts"
import { besides, type Draft, Swap } from "./Swap.ts"

export { HomeCopied, RebuildRunning, RegistryHealthy, RegistryInUse } from "./Refusals.ts"

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

export class Rebuild extends Context.Service<Rebuild, {
  readonly run: (request?: RebuildRequest) => Effect.Effect<Rebuilt, RebuildError>
}>()("@slipway/core/Rebuild") {
  /** Over given services; the home is one that was opened by `Home.reopen`. */
  static readonly layerNoDeps = (options: { readonly caller?: Caller | undefined } = {}) =>
    Layer.effect(Rebuild, Effect.suspend(() => make(options))).pipe(Layer.provide([Survey.layer, Swap.layer]))
  /** Ready to use on this machine. */
  static readonly layer = (options: ServicesOptions = {}) => layer(options)
}

const make = Effect.fnUntraced(function*(options: { readonly caller?: Caller | undefined }) {
  const caller = options.caller ?? (yield* currentCaller)
  const files = yield* Files
  const home = yield* Home
  const survey = yield* Survey
  const swap = yield* Swap
  const { hold } = yield* holdFile("rebuild", ({ holder }) => new RebuildRunning({ pid: holder.pid }))
  const registryFiles = besides.map((suffix) => `${home.registry}${suffix}`)

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
    const cut = yield* swap.pending
    if (cut === undefined) return undefined
    const found = yield* Effect.option(readAll(cut.draft))
    return found._tag === "Some" && found.value.complaints.length === 0 ? { ...cut, ...found.value } : undefined
  })

  /** Puts the draft in place; reports the processes that opened the old registry meanwhile. */
  const place = Effect.fnUntraced(function*(made: Draft) {
    yield* refuseOpen
    const old = yield* files.inspect(home.registry)
    const setAside = yield* swap.place(made, refuseOpen)
    const late = old === undefined ? [] : (yield* openers({ paths: [], files: [old] })) ?? []
    const problems = late.map((pid): Problem => ({
      subject: `process ${pid}`,
      reason: `it opened the registry while it was set aside, and writes to ${setAside ?? "the old file"}: end it`
    }))
    return { setAside, problems }
  })

  const complete = Effect.fnUntraced(function*(
    cut: Effect.Success<typeof resume> & {},
    dryRun: boolean
  ) {
    const { problems, setAside } = dryRun
      ? { problems: [], setAside: yield* swap.wouldBe(cut.setAside) }
      : yield* place(cut)
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
    const damage = yield* diagnose(files, home, swap)
    const found = yield* survey.run({ projects, salvaged: damage.salvaged, isRecorded: damage.isRecorded })
    yield* refuseCopy(found.homes)
    const { agents, problems, tasks } = found
    const told = { dryRun, damage: damage.reason, tasks, agents }
    const made = yield* swap.names
    if (dryRun) return { ...told, setAside: yield* swap.wouldBe(made.setAside), problems }
    const file = yield* Effect.acquireRelease(swap.makeFile, (made) => removeCopy(files, made))
    yield* write(file, { tasks, agents: agents.map((each) => ({ agent: each.agent, detail: storyOf(each) })) })
    yield* Effect.acquireRelease(
      files.link(file, made.draft),
      () => Effect.flatMap(isPending(made.draft), (kept) => kept ? Effect.void : removeCopy(files, made.draft))
    )
    yield* files.removeFile(file)
    const placed = yield* place(made)
    const rebuilt: Rebuilt = { ...told, setAside: placed.setAside, problems: [...problems, ...placed.problems] }
    return rebuilt
  })

  // A draft that the home has recorded is its registry, wherever it still stands.
  const isPending = (draft: string) =>
    swap.pending.pipe(
      Effect.map((cut) => cut?.draft === draft),
      Effect.orElseSucceed(() => true)
    )

  const run = Effect.fn("Rebuild.run")(function*({ dryRun = false, projects = [] }: RebuildRequest = {}) {
    const looked = yield* chosen(projects)
    yield* refuseOpen
    yield* hold
    const cut = yield* resume
    if (!dryRun) yield* swap.sweep(cut?.draft)
    return cut === undefined ? yield* rebuild(looked, dryRun) : yield* complete(cut, dryRun)
  }, Effect.scoped)

  return Rebuild.of({ run })
})

const sources = {
  row: "a row of the registry that was set aside",
  entry: "its task entry",
  directory: "its directory: it has no task entry"
} as const satisfies Record<RestoredAgent["source"], string>

const storyOf = ({ source }: RestoredAgent): string => `rebuilt from ${sources[source]}`

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
