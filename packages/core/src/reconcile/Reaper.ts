/**
 * The reaper: finds where the registry, tmux, the process table and the files do not agree, and cleans it up.
 *
 * `plan` looks once at each of them (`Sightings`), decides what is wrong (`Verdict`, `ReapItems`), and changes nothing.
 * Each item has its verdict, the evidence for it and the action. `apply` decides anew for every item at the moment of
 * acting (`ReapStep`) and acts by the functions that a stop and a reconciliation use (`Reaping`). So an old plan kills
 * nothing that lives. A reap that was interrupted or killed is simply run again, and two at once do no harm.
 *
 * What is unknown is reported and left. What bears another home's id, or none, is never in a plan. A stray bears our
 * home's id and has no row (a restored or copied registry). It is only touched when a caller names its id.
 */
import { Context, DateTime, Effect, Layer, Option } from "effect"
import type { Agent } from "../agent/Agent.ts"
import { Home } from "../home/Home.ts"
import { Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { isCurrent } from "../resource/TaskEntry.ts"
import { Reaping } from "./Reaping.ts"
import * as ReapItems from "./ReapItems.ts"
import { type Item, itemsWithin, type Reaped, type ReapOptions, type ReapPlan } from "./ReapPlan.ts"
import { Reconciler } from "./Reconciler.ts"
import { type Live, presenceOf, Sightings } from "./Sightings.ts"

export type { Reaped, ReapOptions, ReapPlan } from "./ReapPlan.ts"

export class Reaper extends Context.Service<Reaper, {
  /** Makes a plan, and changes nothing. */
  readonly plan: Effect.Effect<ReapPlan, RegistryError>
  /** Acts on a plan; never fails because of one item. */
  readonly apply: (plan: ReapPlan, options?: ReapOptions) => Effect.Effect<ReadonlyArray<Reaped>, RegistryError>
}>()("@slipway/core/Reaper") {
  static readonly layerNoDeps = Layer.effect(Reaper, Effect.suspend(() => make))
  static readonly layer = Reaper.layerNoDeps.pipe(Layer.provide(Reaping.layer), Layer.provide(Sightings.layer))
}

const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const ledger = yield* Ledger
  const { assess } = yield* Reconciler
  const { act } = yield* Reaping
  const sightings = yield* Sightings

  const planActive = Effect.fnUntraced(
    function*(agent: Agent, live: Live): Effect.fn.Return<Item | undefined, RegistryError> {
      const presence = Effect.sync(() => presenceOf(agent, host.identity, live))
      const item = ReapItems.ofVerdict(agent, yield* assess(agent, presence))
      if (item !== undefined) {
        // A deployer that committed and exited since its row was read is dead, and its agent is well.
        const now = Option.getOrUndefined(yield* ledger.agent(agent.id))
        if (now === undefined || now.state._tag === agent.state._tag) return item
        return ReapItems.ofVerdict(now, yield* assess(now))
      }
      const gone = ReapItems.ofSession(agent, live)
      if (gone !== undefined || agent.state._tag !== "running") return gone
      return (yield* isCurrent(files, agent)) ? undefined : ReapItems.staleEntry(agent)
    }
  )

  const plan = Effect.gen(function*() {
    const active = yield* ledger.agents({ activeOnly: true })
    const live = yield* sightings.live(active)
    const found = yield* Effect.forEach(active, (agent) => planActive(agent, live), { concurrency: 8 })
    const items = found.filter((item) => item !== undefined)
    const rest = ReapItems.ofRemains({ homeId: home.id, socket: home.socket }, live, yield* sightings.remains)
    const made: ReapPlan = { homeId: home.id, at: yield* DateTime.now, items: [...items, ...rest] }
    return made
  }).pipe(Effect.withSpan("Reaper.plan"))

  const apply = Effect.fn("Reaper.apply")((plan: ReapPlan, { strays = [], within }: ReapOptions = {}) =>
    Effect.forEach(itemsWithin(plan, within), (item) => act(item, new Set(strays)), { concurrency: 8 })
  )

  return Reaper.of({ plan, apply })
})
