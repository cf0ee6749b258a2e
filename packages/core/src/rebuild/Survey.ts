/**
 * Surveys what is left when a registry is lost: rows that can still be read, the agents' directories, the workspaces
 * that these and the caller name, and the sessions. Combines it into tasks and agents. Changes nothing.
 *
 * Only what is proven ours is taken: a directory in the home that bears the home's id, and an entry or a task that
 * names it. What is another home's is skipped without a report. What should be ours and can't be read is a problem, and
 * is left. An entry that records an end takes precedence over a row that does not, and a deployment with an entry
 * counts as committed. So an agent that lives is never taken for one to be rolled back.
 */
import { Target, Tmux } from "@slipway/tmux"
import { DateTime, Duration, Effect, Option, Schema } from "effect"
import * as Path from "node:path"
import { type Agent, AgentId, isFinal, type Running, sessionName } from "../agent/Agent.ts"
import * as Plan from "../agent/Plan.ts"
import { type Task, TaskId } from "../agent/Task.ts"
import { Home } from "../home/Home.ts"
import { checkOwned, Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { launcherFile, ownerFile } from "../machine/Layout.ts"
import * as Layout from "../machine/Layout.ts"
import { ProcessTree } from "../machine/ProcessTree.ts"
import { randomHex } from "../machine/Random.ts"
import type { Salvaged } from "../registry/sqlite/Restore.ts"
import * as Sessions from "../resource/Sessions.ts"
import * as Documents from "./Documents.ts"

/** Where a restored agent was found. */
export type Source = "directory" | "entry" | "row"

export interface RestoredAgent {
  readonly agent: Agent
  readonly source: Source
}

/** Something that could not be restored, or not whole. */
export interface Problem {
  readonly subject: string
  readonly reason: string
}

export interface Survey {
  readonly tasks: ReadonlyArray<Task>
  readonly agents: ReadonlyArray<RestoredAgent>
  readonly problems: ReadonlyArray<Problem>
  /** Other directories that named themselves this home. */
  readonly homes: ReadonlyArray<string>
}

interface Directory {
  readonly id: AgentId
  readonly workspace: string | undefined
  readonly launcher: Documents.LauncherFacts | undefined
}

interface FoundWorkspace {
  readonly path: string
  readonly project: string
  readonly task: Task | undefined
  readonly homeId: string | undefined
  readonly entries: ReadonlyArray<{ readonly path: string; readonly entry: Documents.Entry }>
  readonly isForeign: boolean
}

const isAgentId = Schema.is(AgentId)
const isTaskId = Schema.is(TaskId)
const decodeSocket = Schema.decodeUnknownOption(Target.SocketPath)
const lookPatience = Duration.millis(100)

export const survey = Effect.fnUntraced(function*(options: {
  /** The projects that the caller names. */
  readonly projects: ReadonlyArray<string>
  readonly salvaged: Salvaged
  /** Whether the rows are of the very registry that the home recorded. */
  readonly isRecorded: boolean
}) {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const processes = yield* ProcessTree
  const tmux = yield* Tmux
  const problems: Array<Problem> = []
  const complain = (subject: string, reason: string) => void problems.push({ subject, reason })
  const text = (path: string) => Effect.map(Effect.option(files.readText(path)), Option.getOrUndefined)
  const list = (path: string) => Effect.orElseSucceed(files.list(path), (): ReadonlyArray<string> => [])

  const readDirectory = Effect.fnUntraced(function*(id: AgentId) {
    const path = home.agentDirectory(id)
    if (!(yield* list(path)).includes(ownerFile(home.id))) {
      complain(id, `${path} does not bear this home's id`)
      return []
    }
    const script = yield* text(Path.join(path, launcherFile))
    const facts = script === undefined ? undefined : Documents.launcher(script)
    const isOwn = facts?.agentId === id && facts.homeId === home.id
    const launcher = isOwn ? facts : undefined
    const workspace = launcher?.workspace ?? (yield* text(Path.join(path, ownerFile(home.id))))
    const found: Directory = { id, launcher, workspace }
    return [found]
  })

  const readEntry = Effect.fnUntraced(function*(taskId: TaskId, path: string) {
    const id = Path.basename(path, ".json")
    const content = yield* text(path)
    const owner = content === undefined ? undefined : Documents.homeOf(content)
    if (owner !== undefined && owner !== home.id) return { isForeign: true, entries: [] }
    const entry = content === undefined ? undefined : Documents.entry(content)
    if (entry === undefined) complain(path, "the entry can't be read")
    else if (entry.agent_id !== id || entry.task_id !== taskId) complain(path, "the entry is of another agent or task")
    else return { isForeign: false, entries: [{ path, entry }] }
    return { isForeign: false, entries: [] }
  })

  const readWorkspace = Effect.fnUntraced(function*(project: string, taskId: TaskId) {
    const path = Layout.directoryOf(project, taskId)
    const agents = Path.join(path, "agents")
    const owned = yield* Effect.result(checkOwned(files, project, agents))
    if (owned._tag === "Failure") {
      complain(path, owned.failure.message)
      return []
    }
    const content = yield* text(Path.join(path, "task.json"))
    const homeId = content === undefined ? undefined : Documents.homeOf(content)
    if (homeId !== undefined && homeId !== home.id) return []
    const read = content === undefined ? undefined : Documents.task(content)
    if (read === undefined) complain(path, "its task.json can't be read")
    else if (read.id !== taskId || read.project !== project) {
      // A copy of a project has copies of the entries, too.
      complain(path, `its task.json is of the task ${read.id} in ${read.project}`)
      return []
    }
    const names = (yield* list(agents)).filter((name) => name.endsWith(".json"))
    const found = yield* Effect.forEach(names, (name) => readEntry(taskId, Path.join(agents, name)))
    const workspace: FoundWorkspace = {
      path,
      project,
      task: read,
      homeId,
      entries: found.flatMap(({ entries }) => entries),
      isForeign: found.some(({ isForeign }) => isForeign)
    }
    return [workspace]
  })

  const readProject = Effect.fnUntraced(function*(project: string) {
    const names = yield* list(Path.join(project, ".slipway"))
    return (yield* Effect.forEach(names.filter(isTaskId), (id) => readWorkspace(project, id))).flat()
  })

  const salvaged = options.salvaged.agents.filter(({ plan }) => plan.homeId === home.id)
  // The directories of a home that was moved have moved with it.
  const rows = salvaged.map((row): Agent => ({
    ...row,
    plan: Plan.make(home.id, { ...row.plan, directory: home.agentDirectory(row.id) }, Plan.othersOf(row.plan))
  }))
  const directories = (yield* Effect.forEach((yield* list(home.agents)).filter(isAgentId), readDirectory)).flat()
  const directoryOf = new Map(directories.map((directory) => [directory.id, directory]))
  const named = [
    ...directories.map(({ workspace }) => workspace),
    ...rows.map(({ plan }) => plan.workspace)
  ].flatMap((workspace) => workspace === undefined ? [] : [Documents.projectOf(workspace) ?? []]).flat()
  const projects = new Set([...options.projects, ...named, ...options.salvaged.tasks.map(({ project }) => project)])
  const workspaces = (yield* Effect.forEach(projects, readProject)).flat()
  const entries = new Map(workspaces.flatMap(({ entries }) => entries.map((found) => [found.entry.agent_id, found])))

  // The tasks of this home by a row, a launcher or an entry of this home, or by the task itself.
  const ours = new Set([
    ...rows.map(({ taskId }) => taskId),
    ...directories.flatMap(({ launcher }) => launcher?.taskId ?? []),
    ...Array.from(entries.values(), ({ entry }) => entry.task_id)
  ])
  const tasks = new Map<TaskId, Task>()
  for (const task of options.salvaged.tasks) if (options.isRecorded || ours.has(task.id)) tasks.set(task.id, task)
  for (const { homeId, isForeign, path, task } of workspaces) {
    if (task === undefined || tasks.has(task.id)) continue
    if (homeId === home.id || ours.has(task.id)) tasks.set(task.id, task)
    else if (!isForeign) complain(path, "nothing in it names its home")
  }

  const sockets = new Set([
    home.socket,
    ...rows.map(({ plan }) => plan.socket),
    ...Array.from(entries.values(), ({ entry }) => entry.tmux_socket)
  ])
  const listings = new Map<string, Sessions.Listing>()
  for (const socket of sockets) listings.set(socket, yield* Sessions.list(tmux.server(socket)))
  /** The sessions that bear our marks, by agent, on whichever socket. */
  const sessions = new Map(
    Array.from(listings.values(), (listing) => Sessions.seenOf(listing, home.id)).flat()
      .map(({ agentId, session }) => [agentId, session])
  )

  const runningOf = Effect.fnUntraced(function*(entry: Documents.Entry) {
    const { agent_id: id, started_at: startedAt, tmux_socket: socket } = entry
    const session = sessions.get(id)
    const listing = listings.get(socket)
    if (session === undefined && listing?._tag === "NoAnswer") {
      complain(id, `its session is not on record, since tmux at ${socket} does not answer: ${listing.reason}`)
    }
    const age = DateTime.toEpochMillis(yield* DateTime.now) - DateTime.toEpochMillis(startedAt)
    const pane = session === undefined ? undefined : yield* processes.identify(session.panePid, id, lookPatience)
    const running: Running = {
      // A server whose pids are other processes here runs in another namespace: what it runs is not assessed from here.
      host: pane?._tag === "Stranger" ? { ...host.identity, pidNamespace: "unknown" } : host.identity,
      since: Math.max(0, (yield* host.bootClock) - age / 1000),
      sessionId: session?.id ?? "",
      serverPid: session?.serverPid ?? 0,
      launcher: pane?._tag === "Ours" ? pane.identity : null
    }
    return running
  })

  const planOf = (id: AgentId, workspace: string, socket: Plan.Plan["socket"]): Plan.Plan =>
    Plan.make(home.id, {
      directory: home.agentDirectory(id),
      socket,
      session: sessionName(id),
      workspace,
      entry: Layout.entryOf(workspace, id)
    })

  const fromEntry = Effect.fnUntraced(function*(path: string, entry: Documents.Entry) {
    const id = entry.agent_id
    const running = entry.status === "running" ? yield* runningOf(entry) : null
    const agent = Documents.row(entry, {
      plan: planOf(id, Path.dirname(Path.dirname(path)), entry.tmux_socket),
      token: yield* randomHex(12),
      launcher: directoryOf.get(id)?.launcher,
      running,
      host: host.identity
    })
    if (agent.owner !== null && !isFinal(agent.state)) {
      complain(id, "the scope that it belonged to is no longer known: stop it with 'slipway stop' when it is to end")
    }
    return agent
  })

  /** Advances a row to the later state that its entry records. */
  const merged = Effect.fnUntraced(function*(row: Agent, entry: Documents.Entry | undefined) {
    if (entry === undefined || isFinal(row.state)) return row
    const isLater = entry.status !== "running" || row.state._tag === "deploying"
    return isLater ? { ...row, ...Documents.fromEntry(entry, row.running ?? (yield* runningOf(entry))) } : row
  })

  const fromDirectory = Effect.fnUntraced(function*({ id, launcher }: Directory) {
    const taskId = launcher?.taskId
    const workspace = workspaces.find(({ path }) => path === launcher?.workspace)
    const task = isTaskId(taskId) ? tasks.get(taskId) : undefined
    if (launcher === undefined || workspace === undefined || task === undefined) {
      complain(
        id,
        `no workspace says what it was: name its project with --project, or remove it with 'slipway reap --stray ${id}'`
      )
      return undefined
    }
    const socket = Option.getOrElse(decodeSocket(launcher.socket), () => home.socket)
    return Documents.dead(id, {
      plan: planOf(id, workspace.path, socket),
      token: yield* randomHex(12),
      taskId: task.id,
      cwd: task.project,
      launcher
    })
  })

  /** The home's path when each agent was deployed. */
  const called = [
    ...Array.from(
      entries.values(),
      ({ entry }) => [entry.agent_id, Path.resolve(entry.prompt_file, "../../..")] as const
    ),
    ...salvaged.map(({ id, plan }) => [id, Path.resolve(plan.directory, "../..")] as const)
  ]
  const former = new Map(called)

  const tellMoved = Effect.fnUntraced(function*({ id, plan, state }: Agent) {
    const before = former.get(id)
    if (state._tag !== "running" || before === undefined) return
    const real = yield* Effect.orElseSucceed(files.realPath(before), () => undefined)
    if (real === home.directory) return
    const session = sessions.has(id) ? "" : `, and tmux does not show its session at ${plan.socket}`
    complain(
      id,
      `the home was ${before} when it was started, where it writes its output and its end${session}: end it with 'slipway stop ${id}'`
    )
  })

  const agents: Array<RestoredAgent> = []
  const rowOf = new Map(rows.map((row) => [row.id, row]))
  for (const id of new Set([...rowOf.keys(), ...entries.keys(), ...directoryOf.keys()])) {
    const row = rowOf.get(id)
    const found = entries.get(id)
    const directory = directoryOf.get(id)
    const agent = row !== undefined
      ? yield* merged(row, found?.entry)
      : found !== undefined
      ? yield* fromEntry(found.path, found.entry)
      : directory !== undefined
      ? yield* fromDirectory(directory)
      : undefined
    if (agent === undefined) continue
    if (!tasks.has(agent.taskId)) {
      complain(id, `its task ${agent.taskId} can't be read`)
      continue
    }
    yield* tellMoved(agent)
    agents.push({ agent, source: row !== undefined ? "row" : found !== undefined ? "entry" : "directory" })
  }

  const homes = [
    ...directories.flatMap(({ launcher }) => launcher?.home ?? []),
    ...called.map(([, directory]) => directory)
  ]
  const found: Survey = { ...unique([...tasks.values()], agents, complain), problems, homes: [...new Set(homes)] }
  return found
})

const isNew = (seen: Set<string>, value: string): boolean => seen.size < seen.add(value).size
const ordinary = (task: Task): Task => ({ ...task, isDefault: false })
const withoutKey = (agent: Agent): Agent => ({ ...agent, key: null })

/** Makes unique what the registry has only once: a project's default task, and a key. */
const unique = (
  tasks: ReadonlyArray<Task>,
  agents: ReadonlyArray<RestoredAgent>,
  complain: (subject: string, reason: string) => void
): Pick<Survey, "agents" | "tasks"> => {
  const defaults = new Set<string>()
  const keys = new Set<string>()
  const oldest = tasks.toSorted((a, b) => DateTime.toEpochMillis(a.createdAt) - DateTime.toEpochMillis(b.createdAt))
  return {
    tasks: oldest.map((task) => {
      if (!task.isDefault || isNew(defaults, task.project)) return task
      complain(task.id, `${task.project} has another default task; this one has to be named`)
      return ordinary(task)
    }),
    agents: agents.map((restored) => {
      const { agent, source } = restored
      if (agent.key === null || agent.state._tag === "rolled-back" || isNew(keys, agent.key)) return restored
      complain(agent.id, "another agent has its key")
      return { agent: withoutKey(agent), source }
    })
  }
}
