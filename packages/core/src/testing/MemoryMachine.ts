/**
 * A machine in memory: processes, signals, sessions of tmux, launchers and agents, and restarts.
 *
 * The process table is seen through the `System` of each program that runs on it, so that process proof itself is the
 * real one. A launcher does what the script does, as far as others can see it: it opens its script a moment after its
 * session was made, and runs nothing if that is gone; it forwards HUP and TERM, and renames the state file once the agent
 * has ended. What the agent does is its `Script`.
 */
import { type NewSession, Target, Tmux, TmuxMemory, TmuxTimeout } from "@slipway/tmux"
import { Effect } from "effect"
import * as Path from "node:path"
import type { HostIdentity, ProcessIdentity } from "../machine/Host.ts"
import * as Layout from "../machine/Layout.ts"
import type { EnvironRead, ProcessStat, Signal, SignalResult, System } from "../machine/processes/System.ts"
import type { Disk } from "./Disk.ts"
import type { Script } from "./Script.ts"
import type { Timer } from "./Timer.ts"

export type Role = "program" | "server" | "launcher" | "agent" | "child" | "stranger"

/** A process of the machine, with what nobody can see from outside. */
export interface Process extends ProcessIdentity {
  readonly role: Role
  /** Whose it truly is, whatever its environment says. */
  readonly agentId: string | undefined
  readonly homeId: string | undefined
  readonly environ: EnvironRead
  /** It takes no notice of TERM and HUP. */
  deaf: boolean
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

/** An agent that is about to begin. */
export interface Beginning {
  readonly agentId: string | undefined
  readonly homeId: string | undefined
  /** Its launcher's text. */
  readonly launcher: string
}

export interface Setup {
  readonly timer: Timer
  readonly disk: Disk
  readonly socket: Target.SocketPath
  /** What an agent does. */
  readonly scriptOf: (beginning: Beginning) => Script
  /** A program sends a signal that may end a process. */
  readonly onSignal?: ((by: number, to: Process) => void) | undefined
}

const machine = "machine-in-memory"
const plain: EnvironRead = { _tag: "Read", agentId: undefined, homeId: undefined }

export class MemoryMachine {
  readonly processes = new Map<number, Process>()
  readonly blind = new Set<Sense>()
  /** How many agents have ended by themselves. */
  ownEnds = 0
  private readonly timer: Timer
  private readonly disk: Disk
  private readonly setup: Setup
  private boots = 0
  private bootedAt: number
  private lastPid = 100
  private newest = 0
  readonly memory: TmuxMemory.TmuxMemory
  readonly socket: Target.SocketPath

  constructor(setup: Setup) {
    this.setup = setup
    this.timer = setup.timer
    this.disk = setup.disk
    this.socket = setup.socket
    this.bootedAt = setup.timer.now
    this.memory = Effect.runSync(TmuxMemory.make({
      onNewSession: (session, { environment, script }) =>
        Effect.sync(() => {
          const server = this.processes.get(session.serverPid)
          if (server === undefined) {
            this.add("server", { pid: session.serverPid })
            this.disk.bind(this.socket)
          }
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
    return (this.timer.now - this.bootedAt) / 1000 + 1
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
    this.bootedAt = this.timer.now
    this.lastPid = 100
    this.endServer()
    this.add("stranger", {})
  }

  /** Ends the tmux server, as a kill of it does: its sessions hang up. */
  endServer(): void {
    Effect.runSync(Effect.ignore(this.memory.endServer(this.socket)))
    this.dropServer()
  }

  private dropServer(): void {
    for (const process of this.processes.values()) if (process.role === "server") this.processes.delete(process.pid)
    this.disk.remove(this.socket)
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
        this.setup.onSignal?.(by, process)
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
          endIdle: (idle) =>
            Effect.tap(
              asked("end-idle", server.endIdle(idle)),
              (ended) => ended ? Effect.sync(() => this.dropServer()) : Effect.void
            )
        }
      }
    })
  }

  /** A tmux client that nobody waits for makes a session. */
  newSession(asked: NewSession): void {
    Effect.runSync(Effect.ignore(this.memory.tmux.server(this.socket).newSession(asked)))
  }

  /** The sessions that are there, with the agents that they bear. */
  sessions(): ReadonlyArray<
    { readonly name: string; readonly agentId: string | undefined; readonly homeId: string | undefined }
  > {
    const all = Effect.runSync(Effect.orElseSucceed(this.memory.tmux.server(this.socket).environments, () => []))
    return all.map(({ environment, session }) => ({
      name: session.name,
      agentId: environment[Layout.agentMarker],
      homeId: environment[Layout.homeMarker]
    }))
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
    const agentId = environment[Layout.agentMarker]
    const homeId = environment[Layout.homeMarker]
    const environ: EnvironRead = { _tag: "Read", agentId, homeId }
    const owned = { agentId, homeId, environ }
    const ended = () => this.endSession(session, serverPid)
    const launcher = this.add("launcher", { ...owned, pid, ppid: serverPid, onEnd: ended })
    const record = (code: number) => {
      this.timer.after(1, () => {
        if (this.processes.get(pid) !== launcher) return
        const exit = Path.join(directory, `${Layout.exitPrefix}${code}`)
        const isRenamed = this.disk.rename(Path.join(directory, Layout.stateFile), exit)
        if (!isRenamed && this.disk.exists(directory)) this.disk.write(exit, "")
        this.end(launcher, code)
      })
    }
    this.timer.after(1, () => {
      if (this.processes.get(pid) !== launcher) return
      const text = this.disk.text(script)
      if (text === undefined) return this.end(launcher, 127)
      if (launcher.asked !== undefined) return record(launcher.asked)
      const agent = this.add("agent", {
        ...owned,
        ppid: pid,
        pgid: pid,
        sid: pid,
        onEnd: (how) => record(how === "KILL" ? 137 : how)
      })
      launcher.agent = agent
      const stderr = Path.join(directory, Layout.stderrFile)
      if (!this.disk.exists(stderr)) this.disk.write(stderr, "")
      this.perform(agent, directory, this.setup.scriptOf({ agentId, homeId, launcher: text }))
    })
  }

  /** Carries out what is left of an agent's script, as long as it lives. */
  private perform(agent: Process, directory: string, script: Script): void {
    for (const [index, act] of script.entries()) {
      switch (act._tag) {
        case "Says":
          this.disk.append(
            Path.join(directory, act.stream === "stdout" ? Layout.stdoutFile : Layout.stderrFile),
            act.text
          )
          break
        case "After":
          this.timer.after(act.millis, () => {
            if (this.processes.get(agent.pid) === agent) this.perform(agent, directory, script.slice(index + 1))
          })
          return
        case "Exits":
          return this.endByItself(agent, act.code)
        case "Hangs":
          return
        case "IgnoresTerm":
          agent.deaf = true
          break
        case "Starts": {
          const { agentId, environ, homeId, pgid, pid, sid } = agent
          const apart = act.leavesSession ? {} : { pgid, sid }
          this.add("child", { agentId, environ, homeId, ppid: pid, ...apart })
          break
        }
      }
    }
    this.endByItself(agent, 0)
  }

  private endByItself(agent: Process, code: number): void {
    this.ownEnds++
    this.end(agent, code)
  }
}
