/**
 * The commands of tmux that the operations consist of: words alone, the same for every transport.
 *
 * A transport hands the words on as they are (arguments of a process) or quotes them (`line`). All that varies in them
 * has passed `Arguments` first: fixed words, ids, names and paths, and values that tmux takes as they are.
 */
import * as Anchor from "./Anchor.ts"
import * as Output from "./Output.ts"
import * as Target from "./Target.ts"
import type { Idle, NewSession } from "./Tmux.ts"

/** A command: its name and its arguments. */
export type Command = ReadonlyArray<string>

/** What a command on a session prints in its place when the session is not there. */
export const noSuchSession = "no-such-session"

// Lines kept for a pane, which shows next to nothing.
const historyLimit = "100"

/**
 * What holds for a server with sessions of Slipway. The server stays when it is empty, a pane ends with its program,
 * and tmux does not watch windows for the names of their programs.
 */
export const serverOptions: ReadonlyArray<Command> = [
  ["set-option", "-s", "exit-empty", "off"],
  ["set-option", "-g", "history-limit", historyLimit],
  ["set-option", "-g", "remain-on-exit", "off"],
  ["set-option", "-g", "automatic-rename", "off"]
]

/** Starts a server without a session. */
export const startServer: ReadonlyArray<Command> = [["start-server"]]

/** Makes a session and prints its row. */
export const newSession = (options: NewSession): ReadonlyArray<Command> => {
  const markers = Object.entries(options.environment).flatMap(([name, value]) => ["-e", `${name}=${value}`])
  // Several words for the script: tmux executes them itself. A single one would go through the user's shell.
  return [
    ["new-session", "-d", "-s", options.name, "-x", "200", "-y", "50", "-P", "-F", Output.sessionFormat].concat(
      markers,
      ["--", "/bin/sh", options.script]
    )
  ]
}

/** Prints the server's pid. */
export const pid: ReadonlyArray<Command> = [["display-message", "-p", "#{pid}"]]

/** Prints the row of each session. */
export const sessions: ReadonlyArray<Command> = [
  ["list-sessions", "-f", Anchor.notAnAnchor, "-F", Output.sessionFormat]
]

/** Prints the row of the one session, if it is there. The server of an id has to be compared with the row's. */
export const session = (target: Target.Target): ReadonlyArray<Command> => {
  const wanted = target._tag === "Name"
    ? `#{==:#{session_name},${target.name}}`
    : `#{==:#{session_id},${target.id}}`
  return [["list-sessions", "-f", `#{&&:${wanted},${Anchor.notAnAnchor}}`, "-F", Output.sessionFormat]]
}

// tmux runs what the format makes of each session. `if-shell` keeps the failure for a session that ended meanwhile from
// cutting the others off, and leaves an exit code that means nothing.
const eachEnvironment = `show-environment -s -t '#{session_id}' ; ` +
  `display-message -p '${Output.environmentFooter}#{session_id}'`

/** Prints the row of each session, and then the environment of each. */
export const environments: ReadonlyArray<Command> = [
  ["list-sessions", "-f", Anchor.notAnAnchor, "-F", Output.environmentsFormat],
  ["run-shell", "-C", `#{S:if-shell -F 1 "${eachEnvironment}" ; }`],
  ["display-message", "-p", Output.environmentsEnd]
]

/**
 * A command on one session, which tmux itself compares in the same turn. By id: a server that came after the one that
 * gave the id may use it for another session. By name: tmux takes the name of a client for its session as well.
 */
export const aimed = (target: Target.Target, command: string): ReadonlyArray<Command> => {
  const guard = target._tag === "Name"
    ? ["-t", `${Target.render(target)}:`, `#{==:#{session_name},${target.name}}`]
    : [`#{==:#{pid},${target.serverPid}}`]
  return [
    ["if-shell", "-F", ...guard, `${command} -t '${Target.render(target)}'`, `display-message -p ${noSuchSession}`]
  ]
}

/** What stands in place of the pid of a server that ends, where it stays. */
export const stays = "stays"

// tmux gives the time only by an option that it expands. `server_sessions` would count them, and is not known to 3.3.
const clock = "@slipway-clock"
const hasNoSession = "#{?#{S:1},0,1}"

/** Ends an idle server and prints its pid, or prints that it stays. */
export const endIdle = ({ startedBy, until }: Idle): ReadonlyArray<Command> => {
  const isOld = `#{e|<=:#{start_time},${Math.floor(startedBy)}}`
  const isInTime = `#{e|<=:#{T:${clock}},${Math.floor(until)}}`
  return [
    ["set-option", "-s", clock, "%s"],
    [
      "if-shell",
      "-F",
      `#{&&:${hasNoSession},#{&&:${isOld},${isInTime}}}`,
      "display-message -p '#{pid}' ; kill-server",
      `display-message -p ${stays}`
    ]
  ]
}

/** The commands as arguments of one call. tmux leaves out what follows a command that failed. */
export const words = (commands: ReadonlyArray<Command>): ReadonlyArray<string> =>
  commands.flatMap((command) => [";", ...command]).slice(1)

// Within single quotes tmux reads everything as it is.
const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`

/** The commands as one line of control mode. tmux leaves out what follows a command that failed. */
export const line = (commands: ReadonlyArray<Command>): string =>
  commands.map((command) => command.map(quoted).join(" ")).join(" ; ")
