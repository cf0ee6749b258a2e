/**
 * Runs the command as the main program of this process, and answers its signals.
 *
 * A signal that was ignored when the command was started stays ignored (`nohup`, `&` in a script). Otherwise INT, TERM
 * and HUP interrupt the program. Its releases then run to their end, and the program itself says which exit code
 * follows. A second signal leaves at once with 6, since it cuts the releases short: what they would have released stays
 * on record. The same signal again within 50 ms counts as the same one: launchers such as npx pass on what the terminal
 * has already sent to the whole group. Each release is bounded in time, so there is no limit here.
 *
 * The process ends when everything that was printed has left it, however long its reader takes. A signal in this time
 * leaves at once. After a signal, what was printed has a second to leave. A command whose answer could not be written
 * ends with 4 where it would have ended with 0.
 */
import { type Effect, Runtime } from "effect"
import * as AtStart from "./AtStart.ts"
import * as ExitCode from "./ExitCode.ts"
import * as Streams from "./Streams.ts"

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const

const sameSignalNanos = 50_000_000n

/** What a program is given. */
export interface Process {
  /** The signal that interrupted it, if one did. */
  readonly received: () => NodeJS.Signals | undefined
  /** The code to exit with once it has ended; an interrupted fiber can't answer with a value. */
  readonly exitWith: (code: number) => void
}

/** How long what was printed may take to leave the process when a signal has ended the command. */
const drainMillis = 1000

/** Runs a program that says which code it ends with; one that does not say so was defective. */
export const runMain = (program: (process: Process) => Effect.Effect<void>): void => {
  let received: NodeJS.Signals | undefined
  let code: number = ExitCode.defect
  let isOver = false
  const leave = () => process.exit(code === ExitCode.done && Streams.lost() !== undefined ? ExitCode.environment : code)
  const run = Runtime.makeRunMain(({ fiber }) => {
    let receivedAt = 0n
    const onSignal = (signal: NodeJS.Signals) => {
      const now = process.hrtime.bigint()
      const isSame = signal === received && now - receivedAt < sameSignalNanos
      if (isSame) return
      if (isOver) {
        // Nothing is left to be released; only its reader has not taken what was printed.
        if (code === ExitCode.done) code = ExitCode.ofSignal(signal)
        return leave()
      }
      if (received === undefined) {
        received = signal
        receivedAt = now
        return fiber.interruptUnsafe(fiber.id)
      }
      Streams.write(
        "stderr",
        "slipway: left at once on a second signal; what is left of a rollback stays on record, and the next command that reads it (slipway ps, slipway reap) finishes it\n"
      )
      process.exit(ExitCode.leftBehind)
    }
    for (const signal of signals) if (!AtStart.ignored.has(signal)) process.on(signal, onSignal)
    fiber.addObserver(() => {
      isOver = true
      if (received !== undefined) setTimeout(leave, drainMillis)
      Streams.drained(leave)
    })
  })
  run(program({ received: () => received, exitWith: (value) => void (code = value) }), { disableErrorReporting: true })
}
