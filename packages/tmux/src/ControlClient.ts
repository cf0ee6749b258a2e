/**
 * One control client: a `tmux -C` that is attached to its own anchor session and runs what is written to it.
 *
 * Many questions are in flight at once. Each is written as one piece: a line with its commands, and a line that prints
 * a token of its own. tmux runs lines strictly in their order, so that what is printed up to the token belongs to the
 * question. A number that goes back, a token out of turn, or a line that has no place ends the client: all that is in
 * flight fails, and no later output is believed.
 *
 * Failure: when the client or its server ends, all that is in flight fails with `TmuxClientLost`. What was asked may
 * have been done. Interruption: the caller goes at once, and its answer is dropped when it comes. Time: the caller has
 * to set a limit. A server that does not answer leaves at most 512 questions behind; later ones are not written until
 * some of these are answered.
 *
 * The client's scope lets it detach by itself, which removes its anchor, and kills it after half a second. If this
 * process is killed, the end of the client's input has the same effect.
 */
import { type Cause, Deferred, Effect, Exit, Fiber, Queue, Random, type Scope, Semaphore, Stream } from "effect"
import * as Anchor from "./Anchor.ts"
import * as Commands from "./Commands.ts"
import * as Protocol from "./ControlProtocol.ts"
import * as Executable from "./Executable.ts"
import * as Failure from "./Failure.ts"
import type { Answer, Question } from "./Operations.ts"
import { TmuxClientLost, TmuxCommandFailed, type TmuxError } from "./TmuxError.ts"

// The most questions that are written and not answered.
const maxInFlight = 512

// As much of what went wrong as a person reads.
const maxDiagnosis = 2_000

/** A client that is attached. */
export interface ControlClient {
  readonly serverPid: number
  /** Whether the client is not known to be lost. */
  readonly isOpen: () => boolean
  /** How much was heard of it so far; the same number later means that nothing came meanwhile. */
  readonly heard: () => number
  readonly ask: (question: Question) => Effect.Effect<Answer, TmuxError>
  /** Ends when the client is lost. */
  readonly lost: Effect.Effect<void>
}

interface Pending {
  readonly operation: string
  readonly token: string
  readonly answer: Deferred.Deferred<Answer, TmuxError>
  stdout: string
  stderr: string
}

const utf8 = new TextEncoder()

// How long a client that ended may still have output under way, and how long one may take to detach.
const outputGrace = "200 millis"
const detachGrace = "500 millis"

const word = Effect.map(Random.nextIntBetween(0, 2 ** 46), (number) => number.toString(36).padStart(9, "0"))

/**
 * Attaches a client to the server of the question's socket, within the current scope.
 *
 * Starts none: fails with `TmuxNoServer` when there is none.
 */
