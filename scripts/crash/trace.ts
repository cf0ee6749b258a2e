/**
 * Runs a program under strace, which kills it at a system call or has the call fail, and reads what strace wrote down.
 *
 * Only the main thread is traced: all that the library writes is written by it. A call at which the program is killed does
 * not happen, so that killing at each of them in turn leaves behind every state there is between them.
 */
import { spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"

/** The calls that change something outside of the program. */
export const changing = [
  "openat",
  "mkdir",
  "mkdirat",
  "write",
  "writev",
  "pwrite64",
  "rename",
  "renameat",
  "renameat2",
  "link",
  "linkat",
  "unlink",
  "unlinkat",
  "rmdir",
  "ftruncate",
  "fallocate",
  "chmod",
  "fchmod",
  "fchmodat",
  "fsync",
  "fdatasync",
  "clone",
  "clone3",
  "fork",
  "vfork",
  "kill"
]

/** Why there can be no sweep on this machine; undefined when there can. */
export const obstacle = (): string | undefined => {
  const version = spawnSync("strace", ["-V"], { stdio: "ignore" })
  if (version.error !== undefined) return "strace is missing; install it (Debian, Ubuntu: apt-get install strace)"
  const trial = spawnSync("strace", [
    "-o",
    "/dev/null",
    "-e",
    "trace=chdir",
    "-e",
    "inject=chdir:signal=SIGKILL",
    "env",
    "-C",
    "/",
    "true"
  ])
  return trial.signal === "SIGKILL" || trial.status === 137
    ? undefined
    : `strace can't trace here (${
      String(trial.stderr).trim().split("\n")[0] || "no kill"
    }); allow ptrace, as with docker run --cap-add=SYS_PTRACE`
}

export interface Point {
  readonly syscall: string
  /** The how-manieth call of this kind since the program began. */
  readonly at: number
  readonly phase: string
  /** What the call was about. */
  readonly detail: string
}

export interface Ran {
  readonly killed: boolean
  readonly code: number | null
  readonly lines: ReadonlyArray<string>
  readonly errors: string
  /** The calls in their order; the last one is where the program was killed, if it was. */
  readonly calls: ReadonlyArray<Point>
}

export interface Tracing {
  /** A file of strace's own. */
  readonly log: string
  readonly inject?: string | undefined
  readonly limitMillis?: number
  /** Called with each line that the program says. */
  readonly onLine?: (line: string, pid: number) => void
}

/** Runs a program with strace around it, to its end. */
export const run = (command: ReadonlyArray<string>, tracing: Tracing): Promise<Ran> => {
  const injection = tracing.inject === undefined ? [] : ["-e", `inject=${tracing.inject}`]
  const args = ["-o", tracing.log, "-y", "-s", "48", "-qq", "-e", "signal=none", "-e", `trace=${changing.join(",")}`]
  return runPlain(["strace", ...args, ...injection, ...command], tracing).then((ran) => ({
    ...ran,
    calls: parse(Fs.existsSync(tracing.log) ? Fs.readFileSync(tracing.log, "utf8") : "")
  }))
}

/** Runs a program without strace. */
export const runPlain = (
  [command = "", ...args]: ReadonlyArray<string>,
  options: Pick<Tracing, "limitMillis" | "onLine">
): Promise<Ran> =>
  new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] })
    const lines: Array<string> = []
    let rest = ""
    let errors = ""
    child.stdout.on("data", (chunk: Buffer) => {
      const parts = (rest + chunk.toString()).split("\n")
      rest = parts.pop() ?? ""
      lines.push(...parts)
      for (const line of parts) options.onLine?.(line, child.pid ?? 0)
    })
    child.stderr.on("data", (chunk: Buffer) => void (errors += chunk.toString()))
    const limit = setTimeout(() => {
      errors += "the sweep's limit of time was over"
      child.kill("SIGKILL")
    }, options.limitMillis ?? 60_000)
    child.on("exit", (code, signal) => {
      clearTimeout(limit)
      const end = () => {
        clearTimeout(late)
        child.stdout.destroy()
        child.stderr.destroy()
        resolve({ killed: signal === "SIGKILL" || code === 137, code, lines, errors, calls: [] })
      }
      // What it said last may still be in the pipe, which a tmux client that lives on may hold for longer.
      const late = setTimeout(end, 1000)
      child.once("close", end)
    })
  })

const callLine = /^(?:\d+ +)?([a-z0-9_]+)\((.*)$/
const toldLine = /^(?:\d+ +)?write\(1<[^>]*>, "([^"]*)\\n"/

/** The calls in a log, in their order. */
export const parse = (text: string): ReadonlyArray<Point> => {
  const counts = new Map<string, number>()
  const calls: Array<Point> = []
  let phase = "start"
  for (const line of text.split("\n")) {
    const told = toldLine.exec(line)?.[1]
    const [, syscall, detail = ""] = callLine.exec(line) ?? []
    if (syscall === undefined) continue
    const at = (counts.get(syscall) ?? 0) + 1
    counts.set(syscall, at)
    calls.push({ syscall, at, phase, detail })
    if (told !== undefined) phase = phaseOf(told)
  }
  return calls
}

/** The calls that any process of a traced tree makes, each once: strace counts for each process apart. */
export const perProcess = (text: string): ReadonlyArray<Point> => {
  const counts = new Map<string, number>()
  const calls = new Map<string, Point>()
  for (const line of text.split("\n")) {
    const [, syscall, detail = ""] = callLine.exec(line) ?? []
    if (syscall === undefined) continue
    const pid = /^\d+/.exec(line)?.[0] ?? ""
    const at = (counts.get(`${pid} ${syscall}`) ?? 0) + 1
    counts.set(`${pid} ${syscall}`, at)
    const key = `${syscall}#${at}`
    if (!calls.has(key)) calls.set(key, { syscall, at, phase: "session", detail })
  }
  return [...calls.values()]
}

/** Whether a call in a log never answered, since its program was killed at it. */
export const hasKilled = (text: string): boolean => /= \?$/m.test(text)

const phaseOf = (told: string): string =>
  told.startsWith("step ") ? told.slice("step ".length) : told.split(" ")[0] ?? told

/** Whether a call is the program's word to its control client: commands come in quotes, and nothing else that it writes does. */
export const isToClient = ({ detail, syscall }: Point): boolean =>
  syscall.startsWith("write") && /^\d+<(?:UNIX|socket|pipe)[^>]*>+, (?:\[\{iov_base=)?"'/.test(detail)

/** Whether a call changes something in the world at a root; the program's own pipes and its reading are left out. */
export const matters = (root: string, point: Point): boolean => {
  if (isToClient(point)) return true
  const { detail, syscall } = point
  switch (syscall) {
    case "openat":
      return detail.includes("O_CREAT") && detail.includes(root)
    case "write":
    case "writev":
      return detail.startsWith(`1<`) ? false : /^\d+<([^>]*)>/.exec(detail)?.[1]?.startsWith(root) ?? false
    default:
      return true
  }
}

/** What a call was about, in few words. */
export const about = (root: string, { detail }: Point): string => {
  const path = detail.slice(detail.indexOf(root) + root.length)
  return detail.includes(root) ? /^[^">]*/.exec(path)?.[0] ?? "" : detail.slice(0, 60)
}
