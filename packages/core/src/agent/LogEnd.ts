/**
 * Reads the end of a known agent's log: its last lines, whole, and what they say of its run.
 *
 * An agent's final line holds its whole answer, and may be megabytes long. So the last 64 KiB are read. From there the
 * read goes back to the beginning of the line that they cut, or of the answer that goes on over many lines. It goes
 * back 16 MiB at most, and a common end costs one read. What lies beyond that bound is not guessed: a verdict is then
 * `unknown`, a message or a cost is absent.
 *
 * Never fails: a log that can't be read is an empty one. Each read is one synchronous call; an interruption comes
 * between two.
 */
import { Effect } from "effect"
import type { Files } from "../machine/Files.ts"
import type { Summary } from "./Agent.ts"
import type { AgentKind } from "./AgentCommand.ts"
import { beginsInMessage, mayTellCost, summary, sumsCosts } from "./AgentOutput.ts"

/** How many bytes of an output's end are kept with an error or an ended agent. */
export const tailBytes = 4096

/** Where to read, and how much. */
export interface Source {
  readonly files: Pick<Files["Service"], "inspect" | "readChunk">
  readonly path: string
  /** How much is read in any case; 64 KiB by default. */
  readonly commonBytes?: number | undefined
  /** How much is read at most; 16 MiB by default. */
  readonly mostBytes?: number | undefined
}

/** The last lines of a log, oldest first. */
export interface LogEnd {
  readonly lines: ReadonlyArray<string>
  /** Whether these are all lines of the log. */
  readonly isWhole: boolean
  /** Whether the line before these is longer than what may be read. */
  readonly isCut: boolean
}

const common = 64 * 1024
const most = 16 * 1024 * 1024
/** Where an agent names its session, if not in every line. */
const headLines = 20

const newline = 10

const sizeOf = ({ files, path }: Source): Effect.Effect<number> =>
  files.inspect(path).pipe(
    Effect.map((info) => info?.size ?? 0),
    Effect.orElseSucceed(() => 0)
  )

const readFrom = ({ files, path }: Source, from: number, to: number): Effect.Effect<Buffer> =>
  files.readChunk(path, from, to - from).pipe(
    Effect.map((bytes) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)),
    Effect.orElseSucceed(() => Buffer.alloc(0))
  )

/** The last lines that hold at least so many bytes, back to the beginning of the first one. */
const readBack = Effect.fnUntraced(function*(source: Source, size: number, bytes: number): Effect.fn.Return<LogEnd> {
  const lowest = Math.max(0, size - Math.max(source.mostBytes ?? most, bytes))
  let from = Math.max(0, size - bytes)
  const parts = [yield* readFrom(source, from, size)]
  // The line that `from` cuts begins after the last newline before it.
  for (let step = bytes; from > lowest; step *= 2) {
    const back = Math.max(lowest, from - step)
    const part = yield* readFrom(source, back, from)
    const end = part.lastIndexOf(newline)
    parts.unshift(part.subarray(end + 1))
    if (end >= 0) return { lines: linesOf(parts), isWhole: false, isCut: false }
    from = back
  }
  if (from === 0) return { lines: linesOf(parts), isWhole: true, isCut: false }
  const all = Buffer.concat(parts)
  const begin = all.indexOf(newline)
  return { lines: begin < 0 ? [] : linesOf([all.subarray(begin + 1)]), isWhole: false, isCut: true }
})

const linesOf = (parts: ReadonlyArray<Uint8Array>): ReadonlyArray<string> =>
  Buffer.concat(parts).toString("utf8").trimEnd().split("\n")

/** The last lines of a log. */
export const read = (source: Source): Effect.Effect<LogEnd> =>
  Effect.flatMap(sizeOf(source), (size) => readBack(source, size, source.commonBytes ?? common))

const sumOf = Effect.fnUntraced(function*(kind: AgentKind, source: Source, size: number) {
  const all = yield* readBack(source, size, source.mostBytes ?? most)
  return all.isWhole ? summary(kind, all.lines.filter(mayTellCost)).costUsd : undefined
})

/** What a known agent's log says about its run. */
export const readSummary = Effect.fnUntraced(function*(kind: AgentKind, source: Source): Effect.fn.Return<Summary> {
  if (kind === "command") return {}
  const { commonBytes = common, mostBytes = most } = source
  const size = yield* sizeOf(source)
  let end = yield* readBack(source, size, commonBytes)
  const isInMessage = () => !end.isWhole && beginsInMessage(kind, end.lines)
  for (let bytes = commonBytes; isInMessage() && bytes < mostBytes;) {
    bytes = Math.min(mostBytes, bytes * 8)
    end = yield* readBack(source, size, bytes)
  }
  const { costUsd, lastMessage, ...rest } = summary(kind, end.lines)
  const cost = end.isWhole || !sumsCosts(kind) ? costUsd : yield* sumOf(kind, source, size)
  const known = {
    ...rest,
    ...(cost === undefined ? {} : { costUsd: cost }),
    ...(lastMessage === undefined || isInMessage() ? {} : { lastMessage })
  }
  if (end.isWhole || known.sessionId !== undefined) return known
  const head = (yield* readFrom(source, 0, commonBytes)).toString("utf8").split("\n").slice(0, headLines)
  const { sessionId } = summary(kind, head)
  return sessionId === undefined ? known : { ...known, sessionId }
})
