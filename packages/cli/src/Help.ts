/**
 * Help as text: usage, what the command does, arguments and flags in two columns, examples. Pure.
 *
 * Lines are wrapped at word boundaries to the given width, so that help reads well in a terminal of any size.
 */
import { Option } from "effect"
import type { HelpDoc } from "effect/cli"
import * as ExitCode from "./ExitCode.ts"
import type { Style } from "./Output.ts"

export interface Look {
  readonly width: number
  readonly paint: (style: Style, text: string) => string
}

/** Text in lines of at most `width`, each of its own lines wrapped on its own. */
export const wrap = (text: string, width: number): ReadonlyArray<string> =>
  text.split("\n").flatMap((paragraph) => {
    const lines: Array<string> = []
    let line = ""
    for (const word of paragraph.split(" ")) {
      if (line !== "" && line.length + 1 + word.length > width) {
        lines.push(line)
        line = word
      } else line = line === "" ? word : `${line} ${word}`
    }
    lines.push(line)
    return lines
  })

const leftWidth = 28

const rows = (
  pairs: ReadonlyArray<readonly [left: string, right: string]>,
  { paint, width }: Look
): ReadonlyArray<string> => {
  const column = Math.min(leftWidth, Math.max(0, ...pairs.map(([left]) => left.length + 2)))
  return pairs.flatMap(([left, right]) => {
    const [first = "", ...more] = wrap(right, Math.max(30, width - column - 2))
    const rest = more.map((line) => `${" ".repeat(column + 2)}${line}`)
    return left.length + 2 > column
      ? [`  ${paint("bold", left)}`, `${" ".repeat(column + 2)}${first}`, ...rest]
      : [`  ${paint("bold", left)}${" ".repeat(column - left.length)}${first}`, ...rest]
  })
}

// What these list in place of a name is in their descriptions too.
const metavars: Readonly<Record<string, string>> = { completions: "SHELL", "log-level": "LEVEL" }

// Choices come behind the description; one that names them all says enough.
const describe = (description: string): string => {
  const [, text = description, list] = /^(.*) \(choices: ([^()]*)\)$/s.exec(description) ?? []
  return list === undefined || list.split(", ").every((word) => text.includes(`'${word}'`)) ? text : `${text}: ${list}`
}

const flagRow = (flag: HelpDoc.FlagDoc): readonly [string, string] => {
  const names = [...flag.aliases.filter((alias) => !alias.startsWith("--")), `--${flag.name}`].join(", ")
  return [
    flag.type === "boolean" ? names : `${names} ${metavars[flag.name] ?? flag.type}`,
    describe(Option.getOrElse(flag.description, () => ""))
  ]
}

const usage = (doc: HelpDoc.HelpDoc): string => {
  const path = (doc.commandPath ?? []).join(" ")
  const isGroup = (doc.subcommands?.length ?? 0) > 0
  const args = (doc.args ?? []).map((arg) => {
    const name = `${arg.name.toUpperCase()}${arg.variadic ? "..." : ""}`
    return arg.name === "command" ? `[-- ${name}]` : arg.required ? name : `[${name}]`
  })
  return [path, isGroup ? "COMMAND" : "", "[FLAGS]", ...args].filter((part) => part !== "").join(" ")
}

/** The help of one command. */
export const render = (doc: HelpDoc.HelpDoc, look: Look): string => {
  const { paint, width } = look
  const isRoot = (doc.commandPath ?? []).length <= 1
  const section = (title: string, lines: ReadonlyArray<string>) =>
    lines.length === 0 ? [] : ["", paint("bold", title), ...lines]
  const commands = (doc.subcommands ?? []).flatMap((group) =>
    group.commands.map((command) => [command.name, command.shortDescription ?? command.description] as const)
  )
  const globals = doc.globalFlags ?? []
  return [
    `${paint("bold", "Usage:")} ${usage(doc)}`,
    "",
    ...wrap(doc.description, width),
    ...section("Commands", rows(commands, look)),
    ...section(
      "Arguments",
      rows((doc.args ?? []).map((arg) => [arg.name.toUpperCase(), Option.getOrElse(arg.description, () => "")]), look)
    ),
    ...section("Flags", rows(doc.flags.map(flagRow), look)),
    ...(isRoot ? section("Flags of every command", rows(globals.map(flagRow), look)) : []),
    ...section(
      "Examples",
      (doc.examples ?? []).flatMap(({ command, description }) =>
        description === undefined ? [`  ${command}`] : [paint("dim", `  # ${description}`), `  ${command}`]
      )
    ),
    ...(isRoot ? section("Exit codes", rows(ExitCode.meanings, look)) : []),
    "",
    isRoot
      ? "'slipway COMMAND --help' says more about a command."
      : `Every command also takes --json, --home and --socket; see 'slipway --help'.`
  ].join("\n")
}
