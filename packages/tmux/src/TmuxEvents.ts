/**
 * What a server reports without being asked, so that a watcher of sessions need not ask again and again.
 *
 * tmux reports that sessions changed, not which one ended: an event means "ask again". A stream follows its socket for
 * as long as it runs. It does so by itself, also when there is no server yet, and when one ends and another one starts;
 * it starts none. After each `Following` the reader has to ask once for the sessions, since what changed before was not
 * reported.
 *
 * Not promised: each single event. A slow reader gets the latest ones, and holds up no other reader.
 */
import { Context, Schema, type Stream } from "effect"
import { ServerPid, SessionId, type SocketPath } from "./Target.ts"

/** What a server reported. */
export const TmuxEvent = Schema.TaggedUnion({
  /** From here on the server with this pid reports what changes. */
  Following: { serverPid: ServerPid },
  /** Sessions were made or ended. */
  SessionsChanged: {},
  SessionRenamed: { id: SessionId, name: Schema.String },
  /** The server with this pid ended, or reports no more: only a question shows which. */
  Lost: { serverPid: ServerPid }
})
export type TmuxEvent = typeof TmuxEvent.Type

/** The events of servers. */
export class TmuxEvents extends Context.Service<TmuxEvents, {
  /** The events of whatever server listens on the socket. Never ends by itself. */
  readonly events: (socket: SocketPath) => Stream.Stream<TmuxEvent>
}>()("@slipway/tmux/TmuxEvents") {}
