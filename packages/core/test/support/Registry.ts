import { Context, Effect } from "effect"
import { Counters } from "../../src/registry/Counters.ts"
import { EventLog } from "../../src/registry/EventLog.ts"
import { Ledger } from "../../src/registry/Ledger.ts"

/** The whole registry as one value: what its contract promises goes across all three. */
export interface Whole extends Readonly<Ledger["Service"] & EventLog["Service"] & Counters["Service"]> {}

export const whole = Effect.gen(function*() {
  const registry: Whole = { ...(yield* Ledger), ...(yield* EventLog), ...(yield* Counters) }
  return registry
})

/** The same of services that were built. */
export const wholeOf = (context: Context.Context<Counters | EventLog | Ledger>): Whole => ({
  ...Context.get(context, Ledger),
  ...Context.get(context, EventLog),
  ...Context.get(context, Counters)
})
