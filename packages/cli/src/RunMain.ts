/**
 * Runs the command as the main program of this process, and answers its signals.
 *
 * INT, TERM and HUP interrupt the program, whose releases then run to their end; the program itself says which code that
 * ends with. A second signal leaves at once with 6, since it cuts the releases short: what they would have released stays
 * on record. The same signal again within 50 ms is taken for the same one, because launchers such as npx pass on what the
 * terminal has already sent to the whole group. Each release is bounded in time, so there is no limit here.
 */
import { type Effect, Runtime } from "effect"
import * as ExitCode from "./ExitCode.ts"

const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const

const sameSignalNanos = 50_000_000n

/** What a program is told. */
export interface Process {
  /** The signal that interrupted it, if one did. */
  readonly received: () => NodeJS.Signals | undefined
  /** The code to exit with once it has ended; an interrupted fiber can't answer with a value. */
  readonly exitWith: (code: number) => void
}

/** Runs a program that says which code it ends with; one that does not say so was defective. */
export const runMain = (program: (process: Process) => Effect.Effect<void>): void => {
  let received: NodeJS.Signals | undefined
  let code: number = ExitCode.defect
  const run = Runtime.makeRunMain(({ fiber }) => {
    let receivedAt = 0n
    const onSignal = (signal: NodeJS.Signals) => {
      const now = process.hrtime.bigint()
      if (received === undefined) {
        received = signal
        receivedAt = now
        return fiber.interruptUnsafe(fiber.id)
      }
      if (signal === received && now - receivedAt < sameSignalNanos) return
      process.stderr.write(
        "slipway: left at once on a second signal; what is left of a rollback stays on record, and the next look at it (slipway ps, slipway reap) finishes it\n"
      )
      process.exit(ExitCode.leftBehind)
    }
    for (const signal of signals) process.on(signal, onSignal)
    fiber.addObserver(() => process.exit(code))
  })
  run(program({ received: () => received, exitWith: (value) => void (code = value) }), { disableErrorReporting: true })
}
