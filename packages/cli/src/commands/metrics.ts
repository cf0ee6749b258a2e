/**
 * `slipway metrics`: totals from the registry as Prometheus text, so that short-lived commands count too.
 */
import { Metrics, Slipway, type Totals } from "@slipway/core"
import { Effect } from "effect"
import { Command } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"

const toJson = (totals: Totals) => ({
  agents: totals.agents,
  agents_leaked: totals.leaked,
  deployments: totals.deployments,
  success_rate: Metrics.successRate(totals),
  rollbacks: totals.rollbacks,
  deploy_duration: totals.deployDuration,
  releases: totals.releases.map(({ firstAt, lastAt, lastReason, ...total }) => ({
    ...total,
    first_at: firstAt,
    last_at: lastAt,
    last_reason: lastReason
  })),
  release_durations: totals.releaseDurations,
  escalations: totals.escalations,
  survivors: totals.survivors,
  findings: totals.findings
})

export const metrics = Command.make(
  "metrics",
  {},
  Effect.fnUntraced(function*() {
    const output = yield* Output
    const slipway = yield* Slipway
    const totals = yield* slipway.totals
    yield* output.answer(toJson(totals), Metrics.prometheus(totals).trimEnd())
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Print how many agents are on record, and what deployments, releases and reaps did since this home was made, as Prometheus text."
  ),
  Command.withShortDescription("Print totals for Prometheus"),
  Command.withExamples([
    {
      command: "slipway metrics > slipway.prom.new && mv slipway.prom.new slipway.prom",
      description: "For the text file collector, which must never see half a file"
    }
  ])
)
