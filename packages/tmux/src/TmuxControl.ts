/**
 * tmux by one control client per socket: the transport of a long-lived process that asks often, or at once.
 *
 * A client is attached at the first use of a socket, if its server has no session yet (see `Options.attach`; otherwise
 * each call is a process). All fibers share it, and it is detached with the layer's scope. A question does not wait for
 * the answer to an earlier one. The client's anchor session is hidden by every transport and never outlives its client,
 * also when this process is killed; the server stays.
 *
 * Questions never start a server; `newSession` starts it as `TmuxProcess` does.
 *
 * tmux 3.3a was seen to end, with all its sessions, while a control client was attaching (mended upstream in 2026). So
 * this transport attaches once, to a server without sessions, and stays. A program that needs no speed, or that attaches often (a command that soon ends), is better served by `TmuxProcess`, which attaches nothing.
 *
 * Time: each operation ends within the time limit, attaching included, also when the server is frozen. What it wrote
 * stays written: the server may still do it later, and the answer is then dropped. An interrupted operation ends at
 * once.
 *
 * A client is only used as long as the socket's file is the one that it was attached by. A bound socket pins its inode,
 * which distinguishes a server that lost its file from its successor; each operation checks this first. When the server
 * or the client ends, what is in flight fails, and the next use attaches anew. A client that says nothing while its
 * server answers a process is given up too. Questions that failed so are put again,
 * at last to a process; a new session is not. If the clients of a server end soon after they came, the server is given
 * time, doubling up to a second, in place of one client after the other.
 */
import { Clock, Deferred, Duration, Effect, Exit, Layer, Result, Scope } from "effect"
import type { ChildProcessSpawner } from "effect/process"
import * as NodeFs from "node:fs"
import * as Commands from "./Commands.ts"
import * as ControlClient from "./ControlClient.ts"
import * as Executable from "./Executable.ts"
import * as Failure from "./Failure.ts"
import * as Operations from "./Operations.ts"
import type { SocketPath } from "./Target.ts"
import { Tmux } from "./Tmux.ts"
import { TmuxCommandFailed, type TmuxError } from "./TmuxError.ts"

export interface Options extends Executable.Options {
  /**
   * Which servers a client may be attached to. By default only a server that has no session to lose: tmux 3.3a was seen
   * to end, with all its sessions, while a client was attaching. All other servers are asked by a process per call.
   * `to-any-server` is for a tmux that is known to be mended.
   */
  readonly attach?: "to-empty-servers" | "to-any-server" | undefined
}

// A client that lived this long ended for a reason of its own, not for one that the next one will meet as well.
const settledAfterMillis = 1_000
const firstPauseMillis = 10
const longestPauseMillis = 1_000
const forgottenAfterMillis = 10_000

// How long a server that no client may come to is asked by processes, before a client is tried again.
const barredMillis = 30_000

// How many time limits an attempt to attach may take all in all, before another one is made in its place.
const mostTimeouts = 10

// Attaching is tried again after a server was started, and when the socket's file changed meanwhile.
const maxAttaches = 4

/** Which file the socket is, or undefined when it cannot be seen. */
const fileOf = (socket: string): string | undefined => {
  try {
    const stat = NodeFs.statSync(socket, { bigint: true, throwIfNoEntry: false })
    return stat === undefined ? undefined : `${stat.dev}:${stat.ino}`
  } catch {
    return undefined
  }
}

interface Attached {
  readonly client: ControlClient.ControlClient
  readonly file: string
  readonly scope: Scope.Closeable
}

interface Attempt {
  readonly starts: boolean
  /** On the monotonic clock. */
  readonly since: bigint
  readonly number: number
  readonly done: Deferred.Deferred<void, TmuxError>
}

/** A question that was put to a client. */
interface Put {
  readonly found: Attached
  readonly since: bigint
  readonly heard: number
}

const pause = (first: number, longest: number, times: number): number =>
  times === 0 ? 0 : Math.min(longest, first * 2 ** Math.min(times - 1, 20))

