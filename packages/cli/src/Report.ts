/**
 * Reports how a command ended, where the command has not done so itself, and answers with the exit code.
 *
 * A failure is one short message on standard error that says what to do; with `--json` also one value on standard
 * output. A defect is named as one, without a stack trace unless the log level is debug. Nothing here fails.
 */
import { CleanupReport, DeployDocument, DeployError, Document, requestSentence } from "@slipway/core"
import { Cause, Effect, Option } from "effect"
import type { Failure } from "./Errors.ts"
import * as ExitCode from "./ExitCode.ts"
import { Output, plain, plainLines } from "./Output.ts"

const tailLines = 10

const indented = (text: string): string =>
  plainLines(text).trimEnd().split("\n").slice(-tailLines).map((line) => `    ${line}`).join("\n")

/** The fields of a request whose flag has another name than theirs. */
const flags: Readonly<Record<string, string>> = {
  agent: "the command or agent",
  description: "DESCRIPTION",
  environment: "--env",
  projects: "--project",
  prompt: "the prompt"
}

const flagOf = ([field = ""]: ReadonlyArray<string>): string =>
  flags[field] ?? `--${field.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

/** What a failure says; an invalid request in the words of the command line, since its author wrote no fields. */
export const messageOf = (failure: Failure): string => {
  const reason = failure instanceof DeployError ? failure.reason : failure
  return reason._tag === "InvalidRequest" ? requestSentence(reason.issues, flagOf) : failure.message
}

/** A failure for people. */
export const describe = (failure: Failure): string => {
  const lines = [`slipway: ${plainLines(messageOf(failure))}`]
  if (failure instanceof DeployError) {
    const { reason } = failure
    const stderr = "stderrTail" in reason ? reason.stderrTail.trimEnd() : ""
    if (stderr.includes("\n")) lines.push("  the end of its standard error:", indented(stderr))
    if (!failure.isClean) lines.push("  it stays on record; 'slipway reap' tries again, and so does every 'slipway ps'")
    else if (CleanupReport.performed(failure.cleanup)) {
      lines.push("  everything was rolled back; nothing is left behind")
    }
  }
  return lines.join("\n")
}

/** A failure as a JSON value. */
export const toJson = (failure: Failure): unknown =>
  failure instanceof DeployError
    ? DeployDocument.failure(failure, messageOf(failure))
    : Document.failed(messageOf(failure), failure._tag)

/** Shows a failure, and answers with its exit code. */
export const failure = Effect.fnUntraced(function*(failure: Failure) {
  const output = yield* Output
  yield* output.note(describe(failure))
  yield* output.answer(toJson(failure), "")
  return ExitCode.ofFailure(failure)
})

/** Shows a defect, which is a mistake in Slipway itself. */
export const defect = Effect.fnUntraced(function*(cause: Cause.Cause<unknown>, options: { readonly trace: boolean }) {
  const output = yield* Output
  const what = Cause.prettyErrors(cause).map((error) => error.message).join("; ")
  yield* output.note(
    `slipway: this is a defect in Slipway: ${plain(what)}\n  please report it with the command that you ran${
      options.trace ? "" : " and what it prints with --log-level debug"
    }`
  )
  if (options.trace) yield* output.note(Cause.pretty(cause))
  yield* output.answer(Document.failed(`a defect in Slipway: ${what}`, "Defect"), "")
  return ExitCode.defect
})

/** Shows that a signal ended the command. */
export const interrupted = Effect.fnUntraced(function*(signal: NodeJS.Signals | undefined) {
  const output = yield* Output
  if (!(yield* output.answered)) {
    yield* output.answer(Document.failed(`interrupted by ${signal ?? "the runtime"}`, "Interrupted"), "")
  }
  return ExitCode.ofSignal(signal ?? "SIGINT")
})

/** Shows whatever a command ended with. */
export const cause = (
  cause: Cause.Cause<Failure>,
  options: { readonly signal: NodeJS.Signals | undefined; readonly trace: boolean }
) => {
  if (Cause.hasInterruptsOnly(cause)) return interrupted(options.signal)
  const found = Cause.findErrorOption(cause)
  return Option.isSome(found) && !Cause.hasDies(cause) ? failure(found.value) : defect(cause, options)
}
