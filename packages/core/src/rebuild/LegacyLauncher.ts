/**
 * Legacy: reads what a launcher says of its agent back from the text of the script. Pure.
 *
 * Only for agents that were deployed before a manifest stood in their directories (`agent/Manifest`). What the launchers of
 * today say is never read: they may change as they like.
 */

/** What a launcher says of its agent. */
export interface LauncherFacts {
  readonly argv: readonly [string, ...ReadonlyArray<string>] | undefined
  readonly agentId: string | undefined
  readonly homeId: string | undefined
  readonly home: string | undefined
  readonly socket: string | undefined
  readonly taskId: string | undefined
  readonly workspace: string | undefined
}

const word = String.raw`(?:'[^']*'|\\')+`
const unquote = (text: string): string =>
  text.replaceAll(/'([^']*)'|\\'/g, (_, inner: string | undefined) => inner ?? "'")

/** Reads a launcher word by word, as the shell does: a value that looks like a line of the script is a value. */
export const read = (text: string): LauncherFacts => {
  const begin = "\n  export PWD\n"
  const at = text.indexOf(begin)
  const variables = new Map<string, string>()
  const line = new RegExp(String.raw`  export ([A-Za-z_]\w*)=(${word})\n`, "y")
  line.lastIndex = at === -1 ? text.length : at + begin.length
  let end = line.lastIndex
  for (let found = line.exec(text); found !== null; found = line.exec(text)) {
    variables.set(found[1] ?? "", unquote(found[2] ?? ""))
    end = line.lastIndex
  }
  const command = new RegExp(String.raw`  exec (${word}(?: ${word})*)\n`, "y")
  command.lastIndex = end
  const words = command.exec(text)?.[1]?.match(new RegExp(word, "g"))?.map(unquote) ?? []
  const [program, ...rest] = words
  return {
    argv: program === undefined ? undefined : [program, ...rest],
    agentId: variables.get("SLIPWAY_AGENT_ID"),
    homeId: variables.get("SLIPWAY_HOME_ID"),
    home: variables.get("SLIPWAY_HOME"),
    socket: variables.get("SLIPWAY_TMUX_SOCKET"),
    taskId: variables.get("SLIPWAY_TASK_ID"),
    workspace: variables.get("SLIPWAY_WORKSPACE")
  }
}
