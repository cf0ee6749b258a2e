/**
 * The registry: the record of truth about tasks, agents, their planned references, and what happened to them.
 *
 * This is the contract; `registry/SqlRegistry` fulfils it. Every write is one durable transaction: when it has answered, it
 * survives a crash of the process and of the machine; when it failed, nothing of it was stored. A transition reads the
 * row, applies a pure function, and writes the result under one lock, so that two processes never both leave a state.
 * A busy registry is retried for a few seconds; no operation waits without end.
 */
import { Sentence } from "@slipway/tmux"
import { Context, type DateTime, type Effect, type Option, type Result, Schema } from "effect"
import { type Agent, AgentId, type State, StateTag } from "../agent/Agent.ts"
import { ReleaseRecord } from "../agent/Release.ts"
import { type Task, type TaskCounts, TaskId } from "../agent/Task.ts"
import { ProcessIdentity } from "../machine/Host.ts"
import type { AdmissionRefused, Decision, HomeLimit } from "./Admission.ts"

/**
 * Why a registry can't be used just now: what passes by itself or by mending the machine, or `content` for a value that
 * can't be stored, or `other`.
 */
export const UnavailableBecause = Schema.Literals([
  "locked",
  "disk-full",
  "read-only",
  "cannot-open",
  "input-output",
  "content",
  "other"
])
export type UnavailableBecause = typeof UnavailableBecause.Type

/** The registry could not be read or written; nothing of the operation was stored. */
export class RegistryUnavailable extends Schema.TaggedError<RegistryUnavailable>()("RegistryUnavailable", {
  operation: Schema.String,
  because: UnavailableBecause,
  /** The same in the words of the database or of the system. */
  reason: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry could not ${this.operation}: ${this.reason}; check the disk and the permissions of the home, then try again`
  }
}

/** The registry's file is damaged, or is no registry; it was left as it is. */
export class RegistryCorrupt extends Schema.TaggedError<RegistryCorrupt>()("RegistryCorrupt", {
  path: Schema.String,
  reason: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry ${this.path} is damaged (${this.reason}) and was left as it is; 'slipway rebuild' sets it aside and makes a new one from what tasks and agents left`
  }
}

/** The registry was written by a newer Slipway; it was left as it is. */
export class RegistryTooNew extends Schema.TaggedError<RegistryTooNew>()("RegistryTooNew", {
  path: Schema.String,
  found: Schema.Int,
  supported: Schema.Int
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry ${this.path} has schema ${this.found}, and this Slipway knows ${this.supported}; update Slipway, or use another home`
  }
}

/** The file is not the registry that this home recorded: a copy or a restored one. */
export class RegistryReplaced extends Schema.TaggedError<RegistryReplaced>()("RegistryReplaced", {
  path: Schema.String,
  reason: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry ${this.path} is not the one this home recorded (${this.reason}); a copied or restored registry does not know what runs now, so it is refused; 'slipway rebuild' sets it aside and makes one from what tasks and agents left`
  }
}

/** No agent of this home has this id; it may not even have the form of one. */
export class AgentNotFound extends Schema.TaggedError<AgentNotFound>()("AgentNotFound", { agentId: Schema.String }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `there is no agent ${JSON.stringify(this.agentId)} in this home; 'slipway ps --all' shows those there are`
  }
}

export const RegistryError = Schema.Union([RegistryUnavailable, RegistryCorrupt, RegistryTooNew, RegistryReplaced])
export type RegistryError = typeof RegistryError.Type

/** A state's name, or `leaked`; see `Agent.status`. */
const StatusTag = Schema.Literals([...StateTag.literals, "leaked"])

/** What happened to an agent, in the order in which it was stored. */
export const AgentEvent = Schema.Struct({
  agentId: AgentId,
  at: Schema.DateTimeUtcFromString,
  /** The status that the agent has since then. */
  status: Schema.String,
  /** A sentence for people; structured facts stand in the agent. */
  detail: Schema.String
})
export type AgentEvent = typeof AgentEvent.Type

