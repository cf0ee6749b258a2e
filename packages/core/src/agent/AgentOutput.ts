/**
 * Reads what an agent wrote: whether it succeeded, and who it was, what it cost and what it said last.
 *
 * Exit code 0 is not success for a known agent: some exit with 0 when a signal ended them half way. Their final line of
 * output decides too. Pure and total: agents add kinds of lines with each release, so a line that is no JSON, or not
 * what is expected, is passed over. The lines given must be whole ones; a line that was cut says nothing.
 */
import { Option, Schema } from "effect"
import type { Outcome, Summary } from "./Agent.ts"
import type { AgentKind } from "./AgentCommand.ts"

type KnownKind = Exclude<AgentKind, "command">

/** What one line of output says. */
interface Told {
  /** How the run stands after this line; a run that goes on is no success. */
  readonly verdict?: "success" | "failure"
  readonly sessionId?: string | undefined
  readonly totalCostUsd?: number | undefined
  readonly stepCostUsd?: number | undefined
  readonly message?: { readonly text: string; readonly isPart: boolean } | undefined
}

const ClaudeLine = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("result"),
    subtype: Schema.String,
    is_error: Schema.Boolean,
    session_id: Schema.optionalKey(Schema.String),
    result: Schema.optionalKey(Schema.String),
    total_cost_usd: Schema.optionalKey(Schema.Number)
  }),
  Schema.Struct({
    type: Schema.Literal("assistant"),
    session_id: Schema.optionalKey(Schema.String),
    message: Schema.Struct({
      content: Schema.Array(Schema.Struct({ type: Schema.String, text: Schema.optionalKey(Schema.String) }))
    })
  }),
  Schema.Struct({
    type: Schema.Literals(["system", "user", "stream_event"]),
    session_id: Schema.optionalKey(Schema.String)
  })
])

const claude = (line: typeof ClaudeLine.Type): Told => {
  switch (line.type) {
    case "result":
      return {
        // A failed request keeps the subtype `success`, so both are asked for.
        verdict: line.subtype === "success" && !line.is_error ? "success" : "failure",
        sessionId: line.session_id,
        totalCostUsd: line.total_cost_usd,
        message: whole(line.result)
      }
    case "assistant": {
      const text = line.message.content.flatMap((part) =>
        part.type === "text" && part.text !== undefined ? [part.text] : []
      )
      return { sessionId: line.session_id, message: whole(text.length === 0 ? undefined : text.join("")) }
    }
    default:
      return { sessionId: line.session_id }
  }
}

const CodexLine = Schema.Union([
  Schema.Struct({ type: Schema.Literal("thread.started"), thread_id: Schema.String }),
  // An item of type `error` is a warning; only `turn.failed` is a failed run.
  Schema.Struct({
    type: Schema.Literal("item.completed"),
    item: Schema.Struct({ type: Schema.String, text: Schema.optionalKey(Schema.String) })
  }),
  Schema.Struct({ type: Schema.Literals(["turn.started", "turn.completed", "turn.failed", "item.started", "error"]) })
])

const codex = (line: typeof CodexLine.Type): Told => {
  switch (line.type) {
    case "thread.started":
      return { sessionId: line.thread_id }
    case "item.completed":
      return { message: whole(line.item.type === "agent_message" ? line.item.text : undefined) }
    case "turn.completed":
      return { verdict: "success" }
    case "turn.started":
    case "turn.failed":
      return { verdict: "failure" }
    default:
      return {}
  }
}

const GeminiLine = Schema.Union([
  Schema.Struct({ type: Schema.Literal("init"), session_id: Schema.String }),
  Schema.Struct({
    type: Schema.Literal("message"),
    role: Schema.String,
    content: Schema.String,
    delta: Schema.optionalKey(Schema.Boolean)
  }),
  Schema.Struct({ type: Schema.Literal("result"), status: Schema.String }),
  Schema.Struct({ type: Schema.Literals(["tool_use", "tool_result", "error"]) })
])

const gemini = (line: typeof GeminiLine.Type): Told => {
  switch (line.type) {
    case "init":
      return { sessionId: line.session_id }
    case "message":
      return line.role === "assistant" ? { message: { text: line.content, isPart: line.delta === true } } : {}
    case "result":
      return { verdict: line.status === "success" ? "success" : "failure" }
    default:
      return {}
  }
}

const OpencodeLine = Schema.Union([
  Schema.Struct({
    type: Schema.Literal("step_finish"),
    sessionID: Schema.optionalKey(Schema.String),
    part: Schema.Struct({ reason: Schema.String, cost: Schema.optionalKey(Schema.Number) })
  }),
  Schema.Struct({
    type: Schema.Literal("text"),
    sessionID: Schema.optionalKey(Schema.String),
    part: Schema.Struct({ text: Schema.String })
  }),
  Schema.Struct({
    type: Schema.Literals(["step_start", "tool_use", "error"]),
    sessionID: Schema.optionalKey(Schema.String)
  })
])

