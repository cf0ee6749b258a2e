/**
 * Carries out one item of a reap's plan.
 *
 * The row is read again first, and `ReapStep` decides by it. Then the functions act that a stop and a reconciliation use,
 * and assess again themselves. Interrupted or killed at any moment, the next reap goes on from there; two at once do no
 * harm. Fails only where the registry can't be used.
 */
import { Context, Effect, Layer, Option, Schema } from "effect"
import * as Path from "node:path"
import { type Agent, AgentId, sessionName, status, subjectOf } from "../agent/Agent.ts"
import * as Document from "../agent/Document.ts"
import * as Plan from "../agent/Plan.ts"
import { Home } from "../home/Home.ts"
import { Files } from "../machine/Files.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { Resources } from "../resource/Resources.ts"
import * as Rollback from "../resource/Rollback.ts"
import { TaskEntry } from "../resource/TaskEntry.ts"
import { Ending } from "./Ending.ts"
import type { Item, Reaped } from "./ReapPlan.ts"
import { reconciled, released, skipped, stepFor, tried } from "./ReapStep.ts"
import { Reconciler } from "./Reconciler.ts"
import { type Named, Sightings } from "./Sightings.ts"

export class Reaping extends Context.Service<Reaping, {
  /** Acts on an item as far as it still holds; `strays` are the ids of strays that the caller wants removed. */
  readonly act: (item: Item, strays: ReadonlySet<string>) => Effect.Effect<Reaped, RegistryError>
}>()("@slipway/core/reconcile/Reaping") {
  static readonly layer = Layer.effect(Reaping, Effect.suspend(() => make))
}

const isAgentId = Schema.is(AgentId)

const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const ledger = yield* Ledger
  const ending = yield* Ending
  const entry = yield* TaskEntry
  const { reconcile } = yield* Reconciler
  const { kinds } = yield* Resources
  const sightings = yield* Sightings

  const rowOf = ({ subject }: Item) =>
    Effect.map(isAgentId(subject) ? ledger.agent(subject) : Effect.succeedNone, Option.getOrUndefined)

  /** A plan as the deployment would have made it, with every entry that has the agent's name. */
  const planOf = (agentId: AgentId, entries: ReadonlyArray<Named>): ReadonlyArray<Plan.Planned> => {
    const places = {
      directory: home.agentDirectory(agentId),
      socket: home.socket,
      session: sessionName(agentId),
      workspace: "",
      entry: ""
    }
    return [
      ...Plan.make(home.id, places).resources.filter(({ kind }) => kind !== Plan.houseKinds.entry),
      ...entries.filter(({ id }) => id === agentId).map(({ path }) => ({
        kind: Plan.houseKinds.entry,
        reference: { workspace: Path.dirname(Path.dirname(path)), entry: path }
      }))
    ]
  }

  const removeStray = Effect.fnUntraced(function*(item: Item) {
    const agentId = item.subject
    if (!isAgentId(agentId)) return skipped(item, null, "it does not bear an agent's id; remove it by hand")
    const resources = planOf(agentId, yield* sightings.entries(yield* ledger.tasks))
    const subject = { homeId: home.id, agentId, host: null, launcher: null, since: null }
    const { releases } = yield* Rollback.releaseAll(kinds, resources, subject, { until: "rollback", unknown: "name" })
    return released(item, null, releases)
  })

  const removeDraft = Effect.fnUntraced(function*(item: Item) {
    // Nothing but a draft is removed, whatever path the plan names.
    const isThere = (yield* sightings.drafts(yield* ledger.tasks)).includes(item.subject)
    if (!isThere) return skipped(item, null)
    const removed = yield* Effect.result(files.removeFile(item.subject))
    return tried(item, null, removed._tag === "Success" ? undefined : removed.failure.message)
  })

  /** Writes the entry until the row has not changed meanwhile: no command rewrites the entry of a final row. */
  const rewrite = Effect.fnUntraced(function*(agent: Agent) {
    for (let shown: Agent | undefined = agent; shown !== undefined;) {
      const written: Agent = shown
      yield* entry.make(written.plan, written, subjectOf(written))
      const now = Option.getOrUndefined(yield* ledger.agent(written.id))
      shown = now === undefined || Document.entryText(now) === Document.entryText(written) ? undefined : now
    }
  })

  const act = Effect.fnUntraced(
    function*(item: Item, strays: ReadonlySet<string>): Effect.fn.Return<Reaped, RegistryError> {
      const agent = yield* rowOf(item)
      const step = stepFor(item, agent, strays)
      switch (step._tag) {
        case "Skip":
          return skipped(item, agent === undefined ? null : status(agent), step.problem)
        case "RemoveStray":
          return yield* removeStray(item)
        case "RemoveDraft":
          return yield* removeDraft(item)
        case "Reconcile":
          return reconciled(item, yield* reconcile(step.agent))
        case "Release": {
          const { releases } = yield* ending.releaseLeft(step.agent)
          return released(item, status(step.agent), releases)
        }
        case "Rewrite": {
          const written = yield* Effect.result(rewrite(step.agent))
          return tried(item, status(step.agent), written._tag === "Success" ? undefined : written.failure.message)
        }
      }
    }
  )

  return Reaping.of({ act })
})
