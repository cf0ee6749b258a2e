/**
 * Reads processes from the output of `ps`, for macOS and other systems without /proc.
 *
 * Each read is a child process with a limit of two seconds that is waited for synchronously, so that a signal follows
 * its confirmation in the same turn. Foreign environments can't be read this way. So membership rests on the stored
 * identities, and on what descends from them or shares their session or group.
 */
import { spawnSync } from "node:child_process"
import { kill } from "./ProcFs.ts"
import type { ProcessStat, System } from "./System.ts"

const columns = "pid=,ppid=,pgid=,sess=,stat=,lstart=,uid="

/** The columns are: four numbers, the state, a date of five words (`Sun Nov  2 09:15:01 2025`), the user's number. */
const row = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(\S+)\s+(\w{3} +\w{3} +\d+ +[\d:]{8} +\d{4})\s+(-?\d+)\s*$/

const parseRow = (line: string): ProcessStat | undefined => {
  const match = row.exec(line)
  if (match === null) return undefined
  const [, pid = "", ppid = "", pgid = "", session = "", state = "", lstart = ""] = match
  const start = lstart.replace(/ +/g, " ")
  return {
    pid: Number(pid),
    ppid: Number(ppid),
    pgid: Number(pgid),
    // Darwin prints 0, or an address in the kernel, where others print the session's id: that names no session.
    sid: /^\d+$/.test(session) ? Number(session) : 0,
    start,
    state: state.slice(0, 1),
    zombie: state.startsWith("Z"),
    kernel: pid === "0"
  }
}

/** Reads what `ps -axo pid=,ppid=,pgid=,sess=,stat=,lstart=,uid=` prints; a line that is none of it is passed over. */
export const parsePs = (text: string): ReadonlyArray<ProcessStat> =>
  text.split("\n").flatMap((line) => parseRow(line) ?? [])

const run = (args: ReadonlyArray<string>) =>
  spawnSync("ps", args, {
    encoding: "utf8",
    timeout: 2000,
    killSignal: "SIGKILL",
    maxBuffer: 64 * 1024 * 1024,
    // The date is words in the language of the caller and in its time zone; both would change what a start time reads.
    env: { PATH: "/bin:/usr/bin", LC_ALL: "C", TZ: "UTC" },
    stdio: ["ignore", "pipe", "ignore"]
  })

const table = (): ReadonlyArray<ProcessStat> | { readonly blind: string } => {
  const ps = run(["-axo", columns])
  if (ps.error !== undefined) return { blind: ps.error.message }
  const rows = parsePs(ps.stdout)
  return rows.length === 0 ? { blind: `ps exited with ${ps.status} and listed nothing` } : rows
}

const stat = (pid: number): ProcessStat | "gone" | "unreadable" => {
  const ps = run(["-p", String(pid), "-o", columns])
  if (ps.error !== undefined) return "unreadable"
  const found = parsePs(ps.stdout).find((candidate) => candidate.pid === pid)
  if (found !== undefined) return found
  // ps exits with 1 both when there is no such process and when it fails, so the kernel is asked as well.
  return kill(pid, 0) === "gone" ? "gone" : "unreadable"
}

/** A system with `ps` alone. */
export const system = (): System => ({
  self: process.pid,
  environments: false,
  seconds: (start) => Date.parse(`${start} UTC`) / 1000,
  table,
  newestPid: () => undefined,
  stat,
  environ: () => ({ _tag: "Foreign" }),
  kill
})
