/**
 * Time as a machine in memory has it: what it does later, it does by the clock of the test.
 */
import { Clock, Effect, FiberSet } from "effect"
import * as Pending from "./Pending.ts"

export interface Timer {
  /** Milliseconds on a clock that nobody sets. */
  readonly now: number
  /** Runs something after so many milliseconds; answers with what calls it off. */
  readonly after: (millis: number, run: () => void) => () => void
}

/** A timer on the clock that is there now; what it has not yet run when the scope closes never runs. */
export const onClock = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const fork = yield* FiberSet.makeRuntime()
  const timer: Timer = {
    get now() {
      return Number(clock.monotonicTimeNanosUnsafe()) / 1e6
    },
    after: (millis, run) => {
      const fiber = fork(Effect.andThen(Pending.sleep(clock, millis), Effect.sync(run)))
      return () => fiber.interruptUnsafe()
    }
  }
  return timer
})
