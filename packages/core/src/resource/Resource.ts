/**
 * A durable acquireRelease: a kind of thing that a deployment makes, known by a reference that is decided, and stored,
 * before the thing is made.
 *
 * A kind is a value. Its reference is a codec, so that the registry can keep it. Its release takes the reference and
 * what the registry records of the agent, and nothing else. So the failed deployment, the end of an agent, a stop, a
 * reap and a prune all call the very same function, in whichever process. What was code in each of them is data here:
 * which kinds go first (`after`), which keep it (`keptBy`), whether it holds a slot (`occupies`), and when it goes
 * (`until`).
 *
 * `define` makes a kind of it that the walk (`Rollback`) can call without knowing its types.
 */
import { Cause, Duration, Effect, Exit, Fiber, Option, Result, Schema } from "effect"
import type { Subject } from "../agent/Agent.ts"
import type { Planned, Until } from "../agent/Plan.ts"
import { failed, isClean, killedBy, type ReleaseOutcome, type ReleaseRecord, withKilled } from "../agent/Release.ts"

/** Whether a thing stands at a reference. `Unknown` is never acted on. */
export type Presence =
  | { readonly _tag: "Present" }
  | { readonly _tag: "Absent" }
  | { readonly _tag: "Unknown"; readonly reason: string }

/** What the walk knows of a kind without its types. */
export interface Rules {
  /** The name in the plan and in JSON. */
  readonly kind: string
  /**
   * These kinds are released before it, wherever the plan has them, and so are those that keep it; others in the reverse
   * order of their making.
   */
  readonly after?: ReadonlyArray<string> | undefined
  /** What one of these kinds left in the same walk keeps it. */
  readonly keptBy?: ReadonlyArray<string> | undefined
  /** Whether an agent holds its slot as long as this could not be released, since it may live. */
  readonly occupies?: boolean | undefined
  readonly until: Until
}

export interface Resource<Ref, in Input, out Made, out E> extends Rules {
  readonly Reference: Schema.Codec<Ref, unknown>
  /** For people. */
  readonly describe: (ref: Ref) => string
  /** How long one release may take, retries included. */
  readonly limit: (ref: Ref, subject: Subject) => Duration.Duration
  /**
   * Makes the thing, interruptibly and with a typed error. One that fails, or is interrupted or killed half way, is
   * released as one that succeeded.
   */
  readonly make: (ref: Ref, input: Input, subject: Subject) => Effect.Effect<Made, E>
  /**
   * Removes what stands at the reference if it is the agent's own. It may be called any number of times, by any process,
   * also where nothing was made yet; it never fails and answers with what it did.
   */
  readonly release: (ref: Ref, subject: Subject) => Effect.Effect<ReleaseOutcome>
  /** Looks, and changes nothing. */
  readonly probe: (ref: Ref, subject: Subject) => Effect.Effect<Presence>
}

/** A release that is ready to run. */
export interface Release {
  /** The reference, for people. */
  readonly reference: string
  readonly limit: Duration.Duration
  readonly once: Effect.Effect<ReleaseOutcome>
}

/** A kind as the walk calls it: the reference is as the registry keeps it. */
export interface Kind extends Rules {
  readonly release: (reference: Schema.Json, subject: Subject) => Release
  readonly probe: (reference: Schema.Json, subject: Subject) => Effect.Effect<Presence>
}

const unreadable = "its reference can't be read by this version"

/** Where a kind's own pure function breaks, the walk goes on without its answer. */
const orElse = <A>(f: () => A, other: A): A => Result.getOrElse(Result.try(f), () => other)

/** A release whose kind does not say how long it may take. */
const fallbackLimit = Duration.seconds(10)

/** The kind that the walk calls. A reference that can't be decoded is reported, and nothing is done. */
export const define = <Ref, Input, Made, E>(resource: Resource<Ref, Input, Made, E>): Kind => {
  const decode = Schema.decodeUnknownOption(Schema.toCodecJson(resource.Reference))
  return {
    kind: resource.kind,
    after: resource.after,
    keptBy: resource.keptBy,
    occupies: resource.occupies,
    until: resource.until,
    release: (reference, subject) =>
      Option.match(orElse(() => decode(reference), Option.none()), {
        onNone: (): Release => ({
          reference: JSON.stringify(reference),
          limit: fallbackLimit,
          once: Effect.succeed(failed(unreadable))
        }),
        onSome: (ref): Release => ({
          reference: orElse(() => resource.describe(ref), JSON.stringify(reference)),
          limit: orElse(() => resource.limit(ref, subject), fallbackLimit),
          // Suspended: a kind's release may do its work, or break, before it has given an effect.
          once: Effect.suspend(() => resource.release(ref, subject))
        })
      }),
    probe: (reference, subject) =>
      Option.match(orElse(() => decode(reference), Option.none()), {
        onNone: () => Effect.succeed<Presence>({ _tag: "Unknown", reason: unreadable }),
        onSome: (ref) => Effect.suspend(() => resource.probe(ref, subject))
      })
  }
}

