/**
 * A machine in memory on which programs have Slipway: its disk, its processes, its tmux and its registry, without any of
 * the real ones. Everything above these is Slipway's own code.
 *
 * The registry is the real one on SQLite in memory. Agents do what their scripts say, and outlive the program that
 * deployed them; they end with the machine. All time is the clock's that is there when the machine is made.
 */
import { Sentence } from "@slipway/tmux"
import { Target, Tmux } from "@slipway/tmux"
import { Cause, Clock, Context, Deferred, Effect, type Exit, Fiber, Layer, Option, Schema } from "effect"
import * as Path from "node:path"
import type { Agent } from "../agent/Agent.ts"
import { Home, type HomeUnusable, type InvalidLimit } from "../home/Home.ts"
import type { Caller } from "../machine/Caller.ts"
import { Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { promptFile } from "../machine/Layout.ts"
import { ProcessTree } from "../machine/ProcessTree.ts"
import { Counters } from "../registry/Counters.ts"
import { EventLog } from "../registry/EventLog.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError, RegistryReplaced } from "../registry/RegistryError.ts"
import * as SqliteRegistry from "../registry/sqlite/SqliteRegistry.ts"
import type { InvalidResources } from "../resource/Own.ts"
import { Slipway, type SlipwayOptions } from "../Slipway.ts"
import { Disk } from "./Disk.ts"
import { withSleep } from "./Elapse.ts"
import { type Fault, type FaultStep, makeLocator, type Moment } from "./Fault.ts"
import * as Gate from "./Gate.ts"
import * as Leftovers from "./Leftovers.ts"
import { MemoryMachine } from "./MemoryMachine.ts"
import * as Program from "./Program.ts"
import { complains, exits, type Script } from "./Script.ts"
import * as Timer from "./Timer.ts"

/** The directory of the only project that is there by itself. */
export const project = "/project"
const homeDirectory = "/home/slipway"

export interface MemoryOptions extends Omit<SlipwayOptions, "directory" | "socket" | "tmux" | "transport"> {
  /**
   * What agents do, by the type that a request names, by the kind (`claude`), or by the file name of the command's program;
   * the first of these that is there, else `*`. An agent without a script ends with 127 and says so.
   */
  readonly agents?: Readonly<Record<string, Script>> | undefined
  /** Directories that are there, beside `/project`. */
  readonly directories?: ReadonlyArray<string> | undefined
  /** Programs that are not installed, by their file names; all others are. */
  readonly missing?: ReadonlyArray<string> | undefined
  /** Faults that stand from the beginning. */
  readonly faults?: ReadonlyArray<Fault> | undefined
}

/** The program came to its end before it was killed: it never came to the step. */
export class NotKilled extends Schema.TaggedError<NotKilled>()("NotKilled", {
  step: Schema.String,
  /** How it ended. */
  ended: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the program ended before it came to the step ${this.step} (${this.ended}), so that it could not be killed there`
  }
}

/** An agent as it was asked for. */
export interface Deployed {
  readonly agent: Agent
  /** What it was given to read; undefined where that has been removed. */
  readonly prompt: string | undefined
}

export type OpenError =
  | HomeUnusable
  | InvalidLimit
  | InvalidResources
  | RegistryError
  | RegistryReplaced

/** The machine that a test's programs run on. */
export class Machine extends Context.Service<Machine, {
  /** Puts a fault in place. */
  readonly strike: (fault: Fault) => Effect.Effect<void>
  /** Takes all faults away. */
  readonly heal: Effect.Effect<void>
  /** All agents that were ever admitted, in that order, also those that were rolled back. */
  readonly deployed: Effect.Effect<ReadonlyArray<Deployed>>
  /** A process that nobody of Slipway's is ends all of the agent's processes, as `kill -9` does. */
  readonly killAgent: (agentId: string) => Effect.Effect<void>
  /** Ends the tmux server with all its sessions. */
  readonly killServer: Effect.Effect<void>
  /** How much room the disk has. */
  readonly setFreeBytes: (bytes: number) => Effect.Effect<void>
  /** The disk, for what a program leaves there. */
  readonly files: Files["Service"]
  /** What is left; see `expectNothingLeft`. */
  readonly leftovers: Effect.Effect<ReadonlyArray<Leftovers.Leftover>>
  /**
   * Runs an effect as a program of its own, with a Slipway of its own, until a deployment of it comes to the step. There
   * it is killed as by `kill -9`: nothing of it runs any more, no finalizer either. Answers when it is dead.
   */
  readonly killedAt: <A, E, R>(
    step: FaultStep,
    effect: Effect.Effect<A, E, R>,
    moment?: Moment
  ) => Effect.Effect<void, NotKilled, Exclude<R, Slipway>>
}>()("@slipway/core/testing/Machine") {}

interface World {
  readonly machine: Machine["Service"]
  readonly program: (killing?: Program.Killing) => Layer.Layer<Slipway, OpenError>
}

const nobody: Script = []

const scriptFor = (agents: Readonly<Record<string, Script>>, row: Agent | undefined): Script => {
  if (row === undefined) return nobody
  const program = row.spec.kind === "command" ? Path.basename(row.spec.argv[0]) : row.spec.kind
  const names = [row.type, row.spec.kind, program, "*"]
  const found = names.map((name) => agents[name]).find((script) => script !== undefined)
  return found ?? [
    complains(`no script of the test's is for an agent of type ${row.type} that runs ${program}; add one to 'agents'`),
    exits(127)
  ]
}

/** Makes a machine; it ends with the scope. */
const makeWorld = Effect.fnUntraced(function*(options: MemoryOptions) {
  const clock = yield* Clock.Clock
  const timer = yield* Timer.onClock
  const disk = new Disk(() => clock.currentTimeMillisUnsafe())
  for (const path of [project, "/tmp", ...options.directories ?? []]) disk.makeDirectories(path)
  const agents = Path.join(homeDirectory, "agents")
  const socket = Target.SocketPath.make(Path.join(homeDirectory, "tmux.sock"))
  const rows = new Map<string, Agent>()
  const machine = new MemoryMachine({
    timer,
    disk,
    socket,
    scriptOf: ({ agentId = "" }) => scriptFor(options.agents ?? {}, rows.get(agentId))
  })
  const built = yield* Layer.build(Layer.fresh(SqliteRegistry.layer({ path: ":memory:" })))
  const stored = Context.get(built, Ledger)
  const locate = makeLocator(agents)
  let faults: ReadonlyArray<Fault> = options.faults ?? []

  // Whoever follows the home watches its directory, in which the real registry writes.
  const wakeFollowers = Effect.sync(() => disk.touch(Path.join(homeDirectory, "registry.db")))
  const ledger = Ledger.of({
    ...stored,
    admit: (candidate, how) =>
      Effect.tap(stored.admit(candidate, how), ({ _tag }) => {
        if (_tag === "Admit") rows.set(candidate.id, candidate)
        return wakeFollowers
      }),
    transition: (id, f, event) => Effect.tap(stored.transition(id, f, event), wakeFollowers),
    transitionFamily: (id, f, event) => Effect.tap(stored.transitionFamily(id, f, event), wakeFollowers)
  })
  const missing = new Set(options.missing)
  const files = Files.of({
    ...disk.files,
    findProgram: (candidates) => Effect.succeed(candidates.find((path) => !missing.has(Path.basename(path))))
  })
  const caller: Caller = options.caller ??
    { environment: { PATH: "/bin", HOME: "/home" }, cwd: project, umask: 0o022, isRoot: false }

  const program = (killing?: Program.Killing): Layer.Layer<Slipway, OpenError> =>
    Layer.fresh(Layer.unwrap(Effect.gen(function*() {
      const process = yield* Effect.acquireRelease(
        Effect.sync(() => machine.add("program", {})),
        (process) => Effect.sync(() => machine.end(process, 0))
      )
      const gate = Program.gateOf({ machine, timer, locate, faults: () => faults }, process, killing)
      const by = Gate.aroundAll(gate)
      const system = machine.systemOf(process)
      const host = Host.make(system, machine.identity, {
        bootClock: Effect.sync(() => machine.uptime),
        servers: {
          isTmux: (pid) => machine.processes.get(pid)?.role === "server",
          startedOn: () => [],
          end: () => "gone"
        }
      })
      const below = Layer.mergeAll(
        Layer.succeed(Files, Gate.around("Files", files, by)),
        Layer.succeed(Host, host),
        Layer.succeed(ProcessTree, Gate.around("ProcessTree", ProcessTree.make(system), by)),
        Layer.succeed(Tmux, Gate.aroundTmux(machine.tmux, by)),
        Layer.succeed(Ledger, Gate.around("Ledger", ledger, by)),
        Layer.succeed(EventLog, Gate.around("EventLog", Context.get(built, EventLog), by)),
        Layer.succeed(Counters, Gate.around("Counters", Context.get(built, Counters), by))
      )
      const home = Layer.effectDiscard(
        // A registry that has rows is not empty.
        Effect.sync(() => disk.append(Path.join(homeDirectory, "registry.db"), "in memory\n"))
      ).pipe(Layer.provideMerge(Home.layer({ directory: homeDirectory, maxActive: options.maxActive })))
      const resources = options.resources?.map(Program.kindOf(gate))
      return Slipway.layerNoDeps({ ...options, caller, resources }).pipe(Layer.provide(home), Layer.provide(below))
    })))

  const killedAt = Effect.fnUntraced(function*<A, E, R>(
    step: FaultStep,
    effect: Effect.Effect<A, E, R>,
    moment: Moment = "before"
  ) {
    const died = yield* Deferred.make<void>()
    const clock = yield* Clock.Clock
    // What sleeps in a program that is dead never wakes.
    const mortal = withSleep(
      clock,
      (duration) =>
        Effect.flatMap(clock.sleep(duration), () => Deferred.isDoneUnsafe(died) ? Effect.never : Effect.void)
    )
    const running = Effect.provide(effect, program({ place: { _tag: "Step", step }, moment, died })).pipe(
      Effect.provideService(Clock.Clock, mortal)
    )
    const fiber = yield* Effect.forkDetach(running)
    const ended = yield* Effect.raceFirst(
      Effect.as(Deferred.await(died), Option.none<Exit.Exit<A, E | OpenError>>()),
      Effect.asSome(Fiber.await(fiber))
    )
    if (Option.isSome(ended)) return yield* new NotKilled({ step, ended: describe(ended.value) })
  })

  const service = Machine.of({
    strike: (fault) => Effect.sync(() => void (faults = [...faults, fault])),
    heal: Effect.sync(() => void (faults = [])),
    deployed: Effect.sync(() =>
      Array.from(rows.values(), (agent) => ({
        agent,
        prompt: disk.text(Path.join(agent.plan.directory, promptFile))
      }))
    ),
    killAgent: (agentId) =>
      Effect.sync(() => {
        for (const process of machine.processes.values()) {
          if (process.agentId === agentId && process.role !== "launcher") machine.signal(process, "SIGKILL")
        }
      }),
    killServer: Effect.sync(() => machine.endServer()),
    setFreeBytes: (bytes) => Effect.sync(() => void (disk.freeBytes = bytes)),
    files: disk.files,
    leftovers: Effect.orDie(
      Leftovers.look({ disk, machine, ledger: stored, agents, kinds: options.resources ?? [] })
    ),
    killedAt
  })
  const world: World = { machine: service, program }
  return world
})

const describe = (exit: Exit.Exit<unknown, unknown>): string =>
  exit._tag === "Success" ? "with success" : Cause.pretty(exit.cause).split("\n")[0] ?? ""

/** A machine in memory, and Slipway as a program on it has it; another machine each time that it is provided. */
export const layerMemory = (options: MemoryOptions = {}): Layer.Layer<Machine | Slipway, OpenError> =>
  Layer.unwrap(
    Effect.map(makeWorld(options), ({ machine, program }) => Layer.merge(Layer.succeed(Machine, machine), program()))
  )
