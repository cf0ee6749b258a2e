/**
 * The increments of the registry's counters that a transition stores in its own transaction, and totals from their
 * sums.
 *
 * Pure. A count outlives its agents, so forgetting them lowers none. A scrape reads as many rows as there are labels,
 * however many agents there were. What was counted and what happened can't disagree: both are stored or neither is.
 */
import { Schema } from "effect"
import type { Agent } from "../../agent/Agent.ts"
import { killedBy, type ReleaseRecord } from "../../agent/Release.ts"
import type { Histogram, Totals } from "../Counters.ts"
import type { TransitionEvent } from "../EventLog.ts"

/** What is counted; `label` and `detail` distinguish its kinds. */
export const Metric = Schema.Literals([
  /** By resource and outcome. */
  "release",
  /** By resource and bucket. */
  "release-duration",
  /** Releases that had to send KILL, by resource. */
  "escalation",
  /** Processes that outlived KILL, by resource. */
  "survivor",
  /** By outcome. */
  "deployment",
  /** Deployments rolled back, by step. */
  "rollback",
  /** From the request to the commit, by bucket. */
  "deploy-duration",
  /** What a reap found, by verdict. */
  "finding"
])
export type Metric = typeof Metric.Type

/** What one event adds. */
export interface Increment {
  readonly metric: Metric
  readonly label: string
  readonly detail: string
  readonly count: number
  readonly micros: number
  readonly reason: string | null
}

/** A sum as it is stored. */
export const Counter = Schema.Struct({
  metric: Metric,
  label: Schema.String,
  detail: Schema.String,
  count: Schema.Int,
  micros: Schema.Finite,
  firstAt: Schema.String,
  lastAt: Schema.String,
  lastReason: Schema.NullOr(Schema.String)
})
export type Counter = typeof Counter.Type

/**
 * The upper bounds of the buckets, in seconds. Counts are stored under a bound's text, so a changed bound would
 * separate old counts from new ones: other buckets need another metric.
 */
export const releaseBounds: ReadonlyArray<number> = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10]
export const deployBounds: ReadonlyArray<number> = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120]

export const beyond = "+Inf"

const bucketOf = (bounds: ReadonlyArray<number>, millis: number): string =>
  String(bounds.find((bound) => millis <= bound * 1000) ?? beyond)

const one = (metric: Metric, label: string, more: Partial<Increment> = {}): Increment => ({
  metric,
  label,
  detail: "",
  count: 1,
  micros: 0,
  reason: null,
  ...more
})

const ofRelease = (record: ReleaseRecord): ReadonlyArray<Increment> => {
  const { millis, outcome, resource } = record
  const micros = Math.round(millis * 1000)
  return [
    one("release", resource, {
      detail: outcome._tag,
      micros,
      reason: "reason" in outcome ? outcome.reason : null
    }),
    one("release-duration", resource, { detail: bucketOf(releaseBounds, millis), micros }),
    ...(killedBy(outcome) > 0 ? [one("escalation", resource)] : []),
    ...(outcome._tag === "Survivors" && outcome.processes.length > 0
      ? [one("survivor", resource, { count: outcome.processes.length })]
      : [])
  ]
}

/** A deployment is counted once, when its row leaves `deploying`. */
const ofDeployment = (before: Agent, after: Agent, event: TransitionEvent): ReadonlyArray<Increment> => {
  if (before.state._tag !== "deploying" || after.state._tag === "deploying") return []
  if (after.state._tag === "running") {
    // The clock may have been set back meanwhile.
    const millis = Math.max(0, event.at.epochMilliseconds - after.createdAt.epochMilliseconds)
    return [
      one("deployment", "committed"),
      one("deploy-duration", "", { detail: bucketOf(deployBounds, millis), micros: millis * 1000 })
    ]
  }
  const end = after.state._tag === "ending" ? after.state.as : after.state
  return [one("deployment", "rolled-back"), one("rollback", end._tag === "rolled-back" ? end.step : end._tag)]
}

/** What a transition adds. */
export const ofTransition = (before: Agent, after: Agent, event: TransitionEvent): ReadonlyArray<Increment> =>
  merge([...(event.releases ?? []).flatMap(ofRelease), ...ofDeployment(before, after, event)])

/** What findings of a reap add. */
export const ofFindings = (verdicts: ReadonlyArray<string>): ReadonlyArray<Increment> =>
  merge(verdicts.map((verdict) => one("finding", verdict)))

/** One increment for each kind: one statement can't add to one row twice. */
const merge = (increments: ReadonlyArray<Increment>): ReadonlyArray<Increment> => {
  const merged = new Map<string, Increment>()
  for (const next of increments) {
    const key = JSON.stringify([next.metric, next.label, next.detail])
    const sum = merged.get(key)
    merged.set(
      key,
      sum === undefined ? next : { ...next, count: sum.count + next.count, micros: sum.micros + next.micros }
    )
  }
  return [...merged.values()]
}

const histogram = (bounds: ReadonlyArray<number>, counters: ReadonlyArray<Counter>): Histogram => {
  let count = 0
  const buckets = [...bounds.map(String), beyond].map((le) => {
    count += counters.find(({ detail }) => detail === le)?.count ?? 0
    return { le, count }
  })
  return { buckets, count, seconds: counters.reduce((sum, { micros }) => sum + micros, 0) / 1e6 }
}

/** The totals from the sums, without what is counted from the agents on record. */
export const totals = (counters: ReadonlyArray<Counter>): Omit<Totals, "agents" | "leaked"> => {
  const of = (metric: Metric) => counters.filter((counter) => counter.metric === metric)
  const durations = Map.groupBy(of("release-duration"), ({ label }) => label)
  return {
    releases: of("release").map(({ count, detail, firstAt, label, lastAt, lastReason, micros }) => ({
      resource: label,
      outcome: detail,
      count,
      millis: Math.round(micros / 1000),
      firstAt,
      lastAt,
      lastReason
    })),
    releaseDurations: Array.from(durations, ([resource, counters]) => ({
      resource,
      ...histogram(releaseBounds, counters)
    })),
    escalations: of("escalation").map(({ count, label }) => ({ resource: label, count })),
    survivors: of("survivor").reduce((sum, { count }) => sum + count, 0),
    deployments: of("deployment").map(({ count, label }) => ({ outcome: label, count })),
    rollbacks: of("rollback").map(({ count, label }) => ({ step: label, count })),
    deployDuration: histogram(deployBounds, of("deploy-duration")),
    findings: of("finding").map(({ count, label }) => ({ verdict: label, count }))
  }
}
