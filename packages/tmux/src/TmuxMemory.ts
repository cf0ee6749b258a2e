/**
 * tmux in memory: for tests of what is built on sessions, with the errors and the refusals of the real one.
 *
 * No script runs. Pids are counted from 1 000 000 001, above any that a system gives, so that no process is ever
 * mistaken for a session's. Every operation is one step, which no interruption divides and which takes no time.
 */
import { Clock, Effect, Layer, Option, SynchronizedRef } from "effect"
import * as Arguments from "./Arguments.ts"
import * as Target from "./Target.ts"
import { type Idle, type NewSession, type Session, type SessionEnvironment, Tmux, type TmuxServer } from "./Tmux.ts"
import { TmuxDuplicateSession, type TmuxError, TmuxNoServer, TmuxNoSuchSession } from "./TmuxError.ts"

/** Called after sessions were made and ended. */
export interface Hooks {
  readonly onNewSession?: ((session: Session, options: NewSession) => Effect.Effect<void>) | undefined
  readonly onEndSession?: ((session: Session) => Effect.Effect<void>) | undefined
}

/** A tmux in memory, with what happens to real servers without being asked of this service. */
export interface TmuxMemory {
  readonly tmux: Tmux["Service"]
  /** Ends a session as the end of its script does. */
  readonly endSession: (socket: Target.SocketPath, target: Target.Target) => Effect.Effect<void, TmuxError>
  /** Gives a session another name, as a program within may. */
  readonly renameSession: (
    socket: Target.SocketPath,
    target: Target.Target,
    name: string
  ) => Effect.Effect<void, TmuxError>
  /** Ends a server with all its sessions. */
  readonly endServer: (socket: Target.SocketPath) => Effect.Effect<void, TmuxNoServer>
}

interface Server {
  readonly pid: number
  readonly startedAt: number
  readonly nextId: number
  readonly sessions: ReadonlyArray<SessionEnvironment>
}

interface State {
  readonly nextPid: number
  readonly servers: ReadonlyMap<string, Server>
}

const matches = (target: Target.Target) => ({ session }: SessionEnvironment): boolean =>
  target._tag === "Name"
    ? session.name === target.name
    : session.id === target.id && session.serverPid === target.serverPid

const withServer = (state: State, socket: string, server: Server): State => ({
  ...state,
  servers: new Map(state.servers).set(socket, server)
})

