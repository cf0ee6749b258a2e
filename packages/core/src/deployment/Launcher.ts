/**
 * Writes the shell script that runs one agent in its tmux session.
 *
 * The script is POSIX sh. It gives the agent the prompt on standard input, appends its output straight to files, and
 * forwards what should end it: HUP as HUP, and TERM, INT and QUIT as TERM. It records the exit status only after `wait`
 * has reaped the agent, by renaming the state file to `exit.<code>`. So a record proves that the agent's main process
 * has ended, and a full disk does not lose it; it proves nothing about the agent's children. These signals can't end
 * the script before that; SIGKILL of it leaves no record.
 *
 * The script is a fence: unlinked before sh has opened it, it runs nothing. A removed directory of the agent proves the
 * same, since the script does nothing outside of it.
 *
 * The agent's environment is set in the process that becomes the agent, and nowhere else. So a secret never stands in
 * an argument list or in the launcher's own environment, and no variable can change how the launcher works. Where a
 * variable has a name that sh can't export, the whole environment stands in a file beside the launcher. Node puts it in
 * place and becomes the agent.
 *
 * The agent starts in a session of its own, without a terminal: what would ask there fails, and does not wait for a
 * person who can't see it. It has the default for every signal, and the limits, the nice value, the OOM score and the
 * CPUs that are given. `setsid` of util-linux does the first, `env` of coreutils 8.31 or newer the second. Where one of
 * them is missing, the agent keeps the pane's terminal, or starts with INT and QUIT ignored, as each background job of
 * sh.
 *
 * Not promised: a signal that comes before the process has become the agent may be lost, so a stop repeats it. Where sh
 * is bash, a signal at the very moment at which the agent ends may be recorded in place of the agent's own code: bash
 * loses the status then. Each signal is forwarded once, so this can happen once. The system refuses one string of more
 * than 128 KiB in the environment or the arguments; that is recorded as an exit code like any other failure to start.
 *
 * Everything here is pure. No text given may hold a NUL character.
 */
import { type Environment, isExportable } from "../agent/AgentEnvironment.ts"
import { environmentFile, exitPrefix, promptFile, stateFile, stderrFile, stdoutFile } from "../machine/Layout.ts"
import * as Attributes from "../machine/processes/Attributes.ts"

/** The exit code recorded when the agent's working directory can't be entered; sh uses it for what can't be run. */
export const cannotStartCode = 126

/** Programs that the launcher starts the agent through, by absolute path, where the system has them. */
export interface Programs {
  readonly setsid: string | undefined
  readonly env: string | undefined
  readonly nice: string | undefined
  readonly prlimit: string | undefined
  readonly taskset: string | undefined
  /** Node, which hands over the variables that sh can't export. */
  readonly node: string
}

/** What a launcher has to know; no text in it may hold a NUL character. */
export interface LauncherOptions {
  /** The program, best by absolute path, and its arguments. */
  readonly argv: readonly [string, ...ReadonlyArray<string>]
  /** All that the agent is to see. */
  readonly environment: Environment
  /** Where the agent works; absolute. */
  readonly cwd: string
  /** The agent's own directory, with the prompt and the output; absolute. */
  readonly directory: string
  /** The file mode creation mask of the agent. */
  readonly umask: number
  /** The line that the pane shows. */
  readonly notice: string
  readonly programs: Programs
  /** What of the caller the launcher sets; by default nothing. */
  readonly carried?: Attributes.Carried | undefined
}

/** Any text as one word of sh, byte for byte. */
const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

// Set by the tmux server, not by the caller. The marker stays, and whatever the caller has is exported after it.
const ofThePane = ["TMUX", "TMUX_PANE", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "COLORTERM", "LANG"]

const limitArgument = ([name, { hard, soft }]: Attributes.Carried["limits"][number]): string =>
  `--${name}=${Attributes.describeAmount(soft)}:${Attributes.describeAmount(hard)}`

/** The program with these arguments, unless it is missing: then the launcher goes on without it. */
const through = (program: string | undefined, ...args: ReadonlyArray<string>): ReadonlyArray<string> =>
  program === undefined ? [] : [program, ...args]

/** What the agent is started through, in this order; each replaces itself by the next. */
const wrappers = (programs: Programs, carried: Attributes.Carried): ReadonlyArray<string> => [
  ...through(programs.setsid),
  ...(carried.limits.length === 0 ? [] : through(programs.prlimit, ...carried.limits.map(limitArgument))),
  ...(carried.niceBy === 0 ? [] : through(programs.nice, "-n", `${carried.niceBy}`)),
  ...(carried.cpus === undefined ? [] : through(programs.taskset, "-c", carried.cpus))
]

/**
 * What Node runs to put the variables in place. It leaves SIGPIPE and SIGXFSZ ignored, which `env` makes good; the program's
 * own name goes without a look-up. No single quote may stand in it.
 */
const handOver = `const [, file, env, ...argv] = process.argv
const variables = JSON.parse(require("node:fs").readFileSync(file, "utf8"))
const [program, ...args] = env === "" ? argv : [env, "--default-signal", ...argv]
process.execve(program, [program, ...args], variables)`

