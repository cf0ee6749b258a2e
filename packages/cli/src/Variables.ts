/**
 * The variables that `--env` and `--env-file` set for an agent.
 *
 * `--env K` takes the value from the caller's environment, so that it stands in no argument list. `--env K=V` goes
 * before what the file says; of several of one name the last one holds. A file has one `K=V` per line; empty lines,
 * lines that begin with `#`, and an `export` in front are passed over. A value is taken literally, but for one pair of
 * matching quotes around all of it. No message repeats a value.
 */
import { currentCaller } from "@slipway/core"
import { Effect, Option } from "effect"
import { UsageError } from "./Errors.ts"
import * as Readable from "./Readable.ts"

type Variable = readonly [name: string, value: string]

/** All variables, by name. */
export const read = Effect.fnUntraced(function*(given: {
  readonly env: ReadonlyArray<string>
  readonly file: Option.Option<string>
}) {
  const ofFile = Option.isSome(given.file) ? yield* readFile(given.file.value) : []
  const { environment } = yield* currentCaller
  const ofFlags = yield* Effect.forEach(given.env, (text): Effect.Effect<Variable, UsageError> => {
    const equals = text.indexOf("=")
    if (equals > 0) return Effect.succeed([text.slice(0, equals), text.slice(equals + 1)])
    const value = environment[text]
    return equals === -1 && text !== "" && value !== undefined
      ? Effect.succeed([text, value])
      : Effect.fail(
        new UsageError(
          equals === -1 && text !== ""
            ? {
              problem: `--env ${text} takes its value from the environment, where it is not set`,
              hint: `set it, or give ${text}=VALUE`
            }
            : { problem: "--env has no name", hint: "give NAME or NAME=VALUE" }
        )
      )
  })
  return Object.fromEntries([...ofFile, ...ofFlags])
})

const readFile = Effect.fnUntraced(function*(path: string) {
  const content = yield* Readable.text(path, `the --env-file ${JSON.stringify(path)}`)
  const variables: Array<Variable> = []
  for (const [index, line] of content.replace(/^\uFEFF/, "").split(/\r?\n/).entries()) {
    const text = line.trim()
    if (text === "" || text.startsWith("#")) continue
    const match = /^(?:export\s+)?([^=\s]+)\s*=\s*(.*)$/s.exec(text)
    if (match === null) {
      return yield* new UsageError({
        problem: `line ${index + 1} of the --env-file ${JSON.stringify(path)} is not NAME=VALUE`
      })
    }
    variables.push([match[1] ?? "", unquoted(match[2] ?? "")])
  }
  return variables
})

const unquoted = (value: string): string => {
  const quote = value[0]
  return value.length >= 2 && (quote === "\"" || quote === "'") && value.endsWith(quote) ? value.slice(1, -1) : value
}
