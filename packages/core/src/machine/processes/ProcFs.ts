/**
 * Reads processes from the /proc of Linux, and signals them.
 *
 * All calls are synchronous and short: a table of 80 processes with their environments takes about 3 ms. A process that
 * ends in the middle of a read counts as ended, never as an error. Nothing is kept between two calls.
 */
import * as Fs from "node:fs"
import type { EnvironRead, ProcessStat, Signal, SignalResult, System } from "./System.ts"

/** What field 22 of a stat line counts: USER_HZ, which is 100 on every Linux that Node runs on. */
export const ticksPerSecond = 100

const kernelThread = 0x00200000

/** A stat line, with the end of the environment's area, which is "0" while an exec is under way. */
export interface StatLine extends ProcessStat {
  readonly environStart: string
  readonly environEnd: string
  /** True for a thread that is not the first of its process; such an id has a directory in /proc too. */
  readonly thread: boolean
}

/**
 * Reads a line of /proc/PID/stat (proc_pid_stat(5)), or answers undefined when it is none. The name of the program stands
 * in parentheses and may itself hold spaces, parentheses and newlines, so the fields are counted from the last `)`.
 */
export const parseStat = (text: string): StatLine | undefined => {
  const open = text.indexOf("(")
  const close = text.lastIndexOf(")")
  if (open < 1 || close < open) return undefined
  const pid = Number(text.slice(0, open))
  const fields = text.slice(close + 1).trim().split(" ")
  const field = (number: number) => fields[number - 3] ?? ""
  const state = field(3)
  const start = field(22)
  const [ppid, pgid, sid] = [Number(field(4)), Number(field(5)), Number(field(6))]
  if (!Number.isInteger(pid) || !/^\d+$/.test(start) || ![ppid, pgid, sid].every(Number.isInteger)) return undefined
  return {
    pid,
    ppid,
    pgid,
    sid,
    start,
    state,
    // A main thread that has ended while others run shows as Z too, but the process lives.
    zombie: state === "X" || (state === "Z" && Number(field(20)) <= 1),
    kernel: (Number(field(9)) & kernelThread) !== 0,
    terminal: Number(field(7)) === 0 ? undefined : Number(field(7)),
    environStart: field(50),
    environEnd: field(51),
    image: field(50) === "" || field(50) === "0" ? undefined : `${field(50)}-${field(51)}`,
    // Only a further thread has no signal to send at its end.
    thread: field(38) === "-1"
  }
}

const variable = (variables: ReadonlyArray<string>, name: string): string | undefined =>
  variables.find((entry) => entry.startsWith(`${name}=`))?.slice(name.length + 1)

/** Finds the markers in the text of an environment; where a name stands twice the first counts, as for getenv. */
export const parseEnviron = (text: string): EnvironRead => {
  const variables = text.split("\0")
  const home = variable(variables, "SLIPWAY_HOME")
  return {
    _tag: "Read",
    agentId: variable(variables, "SLIPWAY_AGENT_ID"),
    homeId: variable(variables, "SLIPWAY_HOME_ID"),
    ...(home === undefined ? {} : { home })
  }
}

const codeOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "code" in error ? String(error.code) : String(error)

/** The code with which the kernel says that a process is not there: ESRCH when it ended between open and read. */
const isGone = (code: string) => code === "ENOENT" || code === "ESRCH"

const read = (path: string): { readonly text: string } | { readonly code: string } => {
  try {
    return { text: Fs.readFileSync(path, "utf8") }
  } catch (error) {
    return { code: codeOf(error) }
  }
}

const readStat = (pid: number): StatLine | "gone" | "unreadable" => {
  const file = read(`/proc/${pid}/stat`)
  if ("code" in file) return isGone(file.code) ? "gone" : "unreadable"
  const stat = parseStat(file.text)
  return stat === undefined ? "unreadable" : stat.thread ? "gone" : stat
}

/** The real user of a process. The owner of its directory won't do: that is root when it does not let itself be read. */
const userOf = (pid: number): number | undefined => {
  const file = read(`/proc/${pid}/status`)
  const uid = "text" in file ? /^Uid:\s+(\d+)/m.exec(file.text)?.[1] : undefined
  return uid === undefined ? undefined : Number(uid)
}

const readEnviron = (self: { readonly uid: number }, pid: number): EnvironRead => {
  const file = read(`/proc/${pid}/environ`)
  if ("code" in file) {
    if (isGone(file.code)) return { _tag: "Gone" }
    const uid = userOf(pid)
    return { _tag: uid === undefined || uid === self.uid ? "Denied" : "Foreign" }
  }
  if (file.text !== "") return parseEnviron(file.text)
  const stat = readStat(pid)
  if (stat === "gone") return { _tag: "Gone" }
  if (stat === "unreadable") return { _tag: "Denied" }
  if (stat.zombie || stat.kernel) return { _tag: "Foreign" }
  // A program started with no environment at all has an area that is empty, one in an exec has none yet.
  const empty = stat.environEnd !== "0" && stat.environEnd === stat.environStart
  return empty ? parseEnviron("") : { _tag: "Execing" }
}

const table = (): ReadonlyArray<ProcessStat> | { readonly blind: string } => {
  let names: ReadonlyArray<string>
  try {
    names = Fs.readdirSync("/proc")
  } catch (error) {
    return { blind: codeOf(error) }
  }
  const rows: Array<ProcessStat> = []
  // The newest first: in a chain of processes that fork and exit they are the ones about to end.
  for (const name of names.toReversed()) {
    if (!/^\d+$/.test(name)) continue
    const stat = readStat(Number(name))
    if (typeof stat !== "string") rows.push(stat)
  }
  // At the least this program stands in it: an empty table is a /proc that is not mounted.
  return rows.length === 0 ? { blind: "/proc shows no process" } : rows
}

const deviceOf = (path: string): number | undefined => {
  try {
    return Fs.statSync(path).dev
  } catch {
    return undefined
  }
}

/**
 * The last field of /proc/loadavg counts in the pid namespace of the reader. A container may lay a file of its own over it,
 * and a sandbox may print 0; neither counts.
 */
const newestPid = (): number | undefined => {
  const file = read("/proc/loadavg")
  const pid = "text" in file ? Number(file.text.trim().split(" ").at(-1)) : 0
  return Number.isInteger(pid) && pid > 0 ? pid : undefined
}

/** Sends a signal and says what became of it; `process.kill` throws for the two answers that are expected here. */
export const kill = (pid: number, signal: Signal): SignalResult => {
  try {
    process.kill(pid, signal)
    return "sent"
  } catch (error) {
    return codeOf(error) === "ESRCH" ? "gone" : "denied"
  }
}

/** Linux, as process proof sees it. */
export const system = (): System => {
  const self = { uid: process.getuid?.() ?? -1 }
  const counted = deviceOf("/proc/loadavg") === deviceOf("/proc")
  return {
    self: process.pid,
    environments: true,
    seconds: (start) => Number(start) / ticksPerSecond,
    table,
    newestPid: () => counted ? newestPid() : undefined,
    stat: readStat,
    environ: (pid) => readEnviron(self, pid),
    kill
  }
}
