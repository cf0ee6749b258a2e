import { assert, describe, it } from "@effect/vitest"
import { Slipway } from "@slipway/core"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Layer } from "effect"
import { services } from "../src/Services.ts"
import { type Fault, Faults, layer as faultLayer, type Mode, type Moment } from "./support/Faults.ts"
import * as World from "./support/World.ts"

const modes: ReadonlyArray<Mode> = ["fail", "die", "hang", "interrupt"]
const moments: ReadonlyArray<Moment> = ["before", "after"]
// Long enough for a step on a busy machine, short enough to wait for each step that hangs.
const hangLimit = Duration.seconds(5)
// Most that hang wait. More at once would take the machine from each other, and what is no fault would take too long as
// well.
const mostAtOnce = (mode: Mode): number => mode === "hang" ? 8 : 2

/**
 * Each fault that hangs takes its step's whole time. So half of them are struck by default, before and after the calls in
 * turn; SLIPWAY_SWEEP=whole strikes all.
 */
const isStruck = ({ index, mode, moment }: Fault): boolean =>
  mode !== "hang" || process.env["SLIPWAY_SWEEP"] === "whole" || (index % 2 === 0) === (moment === "before")

/** The facade on a world, with faults around the services below it. */
const faulty = (world: World.World, faults: Faults, stepLimit?: Duration.Duration) => {
  const options = { directory: world.home, caller: World.caller(world), stepLimit }
  const below = services(options)
  return Slipway.layerNoDeps(options).pipe(Layer.provide(faultLayer(faults)), Layer.provide(below), Layer.orDie)
}

/** Deploys once with one fault, in the world, and interrupts the deployer when the fault says so. */
const deployWith = (
  world: World.World,
  fault: Fault | undefined,
  script: string,
  ready: "survive" | "output",
  stepLimit?: Duration.Duration
) =>
  Effect.gen(function*() {
    const faults = new Faults(fault)
    let step = "request"
    let stepAtHit = step
    let committed = false
    const exit = yield* Effect.gen(function*() {
      const slipway = yield* Slipway
      faults.on = true
      const fiber = yield* Effect.forkChild(
        slipway.deploy({
          project: world.project,
          prompt: "work",
          type: "worker",
          agent: World.shell(script),
          ready,
          readyWithin: 5000
        }, {
          onStep: (next) =>
            Effect.sync(() => {
              if (faults.hit === undefined) stepAtHit = next
              step = next
            }),
          onCommitted: () => Effect.sync(() => void (committed = true))
        })
      )
      yield* Effect.forkChild(Effect.andThen(Deferred.await(faults.fired), Fiber.interrupt(fiber)))
      return yield* Fiber.await(fiber)
    }).pipe(Effect.provide(faulty(world, faults, stepLimit)))
    return { fault, hit: faults.hit, step: stepAtHit, exit, committed, calls: faults.calls }
  })

const describeFault = (
  story: { readonly fault: Fault | undefined; readonly hit: string | undefined; readonly step: string }
) =>
  `${story.fault?.mode} ${story.fault?.moment} call ${story.fault?.index} of ${
    story.fault?.since ?? "all"
  } (${story.hit}) at ${story.step}`

/** What is left after whoever looks next has settled; the first look is what the deployer itself left. */
const settleAndAudit = (world: World.World) =>
  Effect.gen(function*() {
    const slipway = yield* Slipway
    const agents = yield* slipway.agents({ activeOnly: true })
    yield* slipway.stop(agents.map((agent) => agent.id))
    return World.leftovers(world)
  }).pipe(Effect.provide(World.layer(world)))

describe("a fault at any call of a deployment", () => {
  for (const mode of modes) {
    it.live(
      `leaves nothing behind when the call does ${mode}, before it has happened or after`,
      () =>
        Effect.gen(function*() {
          const dry = yield* World.make
          const whole = yield* deployWith(dry, undefined, "echo up; sleep 1000", "output")
          assert.isTrue(Exit.isSuccess(whole.exit))
          const faults = moments.flatMap((moment) => whole.calls.map((_, index): Fault => ({ index, mode, moment })))
            .filter(isStruck)
          yield* Effect.forEach(faults, (fault) =>
            Effect.gen(function*() {
              const world = yield* World.make
              const story = yield* deployWith(
                world,
                fault,
                "echo up; sleep 1000",
                "output",
                mode === "hang" ? hangLimit : undefined
              )
              const label = describeFault(story)
              if (story.hit === undefined) return
              if (story.committed) {
                // The fault hit something that a deployment can do without, or came with the commit or after it. Whoever was
                // interrupted has been told of the agent.
                assert.isTrue(Exit.isSuccess(story.exit) || Exit.hasInterrupts(story.exit), label)
                assert.strictEqual(World.rows(world).filter((row) => row.status === "running").length, 1, label)
                return
              }
              if (Exit.isSuccess(story.exit)) return assert.fail(label)
              if (mode === "fail" || mode === "hang") checkTyped(story.exit.cause, story.step, label)
              if (mode === "interrupt") assert.isTrue(Cause.hasInterrupts(story.exit.cause), label)
              assert.deepStrictEqual(World.leftovers(world), [], label)
            }).pipe(Effect.scoped), { concurrency: mostAtOnce(mode), discard: true })
        }),
      300_000
    )
  }
})

const checkTyped = (cause: Cause.Cause<unknown>, step: string, label: string) => {
  const error = cause.reasons.find(Cause.isFailReason)?.error
  if (error === undefined) return
  assert.propertyVal(error, "_tag", "DeployError", label)
  assert.propertyVal(error, "step", step, label)
}

describe("a fault at any call of the rollback", () => {
  // It fails after it has left a child of its own behind, so that every release has something to do.
  const script = "sleep 1000 & echo boom >&2; exit 3"

  for (const mode of modes) {
    it.live(
      `keeps the error of the deployment and stops no other release when the call does ${mode}`,
      () =>
        Effect.gen(function*() {
          const dry = yield* World.make
          const whole = yield* deployWith(dry, undefined, script, "survive")
          const since = "Files.removeFile"
          const begin = whole.calls.indexOf(since)
          assert.isAbove(begin, 0)
          const faults = moments.flatMap((moment) =>
            whole.calls.slice(begin).map((_, index): Fault => ({ index, since, mode, moment }))
          ).filter(isStruck)
          yield* Effect.forEach(faults, (fault) =>
            Effect.gen(function*() {
              const world = yield* World.make
              const story = yield* deployWith(world, fault, script, "survive")
              const label = describeFault(story)
              assert.isTrue(Exit.isFailure(story.exit), label)
              if (Exit.isSuccess(story.exit)) return
              // An interruption that arrives during the rollback is answered when it is over.
              const failure = story.exit.cause.reasons.find(Cause.isFailReason)
              if (mode === "interrupt" && failure === undefined) {
                assert.isTrue(Cause.hasInterrupts(story.exit.cause), label)
              } else assert.nestedPropertyVal(failure?.error, "reason._tag", "AgentExitedEarly", label)
              const left = World.leftovers(world)
              if (mode !== "hang") {
                assert.deepStrictEqual(left, [], label)
              } else if (left.length > 0) {
                const releases = story.exit.cause.reasons.flatMap((reason) =>
                  Cause.isFailReason(reason) ? [reason.error] : []
                )
                assert.nestedPropertyVal(releases[0], "isClean", false, `${label} left ${left.join(", ")}`)
                assert.deepStrictEqual(yield* settleAndAudit(world), [], label)
              }
            }).pipe(Effect.scoped), { concurrency: mostAtOnce(mode), discard: true })
        }),
      300_000
    )
  }
})
