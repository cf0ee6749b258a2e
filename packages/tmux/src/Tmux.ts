/**
 * tmux as a service: sessions that each run one script, on servers that their sockets distinguish.
 *
 * This is the contract; transports fulfil it (a process per call, in memory). What every transport guarantees:
 *
 * - each operation ends within its transport's time limit, by an answer or a typed error, also when tmux hangs;
 * - an interrupted operation ends soon. What it asked of tmux may still happen: an interrupted or timed out `newSession`
 *   may leave a session behind, even later. A caller that must rule that out makes the script itself useless first;
 * - `TmuxNoServer` and `TmuxNoSuchSession` are tmux's own answers. No other failure is ever reported as "not there";
 * - no argument reaches tmux that it would expand, split or interpret: such are refused before anything runs;
 * - a server outlives its first caller and bears nothing of it: neither environment nor working directory.
 *
 * Not promised: that a session's processes end with it, and that a missing server means that its sessions' processes
 * ended.
 */
import { Context, type Effect } from "effect"
import type { SessionId, SessionName, SocketPath, Target } from "./Target.ts"
import type { TmuxError } from "./TmuxError.ts"
import type { TmuxVersion } from "./TmuxVersion.ts"

/** A session as its server described it at one moment. */
export interface Session {
  readonly id: SessionId
  /** The name it has now, which may not be the one that it was given. */
  readonly name: string
  readonly serverPid: number
  /** The first process of the active pane. */
  readonly panePid: number
}

/** A session to be made. */
export interface NewSession {
  readonly name: SessionName
  /** Markers by which the session is found again. They are visible to every user: ids only, never a secret. */
  readonly environment: Readonly<Record<string, string>>
  /** The absolute path of a POSIX sh script, run as `/bin/sh <script>`. */
  readonly script: string
}

/** A session and the environment that it was made with. */
export interface SessionEnvironment {
  readonly session: Session
  readonly environment: Readonly<Record<string, string>>
}

/** Which server counts as idle. Both are seconds of the wall clock since 1970. */
export interface Idle {
  /** It was started in this second or before. */
  readonly startedBy: number
  /**
   * It begins to end in this second or before. A server that was frozen reads its commands late, and then this one is
   * without effect. So a caller that has waited until this second is over knows that the server either has ended or
   * stays.
   */
  readonly until: number
}

/** The operations on the server of one socket. */
export interface TmuxServer {
  readonly socket: SocketPath
  /** Makes a detached session, and starts the server when there is none. The server then stays when it is empty. */
  readonly newSession: (options: NewSession) => Effect.Effect<Session, TmuxError>
  /** The server's pid, as its own pid namespace counts; fails with `TmuxNoServer` when there is no server. */
  readonly pid: Effect.Effect<number, TmuxError>
  /** All sessions; fails with `TmuxNoServer` when there is no server. */
  readonly sessions: Effect.Effect<ReadonlyArray<Session>, TmuxError>
  /** The one session that the target names. */
  readonly session: (target: Target) => Effect.Effect<Session, TmuxError>
  /** The session's own environment: what it was made with, and what was set on it since. */
  readonly environment: (target: Target) => Effect.Effect<Readonly<Record<string, string>>, TmuxError>
  /** All sessions with their environments, in one question. A session that ends meanwhile is left out. */
  readonly environments: Effect.Effect<ReadonlyArray<SessionEnvironment>, TmuxError>
  /** Ends the session; fails with `TmuxNoSuchSession` when there is none. */
  readonly killSession: (target: Target) => Effect.Effect<void, TmuxError>
  /**
   * Ends the server if it is idle and has no session, that of a control client included; tmux decides that in one turn. Answers whether
   * it has ended, and then no process of it is left at the socket. Never starts a server, and attaches no client.
   */
  readonly endIdle: (idle: Idle) => Effect.Effect<boolean, TmuxError>
}

/** tmux, by whatever transport. */
export class Tmux extends Context.Service<Tmux, {
  /** The version of the executable; fails when there is none, or when it is too old. */
  readonly version: Effect.Effect<TmuxVersion, TmuxError>
  /** The operations on the server of this socket. Makes nothing. */
  readonly server: (socket: SocketPath) => TmuxServer
}>()("@slipway/tmux/Tmux") {}
