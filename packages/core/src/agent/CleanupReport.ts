/**
 * The cleanup report: what was released after a deployment failed, was interrupted, or ended, and what is left.
 *
 * It names everything and hides nothing: a release that failed stands in it as it failed. `leftovers` is what the
 * registry keeps on record until a later reconciliation has released it.
 */
import { Schema } from "effect"
import type { ProcessIdentity } from "../machine/Host.ts"
import { isClean, killedBy, type ReleaseOutcome, ReleaseRecord } from "./Release.ts"

export const CleanupReport = Schema.Struct({ releases: Schema.Array(ReleaseRecord) })
export type CleanupReport = typeof CleanupReport.Type

export const empty: CleanupReport = { releases: [] }

export const add = (report: CleanupReport, record: ReleaseRecord): CleanupReport => ({
  releases: [...report.releases, record]
})

/** The releases after which something of the deployment may still be there. */
export const leftovers = (report: CleanupReport): ReadonlyArray<ReleaseRecord> =>
  report.releases.filter((record) => !isClean(record.outcome))

/** Whether something was there to release. */
export const performed = (report: CleanupReport): boolean => report.releases.some(foundSomething)

const foundSomething = (record: ReleaseRecord): boolean => record.made || record.outcome._tag !== "AlreadyGone"

/** The processes that outlived KILL. */
export const survivors = (report: CleanupReport): ReadonlyArray<ProcessIdentity> =>
  report.releases.flatMap(({ outcome }) => outcome._tag === "Survivors" ? outcome.processes : [])

/** Whether a process had to be sent KILL. */
export const escalated = (report: CleanupReport): boolean =>
  report.releases.some(({ outcome }) => killedBy(outcome) > 0)

/** How long the releases took; they run one after the other. */
export const millis = (report: CleanupReport): number => report.releases.reduce((sum, record) => sum + record.millis, 0)

/** What became of one resource: `null` where there was nothing to clean. */
export const outcomeOf = (report: CleanupReport, resource: string): ReleaseOutcome | null =>
  report.releases.findLast((record) => record.resource === resource && foundSomething(record))?.outcome ?? null

/**
 * One sentence per release that a person should know of: what is left, and what was left alone because it is not
 * Slipway's.
 */
export const problems = (report: CleanupReport): ReadonlyArray<string> =>
  report.releases.flatMap((record) => {
    const what = `${record.resource} ${record.reference}`
    switch (record.outcome._tag) {
      case "Released":
      case "AlreadyGone":
        return []
      case "Kept":
        return [`${what} was left alone: ${record.outcome.reason}`]
      case "Survivors":
        return [`${what}: processes ${record.outcome.processes.map((p) => p.pid).join(", ")} are still alive`]
      case "Failed":
        return [`${what} could not be released: ${record.outcome.reason}`]
    }
  })
