/**
 * The log of events: every transition of every agent, stored by the transaction that made it.
 *
 * Cursors are given out under the write lock, so their order is the order of the commits, none is given out twice, and a
 * reader that continues after the last one that it saw misses none. Reading waits for no writer.
 */
import { Context, type DateTime, type Effect, Schema } from "effect"
import { AgentId, StateTag } from "../agent/Agent.ts"
import { ReleaseRecord } from "../agent/Release.ts"
import { TaskId } from "../agent/Task.ts"
import { ProcessIdentity } from "../machine/Host.ts"
import type { RegistryError } from "./RegistryError.ts"

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

/** Whether any agent is still active, and when the last event was stored. */
export interface Activity {
  readonly isActive: boolean
  /** When the last recorded event was stored; null where there is none. */
  readonly lastEventAt: DateTime.Utc | null
}

export class EventLog extends Context.Service<EventLog, {
  /** Those of one agent, oldest first; none where there is no such agent. */
  readonly events: (id: AgentId) => Effect.Effect<ReadonlyArray<AgentEvent>, RegistryError>
  /** At most so many of the events behind a cursor, in the order of their commits. */
  readonly eventsAfter: (cursor: number, limit: number) => Effect.Effect<ReadonlyArray<HomeEvent>, RegistryError>
  /** The cursor of the last event; 0 where there is none. */
  readonly lastEvent: Effect.Effect<number, RegistryError>
  readonly activity: Effect.Effect<Activity, RegistryError>
}>()("@slipway/core/EventLog") {}
