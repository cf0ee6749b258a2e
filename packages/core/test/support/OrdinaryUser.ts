/**
 * What an ordinary user may do with files, whoever runs the tests: root becomes another user for as long as the effect, anybody else
 * is one already. The whole process changes, so that the effect should be done at once and beside nothing else.
 */
import { Effect } from "effect"

const nobody = 65_534

export const asOrdinaryUser = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  process.getuid?.() !== 0
    ? effect
    : Effect.acquireUseRelease(
      Effect.sync(() => process.seteuid?.(nobody)),
      () => effect,
      () => Effect.sync(() => process.seteuid?.(0))
    )
