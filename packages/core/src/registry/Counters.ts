/**
 * What the registry counts, in the transaction of what is counted: so a count and what happened never disagree, and no
 * count falls when agents are forgotten.
 */
import { Context, type DateTime, type Effect, Schema } from "effect"
import type { RegistryError } from "./RegistryError.ts"

/** How often releases of a resource had an outcome, how long they took, and the reason that was given last. */
export const ReleaseTotal = Schema.Struct({
  resource: Schema.String,
  outcome: Schema.String,
  count: Schema.Int,
  millis: Schema.Int,
  firstAt: Schema.String,
  lastAt: Schema.String,
  lastReason: Schema.NullOr(Schema.String)
})
export type ReleaseTotal = typeof ReleaseTotal.Type

/** How many agents are in a state; `detail` is the step of a rollback, who stopped it, or the outcome of an exit. */
export const AgentTotal = Schema.Struct({
  status: Schema.String,
  detail: Schema.NullOr(Schema.String),
  count: Schema.Int
})
export type AgentTotal = typeof AgentTotal.Type

/** How many durations there were, and how many of them up to each bound; the last bound is `+Inf`. */
export interface Histogram {
  readonly buckets: ReadonlyArray<{ readonly le: string; readonly count: number }>
  readonly count: number
  readonly seconds: number
}

/**
 * What the registry counts. The counts of agents, and of leaked ones, are of the rows on record now. All others count
 * since the registry was made, and never fall.
 */
export interface Totals {
  readonly agents: ReadonlyArray<AgentTotal>
  readonly leaked: number
  readonly releases: ReadonlyArray<ReleaseTotal>
  readonly releaseDurations: ReadonlyArray<Histogram & { readonly resource: string }>
  /** Releases that had to send KILL. */
  readonly escalations: ReadonlyArray<{ readonly resource: string; readonly count: number }>
  /** Processes that outlived KILL. */
  readonly survivors: number
  /** By outcome: `committed` or `rolled-back`. */
  readonly deployments: ReadonlyArray<{ readonly outcome: string; readonly count: number }>
  readonly rollbacks: ReadonlyArray<{ readonly step: string; readonly count: number }>
  /** From the request to the commit, of those that committed. */
  readonly deployDuration: Histogram
  /** By verdict of the reaper. */
  readonly findings: ReadonlyArray<{ readonly verdict: string; readonly count: number }>
}

/** Something that a reap found. */
export interface Found {
  /** The agent's id, or the one that a stray bears. */
  readonly subject: string
  readonly verdict: string
}

export class Counters extends Context.Service<Counters, {
  /** Totals since the registry was made. */
  readonly totals: Effect.Effect<Totals, RegistryError>
  /** Counts what a reap found, each once however often it is found; answers how many were new. */
  readonly found: (findings: ReadonlyArray<Found>, at: DateTime.Utc) => Effect.Effect<number, RegistryError>
}>()("@slipway/core/Counters") {}
