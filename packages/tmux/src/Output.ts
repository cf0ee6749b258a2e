/**
 * What tmux prints, as values: rows of sessions, and session environments.
 *
 * Rows are decoded strictly: a listing in which one row cannot be read is no listing, and the caller gets no partial
 * answer. Environments are read leniently line by line: a program may set variables of any name on its own session, and
 * one odd name must not hide all other sessions. Quoted values are read as a whole, so that a value cannot pose as a
 * row. All parsers are pure and take time linear in the text.
 */
import { Option, Schema, SchemaTransformation } from "effect"
import { ServerPid, SessionId } from "./Target.ts"
import type { Session, SessionEnvironment } from "./Tmux.ts"

/** The format of a row, for `-F`: tmux escapes tabs and newlines within a name, and the name comes last. */
export const sessionFormat = "#{session_id}\t#{pid}\t#{pane_pid}\t#{session_name}"

const integer = (pattern: RegExp) => Schema.String.check(Schema.isPattern(pattern))

const Pid = integer(/^[1-9][0-9]{0,9}$/u).pipe(Schema.decodeTo(ServerPid, SchemaTransformation.numberFromString))
const decodePid = Schema.decodeUnknownOption(Pid)

/** The pid in the output of a command that prints one. */
export const parsePid = (text: string): Option.Option<number> => decodePid(text.trim())

const Row = Schema.Struct({
  id: SessionId,
  serverPid: Pid,
  // tmux reports 0 for a pane that runs nothing.
  panePid: integer(/^(?:0|[1-9][0-9]{0,9})$/u).pipe(
    Schema.decodeTo(Schema.Int, SchemaTransformation.numberFromString)
  ),
  name: Schema.NonEmptyString
})
const decodeRow = Schema.decodeUnknownOption(Row)

const parseRow = (line: string): Option.Option<Session> => {
  const [id, serverPid, panePid, ...name] = line.split("\t")
  return decodeRow({ id, serverPid, panePid, name: name.join("\t") })
}

const lines = (text: string): ReadonlyArray<string> => text === "" ? [] : text.replace(/\n$/, "").split("\n")

/** The sessions in the output of a listing in `sessionFormat`; none when any row cannot be read. */
export const parseSessions = (text: string): Option.Option<ReadonlyArray<Session>> =>
  Option.all(lines(text).map(parseRow))

/** The one session in the output of a command that prints one row. */
export const parseSession = (text: string): Option.Option<Session> =>
  Option.flatMap(
    parseSessions(text),
    (sessions) => sessions.length === 1 ? Option.fromNullishOr(sessions[0]) : Option.none()
  )

// What `show-environment -s` prints for one variable. Its value may hold newlines.
const variable = () => /([^=\n]+)="([^"\\]*(?:\\[^][^"\\]*)*)"; export \1;\n/y
const line = () => /[^\n]*(?:\n|$)/y

// Calls `onVariable` for each variable in the text, and `onLine` for each other line.
const scan = (
  text: string,
  onVariable: (name: string, value: string) => void,
  onLine: (line: string) => void
): void => {
  const [variables, others] = [variable(), line()]
  for (let at = 0; at < text.length;) {
    variables.lastIndex = others.lastIndex = at
    const found = variables.exec(text)
    if (found !== null) {
      onVariable(found[1] ?? "", (found[2] ?? "").replace(/\\([^])/g, "$1"))
      at = variables.lastIndex
    } else {
      onLine((others.exec(text)?.[0] ?? "").replace(/\n$/, ""))
      at = others.lastIndex
    }
  }
}

/** The variables in the output of `show-environment -s`. */
export const parseEnvironment = (text: string): Readonly<Record<string, string>> => {
  const variables: Array<[string, string]> = []
  scan(text, (name, value) => variables.push([name, value]), () => undefined)
  return Object.fromEntries(variables)
}

/** The format of a row that `parseEnvironments` reads. */
export const environmentsFormat = `row\t${sessionFormat}`

/** What stands on the line after a session's variables, followed by the session's id. */
export const environmentFooter = "environment "

/** What stands on the last line: without it the output is incomplete. */
export const environmentsEnd = "end"

/**
 * The sessions and their environments in one output: rows, then for each session its variables and a footer, then the
 * end. A session that has only one of both came or went meanwhile and is left out.
 */
export const parseEnvironments = (text: string): Option.Option<ReadonlyArray<SessionEnvironment>> => {
  const rows: Array<Option.Option<Session>> = []
  const environments = new Map<string, Array<[string, string]>>()
  let current: Array<[string, string]> = []
  let complete = false
  scan(text, (name, value) => current.push([name, value]), (line) => {
    complete = line === environmentsEnd
    if (line.startsWith("row\t")) rows.push(parseRow(line.slice("row\t".length)))
    if (line.startsWith(environmentFooter)) {
      environments.set(line.slice(environmentFooter.length), current)
      current = []
    }
  })
  if (!complete) return Option.none()
  return Option.map(Option.all(rows), (sessions) =>
    sessions.flatMap((session) => {
      const variables = environments.get(session.id)
      return variables === undefined ? [] : [{ session, environment: Object.fromEntries(variables) }]
    }))
}
