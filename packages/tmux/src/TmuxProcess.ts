/**
 * tmux by one process per call: the transport that needs nothing but the `tmux` executable.
 *
 * Time: each call ends within the time limit; a tmux that hangs is then sent SIGTERM, and SIGKILL a quarter of a second
 * later, which takes up to one more second. An interrupted call ends its process in the same way. The tmux server is
 * not affected by either: it leaves the process group when it starts.
 *
 * The server is started without a configuration file, from `/`, and with PATH, HOME, TERM and LANG alone, so that it and
 * all sessions of others bear nothing of the caller that happened to come first. It stays when its last session ends:
 * otherwise a `newSession` that meets this moment fails.
 *
 * This is the only module that uses `effect/process`.
 */
import { Duration, Effect, Exit, Layer, Option, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Arguments from "./Arguments.ts"
import * as Failure from "./Failure.ts"
import * as Output from "./Output.ts"
import * as Target from "./Target.ts"
import { type NewSession, Tmux, type TmuxServer } from "./Tmux.ts"
import {
  TmuxCommandFailed,
  type TmuxError,
  TmuxNoSuchSession,
  TmuxNotFound,
  type TmuxRefusedArgument,
  TmuxTimeout,
  TmuxTooOld
} from "./TmuxError.ts"
import * as TmuxVersion from "./TmuxVersion.ts"

/** How tmux is run. */
export interface Options {
  /** The executable, looked up on the PATH; `tmux` by default. */
  readonly executable?: string | undefined
  /** The time limit of each call; 5 seconds by default. */
  readonly timeout?: Duration.Input | undefined
  /** The environment of which PATH, HOME, TERM and LANG are handed on; this process's own by default. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined
}

interface Answer {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

const handedOn = ["PATH", "HOME", "TERM", "LANG"]

const ownEnvironment = (): Readonly<Record<string, string | undefined>> => globalThis.process.env

// Lines kept for a pane, which shows next to nothing.
const historyLimit = "100"

// What the else branch of a command guarded by the server's pid prints.
const otherServer = "other-server"

const accept = (refusal: Option.Option<TmuxRefusedArgument>): Effect.Effect<void, TmuxRefusedArgument> =>
  Option.isSome(refusal) ? Effect.fail(refusal.value) : Effect.void

// Commands for one call. tmux leaves out what follows a command that failed.
const chain = (...commands: ReadonlyArray<ReadonlyArray<string>>): ReadonlyArray<string> =>
  commands.flatMap((command) => [";"].concat(command)).slice(1)

// A command on a session. For an id, tmux itself compares the server's pid in the same turn: a server that came after
// the one that gave the id may use it for another session.
const aimed = (target: Target.Target, command: string): ReadonlyArray<string> =>
  target._tag === "Name"
    ? [...command.split(" "), "-t", Target.render(target)]
    : [
      "if-shell",
      "-F",
      `#{==:#{pid},${target.serverPid}}`,
      `${command} -t '${Target.render(target)}'`,
      `display-message -p ${otherServer}`
    ]

const make = Effect.fnUntraced(function*(options: Options) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const executable = options.executable ?? "tmux"
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "5 seconds")
  const source = options.environment ?? ownEnvironment()
  const env = Object.fromEntries(
    handedOn.flatMap((name) => source[name] === undefined ? [] : [[name, source[name]]])
  )

  const run = (operation: string, args: ReadonlyArray<string>): Effect.Effect<Answer, TmuxError> =>
    Effect.gen(function*() {
      const handle = yield* spawner.spawn(ChildProcess.make(executable, args, {
        cwd: "/",
        env,
        stdin: "ignore",
        killSignal: "SIGTERM",
        forceKillAfter: "250 millis"
      }))
      const [stdout, stderr, exitCode] = yield* Effect.all([
        Stream.mkString(Stream.decodeText(handle.stdout)),
        Stream.mkString(Stream.decodeText(handle.stderr)),
        handle.exitCode
      ], { concurrency: "unbounded" })
      return { exitCode, stdout, stderr }
    }).pipe(
      Effect.scoped,
      Effect.mapError((error) =>
        error.reason._tag === "NotFound"
          ? new TmuxNotFound({ executable })
          : new TmuxCommandFailed({ operation, exitCode: null, stderr: error.message })
      ),
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () => Effect.fail(new TmuxTimeout({ operation, millis: Duration.toMillis(timeout) }))
      })
    )

  // One process for the life of the layer. Concurrent callers share it, and a failure is asked anew by the next one.
  const version = yield* run("version", ["-V"]).pipe(
    Effect.flatMap(({ exitCode, stderr, stdout }): Effect.Effect<TmuxVersion.TmuxVersion, TmuxError> => {
      const version = TmuxVersion.parse(stdout)
      if (exitCode !== 0 || version === undefined) {
        return Effect.fail(
          new TmuxCommandFailed({ operation: "version", exitCode, stderr: stderr.trim() || "not a version of tmux" })
        )
      }
      return TmuxVersion.isSupported(version)
        ? Effect.succeed(version)
        : Effect.fail(new TmuxTooOld({ found: version.text, required: TmuxVersion.requiredText }))
    }),
    Effect.cachedWithTTL((exit) => Exit.isSuccess(exit) ? Duration.infinity : Duration.zero)
  )

  const server = (socket: Target.SocketPath): TmuxServer => {
    // `-u` since tmux writes `_` for a tab and for all beyond ASCII when the locale is not UTF-8.
    const ask = Effect.fnUntraced(function*(operation: string, args: ReadonlyArray<string>) {
      yield* accept(Arguments.refuseSocket(socket))
      yield* version
      return yield* run(operation, ["-u", "-S", socket, "-f", "/dev/null", ...args])
    })

    const checked = Effect.fnUntraced(function*(operation: string, target: string, args: ReadonlyArray<string>) {
      const answer = yield* ask(operation, args)
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
      const stdout = yield* again(checked(operation, Target.describe(target), aimed(target, command)))
      if (stdout.trim() === otherServer) return yield* new TmuxNoSuchSession({ target: Target.describe(target) })
      return stdout
    })

    const sessions = again(checked("list-sessions", "", ["list-sessions", "-F", Output.sessionFormat])).pipe(
      Effect.flatMap((stdout) => read("list-sessions", Output.parseSessions(stdout)))
    )

    const environments = again(Effect.gen(function*() {
      const operation = "list-environments"
      // tmux runs what the format makes of each session. `if-shell` keeps the failure for a session that ended
      // meanwhile from cutting the others off, and leaves an exit code that means nothing.
      const each = `show-environment -s -t '#{session_id}' ; ` +
        `display-message -p '${Output.environmentFooter}#{session_id}'`
      const commands = chain(
        ["list-sessions", "-F", Output.environmentsFormat],
        ["run-shell", "-C", `#{S:if-shell -F 1 "${each}" ; }`],
        ["display-message", "-p", Output.environmentsEnd]
      )
      const answer = yield* ask(operation, commands)
      const parsed = Output.parseEnvironments(answer.stdout)
      if (Option.isSome(parsed)) return parsed.value
      return answer.exitCode === 0
        ? yield* read(operation, parsed)
        : yield* Failure.classify({ operation, socket, target: "", ...answer })
    }))

    return {
      socket,
      newSession: Effect.fn("TmuxServer.newSession")(function*(options: NewSession) {
        yield* accept(Arguments.refuseNewSession(options))
        const markers = Object.entries(options.environment).flatMap(([name, value]) => ["-e", `${name}=${value}`])
        // Several words for the script: tmux executes them itself. A single one would go through the user's shell.
        const commands = chain(
          ["set-option", "-s", "exit-empty", "off"],
          ["set-option", "-g", "history-limit", historyLimit],
          ["set-option", "-g", "remain-on-exit", "off"],
          ["new-session", "-d", "-s", options.name, "-x", "200", "-y", "50", "-P", "-F", Output.sessionFormat].concat(
            markers,
            ["--", "/bin/sh", options.script]
          )
        )
        const stdout = yield* checked("new-session", options.name, commands)
        return yield* read("new-session", Output.parseSession(stdout))
      }),
      sessions: Effect.withSpan(sessions, "TmuxServer.sessions"),
      session: Effect.fn("TmuxServer.session")(function*(target: Target.Target) {
        yield* accept(Arguments.refuseTarget(target))
        const found = (yield* sessions).find((session) =>
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

  return Tmux.of({ version, server })
})

/** tmux by one process per call. */
export const layer = (options: Options = {}): Layer.Layer<Tmux, never, ChildProcessSpawner.ChildProcessSpawner> =>
  Layer.effect(Tmux, make(options))
