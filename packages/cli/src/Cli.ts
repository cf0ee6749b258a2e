/**
 * What the commands use of `effect/cli`, and how its outcomes are shown: the module to check when `effect/cli` changes.
 *
 * Help that was asked for goes to standard output. For a command line that can't be used, standard error gets the
 * problem and names the help to read, never the whole help. With `--json`, standard output also gets one JSON value.
 */
import { DeployDocument, Document } from "@slipway/core"
import { Effect, Layer, Option } from "effect"
import { Argument, CliConfig, CliError, CliOutput, Command, Flag, GlobalFlag } from "effect/cli"
import * as Durations from "./Durations.ts"
import * as Help from "./Help.ts"
import { Output, plainLines } from "./Output.ts"

export { Argument, Command, Flag }

// The flags that take a value, as they stand on a command line.
const valued = new Set<string>()

/** A flag that takes text. */
export const text = (name: string, metavar: string, description: string) => {
  valued.add(`--${name}`)
  return Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description))
}

/** A flag that takes one of a few words. */
export const choice = <const Words extends ReadonlyArray<string>>(
  name: string,
  metavar: string,
  words: Words,
  description: string
) => {
  valued.add(`--${name}`)
  return Flag.Literals(name, words).pipe(Flag.withMetavar(metavar), Flag.withDescription(description))
}

/** A switch. */
export const toggle = (name: string, description: string) =>
  Flag.Boolean(name).pipe(Flag.withDescription(description), Flag.withDefault(false), Flag.withoutNegation)

/** A flag that takes a duration, in milliseconds. */
export const duration = (name: string, description: string) =>
  text(name, "DURATION", description).pipe(Flag.filterMap(
    Durations.parseMillis,
    (value) => `${JSON.stringify(value)} is not ${Durations.expected}`
  ))

/** A flag that takes a whole number, zero or more. */
export const count = (name: string, metavar: string, description: string) =>
  text(name, metavar, description).pipe(Flag.filterMap(
    (value) => /^\d{1,9}$/.test(value) ? Option.some(Number(value)) : Option.none(),
    (value) => `${JSON.stringify(value)} is not a whole number, zero or more`
  ))

export const JsonFlag = GlobalFlag.Setting("json")({
  flag: toggle("json", "Print exactly one JSON value on standard output, and everything else on standard error")
})

export const HomeFlag = GlobalFlag.Setting("home")({
  flag: text(
    "home",
    "DIR",
    "The directory with the registry and the agents' files (default: SLIPWAY_HOME, else slipway in the user's state directory)"
  ).pipe(Flag.optional)
})

export const SocketFlag = GlobalFlag.Setting("socket")({
  flag: text(
    "socket",
    "PATH",
    "The absolute path of the tmux socket (default: SLIPWAY_TMUX_SOCKET, else tmux.sock in the home)"
  ).pipe(Flag.optional)
})

export const globalFlags = [JsonFlag, HomeFlag, SocketFlag] as const

const beforeOperands = (args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const end = args.indexOf("--")
  return end === -1 ? args : args.slice(0, end)
}

/** Whether a command line asks for JSON; it must be known before the line was parsed, since its errors are JSON too. */
export const wantsJson = (args: ReadonlyArray<string>): boolean =>
  beforeOperands(args).some((arg) => arg === "--json" || arg === "--json=true")

/** Whether a command line asks for the most detailed log. */
export const wantsTrace = (args: ReadonlyArray<string>): boolean => {
  const given = beforeOperands(args)
  const level = given.find((arg) => arg.startsWith("--log-level="))?.slice("--log-level=".length) ??
    given[given.indexOf("--log-level") + 1]
  return (given.includes("--log-level") || given.some((arg) => arg.startsWith("--log-level="))) &&
    ["all", "debug", "trace"].includes(level ?? "")
}

/**
 * Whether an argument has the form of a flag. An argument behind a flag that takes a value is that value unless it has
 * this form. So a value may begin with a dash, as prompts that are lists do.
 */
const looksLikeFlag = (arg: string): boolean => /^(?:--[a-z][a-z-]*(?:=.*)?|-[a-zA-Z]|--)$/s.test(arg)

/** The command line with such values joined to their flags, so that a dash in front of a value makes no flag of it. */
export const joinValues = (args: ReadonlyArray<string>): ReadonlyArray<string> => {
  const joined: Array<string> = []
  for (let index = 0; index < args.length; index++) {
    const arg = args[index] ?? ""
    const value = args[index + 1]
    if (arg === "--") return [...joined, ...args.slice(index)]
    if (valued.has(arg) && value !== undefined && value.startsWith("-") && !looksLikeFlag(value)) {
      joined.push(`${arg}=${value}`)
      index++
    } else joined.push(arg)
  }
  return joined
}

const usageText = (errors: ReadonlyArray<CliError.CliError>): string =>
  errors.map((error) => {
    switch (error._tag) {
      case "UnrecognizedOption":
        return `there is no flag ${error.option}${suggested(error.suggestions)}`
      case "UnknownSubcommand":
        return `there is no command ${JSON.stringify(error.subcommand)}${suggested(error.suggestions)}`
      case "MissingArgument":
        return `${error.argument.toUpperCase()} is missing`
      case "MissingOption":
        return `--${error.option} is missing`
      case "UnexpectedArgument":
        return `what is ${
          error.arguments.map((value) => JSON.stringify(value)).join(" ")
        } for? nothing is expected there`
      case "InvalidValue": {
        if (error.kind === "flag" && error.value === "") {
          return `--${error.option} needs a value; one that begins with a dash goes behind an equals sign, as in --${error.option}=-x`
        }
        if (error.value.endsWith(" occurrences")) return `--${error.option} is given more than once`
        const name = error.kind === "flag" ? `--${error.option}` : error.option
        return error.expected.includes(" | ")
          ? `${name}: ${JSON.stringify(error.value)} is not one of ${
            error.expected.replaceAll(/["']/g, "").replaceAll(" | ", ", ")
          }`
          : `${name}: ${error.expected}`
      }
      default:
        return error.message
    }
  }).join("\n         ")

const suggested = (names: ReadonlyArray<string>): string =>
  names.length === 0 ? "" : `; is ${names.join(" or ")} meant?`

const layerPresenter = Layer.unwrap(Effect.map(Output, (output) => {
  return CliOutput.layerPresenter({
    present: (event) => {
      switch (event._tag) {
        case "Version":
          return output.answer({ version: event.version }, `${event.name} ${event.version}`)
        case "Help": {
          const help = Help.render(event.helpDoc, output)
          return event.reason === "Requested" ? output.answer({ help }, help) : output.note(help)
        }
        case "InvalidInvocation": {
          const problem = usageText(event.errors)
          const path = event.commandPath.join(" ")
          const failed = event.commandPath[1] === "deploy"
            ? DeployDocument.notDeployed({ error: problem, tag: "UsageError", step: "request" })
            : Document.failed(problem, "UsageError")
          return Effect.andThen(
            output.note(`slipway: ${plainLines(problem)}\n         see '${path} --help'`),
            output.answer(failed, "")
          )
        }
      }
    }
  })
}))

/** How `effect/cli` behaves here. */
export const layer = Layer.merge(
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions, GlobalFlag.LogLevel] }),
  layerPresenter
)

/** Whether the failure is one of the command line, which has been shown already. */
export const isShown = (error: unknown): error is CliError.CliError => CliError.isCliError(error)