/** The position of an event among all events of a home; a later one is higher. */
export const EventCursor = Schema.Int.pipe(Schema.brand("EventCursor"))
export type EventCursor = typeof EventCursor.Type

/** What the releases did that led to a status. */
export const Cleanup = Schema.Struct({
  /** One by one, in their order. */
  releases: Schema.Array(ReleaseRecord),
  /** The processes that outlived KILL. */
  survivors: Schema.Array(ProcessIdentity),
  /** Whether a process had to be sent KILL. */
  escalated: Schema.Boolean,
  millis: Schema.Finite
})
export type Cleanup = typeof Cleanup.Type

/** A transition of an agent of the home, whichever process made it. */
export const HomeEvent = Schema.Struct({
  cursor: EventCursor,
  agentId: AgentId,
  taskId: TaskId,
  at: Schema.DateTimeUtcFromString,
  /** Null for an agent that was just admitted. */
  from: Schema.NullOr(StatusTag),
  to: StatusTag,
  /** A sentence for people. */
  detail: Schema.String,
  /** Null where nothing was released. */
  cleanup: Schema.NullOr(Cleanup)
})
export type HomeEvent = typeof HomeEvent.Type

/** What is stored beside a transition. */
export interface TransitionEvent {
  readonly at: DateTime.Utc
  /** A sentence for people. */
  readonly detail: string
  /** The releases that led to it, kept for the totals. */
  readonly releases?: ReadonlyArray<ReleaseRecord> | undefined
}

/** How often releases of a resource had an outcome, how long they took, and the reason that was given last. */
export const ReleaseTotal = Schema.Struct({
  resource: Schema.String,
  outcome: Schema.String,
  count: Schema.Int,
  millis: Schema.Int,
  firstAt: Schema.String,
  lastAt: Schema.String,
  lastReason: Schema.NullOr(Schema.String)
})
export type ReleaseTotal = typeof ReleaseTotal.Type

/** How many agents are in a state; `detail` is the step of a rollback, who stopped it, or the outcome of an exit. */
export const AgentTotal = Schema.Struct({
  status: Schema.String,
  detail: Schema.NullOr(Schema.String),
  count: Schema.Int
})
export type AgentTotal = typeof AgentTotal.Type

/** How many durations there were, and how many of them up to each bound; the last bound is `+Inf`. */
export interface Histogram {
  readonly buckets: ReadonlyArray<{ readonly le: string; readonly count: number }>
  readonly count: number
  readonly seconds: number
}

/**
 * What the registry counts. The counts of agents, and of leaked ones, are of the rows on record now. All others count
 * since the registry was made, and never fall.
 */
export interface Totals {
  readonly agents: ReadonlyArray<AgentTotal>
  readonly leaked: number
  readonly releases: ReadonlyArray<ReleaseTotal>
  readonly releaseDurations: ReadonlyArray<Histogram & { readonly resource: string }>
  /** Releases that had to send KILL. */
  readonly escalations: ReadonlyArray<{ readonly resource: string; readonly count: number }>
  /** Processes that outlived KILL. */
  readonly survivors: number
  /** By outcome: `committed` or `rolled-back`. */
  readonly deployments: ReadonlyArray<{ readonly outcome: string; readonly count: number }>
  readonly rollbacks: ReadonlyArray<{ readonly step: string; readonly count: number }>
  /** From the request to the commit, of those that committed. */
  readonly deployDuration: Histogram
  /** By verdict of the reaper. */
  readonly findings: ReadonlyArray<{ readonly verdict: string; readonly count: number }>
}

/** Something that a reap found. */
export interface Found {
  /** The agent's id, or the one that a stray bears. */
  readonly subject: string
  readonly verdict: string
}

