/**
 * What the shell line at the top of `bin/slipway.mjs` found before Node began, and Node no longer knows. These are the
 * ignored signals, which Node resets, and the soft limit of open files, which Node raises to the hard one.
 *
 * It comes in one variable that names its process by pid. A value that another process left there is passed over. A
 * command that was started without that line has none. The program removes the variable before it starts anything.
 */
import { constants } from "node:os"

/** `<soft limit of open files> <pid> <the line of /proc/self/stat>` */
export const variable = "SLIPWAY_AT_START"

export interface AtStart {
  readonly ignored: ReadonlySet<NodeJS.Signals>
  /** Not known where the command was started in another way, or without a limit. */
  readonly softOpenFiles: number | undefined
}

// How a program ends that doesn't expect them; the others say nothing to one that goes on, or are the runtime's own.
const ending: ReadonlyArray<NodeJS.Signals> = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM", "SIGUSR2"]

/** The place of the mask of ignored signals behind the name of the program: field 33 of proc_pid_stat(5). */
const maskPlace = 33 - 3

/** Reads the variable for the process with this pid. */
export const parse = (text: string | undefined, pid: number): AtStart => {
  const found = /^(\S*) (\d+) ?(.*)$/s.exec(text ?? "")
  if (found === null || Number(found[2]) !== pid) return { ignored: new Set(), softOpenFiles: undefined }
  const [, limit = "", , stat = ""] = found
  const mask = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[maskPlace] ?? ""
  const bits = /^\d+$/.test(mask) ? BigInt(mask) : 0n
  return {
    ignored: new Set(ending.filter((signal) => (bits >> BigInt(constants.signals[signal] - 1) & 1n) === 1n)),
    softOpenFiles: /^\d+$/.test(limit) ? Number(limit) : undefined
  }
}

export const { ignored, softOpenFiles } = parse(process.env[variable], process.pid)
