/**
 * The record that a launcher leaves of an agent's end: a file of the agent's directory, named by the exit code.
 */
import { Option } from "effect"
import { constants } from "node:os"
import { exitPrefix } from "../machine/Layout.ts"

/** How an agent's main process ended. */
export interface ExitRecord {
  readonly code: number
  /** The signal that the code stands for, if one that ends a process; the code is kept beside it. */
  readonly signal: string | null
}

// By name, since numbers differ between systems. Some agents exit with an HTTP status cut to a byte: 401 becomes 145,
// which would be SIGCHLD on Linux. So signals are left out that end no program, and those that hardly ever do and have
// the byte of a common status: STKFLT (400), IO (413), and real-time signals (422, 429).
const terminating = [
  "SIGHUP",
  "SIGINT",
  "SIGQUIT",
  "SIGILL",
  "SIGTRAP",
  "SIGABRT",
  "SIGBUS",
  "SIGFPE",
  "SIGKILL",
  "SIGUSR1",
  "SIGSEGV",
  "SIGUSR2",
  "SIGPIPE",
  "SIGALRM",
  "SIGTERM",
  "SIGXCPU",
  "SIGXFSZ",
  "SIGVTALRM",
  "SIGPROF",
  "SIGPWR",
  "SIGSYS"
] as const satisfies ReadonlyArray<NodeJS.Signals>

/** The exit record among the names of the files in an agent's directory. */
export const parseExitRecord = (fileNames: ReadonlyArray<string>): Option.Option<ExitRecord> => {
  for (const name of fileNames) {
    const code = name.startsWith(exitPrefix) ? name.slice(exitPrefix.length) : ""
    if (!/^(0|[1-9][0-9]{0,2})$/.test(code) || Number(code) > 255) continue
    const signal = terminating.find((signal) => constants.signals[signal] === Number(code) - 128)
    return Option.some({ code: Number(code), signal: signal ?? null })
  }
  return Option.none()
}
