/**
 * The headless agents that Slipway knows, as data: what a caller may ask for, and the command line it becomes.
 *
 * `resolve` is pure. The prompt is never a part of the command line: every agent reads it from standard input, so no
 * length limit and no process listing applies to it. Each known agent is started so that it asks for nothing
 * (permissions, trust, a git repository), since no person is there to answer.
 *
 * How long an agent retries a broken network is left to the person who deploys it. Slipway sets none of these knobs:
 * for claude the variable `CLAUDE_CODE_MAX_RETRIES`; for codex `-c model_providers.<name>.request_max_retries=0` and
 * `stream_max_retries=0`; gemini and opencode have none. With any of these set, runs were seen that did not end by
 * themselves. So a limit on the whole run is the only bound that holds.
 *
 * `findExecutable` only searches: it makes nothing and can be interrupted between two directories. It has no time limit
 * of its own. A directory of `PATH` on a dead network mount can hold it up, so the caller bounds it.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import * as Path from "node:path"
import type { Files } from "../machine/Files.ts"

/** The agents that are known by name, and `command` for any other program. */
export const AgentKind = Schema.Literals(["claude", "codex", "gemini", "opencode", "command"])
/** The agents that are known by name, and `command` for any other program. */
export type AgentKind = typeof AgentKind.Type

const KnownKind = Schema.Literals(["claude", "codex", "gemini", "opencode"])

const noNul = Schema.isPattern(/^[^\0]*$/, { expected: "text without a NUL character" })

/** One argument of a command line: any text a process can be given, so no NUL character. */
export const Argument = Schema.String.check(noNul)

/** Which program to deploy: any command, or a known agent with a model and extra arguments of one's own. */
export const AgentSpec = Schema.Union([
  Schema.Struct({
    kind: Schema.Literal("command"),
    argv: Schema.NonEmptyArray(Argument).check(
      Schema.makeFilter((argv) => argv[0] !== "" || "the first argument, which is the program, must not be empty")
    )
  }),
  Schema.Struct({
    kind: KnownKind,
    model: Schema.optionalKey(Schema.NonEmptyString.check(noNul)),
    args: Schema.optionalKey(Schema.Array(Argument))
  })
])
/** Which program to deploy: any command, or a known agent with a model and extra arguments of one's own. */
export type AgentSpec = typeof AgentSpec.Type

/** A command line with what has to be known to run it. */
export interface ResolvedCommand {
  readonly kind: AgentKind
  /** The program, as it was named, and its arguments. */
  readonly argv: readonly [string, ...Array<string>]
  /** Variables that this agent needs to run unattended; the caller's explicit ones come after them. */
  readonly environment: Readonly<Record<string, string>>
  /** Variables that suit an unattended run; a value of the caller goes before, also an inherited one. */
  readonly defaults: Readonly<Record<string, string>>
}

/** The command line of an agent, with the prompt expected on standard input. */
export const resolve = (spec: AgentSpec, options: { readonly isRoot: boolean }): ResolvedCommand => {
  if (spec.kind === "command") {
    return { kind: spec.kind, argv: spec.argv, environment: {}, defaults: {} }
  }
  const extra = spec.args ?? []
  const model = (flag: string) => spec.model === undefined ? [] : [flag, spec.model]
  switch (spec.kind) {
    case "claude":
      return {
        kind: spec.kind,
        argv: [
          "claude",
          "--print",
          "--output-format",
          "stream-json",
          // Without it `--print` refuses stream-json.
          "--verbose",
          "--dangerously-skip-permissions",
          ...model("--model"),
          ...extra
        ],
        // As root it refuses to skip permissions unless this variable says that it runs in a sandbox.
        environment: options.isRoot ? { IS_SANDBOX: "1" } : {},
        // Otherwise it stays after its final result for as long as a command that it started in the background runs.
        defaults: { CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: "1" }
      }
    case "codex":
      return {
        kind: spec.kind,
        argv: [
          "codex",
          "exec",
          "--json",
          "--skip-git-repo-check",
          "--dangerously-bypass-approvals-and-sandbox",
          ...model("-m"),
          ...extra,
          // Without it a flag of several values among the extra arguments takes the dash for one more.
          "--",
          "-"
        ],
        environment: {},
        defaults: {}
      }
    case "gemini":
      return {
        kind: spec.kind,
        // The empty `-p` makes it headless; the prompt from standard input is put before it.
        argv: [
          "gemini",
          "-p",
          "",
          "-o",
          "stream-json",
          "--approval-mode",
          "yolo",
          "--skip-trust",
          ...model("-m"),
          ...extra
        ],
        // Otherwise a parent process stays, which ignores the signals that should end the agent.
        environment: { GEMINI_CLI_NO_RELAUNCH: "true" },
        defaults: {}
      }
    case "opencode":
      return {
        kind: spec.kind,
        // Its first output is an answer of the model, so that a short wait for it fails a healthy agent.
        argv: ["opencode", "run", "--format", "json", "--auto", ...model("-m"), ...extra],
        environment: {},
        defaults: {}
      }
  }
}

/** No program of that name can be run; nothing was made. */
export class AgentExecutableMissing extends Schema.TaggedError<AgentExecutableMissing>()("AgentExecutableMissing", {
  executable: Schema.String,
  searched: Schema.Array(Schema.String)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    if (this.executable.includes("/")) {
      return `there is no program that can be run at ${this.searched.join(", ")}; ` +
        "correct the path, or make the file executable"
    }
    const where = this.searched.length === 0 ? "PATH is empty" : `${this.searched.length} directories were searched`
    return `the program "${this.executable}" was not found on PATH (${where}); ` +
      "install it, correct PATH, or name the program by its path"
  }
}

export interface LookupOptions {
  readonly path: string | undefined
  readonly cwd: string
}

/**
 * Finds the program that a name stands for, as an absolute path.
 *
 * A name with a slash is resolved against `cwd`; any other is searched on `path`, as a shell does. The directory in the
 * answer is free of symbolic links, so it still exists when a version manager has removed the link that it made for the
 * caller's shell. The last component is kept, since some programs act by the name they were called by.
 */
export const findExecutable = Effect.fnUntraced(function*(
  files: Pick<Files["Service"], "findProgram">,
  name: string,
  options: LookupOptions
): Effect.fn.Return<string, AgentExecutableMissing> {
  // An empty component of PATH means the working directory.
  const directories = (options.path ?? "").split(":")
  const candidates = name.includes("/")
    ? [Path.resolve(options.cwd, name)]
    : name === "" || options.path === undefined || options.path === ""
    ? []
    : directories.map((directory) => Path.resolve(options.cwd, directory, name))
  const found = candidates.length === 0 ? undefined : yield* files.findProgram(candidates)
  if (found !== undefined) return found
  return yield* new AgentExecutableMissing({
    executable: name,
    searched: name.includes("/") ? candidates : [...new Set(candidates.map(Path.dirname))]
  })
})
