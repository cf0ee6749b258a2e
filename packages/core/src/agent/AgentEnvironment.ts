/**
 * Decides which variables an agent sees: the caller's, less those that belong to the caller's own session.
 *
 * An agent may be deployed from inside another agent, from a tmux pane, or from a shell. What these set for their own
 * children (session ids, sockets, isolation of git, the shell's bookkeeping) must not reach the new agent, which would
 * take them for its own. What a person set stays: credentials, endpoints, and configuration. The list is by exact name
 * wherever a tool mixes both under one prefix.
 *
 * Everything here is pure. A variable whose value holds a NUL can't exist, and is left out. A shell can't export every
 * name: some hold a dot or a dash, and some a shell keeps for itself. A variable with such a name is kept, and the
 * launcher hands it over by other means than an export.
 */
import { Schema } from "effect"

/** Variables by name. */
export type Environment = Readonly<Record<string, string>>

// What a shell sets for each program that it starts: what the caller's shell set says nothing about the agent.
const bookkeeping: ReadonlySet<string> = new Set(["_", "PWD", "OLDPWD", "SHLVL"])

// What shells set for themselves. Some are read-only, so that an export ends the shell; some are evaluated as arithmetic
// when they are assigned, which runs code found in their value.
const shellNames: ReadonlySet<string> = new Set([
  ...bookkeeping,
  "IFS",
  "OPTIND",
  "OPTARG",
  "OPTERR",
  "LINENO",
  "PPID",
  "UID",
  "EUID",
  "GID",
  "EGID", // dprint-ignore
  "SHELLOPTS",
  "BASHOPTS",
  "BASHPID",
  "RANDOM",
  "SRANDOM",
  "SECONDS",
  "EPOCHSECONDS",
  "EPOCHREALTIME",
  "HISTCMD",
  "FUNCNAME",
  "GROUPS",
  "DIRSTACK",
  "PIPESTATUS",
  "REPLY",
  "COPROC",
  "MAPFILE",
  "EXECIGNORE",
  "POSIXLY_CORRECT"
])

const isShellName = (name: string): boolean => shellNames.has(name) || (name.startsWith("BASH_") && name !== "BASH_ENV")

/** Whether sh can export a variable of this name without harm to itself: a plain name that no shell uses for itself. */
export const isExportable = (name: string): boolean => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name) && !isShellName(name)

const isName = (name: string): boolean => name !== "" && !/[=\0]/.test(name)

/** The name of a variable that a person may set for an agent: whatever the system takes for one. */
export const VariableName = Schema.String.check(
  Schema.makeFilter((name) => isName(name) || "a variable's name must not be empty, and has neither '=' nor NUL in it")
)

const sessionNames: ReadonlySet<string> = new Set([
  // claude
  "CLAUDECODE",
  "AI_AGENT",
  "CLAUDE_PID",
  "CLAUDE_EFFORT",
  "CLAUDE_CODE_ENTRYPOINT",
  "CLAUDE_CODE_EXECPATH",
  "CLAUDE_CODE_SESSION_ID",
  "CLAUDE_CODE_SESSION_ATTENDED",
  "CLAUDE_CODE_SSE_PORT",
  // codex
  "CODEX_CI",
  "CODEX_SESSION_ID",
  "CODEX_THREAD_ID",
  "CODEX_TOOL_CALL_ID",
  "CODEX_VERSION",
  "CODEX_APPLY_PATCH_PRESERVE_LINE_ENDINGS",
  // gemini
  "GEMINI_CLI",
  "GEMINI_CLI_NO_RELAUNCH",
  "GEMINI_CLI_TRUST_WORKSPACE",
  // opencode
  "AGENT",
  "OPENCODE",
  "OPENCODE_PID",
  "OPENCODE_RUN_ID",
  "OPENCODE_PROCESS_ROLE"
])

const sessionPrefixes: ReadonlyArray<string> = [
  "CLAUDE_CODE_CHILD_",
  "CLAUDE_CODE_MESSAGING_",
  "CODEX_MANAGED_",
  "CODEX_SANDBOX",
  "GEMINI_CLI_IDE_",
  // Each tmux variable of the caller names a server that is not the agent's.
  "TMUX",
  // Set anew for each agent.
  "SLIPWAY_"
]

