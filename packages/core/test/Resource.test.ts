import { assert, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Logger, References, Schema } from "effect"
import * as CleanupReport from "../src/agent/CleanupReport.ts"
import * as Release from "../src/agent/Release.ts"
import * as Resource from "../src/resource/Resource.ts"
import * as Rollback from "../src/resource/Rollback.ts"
import { record, subject } from "./rows.ts"

class Boom extends Schema.TaggedError<Boom>()("Boom", {}) {}

const limit = Duration.millis(60)

/** A resource that is made of what the test says, with all that was asked of it and of its release in one list. */
const resource = (
  name: string,
  story: Array<string>,
  parts: {
    readonly make?: Effect.Effect<string, Boom>
    readonly release?: Effect.Effect<Release.ReleaseOutcome>
    readonly limit?: Duration.Duration
  } = {}
): Resource.Resource<string, void, string, Boom> => ({
  kind: name,
  Reference: Schema.String,
  until: "end",
  limit: () => parts.limit ?? limit,
  describe: (ref) => ref,
  make: (ref) => Effect.andThen(Effect.sync(() => story.push(`make ${ref}`)), parts.make ?? Effect.succeed(name)),
  release: (ref) =>
    Effect.andThen(Effect.sync(() => story.push(`release ${ref}`)), parts.release ?? Effect.succeed(Release.Released)),
  probe: () => Effect.succeed({ _tag: "Absent" })
})

/** A deployment of these resources, and then something more. */
const run = (
  resources: ReadonlyArray<readonly [reference: string, resource: Resource.Resource<string, void, string, Boom>]>,
  then: Effect.Effect<void, Boom> = Effect.void
) => {
  const records: Array<Release.ReleaseRecord> = []
  const kinds = resources.map(([, resource]) => Resource.define(resource))
  const plan = resources.map(([reference, { kind }]) => ({ kind, reference }))
  const effect = Effect.scoped(Effect.gen(function*() {
    const making = yield* Rollback.claim((progress) =>
      Effect.asVoid(Rollback.releaseAll(kinds, plan, subject, {
        until: "rollback",
        unknown: "name",
        progress,
        onRelease: (record) => Effect.sync(() => records.push(record))
      }))
    )
    const made: Array<string> = []
    for (const [reference, resource] of resources) {
      made.push(yield* making.make(resource.kind, resource.make(reference, undefined, subject)))
    }
    yield* then
    return made
  })).pipe(Effect.provide(Logger.layer([])))
  return { effect, records }
}

const releaseOf = (
  resource: Resource.Resource<string, void, string, Boom>,
  options?: { readonly made?: boolean }
) => Resource.release(resource, Resource.define(resource).release("a", subject), options)

const fails = Effect.fail(new Boom())
const hangs = Effect.never
const hangsUninterruptibly = Effect.uninterruptible(Effect.never)

const typedBoom = (exit: Exit.Exit<unknown, Boom>) =>
  Exit.isFailure(exit) && exit.cause.reasons.length === 1 && exit.cause.reasons.every(Cause.isFailReason)

