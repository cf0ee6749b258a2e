/**
 * The row of one agent, from everything that was found of it. Changes nothing.
 *
 * A row that could still be read goes before an entry, unless the entry records a later state. An entry goes before a
 * directory alone, which is a deployment that never committed. What runs is not assessed here: an agent whose entry says
 * `running` is `running`, and a reconciliation finds out whether that is so.
 */
import type { Session } from "@slipway/tmux"
import { DateTime, Duration, Effect } from "effect"
import * as Path from "node:path"
import { type Agent, type AgentId, isFinal, type Running, sessionName } from "../agent/Agent.ts"
import * as Document from "../agent/Document.ts"
import * as Plan from "../agent/Plan.ts"
import type { Task, TaskId } from "../agent/Task.ts"
import type { Home } from "../home/Home.ts"
import type { Files } from "../machine/Files.ts"
import type { Host } from "../machine/Host.ts"
import * as Layout from "../machine/Layout.ts"
import type { ProcessTree } from "../machine/ProcessTree.ts"
import { randomHex } from "../machine/Random.ts"
import * as Sessions from "../resource/Sessions.ts"
import * as Places from "../resource/worktree/Places.ts"
import type { Directory } from "./Directories.ts"
import * as Documents from "./Documents.ts"
import type { Complain } from "./Problem.ts"
import * as Reading from "./Reading.ts"
import type { FoundEntry, FoundWorkspace } from "./Workspaces.ts"

/** Where a restored agent was found. */
export type Source = "directory" | "entry" | "row"

export interface RestoredAgent {
  readonly agent: Agent
  readonly source: Source
}

/** What there is of one agent. */
export interface Traces {
  readonly row: Agent | undefined
  readonly entry: FoundEntry | undefined
  readonly directory: Directory | undefined
}

/** What there is beside it. */
export interface Surroundings {
  readonly tasks: ReadonlyMap<TaskId, Task>
  readonly workspaces: ReadonlyArray<FoundWorkspace>
  /** By socket. */
  readonly listings: ReadonlyMap<string, Sessions.Listing>
}

export interface Needs {
  readonly files: Files["Service"]
  readonly home: Home["Service"]
  readonly host: Host["Service"]
  readonly processes: ProcessTree["Service"]
}

const lookPatience = Duration.millis(100)

/** How one agent is restored after another; nothing where what was found is not enough. */
export const restorer = (
  { files, home, host, processes }: Needs,
  { listings, tasks, workspaces }: Surroundings,
  complain: Complain
) => {
  // On whichever socket it is.
  const sessionOf = (id: AgentId): Session | undefined =>
    Array.from(listings.values(), (listing) => Sessions.find(listing, { agentId: id, homeId: home.id }))
      .flatMap((sight) => sight._tag === "Present" ? [sight.session] : []).at(-1)

  const runningOf = Effect.fnUntraced(function*(entry: Documents.Entry) {
    const { agent_id: id, started_at: startedAt, tmux_socket: socket } = entry
    const session = sessionOf(id)
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

  const planOf = (
    id: AgentId,
    workspace: string,
    socket: Plan.Plan["socket"],
    others: ReadonlyArray<Plan.Planned>
  ): Plan.Plan =>
    Plan.make(home.id, {
      directory: home.agentDirectory(id),
      socket,
      session: sessionName(id),
      workspace,
      entry: Layout.entryOf(workspace, id)
    }, others)

  /** The tree that an entry tells of: its repository is the one that the tree's own link leads to. */
  const treeOf = Effect.fnUntraced(function*({ agent_id: id, worktree = null }: Documents.Entry) {
    if (worktree === null) return []
    // The tree of a home that was moved has moved with it.
    const tree = Path.join(Layout.treeDirectoryOf(home.directory, id), Places.treeName(id))
    const isItsOwn = worktree.path.endsWith(Path.join("/", id, Places.treeName(id)))
    const link = isItsOwn ? yield* Reading.text(files, Path.join(tree, ".git")) : undefined
    const common = link === undefined ? undefined : Places.commonIn(link, tree)
    if (common !== undefined) return [Plan.plannedWorktree(Document.treeReference(worktree, common))]
    complain(
      id,
      `nothing says of which repository its working tree ${worktree.path} is: a prune of the agent leaves the tree and its branch`
    )
    return []
  })

  const fromEntry = Effect.fnUntraced(function*({ entry, path }: FoundEntry, directory: Directory | undefined) {
    const { agent_id: id } = entry
    const told = directory?.told
    const running = entry.status === "running" ? yield* runningOf(entry) : null
    const others = told?.others ?? (yield* treeOf(entry))
    const agent = Documents.row(entry, {
      plan: planOf(id, Path.dirname(Path.dirname(path)), entry.tmux_socket, others),
      token: yield* randomHex(12),
      spec: told?.spec,
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

  /** A deployment that never committed: it has no entry, and nothing of it was released yet. */
  const fromDirectory = Effect.fnUntraced(function*({ hasLauncher, id, told }: Directory) {
    const workspace = workspaces.find(({ path }) => path === told?.workspace)
    const task = told?.taskId === undefined ? undefined : tasks.get(told.taskId)
    if (workspace?.unread.includes(id) === true) {
      complain(id, `it has an entry, which can't be read: mend that, or remove it with 'slipway reap --stray ${id}'`)
      return undefined
    }
    if (told === undefined || !hasLauncher || workspace === undefined || task === undefined) {
      complain(
        id,
        `no workspace says what it was: name its project with --project, or remove it with 'slipway reap --stray ${id}'`
      )
      return undefined
    }
    return Documents.dead(id, {
      plan: planOf(id, workspace.path, told.socket ?? home.socket, told.others ?? []),
      token: yield* randomHex(12),
      taskId: task.id,
      cwd: task.project,
      spec: told.spec
    })
  })

  const found = Effect.fnUntraced(function*(
    { directory, entry, row }: Traces
  ): Effect.fn.Return<RestoredAgent | undefined> {
    if (row !== undefined) return { agent: yield* merged(row, entry?.entry), source: "row" }
    if (entry !== undefined) return { agent: yield* fromEntry(entry, directory), source: "entry" }
    const agent = directory === undefined ? undefined : yield* fromDirectory(directory)
    return agent === undefined ? undefined : { agent, source: "directory" }
  })

  /** Tells of an agent that runs and writes where the home was: `before` is that place. */
  const tellMoved = Effect.fnUntraced(function*({ id, plan, state }: Agent, before: string | undefined) {
    if (state._tag !== "running" || before === undefined) return
    const real = yield* Effect.orElseSucceed(files.realPath(before), () => undefined)
    if (real === home.directory) return
    const session = sessionOf(id) === undefined ? `, and tmux does not show its session at ${plan.socket}` : ""
    complain(
      id,
      `the home was ${before} when it was started, where it writes its output and its end${session}: end it with 'slipway stop ${id}'`
    )
  })

  return Effect.fnUntraced(function*(traces: Traces, before: string | undefined) {
    const restored = yield* found(traces)
    if (restored === undefined) return undefined
    const { agent } = restored
    if (!tasks.has(agent.taskId)) {
      complain(agent.id, `its task ${agent.taskId} can't be read`)
      return undefined
    }
    yield* tellMoved(agent, before)
    return restored
  })
}
