/**
 * A machine in memory: processes, signals, sessions of tmux, launchers and agents, and restarts.
 *
 * The process table is seen through the `System` of each program that runs on it, so that process proof itself is the
 * real one. A launcher does what the script does, as far as others can see it: it opens its script a moment after its
 * session was made, and runs nothing if that is gone; it forwards HUP and TERM, and renames the state file once the agent
 * has ended. An agent's program is told by the comment at the end of its script.
 */
import { Target, Tmux, TmuxMemory, TmuxTimeout } from "@slipway/tmux"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { HostIdentity, ProcessIdentity } from "../../src/machine/Host.ts"
import type { EnvironRead, ProcessStat, Signal, SignalResult, System } from "../../src/machine/processes/System.ts"
import type { MemoryTime } from "./MemoryTime.ts"

export type Role = "program" | "server" | "launcher" | "agent" | "child" | "stranger"

/** A process of the machine, with what nobody can see from outside. */
export interface Process extends ProcessIdentity {
  readonly role: Role
  /** Whose it truly is, whatever its environment says. */
  readonly agentId: string | undefined
  readonly homeId: string | undefined
  readonly environ: EnvironRead
  readonly deaf: boolean
  readonly onEnd: (how: "KILL" | number) => void
  ppid: number
  readonly pgid: number
  readonly sid: number
  /** What a launcher runs once it has opened its script. */
  agent?: Process | undefined
  asked?: number | undefined
}

/** What can't be looked at for now. */
export type Sense = "tmux" | "table" | "environ" | "stat"

/** What agents do; the names stand in their scripts. */
export const behaviours = ["stay", "late0", "quick0", "quick1", "deaf", "forks", "orphans"] as const
export type Behaviour = (typeof behaviours)[number]

/** After how many milliseconds an agent ends by itself, and with which code. */
const exits: Partial<Record<Behaviour, readonly [millis: number, code: number]>> = {
  quick0: [50, 0],
  quick1: [50, 1],
  orphans: [50, 0],
  late0: [5000, 0]
}

export interface Hooks {
  /** A program sends a signal that may end a process. */
  readonly onSignal: (by: number, to: Process) => void
}

const machine = "machine-in-memory"
const plain: EnvironRead = { _tag: "Read", agentId: undefined, homeId: undefined }

export class MemoryMachine {
  readonly processes = new Map<number, Process>()
  readonly blind = new Set<Sense>()
  /** How many agents have ended by themselves. */
  ownEnds = 0
  private readonly time: MemoryTime
  private readonly hooks: Hooks
  private boots = 0
  private bootedAt = 0
  private lastPid = 100
  private newest = 0
  readonly memory: TmuxMemory.TmuxMemory
  readonly socket: Target.SocketPath

  constructor(time: MemoryTime, socket: Target.SocketPath, hooks: Hooks) {
    this.time = time
    this.hooks = hooks
    this.socket = socket
    this.memory = Effect.runSync(TmuxMemory.make({
      onNewSession: (session, { environment, script }) =>
        Effect.sync(() => {
          const server = this.processes.get(session.serverPid)
          if (server === undefined) this.add("server", { pid: session.serverPid })
          this.launch(session.panePid, environment, script, session.id, session.serverPid)
        }),
      onEndSession: (session) => Effect.sync(() => this.hangUp(session.panePid))
    }))
    this.add("stranger", {})
  }

  get identity(): HostIdentity {
    return { machine, boot: `boot-${this.boots}`, pidNamespace: "pid:[1]" }
  }

  /** Seconds since the last start of the machine. */
  get uptime(): number {
    return (this.time.now - this.bootedAt) / 1000 + 1
  }

  add(role: Role, more: Partial<Process>): Process {
    const pid = more.pid ?? ++this.lastPid
    const made: Process = {
      start: String(Math.round(this.uptime * 100)),
      role,
      agentId: undefined,
      homeId: undefined,
      environ: plain,
      deaf: false,
      onEnd: () => {},
      ppid: 1,
      pgid: pid,
      sid: pid,
      ...more,
      pid
    }
    this.processes.set(pid, made)
    this.newest = pid
    return made
  }

  /** Ends a process: its children become those of the first process, and who waits for it is told. */
  end(process: Process, how: "KILL" | number): void {
    if (this.processes.get(process.pid) !== process) return
    this.processes.delete(process.pid)
    for (const other of this.processes.values()) if (other.ppid === process.pid) other.ppid = 1
    process.onEnd(how)
  }

  /** Ends all of it at once, and starts anew: other pids, another boot, another boot clock. */
  restart(): void {
    this.processes.clear()
    this.boots++
    this.bootedAt = this.time.now
    this.lastPid = 100
    this.endServer()
    this.add("stranger", {})
  }

  /** Ends the tmux server, as a kill of it does: its sessions hang up. */
  endServer(): void {
    Effect.runSync(Effect.ignore(this.memory.endServer(this.socket)))
    for (const process of this.processes.values()) if (process.role === "server") this.processes.delete(process.pid)
  }