describe("a claimed plan", () => {
  it.live("nothing is released when the scope closes with success", () =>
    Effect.gen(function*() {
      const story: Array<string> = []
      const { effect, records } = run([["a", resource("A", story)], ["b", resource("B", story)]])
      assert.deepStrictEqual(yield* effect, ["A", "B"])
      assert.deepStrictEqual(story, ["make a", "make b"])
      assert.deepStrictEqual(records, [])
    }))

  it.live("all is released after a failure, the last first, each once", () =>
    Effect.gen(function*() {
      const story: Array<string> = []
      const three = ["a", "b", "c"].map((ref) => [ref, resource(ref, story)] as const)
      const { effect, records } = run(three, fails)
      assert.isTrue(typedBoom(yield* Effect.exit(effect)))
      assert.deepStrictEqual(story, ["make a", "make b", "make c", "release c", "release b", "release a"])
      assert.deepStrictEqual(records.map((record) => [record.reference, record.made, record.outcome._tag]), [
        ["c", true, "Released"],
        ["b", true, "Released"],
        ["a", true, "Released"]
      ])
    }))

  const halfMade: Record<string, Effect.Effect<string, Boom>> = {
    fails,
    dies: Effect.die("a bug"),
    "interrupts itself": Effect.interrupt,
    "times out": Effect.timeoutOrElse(Effect.never, { duration: "10 millis", orElse: () => fails })
  }
  for (const [how, make] of Object.entries(halfMade)) {
    it.live(`a make that ${how} half way is released, and so is all before it`, () =>
      Effect.gen(function*() {
        const story: Array<string> = []
        const { effect, records } = run([["a", resource("A", story)], ["b", resource("B", story, { make })]])
        assert.isTrue(Exit.isFailure(yield* Effect.exit(effect)))
        assert.deepStrictEqual(story, ["make a", "make b", "release b", "release a"])
        assert.deepStrictEqual(records.map((record) => record.made), [false, true])
      }))
  }

  it.live("a make in which the deployment is interrupted is released, and the interruption comes at once", () =>
    Effect.gen(function*() {
      const story: Array<string> = []
      const begun = yield* Deferred.make<void>()
      const make = Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
      const { effect, records } = run([["a", resource("A", story)], ["b", resource("B", story, { make })]])
      const fiber = yield* Effect.forkChild(effect)
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(fiber)
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause))
      assert.deepStrictEqual(story, ["make a", "make b", "release b", "release a"])
      assert.deepStrictEqual(records.map((record) => record.made), [false, true])
    }))
})

describe("release", () => {
  const broken: Record<string, [release: Effect.Effect<Release.ReleaseOutcome>, attempts: number, reason: RegExp]> = {
    dies: [
      Effect.die(new TypeError("a bug in a release")),
      2,
      /the release itself broke: TypeError: a bug in a release/
    ],
    fails: [Effect.succeed(Release.failed("the disk is full")), 2, /the disk is full/],
    hangs: [hangs, 1, /not done within 60ms/],
    "hangs uninterruptibly": [hangsUninterruptibly, 1, /not done within 60ms/],
    "hangs after a failure": [Effect.never.pipe(Effect.ensuring(Effect.never)), 1, /not done within 60ms/],
    "is interrupted": [Effect.interrupt, 2, /./]
  }
  for (const [how, [release, attempts, reason]] of Object.entries(broken)) {
    it.live(`one that ${how} is reported, is bounded, and stops neither the others nor the error`, () =>
      Effect.gen(function*() {
        const story: Array<string> = []
        const own = attempts === 2 ? Duration.millis(1000) : limit
        const { effect, records } = run([
          ["a", resource("A", story)],
          ["b", resource("B", story, { release, limit: own })],
          ["c", resource("C", story)]
        ], fails)
        const [took, exit] = yield* Effect.timed(Effect.exit(effect))
        assert.isTrue(typedBoom(exit))
        assert.isBelow(Duration.toMillis(took), 900)
        assert.deepStrictEqual(records.map((record) => record.reference), ["c", "b", "a"])
        assert.deepStrictEqual(records.map((record) => Release.isClean(record.outcome)), [true, false, true])
        assert.strictEqual(story.filter((line) => line === "release b").length, attempts)
        const outcome = records[1]?.outcome
        assert.match(outcome?._tag === "Failed" ? outcome.reason : "", reason)
        assert.deepStrictEqual(CleanupReport.leftovers({ releases: records }), records.slice(1, 2))
      }))
  }

  it.live("one that failed once is tried once more, and then it is released", () =>
    Effect.gen(function*() {
      const story: Array<string> = []
      const outcomes = [Release.failed("busy"), Release.Released]
      const release = Effect.sync(() => outcomes.shift() ?? Release.failed("asked too often"))
      const made = yield* releaseOf(resource("A", story, { release, limit: Duration.seconds(2) }))
      assert.deepInclude(made, { resource: "A", reference: "a", made: true, outcome: { _tag: "Released" } })
      assert.isAbove(made.millis, 50)
      assert.deepStrictEqual(story, ["release a", "release a"])
    }).pipe(Effect.provide(Logger.layer([]))))

  it.live("one that takes too long is interrupted, and not waited for", () =>
    Effect.gen(function*() {
      const interrupted = yield* Deferred.make<void>()
      const release = Effect.never.pipe(Effect.onInterrupt(() => Deferred.succeed(interrupted, undefined)))
      const record = yield* releaseOf(resource("A", [], { release }))
      assert.strictEqual(record.outcome._tag, "Failed")
      yield* Deferred.await(interrupted)
    }).pipe(Effect.provide(Logger.layer([]))))

  it.live("what is kept, and what survives, is not tried again", () =>
    Effect.gen(function*() {
      const survivors: Release.ReleaseOutcome = { _tag: "Survivors", processes: [{ pid: 7, start: "1" }] }
      for (const outcome of [Release.kept("it is another's"), survivors, Release.AlreadyGone]) {
        const story: Array<string> = []
        const record = yield* releaseOf(resource("A", story, { release: Effect.succeed(outcome) }), { made: false })
        assert.deepInclude(record, { made: false, outcome })
        assert.strictEqual(story.length, 1)
      }
    }).pipe(Effect.provide(Logger.layer([]))))

  it.live("what is left is logged as an error with its reason, what went well is for those who debug", () =>
    Effect.gen(function*() {
      const lines: Array<readonly [level: string, message: unknown, annotations: Readonly<Record<string, unknown>>]> =
        []
      const logger = Logger.make(({ fiber, logLevel, message }) => {
        const annotations = fiber.getRef(References.CurrentLogAnnotations)
        lines.push([logLevel, message, annotations])
      })
      for (
        const outcome of [
          Release.Released,
          Release.AlreadyGone,
          Release.kept("another's"),
          Release.failed("stuck"),
          Release.withKilled(Release.Released, 2)
        ]
      ) {
        yield* releaseOf(resource("A", [], { release: Effect.succeed(outcome), limit: Duration.seconds(1) })).pipe(
          Effect.provide(Logger.layer([logger])),
          Effect.provideService(References.MinimumLogLevel, "Debug")
        )
      }
      assert.deepStrictEqual(lines.map(([level]) => level), ["Debug", "Debug", "Info", "Error", "Info"])
      assert.deepInclude(lines[4]?.[2], { outcome: "Released", killed: 2 })
      assert.deepInclude(lines[3]?.[2], {
        resource: "A",
        reference: "a",
        outcome: "Failed",
        reason: "stuck"
      })
      assert.deepInclude(lines[0]?.[2], { resource: "A", reference: "a", outcome: "Released" })
      assert.deepStrictEqual(lines.map(([, message]) => String(message)), [
        "released A",
        "released A",
        "left alone A",
        "could not release A",
        "released A"
      ])
    }))
})

