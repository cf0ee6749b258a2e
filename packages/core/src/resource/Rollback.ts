/**
 * The one walk that releases the things of a plan.
 *
 * The finalizer of a failed deployment, the end of an agent, a stop, a reap, the removal of a stray and a prune all call
 * `releaseAll`. So a crash and a failure run the same line, in the same order and by the same rules, and a kind of
 * resource is added without a change to any of them.
 *
 * The walk never fails and is never longer than the limits of its releases together. Each release is caught on its own:
 * one that fails, hangs or breaks stops no other. What it leaves keeps only those that name it in `keptBy`. A kind
 * that this program does not know is named in the report as left, and nothing is done to it: a program that knows it
 * will release it.
 */
import { Effect, Exit, type Scope } from "effect"
import type { Subject } from "../agent/Agent.ts"
import * as CleanupReport from "../agent/CleanupReport.ts"
import type { Planned, Until } from "../agent/Plan.ts"
import { failed, type ReleaseRecord } from "../agent/Release.ts"
import { type Kind, logRecord, release, type Rules } from "./Resource.ts"

/** The kinds that go before one: also those that may keep it, since only what they left can. */
const firstOf = (rules: Pick<Rules, "after" | "keptBy"> | undefined): ReadonlyArray<string> => [
  ...(rules?.after ?? []),
  ...(rules?.keptBy ?? [])
]

/**
 * The order of the releases: the last made first, but each kind after all kinds that its `after` and `keptBy` name. Where
 * these go in a circle, those of the circle keep the reverse order of their making.
 */
export const order = <P extends { readonly kind: string }>(
  planned: ReadonlyArray<P>,
  rulesOf: (kind: string) => Pick<Rules, "after" | "keptBy"> | undefined
): ReadonlyArray<P> => {
  const waiting = planned.toReversed()
  const ordered: Array<P> = []
  while (waiting.length > 0) {
    const isFree = ({ kind }: P) => {
      const after = firstOf(rulesOf(kind))
      return !waiting.some((other) => other.kind !== kind && after.includes(other.kind))
    }
    const next = Math.max(waiting.findIndex(isFree), 0)
    ordered.push(...waiting.splice(next, 1))
  }
  return ordered
}

/** Kinds whose `after` and `keptBy` go in a circle; empty where there is none. */
export const circle = (kinds: ReadonlyArray<Pick<Rules, "kind" | "after" | "keptBy">>): ReadonlyArray<string> => {
  let rest = kinds
  for (;;) {
    const names = new Set(rest.map(({ kind }) => kind))
    const next = rest.filter((rules) => firstOf(rules).some((name) => name !== rules.kind && names.has(name)))
    if (next.length === rest.length) return rest.map(({ kind }) => kind)
    rest = next
  }
}

/** Whether a walk releases a kind: a rollback releases everything, an end and a prune what is due then. */
export const isDue = (until: Until, walk: Until): boolean => walk === "rollback" || until === walk

/** How far the making of a thing came. */
export type Progress = "not-begun" | "begun" | "made"

export interface WalkOptions {
  /** What the walk is for. */
  readonly until: Until
  /** What the maker knows of its progress: what was not begun is passed over. Absent where a plan is all that is known. */
  readonly progress?: ((kind: string) => Progress) | undefined
  /**
   * What is done with a kind that this program does not know and that is due, as the plan says: `name` it as left, or
   * `pass` it over, where the row proves that it has been released.
   */
  readonly unknown: "name" | "pass"
  /** What an earlier walk left: of a kind that this program does not know, that record stays as it is. */
  readonly before?: ReadonlyArray<ReleaseRecord> | undefined
  /** Called after each release, before the next; it must not fail. */
  readonly onRelease?: ((record: ReleaseRecord, planned: Planned) => Effect.Effect<void>) | undefined
}

