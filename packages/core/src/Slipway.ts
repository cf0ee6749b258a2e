/**
 * Slipway as one service with one layer, which is all that an orchestrator provides.
 *
 * `Slipway.layer()` opens the home (and makes it at first use), its registry and its tmux socket. Agents outlive the
 * layer, unless they were deployed with `deployScoped`. The layer holds the registry's connection and, in control mode,
 * a tmux client. That client keeps the program running until the layer's scope is closed: `Effect.provide` does so by
 * itself, a `ManagedRuntime` has to be disposed.
 */
import { Context, DateTime, type Duration, Effect, Layer, Result, Schema, type Scope, Stream } from "effect"
import type { Agent, AgentId } from "./agent/Agent.ts"
import { durationOf, invalid, type InvalidRequest } from "./agent/InvalidRequest.ts"
import { worktreeOf } from "./agent/Plan.ts"
import { fromRequest, type Task, type TaskCounts, TaskRequest } from "./agent/Task.ts"
import * as Workspace from "./agent/Workspace.ts"
import { Deployer, type Deployment, type Observer } from "./deployment/Deployer.ts"
import type { DeployError } from "./deployment/DeployError.ts"
import type { DeployInput } from "./deployment/DeployRequest.ts"
import { WorkingDirectoryMissing } from "./deployment/Preflight.ts"
import { Preparation } from "./deployment/Preparation.ts"
import { Events, type FollowOptions } from "./home/Events.ts"
import { Home, type HomeLimits, type HomeUnusable, type InvalidLimit, parseMaxActive } from "./home/Home.ts"
import type { HomeUnknown } from "./home/HomeChoice.ts"
import * as Limits from "./home/HomeLimits.ts"
import { IdleServer } from "./home/IdleServer.ts"
import { ReaperLock, type ReaperRunning } from "./home/ReaperLock.ts"
import type { WorkingDirectoryUnusable } from "./machine/Caller.ts"
import * as Files from "./machine/Files.ts"
import { Agents, type AgentSelection, type SelfStopRefused, type StopRequest } from "./reconcile/Agents.ts"
import { type Diagnosis, Doctor } from "./reconcile/Doctor.ts"
import { Ending } from "./reconcile/Ending.ts"
import * as Findings from "./reconcile/Findings.ts"
import { Observation } from "./reconcile/Observation.ts"
import { Output, type OutputChunk, type OutputOptions, type OutputPart, type ReadOptions } from "./reconcile/Output.ts"
import { Prune, type Pruned, type PruneRequest } from "./reconcile/Prune.ts"
import { type Reaped, Reaper, type ReapOptions, type ReapPlan } from "./reconcile/Reaper.ts"
import { Reconciler } from "./reconcile/Reconciler.ts"
import * as Selection from "./reconcile/Selection.ts"
import { Stop } from "./reconcile/Stop.ts"
import * as Watch from "./reconcile/Watch.ts"
import type { Watched, WatchOptions } from "./reconcile/Watch.ts"
import type { TaskKeyTaken } from "./registry/Admission.ts"
import { Counters, type Totals } from "./registry/Counters.ts"
import type { AgentEvent, HomeEvent } from "./registry/EventLog.ts"
import { Ledger } from "./registry/Ledger.ts"
import type { AgentNotFound, RegistryError, RegistryReplaced } from "./registry/RegistryError.ts"
import { AgentDirectory } from "./resource/AgentDirectory.ts"
import { AgentSession } from "./resource/AgentSession.ts"
import type { InvalidResources, OwnKind } from "./resource/Own.ts"
import { Resources } from "./resource/Resources.ts"
import { TaskEntry } from "./resource/TaskEntry.ts"
import { type Diff, type DiffError, type DiffOptions, NoWorktree } from "./resource/worktree/Diff.ts"
import { Git } from "./resource/worktree/Git.ts"
import type { Landed, LandError, LandRequest } from "./resource/worktree/Land.ts"
import { Worktree } from "./resource/worktree/Worktree.ts"
import { callerOf, services, type ServicesOptions } from "./Services.ts"

/** What `createTask` takes: the request with plain strings. */
export type TaskInput = typeof TaskRequest.Encoded

export type CreateTaskError =
  | InvalidRequest
  | RegistryError
  | TaskKeyTaken
  | Workspace.WorkspaceUnusable
  | WorkingDirectoryMissing

