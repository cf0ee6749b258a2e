/**
 * Reconciling: bringing an agent's row to what is true now, by the next command that reads it.
 *
 * `assess` changes nothing, and what it can't decide stays as it is. An end that it finds is claimed and carried out
 * (`Ending`). An ending that a living process carries out is left to that process: a stop may have given the agent time
 * to save its work. An agent that ended by itself does not take its children along: they have rows of their own and go on.
 */
import { Context, Effect, Layer } from "effect"
import type { Agent } from "../agent/Agent.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import type { Presence } from "../resource/Resource.ts"
import { Ending } from "./Ending.ts"
import { Observation } from "./Observation.ts"
import * as Verdict from "./Verdict.ts"

export class Reconciler extends Context.Service<Reconciler, {
  /** The verdict on a row; `presence` answers whether the agent's session or processes are there. */
  readonly assess: (agent: Agent, presence?: Effect.Effect<Presence>) => Effect.Effect<Verdict.Verdict>
  /** Brings one row to what is true now; answers with the row as it is then. */
  readonly reconcile: (agent: Agent) => Effect.Effect<Agent, RegistryError>
  /** Reconciles rows, eight at once; the answer keeps their order. */
  readonly reconcileAll: (agents: ReadonlyArray<Agent>) => Effect.Effect<ReadonlyArray<Agent>, RegistryError>
}>()("@slipway/core/reconcile/Reconciler") {
  static readonly layer = Layer.effect(
    Reconciler,
    Effect.gen(function*() {
      const ending = yield* Ending
      const observation = yield* Observation

      const assessBy = (
        agent: Agent,
        facts: Verdict.Facts,
        presence?: Effect.Effect<Presence>
      ): Effect.Effect<Verdict.Verdict> => {
        const verdict = Verdict.assess(agent, facts)
        return verdict._tag === "Ask"
          ? Effect.flatMap(
            observation.answer(agent, verdict.question, presence),
            (more) => assessBy(agent, { ...facts, ...more }, presence)
          )
          : Effect.succeed(verdict)
      }

      const assess = Effect.fn("Reconciler.assess")((agent: Agent, presence?: Effect.Effect<Presence>) =>
        Effect.flatMap(observation.here, (facts) => assessBy(agent, facts, presence))
      )

      const reconcile = Effect.fn("Reconciler.reconcile")(function*(
        agent: Agent
      ): Effect.fn.Return<Agent, RegistryError> {
        const found = yield* assess(agent)
        switch (found._tag) {
          case "Stands":
          case "Unknown":
            return agent
          case "Ended":
            return yield* ending.finish(yield* ending.claim(agent, found))
          case "Unfinished":
            return yield* ending.finish(agent)
        }
      })

      const reconcileAll = (agents: ReadonlyArray<Agent>) => Effect.forEach(agents, reconcile, { concurrency: 8 })

      return Reconciler.of({ assess, reconcile, reconcileAll })
    })
  )
}
