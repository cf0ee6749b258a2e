/**
 * Carrying out the end of an agent: the claim, the walk over its plan, and the record of what the walk left.
 *
 * An end is first claimed in the registry (`ending`, the durable intent) with the name of the process that carries it
 * out. Only then does the walk release what is due: all of a deployment that never committed, and of any other what ends
 * with the agent. What could not be released stays in the row, and the next reconciliation tries it again. Two at once
 * do no harm: the claim is decided once, and releases may be run any number of times.
 */
import { Context, DateTime, Deferred, Duration, Effect, Exit, Layer, Option, Result } from "effect"
import {
  type Agent,
  type AgentId,
  beginEnding,
  type Carrier,
  finishEnding,
  hasCommitted,
  isFinal,
  status,
  subjectOf
} from "../agent/Agent.ts"
import * as CleanupReport from "../agent/CleanupReport.ts"
import { houseKinds, type Until } from "../agent/Plan.ts"
import { type ReleaseRecord } from "../agent/Release.ts"
import { Host } from "../machine/Host.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { defaultGrace } from "../resource/AgentSession.ts"
import { Resources } from "../resource/Resources.ts"
import * as Rollback from "../resource/Rollback.ts"
import { TaskEntry } from "../resource/TaskEntry.ts"
import { Observation } from "./Observation.ts"
import type { Verdict } from "./Verdict.ts"

/** The time for all releases of an ending beside the grace, and how many generations of agents it may wait for. */
const releasesLimit = Duration.seconds(60)
const generations = 5

export class Ending extends Context.Service<Ending, {
  /** This process as the one that carries endings out, for as long as a family with this grace may take. */
  readonly carrierFor: (grace: Duration.Duration) => Effect.Effect<Carrier>
  /** Claims an end that was found; answers with the row as it is then, also when another process was first. */
  readonly claim: (agent: Agent, found: Verdict & { readonly _tag: "Ended" }) => Effect.Effect<Agent, RegistryError>
  /**
   * Carries out an ending that has been claimed, and answers with the row after it. All fibers that see an end at the same
   * moment share the releases of the first.
   */
  readonly finish: (agent: Agent, grace?: Duration.Duration) => Effect.Effect<Agent, RegistryError>
  /** Releases what may be left of an agent whose row is final; the row stays as it is. */
  readonly releaseLeft: (agent: Agent) => Effect.Effect<CleanupReport.CleanupReport>
  /** The row as the registry has it now. */
  readonly reread: (agent: Agent) => Effect.Effect<Agent, RegistryError>
}>()("@slipway/core/reconcile/Ending") {
  static readonly layer = Layer.effect(Ending, Effect.suspend(() => make))
}

/** What is due at the end of an agent: everything of a deployment that never committed. */
const dueAt = (agent: Agent): Until => {
  const end = agent.state._tag === "ending" ? agent.state.as : agent.state
  return end._tag === "rolled-back" ? "rollback" : "end"
}

