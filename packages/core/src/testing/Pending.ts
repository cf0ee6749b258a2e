/**
 * Which moments of a test clock somebody waits for: a test clock itself does not tell.
 */
import { type Clock, Duration, Effect } from "effect"

const known = new WeakMap<Clock.Clock, Map<symbol, number>>()

const momentsOf = (clock: Clock.Clock): Map<symbol, number> => {
  const moments = known.get(clock) ?? new Map<symbol, number>()
  known.set(clock, moments)
  return moments
}

/** Sleeps on the clock, and says so until it is over. */
export const sleep = (clock: Clock.Clock, duration: Duration.Input): Effect.Effect<void> =>
  Effect.suspend(() => {
    const moments = momentsOf(clock)
    const key = Symbol()
    const length = Duration.fromInputUnsafe(duration)
    moments.set(key, clock.currentTimeMillisUnsafe() + Duration.toMillis(length))
    return Effect.ensuring(clock.sleep(length), Effect.sync(() => void moments.delete(key)))
  })

/** The next moment that somebody waits for, in milliseconds; undefined where nobody does. */
export const next = (clock: Clock.Clock): number | undefined => {
  const moments = [...momentsOf(clock).values()]
  return moments.length === 0 ? undefined : Math.min(...moments)
}