  /** The machine as a program on it sees it; one that is dead does nothing any more. */
  systemOf(program: Process): System {
    const self = program.pid
    const statOf = ({ pgid, pid, ppid, sid, start }: Process): ProcessStat => ({
      pid,
      ppid,
      pgid,
      sid,
      start,
      state: "S",
      zombie: false,
      kernel: false
    })
    return {
      self,
      environments: true,
      seconds: (start) => Number(start) / 100,
      table: () =>
        this.blind.has("table") ? { blind: "EACCES" } : Array.from(this.processes.values(), statOf).toReversed(),
      newestPid: () => this.newest,
      stat: (pid) => {
        const found = this.processes.get(pid)
        if (this.blind.has("stat") && pid !== self) return "unreadable"
        return found === undefined ? "gone" : statOf(found)
      },
      environ: (pid) => {
        const found = this.processes.get(pid)
        return found === undefined ? { _tag: "Gone" } : this.blind.has("environ") ? { _tag: "Denied" } : found.environ
      },
      kill: (id, signal) => this.processes.get(self) === program ? this.signalAll(self, id, signal) : "gone"
    }
  }

  private signalAll(by: number, id: number, signal: Signal): SignalResult {
    const found = Array.from(this.processes.values()).filter((each) => id > 0 ? each.pid === id : each.pgid === -id)
    if (found.length === 0) return "gone"
    if (signal !== 0 && signal !== "SIGCONT") {
      for (const process of found) {
        this.hooks.onSignal(by, process)
        this.signal(process, signal)
      }
    }
    return "sent"
  }

  /** What a signal does. */
  signal(process: Process, signal: "SIGTERM" | "SIGKILL" | "SIGHUP"): void {
    if (this.processes.get(process.pid) !== process) return
    if (signal === "SIGKILL") return this.end(process, "KILL")
    const code = signal === "SIGHUP" ? 129 : 143
    if (process.role === "launcher") {
      if (process.agent === undefined) process.asked = code
      else this.signal(process.agent, signal)
      return
    }
    // Who ignores TERM here ignores a hang-up too; a program in a session of its own gets none.
    if (!process.deaf && process.role !== "stranger") this.end(process, code)
  }

  /** tmux, as long as it can be asked. */
  get tmux(): Tmux["Service"] {
    const { tmux } = this.memory
    const asked = <A, E>(operation: string, effect: Effect.Effect<A, E>) =>
      Effect.suspend((): Effect.Effect<A, E | TmuxTimeout> =>
        this.blind.has("tmux") ? Effect.fail(new TmuxTimeout({ operation, millis: 10_000 })) : effect
      )
    return Tmux.of({
      version: tmux.version,
      server: (socket) => {
        const server = tmux.server(socket)
        return {
          socket,
          pid: asked("pid", server.pid),
          newSession: (options) => asked("new-session", server.newSession(options)),
          sessions: asked("list-sessions", server.sessions),
          session: (target) => asked("list-sessions", server.session(target)),
          environment: (target) => asked("show-environment", server.environment(target)),
          environments: asked("show-environment", server.environments),
          killSession: (target) => asked("kill-session", server.killSession(target)),
          endIdle: (idle) => asked("end-idle", server.endIdle(idle))
        }
      }
    })
  }

  private endSession(id: Target.SessionId, serverPid: number): void {
    Effect.runSync(Effect.ignore(this.memory.endSession(this.socket, Target.id(id, serverPid))))
  }

  // The first process of a pane gets the hang-up, and so does what has its terminal.
  private hangUp(panePid: number): void {
    const launcher = this.processes.get(panePid)
    const inSession = Array.from(this.processes.values()).filter((each) => each.sid === panePid && each !== launcher)
    if (launcher !== undefined) this.signal(launcher, "SIGHUP")
    for (const process of inSession) this.signal(process, "SIGHUP")
  }

  private launch(
    pid: number,
    environment: Readonly<Record<string, string>>,
    script: string,
    session: Target.SessionId,
    serverPid: number
  ): void {
    const directory = Path.dirname(script)
    const agentId = environment["SLIPWAY_AGENT_ID"]
    const homeId = environment["SLIPWAY_HOME_ID"]
    const environ: EnvironRead = { _tag: "Read", agentId, homeId }
    const owned = { agentId, homeId, environ }
    const ended = () => this.endSession(session, serverPid)
    const launcher = this.add("launcher", { ...owned, pid, ppid: serverPid, onEnd: ended })
    const record = (code: number) => {
      this.time.after(1, () => {
        if (this.processes.get(pid) !== launcher) return
        try {
          Fs.renameSync(Path.join(directory, "run.state"), Path.join(directory, `exit.${code}`))
        } catch {
          if (Fs.existsSync(directory)) Fs.writeFileSync(Path.join(directory, `exit.${code}`), "")
        }
        this.end(launcher, code)
      })
    }
    this.time.after(1, () => {
      if (this.processes.get(pid) !== launcher) return
      if (!Fs.existsSync(script)) return this.end(launcher, 127)
      const behaviour = behaviours.find((each) => Fs.readFileSync(script, "utf8").includes(`# ${each}'`)) ?? "stay"
      if (launcher.asked !== undefined) return record(launcher.asked)
      const agent = this.add("agent", {
        ...owned,
        ppid: pid,
        pgid: pid,
        sid: pid,
        deaf: behaviour === "deaf",
        onEnd: (how) => record(how === "KILL" ? 137 : how)
      })
      launcher.agent = agent
      if (behaviour === "forks" || behaviour === "orphans") this.add("child", { ...owned, ppid: agent.pid })
      const exit = exits[behaviour]
      if (exit !== undefined) {
        const [millis, code] = exit
        this.time.after(millis, () => {
          if (this.processes.get(agent.pid) !== agent) return
          this.ownEnds++
          this.end(agent, code)
        })
      }
      this.time.after(10, () => {
        if (this.processes.get(agent.pid) === agent && Fs.existsSync(directory)) {
          Fs.appendFileSync(Path.join(directory, "stdout.log"), "up\n")
        }
      })
    })
  }
}
