/**
 * The deployment: one transaction that brings an agent up, or leaves nothing behind.
 *
 * The steps: decode the request; check the machine (preflight); admit (one durable transaction that also stores the
 * plan); make the agent's directory; start the tmux session; wait until the agent is up; write the task entry; commit
 * (one durable transaction). Each resource is held as `Resource.hold` describes: its reference is claimed before it is
 * made. So whatever ends the deployment early (a typed failure, a defect, a time-out, an interruption) releases all of
 * them, last first, each on its own and bounded in time. The registry entry is released last: it records what is left.
 *
 * While the deployment waits, an interruption is answered at once; elsewhere, after at most the running system call or
 * tmux call. The releases then run uninterruptibly. The commit itself is not interruptible. An interruption that comes
 * with it or later finds a committed agent, and `observer.onCommitted` has been called inside the uninterruptible
 * region. A killed deployer leaves its plan in the registry, and a settle does the very same releases from it.
 */
import { Cause, Context, DateTime, Duration, Effect, Exit, Layer, Option, Schedule, Scope } from "effect"
import * as Path from "node:path"
import { type AdmissionRefused, AdmissionRefused as AdmissionRefusedSchema, counted } from "./Admission.ts"
import * as Agent from "./Agent.ts"
import * as CleanupReport from "./CleanupReport.ts"
import {
  DeployError,
  DeploymentEnded,
  type Reason,
  SharedDeploymentFailed,
  type Step,
  StepTimedOut
} from "./DeployError.ts"
import { decode, type DeployInput } from "./DeployRequest.ts"
import { Files } from "./Files.ts"
import { Home } from "./Home.ts"
import { Host } from "./Host.ts"
import * as Launcher from "./Launcher.ts"
import { Preparation, type Prepared } from "./Preparation.ts"
import * as Readiness from "./Readiness.ts"
import { Registry } from "./Registry.ts"
import { describeCause, failed, hold, type ReleaseRecord } from "./Resource.ts"
import { AgentDirectory } from "./resources/AgentDirectory.ts"
import { AgentSession } from "./resources/AgentSession.ts"
import * as RegistryEntry from "./resources/RegistryEntry.ts"
import { TaskEntry } from "./resources/TaskEntry.ts"
import { entryRef, sessionRef, Settle } from "./Settle.ts"

/** What a deployment answers with. */
export interface Deployment {
  readonly agent: Agent.Agent
  /** Whether an earlier deployment under the same key was answered; then nothing was made. */
  readonly reused: boolean
}

/** Called with what happened; what they do should be short. A defect in one of them is logged and changes nothing. */
export interface Observer {
  readonly onStep?: ((step: Step) => Effect.Effect<void>) | undefined
  /** The agent has committed and lives on, whatever happens to the caller now; called uninterruptibly. */
  readonly onCommitted?: ((deployment: Deployment) => Effect.Effect<void>) | undefined
  /** An admitted deployment failed or was interrupted, and its releases have run; called uninterruptibly. */
  readonly onRolledBack?:
    | ((report: CleanupReport.CleanupReport, agentId: Agent.AgentId) => Effect.Effect<void>)
    | undefined
}

/** The time that settling an agent that has already ended may take. */
const settleLimit = Duration.seconds(10)

/** The steps that a lease has to last for, the wait for the agent apart. */
const stepsBeside = 6

interface StepFailed {
  readonly _tag: "StepFailed"
  readonly step: Step
  readonly reason: Reason
}

const isRefusal = (reason: Reason): reason is AdmissionRefused =>
  AdmissionRefusedSchema.members.some((member) => reason instanceof member)

