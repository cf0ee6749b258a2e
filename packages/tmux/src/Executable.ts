/**
 * The `tmux` executable: run once for an answer, or kept as a control client.
 *
 * Time: at most 16 run at one time. Each run ends within the time limit, the wait for its turn included. A tmux that
 * hangs is then sent SIGTERM, and SIGKILL a quarter of a second later, which takes up to one more second. An
 * interrupted run ends its process in the same way. The tmux server is not affected by either: it leaves the process
 * group when it starts. A control client lives as long as its scope, and is reaped with it.
 *
 * A server that is started by one bears nothing of the caller that happened to come first. It has no configuration
 * file, `/` as its directory, PATH, HOME, TERM and LANG alone for its environment, and no descriptor above 2.
 *
 * This is the only module of the package that uses `effect/process`.
 */
import { Duration, Effect, Exit, type PlatformError, Predicate, Semaphore, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import * as Commands from "./Commands.ts"
import * as Descriptors from "./Descriptors.ts"
import type { Answer, Question } from "./Operations.ts"
import {
  TmuxCommandFailed,
  type TmuxError,
  TmuxNotFound,
  TmuxNotStarted,
  TmuxTimeout,
  TmuxTooOld
} from "./TmuxError.ts"
import * as TmuxVersion from "./TmuxVersion.ts"

/** How tmux is run. */
export interface Options {
  /** The executable, searched for on the PATH; `tmux` by default. */
  readonly executable?: string | undefined
  /** The time limit of each call; 5 seconds by default. */
  readonly timeout?: Duration.Input | undefined
  /** The environment of which PATH, HOME, TERM and LANG are handed on; this process's own by default. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined
}

// tmux was seen to keep a control client that should have ended. So a process reads the client's output in any case, also
// when this process was killed.
const alwaysRead = "\"$@\" | { cat; exec cat >/dev/null; }"

// Processes at one time: more would only take the machine from each other, and from the agents that they start.
const mostAtOnce = 16

const handedOn = ["PATH", "HOME", "TERM", "LANG"]

/** What the system is short of when it answers so. */
const shortOf: ReadonlySet<string> = new Set(["EAGAIN", "ENOMEM", "EMFILE", "ENFILE"])

interface SpawnThrew {
  readonly _tag: "SpawnThrew"
  readonly code: string
}

/** The code by which the system refused to start a process, if that is what this says. */
const spawnCodeOf = (cause: unknown): string | undefined =>
  Predicate.hasProperty(cause, "syscall") && Predicate.isString(cause.syscall) && cause.syscall.startsWith("spawn") &&
    Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code)
    ? cause.code
    : undefined

const ownEnvironment = (): Readonly<Record<string, string | undefined>> => globalThis.process.env

/**
 * The arguments before all commands. `-u` since tmux writes `_` for a tab and for all beyond ASCII when the locale is not
 * UTF-8.
 */
export const common = (socket: string): ReadonlyArray<string> => ["-u", "-S", socket, "-f", "/dev/null"]

/** The executable with these options. */
export const make = Effect.fnUntraced(function*(options: Options) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const executable = options.executable ?? "tmux"
  const timeout = Duration.fromInputUnsafe(options.timeout ?? "5 seconds")
  const source = options.environment ?? ownEnvironment()
  const env = Object.fromEntries(
    handedOn.flatMap((name) => source[name] === undefined ? [] : [[name, source[name]]])
  )

  const turns = yield* Semaphore.make(mostAtOnce)

  const failure = (operation: string) => (error: PlatformError.PlatformError | SpawnThrew): TmuxError => {
    const code = error._tag === "SpawnThrew" ? error.code : spawnCodeOf(error.reason.cause)
    if (code !== undefined && shortOf.has(code)) return new TmuxNotStarted({ operation, code })
    if (error._tag === "SpawnThrew") return new TmuxCommandFailed({ operation, exitCode: null, stderr: error.code })
    return error.reason._tag === "NotFound"
      ? new TmuxNotFound({ executable })
      : new TmuxCommandFailed({ operation, exitCode: null, stderr: error.message })
  }

  // Node throws some refusals of the system out of its spawn, ENOMEM among them, and reports others as events.
  const spawn = (program: string, args: ReadonlyArray<string>, stdin: ChildProcess.CommandInput) =>
    spawner.spawn(ChildProcess.make(program, args, {
      cwd: "/",
      env,
      stdin,
      killSignal: "SIGTERM",
      forceKillAfter: "250 millis"
    })).pipe(
      Effect.catchDefect((defect): Effect.Effect<never, SpawnThrew> => {
        const code = spawnCodeOf(defect)
        return code === undefined ? Effect.die(defect) : Effect.fail({ _tag: "SpawnThrew", code })
      })
    )

  const within = (operation: string) => <A, E, R>(self: Effect.Effect<A, E, R>) =>
    Effect.timeoutOrElse(self, {
      duration: timeout,
      orElse: () => Effect.fail(new TmuxTimeout({ operation, millis: Duration.toMillis(timeout) }))
    })

  const run = (operation: string, args: ReadonlyArray<string>, starts = false): Effect.Effect<Answer, TmuxError> =>
    Effect.gen(function*() {
      const [program, words] = Descriptors.without(starts ? Descriptors.inherited() : [], executable, args)
      const handle = yield* spawn(program, words, "ignore")
      const [stdout, stderr, exitCode] = yield* Effect.all([
        Stream.mkString(Stream.decodeText(handle.stdout)),
        Stream.mkString(Stream.decodeText(handle.stderr)),
        handle.exitCode
      ], { concurrency: "unbounded" })
      return { exitCode, stdout, stderr }
    }).pipe(Effect.scoped, Effect.mapError(failure(operation)), turns.withPermits(1), within(operation))

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

  return {
    version,
    /** The answer to a question, by one process. */
    ask: ({ commands, operation, socket, starts }: Question): Effect.Effect<Answer, TmuxError> =>
      run(operation, [
        ...common(socket),
        ...Commands.words(starts ? [...Commands.serverOptions, ...commands] : commands)
      ], starts),
    /** A tmux that reads lines until its scope ends; what it gives is read as it comes. */
    keep: (operation: string, args: ReadonlyArray<string>, stdin: Stream.Stream<Uint8Array>) =>
      Effect.mapError(spawn("/bin/sh", ["-c", alwaysRead, "sh", executable, ...args], stdin), failure(operation)),
    /** Ends an effect with `TmuxTimeout` at the time limit. */
    within,
    timeout
  }
})

export type Executable = Effect.Success<ReturnType<typeof make>>