export const make = Effect.fnUntraced(function*(
  executable: Executable.Executable,
  { operation, socket }: Pick<Question, "operation" | "socket">
): Effect.fn.Return<ControlClient, TmuxError, Scope.Scope> {
  // Unique among all clients of a server, also of those in other pid namespaces. The second one is never disclosed.
  const [unique, nonce] = [yield* word, yield* word]
  // The client is ready when its own arguments report so: tmux may read lines before it runs these.
  const attached = new RegExp(`^${unique} ([1-9][0-9]{0,9}) ([01])\\n$`)
  const input = yield* Queue.unbounded<Uint8Array, Cause.Done>()
  const room = yield* Semaphore.make(maxInFlight)
  const lost = yield* Deferred.make<void>()
  // The server's pid, and whether the anchor is one.
  const ready = yield* Deferred.make<readonly [serverPid: number, isAnchored: boolean]>()
  const parser = Protocol.make()
  const pending: Array<Pending> = []
  let asked = 0
  let heard = 0
  let lastNumber = 0
  let isOpen = true
  let diagnosis = ""
  let exitCode: number | null = null

  const diagnose = (text: string): void => {
    diagnosis = `${diagnosis}${text}`.slice(0, maxDiagnosis)
  }

  const lose = Effect.suspend(() => {
    isOpen = false
    Queue.endUnsafe(input)
    const unanswered = pending.splice(0)
    for (const { answer, operation } of unanswered) {
      Deferred.doneUnsafe(answer, Effect.fail(new TmuxClientLost({ operation })))
    }
    Deferred.doneUnsafe(lost, Effect.void)
    // Callers that wait for room learn of it too.
    return room.release(unanswered.length)
  })

  // Whether the message is what may come now. Completes the question that it answers.
  const receive = (message: Protocol.Message): boolean => {
    if (message._tag === "Unexpected") return false
    if (message._tag === "Notification") {
      if (message.name === "exit") diagnose(`${message.argument}\n`)
      return true
    }
    if (message.number <= lastNumber) return false
    lastNumber = message.number
    if (!message.isOwn) {
      const [, serverPid, isAnchored] = attached.exec(message.text) ?? []
      if (serverPid !== undefined) Deferred.doneUnsafe(ready, Effect.succeed([Number(serverPid), isAnchored === "1"]))
      if (message.isError) {
        diagnose(message.text)
        Deferred.doneUnsafe(ready, Effect.succeed([0, false]))
      }
      return true
    }
    const [current] = pending
    if (current === undefined) return false
    if (!message.isError && message.text.startsWith(nonce)) {
      if (message.text !== `${current.token}\n`) return false
      pending.shift()
      const { answer, stderr, stdout } = current
      Deferred.doneUnsafe(answer, Effect.succeed({ exitCode: stderr === "" ? 0 : 1, stdout, stderr }))
      return true
    }
    if (message.isError) current.stderr += message.text || "it gave no reason\n"
    else current.stdout += message.text
    return true
  }

  const ask = (question: Omit<Question, "socket" | "starts">): Effect.Effect<Answer, TmuxError> =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function*() {
        yield* restore(room.take(1))
        const { commands, operation } = question
        const token = `${nonce}-${asked++}`
        const answer = Deferred.makeUnsafe<Answer, TmuxError>()
        if (!isOpen) {
          yield* room.release(1)
          return yield* new TmuxClientLost({ operation })
        }
        pending.push({ operation, token, answer, stdout: "", stderr: "" })
        const lines = `${Commands.line(commands)}\n${Commands.line([["display-message", "-p", token]])}\n`
        Queue.offerUnsafe(input, utf8.encode(lines))
        return yield* restore(Deferred.await(answer))
      })
    )

  const args = [
    "-N",
    ...Executable.common(socket),
    "-C",
    ...Commands.words([
      // Once, and not with each session: tmux goes through all sessions whenever an option is set.
      ...Commands.serverOptions,
      ...Anchor.commands(Anchor.nameOf(unique)),
      ["display-message", "-p", `${unique} #{pid} ${Anchor.isAnchor}`]
    ])
  ]
  const handle = yield* executable.keep(operation, args, Stream.fromQueue(input))

  const reading = yield* handle.stdout.pipe(
    Stream.takeUntilEffect((bytes) =>
      Effect.suspend(() => {
        heard++
        const before = pending.length
        const isBelieved = parser.feed(bytes).every(receive)
        const answered = before - pending.length
        return Effect.as(answered > 0 ? room.release(answered) : Effect.void, !isBelieved)
      })
    ),
    Stream.runDrain,
    Effect.ignore,
    Effect.forkScoped
  )
  const explaining = yield* Stream.decodeText(handle.stderr).pipe(
    Stream.runForEach((text) => Effect.sync(() => diagnose(text))),
    Effect.ignore,
    Effect.forkScoped
  )

  const exited = Effect.map(Effect.exit(handle.exitCode), (exit) => {
    exitCode = Exit.isSuccess(exit) ? exit.value : null
  })
  // Its output may stay open when the client has ended: the server holds it too, and may be frozen.
  yield* Effect.raceFirst(Fiber.await(reading), exited).pipe(
    Effect.andThen(Effect.sync(() => {
      isOpen = false
      Queue.endUnsafe(input)
    })),
    Effect.andThen(
      Effect.timeoutOption(Effect.andThen(Fiber.awaitAll([reading, explaining]), exited), outputGrace)
    ),
    Effect.ensuring(lose),
    Effect.forkScoped
  )
  yield* Effect.addFinalizer(() => {
    isOpen = false
    Queue.endUnsafe(input)
    return Effect.timeoutOption(exited, detachGrace)
  })

  const found = yield* Effect.raceFirst(Deferred.await(ready), Effect.as(Deferred.await(lost), undefined))
  if (found?.[1] === true) {
    return {
      serverPid: found[0],
      isOpen: () => isOpen,
      heard: () => heard,
      ask,
      lost: Deferred.await(lost)
    }
  }
  const stderr = diagnosis.trim() ||
    (found === undefined
      ? "the control client ended before it was attached"
      : "the control client could not be anchored")
  const error = Failure.classify({ operation, socket, target: "", exitCode, stderr })
  return yield* error._tag === "TmuxNoServer" ? error : new TmuxCommandFailed({ operation, exitCode, stderr })
})
