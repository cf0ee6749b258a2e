/**
 * What an agent does, as data.
 *
 * A script is a list of acts that are carried out in their order. One that comes to its end exits with 0, as a program
 * does; one that should stay says `hangs`.
 */
import { Duration } from "effect"

/** The signals that may end an agent, with the code that its launcher records. */
const codes = { SIGHUP: 129, SIGINT: 130, SIGABRT: 134, SIGKILL: 137, SIGSEGV: 139, SIGTERM: 143 }
export type DeathSignal = keyof typeof codes

/** One act of an agent. */
export type Act =
  | { readonly _tag: "Says"; readonly text: string; readonly stream: "stdout" | "stderr" }
  | { readonly _tag: "After"; readonly millis: number }
  | { readonly _tag: "Exits"; readonly code: number }
  | { readonly _tag: "Hangs" }
  | { readonly _tag: "IgnoresTerm" }
  | { readonly _tag: "Starts"; readonly leavesSession: boolean }

/** What an agent does, from its start on. */
export type Script = ReadonlyArray<Act>

/** Writes a line to standard output. */
export const says = (text: string): Act => ({ _tag: "Says", text: `${text}\n`, stream: "stdout" })

/** Writes a line to standard error. */
export const complains = (text: string): Act => ({ _tag: "Says", text: `${text}\n`, stream: "stderr" })

/** Does nothing for so long. */
export const after = (duration: Duration.Input): Act => ({
  _tag: "After",
  millis: Duration.toMillis(Duration.fromInputUnsafe(duration))
})

/** Ends with this exit code, from 0 to 255. */
export const exits = (code: number): Act => ({ _tag: "Exits", code })

/** Is ended by a signal that nobody of Slipway sent, as by the kernel when memory is short. */
export const dies = (signal: DeathSignal = "SIGKILL"): Act => ({ _tag: "Exits", code: codes[signal] })

/** Stays until it is ended. */
export const hangs: Act = { _tag: "Hangs" }

/** Takes no notice of TERM and HUP from here on, so that only KILL ends it. */
export const ignoresTerm: Act = { _tag: "IgnoresTerm" }

/** Starts a process that stays; it is in a session of its own, unless the agent keeps it. */
export const starts = (options: { readonly inItsSession?: boolean } = {}): Act => ({
  _tag: "Starts",
  leavesSession: options.inItsSession !== true
})