export class Deployer extends Context.Service<Deployer, {
  /** Deploys an agent that outlives the caller. */
  readonly deploy: (input: DeployInput, observer?: Observer) => Effect.Effect<Deployment, DeployError>
  /** Deploys an agent that is stopped, with proof, when the scope closes; one that was reused by its key is left alone. */
  readonly deployScoped: (
    input: DeployInput,
    observer?: Observer
  ) => Effect.Effect<Deployment, DeployError, Scope.Scope>
}>()("@slipway/core/Deployer") {
  static readonly layer = (options: DeployerOptions = {}) => Layer.effect(Deployer, make(options))
}

export interface DeployerOptions {
  /** How long one step may take, the wait for the agent apart; 20 seconds by default. */
  readonly stepLimit?: Duration.Input | undefined
}

const make = Effect.fnUntraced(function*(options: DeployerOptions) {
  const stepLimit = Duration.fromInputUnsafe(options.stepLimit ?? "20 seconds")
  const files = yield* Files
  const home = yield* Home
  const preparation = yield* Preparation
  const host = yield* Host
  const registry = yield* Registry
  const settle = yield* Settle
  const directory = yield* AgentDirectory
  const session = yield* AgentSession
  const entry = yield* TaskEntry
  const looking = yield* Effect.context<Files | Host>()

  const at = <A, R>(step: Step, effect: Effect.Effect<A, Reason, R>, limit = stepLimit) =>
    effect.pipe(
      Effect.timeoutOrElse({
        duration: limit,
        orElse: () => Effect.fail(new StepTimedOut({ step, millis: Duration.toMillis(limit) }))
      }),
      Effect.mapError((reason): StepFailed => ({ _tag: "StepFailed", step, reason })),
      Effect.withSpan(`deploy.${step}`, undefined, { captureStackTrace: false })
    )

  /** One try of the transaction; when it fails, everything that it made has been removed. */
  const attempt = Effect.fnUntraced(function*(prepared: Prepared, observer: Observer) {
    const { request } = prepared
    const candidate = yield* preparation.draft(prepared, stepsBeside * Duration.toSeconds(stepLimit))
    const { id: agentId, plan, token } = candidate
    const markers = { SLIPWAY_TASK_ID: candidate.taskId }
    let reached: Step = "admission"
    let admitted = false
    let report = CleanupReport.empty
    let story: RegistryEntry.Story = {
      step: reached,
      error: { tag: "Unknown", message: "" },
      left: [],
      releases: [],
      tail: null
    }
    const onRelease = (record: ReleaseRecord) => Effect.sync(() => void (report = CleanupReport.add(report, record)))
    const registryEntry = RegistryEntry.make(
      registry,
      Effect.sync(() => ({ ...story, left: CleanupReport.leftovers(report), releases: report.releases }))
    )
    // While a process may live, its directory says what it is; the settle that ends the process removes it.
    const directoryAfterProcesses: typeof directory = {
      ...directory,
      release: (ref) =>
        CleanupReport.leftovers(report).some((record) => record.resource === "tmux_session")
          ? Effect.succeed(failed("kept, since processes of the agent may live"))
          : directory.release(ref)
    }
    const begin = (step: Step) =>
      Effect.suspend(() => {
        reached = step
        return tell(observer.onStep?.(step))
      })

    const steps = Effect.gen(function*() {
      yield* begin("admission")
      const decision = yield* at(
        "admission",
        hold(registryEntry, { agentId, token }, {
          candidate,
          allowDuplicate: request.allowDuplicate ?? false,
          homeLimit: home.limit
        }, onRelease)
      )
      if (decision._tag === "Existing") return decision
      const agent = { ...candidate, depth: decision.depth }

      admitted = true
      yield* begin("agent-directory")
      const content = { prompt: request.prompt, ...prepared.launcher(agent), workspace: plan.workspace }
      yield* at("agent-directory", hold(directoryAfterProcesses, plan, content, onRelease))

      yield* begin("session")
      yield* at("session", stillOurs(agentId))
      const running = yield* at("session", hold(session, sessionRef(agent), markers, onRelease))
      yield* at("session", prepared.placed.confirm(running.serverPid))

      yield* begin("readiness")
      const patience = Duration.sum(Duration.millis(agent.readiness.withinMillis), stepLimit)
      const exitRecord = yield* at(
        "readiness",
        Effect.raceFirst(
          Effect.provideContext(Readiness.wait(plan.directory, running, agent), looking),
          Effect.forever(Effect.delay(stillOurs(agentId), takeoverInterval))
        ),
        patience
      )

      yield* begin("task-entry")
      const facts: Agent.CommitFacts = { token, running, startedAt: yield* DateTime.now }
      // The entry shows the row as the commit will leave it.
      const shown = yield* at("task-entry", Effect.fromResult(Agent.commit(agent, facts)))
      yield* at("task-entry", hold(entry, entryRef(agent), shown, onRelease))

      yield* begin("commit")
      return { _tag: "Made", facts, isThrough: Option.isSome(exitRecord) } as const
    })

    const commit = Effect.fnUntraced(function*(facts: Agent.CommitFacts) {
      const happening = { at: facts.startedAt, detail: "committed" }
      return yield* at("commit", registry.transition(agentId, (row) => Agent.commit(row, facts), happening)).pipe(
        Effect.catchCause((cause) =>
          Effect.flatMap(
            committed(agentId, token),
            Option.match({ onNone: () => Effect.failCause(cause), onSome: Effect.succeed })
          )
        )
      )
    })

    return yield* Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const exit = yield* Effect.exit(Effect.gen(function*() {
          const made = yield* restore(Scope.provide(steps, scope))
          if (made._tag === "Existing") return { agent: made.agent, reused: true, isThrough: false }
          return { agent: yield* commit(made.facts), reused: false, isThrough: made.isThrough }
        }))
        if (Exit.isSuccess(exit)) {
          yield* Scope.close(scope, exit)
          const { agent, isThrough, reused } = exit.value
          if (reused) return { agent, reused }
          yield* tell(observer.onCommitted?.({ agent, reused }))
          return { agent: isThrough ? yield* settleQuickly(agent) : agent, reused }
        }
        const cause = yield* explained(agentId, exit.cause)
        story = { step: reached, error: errorOf(cause), left: [], releases: [], tail: yield* tails(plan.directory) }
        yield* Scope.close(scope, exit)
        if (CleanupReport.leftovers(report).some((record) => record.resource === "global_registry")) {
          yield* settle.abandon(token)
        }
        if (admitted) yield* tell(observer.onRolledBack?.(report, agentId))
        return yield* Effect.failCause(
          Cause.map(
            cause,
            ({ reason, step }) => new DeployError({ step, reason, agentId: admitted ? agentId : null, cleanup: report })
          )
        )
      })
    ).pipe(Effect.annotateLogs({ agent: agentId }), Effect.withSpan("Deployer.attempt", { attributes: { agentId } }))
  })

  /** The row, if the registry answers in time. */
  const rowNow = (agentId: Agent.AgentId): Effect.Effect<Option.Option<Agent.Agent>> =>
    Effect.map(Effect.option(Effect.timeout(registry.agent(agentId), lookLimit)), Option.flatten)

  /**
   * The row, if it has committed all the same: a deployer that was held up may meet its time limit, or a failure, after
   * the transaction was stored. Any process may have read what is stored, and the agent may have ended since.
   */
  const committed = (agentId: Agent.AgentId, token: string): Effect.Effect<Option.Option<Agent.Agent>> =>
    Effect.map(rowNow(agentId), Option.filter((row) => row.token === token && hasCommittedForGood(row)))

  /** Fails when another caller has ended this deployment; a registry that can't be read now proves nothing. */
  const stillOurs = (agentId: Agent.AgentId): Effect.Effect<void, DeploymentEnded> =>
    Effect.flatMap(rowNow(agentId), (row) =>
      Option.isNone(row) || row.value.state._tag === "deploying"
        ? Effect.void
        : Effect.fail(new DeploymentEnded({ agentId, why: whyEnded(row.value) })))

  // A session that was killed from outside seems to be an agent that died: if the row names the cause, that is the
  // reason.
  const explained = Effect.fnUntraced(function*(agentId: Agent.AgentId, cause: Cause.Cause<StepFailed>) {
    const failure = Cause.findErrorOption(cause)
    if (Option.isNone(failure) || failure.value.step === "admission") return cause
    const ended = yield* Effect.result(stillOurs(agentId))
    return ended._tag === "Success"
      ? cause
      : Cause.map(cause, (failure): StepFailed => ({ ...failure, reason: ended.failure }))
  })

  const tails = Effect.fnUntraced(function*(path: string) {
    const tail = (name: string) =>
      Effect.orElseSucceed(files.readTail(Path.join(path, name), Readiness.tailBytes), () => "")
    return { stdout: yield* tail(Launcher.stdoutFile), stderr: yield* tail(Launcher.stderrFile) }
  })

  const early = (step: Step, reason: Reason) =>
    new DeployError({ step, reason, agentId: null, cleanup: CleanupReport.empty })

  /** The active rows that a refusal counted: one that ended unseen would hold its slot for nothing. */
  const settleCounted = Effect.fnUntraced(function*(refused: AdmissionRefused) {
    const rows = counted(refused)
    switch (rows._tag) {
      case "None":
        return false
      case "Agent": {
        const row = yield* registry.agent(rows.id)
        yield* settle.settleAll(Option.toArray(row))
        return true
      }
      case "Task":
      case "Home": {
        const filter = { activeOnly: true, ...(rows._tag === "Task" ? { taskId: rows.id } : {}) }
        yield* settle.settleAll(yield* registry.agents(filter))
        return true
      }
    }
  })

  const settleRefusal = (error: DeployError): Effect.Effect<boolean, DeployError> =>
    isRefusal(error.reason)
      ? Effect.mapError(settleCounted(error.reason), (reason) => early("admission", reason))
      : Effect.succeed(false)

  /**
   * Callers under the key of a deployment in flight share its outcome. There is none when its deployer has ended and it
   * is undone.
   */
  const awaitShared = Effect.fnUntraced(function*(first: Agent.Agent) {
    const look = Effect.gen(function*() {
      const row = Option.getOrElse(yield* registry.agent(first.id), () => first)
      return row.state._tag === "deploying" || row.state._tag === "ending" ? yield* settle.settle(row) : row
    }).pipe(Effect.mapError((reason) => early("admission", reason)))
    const now = yield* look
    if (now.state._tag === "rolled-back" && now.state.error.tag === "DeployerGone") return Option.none()
    const isSettled = (agent: Agent.Agent) =>
      agent.state._tag !== "deploying" &&
      (!(agent.state._tag === "ending" && agent.state.as._tag === "rolled-back") || Agent.isLeaked(agent))
    const patience = Duration.seconds(stepsBeside * Duration.toSeconds(stepLimit) + first.readiness.withinMillis / 1000)
    const row = yield* look.pipe(
      Effect.repeat({ until: isSettled, schedule: Schedule.spaced("50 millis") }),
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () =>
          Effect.fail(early("admission", new StepTimedOut({ step: "admission", millis: Duration.toMillis(patience) })))
      })
    )
    const end = row.state._tag === "ending" ? row.state.as : row.state
    if (end._tag === "rolled-back") {
      const problem = `failed at ${end.step}: ${end.error.message}`
      return yield* early("admission", new SharedDeploymentFailed({ agentId: row.id, problem }))
    }
    return Option.some(row)
  })

  const attemptSettled = (prepared: Prepared, observer: Observer) =>
    attempt(prepared, observer).pipe(
      Effect.catchIf(
        (error) => isRefusal(error.reason),
        (error) =>
          Effect.flatMap(settleRefusal(error), (settled) => settled ? attempt(prepared, observer) : Effect.fail(error))
      )
    )

  const run = Effect.fnUntraced(function*(input: DeployInput, observer: Observer, owner: Agent.Agent["owner"]) {
    const request = yield* Effect.mapError(decode(input), (reason) => early("request", reason))
    yield* tell(observer.onStep?.("preflight"))
    const prepared = yield* at("preflight", preparation.prepare(request, owner)).pipe(
      Effect.mapError(({ reason }) => early(isRefusal(reason) ? "admission" : "preflight", reason))
    )
    let deployment = yield* attemptSettled(prepared, observer)
    if (!deployment.reused) return deployment
    let shared = yield* awaitShared(deployment.agent)
    if (Option.isNone(shared)) {
      // The deployment under this key died with its deployer, and the key is free again: this call is the retry.
      deployment = yield* attemptSettled(prepared, observer)
      if (!deployment.reused) return deployment
      shared = yield* awaitShared(deployment.agent)
    }
    const reused: Deployment = { agent: Option.getOrElse(shared, () => deployment.agent), reused: true }
    yield* tell(observer.onCommitted?.(reused))
    return reused
  })

  // An agent that has already ended is settled at once; if that can't be done now, the next command that reads it does
  // it. It has committed, so nothing here may turn the deployment into a failure.
  const settleQuickly = (agent: Agent.Agent) =>
    settle.settle(agent).pipe(
      Effect.timeout(settleLimit),
      Effect.catchCause((cause) =>
        Effect.as(Effect.logWarning(`could not settle ${agent.id}: ${describeCause(cause)}`), agent)
      )
    )

  const deploy = Effect.fn("Deployer.deploy")((input: DeployInput, observer: Observer = {}) =>
    run(input, observer, null)
  )

  const deployScoped = Effect.fn("Deployer.deployScoped")(function*(input: DeployInput, observer: Observer = {}) {
    const scope = yield* Effect.scope
    const stop = ({ agent, reused }: Deployment) =>
      reused
        ? Effect.void
        : Scope.addFinalizer(
          scope,
          Effect.catchCause(
            settle.stop(agent.id, { reason: "the scope that it belongs to was closed", by: "scope" }),
            (cause) => Effect.logError(`could not stop ${agent.id}: ${describeCause(cause)}`)
          )
        )
    return yield* run(input, {
      ...observer,
      onCommitted: (deployment) => Effect.andThen(stop(deployment), tell(observer.onCommitted?.(deployment)))
    }, { host: host.identity, holder: host.self })
  })

  return Deployer.of({ deploy, deployScoped })
})