// Ordinary variables that an agent overwrites for its tools. They are a person's own unless that agent is around.
const overwritten: ReadonlyArray<readonly [marker: string, pattern: RegExp]> = [
  ["CLAUDECODE", /^(GIT_EDITOR|COREPACK_ENABLE_AUTO_PIN)$/],
  ["CODEX_CI", /^(PAGER|GIT_PAGER|GH_PAGER|NO_COLOR|TERM|LC_ALL)$/],
  ["GEMINI_CLI", /^(GIT_CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)|GIT_TERMINAL_PROMPT)$/]
]

// What git sets for a hook, so that the hook's own git works on the repository at hand: `git rev-parse
// --local-env-vars` of git 2.39 and 2.51. Also the dates and the quarantine of the one operation that the hook belongs
// to.
const ofOneRepository: ReadonlySet<string> = new Set([
  "GIT_ALTERNATE_OBJECT_DIRECTORIES",
  "GIT_COMMON_DIR",
  "GIT_CONFIG",
  "GIT_DIR",
  "GIT_GRAFT_FILE",
  "GIT_IMPLICIT_WORK_TREE",
  "GIT_INDEX_FILE",
  "GIT_INTERNAL_SUPER_PREFIX",
  "GIT_NO_REPLACE_OBJECTS",
  "GIT_OBJECT_DIRECTORY",
  "GIT_PREFIX",
  "GIT_QUARANTINE_PATH",
  "GIT_REPLACE_REF_BASE",
  "GIT_SHALLOW_FILE",
  "GIT_WORK_TREE",
  "GIT_AUTHOR_DATE",
  "GIT_COMMITTER_DATE"
])

// These are a person's configuration where git does not set them itself, which its other variables show.
const alsoOfOneRepository =
  /^(GIT_CONFIG_(COUNT|PARAMETERS|KEY_\d+|VALUE_\d+)|GIT_REFLOG_ACTION|GIT_EDITOR|GIT_EXEC_PATH)$/

const isInsideGit = (caller: Readonly<Record<string, string | undefined>>): boolean =>
  caller["GIT_EXEC_PATH"] !== undefined || [...ofOneRepository].some((name) => caller[name] !== undefined)

/**
 * Whether an inherited variable is kept from an agent.
 *
 * The variables that isolate git are denied only where `caller` shows that they come from an agent: gemini sets them
 * beside `GEMINI_CLI`, claude its editor beside `CLAUDECODE`. Elsewhere they are a person's configuration. Those by
 * which git passes a hook its repository, its index and its dates are always denied. An agent deployed from a hook
 * would otherwise write the index of the commit under way.
 */
export const deniedVariables = (
  name: string,
  caller: Readonly<Record<string, string | undefined>> = {}
): boolean =>
  bookkeeping.has(name) || sessionNames.has(name) || ofOneRepository.has(name) ||
  (alsoOfOneRepository.test(name) && isInsideGit(caller)) ||
  sessionPrefixes.some((prefix) => name.startsWith(prefix)) ||
  overwritten.some(([marker, pattern]) => caller[marker] !== undefined && pattern.test(name))

/**
 * The whole environment of an agent. Later ones win: what suits the agent's command where the caller says nothing, then
 * what is inherited, then what the command needs. What was asked for by name follows, which no deny list touches, and
 * last the markers of Slipway.
 */
export const environmentFor = (options: {
  readonly caller: Readonly<Record<string, string | undefined>>
  readonly overrides: Environment
  readonly markers: Environment
  readonly command: Environment
  readonly defaults?: Environment | undefined
}): Environment => {
  // A copy, since each read of a variable of the process itself is a call of getenv.
  const caller = { ...options.caller }
  const inherited = Object.entries(caller).filter(([name]) => !deniedVariables(name, caller))
  const result = new Map<string, string>()
  for (
    const [name, value] of [
      ...Object.entries(options.defaults ?? {}),
      ...inherited,
      ...Object.entries(options.command),
      ...Object.entries(options.overrides),
      ...Object.entries(options.markers)
    ]
  ) {
    if (value !== undefined && isName(name) && !value.includes("\0")) result.set(name, value)
  }
  return Object.fromEntries(result)
}
