/**
 * The workspaces of tasks in projects, with the agents' entries in them. Changes nothing.
 *
 * What names another home is skipped without a report. What should be ours and can't be read is complained of, and left.
 */
import { Effect, Schema } from "effect"
import * as Path from "node:path"
import { type Task, TaskId } from "../agent/Task.ts"
import type { Home } from "../home/Home.ts"
import { checkOwned, type Files } from "../machine/Files.ts"
import * as Layout from "../machine/Layout.ts"
import * as Documents from "./Documents.ts"
import type { Complain } from "./Problem.ts"
import * as Reading from "./Reading.ts"

export interface FoundEntry {
  readonly path: string
  readonly entry: Documents.Entry
}

export interface FoundWorkspace {
  readonly path: string
  /** Nothing where its `task.json` can't be read. */
  readonly task: Task | undefined
  /** The home that its `task.json` names; the first versions named none. */
  readonly homeId: string | undefined
  readonly entries: ReadonlyArray<FoundEntry>
  /** The agents whose entries are there and can't be read. */
  readonly unread: ReadonlyArray<string>
  /** Whether an entry in it is another home's. */
  readonly isForeign: boolean
}

const isTaskId = Schema.is(TaskId)

/** Reads all workspaces of these projects that are not another home's. */
export const read = Effect.fnUntraced(function*(
  files: Files["Service"],
  home: Home["Service"],
  projects: ReadonlySet<string>,
  complain: Complain
) {
  const readEntry = Effect.fnUntraced(function*(taskId: TaskId, path: string) {
    const id = Path.basename(path, ".json")
    const content = yield* Reading.text(files, path)
    const owner = content === undefined ? undefined : Documents.homeOf(content)
    if (owner !== undefined && owner !== home.id) return { isForeign: true, entries: [], unread: [] }
    const entry = content === undefined ? undefined : Documents.entry(content)
    if (entry === undefined) complain(path, "the entry can't be read")
    else if (entry.agent_id !== id || entry.task_id !== taskId) complain(path, "the entry is of another agent or task")
    else return { isForeign: false, entries: [{ path, entry }], unread: [] }
    return { isForeign: false, entries: [], unread: [id] }
  })

  const readWorkspace = Effect.fnUntraced(function*(project: string, taskId: TaskId) {
    const path = Layout.directoryOf(project, taskId)
    const agents = Path.join(path, "agents")
    const owned = yield* Effect.result(checkOwned(files, project, agents))
    if (owned._tag === "Failure") {
      complain(path, owned.failure.message)
      return []
    }
    const content = yield* Reading.text(files, Path.join(path, "task.json"))
    const homeId = content === undefined ? undefined : Documents.homeOf(content)
    if (homeId !== undefined && homeId !== home.id) return []
    const task = content === undefined ? undefined : Documents.task(content)
    if (task === undefined) complain(path, "its task.json can't be read")
    else if (task.id !== taskId || task.project !== project) {
      // A copy of a project has copies of the entries, too.
      complain(path, `its task.json is of the task ${task.id} in ${task.project}`)
      return []
    }
    const listed = yield* Effect.result(files.list(agents))
    // Entries that can't be listed are not entries that are missing: then nothing follows from this workspace.
    if (listed._tag === "Failure" && listed.failure.code !== "ENOENT") {
      complain(agents, listed.failure.message)
      return []
    }
    const names = listed._tag === "Failure" ? [] : listed.success.filter((name) => name.endsWith(".json"))
    const found = yield* Effect.forEach(names, (name) => readEntry(taskId, Path.join(agents, name)))
    const workspace: FoundWorkspace = {
      path,
      task,
      homeId,
      entries: found.flatMap(({ entries }) => entries),
      unread: found.flatMap(({ unread }) => unread),
      isForeign: found.some(({ isForeign }) => isForeign)
    }
    return [workspace]
  })

  const found = yield* Effect.forEach(
    projects,
    (project) =>
      Effect.flatMap(
        Reading.names(files, Path.join(project, ".slipway")),
        (names) => Effect.forEach(names.filter(isTaskId), (id) => readWorkspace(project, id))
      )
  )
  return found.flat(2)
})
