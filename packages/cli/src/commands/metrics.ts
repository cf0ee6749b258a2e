/**
 * `slipway metrics`: totals from the registry as Prometheus text, so that short-lived commands count too.
 */
import { Metrics, Slipway } from "@slipway/core"
import { Effect } from "effect"
import { Command } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"

export const metrics = Command.make(
  "metrics",
  {},
  Effect.fnUntraced(function*() {
    const output = yield* Output
    const slipway = yield* Slipway
    const totals = yield* slipway.totals
    const json = {
      agents: totals.agents,
      releases: totals.releases.map(({ firstAt, lastAt, lastReason, ...total }) => ({
        ...total,
        first_at: firstAt,
        last_at: lastAt,
        last_reason: lastReason
      }))
    }
    yield* output.answer(json, Metrics.prometheus(totals).trimEnd())
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Print how many agents are on record, and what releases did since this home was made, as Prometheus text."
  ),
  Command.withShortDescription("Print totals for Prometheus"),
  Command.withExamples([
    {
      command: "slipway metrics > slipway.prom.new && mv slipway.prom.new slipway.prom",
      description: "For the text file collector, which must never see half a file"
    }
  ])
)