export class Slipway extends Context.Service<Slipway, {
  /** The home of this layer: its directory, id and limits. */
  readonly home: Home["Service"]
  /** Changes what the home allows, for every caller that deploys in it; answers with all its limits. */
  readonly setLimits: (limits: Partial<HomeLimits>) => Effect.Effect<HomeLimits, InvalidLimit | Limits.SetLimitsError>
  /**
   * Makes a task: its row in the registry, and its workspace in the project. The row is written first, and stays when the
   * workspace can't be made. Under a key it makes one task, however often it is called: a call that asks for the same is
   * answered with it, and any other is refused.
   */
  readonly createTask: (input: TaskInput) => Effect.Effect<Task, CreateTaskError>
  /** All tasks on record. Changes nothing. */
  readonly tasks: Effect.Effect<ReadonlyArray<Task>, RegistryError>
  /** One task by its whole id. Changes nothing. */
  readonly task: (id: string) => Effect.Effect<Task, RegistryError | Selection.TaskNotFound>
  /** How many agents a task has, as the rows say: it reconciles none of them. */
  readonly taskCounts: (id: string) => Effect.Effect<TaskCounts, RegistryError | Selection.TaskNotFound>
  /** Deploys an agent that outlives the caller: commits whole, or leaves nothing behind. */
  readonly deploy: (input: DeployInput, observer?: Observer) => Effect.Effect<Deployment, DeployError>
  /** Deploys an agent that is stopped, with proof, when the scope closes. */
  readonly deployScoped: (
    input: DeployInput,
    observer?: Observer
  ) => Effect.Effect<Deployment, DeployError, Scope.Scope>
  /**
   * The agent that a part of an id means, as a person types it: the one whose id begins so, or the one live agent of that
   * type. Reads, and changes nothing. Several are refused by name: nothing is guessed.
   */
  readonly selectAgent: (
    text: string
  ) => Effect.Effect<AgentId, AgentNotFound | RegistryError | Selection.AgentAmbiguous>
  /** The task that a part of an id means: the one whose id begins so. */
  readonly selectTask: (
    text: string
  ) => Effect.Effect<Task, RegistryError | Selection.TaskAmbiguous | Selection.TaskNotFound>
  /**
   * The agents on record, newest first, each reconciled: an end that nobody saw is recorded, and what is left of such an
   * agent is released, its processes ended. A row about which nothing is certain stays as it is.
   * An agent past one of its limits of time is ended. A tmux server that has long been idle may be ended too.
   */
  readonly agents: (filter?: AgentSelection) => Effect.Effect<ReadonlyArray<Agent>, RegistryError>
  /** One agent by its whole id, reconciled as by `agents`: this too may end its processes. */
  readonly agent: (id: string) => Effect.Effect<Agent, AgentNotFound | RegistryError>
  /** The transitions of one agent, oldest first, as recorded. Changes nothing. */
  readonly events: (id: string) => Effect.Effect<ReadonlyArray<AgentEvent>, AgentNotFound | RegistryError>
  /**
   * Waits, without a limit of its own, until an agent has ended and all of it is released, or something could not be
   * released. Reconciles as it waits. An interruption ends the wait alone: the agent runs on.
   */
  readonly wait: (id: string) => Effect.Effect<Agent, AgentNotFound | RegistryError>
  /**
   * Stops agents and their active descendants, children first, and answers with every row that it ended. All ids are
   * looked up before the first stop. Processes get TERM, then KILL after `grace` (5 seconds by default). One that fails
   * keeps no other from being stopped. When it is interrupted, the next reconciliation finishes what was begun.
   */
  readonly stop: (
    ids: ReadonlyArray<string>,
    request?: StopRequest
  ) => Effect.Effect<ReadonlyArray<Agent>, AgentNotFound | InvalidRequest | RegistryError | SelfStopRefused>
  /**
   * What an agent wrote to one stream, from the first byte, an offset, or the last lines on. Ends with what is there, or
   * with `follow` when the agent has ended and all was read. Of a rolled-back agent it is the tail that its row keeps.
   */
  readonly output: (
    id: string,
    options?: OutputOptions
  ) => Stream.Stream<Uint8Array, AgentNotFound | Files.FileError | InvalidRequest | RegistryError>
  /**
   * What an agent wrote to both streams, each part with its stream and offset. Where the agent was deployed with both
   * merged, the order is the one of its writes; else the parts of each stream are in order, and come as they were seen.
   */
  readonly outputs: (
    id: string,
    options?: Pick<OutputOptions, "follow" | "tailLines">
  ) => Stream.Stream<OutputChunk, AgentNotFound | Files.FileError | InvalidRequest | RegistryError>
  /**
   * Reads so many bytes from an offset, at once, and tells where the reader stands. Who polls with `nextOffset` until
   * `isComplete` gets every byte once. Reconciles the agent first. An offset behind the end gets no bytes, and stays.
   */
  readonly readOutput: (
    id: string,
    options?: ReadOptions
  ) => Effect.Effect<OutputPart, AgentNotFound | Files.FileError | InvalidRequest | RegistryError>
  /**
   * Every transition of every agent of this home, by any process: in the order of the commits, each once, and with a
   * cursor to continue from later. Runs until it is interrupted.
   */
  readonly follow: (options?: FollowOptions) => Stream.Stream<HomeEvent, RegistryError>
  /** Finds where the registry, tmux, the processes and the files do not agree; changes nothing. */
  readonly reapPlan: Effect.Effect<ReapPlan, RegistryError>
  /** Acts on a plan and assesses each item again; what is unknown stays. */
  readonly reap: (plan: ReapPlan, options?: ReapOptions) => Effect.Effect<ReadonlyArray<Reaped>, RegistryError>
  /**
   * Reaps every so often, as the one standing reaper of this home, until it is interrupted. So every end is seen, and
   * limits of time are enforced, without another process. A turn that fails is told as such, and does not end the stream.
   */
  readonly watch: (options?: WatchOptions) => Stream.Stream<Watched, Files.FileError | InvalidRequest | ReaperRunning>
  /** The audit of the home and of the machine. */
  readonly doctor: Effect.Effect<Diagnosis, RegistryError>
  /** Totals since the registry was made. */
  readonly totals: Effect.Effect<Totals, RegistryError>
  /** What an agent changed in its own tree, as a patch; changes nothing. */
  readonly diff: (id: string, options?: DiffOptions) => Effect.Effect<Diff, AgentNotFound | DiffError | RegistryError>
  /**
   * Puts what an agent committed in its own tree on a branch, whole or not at all; a conflict is refused, and the tree
   * stays as it is.
   */
  readonly land: (
    id: string,
    request: LandRequest
  ) => Effect.Effect<Landed, AgentNotFound | LandError | NoWorktree | RegistryError>
  /** Forgets agents that ended long ago, with their files. */
  readonly prune: (request?: PruneRequest) => Effect.Effect<ReadonlyArray<Pruned>, InvalidRequest | RegistryError>
}>()("@slipway/core/Slipway") {
  /** Over given services: tests put their own in their place. */
  static readonly layerNoDeps = (options: SlipwayOptions = {}) => layerNoDeps(options)
  /**
   * Watches the home of the layer below as long as the scope, as `Slipway.watch` does. While another process watches it,
   * this one waits, and takes over when that one has ended. A turn that fails is logged.
   */
  static readonly layerWatch = (options: WatchOptions = {}) => layerWatch(options)
  /** Ready to use on this machine. */
  static readonly layer = (options: SlipwayOptions = {}) => layer(options)
}

