/**
 * One look at everything that a reap compares with the registry: sessions, processes, files.
 *
 * Each is read once for all agents: one listing per socket, one scan of the process table. Nothing is changed. A directory
 * that can't be read shows nothing, and nothing is done about what is not shown.
 */
import { Tmux } from "@slipway/tmux"
import { Clock, Context, Duration, Effect, Layer } from "effect"
import type { Result } from "effect"
import * as Path from "node:path"
import { type Agent, type State, subjectOf } from "../agent/Agent.ts"
import type { Plan } from "../agent/Plan.ts"
import type { Task } from "../agent/Task.ts"
import { Home } from "../home/Home.ts"
import { Files } from "../machine/Files.ts"
import type { HostIdentity } from "../machine/Host.ts"
import * as Layout from "../machine/Layout.ts"
import { type ProcessSnapshot, type ProcessTableUnreadable, ProcessTree } from "../machine/ProcessTree.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { presenceIn } from "../resource/AgentSession.ts"
import type { Presence } from "../resource/Resource.ts"
import * as Sessions from "../resource/Sessions.ts"

/** What runs. */
export interface Live {
  readonly listingOn: (socket: Plan["socket"]) => Sessions.Listing
  readonly processes: Result.Result<ProcessSnapshot, ProcessTableUnreadable>
}

/** Something on the disk, with the agent's id that is its name. */
export interface Named {
  readonly id: string
  readonly path: string
}

/** What stands on the disk, and the state of every row. */
export interface Remains {
  /** In the home. */
  readonly directories: ReadonlyArray<Named>
  /** In the workspaces of all tasks. */
  readonly entries: ReadonlyArray<Named>
  /** What was written beside its place, and has stayed there longer than a living writer needs. */
  readonly drafts: ReadonlyArray<string>
  /** Read after all files: whatever was seen has its row by then, if it has one at all. */
  readonly statuses: ReadonlyMap<string, State["_tag"]>
}

export class Sightings extends Context.Service<Sightings, {
  /** The sessions on the home's socket and on those of these agents, and the processes. */
  readonly live: (active: ReadonlyArray<Agent>) => Effect.Effect<Live>
  readonly remains: Effect.Effect<Remains, RegistryError>
  /** All task entries, of whatever agent. */
  readonly entries: (tasks: ReadonlyArray<Task>) => Effect.Effect<ReadonlyArray<Named>>
  readonly drafts: (tasks: ReadonlyArray<Task>) => Effect.Effect<ReadonlyArray<string>>
}>()("@slipway/core/reconcile/Sightings") {
  static readonly layer = Layer.effect(Sightings, Effect.suspend(() => make))
}

const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const processes = yield* ProcessTree
  const ledger = yield* Ledger
  const tmux = yield* Tmux

  const live = Effect.fnUntraced(function*(active: ReadonlyArray<Agent>) {
    const sockets = [...new Set([home.socket, ...active.map((agent) => agent.plan.socket)])]
    const listings = new Map<string, Sessions.Listing>()
    for (const socket of sockets) listings.set(socket, yield* Sessions.list(tmux.server(socket)))
    const found: Live = {
      listingOn: (socket) => listings.get(socket) ?? notAsked,
      processes: yield* Effect.result(processes.snapshot)
    }
    return found
  })

  const listed = (path: string) => Effect.orElseSucceed(files.list(path), (): ReadonlyArray<string> => [])

  const entries = (tasks: ReadonlyArray<Task>) =>
    Effect.map(
      Effect.forEach(tasks, (task) => {
        const directory = Path.join(Layout.directoryOf(task.project, task.id), "agents")
        return Effect.map(listed(directory), (names) =>
          names.filter((name) =>
            name.endsWith(".json")
          ).map((name): Named => ({
            id: name.slice(0, -".json".length),
            path: Path.join(directory, name)
          })))
      }),
      (found) => found.flat()
    )

  const drafts = Effect.fnUntraced(function*(tasks: ReadonlyArray<Task>) {
    const workspaces = tasks.map((task) => Layout.directoryOf(task.project, task.id))
    const below = workspaces.flatMap((path) => [Path.dirname(path), path, Path.join(path, "agents")])
    const before = (yield* Clock.currentTimeMillis) - Duration.toMillis(draftAge)
    const found: Array<string> = []
    for (const directory of new Set([home.directory, ...below])) {
      for (const name of (yield* listed(directory)).filter(isDraft)) {
        const path = Path.join(directory, name)
        const info = yield* Effect.orElseSucceed(files.inspect(path), () => undefined)
        if (info?.kind === "file" && info.modifiedMillis < before) found.push(path)
      }
    }
    return found
  })

  const remains = Effect.gen(function*() {
    const tasks = yield* ledger.tasks
    const directories = (yield* listed(home.agents)).map((id): Named => ({ id, path: Path.join(home.agents, id) }))
    const found: Remains = {
      directories,
      entries: yield* entries(tasks),
      drafts: yield* drafts(tasks),
      statuses: yield* ledger.statuses
    }
    return found
  })

  return Sightings.of({ live, remains, entries, drafts })
})

const notAsked: Sessions.Listing = { _tag: "NoAnswer", reason: "its socket was not asked" }

/** A write takes a moment; one that was not finished by then never will be. */
const draftAge = Duration.seconds(10)

/** As `Files.replaceFile` and the home name them. */
const isDraft = (name: string): boolean => /\.[0-9a-f]{12}\.tmp(-wal|-shm|-journal)?$/.test(name)

/** What `AgentSession.probe` answers, from one look for all agents. Pure. */
export const presenceOf = (agent: Agent, here: HostIdentity, { listingOn, processes }: Live): Presence => {
  const subject = subjectOf(agent)
  const sight = Sessions.find(listingOn(agent.plan.socket), subject)
  const seen: Presence = sight._tag === "Unknown"
    ? { _tag: "Unknown", reason: `tmux does not answer: ${sight.reason}` }
    : sight
  return presenceIn(subject, here, seen, processes)
}
