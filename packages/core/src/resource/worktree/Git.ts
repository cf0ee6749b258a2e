/**
 * The `git` executable, and the two programs that a tree is moved by: each run once, for an answer.
 *
 * Time: each run ends within its limit. It is then sent TERM, after which git takes its locks away, and KILL a second
 * later; so is one that is interrupted, which answers only when it has ended. A run leads a session of its own: it has no
 * terminal to ask on, and a signal for the deployer's group does not reach it.
 *
 * The environment is that of the call's caller, without what ties git to one repository (`git rev-parse --local-env-vars`), since a
 * deployment may be made from a hook. Nothing of the repository is run on the side: no hook, no file system monitor, no
 * maintenance. Filters (LFS) are, since without them a checkout is not whole.
 */
import { NodeChildProcessSpawner, NodeFileSystem, NodePath } from "@effect/platform-node"
import { Sentence } from "@slipway/tmux"
import { Context, Duration, Effect, Layer, Schema, Stream } from "effect"
import { ChildProcess, ChildProcessSpawner } from "effect/process"
import { environmentFor } from "../../agent/AgentEnvironment.ts"
import { type Caller, CurrentCaller, currentCaller } from "../../machine/Caller.ts"

/** A program could not be run, took too long, or answered with a failure. */
export class GitFailed extends Schema.TaggedError<GitFailed>()("GitFailed", {
  /** What was run, without its options. */
  command: Schema.String,
  /** Null where it gave none. */
  exitCode: Schema.NullOr(Schema.Int),
  problem: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `${this.command} failed${this.exitCode === null ? "" : ` (exit code ${this.exitCode})`}: ${this.problem}`
  }
}

export interface RunOptions {
  readonly cwd: string
  /** Another index than the tree's own. */
  readonly index?: string | undefined
  readonly input?: string | undefined
  /** Marks for the environment: what bears an agent's id ends with it. */
  readonly marks?: Readonly<Record<string, string>> | undefined
  /** Commits are the person's; by default Slipway's own. */
  readonly author?: "person" | undefined
  /** Held by one run at a time, for some seconds, and freed by the kernel when that one ends, however it does. */
  readonly lock?: string | undefined
  /** A minute by default; null is without one. */
  readonly limit?: Duration.Duration | null | undefined
}

export interface Answer {
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

const defaultLimit = Duration.seconds(60)
// A git that outlives its deployer may hold the lock, and must not hold up the next: without it, it may have to try again.
const lockSeconds = 5
const lockTaken = 75

const quiet: ReadonlyArray<string> = [
  "core.hooksPath=/dev/null",
  "core.fsmonitor=false",
  "core.splitIndex=false",
  "gc.auto=0",
  "maintenance.auto=false",
  "submodule.recurse=false",
  "advice.detachedHead=false"
].flatMap((setting) => ["-c", setting])

const own = {
  GIT_AUTHOR_NAME: "slipway",
  GIT_AUTHOR_EMAIL: "slipway@localhost",
  GIT_COMMITTER_NAME: "slipway",
  GIT_COMMITTER_EMAIL: "slipway@localhost"
}

/** What is run, without its options: the program and, if it has one, its command. */
const commandOf = (program: string, args: ReadonlyArray<string>): string =>
  [program, args.find((arg) => /^[a-z][a-z-]+$/.test(arg))].join(" ").trim()

/** The last lines of what a program complained of, on one line. */
export const lastLines = (text: string): string =>
  text.trim().split("\n").slice(-4).map((line) => line.trim()).join("; ").slice(-600)

export class Git extends Context.Service<Git, {
  /** Git's answer, whatever its exit code. */
  readonly ask: (args: ReadonlyArray<string>, options: RunOptions) => Effect.Effect<Answer, GitFailed>
  /** What git printed, without the last newline; fails unless it ended with 0. */
  readonly read: (args: ReadonlyArray<string>, options: RunOptions) => Effect.Effect<string, GitFailed>
  /** Another program, in the same environment. */
  readonly run: (
    program: string,
    args: ReadonlyArray<string>,
    options: RunOptions
  ) => Effect.Effect<Answer, GitFailed>
}>()("@slipway/core/resource/worktree/Git") {
  static readonly layer = (options: { readonly caller?: Caller | undefined } = {}) =>
    Layer.effect(Git, make(options.caller)).pipe(
      Layer.provide(NodeChildProcessSpawner.layer),
      Layer.provide([NodeFileSystem.layer, NodePath.layer])
    )
}

const make = Effect.fnUntraced(function*(given: Caller | undefined) {
  const spawner = yield* ChildProcessSpawner.ChildProcessSpawner
  const opener = given ?? (yield* currentCaller)

  const environmentOf = (caller: Caller, { author, index, marks = {} }: RunOptions): Record<string, string> => {
    const inherited = environmentFor({ caller: caller.environment, overrides: {}, command: {}, markers: {} })
    return {
      ...Object.fromEntries(Object.entries(inherited).filter(([name]) => name !== "GIT_NAMESPACE")),
      ...(author === "person" ? {} : own),
      LC_ALL: "C",
      GIT_TERMINAL_PROMPT: "0",
      GIT_OPTIONAL_LOCKS: "0",
      ...(index === undefined ? {} : { GIT_INDEX_FILE: index }),
      ...marks
    }
  }

  const run = Effect.fnUntraced(
    function*(
      program: string,
      args: ReadonlyArray<string>,
      options: RunOptions
    ): Effect.fn.Return<Answer, GitFailed> {
      const limit = options.limit === null ? Duration.infinity : options.limit ?? defaultLimit
      const command = commandOf(program, args)
      const failed = (problem: string) => new GitFailed({ command, exitCode: null, problem })
      const caller = (yield* CurrentCaller) ?? opener
      return yield* Effect.gen(function*() {
        const handle = yield* spawner.spawn(ChildProcess.make(program, args, {
          cwd: options.cwd,
          env: environmentOf(caller, options),
          stdin: options.input === undefined ? "ignore" : Stream.encodeText(Stream.make(options.input)),
          killSignal: "SIGTERM",
          forceKillAfter: "1 second"
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
          failed(error.reason._tag === "NotFound" ? `there is no ${program}; install it` : error.message)
        ),
        Effect.timeoutOrElse({
          duration: limit,
          orElse: () => Effect.fail(failed(`it was not done within ${Duration.format(limit)}`))
        })
      )
    }
  )

  // Asked once, and only by what needs it: most commands have to do with no tree.
  const hasFlock = yield* Effect.cached(Effect.isSuccess(run("flock", ["--version"], { cwd: "/" })))

  const ask = Effect.fnUntraced(function*(args: ReadonlyArray<string>, options: RunOptions) {
    const words = [...quiet, ...args]
    if (options.lock === undefined || !(yield* hasFlock)) return yield* run("git", words, options)
    const waiting = ["-w", String(lockSeconds), "-E", String(lockTaken), options.lock]
    const answer = yield* run("flock", [...waiting, "git", ...words], options)
    return answer.exitCode === lockTaken ? yield* run("git", words, options) : answer
  })

  const read = Effect.fnUntraced(function*(args: ReadonlyArray<string>, options: RunOptions) {
    const { exitCode, stderr, stdout } = yield* ask(args, options)
    if (exitCode === 0) return stdout.replace(/\n$/, "")
    return yield* new GitFailed({
      command: commandOf("git", args),
      exitCode,
      problem: lastLines(stderr) || "it says nothing"
    })
  })

  return Git.of({ ask, read, run })
})
