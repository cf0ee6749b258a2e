/**
 * The walk over a plan: its order, and what it passes over, keeps and names. Properties, without a machine.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Logger, Schema } from "effect"
import * as CleanupReport from "../src/agent/CleanupReport.ts"
import { type Planned, Until } from "../src/agent/Plan.ts"
import * as Release from "../src/agent/Release.ts"
import * as Resource from "../src/resource/Resource.ts"
import * as Rollback from "../src/resource/Rollback.ts"
import { record, subject } from "./rows.ts"

const names = ["a", "b", "c", "d", "e"] as const
const Name = Schema.Literals(names)
/** What each kind waits for: of a higher letter, so that nothing goes in a circle. */
const Free = Schema.Array(Schema.Tuple([Name, Name]))
const Plan = Schema.Array(Name)

const rulesOf =
  (pairs: ReadonlyArray<readonly [string, string]>, isAllowed: (one: string, other: string) => boolean) =>
  (
    kind: string
  ): Pick<Resource.Rules, "after"> => ({
    after: pairs.flatMap(([one, other]) => one === kind && isAllowed(one, other) ? [other] : [])
  })

const planOf = (kinds: ReadonlyArray<string>) => kinds.map((kind, index) => ({ kind, index }))

describe("the order of the releases", () => {
  it.prop("names each thing of the plan once, whatever the rules", [Plan, Free], ([kinds, pairs]) => {
    const planned = planOf(kinds)
    const ordered = Rollback.order(planned, rulesOf(pairs, () => true))
    assert.sameMembers([...ordered], planned)
    assert.lengthOf(ordered, planned.length)
  })

  it.prop(
    "puts every kind behind all that its rule names, where there is no circle",
    [Plan, Free],
    ([kinds, pairs]) => {
      const rules = rulesOf(pairs, (one, other) => one < other)
      const ordered = Rollback.order(planOf(kinds), rules)
      ordered.forEach(({ kind }, place) => {
        for (const first of rules(kind).after ?? []) {
          assert.isFalse(ordered.slice(place + 1).some((later) => later.kind === first), `${first} comes after ${kind}`)
        }
      })
    }
  )

  it.prop("is the reverse of the making where no rule says otherwise", [Plan], ([kinds]) => {
    const planned = planOf(kinds)
    assert.deepStrictEqual(Rollback.order(planned, () => undefined), planned.toReversed())
  })

  it.prop("finds the kinds that go in a circle, and no others", [Free], ([pairs]) => {
    const kinds = (isAllowed: (one: string, other: string) => boolean) =>
      names.map((kind) => ({ kind, after: rulesOf(pairs, isAllowed)(kind).after }))
    assert.deepStrictEqual(Rollback.circle(kinds((one, other) => one < other)), [])
    // From each kind of the answer some path leads back into the answer.
    const found = Rollback.circle(kinds((one, other) => one !== other))
    for (const kind of found) {
      assert.isTrue(pairs.some(([one, other]) => one === kind && one !== other && found.includes(other)), kind)
    }
  })
})

const Outcomes = Schema.Literals(["Released", "AlreadyGone", "Kept", "Failed", "Survivors", "dies", "throws"])
type Outcome = typeof Outcomes.Type

const outcomes: Record<Exclude<Outcome, "dies" | "throws">, Release.ReleaseOutcome> = {
  Released: Release.Released,
  AlreadyGone: Release.AlreadyGone,
  Kept: Release.kept("it is another's"),
  Failed: Release.failed("it would not go"),
  Survivors: { _tag: "Survivors", processes: [{ pid: 7, start: "1" }] }
}

const broken = (): never => {
  throw new Error("a bug")
}

const kindOf = (rules: Resource.Rules, outcome: Outcome, story: Array<string>): Resource.Kind =>
  Resource.define({
    ...rules,
    Reference: Schema.String,
    describe: (ref) => outcome === "throws" ? broken() : ref,
    limit: () => outcome === "throws" ? broken() : Duration.seconds(5),
    make: () => Effect.void,
    // Not lazy on purpose: a kind may work, or break, before it gives an effect.
    release: () => {
      story.push(rules.kind)
      if (outcome === "throws") return broken()
      return outcome === "dies" ? Effect.die(new Error("a bug")) : Effect.succeed(outcomes[outcome])
    },
    probe: () => Effect.succeed({ _tag: "Absent" })
  })

const Rules = Schema.Struct({
  kind: Name,
  until: Until,
  occupies: Schema.Boolean,
  keptBy: Schema.Array(Name),
  outcome: Outcomes,
  progress: Schema.Literals(["not-begun", "begun", "made"]),
  isKnown: Schema.Boolean
})

