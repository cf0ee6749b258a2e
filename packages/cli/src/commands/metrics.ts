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
    yield* output.answer(totals, Metrics.prometheus(totals).trimEnd())
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription("Print totals since this home was made, as Prometheus text."),
  Command.withShortDescription("Print totals for Prometheus"),
  Command.withExamples([{ command: "slipway metrics > /var/lib/node_exporter/slipway.prom" }])
)
