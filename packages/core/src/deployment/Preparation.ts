/**
 * What a deployment knows before it makes anything: the task, the command line, the launcher's text, and the row to
 * admit, with every reference in it.
 *
 * It makes nothing of the deployment itself; a task's workspace, and a project's default task at first use, belong to
 * the task.
 */
import { Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import * as Path from "node:path"
import * as Agent from "../agent/Agent.ts"
import { resolve } from "../agent/AgentCommand.ts"
import { environmentFor } from "../agent/AgentEnvironment.ts"
import * as Plan from "../agent/Plan.ts"
import { fromRequest, ProjectPath, type Task, TaskId } from "../agent/Task.ts"
import * as Workspace from "../agent/Workspace.ts"
import { Home } from "../home/Home.ts"
import { type Caller, CurrentCaller, currentCaller, surroundings, WorkingDirectoryUnusable } from "../machine/Caller.ts"
import { Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import * as Layout from "../machine/Layout.ts"
import * as Lease from "../machine/Lease.ts"
import { randomHex } from "../machine/Random.ts"
import { UnknownTask } from "../registry/Admission.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { PlannedOwn } from "../resource/Own.ts"
import { Resources } from "../resource/Resources.ts"
import { Worktree } from "../resource/worktree/Worktree.ts"
import type { Reason } from "./DeployError.ts"
import { defaultType, type DeployRequest, digest, millisOf } from "./DeployRequest.ts"
import * as Launcher from "./Launcher.ts"
import * as LauncherPrograms from "./LauncherPrograms.ts"
import * as Placement from "./Placement.ts"
import * as Preflight from "./Preflight.ts"

const isTaskId = Schema.is(TaskId)
const isAgentId = Schema.is(Agent.AgentId)

export const defaultReadiness: Agent.Agent["readiness"] = { kind: "survive", withinMillis: 2000 }

/** A request with everything that was found for it. */
export interface Prepared {
  readonly request: DeployRequest
  readonly task: Task
  readonly cwd: string
  readonly workspace: string
  /** What the agent's directory contains for its launcher. */
  readonly launcher: (
    agent: Agent.Agent,
    variables: Readonly<Record<string, string>>
  ) => { readonly launcher: string; readonly environment: string | undefined }
  readonly placed: Placement.Placed
  readonly owner: Agent.Agent["owner"]
}

/** The row to admit, and the program's own things in its plan. */
export interface Candidate {
  readonly agent: Agent.Agent
  readonly resources: ReadonlyArray<PlannedOwn>
}

export class Preparation extends Context.Service<Preparation, {
  /** Reads the task and checks the machine. */
  readonly prepare: (request: DeployRequest, owner: Agent.Agent["owner"]) => Effect.Effect<Prepared, Reason>
  /**
   * The row to admit, with an id of its own. This process has a lease of it for so many steps, one more for each resource
   * of the program's own, and the wait for the agent.
   */
  readonly candidate: (
    prepared: Prepared,
    steps: number,
    stepLimit: Duration.Duration
  ) => Effect.Effect<Candidate, Reason>
}>()("@slipway/core/Preparation") {
  static readonly layer = (options: { readonly caller?: Caller | undefined } = {}) =>
    Layer.effect(Preparation, make(options.caller))
}

const make = Effect.fnUntraced(function*(given: Caller | undefined) {
  const opener = given ?? (yield* currentCaller)
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const ledger = yield* Ledger
  const { plan: planOwn } = yield* Resources
  const trees = yield* Worktree
  const check = yield* Preflight.make
  const ensureWorkspace = yield* Workspace.make
  const placement = yield* Placement.make

  /**
   * The request with what it leaves to its caller. An agent's own children belong to its task; for another task it is a
   * stranger.
   */
  const inherit = Effect.fnUntraced(function*(given: DeployRequest, caller: Caller) {
    const around = surroundings(caller, home.id)
    const request = given.task === undefined && given.project === undefined && isTaskId(around.task)
      ? { ...given, task: around.task }
      : given
    const task = yield* findTask(request, caller)
    const inherits = request.parent === undefined && task.id === around.task && isAgentId(around.agent)
    return { task, request: inherits ? { ...request, parent: around.agent } : request }
  })

  const findTask = Effect.fnUntraced(function*(request: DeployRequest, caller: Caller) {
    if (request.task !== undefined) {
      const task = yield* ledger.task(request.task)
      return Option.isSome(task) ? task.value : yield* new UnknownTask({ taskId: request.task })
    }
    const named = request.project ?? caller.cwd
    if (named === undefined) return yield* new WorkingDirectoryUnusable({ path: null })
    const project = yield* Effect.mapError(
      files.realPath(named),
      () => new Preflight.WorkingDirectoryMissing({ path: named })
    )
    const candidate = yield* fromRequest({ description: `default task of ${Path.basename(project)}`, project })
    return yield* ledger.defaultTask(candidate)
  })

  /** Everything that makes nothing of the deployment itself. */
  const prepare = Effect.fn("Preparation.prepare")(function*(
    given: DeployRequest,
    owner: Agent.Agent["owner"]
  ): Effect.fn.Return<Prepared, Reason> {
    const caller = (yield* CurrentCaller) ?? opener
    const { request, task } = yield* inherit(given, caller)
    const cwd = request.cwd ?? task.project
    const command = resolve(request.agent, { isRoot: caller.isRoot })
    const overrides = request.environment ?? {}
    const executable = yield* check({
      executable: command.argv[0],
      path: overrides["PATH"] ?? caller.environment["PATH"],
      cwd,
      project: task.project
    })
    const programs = yield* LauncherPrograms.find(files, caller.environment["PATH"])
    const placed = yield* placement.place(caller.openFiles, programs)
    const workspace = yield* ensureWorkspace(task, home.id)
    const launcher: Prepared["launcher"] = (agent, variables) => {
      const options: Launcher.LauncherOptions = {
        argv: [executable, ...command.argv.slice(1)],
        environment: environmentFor({
          caller: caller.environment,
          overrides,
          command: command.environment,
          defaults: command.defaults,
          markers: {
            ...variables,
            SLIPWAY_AGENT_ID: agent.id,
            SLIPWAY_TASK_ID: task.id,
            SLIPWAY_HOME_ID: home.id,
            SLIPWAY_HOME: home.directory,
            SLIPWAY_TMUX_SOCKET: home.socket,
            SLIPWAY_WORKSPACE: workspace
          }
        }),
        cwd: agent.cwd,
        directory: agent.plan.directory,
        umask: caller.umask,
        programs,
        carried: placed.carried,
        notice:
          `Slipway agent ${agent.id}: its output is in ${agent.plan.directory}; see 'slipway logs ${agent.id} --follow'`
      }
      return { launcher: Launcher.render(options), environment: Launcher.environmentText(options) }
    }
    return { request, task, cwd, workspace, launcher, placed, owner }
  })

  const candidate = Effect.fn("Preparation.candidate")(function*(
    { cwd, owner, request, task, workspace }: Prepared,
    steps: number,
    stepLimit: Duration.Duration
  ) {
    const createdAt = yield* DateTime.now
    const type = request.type ?? defaultType(request.agent)
    const id = Agent.makeAgentId(type, createdAt, yield* randomHex(6))
    const draft = { homeId: home.id, home: home.directory, agentId: id, taskId: task.id, project: task.project, cwd }
    const tree = request.worktree === undefined ? undefined : yield* trees.plan(request.worktree, draft)
    const worksIn = tree === undefined ? cwd : ProjectPath.make(tree.cwd)
    const own = yield* planOwn(request.resources ?? {}, { ...draft, cwd: worksIn })
    const resources = tree === undefined ? own : [tree.own, ...own]
    const limits = resources.map(({ limit = stepLimit }) => Duration.toSeconds(limit))
    const leaseSeconds = steps * Duration.toSeconds(stepLimit) + limits.reduce((sum, limit) => sum + limit, 0)
    const readiness = {
      kind: request.ready ?? defaultReadiness.kind,
      withinMillis: millisOf(request.readyWithin) ?? defaultReadiness.withinMillis
    }
    const agent: Agent.Agent = {
      id,
      type,
      taskId: task.id,
      parent: request.parent ?? null,
      depth: 1,
      spec: request.agent,
      cwd: worksIn,
      readiness,
      limits: {
        maxRunMillis: millisOf(request.maxRun),
        firstOutputMillis: millisOf(request.firstOutputWithin),
        stallMillis: millisOf(request.stallAfter)
      },
      key: request.key ?? null,
      // Requests are only ever compared under a key.
      requestDigest: request.key === undefined ? "" : digest(request, { taskId: task.id, cwd }),
      plan: Plan.make(home.id, {
        directory: home.agentDirectory(id),
        socket: home.socket,
        session: Agent.sessionName(id),
        workspace,
        entry: Layout.entryOf(workspace, id)
      }, resources.map(({ planned }) => planned)),
      token: yield* randomHex(12),
      state: { _tag: "deploying" },
      lease: yield* Lease.grant(host, leaseSeconds + readiness.withinMillis / 1000),
      owner,
      running: null,
      createdAt,
      startedAt: null,
      endedAt: null,
      tail: null,
      summary: null
    }
    return { agent, resources }
  })

  return Preparation.of({ prepare, candidate })
})
