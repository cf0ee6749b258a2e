/**
 * Surveys what is left when a registry is lost: rows that can still be read, the agents' directories, the workspaces
 * that these and the caller name, and the sessions. Combines it into tasks and agents. Changes nothing.
 *
 * Only what is proven ours is taken: a directory in the home that bears the home's id, and an entry or a task that
 * names it. What is another home's is skipped without a report. What should be ours and can't be read is a problem, and
 * is left. An entry that records an end takes precedence over a row that does not, and a deployment with an entry
 * counts as committed. So an agent that lives is never taken for one to be rolled back.
 *
 * `Directories` and `Workspaces` read, `Restoration` makes a row of what was found of an agent.
 */
import { Tmux } from "@slipway/tmux"
import { Context, Effect, Layer } from "effect"
import * as Path from "node:path"
import type { Agent } from "../agent/Agent.ts"
import * as Plan from "../agent/Plan.ts"
import type { Task, TaskId } from "../agent/Task.ts"
import { Home } from "../home/Home.ts"
import { Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { ProcessTree } from "../machine/ProcessTree.ts"
import type { Salvaged } from "../registry/sqlite/Restore.ts"
import * as Sessions from "../resource/Sessions.ts"
import * as Directories from "./Directories.ts"
import * as Documents from "./Documents.ts"
import type { Problem } from "./Problem.ts"
import { type RestoredAgent, restorer } from "./Restoration.ts"
import * as Unique from "./Unique.ts"
import * as Workspaces from "./Workspaces.ts"

export interface SurveyOptions {
  /** The projects that the caller names. */
  readonly projects: ReadonlyArray<string>
  readonly salvaged: Salvaged
  /** Whether the rows are of the very registry that the home recorded. */
  readonly isRecorded: boolean
}

/** What a new registry is to have, and what it can't. */
export interface Surveyed {
  readonly tasks: ReadonlyArray<Task>
  readonly agents: ReadonlyArray<RestoredAgent>
  readonly problems: ReadonlyArray<Problem>
  /** Other directories that named themselves this home. */
  readonly homes: ReadonlyArray<string>
}

export class Survey extends Context.Service<Survey, {
  /** Reads everything once; never fails, since what can't be read is a problem that it tells. */
  readonly run: (options: SurveyOptions) => Effect.Effect<Surveyed>
}>()("@slipway/core/rebuild/Survey") {
  static readonly layer = Layer.effect(Survey, Effect.suspend(() => make))
}

const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const processes = yield* ProcessTree
  const tmux = yield* Tmux

  const run = Effect.fn("Survey.run")(function*({ isRecorded, projects, salvaged }: SurveyOptions) {
    const problems: Array<Problem> = []
    const complain = (subject: string, reason: string) => void problems.push({ subject, reason })

    const own = salvaged.agents.filter(({ plan }) => plan.homeId === home.id)
    // The directories of a home that was moved have moved with it.
    const rows = own.map((row): Agent => ({
      ...row,
      plan: Plan.make(home.id, { ...row.plan, directory: home.agentDirectory(row.id) }, Plan.othersOf(row.plan))
    }))
    const directories = yield* Directories.read(files, home, complain)
    const named = [...directories.map(({ workspace }) => workspace), ...rows.map(({ plan }) => plan.workspace)]
      .flatMap((workspace) => workspace === undefined ? [] : Documents.projectOf(workspace) ?? [])
    const workspaces = yield* Workspaces.read(
      files,
      home,
      new Set([...projects, ...named, ...salvaged.tasks.map(({ project }) => project)]),
      complain
    )
    const entryOf = new Map(workspaces.flatMap(({ entries }) => entries).map((found) => [found.entry.agent_id, found]))
    const entries = Array.from(entryOf.values(), ({ entry }) => entry)

    // The tasks of this home by a row, a directory or an entry of this home, or by the task itself.
    const ours = new Set([
      ...rows.map(({ taskId }) => taskId),
      ...directories.flatMap(({ told }) => told?.taskId ?? []),
      ...entries.map((entry) => entry.task_id)
    ])
    const tasks = new Map<TaskId, Task>()
    for (const task of salvaged.tasks) if (isRecorded || ours.has(task.id)) tasks.set(task.id, task)
    for (const { homeId, isForeign, path, task } of workspaces) {
      if (task === undefined || tasks.has(task.id)) continue
      if (homeId === home.id || ours.has(task.id)) tasks.set(task.id, task)
      else if (!isForeign) complain(path, "nothing in it names its home")
    }

    const listings = new Map<string, Sessions.Listing>()
    const sockets = [...rows.map(({ plan }) => plan.socket), ...entries.map((entry) => entry.tmux_socket)]
    for (const socket of new Set([home.socket, ...sockets])) {
      listings.set(socket, yield* Sessions.list(tmux.server(socket)))
    }

    const rowOf = new Map(rows.map((row) => [row.id, row]))
    const directoryOf = new Map(directories.map((directory) => [directory.id, directory]))
    /** The home's path when each agent was deployed. */
    const called = [
      ...entries.map((entry) => [entry.agent_id, Path.resolve(entry.prompt_file, "../../..")] as const),
      ...own.map(({ id, plan }) => [id, Path.resolve(plan.directory, "../..")] as const)
    ]
    const former = new Map(called)

    const restore = restorer({ files, home, host, processes }, { tasks, workspaces, listings }, complain)
    const agents: Array<RestoredAgent> = []
    for (const id of new Set([...rowOf.keys(), ...entryOf.keys(), ...directoryOf.keys()])) {
      const traces = { row: rowOf.get(id), entry: entryOf.get(id), directory: directoryOf.get(id) }
      const restored = yield* restore(traces, former.get(id))
      if (restored !== undefined) agents.push(restored)
    }

    const found: Surveyed = {
      tasks: Unique.tasks([...tasks.values()], complain),
      agents: Unique.agents(agents, complain),
      problems,
      homes: [...new Set([...directories.flatMap(({ told }) => told?.home ?? []), ...called.map(([, path]) => path)])]
    }
    return found
  })

  return Survey.of({ run })
})
