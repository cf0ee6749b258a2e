/** What the tests of process proof share: real programs with a marker, and an operating system in memory. */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import type { ProcessIdentity } from "../src/machine/Host.ts"
import * as ProcFs from "../src/machine/processes/ProcFs.ts"
import type { EnvironRead, ProcessStat, Signal, SignalResult, System } from "../src/machine/processes/System.ts"
import { ProcessTree } from "../src/machine/ProcessTree.ts"

export const linux = ProcFs.system()

const basic = { PATH: process.env.PATH ?? "/usr/bin:/bin" }

/** The identity of a process that lives now. */
export const identify = (pid: number): ProcessIdentity => {
  const stat = linux.stat(pid)
  if (typeof stat === "string") throw new Error(`process ${pid} is ${stat}`)
  return { pid, start: stat.start }
}

/** Whether exactly this process lives. */
export const lives = ({ pid, start }: ProcessIdentity): boolean => {
  const stat = linux.stat(pid)
  return typeof stat !== "string" && stat.start === start && !stat.zombie
}

let counter = 0
/** An agent id that no other test bears. */
export const newAgentId = (): string => `test-${process.pid}-${counter++}`

/** Polls until the condition holds; the test's own limit bounds it. */
export const eventually = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => condition() ? Effect.void : Effect.andThen(Effect.sleep("2 millis"), eventually(condition)))

export const temporary = Effect.acquireRelease(
  Effect.sync(() => Fs.mkdtempSync(Path.join(Os.tmpdir(), "slipway-processes-"))),
  (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
)

export interface Started {
  readonly child: ChildProcess
  readonly root: ProcessIdentity
  /** The processes that the script named by lines `pid N`, in that order. */
  readonly named: ReadonlyArray<ProcessIdentity>
}

const killNow = (identity: ProcessIdentity) => {
  if (lives(identity)) linux.kill(identity.pid, "SIGKILL")
}

/**
 * Runs a script of sh until it says `ready`. When the test ends, all that bears the agent's id is killed, and all that the
 * script named.
 */
export const start = Effect.fnUntraced(function*(options: {
  readonly script: string
  readonly agentId?: string
  readonly env?: Record<string, string>
  readonly args?: ReadonlyArray<string>
  readonly detached?: boolean
}): Effect.fn.Return<Started, never, Scope.Scope> {
  const marker = options.agentId === undefined ? {} : { SLIPWAY_AGENT_ID: options.agentId }
  const seen: Array<ProcessIdentity> = []
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn("sh", ["-c", options.script, "sh", ...options.args ?? []], {
        detached: options.detached ?? true,
        stdio: ["ignore", "pipe", "ignore"],
        env: { ...basic, ...marker, ...options.env }
      })
      if (child.pid !== undefined) seen.push(identify(child.pid))
      return child
    }),
    (child) =>
      Effect.gen(function*() {
        for (let round = 0; round < 50; round++) {
          seen.forEach(killNow)
          const { bearers } = yield* ProcessTree.make(linux).snapshot
          const left = bearers.filter((bearer) => bearer.agentId === options.agentId && options.agentId !== undefined)
          left.forEach(killNow)
          if (left.length === 0 && !seen.some(lives)) break
          yield* Effect.sleep("2 millis")
        }
        child.stdout?.destroy()
      }).pipe(Effect.ignoreCause)
  )
  yield* Effect.callback<void>((resume) => {
    let text = ""
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString()
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        const line = text.slice(0, end)
        text = text.slice(end + 1)
        if (line.startsWith("pid ")) seen.push(identify(Number(line.slice(4))))
        if (line === "ready") resume(Effect.void)
      }
    })
  })
  const [root, ...named] = seen
  if (root === undefined) return yield* Effect.die("sh did not start")
  return { child, root, named }
})

/** A row of a process table in memory. */
export interface Row extends Partial<ProcessStat> {
  readonly start: string
  readonly environ?: EnvironRead
  /** What a signal does to the row; by default any but 0 and CONT removes it. */
  readonly onSignal?: (signal: Signal) => SignalResult
}

/** The environment of a process that bears an id. */
export const bearing = (agentId: string, homeId?: string): EnvironRead => ({ _tag: "Read", agentId, homeId })

/** An operating system in memory, which records every signal but 0. The test runs as pid 2, a child of 1. */
export const fakeSystem = (init: Record<number, Row>) => {
  const rows = new Map<number, Row>(Object.entries(init).map(([pid, row]) => [Number(pid), row]))
  rows.set(1, { start: "1", ppid: 0 })
  rows.set(2, { start: "2", ppid: 1 })
  const sent: Array<readonly [pid: number, signal: Signal]> = []
  const calls = { table: 0 }
  const statOf = (pid: number, row: Row): ProcessStat => ({
    pid,
    ppid: 1,
    pgid: pid,
    sid: pid,
    state: "S",
    zombie: false,
    kernel: false,
    ...row
  })
  const signalOne = (pid: number, row: Row, signal: Signal): SignalResult => {
    if (row.onSignal !== undefined) return row.onSignal(signal)
    if (signal === "SIGTERM" || signal === "SIGKILL") rows.delete(pid)
    return "sent"
  }
  const system: System = {
    self: 2,
    environments: true,
    seconds: (start) => Number(start) / 100,
    table: () => {
      calls.table++
      return Array.from(rows, ([pid, row]) => statOf(pid, row))
    },
    newestPid: () => Math.max(...rows.keys()),
    stat: (pid) => {
      const row = rows.get(pid)
      return row === undefined ? "gone" : statOf(pid, row)
    },
    environ: (pid) => rows.get(pid)?.environ ?? { _tag: "Read", agentId: undefined, homeId: undefined },
    kill: (pid, signal) => {
      if (signal !== 0) sent.push([pid, signal])
      const targets = Array.from(rows).filter(([at, row]) => pid > 0 ? at === pid : statOf(at, row).pgid === -pid)
      const results = targets.map(([at, row]) => signalOne(at, row, signal))
      return results.length === 0 ? "gone" : results.includes("sent") ? "sent" : "denied"
    }
  }
  return { system, rows, sent, calls, tree: ProcessTree.make(system) }
}

/** How many directories this process watches, by the kernel's own word. */
export const watched = (): number =>
  Fs.readdirSync("/proc/self/fdinfo").flatMap((fd) => {
    try {
      return Fs.readFileSync(`/proc/self/fdinfo/${fd}`, "utf8").split("\n").filter((line) => line.startsWith("inotify"))
    } catch {
      return []
    }
  }).length
