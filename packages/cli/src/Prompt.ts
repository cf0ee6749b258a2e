/**
 * Reads the prompt from where it was given: the command line, whatever a path names, or standard input to its end.
 *
 * The bytes become text unchanged (a byte order mark stays) or are refused; nothing is trimmed. The limit holds while
 * reading, so that an endless input is given up early. One that does not end within a second is said to be waited for, on
 * standard error. What the prompt says never stands in a message.
 */
import { maxPromptBytes } from "@slipway/core"
import { Effect, Option, Stdio, Stream } from "effect"
import { unreadable, UsageError } from "./Errors.ts"
import { Output } from "./Output.ts"
import * as Readable from "./Readable.ts"

export interface Source {
  readonly text: Option.Option<string>
  readonly file: Option.Option<string>
}

/** How long the command waits for a prompt in silence; then it names what it waits for. */
const patience = "1 second"

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
  const input = Stream.mapError(stdio.stdin, (error) => unreadable("standard input", error))
  const text = yield* collect(input, "standard input")
  if (text === "") {
    return yield* new UsageError({ problem: "there is no prompt: standard input is empty", hint: sources })
  }
  return text
})

const readFile = Effect.fnUntraced(function*(path: string) {
  const name = `the prompt file ${path}`
  const text = yield* collect(Readable.bytes(path, name), name)
  if (text === "") return yield* new UsageError({ problem: `${name} is empty` })
  return text
})

const collect = Effect.fnUntraced(function*(bytes: Stream.Stream<Uint8Array, UsageError>, name: string) {
  const output = yield* Output
  yield* Effect.forkScoped(
    Effect.delay(output.note(`slipway: waiting for the end of ${name}, which is the prompt`), patience)
  )
  const chunks: Array<Uint8Array> = []
  let size = 0
  yield* Stream.runForEach(bytes, (chunk) => {
    size += chunk.length
    chunks.push(chunk)
    return size <= maxPromptBytes ? Effect.void : Effect.fail(
      new UsageError({ problem: `${name} has more than ${maxPromptBytes} bytes`, hint: "no prompt may be longer" })
    )
  })
  return yield* Effect.try({
    try: () => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.concat(chunks)),
    catch: () => new UsageError({ problem: `${name} is not valid UTF-8`, hint: "convert it, for example with iconv" })
  })
}, Effect.scoped)