/** A thing of the plan, with its reference as the registry will keep it. */
export const planned = <Ref, Input, Made, E>(
  resource: Pick<Resource<Ref, Input, Made, E>, "kind" | "Reference" | "until" | "occupies">,
  ref: Ref
): Effect.Effect<Planned, Schema.SchemaError> =>
  Effect.map(
    Schema.encodeEffect(Schema.toCodecJson(resource.Reference))(ref),
    (reference): Planned => ({
      kind: resource.kind,
      reference,
      until: resource.until,
      ...(resource.occupies === true ? { occupies: true } : {})
    })
  )

const retryDelay = Duration.millis(100)

/**
 * Runs a release as every caller must: caught on its own, limited in time, and tried once more after a failure that may
 * pass. It is logged at DEBUG when all went well, at INFO when it needed a KILL or left alone what is not ours, and at
 * ERROR when something is left. Never fails, and takes at most its limit: a release that does not answer an
 * interrupt goes on in the background and is reported as failed.
 */
export const release = Effect.fnUntraced(function*(
  rules: Pick<Rules, "kind" | "occupies">,
  { limit, once, reference }: Release,
  options?: { readonly made?: boolean }
) {
  const caught = once.pipe(
    Effect.catchCause((cause) => Effect.succeed(failed(`the release itself broke: ${describeCause(cause)}`)))
  )
  const attempts = Effect.flatMap(
    caught,
    (outcome) =>
      outcome._tag === "Failed"
        ? Effect.map(Effect.delay(caught, retryDelay), (again) => withKilled(again, killedBy(outcome)))
        : Effect.succeed(outcome)
  )
  const [elapsed, outcome] = yield* Effect.timed(
    bounded(attempts, limit, () => failed(`not done within ${Duration.format(limit)}`))
  )
  const record: ReleaseRecord = {
    resource: rules.kind,
    reference,
    made: options?.made ?? true,
    outcome,
    millis: Duration.toMillis(elapsed),
    ...(rules.occupies === true && !isClean(outcome) ? { occupies: true } : {})
  }
  if (!record.made && outcome._tag === "AlreadyGone") return record
  yield* logRecord(record)
  return record
})

/** Logs what a release did, once. */
export const logRecord = (record: ReleaseRecord): Effect.Effect<void> =>
  logOf(record).pipe(Effect.annotateLogs(logFields(record)))

const logOf = (record: ReleaseRecord): Effect.Effect<void> => {
  const { outcome, resource } = record
  if (!isClean(outcome)) return Effect.logError(`could not release ${resource}`)
  if (outcome._tag === "Kept") return Effect.logInfo(`left alone ${resource}`)
  const line = `released ${resource}`
  return killedBy(outcome) > 0 ? Effect.logInfo(line) : Effect.logDebug(line)
}

const logFields = (record: ReleaseRecord) => ({
  resource: record.resource,
  reference: record.reference,
  outcome: record.outcome._tag,
  ...("reason" in record.outcome ? { reason: record.outcome.reason } : {}),
  ...("processes" in record.outcome ? { pids: record.outcome.processes.map(({ pid }) => pid) } : {}),
  ...(killedBy(record.outcome) > 0 ? { killed: killedBy(record.outcome) } : {}),
  millis: Math.round(record.millis)
})

/**
 * The effect's answer, or `late` when it has not come in time: the effect then goes on in the background, interrupted.
 * `Effect.timeout` would wait until the interrupted effect has ended. One that hangs uninterruptibly, or takes a second
 * to end its child process, would delay everything after it.
 */
export const bounded = Effect.fnUntraced(function*<A, B>(
  effect: Effect.Effect<A>,
  limit: Duration.Duration,
  late: () => B
) {
  const fiber = yield* Effect.forkDetach(effect, { startImmediately: true })
  const exit = yield* Effect.timeoutOption(Fiber.await(fiber), limit)
  if (Option.isSome(exit) && Exit.isSuccess(exit.value)) return exit.value.value
  fiber.interruptUnsafe()
  return late()
})

/** The tags and messages of a cause, on one line, without stack traces. */
export const describeCause = (cause: Cause.Cause<unknown>): string =>
  Cause.prettyErrors(cause).map((error) => `${error.name}: ${error.message}`).join("; ") || "interrupted"
