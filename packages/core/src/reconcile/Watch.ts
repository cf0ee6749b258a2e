/**
 * The standing reaper: reaps every so often, as the one of its home.
 *
 * A turn that fails, typed, is told as such and does not end the watch; the next turn tries again. What is under way when the
 * watch is interrupted is finished by whichever process looks next, as with every reap.
 */
import { Clock, Duration, Effect, type Result, Schedule, Stream } from "effect"
import { durationOf } from "../agent/InvalidRequest.ts"
import type { ReaperRunning } from "../home/ReaperLock.ts"
import type { FileError } from "../machine/Files.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import type { Reaped } from "./ReapPlan.ts"

export interface WatchOptions {
  /** From the end of a turn to the beginning of the next; 30 seconds by default. */
  readonly every?: Duration.Input | undefined
  /** Strays to remove, by the ids that they bear. */
  readonly strays?: ReadonlyArray<string> | undefined
}

/** The first element of a watch says that this process holds it; each other one is a reap. */
export type Watched = { readonly _tag: "Began" } | Turn

/** One reap of a watch. */
export interface Turn {
  readonly _tag: "Turn"
  /** What became of each item of the plan, or why there was none. */
  readonly result: Result.Result<ReadonlyArray<Reaped>, RegistryError>
  readonly took: Duration.Duration
}

export const defaultInterval = Duration.seconds(30)

/** Turns without end, as long as `hold` holds the home's lock. */
export const watch = <R>(
  reap: Effect.Effect<ReadonlyArray<Reaped>, RegistryError>,
  hold: Effect.Effect<void, ReaperRunning | FileError, R>,
  every: Duration.Input = defaultInterval
) => {
  const turn = Effect.gen(function*() {
    const begin = yield* Clock.monotonicTimeNanos
    const result = yield* Effect.result(reap)
    const made: Turn = { _tag: "Turn", result, took: Duration.nanos((yield* Clock.monotonicTimeNanos) - begin) }
    return made
  })
  const began: Watched = { _tag: "Began" }
  return Stream.unwrap(Effect.gen(function*() {
    const pause = yield* durationOf("every", every)
    yield* hold
    return Stream.concat(Stream.succeed(began), Stream.fromEffectSchedule(turn, Schedule.spaced(pause)))
  }))
}
