/**
 * Runs the commands of a `console` block and compares what they print with what the block shows.
 *
 * What varies may vary: ids of agents and tasks, times, durations, sizes, pids, and the directory of the run, which the
 * page calls `/home/you`. An id stands, from the first time that it is shown, for the one that was made and for that
 * alone. A line `…` stands for any number of lines. Everything else has to be the same, to the letter.
 */
import { spawnSync } from "node:child_process"
import * as Path from "node:path"

export interface Session {
  readonly directory: string
  readonly environment: NodeJS.ProcessEnv
  /** What ids of the page stand for. */
  readonly ids: Map<string, string>
}

const pageDirectory = "/home/you"

const id = /[a-z0-9][a-z0-9_-]*-\d{6}-\d{6}-[0-9a-f]{6}|TASK-\d{8}-\d{6}-[0-9a-f]{8}/g

/** What stands for any value of its kind. */
const varying: ReadonlyArray<readonly [pattern: RegExp, stands: string]> = [
  [/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, "<time>"],
  [/\b\d+(?:\.\d+)?(?:ms|s|m|h)\b/g, "<duration>"],
  [/\b(?:process|pid) \d+/g, "<process>"],
  [/ {2,}/g, "  "]
]

const blurred = (line: string): string =>
  varying.reduce((text, [pattern, stands]) => text.replaceAll(pattern, stands), line).trimEnd()

export const open = (directory: string, path: ReadonlyArray<string>): Session => ({
  directory,
  ids: new Map(),
  environment: {
    PATH: [...path, process.env["PATH"]].join(":"),
    HOME: directory,
    TMPDIR: directory,
    TMUX_TMPDIR: directory,
    SLIPWAY_HOME: Path.join(directory, "slipway"),
    USER: "you",
    LANG: "C.UTF-8",
    NO_COLOR: "1"
  }
})

const ran = (session: Session, command: string): ReadonlyArray<string> => {
  const { stdout } = spawnSync("sh", ["-c", `{ ${command}\n} 2>&1`], {
    cwd: session.directory,
    env: session.environment,
    encoding: "utf8",
    timeout: 120_000
  })
  const lines = stdout.replaceAll(session.directory, pageDirectory).split("\n")
  return lines.at(-1) === "" ? lines.slice(0, -1) : lines
}

const replaced = (session: Session, text: string): string =>
  text.replaceAll(id, (found) => session.ids.get(found) ?? found)

/** Takes an id that the page shows for the first time for the one that stands in its place. */
const learn = (session: Session, shown: string, printed: string): void => {
  const [onPage, actual] = [shown.match(id) ?? [], printed.match(id) ?? []]
  if (onPage.length !== actual.length) return
  for (const [index, name] of onPage.entries()) {
    const stands = actual[index]
    if (stands !== undefined && !session.ids.has(name)) session.ids.set(name, stands)
  }
}

const isSame = (session: Session, shown: string, printed: string): boolean => {
  learn(session, shown, printed)
  return blurred(replaced(session, shown)) === blurred(printed)
}

const compare = (session: Session, shown: ReadonlyArray<string>, printed: ReadonlyArray<string>): boolean => {
  const [first, ...rest] = shown
  if (first === undefined) return printed.length === 0
  if (first.trim() === "…") {
    return Array.from({ length: printed.length + 1 }, (_, skipped) => skipped)
      .some((skipped) => compare(session, rest, printed.slice(skipped)))
  }
  return printed[0] !== undefined && isSame(session, first, printed[0]) && compare(session, rest, printed.slice(1))
}

/** Runs a block; answers with what is not as it shows. */
export const run = (session: Session, block: string): ReadonlyArray<string> => {
  const parts = block.split(/^\$ /m).slice(1).map((part) => part.split("\n"))
  return parts.flatMap(([command = "", ...below]) => {
    // A line that ends with a backslash goes on.
    const words = [command]
    while (words.at(-1)?.endsWith("\\") === true) words.push(below.shift() ?? "")
    const shown = below.at(-1) === "" ? below.slice(0, -1) : below
    const printed = ran(session, replaced(session, words.join("\n")).replaceAll(pageDirectory, session.directory))
    return compare(session, shown, printed)
      ? []
      : [`$ ${words.join("\n")}\nshows\n${shown.join("\n")}\nand prints\n${printed.join("\n")}`]
  })
}

/** Ends what the commands have left running; answers with what an honest page would not leave. */
export const close = (session: Session): ReadonlyArray<string> => {
  const left = ran(session, "slipway ps")
  ran(session, "slipway stop --all --grace 200ms")
  ran(session, `tmux -S ${Path.join(session.directory, "slipway", "tmux.sock")} kill-server`)
  ran(session, "tmux kill-server")
  return left.some((line) => line.includes("running")) ? [`agents still run at its end:\n${left.join("\n")}`] : []
}
