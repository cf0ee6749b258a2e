/**
 * The parts of README.md and docs/ that are made from the code: exit codes, flags, and the fields of what is printed with
 * `--json`. Each stands between two comments, `<!-- made: NAME -->` and `<!-- end -->`.
 */
import { descriptionOf } from "@slipway/core"
import { Schema } from "effect"
import { execFileSync } from "node:child_process"
import * as Path from "node:path"
import * as Answers from "../../packages/cli/src/Answers.ts"
import * as ExitCode from "../../packages/cli/src/ExitCode.ts"

const root = Path.join(import.meta.dirname, "..", "..")

const row = (cells: ReadonlyArray<string>): string =>
  `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`

const table = (titles: ReadonlyArray<string>, rows: ReadonlyArray<ReadonlyArray<string>>): string =>
  [row(titles), row(titles.map(() => "---")), ...rows.map(row)].join("\n")

/** Words of the command line, which help has in single quotes. */
const asCode = (text: string): string => text.replaceAll(/(?<![a-z])'([^']+)'(?![a-z])/g, "`$1`")

const exitCodes = (): string =>
  table(["exit code", "meaning"], ExitCode.meanings.map(([code, meaning]) => [code, asCode(meaning)]))

/** The help of a command as it prints it, from its usage on. */
const help = (command: string): string => {
  const bin = Path.join(root, "packages", "cli", "bin", "slipway.mjs")
  const text = execFileSync(process.execPath, [bin, ...command.split(" "), "--help"], { encoding: "utf8" })
  return ["```text", text.slice(0, text.indexOf("\nEvery command also takes")).trim(), "```"].join("\n")
}

type Json = Readonly<Record<string, unknown>>
const isJson = (value: unknown): value is Json => typeof value === "object" && value !== null && !Array.isArray(value)

const list = (value: unknown): ReadonlyArray<unknown> => Array.isArray(value) ? value : []

/** A JSON Schema in a few words. */
const kindOf = (schema: unknown, definitions: Json): string => {
  if (!isJson(schema)) return "any"
  if (typeof schema["$ref"] === "string") {
    const name = schema["$ref"].split("/").at(-1) ?? ""
    return kindOf(definitions[name], definitions)
  }
  const among = [...list(schema["enum"]), ...("const" in schema ? [schema["const"]] : [])]
  if (among.length > 0) return among.map((value) => `\`${JSON.stringify(value)}\``).join(", ")
  const any = [...list(schema["anyOf"]), ...list(schema["oneOf"])]
  if (any.length > 0) return [...new Set(any.map((each) => kindOf(each, definitions)))].join(" or ")
  if (schema["type"] === "array") return `list of ${kindOf(schema["items"], definitions)}`
  if (schema["type"] === "string") return "text"
  const names = isJson(schema["properties"]) ? Object.keys(schema["properties"]) : []
  if (names.length > 0 && names.length <= 8) return `{${names.map((name) => `\`${name}\``).join(", ")}}`
  return typeof schema["type"] === "string" ? schema["type"] : "any"
}

const fieldsOf = (schema: { readonly fields: Readonly<Record<string, Schema.Constraint>> } & Schema.Top): string => {
  const { definitions, schema: json } = Schema.toJsonSchemaDocument(Schema.toEncoded(schema))
  const properties = isJson(json["properties"]) ? json["properties"] : {}
  const required = new Set(list(json["required"]))
  return table(
    ["field", "is", "what"],
    Object.entries(schema.fields).map(([name, field]) => [
      `\`${name}\`${required.has(name) ? "" : "?"}`,
      kindOf(properties[name], isJson(definitions) ? definitions : {}),
      descriptionOf(field)
    ])
  )
}

/** What stands in the places, by their names. */
export const parts = (): ReadonlyMap<string, string> => {
  // The second answer to a deployment is the first one with a field more.
  const answers = Object.entries(Answers.ofCommand).flatMap(([command, schema]) =>
    ("members" in schema ? schema.members : [schema]).map((member, index) =>
      ["fields" in member ? `answer ${command}${index === 0 ? "" : ` ${index + 1}`}` : "", member] as const
    )
  )
  const commands = [...Object.keys(Answers.ofCommand), "attach", "home set max-active"]
  return new Map([
    ["exit-codes", exitCodes()],
    ...commands.map((command) => [`help ${command}`, help(command)] as const),
    ...answers.flatMap(([name, schema]) => "fields" in schema ? [[name, fieldsOf(schema)] as const] : [])
  ])
}

const place = /^<!-- made: (.+?) -->\n[\s\S]*?^<!-- end -->$/gm

/** A page with what is made put in its places, the names of these, and those that nothing is made for. */
export const filled = (page: string, made: ReadonlyMap<string, string>) => {
  const unknown: Array<string> = []
  const names: Array<string> = []
  const text = page.replace(place, (_, name: string) => {
    const part = made.get(name)
    names.push(name)
    if (part === undefined) unknown.push(name)
    return `<!-- made: ${name} -->\n\n${part ?? ""}\n\n<!-- end -->`
  })
  return { text, names, unknown }
}
