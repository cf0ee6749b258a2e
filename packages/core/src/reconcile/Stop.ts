/**
 * Stopping agents by request: an agent and its active descendants, children first, each proven to be gone.
 *
 * The whole family is claimed in one transaction, so that no agent of it deploys another in between. What never committed
 * is rolled back, whichever command ends it. What had ended by itself before is recorded so, and not as stopped.
 */
import { Context, DateTime, type Duration, Effect, Layer, Option } from "effect"
import { type Agent, type AgentId, beginEnding, type Final, type StoppedBy } from "../agent/Agent.ts"
import { Ledger } from "../registry/Ledger.ts"
import { AgentNotFound, type RegistryError } from "../registry/RegistryError.ts"
import { defaultGrace } from "../resource/AgentSession.ts"
import { Ending } from "./Ending.ts"
import { Reconciler } from "./Reconciler.ts"

export interface StopOptions {
  readonly reason: string
  readonly by?: StoppedBy | undefined
  /** How long each agent may take to end by itself. */
  readonly grace?: Duration.Duration | undefined
}

export class Stop extends Context.Service<Stop, {
  /**
   * Ends an agent and its active descendants, children first. It answers with their rows when everything was tried. A
   * row that is not final then is leaked, or its deployer still holds it.
   */
  readonly family: (
    id: AgentId,
    options: StopOptions
  ) => Effect.Effect<ReadonlyArray<Agent>, AgentNotFound | RegistryError>
}>()("@slipway/core/reconcile/Stop") {
  static readonly layer = Layer.effect(
    Stop,
    Effect.gen(function*() {
      const ledger = yield* Ledger
      const ending = yield* Ending
      const { reconcile } = yield* Reconciler

      // A deployer soon finds that its row was taken over, and rolls back.
      const awaitDeployer = Effect.fnUntraced(function*(agent: Agent) {
        let now = agent
        for (let look = 0; look < 100 && isHeldByDeployer(now); look++) {
          yield* Effect.sleep("50 millis")
          now = yield* ending.reread(now)
        }
        return now
      })

      const family = Effect.fn("Stop.family")(function*(id: AgentId, options: StopOptions) {
        const found = yield* ledger.agent(id)
        if (Option.isNone(found)) return yield* new AgentNotFound({ agentId: id })
        yield* reconcile(found.value)
        const at = yield* DateTime.now
        const grace = options.grace ?? defaultGrace
        const carrier = yield* ending.carrierFor(grace)
        const claimed = yield* ledger.transitionFamily(
          id,
          (agent) => beginEnding(agent, endOf(agent, id, options), { carrier }),
          { at, detail: options.reason }
        ).pipe(Effect.catchTag("TransitionRefused", () => Effect.map(ending.reread(found.value), (agent) => [agent])))
        const depths = [...new Set(claimed.map((agent) => agent.depth))].toSorted((a, b) => b - a)
        const ended: Array<Agent> = []
        for (const depth of depths) {
          const level = claimed.filter((agent) => agent.depth === depth)
          ended.push(...(yield* Effect.forEach(level, (agent) => ending.finish(agent, grace), { concurrency: 8 })))
        }
        return yield* Effect.forEach(ended, awaitDeployer, { concurrency: "unbounded" })
      })

      return Stop.of({ family })
    })
  )
}

const isHeldByDeployer = (agent: Agent): boolean =>
  agent.state._tag === "ending" && agent.lease !== null && agent.state.left === null

const endOf = (agent: Agent, root: AgentId, options: StopOptions): Final => {
  const isRoot = agent.id === root
  const reason = isRoot ? options.reason : `its ancestor ${root} was stopped: ${options.reason}`
  return agent.state._tag === "deploying"
    ? { _tag: "rolled-back", step: "deployment", error: { tag: "Stopped", message: reason } }
    : { _tag: "stopped", reason, by: isRoot ? options.by ?? "request" : "ancestor" }
}
