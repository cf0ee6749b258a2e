/**
 * The one place that prints.
 *
 * Standard output carries the answer and nothing else: with `--json` exactly one JSON value, otherwise text for people.
 * Notes, problems, progress and logs go to standard error.
 *
 * A reader that closes its end (of a pipe) mutes the output and changes nothing else: it cuts no release short, and no
 * exit code depends on it. An answer that can't be written is reported, and the command has not succeeded.
 *
 * Text from outside (descriptions, paths, messages) is freed of control characters first, so that it can't drive the
 * terminal. The output of agents is passed on byte for byte.
 */
import { currentCaller } from "@slipway/core"
import { Console, Context, Deferred, Effect, Layer, Logger, Predicate, References } from "effect"
import * as Streams from "./Streams.ts"

export type Style = "bold" | "dim" | "green" | "red" | "yellow"

const codes: Record<Style, number> = { bold: 1, dim: 2, green: 32, red: 31, yellow: 33 }

export class Output extends Context.Service<Output, {
  /** Whether the answer is one JSON value. */
  readonly json: boolean
  /** Gives the answer; with `--json` only the first one is printed. */
  readonly answer: (json: unknown, text: string) => Effect.Effect<void>
  /** Whether an answer was given. */
  readonly answered: Effect.Effect<boolean>
  /** A line for people on standard output; nothing with `--json`. */
  readonly line: (text: string) => Effect.Effect<void>
  /** A line for people on standard error. */
  readonly note: (text: string) => Effect.Effect<void>
  /** A line where it is asked for outside of an effect. */
  readonly printUnsafe: (stream: Streams.Name, text: string) => void
  /** What is going on, on one line that the next one replaces; only where standard error is a terminal. */
  readonly progress: (text: string | undefined) => Effect.Effect<void>
  /** Passes bytes on, and waits until they are taken. */
  readonly bytes: (stream: Streams.Name, bytes: Uint8Array) => Effect.Effect<void>
  /** Whether an answer could not be written, which has been said. */
  readonly isLost: Effect.Effect<boolean>
  /** Completes when standard output has no reader any more. */
  readonly closed: Effect.Effect<void>
  /** How many columns help may take. */
  readonly width: number
  /** How many columns a line has before the terminal wraps it; none where standard output is no terminal. */
  readonly columns: number | undefined
  /** Text in a style, where standard output shows styles. */
  readonly paint: (style: Style, text: string) => string
}>()("@slipway/cli/Output") {
  static readonly layer = (options: { readonly json: boolean }) => Layer.effect(Output, make(options))
}

/** Text on one line, without control characters. */
export const plain = (text: string): string =>
  // oxlint-disable-next-line no-control-regex
  text.replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ")

/** Text on lines of its own, without control characters but the line feed and the tab. */
export const plainLines = (text: string): string =>
  // oxlint-disable-next-line no-control-regex
  text.replaceAll(/\r\n?/g, "\n").replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]+/g, " ")

const make = Effect.fnUntraced(function*({ json }: { readonly json: boolean }) {
  const { environment } = yield* currentCaller
  const closed = yield* Deferred.make<void>()
  let answered = false
  let progressShown = false

  Streams.whenClosed(() => Deferred.doneUnsafe(closed, Effect.void))

  const writeUnsafe = (stream: Streams.Name, text: string) => {
    if (progressShown && (stream === "stderr" || process.stdout.isTTY)) {
      Streams.write("stderr", "\r\u001b[K")
      progressShown = false
    }
    Streams.write(stream, text)
  }
  const write = (stream: Streams.Name, text: string) => Effect.sync(() => writeUnsafe(stream, text))

  const colored = process.stdout.isTTY && (environment["NO_COLOR"] ?? "") === "" && environment["TERM"] !== "dumb"

  return Output.of({
    json,
    answer: (value, text) =>
      Effect.suspend(() => {
        if (!json) return text === "" ? Effect.void : write("stdout", `${text}\n`)
        if (answered) return Effect.void
        answered = true
        return write("stdout", `${JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined)}\n`)
      }),
    answered: Effect.sync(() => answered),
    line: (text) => json ? Effect.void : write("stdout", `${text}\n`),
    note: (text) => write("stderr", `${text}\n`),
    printUnsafe: (stream, text) => writeUnsafe(stream, `${text}\n`),
    progress: (text) =>
      Effect.sync(() => {
        if (!process.stderr.isTTY || (text === undefined && !progressShown)) return
        Streams.write("stderr", `\r\u001b[K${text ?? ""}`)
        progressShown = text !== undefined
      }),
    bytes: (stream, bytes) =>
      Effect.callback<void>((resume) =>
        Streams.write(stream, bytes, { isAnswer: true, taken: () => resume(Effect.void) })
      ),
    isLost: Effect.sync(() => Streams.lost() !== undefined),
    closed: Deferred.await(closed),
    width: Math.min(100, Math.max(40, process.stdout.columns ?? 80)),
    columns: process.stdout.isTTY ? process.stdout.columns : undefined,
    paint: (style, text) => colored ? `\u001b[${codes[style]}m${text}\u001b[0m` : text
  })
})

const levels: Readonly<Record<string, string>> = { Warn: "warning", Error: "error", Fatal: "error" }

/** Logs as short lines on standard error. */
export const layerLogger = Layer.unwrap(
  Effect.map(Output, (output) => {
    const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
      const words = (Array.isArray(message) ? message : [message]).map((part) =>
        Predicate.isString(part) ? part : Predicate.isError(part) ? part.message : JSON.stringify(part)
      )
      const annotations = Object.entries(fiber.getRef(References.CurrentLogAnnotations))
        .map(([key, value]) => `${key}=${Predicate.isString(value) ? value : JSON.stringify(value)}`)
      const text = `slipway: ${levels[logLevel] ?? logLevel.toLowerCase()}: ${words.join(" ")}${
        annotations.length === 0 ? "" : ` (${annotations.join(", ")})`
      }`
      output.printUnsafe("stderr", plain(text))
    })
    return Logger.layer([logger])
  })
)

/** What is printed through a console, as `effect/cli` prints completions, is written as every other answer. */
export const layerConsole = Layer.effect(
  Console.Console,
  Effect.map(Output, (output): Console.Console => {
    const print = (stream: Streams.Name) => (...words: ReadonlyArray<unknown>) =>
      output.printUnsafe(stream, words.join(" "))
    return Object.assign(Object.create(globalThis.console), { log: print("stdout"), error: print("stderr") })
  })
)
