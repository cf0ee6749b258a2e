/**
 * Durations as people type them, and as tables show them.
 *
 * Understood are numbers with units (`500ms`, `2s`, `1h30m`, `7d`, `2 seconds`). A number alone is refused, because its
 * unit is not known. So is a duration that is negative, or longer than a year.
 */
import { Option } from "effect"

const unitMillis = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const

const units: ReadonlyArray<readonly [pattern: RegExp, millis: number]> = [
  [/^(ms|millis|milliseconds?)$/, unitMillis.ms],
  [/^(s|secs?|seconds?)$/, unitMillis.s],
  [/^(m|mins?|minutes?)$/, unitMillis.m],
  [/^(h|hours?)$/, unitMillis.h],
  [/^(d|days?)$/, unitMillis.d],
  [/^(w|weeks?)$/, unitMillis.w]
]

const maxMillis = 366 * unitMillis.d

/** The form of a duration, for help and messages. */
export const expected = "a duration such as 500ms, 2s, 5m, 1h30m or 7d, of at most a year"

/** The milliseconds of a duration, if it is one. */
export const parseMillis = (text: string): Option.Option<number> => {
  const trimmed = text.trim().toLowerCase()
  if (!/^(?:\d+(?:\.\d+)? *[a-z]+ *)+$/.test(trimmed)) return Option.none()
  let sum = 0
  for (const [, number, name] of trimmed.matchAll(/(\d+(?:\.\d+)?) *([a-z]+)/g)) {
    const unit = units.find(([pattern]) => pattern.test(name ?? ""))
    if (unit === undefined) return Option.none()
    sum += Number(number) * unit[1]
  }
  return sum <= maxMillis ? Option.some(sum) : Option.none()
}

/** A length of time in one unit, such as `42s` or `3h`. */
export const short = (millis: number): string => {
  const elapsed = Math.max(0, millis)
  if (elapsed < unitMillis.m) return `${Math.floor(elapsed / unitMillis.s)}s`
  if (elapsed < unitMillis.h) return `${Math.floor(elapsed / unitMillis.m)}m`
  if (elapsed < unitMillis.d) return `${Math.floor(elapsed / unitMillis.h)}h`
  return `${Math.floor(elapsed / unitMillis.d)}d`
}
