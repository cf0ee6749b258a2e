/**
 * Reads the prompt from where it was given: the command line, a file, or standard input to its end.
 *
 * The bytes become text unchanged (a byte order mark stays) or are refused; nothing is trimmed. The limit holds while
 * reading, so that an endless input is given up early. What the prompt says never stands in a message.
 */
import { maxPromptBytes } from "@slipway/core"
import { Effect, FileSystem, Option, type PlatformError, Stdio, Stream } from "effect"
import { unreadable, UsageError } from "./Errors.ts"

export interface Source {
  readonly text: Option.Option<string>
  readonly file: Option.Option<string>
}

const sources = "give it with --prompt TEXT, with --prompt-file FILE, or on standard input"

/** The prompt, from the one source that was given. */
export const read = Effect.fnUntraced(function*(source: Source) {
  if (Option.isSome(source.text) && Option.isSome(source.file)) {
    return yield* new UsageError({ problem: "there is both --prompt and --prompt-file", hint: "give one of them" })
  }
  if (Option.isSome(source.text)) return source.text.value
  if (Option.isSome(source.file) && source.file.value !== "-") return yield* readFile(source.file.value)
  const stdio = yield* Stdio.Stdio
  if (yield* stdio.stdinIsTerminal) return yield* new UsageError({ problem: "there is no prompt", hint: sources })
  const text = yield* collect(stdio.stdin, "standard input")
  if (text === "") {
    return yield* new UsageError({ problem: "there is no prompt: standard input is empty", hint: sources })
  }
  return text
})

const readFile = Effect.fnUntraced(function*(path: string) {
  const files = yield* FileSystem.FileSystem
  const text = yield* collect(files.stream(path), `the prompt file ${path}`)
  if (text === "") return yield* new UsageError({ problem: `the prompt file ${path} is empty` })
  return text
})

const collect = Effect.fnUntraced(function*(
  bytes: Stream.Stream<Uint8Array, PlatformError.PlatformError>,
  name: string
) {
  const chunks: Array<Uint8Array> = []
  let size = 0
  yield* Stream.runForEach(bytes, (chunk) => {
    size += chunk.length
    chunks.push(chunk)
    return size <= maxPromptBytes ? Effect.void : Effect.fail(
      new UsageError({ problem: `${name} has more than ${maxPromptBytes} bytes`, hint: "no prompt may be longer" })
    )
  }).pipe(
    Effect.catchTag("PlatformError", (error) => Effect.fail(unreadable(name, error)))
  )
  return yield* Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks)),
    catch: () => new UsageError({ problem: `${name} is not valid UTF-8`, hint: "convert it, for example with iconv" })
  })
})
