/**
 * One try of the transaction that brings an agent up: it commits whole, or leaves nothing behind.
 *
 * The plan is claimed in a scope before the admission stores it. From then on whatever ends the deployment early (a typed
 * failure, a defect, a time-out, an interruption) closes that scope, whose one finalizer calls `Rollback.releaseAll` and
 * then records the failure. A killed deployer leaves the plan in the registry, and the next command that reads the row
 * calls the same walk.
 *
 * While the deployment waits, an interruption is answered at once; elsewhere, after at most the running system call or
 * tmux call. The releases then run uninterruptibly. The commit itself is not interruptible. An interruption that comes
 * with it or later finds a committed agent, and `observer.onCommitted` has been called inside the uninterruptible
 * region.
 */
import { Cause, Context, DateTime, Duration, Effect, Exit, Layer, Option, Scope } from "effect"
import * as Agent from "../agent/Agent.ts"
import * as CleanupReport from "../agent/CleanupReport.ts"
import * as Manifest from "../agent/Manifest.ts"
import { rowKind } from "../agent/Plan.ts"
import { Home } from "../home/Home.ts"
import { Observation } from "../reconcile/Observation.ts"
import { Reconciler } from "../reconcile/Reconciler.ts"
import { Ledger } from "../registry/Ledger.ts"
import { AgentDirectory } from "../resource/AgentDirectory.ts"
import { AgentSession } from "../resource/AgentSession.ts"
import { describeCause } from "../resource/Resource.ts"
import { Resources } from "../resource/Resources.ts"
import * as Rollback from "../resource/Rollback.ts"
import { TaskEntry } from "../resource/TaskEntry.ts"
import { DeployError, DeploymentEnded, type Reason, type Step, StepTimedOut } from "./DeployError.ts"
import * as Failure from "./Failure.ts"
import { type Candidate, Preparation, type Prepared } from "./Preparation.ts"
import * as Readiness from "./Readiness.ts"

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

/** The time that reconciling an agent that has already ended may take. */
const reconcileLimit = Duration.seconds(10)

/** The steps that a lease has to last for, the wait for the agent apart. */
export const stepsBeside = 6

/** What failed, and where. */
export interface StepFailed {
  readonly _tag: "StepFailed"
  readonly step: Step
  readonly reason: Reason
}

export interface AttemptOptions {
  /** How long one step may take, the wait for the agent apart; 20 seconds by default. */
  readonly stepLimit?: Duration.Input | undefined
}

export class Attempt extends Context.Service<Attempt, {
  readonly stepLimit: Duration.Duration
  /** Runs a step under its limit, and names it in its failure. */
  readonly at: <A, R>(
    step: Step,
    effect: Effect.Effect<A, Reason, R>,
    limit?: Duration.Duration
  ) => Effect.Effect<A, StepFailed, R>
  /** One try of the transaction; when it fails, everything that it made has been removed, or is named in the error. */
  readonly run: (prepared: Prepared, observer: Observer) => Effect.Effect<Deployment, DeployError>
}>()("@slipway/core/deployment/Attempt") {
  static readonly layer = (options: AttemptOptions = {}) => Layer.effect(Attempt, make(options))
}