export interface SlipwayOptions extends ServicesOptions {
  /** Kinds of resources that this program brings along; see `@slipway/core/resource`. */
  readonly resources?: ReadonlyArray<OwnKind> | undefined
  /** How long one step of a deployment may take, without the wait for the agent; 20 seconds by default. */
  readonly stepLimit?: Duration.Input | undefined
}

const make = Effect.gen(function*() {
  const home = yield* Home
  const ledger = yield* Ledger
  const counters = yield* Counters
  const deployer = yield* Deployer
  const agents = yield* Agents
  const output = yield* Output
  const prune = yield* Prune
  const reaper = yield* Reaper
  const doctor = yield* Doctor
  const events = yield* Events
  const lock = yield* ReaperLock
  const files = yield* Files.Files
  const idle = yield* IdleServer
  const trees = yield* Worktree
  const ensureWorkspace = yield* Workspace.make
  const selection = yield* Selection.make
  const decodeTask = Schema.decodeUnknownEffect(TaskRequest, { errors: "all" })

  const createTask = Effect.fn("Slipway.createTask")(function*(input: TaskInput) {
    const request = yield* Effect.mapError(decodeTask(input), invalid)
    const project = yield* Effect.mapError(
      files.realPath(request.project),
      () => new WorkingDirectoryMissing({ path: request.project })
    )
    const task = yield* fromRequest({ ...request, project })
    const stored = yield* ledger.addTask(task)
    yield* ensureWorkspace(stored, home.id)
    return stored
  })

  const changing = yield* Effect.context<Effect.Services<ReturnType<typeof Limits.set>>>()
  const setLimits = Effect.fn("Slipway.setLimits")(function*({ maxActive }: Partial<HomeLimits>) {
    if (maxActive === undefined) return yield* home.limits
    const valid = yield* parseMaxActive("maxActive", String(maxActive))
    return yield* Effect.provideContext(Limits.set({ maxActive: valid }), changing)
  })

  const task = Effect.fn("Slipway.task")((id: string) => Selection.taskOf(ledger, id))

  const reap = Effect.fn("Slipway.reap")(function*(plan: ReapPlan, options?: ReapOptions) {
    const reaped = yield* reaper.apply(plan, options)
    // What was found is cleaned up already, whether or not it can be counted.
    yield* Effect.catch(
      counters.found(Findings.of(reaped), yield* DateTime.now),
      (error) => Effect.logWarning(`what this reap found is not counted: ${error.message}`)
    )
    yield* idle.sweep
    return reaped
  })

  const treeOf = Effect.fnUntraced(function*(id: string) {
    const agent = yield* agents.get(id)
    const ref = worktreeOf(agent.plan)
    return ref === null ? yield* new NoWorktree({ agentId: id, wasThere: false }) : { agent, ref }
  })

  return Slipway.of({
    home,
    setLimits,
    createTask,
    tasks: ledger.tasks,
    task,
    taskCounts: (id) => Effect.flatMap(task(id), (found) => ledger.taskCounts(found.id)),
    deploy: deployer.deploy,
    deployScoped: deployer.deployScoped,
    selectAgent: selection.agent,
    selectTask: selection.task,
    agents: (filter = {}) => Effect.tap(agents.list(filter), idle.end),
    agent: agents.get,
    events: agents.events,
    wait: agents.wait,
    stop: (ids, request) => Effect.tap(agents.stop(ids, request), idle.end),
    output: output.stream,
    outputs: output.both,
    readOutput: output.read,
    follow: events.follow,
    reapPlan: reaper.plan,
    reap,
    watch: ({ every, strays } = {}) =>
      Watch.watch(Effect.flatMap(reaper.plan, (plan) => reap(plan, { strays })), lock.hold, every),
    doctor: doctor.examine,
    totals: counters.totals,
    diff: Effect.fn("Slipway.diff")(function*(id: string, options: DiffOptions = {}) {
      const { agent, ref } = yield* treeOf(id)
      return yield* trees.diff(ref, agent.id, options)
    }),
    land: Effect.fn("Slipway.land")(function*(id: string, request: LandRequest) {
      const { agent, ref } = yield* treeOf(id)
      return yield* trees.land(ref, agent.id, request)
    }),
    prune: (request) => Effect.tap(prune.run(request), idle.end)
  })
})

