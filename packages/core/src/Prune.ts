/**
 * Forgetting agents that ended: their output, prompts, task entries and rows.
 *
 * Only rows in a final state are touched, and only after the age that the caller gave. The files are removed first and
 * the row last: a prune that is killed half way leaves a row from which the next one continues. An agent whose files
 * can't be removed keeps its row and is named. Agents' output is kept whole until then, at any size.
 */
import { Context, DateTime, Duration, Effect, Layer } from "effect"
import * as Path from "node:path"
import { type Agent, type AgentId, isFinal } from "./Agent.ts"
import * as CleanupReport from "./CleanupReport.ts"
import { Files } from "./Files.ts"
import { Registry, type RegistryError } from "./Registry.ts"
import { release } from "./Resource.ts"
import { AgentDirectory } from "./resources/AgentDirectory.ts"
import { TaskEntry } from "./resources/TaskEntry.ts"
import { entryRef } from "./Settle.ts"

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
  readonly run: (request?: PruneRequest) => Effect.Effect<ReadonlyArray<Pruned>, RegistryError>
}>()("@slipway/core/Prune") {
  static readonly layer = Layer.effect(
    Prune,
    Effect.gen(function*() {
      const files = yield* Files
      const registry = yield* Registry
      const directory = yield* AgentDirectory
      const entry = yield* TaskEntry

      const bytesOf = (agent: Agent) =>
        files.list(agent.plan.directory).pipe(
          Effect.flatMap(Effect.forEach((name) => files.inspect(Path.join(agent.plan.directory, name)))),
          Effect.map((infos) => infos.reduce((sum, info) => sum + (info?.size ?? 0), 0)),
          Effect.orElseSucceed(() => 0)
        )

      const forget = Effect.fnUntraced(function*(agent: Agent, endedAt: DateTime.Utc, dryRun: boolean) {
        const bytes = yield* bytesOf(agent)
        if (dryRun) return { agentId: agent.id, endedAt, bytes, problems: [] }
        const releases = [yield* release(entry, entryRef(agent)), yield* release(directory, agent.plan)]
        const problems = CleanupReport.problems({ releases })
        // Without its row, no command would find what was left alone because it does not bear our mark.
        if (problems.length === 0) yield* registry.forget([agent.id])
        return { agentId: agent.id, endedAt, bytes, problems }
      })

      const run = Effect.fn("Prune.run")(function*(request: PruneRequest = {}) {
        const age = Duration.fromInputUnsafe(request.olderThan ?? "7 days")
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
