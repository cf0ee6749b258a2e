/**
 * Callers under the key of a deployment in flight share its outcome.
 */
import { Context, Duration, Effect, Layer, Option, Schedule } from "effect"
import * as Agent from "../agent/Agent.ts"
import { othersOf, worktreeOf } from "../agent/Plan.ts"
import { Reconciler } from "../reconcile/Reconciler.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { makeLimit } from "../resource/worktree/Making.ts"
import { SharedDeploymentFailed, StepTimedOut } from "./DeployError.ts"

export class SharedKey extends Context.Service<SharedKey, {
  /**
   * Waits, at most so many steps beside the agent's own time to come up and its own resources, until the deployment has committed or failed. None
   * where its deployer has ended and it is undone: the key is free again.
   */
  readonly outcomeOf: (
    first: Agent.Agent,
    steps: number,
    stepLimit: Duration.Duration
  ) => Effect.Effect<Option.Option<Agent.Agent>, RegistryError | SharedDeploymentFailed | StepTimedOut>
}>()("@slipway/core/deployment/SharedKey") {
  static readonly layer = Layer.effect(
    SharedKey,
    Effect.gen(function*() {
      const ledger = yield* Ledger
      const { reconcile } = yield* Reconciler

      const outcomeOf = Effect.fn("SharedKey.outcomeOf")(function*(
        first: Agent.Agent,
        steps: number,
        stepLimit: Duration.Duration
      ): Effect.fn.Return<
        Option.Option<Agent.Agent>,
        RegistryError | SharedDeploymentFailed | StepTimedOut
      > {
        const look = Effect.gen(function*() {
          const row = Option.getOrElse(yield* ledger.agent(first.id), () => first)
          return row.state._tag === "deploying" || row.state._tag === "ending" ? yield* reconcile(row) : row
        })
        const now = yield* look
        if (now.state._tag === "rolled-back" && now.state.error.tag === "DeployerGone") return Option.none()
        const stepsPatience = Duration.times(stepLimit, steps + othersOf(first.plan).length)
        const patience = worktreeOf(first.plan) === null ? stepsPatience : Duration.sum(stepsPatience, makeLimit)
        const limit = Duration.sum(patience, Duration.millis(first.readiness.withinMillis))
        const row = yield* look.pipe(
          Effect.repeat({ until: isOver, schedule: Schedule.spaced("50 millis") }),
          Effect.timeoutOrElse({
            duration: limit,
            orElse: () => Effect.fail(new StepTimedOut({ step: "admission", millis: Duration.toMillis(limit) }))
          })
        )
        const end = row.state._tag === "ending" ? row.state.as : row.state
        if (end._tag === "rolled-back") {
          const problem = `failed at ${end.step}: ${end.error.message}`
          return yield* new SharedDeploymentFailed({ agentId: row.id, problem })
        }
        return Option.some(row)
      })

      return SharedKey.of({ outcomeOf })
    })
  )
}

const isOver = (agent: Agent.Agent): boolean =>
  agent.state._tag !== "deploying" &&
  (!(agent.state._tag === "ending" && agent.state.as._tag === "rolled-back") || Agent.isLeaked(agent))
