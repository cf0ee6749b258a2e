/**
 * Time in memory: a clock that moves only when nothing else can, and a scheduler that runs fibers in one turn.
 *
 * A history of hours takes milliseconds, and takes the same course each time. `step` runs whatever is ready, and only
 * when nothing is does it go to the next moment that somebody waits for. The wall clock can be set back beside it.
 */
import { type Clock, Duration, Effect, Scheduler } from "effect"

interface Waiter {
  readonly at: number
  readonly run: () => void
}

export class MemoryTime {
  /** Milliseconds since the beginning, on a clock that nobody sets. */
  now = 0
  /** What the wall clock shows at the beginning; whoever sets the clock changes it. */
  wall: number
  private readonly waiters: Array<Waiter> = []
  private ready: Array<() => void> = []
  readonly scheduler: Scheduler.Scheduler = new Scheduler.MixedScheduler("async", (run) => {
    this.ready.push(run)
    return () => {
      this.ready = this.ready.filter((other) => other !== run)
    }
  })
  readonly clock: Clock.Clock = this.clockOf(Effect.void)

  constructor(wall: number) {
    this.wall = wall
  }

  /** The clock of a program that hears of what came due only after `heard`. */
  clockOf(heard: Effect.Effect<void>): Clock.Clock {
    return {
      currentTimeMillisUnsafe: () => this.wall + this.now,
      currentTimeMillis: Effect.sync(() => this.wall + this.now),
      currentTimeNanosUnsafe: () => BigInt(Math.round((this.wall + this.now) * 1e6)),
      currentTimeNanos: Effect.sync(() => BigInt(Math.round((this.wall + this.now) * 1e6))),
      monotonicTimeNanosUnsafe: () => BigInt(Math.round(this.now * 1e6)),
      monotonicTimeNanos: Effect.sync(() => BigInt(Math.round(this.now * 1e6))),
      sleep: (duration) =>
        Effect.callback((resume) => {
          const cancel = this.after(Duration.toMillis(duration), () => resume(Effect.void))
          return Effect.sync(cancel)
        }).pipe(Effect.andThen(heard))
    }
  }

  /** Runs something after so many milliseconds; answers with what calls it off. */
  after(millis: number, run: () => void): () => void {
    const waiter: Waiter = { at: this.now + Math.max(0, millis), run }
    const index = this.waiters.findIndex((other) => other.at > waiter.at)
    this.waiters.splice(index < 0 ? this.waiters.length : index, 0, waiter)
    return () => {
      const at = this.waiters.indexOf(waiter)
      if (at >= 0) this.waiters.splice(at, 1)
    }
  }

  /** Runs all that is ready now. */
  flush(): void {
    while (this.ready.length > 0) {
      const ready = this.ready
      this.ready = []
      for (const run of ready) run()
    }
  }

  /** Goes to the next moment that somebody waits for, at most to `until`; answers whether there was one. */
  next(until = Number.POSITIVE_INFINITY): boolean {
    this.flush()
    const first = this.waiters[0]
    if (first === undefined || first.at > until) return false
    this.waiters.shift()
    this.now = Math.max(this.now, first.at)
    first.run()
    this.flush()
    return true
  }

  /** Lets so much time pass. */
  pass(millis: number): void {
    const until = this.now + millis
    while (this.next(until)) {
      // What came due may wait again.
    }
    this.now = until
  }
}