/** Makes a tmux in memory. */
export const make = Effect.fnUntraced(function*(hooks: Hooks = {}): Effect.fn.Return<TmuxMemory> {
  const state = yield* SynchronizedRef.make<State>({ nextPid: 1_000_000_001, servers: new Map() })
  const told = (session: Session) => hooks.onEndSession?.(session) ?? Effect.void

  const existing = Effect.fnUntraced(function*(state: State, socket: Target.SocketPath) {
    const refusal = Arguments.refuseSocket(socket)
    if (Option.isSome(refusal)) return yield* refusal.value
    return state.servers.get(socket) ?? (yield* new TmuxNoServer({ socket }))
  })

  const locate = Effect.fnUntraced(function*(state: State, socket: Target.SocketPath, target: Target.Target) {
    const refusal = Arguments.refuseTarget(target)
    if (Option.isSome(refusal)) return yield* refusal.value
    const server = yield* existing(state, socket)
    const found = server.sessions.find(matches(target))
    return found === undefined
      ? yield* new TmuxNoSuchSession({ target: Target.describe(target) })
      : { server, found }
  })

  // Replaces the session that the target names, or removes it, and answers with what it was.
  const change = (
    socket: Target.SocketPath,
    target: Target.Target,
    by: (found: SessionEnvironment) => ReadonlyArray<SessionEnvironment>
  ): Effect.Effect<SessionEnvironment, TmuxError> =>
    SynchronizedRef.modifyEffect(
      state,
      Effect.fnUntraced(function*(state) {
        const { found, server } = yield* locate(state, socket, target)
        const sessions = server.sessions.flatMap((each) => each === found ? by(found) : [each])
        return [found, withServer(state, socket, { ...server, sessions })] as const
      })
    )

  const endSession = Effect.fnUntraced(function*(socket: Target.SocketPath, target: Target.Target) {
    const ended = yield* change(socket, target, () => [])
    yield* told(ended.session)
  })

  const renameSession = Effect.fnUntraced(function*(socket: Target.SocketPath, target: Target.Target, name: string) {
    yield* change(socket, target, (found) => [{ ...found, session: { ...found.session, name } }])
  })

  const now = Effect.map(Clock.currentTimeMillis, (millis) => Math.floor(millis / 1000))

  const endIdle = (socket: Target.SocketPath, { startedBy, until }: Idle): Effect.Effect<boolean, TmuxError> =>
    SynchronizedRef.modifyEffect(
      state,
      Effect.fnUntraced(function*(state) {
        const server = yield* existing(state, socket)
        const ends = server.sessions.length === 0 && server.startedAt <= startedBy && (yield* now) <= until
        const servers = new Map(state.servers)
        if (ends) servers.delete(socket)
        return [ends, { ...state, servers }] as const
      })
    )

  const endServer = Effect.fnUntraced(function*(socket: Target.SocketPath) {
    const ended = yield* SynchronizedRef.modify(state, (state) => {
      const servers = new Map(state.servers)
      const server = servers.get(socket)
      servers.delete(socket)
      return [server, { ...state, servers }] as const
    })
    if (ended === undefined) return yield* new TmuxNoServer({ socket })
    yield* Effect.forEach(ended.sessions, ({ session }) => told(session), { discard: true })
  })

  const newSession = Effect.fnUntraced(function*(socket: Target.SocketPath, options: NewSession) {
    const refusal = Option.orElse(Arguments.refuseNewSession(options), () => Arguments.refuseSocket(socket))
    if (Option.isSome(refusal)) return yield* refusal.value
    const made = yield* SynchronizedRef.modifyEffect(
      state,
      Effect.fnUntraced(function*(state) {
        const server = state.servers.get(socket)
        const serverPid = server?.pid ?? state.nextPid
        const panePid = server === undefined ? state.nextPid + 1 : state.nextPid
        const sessions = server?.sessions ?? []
        const nextId = server?.nextId ?? 0
        if (sessions.some(({ session }) => session.name === options.name)) {
          return yield* new TmuxDuplicateSession({ name: options.name })
        }
        const session: Session = { id: Target.SessionId.make(`$${nextId}`), name: options.name, serverPid, panePid }
        return [
          session,
          withServer({ ...state, nextPid: panePid + 1 }, socket, {
            pid: serverPid,
            startedAt: server?.startedAt ?? (yield* now),
            nextId: nextId + 1,
            sessions: [...sessions, { session, environment: { ...options.environment } }]
          })
        ] as const
      })
    )
    yield* hooks.onNewSession?.(made, options) ?? Effect.void
    return made
  })

  const server = (socket: Target.SocketPath): TmuxServer => {
    const found = Effect.flatMap(SynchronizedRef.get(state), (state) => existing(state, socket))
    const environments = Effect.map(found, (server) => server.sessions)
    const find = Effect.fnUntraced(function*(target: Target.Target) {
      return (yield* locate(yield* SynchronizedRef.get(state), socket, target)).found
    })
    return {
      socket,
      pid: Effect.map(found, ({ pid }) => pid),
      newSession: (options) => newSession(socket, options),
      sessions: Effect.map(environments, (all) => all.map(({ session }) => session)),
      session: (target) => Effect.map(find(target), ({ session }) => session),
      environment: (target) => Effect.map(find(target), ({ environment }) => environment),
      environments,
      killSession: (target) => endSession(socket, target),
      endIdle: (idle) => endIdle(socket, idle)
    }
  }

  return {
    tmux: Tmux.of({
      version: Effect.succeed({ text: "tmux in memory", release: null }),
      server
    }),
    endSession,
    renameSession,
    endServer
  }
})

/** tmux in memory, empty at first. */
export const layer = (hooks: Hooks = {}): Layer.Layer<Tmux> =>
  Layer.effect(Tmux, Effect.map(make(hooks), ({ tmux }) => tmux))
