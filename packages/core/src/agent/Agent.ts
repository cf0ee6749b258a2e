/**
 * An agent: one headless program with all processes that it starts, as the registry records it.
 *
 * The row carries the state and the plan: every reference that the deployment will use, decided before anything is
 * made. Transitions are pure functions on rows. The registry applies them inside one transaction, so a state is only
 * ever left by the caller that read it. Counts are derived from rows and never stored.
 *
 * `deploying → running → ending → exited | stopped | lost | rolled-back`. `ending` is the durable intent: it is claimed
 * before the first release, and the next reconciliation finishes it.
 */
import { Sentence } from "@slipway/tmux"
import { type DateTime, type Duration, Result, Schema } from "effect"
import { HostIdentity, ProcessIdentity } from "../machine/Host.ts"
import { Lease } from "../machine/Lease.ts"
import { AgentSpec } from "./AgentCommand.ts"
import { AgentId, AgentType } from "./AgentId.ts"
import { Plan } from "./Plan.ts"
import { mayLive, ReleaseRecord } from "./Release.ts"
import { ProjectPath, TaskId } from "./Task.ts"

export { AgentId, AgentType, makeAgentId, sessionName } from "./AgentId.ts"
export { Plan } from "./Plan.ts"

/** How a deployment decides that its agent is up; see `Readiness`. */
export const ReadinessKind = Schema.Literals(["survive", "output", "none"])
export type ReadinessKind = typeof ReadinessKind.Type

export const Outcome = Schema.Literals(["success", "failure", "unknown"])
export type Outcome = typeof Outcome.Type

/** Who or what ended an agent; the last three are its limits of time. */
export const StoppedBy = Schema.Literals([
  "request",
  "ancestor",
  "scope",
  "owner-gone",
  "max-run",
  "first-output",
  "stall"
])
export type StoppedBy = typeof StoppedBy.Type

/**
 * What the time of an end comes from: the agent's own exit record; the proof that nothing of it is left (a stop, a
 * rollback); or the moment in which a reconciliation found the end.
 */
export const EndSource = Schema.Literals(["exit-record", "proof", "found"])
export type EndSource = typeof EndSource.Type

/** How an agent's story ends. */
export const Final = Schema.TaggedUnion({
  exited: { code: Schema.Int, signal: Schema.NullOr(Schema.String), outcome: Outcome },
  stopped: { reason: Schema.String, by: StoppedBy },
  lost: { why: Schema.String },
  "rolled-back": { step: Schema.String, error: Schema.Struct({ tag: Schema.String, message: Schema.String }) }
})
export type Final = typeof Final.Type

/**
 * Who carries an ending out, and until when on the boot clock. While that process lives and has time, other commands
 * leave the ending to it: a stop may have given the agent time to save its work.
 */
export const Carrier = Schema.Struct({ host: HostIdentity, holder: ProcessIdentity, until: Schema.Finite })
export type Carrier = typeof Carrier.Type

export const State = Schema.Union([
  Schema.TaggedStruct("deploying", {}),
  Schema.TaggedStruct("running", {}),
  /** `left` is null until the releases have answered; what they could not release stays in it. */
  Schema.TaggedStruct("ending", {
    as: Final,
    left: Schema.NullOr(Schema.Array(ReleaseRecord)),
    carrier: Schema.optionalKey(Carrier),
    /** When the agent ended, where that is known before its releases are done. */
    endedAt: Schema.optionalKey(Schema.DateTimeUtcFromString)
  }),
  Final
])
export type State = typeof State.Type

/** The states' names. */
export const StateTag = Schema.Literals(["deploying", "running", "ending", "exited", "stopped", "lost", "rolled-back"])

/** The session and the launcher as they were found when the session was made. */
export const Running = Schema.Struct({
  host: HostIdentity,
  /** Seconds on the boot clock when the session was made. */
  since: Schema.Finite,
  sessionId: Schema.String,
  serverPid: Schema.Int,
  /** Null when the launcher had already ended. */
  launcher: Schema.NullOr(ProcessIdentity)
})
export type Running = typeof Running.Type

export const Tail = Schema.Struct({ stdout: Schema.String, stderr: Schema.String })
export type Tail = typeof Tail.Type

/** What an agent's output says of its run; what it does not say is absent. */
export const Summary = Schema.Struct({
  /** What the agent itself calls the run, and continues it by. */
  sessionId: Schema.optionalKey(Schema.String),
  /** In US dollars, as the agent reckons it. */
  costUsd: Schema.optionalKey(Schema.Finite),
  /** The last text of the model. */
  lastMessage: Schema.optionalKey(Schema.String)
})
export type Summary = typeof Summary.Type

/**
 * Limits of time for a running agent; null where there is none. The next command that reads an agent past one of them
 * ends it.
 */
export const TimeLimits = Schema.Struct({
  maxRunMillis: Schema.NullOr(Schema.Finite),
  /** Until the first byte on standard output. */
  firstOutputMillis: Schema.NullOr(Schema.Finite),
  /** Between two writes to standard output or standard error. */
  stallMillis: Schema.NullOr(Schema.Finite)
})
export type TimeLimits = typeof TimeLimits.Type

