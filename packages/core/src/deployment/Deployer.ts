/**
 * Deploying: decode the request, check the machine, and try the transaction (`Attempt`), under a key if there is one.
 *
 * A try that a limit refuses is made once more after the rows that the limit counted were reconciled: one that ended unseen
 * would hold its slot for nothing. A call under a key that another deployment has shares that one's outcome; where its
 * deployer has died, this call is the retry.
 */
import { Context, Effect, Layer, Option, Scope } from "effect"
import type * as Agent from "../agent/Agent.ts"
import { Host } from "../machine/Host.ts"
import { Reconciler } from "../reconcile/Reconciler.ts"
import { Stop } from "../reconcile/Stop.ts"
import { type AdmissionRefused, AdmissionRefused as AdmissionRefusedSchema, counted } from "../registry/Admission.ts"
import { Ledger } from "../registry/Ledger.ts"
import { describeCause } from "../resource/Resource.ts"
import { Attempt, type AttemptOptions, type Deployment, early, type Observer, stepsBeside, tell } from "./Attempt.ts"
import type { DeployError, Reason } from "./DeployError.ts"
import { decode, type DeployInput } from "./DeployRequest.ts"
import { Preparation, type Prepared } from "./Preparation.ts"
import { SharedKey } from "./SharedKey.ts"

export type { Deployment, Observer } from "./Attempt.ts"

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
  static readonly layer = (options: AttemptOptions = {}) =>
    Layer.effect(Deployer, make).pipe(Layer.provide([Attempt.layer(options), SharedKey.layer]))
}

const make = Effect.gen(function*() {
  const attempt = yield* Attempt
  const host = yield* Host
  const preparation = yield* Preparation
  const ledger = yield* Ledger
  const { reconcileAll } = yield* Reconciler
  const stops = yield* Stop
  const shared = yield* SharedKey

  /** The active rows that a refusal counted: one that ended unseen would hold its slot for nothing. */
  const reconcileCounted = Effect.fnUntraced(function*(refused: AdmissionRefused) {
    const rows = counted(refused)
    switch (rows._tag) {
      case "None":
        return false
      case "Agent": {
        const row = yield* ledger.agent(rows.id)
        yield* reconcileAll(Option.toArray(row))
        return true
      }
      case "Task":
      case "Home": {
        const filter = { activeOnly: true, ...(rows._tag === "Task" ? { taskId: rows.id } : {}) }
        yield* reconcileAll(yield* ledger.agents(filter))
        return true
      }
    }
  })

  const reconcileRefusal = (error: DeployError): Effect.Effect<boolean, DeployError> =>
    isRefusal(error.reason)
      ? Effect.mapError(reconcileCounted(error.reason), (reason) => early("admission", reason))
      : Effect.succeed(false)

  const attemptTwice = (prepared: Prepared, observer: Observer) =>
    attempt.run(prepared, observer).pipe(
      Effect.catchIf(
        (error) => isRefusal(error.reason),
        (error) =>
          Effect.flatMap(
            reconcileRefusal(error),
            (reconciled) => reconciled ? attempt.run(prepared, observer) : Effect.fail(error)
          )
      )
    )

  const awaitShared = (first: Agent.Agent) =>
    Effect.mapError(shared.outcomeOf(first, stepsBeside, attempt.stepLimit), (reason) => early("admission", reason))

  const run = Effect.fnUntraced(function*(input: DeployInput, observer: Observer, owner: Agent.Agent["owner"]) {
    const request = yield* Effect.mapError(decode(input), (reason) => early("request", reason))
    yield* tell(observer.onStep?.("preflight"))
    const prepared = yield* attempt.at("preflight", preparation.prepare(request, owner)).pipe(
      Effect.mapError(({ reason }) => early(isRefusal(reason) ? "admission" : "preflight", reason))
    )
    let deployment = yield* attemptTwice(prepared, observer)
    if (!deployment.reused) return deployment
    let other = yield* awaitShared(deployment.agent)
    if (Option.isNone(other)) {
      // The deployment under this key died with its deployer, and the key is free again: this call is the retry.
      deployment = yield* attemptTwice(prepared, observer)
      if (!deployment.reused) return deployment
      other = yield* awaitShared(deployment.agent)
    }
    const reused: Deployment = { agent: Option.getOrElse(other, () => deployment.agent), reused: true }
    yield* tell(observer.onCommitted?.(reused))
    return reused
  })

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
            stops.family(agent.id, { reason: "the scope that it belongs to was closed", by: "scope" }),
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
