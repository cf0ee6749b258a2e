/**
 * What a server tells without being asked, so that who watches sessions needs not ask again and again.
 *
 * tmux tells that sessions changed, not which one ended: an event means "look again". A stream follows its socket for as
 * long as it runs, by itself, also when there is no server yet, and when one ends and another one starts; it starts
 * none. After each `Following` whatever happened before has to be looked at once, since nobody told.
 *
 * Not promised: each single event. Who reads slowly gets the latest ones, and holds up nobody else.
 */
import { Context, Schema, type Stream } from "effect"
import { ServerPid, SessionId, type SocketPath } from "./Target.ts"

/** What a server told. */
export const TmuxEvent = Schema.TaggedUnion({
  /** From here on the server with this pid tells what changes. */
  Following: { serverPid: ServerPid },
  /** Sessions were made or ended. */
  SessionsChanged: {},
  SessionRenamed: { id: SessionId, name: Schema.String },
  /** The server with this pid ended, or tells no more: only a question shows which. */
  Lost: { serverPid: ServerPid }
})
export type TmuxEvent = typeof TmuxEvent.Type

/** The events of servers. */
export class TmuxEvents extends Context.Service<TmuxEvents, {
  /** The events of whatever server listens on the socket. Never ends by itself. */
  readonly events: (socket: SocketPath) => Stream.Stream<TmuxEvent>
}>()("@slipway/tmux/TmuxEvents") {}
