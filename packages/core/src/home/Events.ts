/**
 * The events of a home as a stream: every transition of every agent, whichever process makes it.
 *
 * They come in the order of their commits, each once, each with a cursor that outlasts the subscriber. A subscriber
 * that follows again `after` the last one that it dealt with misses none and gets none twice. A slow subscriber reads
 * later; nothing is kept for it but what the registry has on record, and at most one batch is in memory. While nothing
 * happens a follower costs one short read a second. A file event on the registry's log wakes it, and the poll is for
 * what a file event failed to report. It holds one watch on the home's directory, which ends with it.
 *
 * A registry that can't be read ends the stream with its error; follow again from the last cursor. A rebuilt registry
 * begins anew with one event for each agent, and they stand behind all cursors of the one before. Not promised: the
 * events of a pruned agent. A subscriber that was away for longer than `prune` keeps agents finds those of the others.
 */
import { Array as Arr, Context, Duration, Effect, Layer, Queue, Stream } from "effect"
import { Files } from "../machine/Files.ts"
import { type EventCursor, EventLog, type HomeEvent } from "../registry/EventLog.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { Home } from "./Home.ts"

export interface FollowOptions {
  /**
   * Begin behind this event: its cursor from an earlier subscription, or `latest` for those alone that come from now
   * on. Without it, the stream begins with the first on record.
   */
  readonly after?: EventCursor | "latest" | undefined
}

/** How many events are read at once. */
const batch = 256

/** How soon a follower reads again after a file event that showed nothing new. */
const firstPauseMillis = 25

export class Events extends Context.Service<Events, {
  readonly follow: (options?: FollowOptions) => Stream.Stream<HomeEvent, RegistryError>
}>()("@slipway/core/Events") {
  /** A follower reads once in `interval` without a file event. */
  static readonly layerEvery = (interval: Duration.Input) => Layer.effect(Events, Effect.suspend(() => make(interval)))
  static readonly layer = Events.layerEvery("1 second")
}

const make = Effect.fnUntraced(function*(interval: Duration.Input) {
  const files = yield* Files
  const home = yield* Home
  const log = yield* EventLog
  const longestPauseMillis = Duration.toMillis(interval)

  const follow = (options: FollowOptions = {}) =>
    Stream.unwrap(Effect.gen(function*() {
      // Before the first read, so that nothing happens between the two.
      const changes = yield* files.watch(home.directory)
      let cursor: number = options.after === "latest" ? yield* log.lastEvent : options.after ?? 0
      let pauseMillis = longestPauseMillis
      // The file event comes with the write, and on a slow disk long before the commit: a read that is too early is
      // repeated.
      const wait = Effect.suspend(() =>
        Effect.raceFirst(
          Effect.as(Queue.take(changes), firstPauseMillis),
          Effect.as(Effect.sleep(pauseMillis), Math.min(pauseMillis * 2, longestPauseMillis))
        )
      )
      const next = Effect.gen(function*() {
        while (true) {
          const events = yield* log.eventsAfter(cursor, batch)
          if (Arr.isReadonlyArrayNonEmpty(events)) {
            cursor = Arr.lastNonEmpty(events).cursor
            return events
          }
          pauseMillis = yield* wait
        }
      })
      return Stream.fromPull(Effect.succeed(next))
    }))

  return Events.of({ follow })
})