const distinct = <A extends { readonly kind: string }>(all: ReadonlyArray<A>): ReadonlyArray<A> =>
  all.filter((one, index) => all.findIndex(({ kind }) => kind === one.kind) === index)

const walk = (all: ReadonlyArray<typeof Rules.Type>, until: Until) =>
  Effect.gen(function*() {
    const things = distinct(all)
    const story: Array<string> = []
    const kinds = things.flatMap((rules) => rules.isKnown ? [kindOf(rules, rules.outcome, story)] : [])
    const plan = things.map(({ kind, occupies, until }): Planned => ({
      kind,
      reference: `the ${kind}`,
      until,
      ...(occupies ? { occupies } : {})
    }))
    const report = yield* Rollback.releaseAll(kinds, plan, subject, {
      until,
      unknown: "name",
      progress: (kind) => things.find((thing) => thing.kind === kind)?.progress ?? "not-begun"
    })
    return { report, story, things }
  }).pipe(Effect.provide(Logger.layer([])))

describe("the walk", () => {
  it.live.prop(
    "reports each thing once that was begun and is due, and never one that was not",
    [Schema.Array(Rules), Until],
    Effect.fnUntraced(function*([all, until]) {
      const { report, things } = yield* walk(all, until)
      const wanted = things.filter(({ progress, until: due }) =>
        progress !== "not-begun" && (until === "rollback" || due === until)
      )
      assert.sameMembers(report.releases.map(({ resource }) => resource), wanted.map(({ kind }) => kind))
    }),
    { arbitrary: { runs: 40 } }
  )

  it.live.prop(
    "calls no release of a kind that it does not know, or that a kind that is left keeps, and names both as left",
    [Schema.Array(Rules)],
    Effect.fnUntraced(function*([all]) {
      const { report, story, things } = yield* walk(all, "rollback")
      const left = new Set(CleanupReport.leftovers(report).map(({ resource }) => resource))
      for (const { isKnown, keptBy, kind } of things) {
        const record = report.releases.find(({ resource }) => resource === kind)
        if (record === undefined) continue
        const before = report.releases.slice(0, report.releases.indexOf(record)).map(({ resource }) => resource)
        const isKept = before.some((name) => left.has(name) && keptBy.some((keeper) => keeper === name))
        assert.strictEqual(story.includes(kind), isKnown && !isKept)
        if (!isKnown || isKept) assert.isTrue(left.has(kind))
      }
    }),
    { arbitrary: { runs: 40 } }
  )

  it.live.prop(
    "says that what is left may live only where its kind holds a slot",
    [Schema.Array(Rules)],
    Effect.fnUntraced(function*([all]) {
      const { report, things } = yield* walk(all, "rollback")
      for (const record of report.releases) {
        const thing = things.find(({ kind }) => kind === record.resource)
        const holds = thing?.occupies === true && !Release.isClean(record.outcome)
        assert.strictEqual(Release.mayLive(record), holds)
      }
    }),
    { arbitrary: { runs: 40 } }
  )

  it.live.prop(
    "passes over, where it is told so, what it does not know, and keeps what an earlier walk said of it",
    [Schema.Array(Rules)],
    Effect.fnUntraced(function*([all]) {
      const things = distinct(all)
      const plan = things.map(({ kind }) => ({ kind, reference: kind }))
      const before = [record("a", Release.failed("busy")), record("b", Release.failed("busy"))]
      const passed = yield* Rollback.releaseAll([], plan, subject, { until: "rollback", unknown: "pass", before })
      assert.deepStrictEqual(passed.releases, [])
      const named = yield* Rollback.releaseAll([], plan, subject, { until: "rollback", unknown: "name", before })
      assert.lengthOf(named.releases, plan.length)
      for (const earlier of before) {
        const isPlanned = plan.some(({ kind }) => kind === earlier.resource)
        assert.strictEqual(named.releases.includes(earlier), isPlanned)
      }
    }, Effect.provide(Logger.layer([]))),
    { arbitrary: { runs: 20 } }
  )

  it.live("does nothing to a thing whose reference it can't read, and names it", () =>
    Effect.gen(function*() {
      const story: Array<string> = []
      const kind = kindOf({ kind: "a", until: "end" }, "Released", story)
      const { releases } = yield* Rollback.releaseAll([kind], [{ kind: "a", reference: { strange: true } }], subject, {
        until: "end",
        unknown: "name"
      })
      assert.deepStrictEqual(story, [])
      assert.strictEqual(releases[0]?.outcome._tag, "Failed")
      assert.include(releases[0]?.reference, "strange")
    }).pipe(Effect.provide(Logger.layer([]))))
})