const make = Effect.fnUntraced(function*(options: AttemptOptions) {
  const stepLimit = Duration.fromInputUnsafe(options.stepLimit ?? "20 seconds")
  const home = yield* Home
  const preparation = yield* Preparation
  const ledger = yield* Ledger
  const observation = yield* Observation
  const { reconcile } = yield* Reconciler
  const directory = yield* AgentDirectory
  const session = yield* AgentSession
  const entry = yield* TaskEntry
  const { kinds } = yield* Resources
  const waitUntilUp = yield* Readiness.make

  const at = <A, R>(step: Step, effect: Effect.Effect<A, Reason, R>, limit = stepLimit) =>
    effect.pipe(
      Effect.timeoutOrElse({
        duration: limit,
        orElse: () => Effect.fail(new StepTimedOut({ step, millis: Duration.toMillis(limit) }))
      }),
      Effect.mapError((reason): StepFailed => ({ _tag: "StepFailed", step, reason })),
      Effect.withSpan(`deploy.${step}`, undefined, { captureStackTrace: false })
    )

  /** The steps from the admission to the last before the commit; each thing is claimed before it is made. */
  const steps = Effect.fnUntraced(function*(
    prepared: Prepared,
    { agent: candidate, resources }: Candidate,
    making: Rollback.Making,
    begin: (step: Step) => Effect.Effect<void>,
    onAdmitted: Effect.Effect<void>
  ) {
    const { request } = prepared
    const { id: agentId, plan, token } = candidate
    const subject = Agent.subjectOf(candidate)
    const markers = { SLIPWAY_TASK_ID: candidate.taskId }

    yield* begin("admission")
    const admission = { allowDuplicate: request.allowDuplicate ?? false, homeLimit: home.limit }
    const decision = yield* at("admission", making.make(rowKind, ledger.admit(candidate, admission)))
    if (decision._tag === "Existing") return decision
    yield* onAdmitted
    const agent = { ...candidate, depth: decision.depth }

    yield* begin("agent-directory")
    const variables = Object.fromEntries(resources.flatMap(({ environment }) => Object.entries(environment)))
    const content = {
      prompt: request.prompt,
      ...prepared.launcher(agent, variables),
      manifest: Manifest.text(agent),
      isMerged: request.stderr === "merged"
    }
    yield* at("agent-directory", making.make(directory.kind, directory.make(plan, content, subject)))

    if (resources.length > 0) yield* begin("resources")
    for (const own of resources) {
      const made = making.make(own.planned.kind, own.make(subject))
      yield* at("resources", Effect.raceFirst(made, takenOver(agentId)), own.limit)
    }

    yield* begin("session")
    yield* at("session", stillOurs(agentId))
    const running = yield* at("session", making.make(session.kind, session.make(plan, markers, subject)))
    yield* at("session", prepared.placed.confirm(running.serverPid))

    yield* begin("readiness")
    const patience = Duration.sum(Duration.millis(agent.readiness.withinMillis), stepLimit)
    const exitRecord = yield* at(
      "readiness",
      Effect.raceFirst(
        waitUntilUp(plan.directory, running, agent),
        takenOver(agentId)
      ),
      patience
    )

    yield* begin("task-entry")
    const facts: Agent.CommitFacts = { token, running, startedAt: yield* DateTime.now }
    // The entry shows the row as the commit will leave it.
    const shown = yield* at("task-entry", Effect.fromResult(Agent.commit(agent, facts)))
    yield* at("task-entry", making.make(entry.kind, entry.make(plan, shown, subject)))

    yield* begin("commit")
    return { _tag: "Made", facts, isThrough: Option.isSome(exitRecord) } as const
  })

  const commit = Effect.fnUntraced(function*(agentId: Agent.AgentId, facts: Agent.CommitFacts) {
    const event = { at: facts.startedAt, detail: "committed" }
    return yield* at("commit", ledger.transition(agentId, (row) => Agent.commit(row, facts), event)).pipe(
      Effect.catchCause((cause) =>
        Effect.flatMap(
          committed(agentId, facts.token),
          Option.match({ onNone: () => Effect.failCause(cause), onSome: Effect.succeed })
        )
      )
    )
  })

  /** Releases what the deployment made, by the walk that every end calls, and records how it failed. */
  const rollBack = Effect.fnUntraced(function*(
    candidate: Agent.Agent,
    failed: { readonly step: Step; readonly error: Failure.Failure["error"] },
    admitted: boolean,
    progress: Rollback.Making["progress"]
  ) {
    const { id: agentId, plan, token } = candidate
    const tail = yield* observation.tails(candidate)
    const report = yield* Rollback.releaseAll(kinds, plan.resources, Agent.subjectOf(candidate), {
      until: "rollback",
      unknown: "name",
      progress
    })
    const left = CleanupReport.leftovers(report)
    const failure = { ...failed, agentId, token, left, releases: report.releases, tail }
    const recorded = yield* Failure.record(ledger, failure, admitted)
    if (CleanupReport.leftovers({ releases: [recorded] }).length > 0) yield* observation.abandon(token)
    return CleanupReport.add(report, recorded)
  })

  const run = Effect.fnUntraced(function*(prepared: Prepared, observer: Observer) {
    const candidate = yield* at(
      "preflight",
      preparation.candidate(prepared, stepsBeside, stepLimit)
    ).pipe(Effect.mapError(({ reason, step }) => early(step, reason)))
    const { id: agentId } = candidate.agent
    let reached: Step = "admission"
    let cause: Cause.Cause<StepFailed> = Cause.empty
    let report = CleanupReport.empty
    let admitted = false
    const begin = (step: Step) =>
      Effect.suspend(() => {
        reached = step
        return tell(observer.onStep?.(step))
      })

    return yield* Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        const scope = yield* Scope.make()
        const making = yield* Scope.provide(
          Rollback.claim((progress) =>
            Effect.gen(function*() {
              report = yield* rollBack(candidate.agent, { step: reached, error: errorOf(cause) }, admitted, progress)
            })
          ),
          scope
        )
        const exit = yield* Effect.exit(Effect.gen(function*() {
          const made = yield* restore(
            steps(prepared, candidate, making, begin, Effect.sync(() => void (admitted = true)))
          )
          if (made._tag === "Existing") return { agent: made.agent, reused: true, isThrough: false }
          return { agent: yield* commit(agentId, made.facts), reused: false, isThrough: made.isThrough }
        }))
        if (Exit.isSuccess(exit)) {
          yield* Scope.close(scope, exit)
          const { agent, isThrough, reused } = exit.value
          if (reused) return { agent, reused }
          yield* tell(observer.onCommitted?.({ agent, reused }))
          return { agent: isThrough ? yield* reconcileQuickly(agent) : agent, reused }
        }
        cause = yield* explained(agentId, exit.cause)
        yield* Scope.close(scope, exit)
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
    Effect.map(Effect.option(Effect.timeout(ledger.agent(agentId), lookLimit)), Option.flatten)

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

  /** Fails as soon as another caller has ended this deployment, and never ends otherwise. */
  const takenOver = (agentId: Agent.AgentId): Effect.Effect<never, DeploymentEnded> =>
    Effect.forever(Effect.delay(stillOurs(agentId), takeoverInterval))

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

  // An agent that has already ended is reconciled at once; if that can't be done now, the next command that reads it does
  // it. It has committed, so nothing here may turn the deployment into a failure.
  const reconcileQuickly = (agent: Agent.Agent) =>
    reconcile(agent).pipe(
      Effect.timeout(reconcileLimit),
      Effect.catchCause((cause) =>
        Effect.as(Effect.logWarning(`could not reconcile ${agent.id}: ${describeCause(cause)}`), agent)
      )
    )

  return Attempt.of({ stepLimit, at, run })
})

/** How long the registry may take to say whether a deployment goes on; it is asked where no step's limit holds, too. */
const lookLimit = Duration.seconds(5)

/** How often a deployment that waits for its agent checks whether another caller ended it. */
const takeoverInterval = Duration.millis(100)

/** The failure of a deployment before anything of it was made. */
export const early = (step: Step, reason: Reason): DeployError =>
  new DeployError({ step, reason, agentId: null, cleanup: CleanupReport.empty })

/** Calls an observer; a defect in it is logged, and changes nothing. */
export const tell = (told: Effect.Effect<void> | undefined): Effect.Effect<void> =>
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

const errorOf = (cause: Cause.Cause<StepFailed>): Failure.Failure["error"] => {
  const failure = Cause.findErrorOption(cause)
  if (Option.isSome(failure)) return { tag: failure.value.reason._tag, message: failure.value.reason.message }
  return Cause.hasInterruptsOnly(cause)
    ? { tag: "Interrupted", message: "the deployment was interrupted" }
    : { tag: "Defect", message: describeCause(cause) }
}
