/**
 * `slipway prune`: forgets agents that ended long ago, with their output, prompts, entries and rows.
 */
import { Slipway } from "@slipway/core"
import { DateTime, Duration, Effect } from "effect"
import { Command, duration, Flag, toggle } from "../Cli.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output, plain } from "../Output.ts"
import * as Text from "../Text.ts"

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
    dryRun: toggle("dry-run", "Only list what would be forgotten"),
    discardIgnored: toggle(
      "discard-ignored",
      "Remove what git ignores in agents' own trees at once; without it, such a tree waits 7 days in the home's trash"
    )
  },
  Effect.fnUntraced(function*({ discardIgnored, dryRun, olderThan }) {
    const output = yield* Output
    const status = yield* ExitCode.ExitStatus
    const slipway = yield* Slipway
    const pruned = yield* slipway.prune({ olderThan: Duration.millis(olderThan), dryRun, discardIgnored })
    const kept = pruned.filter(({ problems }) => problems.length > 0)
    for (const { agentId, problems } of kept) {
      yield* output.note(`slipway: ${agentId} ${dryRun ? "would be" : "was"} kept: ${plain(problems.join("; "))}`)
    }
    const paint = (text: string, row: number) => row === -1 ? output.paint("dim", text) : text
    const now = yield* DateTime.now
    const gone = pruned.filter(({ problems }) => problems.length === 0)
    const bytes = gone.reduce((sum, agent) => sum + agent.bytes, 0)
    const total = `${dryRun ? "Would forget" : "Forgot"} ${gone.length === 0 ? "no" : gone.length} agent${
      gone.length === 1 ? "" : "s"
    }${gone.length === 0 ? "" : `, with ${size(bytes)} of files`}.`
    const list = Text.table(
      ["AGENT", "ENDED", "FILES"],
      gone.map((agent) => [agent.agentId, `${Text.ago(agent.endedAt, now)} ago`, size(agent.bytes)]),
      paint
    )
    const trees = gone.flatMap(({ agentId, tree }) =>
      tree === null ? [] : [`${agentId}: its tree ${dryRun ? "can go" : "went"}: ${plain(tree.why)}`]
    )
    yield* output.answer(
      {
        success: kept.length === 0,
        ...(kept.length === 0 ? {} : {
          error: kept.map(({ agentId, problems }) => `${agentId} was kept: ${problems.join("; ")}`).join("; "),
          error_tag: "NotForgotten"
        }),
        dry_run: dryRun,
        agents: pruned.map((agent) => ({
          agent_id: agent.agentId,
          ended_at: DateTime.formatIso(agent.endedAt),
          bytes: agent.bytes,
          problems: agent.problems,
          worktree: agent.tree
        }))
      },
      pruned.length === 0
        ? olderThan === 0
          ? "No agent has ended."
          : `No agent ended longer than ${Duration.format(Duration.millis(olderThan))} ago.`
        : [...(dryRun ? [list] : []), ...trees, total].join("\n")
    )
    yield* status.conclude(kept.length > 0 ? ExitCode.leftBehind : ExitCode.done)
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Forget agents that ended long ago: their output, prompts, entries and rows. Nothing else ever removes an agent's output. Agents that have not ended are never touched."
  ),
  Command.withShortDescription("Forget agents that ended long ago"),
  Command.withExamples([
    {
      command: "slipway prune --older-than 30d --dry-run",
      description: "See which agents would be forgotten, and how much it would free"
    },
    { command: "slipway prune --older-than 30d" }
  ])
)
