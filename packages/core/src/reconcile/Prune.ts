/**
 * Forgetting agents that ended: their output, prompts, task entries and rows.
 *
 * Only rows in a final state are touched, and only after the age that the caller gave. The files are removed first and
 * the row last: a prune that is killed half way leaves a row from which the next one continues. An agent whose files
 * can't be removed keeps its row and is named. Agents' output is kept whole until then, at any size.
 */
import { Context, DateTime, type Duration, Effect, Layer } from "effect"
import * as Path from "node:path"
import { type Agent, type AgentId, isFinal, subjectOf } from "../agent/Agent.ts"
import * as CleanupReport from "../agent/CleanupReport.ts"
import { durationOf, type InvalidRequest } from "../agent/InvalidRequest.ts"
import { Files } from "../machine/Files.ts"
import { Registry, type RegistryError } from "../registry/Registry.ts"
import { Resources } from "../resource/Resources.ts"
import * as Rollback from "../resource/Rollback.ts"

export interface PruneRequest {
  /** Agents that ended longer ago than this; seven days by default. */
  readonly olderThan?: Duration.Input | undefined
  /** Only report what would be forgotten. */
  readonly dryRun?: boolean | undefined
}

export interface Pruned {
  readonly agentId: AgentId
  readonly endedAt: DateTime.Utc
  /** What its files held. */
  readonly bytes: number
  /** Why it was kept; empty when it is forgotten, or would be. */
  readonly problems: ReadonlyArray<string>
}

export class Prune extends Context.Service<Prune, {
  readonly run: (request?: PruneRequest) => Effect.Effect<ReadonlyArray<Pruned>, InvalidRequest | RegistryError>
}>()("@slipway/core/Prune") {
  static readonly layer = Layer.effect(
    Prune,
    Effect.gen(function*() {
      const files = yield* Files
      const registry = yield* Registry
      const { kinds } = yield* Resources

      const bytesOf = (agent: Agent) =>
        files.list(agent.plan.directory).pipe(
          Effect.flatMap(Effect.forEach((name) => files.inspect(Path.join(agent.plan.directory, name)))),
          Effect.map((infos) => infos.reduce((sum, info) => sum + (info?.size ?? 0), 0)),
          Effect.orElseSucceed(() => 0)
        )

      const forget = Effect.fnUntraced(function*(agent: Agent, endedAt: DateTime.Utc, dryRun: boolean) {
        const bytes = yield* bytesOf(agent)
        if (dryRun) return { agentId: agent.id, endedAt, bytes, problems: [] }
        // What was rolled back has been released whole. Of any other, a program that knows all its kinds forgets it.
        const unknown = agent.state._tag === "rolled-back"
          ? []
          : Rollback.unknownOf(kinds, agent.plan.resources, "prune")
        if (unknown.length > 0) {
          const problem = `this program does not know ${
            unknown.join(", ")
          }; a program that provides it can forget the agent`
          return { agentId: agent.id, endedAt, bytes, problems: [problem] }
        }
        const report = yield* Rollback.releaseAll(kinds, agent.plan.resources, subjectOf(agent), {
          until: "prune",
          unknown: "pass"
        })
        const problems = CleanupReport.problems(report)
        // Without its row, no command would find what was left alone because it does not bear our mark.
        if (problems.length === 0) yield* registry.forget([agent.id])
        return { agentId: agent.id, endedAt, bytes, problems }
      })

      const run = Effect.fn("Prune.run")(function*(request: PruneRequest = {}) {
        const age = yield* durationOf("olderThan", request.olderThan ?? "7 days")
        const before = DateTime.subtractDuration(yield* DateTime.now, age)
        const old = (yield* registry.agents({})).flatMap((agent) =>
          isFinal(agent.state) && agent.endedAt !== null && DateTime.isLessThan(agent.endedAt, before)
            ? [{ agent, endedAt: agent.endedAt }]
            : []
        )
        return yield* Effect.forEach(old, ({ agent, endedAt }) => forget(agent, endedAt, request.dryRun ?? false))
      })

      return Prune.of({ run })
    })
  )
}
