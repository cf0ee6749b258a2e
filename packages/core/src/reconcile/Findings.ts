/**
 * What of a reap counts as found: orphans, which no other reconciliation had finished before the reaper came, and strays, which
 * have no row. Pure.
 *
 * An orphan counts when the reap dealt with it, a stray when it was seen.
 */
import type { Found } from "../registry/Counters.ts"
import type { Item, Reaped } from "./ReapPlan.ts"

/** The verdicts that make an orphan. */
export const orphans = [
  "dead-deployment",
  "ended-agent",
  "unfinished-ending",
  "leftover"
] as const satisfies ReadonlyArray<Item["verdict"]>

export const stray = "stray" satisfies Item["verdict"]

const isFound = ({ item, outcome, status }: Reaped): boolean =>
  item.verdict === stray
    // One with a status has a row by now.
    ? status === null
    : outcome !== "skipped" && orphans.some((verdict) => verdict === item.verdict)

export const of = (reaped: ReadonlyArray<Reaped>): ReadonlyArray<Found> =>
  reaped.filter(isFound).map(({ item: { subject, verdict } }) => ({ subject, verdict }))