const opencode = (line: typeof OpencodeLine.Type): Told => {
  switch (line.type) {
    case "step_finish":
      return {
        // Other reasons say that a tool is to run next, or that the answer was cut.
        verdict: line.part.reason === "stop" ? "success" : "failure",
        sessionId: line.sessionID,
        stepCostUsd: line.part.cost
      }
    case "text":
      return { sessionId: line.sessionID, message: whole(line.part.text) }
    case "step_start":
    case "error":
      return { verdict: "failure", sessionId: line.sessionID }
    default:
      return { sessionId: line.sessionID }
  }
}

const whole = (text: string | undefined) => text === undefined ? undefined : { text, isPart: false }

const reader = <S extends Schema.ConstraintDecoder<unknown>>(schema: S, tell: (line: S["Type"]) => Told) => {
  const decode = Schema.decodeUnknownOption(Schema.fromJsonString(schema))
  return (line: string): Option.Option<Told> => Option.map(decode(line), tell)
}

const readers: Readonly<Record<KnownKind, (line: string) => Option.Option<Told>>> = {
  claude: reader(ClaudeLine, claude),
  codex: reader(CodexLine, codex),
  gemini: reader(GeminiLine, gemini),
  opencode: reader(OpencodeLine, opencode)
}

const read = (kind: KnownKind, lines: ReadonlyArray<string>): ReadonlyArray<Told> =>
  lines.flatMap((line) => Option.toArray(readers[kind](line)))

/**
 * Judges an agent that has ended, by its exit and the last lines of its standard output, oldest first.
 *
 * Unknown is an exit that nothing recorded. So is an exit code 0 of a known agent whose final line can't be read. Its
 * own arguments chose another format, or the line before the given ones is too long (`isCut`).
 */
export const verdict = (
  kind: AgentKind,
  end: {
    readonly code: number | null
    readonly signal: string | null
    readonly lastLines: ReadonlyArray<string>
    readonly isCut?: boolean | undefined
  }
): Outcome => {
  if (end.signal !== null) return "failure"
  if (end.code === null) return "unknown"
  if (end.code !== 0) return "failure"
  if (kind === "command") return "success"
  const told = read(kind, end.lastLines)
  const last = told.findLast((line) => line.verdict !== undefined)?.verdict
  if (last !== undefined) return last
  if (end.isCut === true) return "unknown"
  return told.length === 0 && end.lastLines.some((line) => line.trim() !== "") ? "unknown" : "failure"
}

/** Whether this kind reports what each step cost, so that the cost of its run is the sum over all lines. */
export const sumsCosts = (kind: AgentKind): boolean => kind === "opencode"

/** Whether a line of such a kind may say what a step cost: much faster to check than to decode it. */
export const mayTellCost = (line: string): boolean => line.includes("step_finish")

/** Whether the last message of these lines may have begun before the first of them: some kinds print a message in parts. */
export const beginsInMessage = (kind: AgentKind, lines: ReadonlyArray<string>): boolean => {
  if (kind !== "gemini") return false
  const told = read(kind, lines)
  const last = told.findLastIndex(({ message }) => message !== undefined)
  return last >= 0 && told.slice(0, last + 1).every(({ message }) => message?.isPart === true)
}

/** The longest message that is kept of a run, in characters: every list of agents carries it. The log has it whole. */
export const mostMessage = 64 * 1024

const clipped = (text: string): string => text.length <= mostMessage ? text : `${text.slice(0, mostMessage - 1)}…`

/** What the given lines of an agent's standard output, oldest first, say about its run. */
export const summary = (kind: AgentKind, lines: ReadonlyArray<string>): Summary => {
  if (kind === "command") return {}
  let sessionId: string | undefined
  let costUsd: number | undefined
  let message: Told["message"]
  for (const told of read(kind, lines)) {
    sessionId = told.sessionId ?? sessionId
    costUsd = told.totalCostUsd ?? (told.stepCostUsd === undefined ? costUsd : (costUsd ?? 0) + told.stepCostUsd)
    if (told.message !== undefined) {
      message = told.message.isPart && message?.isPart === true
        ? { text: message.text + told.message.text, isPart: true }
        : told.message
    } else if (message !== undefined) {
      message = { text: message.text, isPart: false }
    }
  }
  return {
    ...(sessionId === undefined ? {} : { sessionId }),
    ...(costUsd === undefined ? {} : { costUsd }),
    ...(message === undefined ? {} : { lastMessage: clipped(message.text) })
  }
}