/** Releases all that is due of a plan, one after the other, and answers with what each release did. */
export const releaseAll = Effect.fn("Rollback.releaseAll")(function*(
  kinds: ReadonlyArray<Kind>,
  resources: ReadonlyArray<Planned>,
  subject: Subject,
  options: WalkOptions
) {
  const known = new Map(kinds.map((kind) => [kind.kind, kind]))
  let report = CleanupReport.empty
  for (const planned of order(resources, (name) => known.get(name))) {
    const progress = options.progress?.(planned.kind) ?? "made"
    const kind = known.get(planned.kind)
    if (progress === "not-begun" || !isDue(kind?.until ?? planned.until ?? "end", options.until)) continue
    if (kind === undefined && options.unknown === "pass") continue
    const record = kind === undefined
      ? yield* nameUnknown(planned, options.before ?? [])
      : yield* releaseOne(kind, planned, subject, report, progress === "made")
    report = CleanupReport.add(report, record)
    if (options.onRelease !== undefined) yield* options.onRelease(record, planned)
  }
  return report
})

/** The kinds of a plan that are due and that this program does not know. */
export const unknownOf = (
  kinds: ReadonlyArray<Kind>,
  resources: ReadonlyArray<Planned>,
  walk: Until
): ReadonlyArray<string> =>
  resources.flatMap(({ kind, until = "end" }) =>
    isDue(until, walk) && !kinds.some((known) => known.kind === kind) ? [kind] : []
  )

const unknownKind = "this program does not know the kind; a program that provides it releases it"

const nameUnknown = (planned: Planned, before: ReadonlyArray<ReleaseRecord>): Effect.Effect<ReleaseRecord> => {
  const earlier = before.find(({ resource }) => resource === planned.kind)
  return earlier === undefined ? left(planned, JSON.stringify(planned.reference), unknownKind) : Effect.succeed(earlier)
}

const releaseOne = (
  kind: Kind,
  planned: Planned,
  subject: Subject,
  before: CleanupReport.CleanupReport,
  made: boolean
): Effect.Effect<ReleaseRecord> => {
  const it = kind.release(planned.reference, subject)
  const keeper = CleanupReport.leftovers(before).find(({ resource }) => kind.keptBy?.includes(resource) === true)
  return keeper === undefined
    ? release(kind, it, { made })
    : left(kind, it.reference, `kept, since ${keeper.resource} ${keeper.reference} is left`, made)
}

const left = (
  rules: Pick<Rules, "kind" | "occupies">,
  reference: string,
  reason: string,
  made = true
): Effect.Effect<ReleaseRecord> => {
  const record: ReleaseRecord = {
    resource: rules.kind,
    reference,
    made,
    outcome: failed(reason),
    millis: 0,
    ...(rules.occupies === true ? { occupies: true } : {})
  }
  return Effect.as(logRecord(record), record)
}

/** The things that one deployment makes, and how far each came. */
export interface Making {
  /** Makes a thing: what is interrupted or fails in it has been begun, and is released. */
  readonly make: <A, E, R>(kind: string, effect: Effect.Effect<A, E, R>) => Effect.Effect<A, E, R>
  readonly progress: (kind: string) => Progress
}

/**
 * Claims a plan in the current scope, which can't fail, so that `rollback` is certain to run when the scope closes with
 * a failure or an interruption. When it closes with success nothing is released: returning is the commit.
 *
 * This is `Effect.acquireRelease` for things that outlive the process: it releases a make that failed half way too.
 */
export const claim = (
  rollback: (progress: Making["progress"]) => Effect.Effect<void>
): Effect.Effect<Making, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => new Map<string, Progress>()),
      (reached, exit) => Exit.isSuccess(exit) ? Effect.void : rollback((kind) => reached.get(kind) ?? "not-begun")
    ),
    (reached): Making => ({
      progress: (kind) => reached.get(kind) ?? "not-begun",
      make: (kind, effect) =>
        Effect.suspend(() => {
          reached.set(kind, "begun")
          return Effect.tap(effect, () => Effect.sync(() => void reached.set(kind, "made")))
        })
    })
  )