describe("the cleanup report", () => {
  const report: CleanupReport.CleanupReport = {
    releases: [
      record("tmux_session", { _tag: "Survivors", processes: [{ pid: 7, start: "1" }, { pid: 8, start: "1" }] }),
      record("task_registry", Release.kept("it bears another id")),
      record("prompt_file", Release.Released),
      { ...record("global_registry", Release.AlreadyGone), made: false }
    ]
  }

  it("what is left is what was neither released nor another's", () => {
    assert.deepStrictEqual(CleanupReport.leftovers(report).map((record) => record.resource), ["tmux_session"])
    assert.deepStrictEqual(CleanupReport.leftovers(CleanupReport.empty), [])
  })

  it("each resource has its last outcome, and none where there was nothing to clean", () => {
    assert.strictEqual(CleanupReport.outcomeOf(report, "global_registry"), null)
    assert.strictEqual(CleanupReport.outcomeOf(report, "prompt_file")?._tag, "Released")
    const again = CleanupReport.add(report, record("tmux_session", Release.Released))
    assert.strictEqual(CleanupReport.outcomeOf(again, "tmux_session")?._tag, "Released")
    assert.strictEqual(CleanupReport.outcomeOf(CleanupReport.empty, "tmux_session"), null)
    assert.isTrue(CleanupReport.performed(report))
    assert.isFalse(CleanupReport.performed(CleanupReport.empty))
    assert.isFalse(CleanupReport.performed({ releases: report.releases.slice(3) }))
  })

  it("every problem is one sentence that names the resource", () => {
    assert.deepStrictEqual(CleanupReport.problems(report), [
      "tmux_session the tmux_session: processes 7, 8 are still alive",
      "task_registry the task_registry was left alone: it bears another id"
    ])
  })
})