const layerWatch = (options: WatchOptions): Layer.Layer<never, InvalidRequest, Slipway> =>
  Layer.effectDiscard(Effect.gen(function*() {
    const slipway = yield* Slipway
    const every = yield* durationOf("every", options.every ?? Watch.defaultInterval)
    const turns = Stream.runForEach(
      slipway.watch({ ...options, every }),
      (watched) =>
        watched._tag === "Turn" && Result.isFailure(watched.result)
          ? Effect.logWarning(watched.result.failure.message)
          : Effect.void
    ).pipe(
      Effect.catchTag("ReaperRunning", (running) => Effect.logDebug(running.message)),
      Effect.catchTags({
        FileError: (error) => Effect.logWarning(error.message),
        InvalidRequest: (error) => Effect.logWarning(error.message)
      }),
      // A defect in one turn must not leave the program without a watch for the rest of its life.
      Effect.catchDefect((defect) => Effect.logError("a turn of the watch broke", defect))
    )
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(turns, Effect.sleep(every))))
  }))

const layerNoDeps = (options: SlipwayOptions) => {
  const trees = Layer.provideMerge(Worktree.layer, Git.layer(options))
  const house = Layer.mergeAll(AgentDirectory.layer, AgentSession.layer, TaskEntry.layer, trees)
  const resources = Layer.provideMerge(Resources.layerNoDeps(options.resources), house)
  const reconcile = Stop.layer.pipe(
    Layer.provideMerge(Reconciler.layer),
    Layer.provideMerge(Ending.layer),
    Layer.provideMerge(Observation.layer)
  )
  const agents = Layer.unwrap(
    Effect.map(callerOf(options), ({ environment }) => Agents.layer({ insideOf: environment["SLIPWAY_AGENT_ID"] }))
  )
  return Layer.effect(Slipway, make).pipe(
    Layer.provide(
      Layer.mergeAll(
        Deployer.layer(options),
        agents,
        Output.layer,
        Prune.layer,
        Doctor.layer,
        Events.layer,
        ReaperLock.layer,
        IdleServer.layer
      )
    ),
    Layer.provideMerge(Reaper.layer),
    Layer.provide([reconcile, Preparation.layer(options)]),
    Layer.provide(resources)
  )
}

const layer = (
  options: SlipwayOptions
): Layer.Layer<
  Slipway,
  | HomeUnknown
  | HomeUnusable
  | InvalidLimit
  | InvalidResources
  | RegistryError
  | RegistryReplaced
  | WorkingDirectoryUnusable
> =>
  // Layers are memoized by reference, also in a program that provides two homes, one inside the other; each needs its
  // own.
  Layer.fresh(layerNoDeps(options).pipe(Layer.provide(services(options))))
