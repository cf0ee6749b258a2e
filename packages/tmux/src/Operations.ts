/**
 * The operations on a server, made of commands and answers: what all transports to a real tmux share.
 *
 * A transport runs the commands of one question and gives the answer as a tmux process would: what was printed, what
 * went wrong, and an exit code. Here it is decided what to ask, what may be asked twice, and what an answer means.
 */
import { Effect, Option, Schedule } from "effect"
import * as Arguments from "./Arguments.ts"
import * as Commands from "./Commands.ts"
import * as Failure from "./Failure.ts"
import * as Output from "./Output.ts"
import * as Target from "./Target.ts"
import type { Idle, NewSession, TmuxServer } from "./Tmux.ts"
import { TmuxCommandFailed, type TmuxError, TmuxNoSuchSession, type TmuxRefusedArgument } from "./TmuxError.ts"
import type { TmuxVersion } from "./TmuxVersion.ts"

/** What came of commands. */
export interface Answer {
  readonly exitCode: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Commands for one server, run one after the other up to the first that fails. */
export interface Question {
  readonly socket: Target.SocketPath
  readonly operation: string
  readonly commands: ReadonlyArray<Commands.Command>
  /**
   * Whether a server is started when there is none; the transport sees to its options (`Commands.serverOptions`). Whatever starts
   * none may be asked twice.
   */
  readonly starts: boolean
  /** Whether it is asked without a client that stays, whose anchor is a session. */
  readonly apart: boolean
}

type How = Partial<Pick<Question, "apart" | "starts">>

/** What brings commands to a server. */
export interface Transport {
  readonly version: Effect.Effect<TmuxVersion, TmuxError>
  readonly ask: (question: Question) => Effect.Effect<Answer, TmuxError>
}

const accept = (refusal: Option.Option<TmuxRefusedArgument>): Effect.Effect<void, TmuxRefusedArgument> =>
  Option.isSome(refusal) ? Effect.fail(refusal.value) : Effect.void

/** The operations on the server of a socket, by this transport. */
export const make = (transport: Transport) => (socket: Target.SocketPath): TmuxServer => {
  const ask = Effect.fnUntraced(
    function*(operation: string, commands: ReadonlyArray<Commands.Command>, { apart = false, starts = false }: How) {
      yield* accept(Arguments.refuseSocket(socket))
      yield* transport.version
      return yield* transport.ask({ socket, operation, commands, starts, apart })
    }
  )

  const checked = Effect.fnUntraced(function*(
    operation: string,
    target: string,
    commands: ReadonlyArray<Commands.Command>,
    how: How = {}
  ) {
    const answer = yield* ask(operation, commands, how)
    return answer.exitCode === 0
      ? answer.stdout
      : yield* Failure.classify({ operation, socket, target, ...answer })
  })

  // For what may be asked twice. A server that ended in between gives no answer; the next try does.
  const again = <A>(self: Effect.Effect<A, TmuxError>): Effect.Effect<A, TmuxError> =>
    Effect.retry(self, { times: 2, while: Failure.isLostServer })

  const read = <A>(operation: string, parsed: Option.Option<A>): Effect.Effect<A, TmuxCommandFailed> =>
    Option.match(parsed, {
      onNone: () =>
        Effect.fail(new TmuxCommandFailed({ operation, exitCode: 0, stderr: "its answer could not be read" })),
      onSome: (value) => Effect.succeed(value)
    })

  const onTarget = Effect.fnUntraced(function*(operation: string, target: Target.Target, command: string) {
    yield* accept(Arguments.refuseTarget(target))
    const commands = Commands.aimed(target, command)
    const stdout = yield* again(checked(operation, Target.describe(target), commands))
    if (stdout.trim() === Commands.noSuchSession) {
      return yield* new TmuxNoSuchSession({ target: Target.describe(target) })
    }
    return stdout
  })

  const list = Effect.fnUntraced(function*(commands: ReadonlyArray<Commands.Command>) {
    const stdout = yield* again(checked("list-sessions", "", commands))
    return yield* read("list-sessions", Output.parseSessions(stdout))
  })

  const environments = again(Effect.gen(function*() {
    const operation = "list-environments"
    const answer = yield* ask(operation, Commands.environments, {})
    const parsed = Output.parseEnvironments(answer.stdout)
    if (Option.isSome(parsed)) return parsed.value
    return answer.exitCode === 0
      ? yield* read(operation, parsed)
      : yield* Failure.classify({ operation, socket, target: "", ...answer })
  }))

  const pid = (how: How) =>
    Effect.flatMap(checked("pid", "", Commands.pid, how), (stdout) => read("pid", Output.parsePid(stdout)))

  // A server that ends still takes connections for a moment, and closes them.
  const gone = (ending: Option.Option<number>): Effect.Effect<boolean, TmuxError> =>
    pid({ apart: true }).pipe(
      Effect.map((now) => Option.isSome(ending) && ending.value !== now),
      Effect.catchTag("TmuxNoServer", () => Effect.succeed(true)),
      Effect.catchIf(Failure.isLostServer, () => Effect.succeed(false)),
      Effect.repeat({ until: (isGone) => isGone, schedule: Schedule.spaced("5 millis") })
    )

  const endIdle = Effect.fn("TmuxServer.endIdle")(function*(idle: Idle) {
    const stdout = yield* checked("end-idle", "", Commands.endIdle(idle), { apart: true }).pipe(
      Effect.catchIf(Failure.isLostServer, () => Effect.succeed(""))
    )
    return stdout.trim() === Commands.stays ? false : yield* gone(Output.parsePid(stdout))
  })

  return {
    socket,
    endIdle,
    newSession: Effect.fn("TmuxServer.newSession")(function*(options: NewSession) {
      yield* accept(Arguments.refuseNewSession(options))
      const stdout = yield* checked("new-session", options.name, Commands.newSession(options), { starts: true })
      return yield* read("new-session", Output.parseSession(stdout))
    }),
    pid: again(pid({})),
    sessions: Effect.withSpan(list(Commands.sessions), "TmuxServer.sessions"),
    session: Effect.fn("TmuxServer.session")(function*(target: Target.Target) {
      yield* accept(Arguments.refuseTarget(target))
      const found = (yield* list(Commands.session(target))).find((session) =>
        target._tag === "Name"
          ? session.name === target.name
          : session.id === target.id && session.serverPid === target.serverPid
      )
      return found ?? (yield* new TmuxNoSuchSession({ target: Target.describe(target) }))
    }),
    environment: Effect.fn("TmuxServer.environment")(function*(target: Target.Target) {
      return Output.parseEnvironment(yield* onTarget("show-environment", target, "show-environment -s"))
    }),
    environments: Effect.withSpan(environments, "TmuxServer.environments"),
    killSession: Effect.fn("TmuxServer.killSession")(function*(target: Target.Target) {
      yield* onTarget("kill-session", target, "kill-session")
    })
  }
}
