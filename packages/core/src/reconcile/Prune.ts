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
import { worktreeKind, worktreeOf } from "../agent/Plan.ts"
import { Home } from "../home/Home.ts"
import { Files } from "../machine/Files.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { Resources } from "../resource/Resources.ts"
import * as Rollback from "../resource/Rollback.ts"
import { DiscardIgnored } from "../resource/worktree/Removal.ts"
import { Worktree } from "../resource/worktree/Worktree.ts"

export interface PruneRequest {
  /** Agents that ended longer ago than this; seven days by default. */
  readonly olderThan?: Duration.Input | undefined
  /** Only report what would be forgotten. */
  readonly dryRun?: boolean | undefined
  /** Files that git ignores in an agent's own tree go at once, in place of waiting in the home's trash. */
  readonly discardIgnored?: boolean | undefined
}

export interface Pruned {
  readonly agentId: AgentId
  readonly endedAt: DateTime.Utc
  /** What its files held. */
  readonly bytes: number
  /** Why it was kept; empty when it is forgotten, or would be. */
  readonly problems: ReadonlyArray<string>
  /** Its own tree, and why that could go, or was kept; null where it had none. */
  readonly tree: { readonly path: string; readonly branch: string; readonly why: string } | null
}

/** What the release of a tree says of it. */
const whyOf = (report: CleanupReport.CleanupReport): string => {
  const outcome = report.releases.find(({ resource }) => resource === worktreeKind)?.outcome
  switch (outcome?._tag) {
    case "Released":
      return outcome.note ?? "nothing of it was left"
    case "Kept":
    case "Failed":
      return outcome.reason
    default:
      return "it was gone already"
  }
}

export class Prune extends Context.Service<Prune, {
  readonly run: (request?: PruneRequest) => Effect.Effect<ReadonlyArray<Pruned>, InvalidRequest | RegistryError>
}>()("@slipway/core/Prune") {
  static readonly layer = Layer.effect(
    Prune,
    Effect.gen(function*() {
      const files = yield* Files
      const ledger = yield* Ledger
      const { kinds } = yield* Resources
      const home = yield* Home
      const trees = yield* Worktree

      const treeOf = (agent: Agent, why: string): Pruned["tree"] => {
        const ref = worktreeOf(agent.plan)
        return ref === null ? null : { path: ref.tree, branch: ref.branch.replace(/^refs\/heads\//, ""), why }
      }

      const bytesOf = (agent: Agent) =>
        files.list(agent.plan.directory).pipe(
          Effect.flatMap(Effect.forEach((name) => files.inspect(Path.join(agent.plan.directory, name)))),
          Effect.map((infos) => {
            // A file may have two names.
            const sizes = new Map(infos.flatMap((info) => info === undefined ? [] : [[info.inode, info.size] as const]))
            return Array.from(sizes.values()).reduce((sum, size) => sum + size, 0)
          }),
          Effect.orElseSucceed(() => 0)
        )

      const forget = Effect.fnUntraced(function*(agent: Agent, endedAt: DateTime.Utc, dryRun: boolean) {
        const bytes = yield* bytesOf(agent)
        const ref = worktreeOf(agent.plan)
        if (dryRun) {
          const found = ref === null ? { safe: true, why: "" } : yield* trees.assess(ref, subjectOf(agent))
          const problems = found.safe ? [] : [`${trees.kind} ${ref?.tree ?? ""} would be kept: ${found.why}`]
          return { agentId: agent.id, endedAt, bytes, problems, tree: treeOf(agent, found.why) }
        }
        // What was rolled back has been released whole. Of any other, a program that knows all its kinds forgets it.
        const unknown = agent.state._tag === "rolled-back"
          ? []
          : Rollback.unknownOf(kinds, agent.plan.resources, "prune")
        if (unknown.length > 0) {
          const problem = `this program does not know ${
            unknown.join(", ")
          }; a program that provides it can forget the agent`
          return { agentId: agent.id, endedAt, bytes, problems: [problem], tree: treeOf(agent, "it was not looked at") }
        }
        const report = yield* Rollback.releaseAll(kinds, agent.plan.resources, subjectOf(agent), {
          until: "prune",
          unknown: "pass"
        })
        // What keeps the tree keeps the rest too, and is said once.
        const tree = CleanupReport.leftovers(report).filter(({ resource }) => resource === worktreeKind)
        const problems = CleanupReport.problems(tree.length === 0 ? report : { releases: tree })
        // Without its row, no command would find what was left alone because it does not bear our mark.
        if (problems.length === 0) yield* ledger.forget([agent.id])
        return { agentId: agent.id, endedAt, bytes, problems, tree: treeOf(agent, whyOf(report)) }
      })

      const run = Effect.fn("Prune.run")(function*(request: PruneRequest = {}) {
        const age = yield* durationOf("olderThan", request.olderThan ?? "7 days")
        const before = DateTime.subtractDuration(yield* DateTime.now, age)
        const old = (yield* ledger.agents({})).flatMap((agent) =>
          isFinal(agent.state) && agent.endedAt !== null && DateTime.isLessThan(agent.endedAt, before)
            ? [{ agent, endedAt: agent.endedAt }]
            : []
        )
        const pruned = yield* Effect.forEach(
          old,
          ({ agent, endedAt }) => forget(agent, endedAt, request.dryRun ?? false)
          // A word of the caller's to one kind of resource: the walk carries none, since a release takes the reference alone.
        ).pipe(Effect.provideService(DiscardIgnored, request.discardIgnored ?? false))
        if (request.dryRun !== true) yield* trees.emptyTrash(home.directory)
        return pruned
      })

      return Prune.of({ run })
    })
  )
}
