/**
 * A durable acquireRelease: a thing that a deployment makes, known by a reference that is decided before it is made.
 *
 * `hold` first acquires the claim to the reference. That cannot fail, so from then on the release is certain to run.
 * Only then does it make the thing, interruptibly and with a typed error. So a make that fails or is interrupted half
 * way is released too, which plain `Effect.acquireRelease` does not do. When the scope closes with success nothing is
 * released: returning is the commit.
 *
 * The release is written once per resource and takes the reference alone. So the finalizer of a failed deployment, a
 * stop, and the reaper after a crash all call the same function. It never fails, may be run any number of times by any
 * process, answers with an outcome, and is bounded in time here.
 */
import { Cause, Duration, Effect, Exit, Fiber, Option, Schema, type Scope } from "effect"
import { ProcessIdentity } from "./Host.ts"

/** The four things a deployment makes, named as the command's JSON names them. */
export const ResourceKind = Schema.Literals(["global_registry", "prompt_file", "tmux_session", "task_registry"])
export type ResourceKind = typeof ResourceKind.Type

/** How many processes needed KILL; absent where there were none. */
const killed = { killed: Schema.optionalKey(Schema.Int) }

/** What a release did. Only `Released` and `AlreadyGone` mean that nothing is left. */
export const ReleaseOutcome = Schema.TaggedUnion({
  Released: killed,
  AlreadyGone: {},
  /** Something at the reference does not bear our id; it was not touched. */
  Kept: { reason: Schema.String, ...killed },
  /** Processes that outlived KILL. */
  Survivors: { processes: Schema.Array(ProcessIdentity), ...killed },
  Failed: { reason: Schema.String, ...killed }
})
export type ReleaseOutcome = typeof ReleaseOutcome.Type

export const Released: ReleaseOutcome = { _tag: "Released" }
export const AlreadyGone: ReleaseOutcome = { _tag: "AlreadyGone" }
export const kept = (reason: string): ReleaseOutcome => ({ _tag: "Kept", reason })
export const failed = (reason: string): ReleaseOutcome => ({ _tag: "Failed", reason })

/** How many processes a release had to send KILL: more than 0 means that the agent did not end after TERM. */
export const killedBy = (outcome: ReleaseOutcome): number => "killed" in outcome ? outcome.killed ?? 0 : 0

/** The outcome of a release that also sent KILL to so many processes; a release that killed did find something. */
export const withKilled = (outcome: ReleaseOutcome, count: number): ReleaseOutcome =>
  count === 0
    ? outcome
    : outcome._tag === "AlreadyGone"
    ? { _tag: "Released", killed: count }
    : { ...outcome, killed: killedBy(outcome) + count }

/** Whether nothing of ours is left: what is `Kept` is not ours. */
export const isClean = (outcome: ReleaseOutcome): boolean =>
  outcome._tag === "Released" || outcome._tag === "AlreadyGone" || outcome._tag === "Kept"

/** Whether a thing stands at a reference. `Unknown` is never acted on. */
export type Presence =
  | { readonly _tag: "Present" }
  | { readonly _tag: "Absent" }
  | { readonly _tag: "Unknown"; readonly reason: string }

/** One line of a cleanup report. */
export const ReleaseRecord = Schema.Struct({
  resource: ResourceKind,
  reference: Schema.String,
  /** Whether the make had finished: only then was there surely something to release. */
  made: Schema.Boolean,
  outcome: ReleaseOutcome,
  millis: Schema.Finite
})
export type ReleaseRecord = typeof ReleaseRecord.Type

export interface Resource<in Ref, in Args, out Made, out E> {
  readonly kind: ResourceKind
  /** How long one release may take, retries included. */
  readonly limit: (ref: Ref) => Duration.Duration
  readonly describe: (ref: Ref) => string
  readonly make: (ref: Ref, args: Args) => Effect.Effect<Made, E>
  readonly release: (ref: Ref) => Effect.Effect<ReleaseOutcome>
  readonly probe: (ref: Ref) => Effect.Effect<Presence>
}

/** What `release` needs to know of a resource. */
export type Releasable<in Ref> = Pick<Resource<Ref, never, unknown, unknown>, "kind" | "limit" | "describe" | "release">

const retryDelay = Duration.millis(100)

/**
 * Runs a release as every caller must: caught on its own, limited in time, and tried once more after a failure that may
 * pass. It is logged at DEBUG when all went well, at INFO when it needed a KILL or left alone what is not ours, and at
 * ERROR when something is left. Never fails, and takes at most `resource.limit`: a release that does not answer an
 * interrupt goes on in the background and is reported as failed.
 */
export const release = Effect.fnUntraced(function*<Ref>(
  resource: Releasable<Ref>,
  ref: Ref,
  options?: { readonly made?: boolean }
) {
  const limit = resource.limit(ref)
  const once = resource.release(ref).pipe(
    Effect.catchCause((cause) => Effect.succeed(failed(`the release itself broke: ${describeCause(cause)}`)))
  )
  const attempts = Effect.flatMap(
    once,
    (outcome) =>
      outcome._tag === "Failed"
        ? Effect.map(Effect.delay(once, retryDelay), (again) => withKilled(again, killedBy(outcome)))
        : Effect.succeed(outcome)
  )
  const [elapsed, outcome] = yield* Effect.timed(
    bounded(attempts, limit, () => failed(`not done within ${Duration.format(limit)}`))
  )
  const record: ReleaseRecord = {
    resource: resource.kind,
    reference: resource.describe(ref),
    made: options?.made ?? true,
    outcome,
    millis: Duration.toMillis(elapsed)
  }
  if (!record.made && outcome._tag === "AlreadyGone") return record
  yield* logOf(record).pipe(Effect.annotateLogs(logFields(record)))
  return record
})

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

/**
 * Claims the reference in the current scope, then makes the thing. `onRelease` gets every release that the scope runs;
 * it runs uninterruptibly and must not fail.
 */
export const hold = Effect.fnUntraced(function*<Ref, Args, Made, E>(
  resource: Resource<Ref, Args, Made, E>,
  ref: Ref,
  args: Args,
  onRelease: (record: ReleaseRecord) => Effect.Effect<void>
): Effect.fn.Return<Made, E, Scope.Scope> {
  const claim = yield* Effect.acquireRelease(
    Effect.sync(() => ({ made: false })),
    (claim, exit) =>
      Exit.isSuccess(exit)
        ? Effect.void
        : Effect.flatMap(release(resource, ref, { made: claim.made }), onRelease)
  )
  const made = yield* resource.make(ref, args)
  claim.made = true
  return made
})
