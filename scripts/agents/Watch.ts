/**
 * Watches the processes of one case, independently of how Slipway finds them. It knows a process by the directory of
 * the case, which each has in its environment or its arguments, and by descent from those, from their first sight on.
 *
 * The deployer's own processes name that directory too, since the home's socket is in it. They are no part of the case:
 * neither what descends from the deployer, nor the home's tmux, whose server leaves that descent. An agent descends
 * from the server.
 *
 * What one reading of the process table finds is kept by pid and start time, so that a process stays known when it is
 * given to another parent or wipes its environment. A process that comes and goes between two readings is not seen.
 * Linux alone.
 */
import * as Fs from "node:fs"

export interface Process {
  readonly pid: number
  readonly parent: number
  readonly session: number
  readonly start: string
  readonly isZombie: boolean
  readonly name: string
  readonly argv: string
}

const read = (path: string): string | undefined => {
  try {
    return Fs.readFileSync(path, "utf8")
  } catch {
    return undefined
  }
}

/** One process, as it is now. */
export const inspect = (pid: number): Process | undefined => {
  const stat = read(`/proc/${pid}/stat`)
  const argv = read(`/proc/${pid}/cmdline`)
  if (stat === undefined || argv === undefined) return undefined
  // The name stands in parentheses and may hold any character.
  const end = stat.lastIndexOf(")")
  const fields = stat.slice(end + 2).split(" ")
  const field = (number: number) => fields[number - 3] ?? ""
  return {
    pid,
    parent: Number(field(4)),
    session: Number(field(6)),
    start: field(22),
    isZombie: field(3) === "Z" || field(3) === "X",
    name: stat.slice(stat.indexOf("(") + 1, end),
    argv: argv.replaceAll("\0", " ")
  }
}

const kill = (pid: number) => {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It has just ended by itself.
  }
}

const table = (): ReadonlyMap<number, Process> =>
  new Map(
    Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((name) => {
      const process = inspect(Number(name))
      return process === undefined ? [] : [[process.pid, process]]
    })
  )

// It names itself "tmux: client" or "tmux: server" soon after its start.
const isTmux = ({ name }: Process) => /^tmux(: |$)/.test(name)

const identity = ({ pid, start }: Process) => `${pid}:${start}`

export interface Watch {
  readonly look: () => void
  /** Every process of the case that lives, after one more reading. */
  readonly alive: () => ReadonlyArray<Process>
  /** Kills what `alive` finds, so that not even a failed case leaves a process. */
  readonly end: () => void
  /** How many processes the case has had. */
  readonly seen: () => number
  /** The argument lists in which a forbidden text was seen. */
  readonly exposed: () => ReadonlyArray<string>
  /** The living children of a process. */
  readonly children: (pid: number) => ReadonlyArray<Process>
}

export interface Options {
  /** What must not stand in any argument list. */
  readonly forbidden?: ReadonlyArray<string>
  /** The program that deploys, and the socket of its home; without it all that starts counts. */
  readonly deployer?: { readonly pid: number; readonly socket: string }
}

const descends = (process: Process, ancestor: number, now: ReadonlyMap<number, Process>): boolean => {
  for (let at: Process | undefined = process; at !== undefined; at = now.get(at.parent)) {
    if (at.parent === ancestor) return true
  }
  return false
}

/** Watches what starts from now on. */
export const make = (directory: string, { deployer, forbidden = [] }: Options = {}): Watch => {
  const strangers = new Set([...table().values()].map(identity))
  const members = new Set<string>()
  const exposed = new Set<string>()

  const isDeployers = (process: Process, now: ReadonlyMap<number, Process>) =>
    deployer !== undefined &&
    (descends(process, deployer.pid, now) || isTmux(process) && process.argv.includes(deployer.socket))

  const look = () => {
    const now = table()
    for (const process of now.values()) if (isDeployers(process, now)) strangers.add(identity(process))
    const news = [...now.values()].filter((process) => !strangers.has(identity(process)))
    for (const { argv } of news) if (forbidden.some((text) => argv.includes(text))) exposed.add(argv.slice(0, 200))
    const candidates = news.filter(({ isZombie }) => !isZombie)
    let found = true
    while (found) {
      found = false
      for (const process of candidates) {
        if (members.has(identity(process))) continue
        const parent = now.get(process.parent)
        const isChild = parent !== undefined && members.has(identity(parent))
        if (
          isChild || process.argv.includes(directory) ||
          (read(`/proc/${process.pid}/environ`) ?? "").includes(directory)
        ) {
          members.add(identity(process))
          found = true
        }
      }
    }
  }

  const alive = () => {
    look()
    return [...table().values()].filter((process) => !process.isZombie && members.has(identity(process)))
  }

  return {
    look,
    alive,
    end: () => {
      for (const { pid, start } of alive()) if (inspect(pid)?.start === start) kill(pid)
    },
    seen: () => members.size,
    exposed: () => [...exposed],
    children: (pid) => [...table().values()].filter(({ isZombie, parent }) => parent === pid && !isZombie)
  }
}