/** What sh sets by itself, before any variable of the agent is set. */
const settings = ({ oomScoreAdj, openFiles }: Attributes.Carried): string =>
  [
    openFiles === undefined ?
      "" :
      `  ulimit -S -n ${Attributes.describeAmount(openFiles)} || refuse ${
        quote(`its limit of open files can't be set to ${openFiles}.`)
      }\n`,
    oomScoreAdj === undefined ?
      "" :
      `  { echo ${oomScoreAdj} >/proc/self/oom_score_adj; } 2>/dev/null || refuse ${
        quote(`its OOM score adjustment can't be set to ${oomScoreAdj}, its caller's: the kernel does not allow it.`)
      }\n`
  ].join("")

/** What stands in the file beside the launcher; undefined where sh can export every variable. */
export const environmentText = (
  { cwd, environment }: Pick<LauncherOptions, "cwd" | "environment">
): string | undefined =>
  Object.keys(environment).every(isExportable) ? undefined : JSON.stringify({ ...environment, PWD: cwd })

/** The text of the script that runs one agent. */
export const render = (options: LauncherOptions): string => {
  const { carried = Attributes.nothing, programs } = options
  const isInFile = environmentText(options) !== undefined
  const variables = isInFile ? "" : Object.entries(options.environment)
    .map(([name, value]) => `  export ${name}=${quote(value)}\n`)
    .join("")
  // `env` takes a first word with an equals sign in it for a variable.
  const argv = options.argv[0].includes("=")
    ? ["/bin/sh", "-c", "exec \"$0\" \"$@\"", ...options.argv]
    : options.argv
  const start = isInFile
    ? `set -- ${
      [programs.node, "--no-warnings", "-e", handOver, `${options.directory}/${environmentFile}`].map(quote).join(" ")
    } "$d" "$@"`
    : "[ \"$d\" ] && set -- \"$d\" --default-signal \"$@\""
  const wrapped = wrappers(programs, carried).map(quote).join(" ")
  // The agent is a function since sh parses that whole before it runs any of it. So neither a locale nor a shell
  // variable among the exports changes how the rest is read, and a shell that reports a killed job prints its name
  // alone.
  return `#!/bin/sh
# Runs one agent, and renames ${stateFile} to ${exitPrefix}<code> once it has been reaped.
umask 077
p= s= once=
# bash loses the status of a child that ends just as a signal comes, so there each signal is forwarded once and then
# ignored; and in its posix mode it forgets a status that it has reported.
[ "\${BASH_VERSION-}" ] && set +o posix && once=1
forward() {
  s=$1
  [ "$p" ] || return
  kill -s "$1" "$p"
  [ "$once" ] && trap '' "$@"
}
trap 'forward HUP' HUP
trap 'forward TERM INT QUIT' TERM INT QUIT

refuse() {
  printf '%s\\n' "The agent was not started: $1" >&2
  exit ${cannotStartCode}
}

agent() {
  # Asked to end before it was started.
  case $s in
    HUP) exit 129 ;;
    TERM) exit 143 ;;
  esac
  cd -- ${quote(options.cwd)} 2>/dev/null || refuse ${quote(`its working directory ${options.cwd} can't be entered.`)}
${settings(carried)}  umask ${(options.umask & 0o777).toString(8).padStart(4, "0")}
  set -- ${argv.map(quote).join(" ")}
  ${start}
  unset OLDPWD d ${ofThePane.join(" ")}
  export PWD
${variables}  exec ${wrapped}${wrapped === "" ? "" : " "}"$@"
}

cd -- ${quote(options.directory)} || exit ${cannotStartCode}
printf '%s\\n' ${quote(options.notice)}
exec 2>/dev/null
d=${programs.env === undefined ? "" : quote(programs.env)}
[ "$d" ] && { "$d" --default-signal --version >/dev/null || d=; }
[ -e ${stateFile} ] || : >${stateFile}
agent 2>>${stderrFile} <${promptFile} >>${stdoutFile} &
p=$!
# A signal that came before the line above found no process to go to.
[ "$s" ] && kill -s "$s" "$p"

# A signal cuts a wait short, and its status then says nothing. The agent has been reaped when no process has its id.
while
  wait "$p"
  c=$?
  kill -0 "$p" && [ "$c" != 127 ]
do :; done

# The id may soon be another's: nothing is forwarded any more, and nothing ends the recording.
trap '' HUP TERM INT QUIT
# If the last wait was cut short by a signal just as it reaped, the status is still to come; dash answers 127 if not.
# Twice, since bash may answer once more with the signal, or with -1.
for i in 1 2; do
  wait "$p"
  r=$?
  [ "$r" = 127 ] || c=$r
done
# Lost by bash after all.
[ "$c" = -1 ] && c=143
trap '[ -e "${exitPrefix}$c" ] || : >"${exitPrefix}$c"' EXIT
command -p mv -f ${stateFile} "${exitPrefix}$c"
`
}
