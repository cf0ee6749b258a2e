/**
 * Ends the home's tmux server when it has been of no use for ten minutes: no agent was active, nothing was recorded,
 * and it has no session. A home would otherwise keep one for ever.
 *
 * The decision is made under the registry's write lock, in which every deployment is admitted. So none can begin in
 * between, and a deployment in flight is active and keeps its server. The next one to be admitted finds no server, or
 * one that stays. tmux itself compares its sessions in the turn in which it ends; the session of an orchestrator's
 * control client is one. Only a server on the home's own socket is ended: others may use a socket that a caller named.
 *
 * A server whose socket was removed can't be asked. Its mark identifies it among the processes, and a signal ends it
 * when nothing runs in it and no client is attached.
 *
 * Time: a call costs one query, and no call of tmux unless the home is idle and the socket is there. A tmux that hangs
 * holds the lock for at most two seconds: its command is without effect once the lock is given back, however late tmux
 * reads it. Nothing here fails or holds up the caller. What goes wrong is logged at the level of debug, and the next
 * call tries it again; in a program that stays, after a tenth of the time. An interruption is answered when the
 * question to tmux is over.
 */
import { Tmux } from "@slipway/tmux"
import { Clock, Context, DateTime, Duration, Effect, Exit, Layer, Option } from "effect"
import { Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import type * as TmuxServers from "../machine/processes/TmuxServers.ts"
import { EventLog } from "../registry/EventLog.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { Home } from "./Home.ts"

/** How long a home has to be idle before its server is ended; ten minutes by default. */
export const IdleAfter = Context.Reference<Duration.Duration>("@slipway/core/IdleAfter", {
  defaultValue: () => Duration.minutes(10)
})

/** How long tmux may take to answer, in the lock. */
const answerLimit = Duration.seconds(1)

/** How long one call may take all in all, the wait for the lock included. */
const lookLimit = Duration.seconds(5)

/** What a look at the tmux servers of a home needs. */
export interface Looking {
  readonly files: Files["Service"]
  readonly home: Home["Service"]
  readonly host: Host["Service"]
  readonly tmux: Tmux["Service"]
}

/**
 * The servers of a home that no client reaches, since another file, or none, is where their socket was. Where tmux does
 * not answer there is none to tell: a socket that does not answer does not show which server listens there.
 */
export const unreachable = ({ files, home: { socket }, host, tmux }: Looking) =>
  Effect.gen(function*() {
    const started = yield* host.tmuxServersOn(socket)
    if (started.length === 0) return []
    const isThere = (yield* files.inspect(socket)) !== undefined
    const reached = !isThere ? undefined : yield* tmux.server(socket).pid.pipe(
      Effect.catchTag("TmuxNoServer", () => Effect.succeed(undefined))
    )
    return started.filter(({ pid }) => pid !== reached)
  }).pipe(Effect.orElseSucceed((): ReadonlyArray<TmuxServers.ServerProcess> => []))

export class IdleServer extends Context.Service<IdleServer, {
  /** Ends the server if the home is idle. */
  readonly end: Effect.Effect<void>
  /** The same, and also ends servers that lost their socket, for which it scans all processes. */
  readonly sweep: Effect.Effect<void>
}>()("@slipway/core/IdleServer") {
  static readonly layer = Layer.effect(IdleServer, Effect.suspend(() => make))
}

const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const ledger = yield* Ledger
  const log = yield* EventLog
  const tmux = yield* Tmux
  const server = tmux.server(home.socket)
  const lost = unreachable({ files, home, host, tmux })
  const idleAfter = Duration.toMillis(yield* IdleAfter)
  let nextLook = 0

  const isIdle = Effect.gen(function*() {
    const { isActive, lastEventAt } = yield* log.activity
    const since = lastEventAt === null ? 0 : DateTime.toEpochMillis(lastEventAt)
    return !isActive && since + idleAfter <= (yield* Clock.currentTimeMillis)
  })

  const sleepUntil = (millis: number) =>
    Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.sleep(Math.max(0, millis - now)))

  /** Whether tmux has answered that no server is there any more. */
  const ended = Effect.gen(function*() {
    const now = yield* Clock.currentTimeMillis
    const until = Math.floor((now + 500) / 1000)
    const idle = { startedBy: Math.floor((now - idleAfter) / 1000), until }
    return yield* server.endIdle(idle).pipe(
      Effect.catchTag("TmuxNoServer", () => Effect.succeed(true)),
      Effect.timeoutOption(answerLimit),
      // Without an answer tmux may still do it, as long as this second lasts.
      Effect.onExit((exit) =>
        Exit.isSuccess(exit) && Option.isSome(exit.value) ? Effect.void : sleepUntil((until + 1) * 1000)
      )
    )
  })

  /** Ends the server, and removes the socket that it leaves: the next call then need not ask tmux. */
  const endServer = Effect.gen(function*() {
    const before = yield* files.inspect(home.socket)
    const answer = yield* ended
    if (Option.isNone(answer)) return yield* Effect.logDebug("tmux did not say in time whether its idle server ended")
    if (!answer.value) return
    yield* Effect.logDebug(`the idle tmux server on ${home.socket} was ended`)
    const after = yield* files.inspect(home.socket)
    const isSame = after?.kind === "other" && after.inode === before?.inode && after.device === before.device
    if (isSame) yield* files.removeFile(home.socket)
  })

  const endUnreachable = Effect.gen(function*() {
    const oldest = (yield* host.bootClock) - idleAfter / 1000
    for (const found of yield* lost) {
      if (found.isBusy || found.startSeconds > oldest) continue
      const result = yield* host.endTmuxServer(found, home.socket)
      yield* Effect.logDebug(`the tmux server ${found.pid}, which has lost its socket, was sent TERM: ${result}`)
    }
  })

  /** Nothing is admitted, and no agent changes its state, from the question whether the home is idle until all is done. */
  const whileIdle = <E>(effect: Effect.Effect<void, E>): Effect.Effect<void, E | RegistryError> =>
    Effect.asVoid(Effect.timeoutOption(
      ledger.exclusively(Effect.flatMap(isIdle, (idle) => idle ? effect : Effect.void)),
      lookLimit
    ))

  const quietly = <E extends { readonly message: string }>(effect: Effect.Effect<void, E>): Effect.Effect<void> =>
    Effect.catch(
      effect,
      (error) => Effect.logDebug(`the idle tmux server was left for the next try: ${error.message}`)
    )

  const end = quietly(Effect.gen(function*() {
    const now = yield* host.bootClock
    if (!home.hasOwnSocket || now < nextLook || !(yield* isIdle)) return
    if ((yield* files.inspect(home.socket)) === undefined) return
    // A client that stays attached would make every call take the lock.
    nextLook = now + idleAfter / 10_000
    yield* whileIdle(endServer)
  })).pipe(Effect.withSpan("IdleServer.end"))

  const sweep = Effect.andThen(
    end,
    quietly(Effect.gen(function*() {
      if (!home.hasOwnSocket || !(yield* isIdle)) return
      const found = yield* lost
      if (found.some(({ isBusy }) => !isBusy)) yield* whileIdle(endUnreachable)
    }))
  ).pipe(Effect.withSpan("IdleServer.sweep"))

  return IdleServer.of({ end, sweep })
})
