/**
 * A world in memory that a history runs in: two homes on one tmux socket, and programs that come and go.
 *
 * Each step is carried out by a program of its own, with a pid, a facade and services of its own, as a command has them.
 * A program can be frozen, interrupted or killed at any of its calls: a killed one runs nothing any more, no finalizer
 * either. The registries are real ones on real SQLite, the files are real ones in memory, the processes and tmux are the
 * machine's. Whatever a program does to an agent is assessed in the moment in which it does it, from what is truly so.
 */
import { CleanupReport, DeployError, type DeployInput, type ReapPlan, Slipway } from "@slipway/core"
import { type NewSession, Target, Tmux, type TmuxServer } from "@slipway/tmux"
import {
  Cause,
  Clock,
  Context,
  Deferred,
  Effect,
  Exit,
  type Fiber,
  Layer,
  Logger,
  Option,
  Predicate,
  Random,
  Schema
} from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { Agent, type State } from "../../src/agent/Agent.ts"
import type { Task } from "../../src/agent/Task.ts"
import { Home } from "../../src/home/Home.ts"
import { Files } from "../../src/machine/Files.ts"
import { Host } from "../../src/machine/Host.ts"
import { ProcessTree } from "../../src/machine/ProcessTree.ts"
import { Counters } from "../../src/registry/Counters.ts"
import { EventLog } from "../../src/registry/EventLog.ts"
import { Ledger } from "../../src/registry/Ledger.ts"
import * as SqliteRegistry from "../../src/registry/sqlite/SqliteRegistry.ts"
import { Disk } from "../../src/testing/Disk.ts"
import * as Gate from "../../src/testing/Gate.ts"
import { MemoryMachine, type Process } from "../../src/testing/MemoryMachine.ts"
import { makeTask } from "../rows.ts"
import {
  behaviourIn,
  behaviourOf,
  type Course,
  courseOf,
  describe,
  performed,
  scriptOf,
  senseOf,
  type Step
} from "./HistorySteps.ts"
import { MemoryTime } from "./MemoryTime.ts"
import { type Whole, wholeOf } from "./Registry.ts"

/** What a home may hold at once, and each of its tasks. */
export const limits = { home: 3, task: { maxAgents: 6, maxConcurrent: 2, maxDepth: 2 } }

const tables = ["tasks", "agents", "events"] as const
type Snapshot = ReadonlyMap<string, ReadonlyArray<Record<string, null | number | bigint | string | Uint8Array>>>

type Findings = ReadonlyArray<{ readonly kind: string; readonly evidence: string }>

/** What outlives a history: opening a registry takes longer than most histories. */
export interface Store {
  readonly root: string
  readonly registries: ReadonlyArray<Whole>
  readonly databases: ReadonlyArray<DatabaseSync>
}

/** Two registries in a directory that is kept in memory, if the machine has one. */
export const store = Effect.gen(function*() {
  const base = Fs.existsSync("/dev/shm") ? "/dev/shm" : "/tmp"
  const root = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(base, "slipway-histories-"))),
    (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
  )
  const open = Effect.fnUntraced(function*(index: number) {
    const path = Path.join(root, `registry-${index}.db`)
    const built = yield* Layer.build(Layer.fresh(SqliteRegistry.layer({ path })))
    const database = yield* Effect.acquireRelease(
      Effect.sync(() => new DatabaseSync(path)),
      (database) => Effect.sync(() => database.close())
    )
    Fs.chmodSync(path, 0o600)
    return { registry: wholeOf(built), database }
  })
  const opened = [yield* open(0), yield* open(1)]
  const made: Store = {
    root,
    registries: opened.map(({ registry }) => registry),
    databases: opened.map(({ database }) => database)
  }
  return made
})

export interface MemoryHome {
  readonly index: number
  readonly id: string
  readonly service: Home["Service"]
  readonly registry: Whole
  readonly database: DatabaseSync
  readonly tasks: ReadonlyArray<Task>
  saved: Snapshot | undefined
  plan: ReapPlan | undefined
}