export const Agent = Schema.Struct({
  id: AgentId,
  type: AgentType,
  taskId: TaskId,
  parent: Schema.NullOr(AgentId),
  depth: Schema.Int,
  spec: AgentSpec,
  cwd: ProjectPath,
  readiness: Schema.Struct({ kind: ReadinessKind, withinMillis: Schema.Finite }),
  limits: TimeLimits,
  key: Schema.NullOr(Schema.String),
  /** A digest of the request, so that one key can't stand for two requests. */
  requestDigest: Schema.String,
  plan: Plan,
  /** Distinguishes this deployment from every other, should two ever draw the same id. */
  token: Schema.String,
  state: State,
  /** Null once the deployment has committed. */
  lease: Schema.NullOr(Lease),
  /** The process whose scope the agent belongs to; null when the registry owns it. */
  owner: Schema.NullOr(Schema.Struct({ host: HostIdentity, holder: ProcessIdentity })),
  running: Schema.NullOr(Running),
  createdAt: Schema.DateTimeUtcFromString,
  startedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  endedAt: Schema.NullOr(Schema.DateTimeUtcFromString),
  /** Absent before the end, and where the first version recorded it: that one stored the moment of a read. */
  endedAtFrom: Schema.optionalKey(EndSource),
  /** The last lines of its output, kept when the agent ended. */
  tail: Schema.NullOr(Tail),
  /** What a known agent said of its own run, kept when it ended. */
  summary: Schema.NullOr(Summary)
})
export type Agent = typeof Agent.Type

/** The state's name, or `leaked` for an ending that could not release everything. */
export type Status = State["_tag"] | "leaked"

export const status = (agent: Agent): Status => isLeaked(agent) ? "leaked" : agent.state._tag

export const isLeaked = (agent: Agent): boolean =>
  agent.state._tag === "ending" && agent.state.left !== null && agent.state.left.length > 0

export const isFinal = (state: State): state is Final =>
  state._tag === "exited" || state._tag === "stopped" || state._tag === "lost" || state._tag === "rolled-back"

/** Whether the agent counts against limits: as long as a process or a session of it may live. A file alone holds no slot. */
export const holdsSlot = (state: State): boolean => {
  switch (state._tag) {
    case "deploying":
    case "running":
      return true
    case "ending":
      return state.left === null || state.left.some(mayLive)
    default:
      return false
  }
}

/** What distinguishes ends of one kind: the step of a rollback, who stopped it, the outcome of an exit. */
export const endDetail = (state: State): string | null => {
  switch (state._tag) {
    case "rolled-back":
      return state.step
    case "stopped":
      return state.by
    case "exited":
      return state.outcome
    default:
      return null
  }
}

/** Whether the agent has ended with success: by its exit and, of a known agent, by its own last words. */
export const succeeded = (agent: Agent): boolean => agent.state._tag === "exited" && agent.state.outcome === "success"

/** Whether the row still needs a reconciliation. */
export const isActive = (state: State): boolean => !isFinal(state)

/** Whether the row has a task entry and keeps its directory: it committed. */
export const hasCommitted = (agent: Agent): boolean => agent.startedAt !== null

/** A transition that the row's state does not allow. */
export class TransitionRefused extends Schema.TaggedError<TransitionRefused>()("TransitionRefused", {
  agentId: AgentId,
  wanted: Schema.String,
  found: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `agent ${this.agentId} is ${this.found} and can't become ${this.wanted}; read it again with 'slipway show ${this.agentId}'`
  }
}

type Transition = Result.Result<Agent, TransitionRefused>

const refuse = (agent: Agent, wanted: string): Transition =>
  Result.fail(new TransitionRefused({ agentId: agent.id, wanted, found: status(agent) }))

/** What a commit records. */
export interface CommitFacts {
  readonly token: string
  readonly running: Running
  readonly startedAt: DateTime.Utc
}

/** The commit: refused unless the row is still `deploying` under this very deployment's lease. */
export const commit = (agent: Agent, facts: CommitFacts): Transition =>
  agent.state._tag === "deploying" && agent.lease !== null && agent.token === facts.token
    ? Result.succeed({
      ...agent,
      state: { _tag: "running" },
      lease: null,
      running: facts.running,
      startedAt: facts.startedAt
    })
    : refuse(agent, "running")

/**
 * Claims the ending. The first claim decides how the story ends; later ones, and claims on what has ended, change
 * nothing. `expected` names the state that the claim was decided on, so that it can't hit a row that moved meanwhile.
 */
