/**
 * What a release did, and how it is recorded.
 */
import { Schema } from "effect"
import { ProcessIdentity } from "../machine/Host.ts"

/** How many processes needed KILL; absent where there were none. */
const killed = { killed: Schema.optionalKey(Schema.Int) }

/** What a release did. Only `Released` and `AlreadyGone` mean that nothing is left. */
export const ReleaseOutcome = Schema.TaggedUnion({
  Released: { ...killed, /** What was done for it to be safe, for people. */ note: Schema.optionalKey(Schema.String) },
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

/** One line of a cleanup report. */
export const ReleaseRecord = Schema.Struct({
  /** The kind, as the command's JSON names it. */
  resource: Schema.String,
  reference: Schema.String,
  /** Whether the make had finished: only then was there surely something to release. */
  made: Schema.Boolean,
  outcome: ReleaseOutcome,
  /** How long the release took, in milliseconds. */
  millis: Schema.Finite,
  /** Present where what is left may live, and so holds the agent's slot. */
  occupies: Schema.optionalKey(Schema.Literal(true))
})
export type ReleaseRecord = typeof ReleaseRecord.Type

/** Whether what this record leaves may live. */
export const mayLive = (record: ReleaseRecord): boolean => record.occupies === true