export interface Program {
  readonly label: string
  kind: Step["_tag"]
  readonly home: MemoryHome
  readonly process: Process
  readonly course: Course
  readonly at: number
  readonly random: string
  readonly strays: Set<string>
  readonly admitted: Set<string>
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  state: "running" | "frozen" | "resident" | "dead" | "done"
  exit: Exit.Exit<unknown, unknown> | undefined
  calls: number
  thaw: Deferred.Deferred<void>
  /** The registry was changed under its feet. */
  excused: boolean
  blinded: boolean
}

const AgentJson = Schema.fromJsonString(Agent)
const decodeAgent = Schema.decodeUnknownSync(AgentJson)
const decoded = new Map<string, Agent>()

/** A row, decoded once. */
const agentOf = (document: string): Agent => {
  const known = decoded.get(document)
  if (known !== undefined) return known
  if (decoded.size > 5000) decoded.clear()
  const agent = decodeAgent(document)
  decoded.set(document, agent)
  return agent
}

const allowed: Readonly<Record<State["_tag"], ReadonlyArray<State["_tag"]>>> = {
  deploying: ["deploying", "running", "ending", "rolled-back"],
  running: ["running", "ending"],
  ending: ["ending", "exited", "stopped", "lost", "rolled-back"],
  exited: ["exited"],
  stopped: ["stopped"],
  lost: ["lost"],
  "rolled-back": ["rolled-back"]
}

export class HistoryWorld {
  readonly time: MemoryTime
  readonly disk: Disk
  readonly machine: MemoryMachine
  readonly homes: ReadonlyArray<MemoryHome>
  readonly project: string
  readonly root: string
  readonly store: Store
  readonly programs: Array<Program> = []
  readonly problems: Array<string> = []
  readonly counts: Map<string, number>
  private steps = 0

  constructor(store: Store, counts: Map<string, number> = new Map()) {
    this.store = store
    this.counts = counts
    this.time = new MemoryTime(Date.UTC(2026, 0, 2, 3, 4, 5))
    this.disk = new Disk(() => this.time.wall + this.time.now)
    this.root = "/history"
    this.project = Path.join(this.root, "project")
    this.disk.makeDirectories(this.project)
    const socket = Target.SocketPath.make(Path.join(this.root, "tmux.sock"))
    this.machine = new MemoryMachine({
      timer: this.time,
      disk: this.disk,
      socket,
      scriptOf: ({ launcher }) => performed[behaviourIn(launcher)],
      onSignal: (by, to) => this.judgeTouch(this.programOf(by), "signals", to.agentId, to.homeId, to.role)
    })
    this.homes = store.registries.map((registry, index) => {
      const directory = Path.join(this.root, `home-${index}`)
      const agents = Path.join(directory, "agents")
      this.disk.makeDirectories(agents)
      const registryPath = Path.join(directory, "registry.db")
      this.disk.write(registryPath, "elsewhere")
      const database = store.databases[index] ?? unreachable()
      database.exec("DELETE FROM events; DELETE FROM agents; DELETE FROM tasks")
      const id = `00000000000${index}`
      return {
        index,
        id,
        service: Home.of({
          id,
          directory,
          registry: registryPath,
          socket,
          agents,
          hasOwnSocket: false,
          limits: Effect.succeed({ maxActive: limits.home }),
          limit: Effect.succeed({ maxActive: limits.home, ofCaller: false }),
          recorded: Effect.succeed(() => true),
          record: () => Effect.void,
          recordLimits: () => Effect.void,
          agentDirectory: (agentId) => Path.join(agents, agentId)
        }),
        registry,
        database,
        tasks: [0, 1].map(() => makeTask({ project: this.project, limits: limits.task })),
        saved: undefined,
        plan: undefined
      }
    })
  }

