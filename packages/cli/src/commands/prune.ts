/**
 * `slipway prune`: forgets agents that ended long ago, with their output, prompts, entries and rows.
 */
import { Slipway } from "@slipway/core"
import { DateTime, Duration, Effect } from "effect"
import { Command, duration, Flag, toggle } from "../Cli.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"

const week = 7 * 24 * 3600 * 1000

const size = (bytes: number): string =>
  bytes < 1_000
    ? `${bytes} B`
    : bytes < 1_000_000
    ? `${Math.round(bytes / 1_000)} kB`
    : `${Math.round(bytes / 1_000_000)} MB`

export const prune = Command.make(
  "prune",
  {
    olderThan: duration("older-than", "Only agents that ended longer ago than this (default: 7d)").pipe(
      Flag.withDefault(week)
    ),
    dryRun: toggle("dry-run", "Only say what would go")
  },
  Effect.fnUntraced(function*({ dryRun, olderThan }) {
    const output = yield* Output
    const status = yield* ExitCode.ExitStatus
    const slipway = yield* Slipway
    const pruned = yield* slipway.prune({ olderThan: Duration.millis(olderThan), dryRun })
    const kept = pruned.filter(({ problems }) => problems.length > 0)
    const bytes = pruned.reduce((sum, agent) => sum + agent.bytes, 0)
    for (const { agentId, problems } of kept) yield* output.note(`slipway: ${agentId} was kept: ${problems.join("; ")}`)
    yield* output.answer(
      {
        success: kept.length === 0,
        dry_run: dryRun,
        agents: pruned.map((agent) => ({
          agent_id: agent.agentId,
          ended_at: DateTime.formatIso(agent.endedAt),
          bytes: agent.bytes,
          problems: agent.problems
        }))
      },
      pruned.length === 0
        ? "No agent ended that long ago."
        : `${dryRun ? "would forget" : "forgot"} ${pruned.length - kept.length} agents, with ${size(bytes)} of files`
    )
    yield* status.conclude(kept.length > 0 ? ExitCode.leftBehind : ExitCode.done)
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Forget agents that ended long ago: their output, prompts, entries and rows. Nothing else ever removes an agent's output."
  ),
  Command.withShortDescription("Forget agents that ended long ago"),
  Command.withExamples([{ command: "slipway prune --older-than 30d --dry-run" }])
)