const make = Effect.gen(function*() {
  const host = yield* Host
  const ledger = yield* Ledger
  const observation = yield* Observation
  const entry = yield* TaskEntry
  const { kinds } = yield* Resources

  const carrierFor = (grace: Duration.Duration) =>
    Effect.map(host.bootClock, (now): Carrier => ({
      host: host.identity,
      holder: host.self,
      until: now + generations * Duration.toSeconds(grace) + Duration.toSeconds(releasesLimit)
    }))

  const reread = (agent: Agent) => Effect.map(ledger.agent(agent.id), Option.getOrElse(() => agent))

  const claim = Effect.fnUntraced(function*(agent: Agent, found: Verdict & { readonly _tag: "Ended" }) {
    const at = yield* DateTime.now
    const carrier = yield* carrierFor(defaultGrace)
    const { as, expected } = found
    const endedAt = found.endedAt ?? (as._tag === "lost" ? at : undefined)
    return yield* ledger.transition(agent.id, (row) => beginEnding(row, as, { expected, carrier, endedAt }), {
      at,
      detail: found.evidence
    }).pipe(
      // Another process was first: its row is the answer.
      Effect.catchTag("TransitionRefused", () => reread(agent)),
      Effect.catchTag("AgentNotFound", () => Effect.succeed(agent))
    )
  })

  const walk = (
    agent: Agent,
    grace?: Duration.Duration,
    onRelease?: (record: ReleaseRecord) => Effect.Effect<void>
  ) =>
    Rollback.releaseAll(kinds, agent.plan.resources, subjectOf(agent, grace), {
      until: dueAt(agent),
      // A row is only final when all was released.
      unknown: isFinal(agent.state) ? "pass" : "name",
      before: agent.state._tag === "ending" ? agent.state.left ?? [] : [],
      onRelease
    }).pipe(Effect.annotateLogs({ agent: agent.id }))

  // The entry is a projection: a write that fails is made good by the next reconciliation of this row.
  const project = (agent: Agent) =>
    hasCommitted(agent)
      ? Effect.catch(
        entry.make(agent.plan, agent, subjectOf(agent)),
        (error) => Effect.logWarning(error.message)
      )
      : Effect.void

  const carryOut = Effect.fn("Ending.finish")(function*(agent: Agent, grace?: Duration.Duration) {
    if (agent.state._tag !== "ending") return agent
    const rolledBack = dueAt(agent) === "rollback"
    const deployer = yield* observation.deployerOf(agent)
    let [kept, told]: [Agent["tail"], Agent["summary"]] = [null, null]
    // The last words are complete when no process can add to them, and have to be read before the files go.
    const report = yield* walk(agent, grace, (record) =>
      Effect.gen(function*() {
        if (record.resource !== houseKinds.session) return
        kept = yield* observation.tails(agent)
        told = yield* observation.summary(agent)
      }))
    const left = CleanupReport.leftovers(report)
    const at = yield* DateTime.now
    const facts = { left, deployer, at, tail: agent.tail ?? kept, summary: agent.summary ?? told } as const
    // Before the row: if this process is killed in between, the next reconciliation of the row writes the entry again.
    const wanted = Result.getOrElse(finishEnding(agent, facts), () => agent)
    if (!rolledBack) yield* project(wanted)
    const detail = left.length > 0
      ? CleanupReport.problems(report).join("; ")
      : deployer === "gone"
      ? "released"
      : "released; its deployer may still be at work"
    const stored = yield* ledger.transition(agent.id, (row) => finishEnding(row, facts), {
      at,
      detail,
      releases: report.releases
    }).pipe(
      Effect.catchTag(["AgentNotFound", "TransitionRefused"], () => Effect.succeed(agent))
    )
    // Another process may have finished first. Then its row is the truth, and no command ends a final row again.
    const isOurs = stored === agent || (status(stored) === status(wanted) &&
      stored.endedAt?.epochMilliseconds === wanted.endedAt?.epochMilliseconds)
    if (!rolledBack && !isOurs) yield* project(stored)
    return stored
  })

  const underway = new Map<AgentId, Deferred.Deferred<Option.Option<Agent>, RegistryError>>()

  // Several at once for one agent would delay each other; on a busy machine none would be done in time, again and again.
  const finish = (agent: Agent, grace?: Duration.Duration): Effect.Effect<Agent, RegistryError> =>
    Effect.uninterruptibleMask((restore) => {
      const other = underway.get(agent.id)
      if (other !== undefined) {
        return Effect.flatMap(restore(Deferred.await(other)), (answer) =>
          Option.isSome(answer)
            ? Effect.succeed(answer.value)
            // The fiber that carried it out was interrupted.
            : Effect.flatMap(reread(agent), (now) => restore(finish(now, grace))))
      }
      const own = Deferred.makeUnsafe<Option.Option<Agent>, RegistryError>()
      underway.set(agent.id, own)
      return Effect.onExit(restore(carryOut(agent, grace)), (exit) => {
        underway.delete(agent.id)
        return Exit.hasInterrupts(exit)
          ? Deferred.succeed(own, Option.none())
          : Deferred.done(own, Exit.map(exit, Option.some))
      })
    })

  return Ending.of({
    carrierFor,
    claim,
    finish,
    reread,
    releaseLeft: Effect.fn("Ending.releaseLeft")((agent: Agent) => walk(agent))
  })
})