  count(what: string): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1)
  }

  problem(text: string): void {
    this.problems.push(text)
  }

  rows(home: MemoryHome): ReadonlyArray<Agent> {
    return home.database.prepare("SELECT document FROM agents ORDER BY created_at, id").all()
      .map((row) => agentOf(String(row["document"])))
  }

  row(home: MemoryHome, id: string): Agent | undefined {
    const row = home.database.prepare("SELECT document FROM agents WHERE id = ?").get(id)
    return row === undefined ? undefined : agentOf(String(row["document"]))
  }

  /** The processes of an agent that live; an agent of the other home may have drawn the same id. */
  living(home: MemoryHome, id: string): ReadonlyArray<Process> {
    return Array.from(this.machine.processes.values()).filter((each) => each.agentId === id && each.homeId === home.id)
  }

  isAlive({ pid, start }: { readonly pid: number; readonly start: string }, boot: string): boolean {
    return boot === this.machine.identity.boot && this.machine.processes.get(pid)?.start === start
  }

  /** Whether the deployer of a row lives, and its lease has not run out. */
  isHeld({ lease }: Agent): boolean {
    return lease !== null && this.isAlive(lease.holder, lease.host.boot) && this.machine.uptime <= lease.expiresAt
  }

  private programOf(pid: number): Program | undefined {
    return this.programs.find((program) =>
      program.process.pid === pid && program.state !== "done" && program.state !== "dead"
    )
  }

  /** Assesses what a program does to something of an agent. */
  private judgeTouch(
    by: Program | undefined,
    how: string,
    id: string | undefined,
    homeId: string | undefined,
    what: string
  ) {
    if (by === undefined) return this.problem(`somebody unknown ${how} a ${what}`)
    if (id === undefined) return this.problem(`${by.label} ${how} a ${what} that is nobody's`)
    if (homeId !== by.home.id) return this.problem(`${by.label} ${how} a ${what} of the other home`)
    if (by.admitted.has(id) || by.excused) return
    const row = this.row(by.home, id)
    if (row === undefined) {
      if (!by.strays.has(id)) this.problem(`${by.label} ${how} a ${what} of the stray ${id}, which nobody asked for`)
      return
    }
    const { _tag } = row.state
    if (_tag === "running" || _tag === "deploying") {
      this.problem(`${by.label} ${how} a ${what} of ${id}, which is ${_tag} and was not claimed`)
    }
  }

  /** Assesses a change of a row. */
  private judgeTransition(by: Program, before: Agent, after: Agent): void {
    const [from, to] = [before.state._tag, after.state._tag]
    if (!allowed[from].includes(to)) this.problem(`${by.label} turned ${before.id} from ${from} to ${to}`)
    if (to === "running" && from === "deploying" && !by.admitted.has(before.id)) {
      this.problem(`${by.label} committed ${before.id}, which it has not deployed`)
    }
    const claims = to === "ending" && from !== "ending"
    if (!claims || by.kind === "Stop" || by.admitted.has(before.id)) return
    if (from === "deploying") {
      if (this.isHeld(before)) this.problem(`${by.label} took over ${before.id}, whose deployer is at work`)
      return
    }
    const { owner, running } = before
    const isOver = this.isRecorded(before) || running?.host.boot !== this.machine.identity.boot ||
      this.living(by.home, before.id).length === 0 || (owner !== null && !this.isAlive(owner.holder, owner.host.boot))
    if (!isOver) this.problem(`${by.label} ended ${before.id}, which is alive`)
  }

  /** Whether the agent's exit record was written. */
  isRecorded(agent: Agent): boolean {
    return this.listed(agent.plan.directory).some((name) => name.startsWith("exit."))
  }

  listed(path: string): ReadonlyArray<string> {
    return this.disk.names(path)
  }

  /** Assesses a change of a file. */
  private judgeFile(by: Program, operation: string, path: string): void {
    const slipway = Path.join(this.project, ".slipway")
    const tasks = by.home.tasks.map((task) => Path.join(slipway, task.id))
    const isOwn = [by.home.service.directory, ...tasks].some((root) => path === root || path.startsWith(`${root}/`)) ||
      path === slipway || path.startsWith(Path.join(slipway, ".gitignore"))
    if (!isOwn) return this.problem(`${by.label}: ${operation} ${path}, which is not its home's`)
    if (!operation.startsWith("remove") || path.endsWith(".tmp")) return
    const inHome = Path.relative(by.home.service.agents, path).split(Path.sep)[0] ?? ""
    const id = inHome !== "" && inHome !== ".." ? inHome : Path.basename(path, ".json")
    this.judgeTouch(by, "removes", id, by.home.id, Path.basename(path))
  }

  /** What stands before and behind every call of a program. */
  private gate(by: Program, label: string, moment: "before" | "after", onKill: () => void): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (by.state === "dead") return Effect.never
      if (by.state === "frozen") {
        return Effect.andThen(Deferred.await(by.thaw), this.gate(by, label, moment, onKill))
      }
      if (by.calls++ !== by.at || by.course === "whole") return Effect.void
      this.count(`${by.kind} ${by.course} ${moment} ${label}`)
      switch (by.course) {
        case "killed":
          onKill()
          this.kill(by)
          return Effect.never
        case "frozen":
          by.state = "frozen"
          return this.gate(by, label, moment, onKill)
        default:
          by.fiber?.interruptUnsafe()
          return Effect.yieldNow
      }
    })
  }

  /** What comes due while a program is frozen is heard of when it goes on. */
  private clockOf(by: Program): Clock.Clock {
    const heard: Effect.Effect<void> = Effect.suspend(() =>
      by.state === "frozen" ? Effect.andThen(Deferred.await(by.thaw), heard) : Effect.void
    )
    return this.time.clockOf(heard)
  }

  private gated<S extends object>(
    by: Program,
    name: string,
    service: S,
    onKill: (key: string, args: ReadonlyArray<unknown>) => void
  ): S {
    return Gate.around(name, service, ({ args, name: label }, effect) =>
      Effect.tap(
        Effect.andThen(
          this.gate(by, label, "before", () => onKill(label.slice(label.indexOf(".") + 1), args)),
          effect
        ),
        () => this.gate(by, label, "after", () => {})
      ))
  }

  private filesOf(by: Program): Files["Service"] {
    const { files } = this.disk
    // Judged when it is done, and not when it is asked for: a call may wait at its gate.
    const assessed = <A extends ReadonlyArray<unknown>, B, E>(
      operation: string,
      f: (path: string, ...rest: A) => Effect.Effect<B, E>
    ) =>
    (path: string, ...rest: A): Effect.Effect<B, E> =>
      Effect.suspend(() => {
        this.judgeFile(by, operation, path)
        return f(path, ...rest)
      })
    return this.gated(by, "Files", {
      ...files,
      // Every program is installed.
      findProgram: (candidates) => Effect.succeed(candidates[0]),
      makeDirectory: assessed("make", files.makeDirectory),
      createFile: assessed("create", files.createFile),
      replaceFile: assessed("replace", files.replaceFile),
      removeFile: assessed("remove", files.removeFile),
      removeDirectory: assessed("remove directory", files.removeDirectory),
      removeTree: assessed("remove tree", files.removeTree),
      watch: () => Effect.flatMap(Effect.scope, () => files.watch(Path.join(this.root, "nothing")))
    }, (key, [path]) => {
      if (key !== "replaceFile" || typeof path !== "string") return
      const draft = `${path}.0123456789ab.tmp`
      this.disk.write(draft, "{")
    })
  }

  private ledgerOf(by: Program): Ledger["Service"] {
    const { registry } = by.home
    return this.gated(by, "Ledger", {
      ...registry,
      admit: (candidate, options) =>
        Effect.tap(registry.admit(candidate, options), (decision) =>
          Effect.sync(() => {
            if (decision._tag === "Admit") by.admitted.add(candidate.id)
            this.judgeLimits(by.home, by.label)
          })),
      transition: (id, f, event) => {
        let seen: readonly [Agent, Agent] | undefined
        return Effect.tap(
          registry.transition(id, (row) => {
            const after = f(row)
            seen = after._tag === "Success" ? [row, after.success] : undefined
            return after
          }, event),
          () => Effect.sync(() => seen === undefined ? undefined : this.judgeTransition(by, ...seen))
        )
      },
      transitionFamily: (id, f, event) =>
        registry.transitionFamily(id, (row, kin) => {
          const after = f(row, kin)
          if (after._tag === "Success") this.judgeTransition(by, row, after.success)
          return after
        }, event)
    }, () => {})
  }

  private tmuxOf(by: Program): Tmux["Service"] {
    const { memory, tmux } = this.machine
    const server = (socket: Target.SocketPath): TmuxServer => {
      const real = tmux.server(socket)
      let asked: NewSession | undefined
      return this.gated(by, "Tmux", {
        ...real,
        newSession: (options) => {
          asked = options
          return real.newSession(options)
        },
        killSession: (target) =>
          Effect.andThen(
            Effect.map(
              Effect.option(memory.tmux.server(socket).environment(target)),
              Option.match({
                onNone: () => {},
                onSome: (marks) =>
                  this.judgeTouch(by, "kills", marks["SLIPWAY_AGENT_ID"], marks["SLIPWAY_HOME_ID"], "session")
              })
            ),
            real.killSession(target)
          )
      }, (key) => {
        if (key !== "newSession" || asked === undefined) return
        // The client of tmux outlives the program that it belongs to, and does its work later.
        const client = memory.tmux.server(socket).newSession(asked)
        const boot = this.machine.identity.boot
        this.time.after(500 + 40 * by.at, () => {
          if (this.machine.identity.boot === boot) Effect.runSync(Effect.ignore(client))
        })
      })
    }
    return this.gated(by, "Tmux", Tmux.of({ version: tmux.version, server }), () => {})
  }

  /** A program that begins. */
  private begin(home: MemoryHome, kind: Program["kind"], label: string, course: Course = "whole", at = 0): Program {
    const program: Program = {
      label,
      kind,
      home,
      process: this.machine.add("program", {}),
      course,
      at,
      // The same in both homes: now and then an agent of each has the same id.
      random: `${kind} ${this.programs.filter((other) => other.home === home && other.kind === kind).length}`,
      strays: new Set(),
      admitted: new Set(),
      fiber: undefined,
      state: "running",
      exit: undefined,
      calls: 0,
      thaw: Deferred.makeUnsafe<void>(),
      excused: false,
      blinded: this.machine.blind.size > 0
    }
    this.programs.push(program)
    return program
  }

  /** Runs the program until it has ended, or is dead or frozen; answers with its exit when it ended. */
  private readonly run = Effect.fnUntraced(function*<A, E>(
    this: HistoryWorld,
    by: Program,
    body: (slipway: Slipway["Service"]) => Effect.Effect<A, E>
  ) {
    const system = this.machine.systemOf(by.process)
    const { identity } = this.machine
    const host = { ...Host.make(system, identity), bootClock: Effect.sync(() => this.machine.uptime) }
    const tree = ProcessTree.make(system)
    const services = Layer.mergeAll(
      Layer.succeed(Files, this.filesOf(by)),
      Layer.succeed(Ledger, this.ledgerOf(by)),
      Layer.succeed(EventLog, this.gated(by, "EventLog", by.home.registry, () => {})),
      Layer.succeed(Counters, this.gated(by, "Counters", by.home.registry, () => {})),
      Layer.succeed(Tmux, this.tmuxOf(by)),
      Layer.succeed(Home, by.home.service),
      Layer.succeed(Host, Host.of(host)),
      Layer.succeed(ProcessTree, this.gated(by, "ProcessTree", tree, () => {}))
    )
    const options = { caller: { environment: { PATH: "/bin" }, cwd: this.project, umask: 0o022, isRoot: false } }
    const program = Layer.build(Layer.fresh(Slipway.layerNoDeps(options).pipe(Layer.provide(services)))).pipe(
      Effect.flatMap((built) => body(Context.get(built, Slipway))),
      Effect.scoped,
      Random.withSeed(by.random),
      Effect.provideService(Clock.Clock, this.clockOf(by)),
      Effect.provide(Logger.layer([])),
      Effect.withTracerEnabled(false)
    )
    // The program has a scheduler and a clock of its own, and goes on when this step is over.
    // @effect-diagnostics-next-line runEffectInsideEffect:off
    const fiber = Effect.runFork(program, { scheduler: this.time.scheduler })
    by.fiber = fiber
    fiber.addObserver((exit) => {
      if (by.state === "dead") return
      this.count(`${by.kind} ${Exit.isSuccess(exit) ? "succeeded" : tagOf(exit)}`)
      by.state = "done"
      by.exit = exit
      this.machine.end(by.process, 0)
    })
    yield* this.drive(by)
  })

  /** Lets a program go on. */
  private readonly drive = Effect.fnUntraced(function*(this: HistoryWorld, by: Program) {
    const began = this.time.now
    this.time.flush()
    for (let moves = 0; by.state === "running"; moves++) {
      const moved = this.time.next()
      const isStuck = !moved || moves > 100_000 || this.time.now - began > 900_000
      if (isStuck && this.isRunning(by)) {
        this.problem(`${by.label} does not come to an end`)
        this.kill(by)
      }
    }
    if (by.state === "done") this.assessExit(by)
  })

  private isRunning({ state }: Program): boolean {
    return state === "running"
  }

  /** kill -9. */
  kill(by: Program): void {
    by.state = "dead"
    this.machine.end(by.process, "KILL")
  }

  private assessExit(by: Program): void {
    const { exit } = by
    if (exit === undefined) return
    if (Exit.isSuccess(exit)) return
    const text = JSON.stringify(exit.cause)
    if (Exit.hasDies(exit)) this.problem(`${by.label} died: ${text}`)
    // What a failed deployment left behind, when it could look and says that there is nothing.
    const failure = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
    const saysClean = !(failure instanceof DeployError) || CleanupReport.leftovers(failure.cleanup).length === 0
    const isClean = saysClean && !by.excused && !by.blinded && this.machine.blind.size === 0
    for (const id of isClean && by.kind === "Deploy" ? by.admitted : []) {
      const row = this.row(by.home, id)
      if (row !== undefined && row.state._tag !== "rolled-back") continue
      const left = [
        ...this.living(by.home, id).map(({ role }) => role),
        ...this.sessions(by.home).filter((each) => each === id).map(() => "session"),
        ...(this.disk.exists(by.home.service.agentDirectory(id)) ? ["directory"] : []),
        ...by.home.tasks.filter((task) => this.disk.exists(this.entryPath(task, id))).map(() => "entry")
      ]
      if (left.length > 0) this.problem(`${by.label} failed and left of ${id}: ${left.join(", ")}: ${text}`)
    }
  }

  entryPath(task: Task, id: string): string {
    return Path.join(this.project, ".slipway", task.id, "agents", `${id}.json`)
  }

  /** The agents of a home that have a session. */
  sessions(home: MemoryHome): ReadonlyArray<string> {
    return this.machine.sessions().flatMap(({ agentId, homeId }) =>
      homeId === home.id && agentId !== undefined ? [agentId] : []
    )
  }

  /** No more agents are active than the limits allow, by the rows and by what lives. */
  judgeLimits(home: MemoryHome, when: string): void {
    const rows = this.rows(home)
    const holds = ({ state }: Agent) =>
      state._tag === "deploying" || state._tag === "running" ||
      (state._tag === "ending" &&
        (state.left === null || state.left.some(({ resource }) => resource === "tmux_session")))
    const lives = ({ id }: Agent) => this.living(home, id).some(({ role }) => role === "agent" || role === "child")
    const active = rows.filter((row) => holds(row) || lives(row))
    if (active.length > limits.home) this.problem(`${when}: ${active.length} agents are active in home ${home.index}`)
    for (const task of home.tasks) {
      const ofTask = active.filter(({ taskId }) => taskId === task.id)
      const total = rows.filter(({ state, taskId }) => taskId === task.id && state._tag !== "rolled-back")
      if (ofTask.length > limits.task.maxConcurrent) {
        this.problem(`${when}: ${ofTask.length} agents are active in a task`)
      }
      if (total.length > limits.task.maxAgents) this.problem(`${when}: a task has ${total.length} agents`)
    }
  }

  /** Programs that were frozen, or hold an agent in their scope. */
  waiting(): ReadonlyArray<Program> {
    return this.programs.filter(({ state }) => state === "frozen" || state === "resident")
  }

  readonly thaw = Effect.fnUntraced(function*(this: HistoryWorld, by: Program) {
    const isResident = by.state === "resident"
    by.state = "running"
    // The end of its scope stops what it deployed, with all that came of it.
    if (isResident) by.kind = "Stop"
    if (isResident) by.fiber?.interruptUnsafe()
    else Deferred.doneUnsafe(by.thaw, Exit.void)
    yield* this.drive(by)
  })

  readonly deploy = Effect.fnUntraced(function*(this: HistoryWorld, step: Extract<Step, { _tag: "Deploy" }>) {
    const home = this.homes[step.home] ?? unreachable()
    const task = home.tasks[step.task] ?? unreachable()
    const by = this.begin(home, "Deploy", this.label(step), courseOf(step.fate), step.fate.at)
    const agents = this.rows(home).filter(({ state, taskId }) =>
      taskId === task.id && (step.parent === 3 || state._tag === "running")
    )
    const parent = step.parent === 0 ? undefined : agents[(step.parent - 1) % Math.max(1, agents.length)]
    const request: DeployInput = {
      task: task.id,
      prompt: "work",
      type: `type-${step.type}`,
      agent: { kind: "command", argv: ["/bin/sh", "-c", scriptOf(behaviourOf(step.behaviour))] },
      ready: step.ready,
      allowDuplicate: step.allowDuplicate,
      ...(step.key > 3 ? { key: `key-${step.key}` } : {}),
      ...(parent === undefined ? {} : { parent: parent.id })
    }
    const committed = { onCommitted: () => Effect.sync(() => this.count("committed")) }
    yield* this.run(by, (slipway) =>
      step.scoped === 4
        ? Effect.scoped(
          Effect.andThen(
            slipway.deployScoped(request, committed),
            Effect.andThen(Effect.sync(() => void (by.state = "resident")), Effect.never)
          )
        )
        : slipway.deploy(request, committed))
  })

  /** A reap, and what the doctor finds after it; nothing when it did not run to its end. */
  readonly reap = Effect.fnUntraced(function*(
    this: HistoryWorld,
    home: MemoryHome,
    label: string,
    options: { readonly strays: boolean; readonly course: Course; readonly at: number }
  ) {
    const by = this.begin(home, "Reap", label, options.course, options.at)
    let findings: Findings | undefined
    yield* this.run(by, (slipway) =>
      this.reapWith(by, slipway, options.strays).pipe(
        Effect.tap((found) =>
          Effect.sync(() => {
            findings = found
          })
        )
      ))
    return by.state === "done" ? findings : undefined
  })

  private readonly reapWith = Effect.fnUntraced(function*(
    this: HistoryWorld,
    by: Program,
    slipway: Slipway["Service"],
    strays: boolean
  ) {
    by.kind = "Reap"
    // What ends while a reap waits for something else is for the next one.
    for (let ends = -1; ends !== this.machine.ownEnds;) {
      ends = this.machine.ownEnds
      const plan = yield* slipway.reapPlan
      const asked = strays ? plan.items.filter(({ verdict }) => verdict === "stray").map(({ subject }) => subject) : []
      for (const stray of asked) by.strays.add(stray)
      yield* slipway.reap(plan, { strays: asked })
      // A session that a fence has kept from running anything ends in a moment, and so does a launcher.
      yield* Effect.sleep("2 millis")
    }
    const { findings } = yield* slipway.doctor
    return findings.filter(({ kind }) => kind !== "release-failures")
  })

  /** One program that reaps a home, then its strays, then stops all agents; the audit looks on after each. */
  readonly conclude = Effect.fnUntraced(function*(
    this: HistoryWorld,
    home: MemoryHome,
    audit: (when: string, findings: Findings) => void
  ) {
    const by = this.begin(home, "Reap", "the program at the end")
    yield* this.run(by, (slipway) =>
      Effect.gen({ self: this }, function*() {
        audit("the reap at the end", yield* this.reapWith(by, slipway, false))
        audit("the reap of strays at the end", yield* this.reapWith(by, slipway, true))
        const ids = this.rows(home).filter(({ state }) => state._tag === "running").map(({ id }) => id)
        by.kind = "Stop"
        yield* slipway.stop(ids, { grace: "100 millis" })
        audit("the last stop", yield* this.reapWith(by, slipway, false))
      }))
  })

  private label(step: Step): string {
    return `step ${this.steps} (${describe(step)})`
  }

  /** Takes one step; answers with what the doctor says after a reap that ran to its end. */
  readonly take = Effect.fnUntraced(function*(this: HistoryWorld, step: Step): Effect.fn.Return<Findings | undefined> {
    this.steps++
    this.count(step._tag)
    const label = this.label(step)
    switch (step._tag) {
      case "Deploy":
        yield* this.deploy(step)
        return
      case "Stop": {
        const home = this.homes[step.home] ?? unreachable()
        const rows = this.rows(home)
        const row = rows[step.agent % Math.max(1, rows.length)]
        if (row === undefined) return
        const by = this.begin(home, "Stop", label, courseOf(step.fate), step.fate.at)
        yield* this.run(by, (slipway) => slipway.stop([row.id], { grace: "100 millis" }))
        return
      }
      case "Reap": {
        const home = this.homes[step.home] ?? unreachable()
        return yield* this.reap(home, label, {
          strays: step.strays === 3,
          course: courseOf(step.fate),
          at: step.fate.at
        })
      }
      case "Plan": {
        const home = this.homes[step.home] ?? unreachable()
        yield* this.run(this.begin(home, "Plan", label), (slipway) =>
          Effect.map(slipway.reapPlan, (plan) => {
            home.plan = plan
          }))
        return
      }
      case "ApplyOld": {
        const home = this.homes[step.home] ?? unreachable()
        const { plan } = home
        if (plan === undefined) return
        const by = this.begin(home, "ApplyOld", label, courseOf(step.fate), step.fate.at)
        yield* this.run(by, (slipway) => slipway.reap(plan))
        return
      }
      case "Look": {
        const home = this.homes[step.home] ?? unreachable()
        const by = this.begin(home, "Look", label, courseOf(step.fate), step.fate.at)
        yield* this.run(by, (slipway) => slipway.agents({ activeOnly: true }))
        return
      }
      case "End": {
        const processes = Array.from(this.machine.processes.values()).filter(({ agentId }) => agentId !== undefined)
        const process = processes[step.process % Math.max(1, processes.length)]
        if (process === undefined) return
        // A launcher ends by itself only after its agent.
        if (step.code === "KILL" || process.role === "launcher") this.machine.signal(process, "SIGKILL")
        else this.machine.end(process, step.code)
        this.time.pass(5)
        return
      }
      case "KillServer":
        this.machine.endServer()
        this.time.pass(5)
        return
      case "Thaw": {
        const by = this.waiting()[step.program % Math.max(1, this.waiting().length)]
        if (by !== undefined) yield* this.thaw(by)
        return
      }
      case "Kill": {
        const by = this.waiting()[step.program % Math.max(1, this.waiting().length)]
        if (by !== undefined) this.kill(by)
        return
      }
      case "Restart":
        for (const program of this.programs) if (program.state !== "done") program.state = "dead"
        this.machine.restart()
        return
      case "Save": {
        const home = this.homes[step.home] ?? unreachable()
        home.saved = new Map(tables.map((table) => [table, home.database.prepare(`SELECT * FROM ${table}`).all()]))
        return
      }
      case "Restore": {
        const home = this.homes[step.home] ?? unreachable()
        if (home.saved === undefined) return
        this.restore(home, home.saved)
        for (const program of this.waiting()) if (program.home === home) program.excused = true
        return
      }
      case "SetClockBack":
        this.time.wall -= step.seconds * 1000
        return
      case "Wait":
        this.time.pass(step.seconds * 1000)
        return
      case "Blind":
        this.machine.blind.add(senseOf(step.sense))
        for (const program of this.waiting()) program.blinded = true
        return
      case "See":
        this.machine.blind.clear()
        return
    }
  })

  /** Puts an old copy of a registry in its place. */
  private restore(home: MemoryHome, saved: Snapshot): void {
    const { database } = home
    database.exec("BEGIN IMMEDIATE; DELETE FROM events; DELETE FROM agents; DELETE FROM tasks")
    for (const table of tables) {
      for (const row of saved.get(table) ?? []) {
        const names = Object.keys(row)
        database.prepare(`INSERT INTO ${table} (${names.join(", ")}) VALUES (${names.map(() => "?").join(", ")})`)
          .run(...Object.values(row))
      }
    }
    database.exec("COMMIT")
  }

  /** Makes the homes' tasks. */
  readonly prepare = Effect.fnUntraced(function*(this: HistoryWorld) {
    for (const home of this.homes) for (const task of home.tasks) yield* home.registry.addTask(task)
  })
}

const tagOf = (exit: Exit.Failure<unknown, unknown>): string => {
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  const reason = Predicate.hasProperty(error, "reason") ? error.reason : error
  return Predicate.hasProperty(reason, "_tag") ? `failed: ${String(reason._tag)}` : "was interrupted"
}

const unreachable = (): never => {
  throw new Error("unreachable")
}