export const beginEnding = (
  agent: Agent,
  as: Final,
  options: {
    readonly expected?: State["_tag"] | undefined
    readonly carrier?: Carrier | undefined
    readonly endedAt?: DateTime.Utc | undefined
  } = {}
): Transition => {
  const { carrier, endedAt, expected } = options
  if (expected !== undefined && agent.state._tag !== expected) return refuse(agent, "ending")
  return isFinal(agent.state) || agent.state._tag === "ending"
    ? Result.succeed(agent)
    : Result.succeed({
      ...agent,
      state: {
        _tag: "ending",
        as,
        left: null,
        ...(carrier === undefined ? {} : { carrier }),
        ...(endedAt === undefined ? {} : { endedAt })
      }
    })
}

/** What is known when the releases of an ending have answered. */
export interface EndFacts {
  readonly left: ReadonlyArray<ReleaseRecord>
  /** Whether a deployer may still be at work: what it makes has to be released again, so that the row stays `ending`. */
  readonly deployer: "gone" | "expired" | "at-work"
  readonly at: DateTime.Utc
  readonly tail?: Agent["tail"] | undefined
  readonly summary?: Agent["summary"] | undefined
}

/**
 * Records what the releases of an ending answered: the end itself when nothing is left, else what is left. A deployer
 * that may still be at work keeps the slot; one whose lease has expired no longer does. The key of a rolled-back
 * deployment is free again, unless a process or session of it may live. The same row comes back when nothing changed.
 */
export const finishEnding = (agent: Agent, facts: EndFacts): Transition => {
  if (isFinal(agent.state)) return Result.succeed(agent)
  if (agent.state._tag !== "ending") return refuse(agent, "ended")
  const { as, endedAt, left: before } = agent.state
  const over = facts.left.length === 0 && facts.deployer === "gone"
  const left = facts.left.length === 0 && facts.deployer === "at-work" ? null : facts.left
  const isSame = !over && sameLeft(before, left) && agent.endedAt !== null && agent.state.carrier === undefined
  if (isSame) return Result.succeed(agent)
  return Result.succeed({
    ...agent,
    tail: facts.tail ?? agent.tail,
    summary: facts.summary ?? agent.summary,
    lease: facts.deployer === "gone" ? null : agent.lease,
    key: as._tag === "rolled-back" && facts.left.length === 0 && facts.deployer !== "at-work" ? null : agent.key,
    endedAt: endOf(agent, facts.at),
    ...(over ? { endedAtFrom: sourceOf(as, endedAt) } : {}),
    state: over ? as : { _tag: "ending", as, left, ...(endedAt === undefined ? {} : { endedAt }) }
  })
}

/** When an ending agent ended: as was known before, or when it was first proven that no process or session of it is left. */
const endOf = (agent: Agent, now: DateTime.Utc): DateTime.Utc => {
  if (agent.state._tag !== "ending") return agent.endedAt ?? now
  const { as, endedAt, left } = agent.state
  if (endedAt !== undefined) return endedAt
  const isProven = left !== null && !left.some(mayLive)
  return agent.endedAt !== null && (isProven || as._tag === "exited" || as._tag === "lost") ? agent.endedAt : now
}

const sourceOf = (as: Final, known: DateTime.Utc | undefined): EndSource =>
  as._tag === "stopped" || as._tag === "rolled-back"
    ? "proof"
    : as._tag === "exited" && known !== undefined
    ? "exit-record"
    : "found"

type Left = ReadonlyArray<ReleaseRecord> | null

const sameLeft = (a: Left, b: Left): boolean =>
  JSON.stringify(a?.map(withoutTime)) === JSON.stringify(b?.map(withoutTime))

const withoutTime = (record: ReleaseRecord) => ({ ...record, millis: 0 })

/** The end of a deployment that failed, by the deployer itself: claims and finishes in one. */
export const rollBack = (
  agent: Agent,
  facts: {
    readonly step: string
    readonly error: { readonly tag: string; readonly message: string }
    readonly left: ReadonlyArray<ReleaseRecord>
    readonly at: DateTime.Utc
    readonly tail?: Agent["tail"] | undefined
  }
): Transition =>
  Result.flatMap(
    beginEnding(agent, { _tag: "rolled-back", step: facts.step, error: facts.error }),
    (ending) => finishEnding(ending, { ...facts, deployer: "gone" })
  )

/** The agent that a thing belongs to, as the registry records it by the time of the call. */
export interface Subject {
  readonly homeId: string
  readonly agentId: AgentId
  /** Where the agent's processes are: pids mean nothing anywhere else. Null where no deployer has recorded it. */
  readonly host: HostIdentity | null
  /** The launcher, once it is known; without it the processes are found by their marks. */
  readonly launcher: ProcessIdentity | null
  /** When the session was made, in seconds on that host's boot clock; null before. */
  readonly since: number | null
  /** How long the agent may take to end by itself after TERM; each kind has its own where none is given. */
  readonly grace?: Duration.Duration | undefined
}

/** What a release may know of an agent beside the reference. */
export const subjectOf = (agent: Agent, grace?: Duration.Duration): Subject => ({
  homeId: agent.plan.homeId,
  agentId: agent.id,
  host: agent.running?.host ?? agent.lease?.host ?? null,
  launcher: agent.running?.launcher ?? null,
  since: agent.running?.since ?? null,
  grace
})