/** How long the registry may take to say whether a deployment goes on; it is asked where no step's limit holds, too. */
const lookLimit = Duration.seconds(5)

/** How often a deployment that waits for its agent checks whether another caller ended it. */
const takeoverInterval = Duration.millis(100)

const tell = (told: Effect.Effect<void> | undefined): Effect.Effect<void> =>
  told === undefined
    ? Effect.void
    : Effect.catchCause(
      told,
      (cause) => Effect.logError(`an observer of the deployment broke: ${describeCause(cause)}`)
    )

const hasCommittedForGood = (row: Agent.Agent): boolean => {
  const end = row.state._tag === "ending" ? row.state.as : row.state
  return Agent.hasCommitted(row) && end._tag !== "rolled-back"
}

const whyEnded = ({ state }: Agent.Agent): string => {
  const end = state._tag === "ending" ? state.as : state
  switch (end._tag) {
    case "rolled-back":
      return end.error.message
    case "stopped":
      return end.reason
    default:
      return `it is ${end._tag}`
  }
}

const errorOf = (cause: Cause.Cause<StepFailed>): RegistryEntry.Story["error"] => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure)) return { tag: failure.value.reason._tag, message: failure.value.reason.message }
  return Cause.hasInterruptsOnly(cause)
    ? { tag: "Interrupted", message: "the deployment was interrupted" }
    : { tag: "Defect", message: describeCause(cause) }
}
