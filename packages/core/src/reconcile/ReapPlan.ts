/**
 * What a reap finds, and what became of it: the plan, its items, and the answer to each. Pure.
 *
 * A plan is a document: it can be written to a file, read by a person, and applied later.
 */
import { Schema } from "effect"
import { described } from "../agent/Described.ts"

/** What is wrong. */
export const ItemVerdict = Schema.Literals([
  /** A deployment whose deployer is dead, or whose lease has run out. */
  "dead-deployment",
  /** An agent that has ended, lost its owner, or is past a limit of time, and is not recorded so. */
  "ended-agent",
  /** An ending that one process began and none finished. */
  "unfinished-ending",
  /** Processes, a session or files of a row that is final. */
  "leftover",
  /** A task entry that is not what its row says. */
  "stale-entry",
  /** Something of this home without any row. */
  "stray",
  /** A document that was not put in place, since its writer was killed. */
  "draft",
  /** The session no longer exists while the agent lives; nothing is done about it. */
  "session-gone",
  "unknown"
])
export type ItemVerdict = typeof ItemVerdict.Type

export const Item = Schema.Struct({
  subject: described(Schema.String, "The agent's id, of a stray the id that it bears, of a draft its path."),
  verdict: described(ItemVerdict, "What is wrong."),
  status: described(Schema.NullOr(Schema.String), "The row's status; null where there is no row."),
  evidence: described(Schema.String, "What was seen."),
  action: described(
    Schema.Literals([
      "roll-back",
      "reconcile",
      "finish",
      "release",
      "rewrite",
      "remove",
      "remove-when-asked",
      "none"
    ]),
    "What a reap does about it; `remove-when-asked` only when a caller names the id."
  )
})
export type Item = typeof Item.Type

/** A plan as it is written. */
export const ReapPlanDocument = Schema.Struct({
  home_id: described(Schema.String, "The home that the plan is of."),
  at: described(Schema.DateTimeUtcFromString, "When it was made."),
  items: described(Schema.Array(Item), "What was found.")
})

const { at, home_id: homeId, items } = ReapPlanDocument.fields

/** A plan can be written to a file, read, and applied later. */
export const ReapPlan = Schema.Struct({ homeId, at, items }).pipe(Schema.encodeKeys({ homeId: "home_id" }))
export type ReapPlan = typeof ReapPlan.Type

/** What became of an item. */
export interface Reaped {
  readonly item: Item
  /** `left` names what is still there; `skipped` what no longer was as the plan said, or is only reported. */
  readonly outcome: "done" | "left" | "skipped"
  /** The row's status afterwards; null where there is no row. */
  readonly status: string | null
  readonly problems: ReadonlyArray<string>
}

export interface ReapOptions {
  /** Act only on what is in this plan as well. */
  readonly within?: ReapPlan | undefined
  /** The strays to remove, by the ids that they bear. */
  readonly strays?: ReadonlyArray<string> | undefined
}

const keyOf = ({ subject, verdict }: Item): string => `${verdict} ${subject}`

/** The items of a plan that are in the other one too, by verdict and subject; all of them where there is no other. */
export const itemsWithin = ({ items }: ReapPlan, within: ReapPlan | undefined): ReadonlyArray<Item> => {
  if (within === undefined) return items
  const allowed = new Set(within.items.map(keyOf))
  return items.filter((item) => allowed.has(keyOf(item)))
}