/** Whether any agent is still active, and when the last event was stored. */
export interface Activity {
  readonly isActive: boolean
  /** When the last recorded event was stored; null where there is none. */
  readonly lastEventAt: DateTime.Utc | null
}

export interface AgentFilter {
  readonly taskId?: TaskId | undefined
  /** Only rows that are not final. */
  readonly activeOnly?: boolean | undefined
}

export class Registry extends Context.Service<Registry, {
  readonly insertTask: (task: Task) => Effect.Effect<void, RegistryError>
  /** The project's default task; inserts `candidate` when there is none yet. */
  readonly defaultTask: (candidate: Task) => Effect.Effect<Task, RegistryError>
  readonly task: (id: TaskId) => Effect.Effect<Option.Option<Task>, RegistryError>
  readonly tasks: Effect.Effect<ReadonlyArray<Task>, RegistryError>
  readonly taskCounts: (id: TaskId) => Effect.Effect<TaskCounts, RegistryError>
  /**
   * Decides and, when the decision is to admit, inserts the candidate with its depth, in one transaction. It reads the
   * home's limit too, so a change counts from the next admission on.
   */
  readonly admit: <E = never>(
    candidate: Agent,
    options: { readonly allowDuplicate: boolean; readonly homeLimit: Effect.Effect<HomeLimit, E> }
  ) => Effect.Effect<Decision, AdmissionRefused | RegistryError | E>
  /**
   * Runs an effect while no other process writes: nothing is admitted, and no agent changes its state. All other
   * writers wait for it, so it has to be short.
   */
  readonly exclusively: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E | RegistryError>
  readonly agent: (id: AgentId) => Effect.Effect<Option.Option<Agent>, RegistryError>
  /** Newest first. */
  readonly agents: (filter: AgentFilter) => Effect.Effect<ReadonlyArray<Agent>, RegistryError>
  /** Applies a pure transition to one row; answers the row as it is stored after it. */
  readonly transition: <E>(
    id: AgentId,
    f: (agent: Agent) => Result.Result<Agent, E>,
    event: TransitionEvent
  ) => Effect.Effect<Agent, E | AgentNotFound | RegistryError>
  /** Applies a transition to an agent and all its active descendants in one transaction, children first. */
  readonly transitionFamily: <E>(
    id: AgentId,
    f: (agent: Agent, role: "self" | "descendant") => Result.Result<Agent, E>,
    event: TransitionEvent
  ) => Effect.Effect<ReadonlyArray<Agent>, E | AgentNotFound | RegistryError>
  /** The state's name of every row, by id, without reading the documents. */
  readonly statuses: Effect.Effect<ReadonlyMap<string, State["_tag"]>, RegistryError>
  /** Totals since the registry was made, for metrics. */
  readonly totals: Effect.Effect<Totals, RegistryError>
  /** Asks the database to check itself; answers with its complaints. */
  readonly integrity: Effect.Effect<ReadonlyArray<string>, RegistryError>
  /** Forgets ended agents with their events; active ones stay. Answers how many it forgot. */
  readonly forget: (ids: ReadonlyArray<AgentId>) => Effect.Effect<number, RegistryError>
  readonly events: (id: AgentId) => Effect.Effect<ReadonlyArray<AgentEvent>, RegistryError>
  /** At most so many of the events behind a cursor, in the order of their commits. */
  readonly eventsAfter: (cursor: number, limit: number) => Effect.Effect<ReadonlyArray<HomeEvent>, RegistryError>
  readonly activity: Effect.Effect<Activity, RegistryError>
  /** The cursor of the last event; 0 where there is none. */
  readonly lastEvent: Effect.Effect<number, RegistryError>
  /** Counts what a reap found, each once however often it is found; answers how many were new. */
  readonly found: (findings: ReadonlyArray<Found>, at: DateTime.Utc) => Effect.Effect<number, RegistryError>
}>()("@slipway/core/Registry") {}
