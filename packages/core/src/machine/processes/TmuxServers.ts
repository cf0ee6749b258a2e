/**
 * The tmux servers that were started on a socket, found by their marks in /proc: also one whose socket was removed,
 * which no tmux client reaches any more.
 *
 * A server is taken for one of the socket when it bears the name that tmux gives its servers and was started with `-S`
 * and just this path. It also belongs to this user, pid namespace, mount namespace and root directory: the same path in
 * a container is another socket. What can't be read is no server. All calls are synchronous, so that a server is
 * confirmed and signalled in one turn. Linux alone: elsewhere there are none.
 */
import * as Fs from "node:fs"
import * as Proc from "./Proc.ts"
import * as ProcFs from "./ProcFs.ts"
import type { SignalResult } from "./System.ts"

export interface ServerProcess {
  readonly pid: number
  /** Its start time as the system writes it, and in seconds since the boot. */
  readonly start: string
  readonly startSeconds: number
  /** Whether it has a child, as for each session that runs something, or a client, or does not let that be seen. */
  readonly isBusy: boolean
}

const name = "(tmux: server)"

const read = (path: string): string => Proc.text(path) ?? ""

const fileAt = (path: string): string | undefined =>
  Proc.attempt(() => {
    const { dev, ino } = Fs.statSync(path)
    return `${dev}:${ino}`
  })

const isSame = <A>(one: A | undefined, other: A | undefined): boolean => one !== undefined && one === other

/** Whether a process of which tmux said that it is the server is a tmux: where the name can't be set, it is the program's. */
export const isTmux = (pid: number): boolean => read(`/proc/${pid}/comm`).startsWith("tmux")

/** Whether the process sees the same files, processes and users as this one. */
const isHere = (pid: number): boolean =>
  ["mnt", "pid", "user"].every((kind) =>
    isSame(Proc.link(`/proc/${pid}/ns/${kind}`), Proc.link(`/proc/self/ns/${kind}`))
  ) &&
  isSame(fileAt(`/proc/${pid}/root/`), fileAt("/")) &&
  isSame(/^Uid:\s+(\d+)/m.exec(read(`/proc/${pid}/status`))?.[1], String(process.getuid?.()))

const isOn = (pid: number, socket: string): boolean => {
  const words = read(`/proc/${pid}/cmdline`).split("\0")
  return words[words.indexOf("-S") + 1] === socket && words.includes("-S")
}

/** The sockets of the connections that were made to a path, by inode. */
const connectionsTo = (socket: string): ReadonlySet<string> => {
  const found = new Set<string>()
  for (const line of read("/proc/self/net/unix").split("\n")) {
    const [, state, inode, path] = /^\S+ \S+ \S+ \S+ \S+ (\S+)\s+(\d+) (.*)$/.exec(line) ?? []
    if (path === socket && state === "03" && inode !== undefined) found.add(`socket:[${inode}]`)
  }
  return found
}

const hasClient = (pid: number, socket: string): boolean => {
  const connections = connectionsTo(socket)
  const descriptors = Proc.names(`/proc/${pid}/fd`)
  return descriptors?.some((descriptor) => {
    const target = Proc.link(`/proc/${pid}/fd/${descriptor}`)
    return target !== undefined && connections.has(target)
  }) ?? true
}

/** The servers that were started on a socket. */
export const startedOn = (socket: string): ReadonlyArray<ServerProcess> => {
  if (process.platform !== "linux") return []
  const servers: Array<ProcFs.StatLine> = []
  const parents = new Set<number>()
  for (const entry of Proc.names("/proc") ?? []) {
    if (!/^\d+$/.test(entry)) continue
    const text = read(`/proc/${entry}/stat`)
    const stat = ProcFs.parseStat(text)
    if (stat === undefined || stat.thread || stat.zombie) continue
    parents.add(stat.ppid)
    if (text.startsWith(`${stat.pid} ${name} `) && isOn(stat.pid, socket) && isHere(stat.pid)) servers.push(stat)
  }
  return servers.map(({ pid, start }) => ({
    pid,
    start,
    startSeconds: Number(start) / ProcFs.ticksPerSecond,
    isBusy: parents.has(pid) || hasClient(pid, socket)
  }))
}

/** Ends a server by TERM, unless it is another process by now or has become busy. */
export const end = (server: ServerProcess, socket: string): SignalResult => {
  const now = startedOn(socket).find(({ pid, start }) => pid === server.pid && start === server.start)
  return now === undefined ? "gone" : now.isBusy ? "denied" : ProcFs.kill(now.pid, "SIGTERM")
}

/** How tmux servers are found among the processes; each call is synchronous. */
export interface TmuxServers {
  readonly isTmux: (pid: number) => boolean
  readonly startedOn: (socket: string) => ReadonlyArray<ServerProcess>
  readonly end: (server: ServerProcess, socket: string) => SignalResult
}

/** Those of this machine. */
export const ofThisMachine: TmuxServers = { isTmux, startedOn, end }