/** What is known of one socket. */
const makeChannel = (
  executable: Executable.Executable,
  scope: Scope.Scope,
  socket: SocketPath,
  attachTo: Options["attach"]
) => {
  let attached: Attached | undefined
  let attempt: Attempt | undefined
  let attempts = 0
  // How many clients in a row were lost soon after they came, and when the last one was.
  let lostSoon = 0
  let lostAt = 0
  // Since when the server is asked by a process whether it answers at all, on the monotonic clock.
  let probedSince: bigint | undefined
  // Until when no client is tried, and which server that was found out for.
  let barred: { readonly until: number; readonly file: string | undefined } | undefined

  // Goes on in the background, and to its end also when the layer's scope is closed meanwhile.
  const detach = (own: Scope.Closeable): Effect.Effect<void> =>
    Effect.asVoid(Effect.forkIn(Effect.uninterruptible(Scope.close(own, Exit.void)), scope))

  // The client that may be asked now.
  const current = (): Attached | undefined =>
    attached !== undefined && attached.client.isOpen() && attached.file === fileOf(socket) ? attached : undefined

  const leave = Effect.suspend(() => {
    if (attached === undefined) return Effect.void
    const { scope: own } = attached
    attached = undefined
    return detach(own)
  })

  const connect = Effect.fnUntraced(function*(operation: string) {
    const own = yield* Scope.fork(scope)
    const client = yield* ControlClient.make(executable, { socket, operation }).pipe(
      Scope.provide(own),
      executable.within(operation),
      Effect.onExit((exit) => Exit.isSuccess(exit) ? Effect.void : detach(own))
    )
    return { client, own }
  })

  const checked = Effect.fnUntraced(function*(question: Omit<Operations.Question, "socket">) {
    const answer = yield* executable.ask({ ...question, socket })
    return answer.exitCode === 0
      ? answer.stdout
      : yield* Failure.classify({ operation: question.operation, socket, target: "", ...answer })
  })

  // By one process and before a client comes, so that a client only ever comes to a server that is there.
  const startServer = (operation: string) =>
    Effect.asVoid(checked({ operation, commands: Commands.startServer, starts: true, apart: true }))

  const hasSessions = (operation: string) =>
    Effect.map(
      checked({ operation, commands: [["list-sessions", "-F", "#{session_id}"]], starts: false, apart: true }),
      (listed) => listed.trim() !== ""
    )

  // A client that came by the file that the socket is before and after it: by no other one can it have come.
  const attach = Effect.fnUntraced(function*(operation: string, starts: boolean) {
    for (let tries = 0; tries < maxAttaches; tries++) {
      const before = fileOf(socket)
      if (before === undefined && starts) {
        yield* startServer(operation)
        continue
      }
      if (attachTo !== "to-any-server") {
        const occupied = yield* Effect.result(hasSessions(operation))
        if (Result.isSuccess(occupied) && occupied.success) return undefined
      }
      const connected = yield* Effect.result(connect(operation))
      if (Result.isFailure(connected)) {
        // A server that no client can be anchored on may still answer a process, or give it the reason.
        if (connected.failure._tag === "TmuxCommandFailed") return undefined
        if (!starts || connected.failure._tag !== "TmuxNoServer") return yield* connected.failure
        yield* startServer(operation)
        continue
      }
      const { client, own } = connected.success
      if (before !== undefined && before === fileOf(socket)) return { client, file: before, scope: own }
      yield* detach(own)
    }
    return yield* new TmuxCommandFailed({
      operation,
      exitCode: null,
      stderr: "the file of its socket changed again and again"
    })
  })

  const carryOut = Effect.fnUntraced(function*(operation: string, starts: boolean) {
    yield* leave
    const now = yield* Clock.currentTimeMillis
    if (now - lostAt > forgottenAfterMillis) lostSoon = 0
    yield* Effect.sleep(Math.max(0, lostAt + pause(firstPauseMillis, longestPauseMillis, lostSoon) - now))
    const found = yield* attach(operation, starts)
    const since = yield* Clock.currentTimeMillis
    if (found === undefined) {
      barred = { until: since + barredMillis, file: fileOf(socket) }
      return
    }
    attached = found
    yield* found.client.lost.pipe(
      Effect.andThen(Clock.currentTimeMillis),
      Effect.flatMap((now) => {
        lostSoon = now - since < settledAfterMillis ? lostSoon + 1 : 0
        lostAt = now
        return attached === found ? leave : Effect.void
      }),
      Effect.forkIn(scope)
    )
  })

  const begin = (operation: string, starts: boolean): Effect.Effect<void> =>
    Effect.flatMap(Clock.monotonicTimeNanos, (since) => {
      const mine: Attempt = { starts, since, number: attempts++, done: Deferred.makeUnsafe() }
      attempt = mine
      return carryOut(operation, starts).pipe(
        Effect.onExit((exit) =>
          Effect.sync(() => {
            if (attempt === mine) attempt = undefined
            Deferred.doneUnsafe(mine.done, exit)
          })
        ),
        Effect.forkIn(scope)
      )
    }).pipe(Effect.asVoid, Effect.uninterruptible)

  const isBarred = Effect.map(
    Clock.currentTimeMillis,
    (now) => barred !== undefined && now < barred.until && barred.file === fileOf(socket)
  )

  // Attaches if need be and if it may; nothing when it may not. Many share one attempt, but no caller takes a failure
  // for an answer that began before its question.
  const obtain = Effect.fnUntraced(
    function*(operation: string, starts: boolean): Effect.fn.Return<Attached | undefined, TmuxError> {
      const arrival = attempts
      while (scope.state._tag !== "Closed") {
        const found = current()
        if (found !== undefined || (yield* isBarred)) return found
        if (attempt === undefined || (yield* isOver(attempt.since, mostTimeouts))) {
          yield* begin(operation, starts)
          continue
        }
        const { done, number, starts: started } = attempt
        const exit = yield* Effect.exit(Deferred.await(done))
        if (Exit.isFailure(exit) && number >= arrival && (started || !starts)) {
          return yield* Effect.failCause(exit.cause)
        }
      }
      return yield* new TmuxCommandFailed({ operation, exitCode: null, stderr: "its layer was closed" })
    }
  )

  // Nothing was heard of a client while a question ran out of time. Where the server answers a process, the client is deaf: the
  // fake timers of a test take away what its fibers wait for. Where it does not, it is frozen, and the client is still good.
  const probe = Effect.fnUntraced(function*({ found, heard, since }: Put) {
    const isSilent = () => attached === found && found.client.heard() === heard
    if (!isSilent() || !(yield* isOver(since, 0.5))) return
    if (probedSince !== undefined && !(yield* isOver(probedSince, 2))) return
    const begun = yield* Clock.monotonicTimeNanos
    probedSince = begun
    yield* hasSessions("probe").pipe(
      Effect.flatMap(() => isSilent() ? leave : Effect.void),
      Effect.ignore,
      Effect.ensuring(Effect.sync(() => {
        if (probedSince === begun) probedSince = undefined
      })),
      Effect.forkIn(scope)
    )
  })

  const giveUp = (put: Put | undefined): Effect.Effect<void> =>
    put === undefined
      ? Effect.map(
        Clock.currentTimeMillis,
        (now) => void (barred = { until: now + barredMillis, file: fileOf(socket) })
      )
      : probe(put)

  const isOver = (since: bigint, timeouts: number): Effect.Effect<boolean> =>
    Effect.map(
      Clock.monotonicTimeNanos,
      (now) => Number(now - since) / 1e6 > timeouts * Duration.toMillis(executable.timeout)
    )

  const ask = (question: Operations.Question): Effect.Effect<Operations.Answer, TmuxError> => {
    if (question.apart) return executable.ask(question)
    let isWaiting = true
    let last: Put | undefined
    const put = Effect.flatMap(obtain(question.operation, question.starts), (found) => {
      isWaiting = false
      return found === undefined ? executable.ask(question) : Effect.flatMap(Clock.monotonicTimeNanos, (since) => {
        last = { found, since, heard: found.client.heard() }
        return found.client.ask(question)
      })
    })
    const asked = question.starts ? put : put.pipe(
      Effect.catchTag("TmuxClientLost", () => put),
      Effect.catchTag("TmuxClientLost", () => executable.ask(question))
    )
    return Effect.tapErrorTag(
      executable.within(question.operation)(asked),
      "TmuxTimeout",
      () => isWaiting || last !== undefined ? giveUp(last) : Effect.void
    )
  }

  return { ask }
}

const make = Effect.fnUntraced(function*(options: Options) {
  const scope = yield* Effect.scope
  const executable = yield* Executable.make(options)
  const channels = new Map<string, ReturnType<typeof makeChannel>>()

  const channel = (socket: SocketPath) => {
    const known = channels.get(socket)
    if (known !== undefined) return known
    const made = makeChannel(executable, scope, socket, options.attach)
    channels.set(socket, made)
    return made
  }

  const server = Operations.make({
    version: executable.version,
    ask: (question) => channel(question.socket).ask(question)
  })
  return Tmux.of({ version: executable.version, server })
})

/** tmux by one control client per socket. */
export const layer = (options: Options = {}): Layer.Layer<Tmux, never, ChildProcessSpawner.ChildProcessSpawner> =>
  Layer.effect(Tmux, make(options))
