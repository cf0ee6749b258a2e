/**
 * Names that no two calls share.
 */
import { Effect, Random } from "effect"

/** `digits` (at most 12) random lower-case hexadecimal digits. */
export const randomHex = (digits: number): Effect.Effect<string> =>
  Effect.map(Random.nextIntBetween(0, 16 ** digits - 1), (value) => value.toString(16).padStart(digits, "0"))
