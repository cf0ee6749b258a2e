/**
 * Lets the time of a test pass for as long as an effect runs.
 *
 * The test clock goes from one moment that somebody waits for to the next, so an hour takes as long as what happens in
 * it. What needs real time (a socket, a thread) is not waited for: replace it in the test, or run the test on the real
 * clock, where `elapse` changes nothing.
 */
import { Sentence } from "@slipway/tmux"
import { Clock, Duration, Effect, Fiber, Predicate, Schema } from "effect"
import type { TestClock } from "effect/testing"
import * as Pending from "./Pending.ts"

/** The effect had not ended when the time for it was over; it was interrupted. */
export class StillRunning extends Schema.TaggedError<StillRunning>()("StillRunning", { millis: Schema.Finite }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const limit = Duration.format(Duration.millis(this.millis))
    return `what the test runs has not ended within ${limit} of its time: does it wait for an agent whose script hangs?`
  }
}

export interface ElapseOptions {
  /** How much time may pass; an hour by default. */
  readonly limit?: Duration.Input | undefined
}

const isTestClock = (clock: Clock.Clock): clock is TestClock.TestClock =>
  Predicate.hasProperty(clock, "adjust") && Predicate.hasProperty(clock, "withLive")

const driven = new WeakSet<Clock.Clock>()

/** The clock with another sleep; where `elapse` drives the clock, it drives this one too. */
export const withSleep = <C extends Clock.Clock>(clock: C, sleep: Clock.Clock["sleep"]): C => {
  // A clock may be an instance of a class, of which a copy would lose what it inherits.
  const other = new Proxy(clock, { get: (target, key) => key === "sleep" ? sleep : Reflect.get(target, key) })
  if (driven.has(clock)) driven.add(other)
  return other
}

/** Lets what is ready run. */
const turn = Effect.callback<void>((resume) => {
  const next = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(next))
})

/** How far the clock goes where something is awaited and nobody sleeps. */
const idleMillis = 100

/**
 * Runs an effect, and moves the test clock on for as long as it runs. Fails with `StillRunning` when the limit is over, and
 * then interrupts the effect. On another clock than the test's, and inside of another `elapse`, it only runs the effect.
 */
export const elapse = Effect.fnUntraced(function*<A, E, R>(
  effect: Effect.Effect<A, E, R>,
  options: ElapseOptions = {}
): Effect.fn.Return<A, E | StillRunning, R> {
  const clock = yield* Clock.Clock
  if (!isTestClock(clock) || driven.has(clock)) return yield* effect
  const tracked = withSleep(clock, (duration) => Pending.sleep(clock, duration))
  driven.add(tracked)
  const limit = Duration.toMillis(Duration.fromInputUnsafe(options.limit ?? "1 hour"))
  const end = clock.currentTimeMillisUnsafe() + limit
  const fiber = yield* Effect.forkChild(Effect.provideService(effect, Clock.Clock, tracked), { startImmediately: true })
  while (true) {
    yield* turn
    yield* turn
    if (fiber.pollUnsafe() !== undefined) return yield* Fiber.join(fiber)
    const now = clock.currentTimeMillisUnsafe()
    if (now >= end) {
      yield* Fiber.interrupt(fiber)
      return yield* new StillRunning({ millis: limit })
    }
    const next = Math.min(Pending.next(clock) ?? now + idleMillis, end)
    yield* clock.adjust(Duration.millis(Math.max(next - now, 1)))
  }
})
