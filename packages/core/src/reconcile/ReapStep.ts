/**
 * What a reap does about an item at the moment of acting, by the row as it is then; and how its answer reads. Pure.
 *
 * An old plan ends nothing that lives: a step is taken only on a row that is still in the state in which the item could
 * be. What a reconciliation then finds well is answered as skipped.
 */
import { type Agent, hasCommitted, isFinal, status } from "../agent/Agent.ts"
import * as CleanupReport from "../agent/CleanupReport.ts"
import type { ReleaseRecord } from "../agent/Release.ts"
import type { Item, Reaped } from "./ReapPlan.ts"

/** One thing to do. */
export type Step =
  | { readonly _tag: "Skip"; readonly problem?: string | undefined }
  /** It has no row, and a caller named its id. */
  | { readonly _tag: "RemoveStray" }
  | { readonly _tag: "RemoveDraft" }
  /** Assess the row again, and bring it to what is true. */
  | { readonly _tag: "Reconcile"; readonly agent: Agent }
  /** The row is final: release what is left of the agent. */
  | { readonly _tag: "Release"; readonly agent: Agent }
  | { readonly _tag: "Rewrite"; readonly agent: Agent }

const skip = (problem?: string): Step => ({ _tag: "Skip", problem })

/** The step for an item, from the row that its subject has by now; `strays` are the ids that the caller named. */
export const stepFor = (item: Item, agent: Agent | undefined, strays: ReadonlySet<string>): Step => {
  if (item.verdict === "draft") return { _tag: "RemoveDraft" }
  if (item.verdict === "stray") {
    if (agent !== undefined) return skip("it has a row by now")
    return strays.has(item.subject)
      ? { _tag: "RemoveStray" }
      : skip(`reported only; 'slipway reap --stray ${item.subject}' removes it`)
  }
  if (agent === undefined) return skip("its row was removed meanwhile")
  switch (item.action) {
    case "roll-back":
    case "reconcile":
    case "finish":
      return isFinal(agent.state) ? skip() : { _tag: "Reconcile", agent }
    case "release":
      return isFinal(agent.state) ? { _tag: "Release", agent } : skip()
    case "rewrite":
      return hasCommitted(agent) ? { _tag: "Rewrite", agent } : skip()
    default:
      return skip()
  }
}

/** The item was left as it is. */
export const skipped = (item: Item, status: string | null, problem?: string): Reaped => ({
  item,
  outcome: "skipped",
  status,
  problems: problem === undefined ? [] : [problem]
})

/** Something was written or removed, or could not be. */
export const tried = (item: Item, status: string | null, problem: string | undefined): Reaped => ({
  item,
  outcome: problem === undefined ? "done" : "left",
  status,
  problems: problem === undefined ? [] : [problem]
})

/** The walk over what was left has answered. */
export const released = (item: Item, status: string | null, releases: ReadonlyArray<ReleaseRecord>): Reaped => ({
  item,
  outcome: CleanupReport.leftovers({ releases }).length === 0 ? "done" : "left",
  status,
  problems: CleanupReport.problems({ releases })
})

/** The row after its reconciliation: one that was assessed again and found well was not touched. */
export const reconciled = (item: Item, agent: Agent): Reaped => {
  if (agent.state._tag === "deploying" || agent.state._tag === "running") return skipped(item, status(agent))
  const problems = agent.state._tag === "ending" ? CleanupReport.problems({ releases: agent.state.left ?? [] }) : []
  return { item, outcome: isFinal(agent.state) ? "done" : "left", status: status(agent), problems }
}
