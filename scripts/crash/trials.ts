/**
 * The sweeps: what is set up, what is killed or made to fail in it, and what must be true afterwards.
 *
 * Every trial has a world of its own. After a kill there is one reap, then an audit by `world.ts`, then a second plan, which
 * must be empty, and the doctor, who must find nothing. A failure that the program survives must leave nothing without a
 * reap, or name what it left for the reap to settle.
 */
import { type DeployInput, Slipway } from "@slipway/core"
import { Effect, Logger } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Trace from "./trace.ts"
import * as World from "./world.ts"

/** How the library asks tmux: by one control client, or by a process per call. */
export type Transport = "control" | "process"

export interface Tools {
  /** The deployer as one file, which starts fast. */
  readonly deployer: string
  /** For logs and wrappers. */
  readonly directory: string
  readonly transport: Transport
}

export interface Result {
  readonly sweep: string
  readonly transport: Transport
  readonly phase: string
  readonly syscall: string
  readonly about: string
  /** The condition of what the sweep is about; `missed` when the program got by without such a call. */
  readonly outcome: World.Condition | "missed"
  readonly failures: ReadonlyArray<string>
}

export interface Trial {
  readonly sweep: string
  readonly transport: Transport
  readonly name: string
  readonly run: () => Promise<Result>
}

type Facade = Slipway["Service"]

const layer = (world: World.World, { transport }: Tools) =>
  Slipway.layer({ directory: world.home, caller: World.caller(world), transport })

/** Runs an effect on the facade of a world, in this process. */
const within = <A, E>(world: World.World, tools: Tools, use: (slipway: Facade) => Effect.Effect<A, E>): Promise<A> =>
  Effect.runPromise(Effect.provide(Effect.flatMap(Slipway, use), [layer(world, tools), Logger.layer([])]))

const staying = (world: World.World, type: string): DeployInput => ({
  project: world.project,
  prompt: "work",
  type,
  agent: { kind: "command", argv: ["sh", "-c", "echo up; exec sleep 1000"] },
  ready: "output",
  readyWithin: 20_000
})

/** Deploys an agent that stays, and answers with its id. */
const deployed = (world: World.World, tools: Tools, type: string) =>
  within(world, tools, (slipway) => Effect.map(slipway.deploy(staying(world, type)), ({ agent }) => agent))

const nothing = (world: World.World, tools: Tools): Promise<void> => within(world, tools, () => Effect.void)

const command = (tools: Tools, verb: string, world: World.World, tmux = "tmux") => [
  process.execPath,
  tools.deployer,
  verb,
  world.root,
  tmux,
  tools.transport
]

/** An agent in the midst of its deployment whose deployer was killed, one that was killed with its launcher, and an entry that lies. */
const corpses = async (world: World.World, tools: Tools): Promise<void> => {
  const lost = await deployed(world, tools, "lost")
  const stale = await deployed(world, tools, "stale")
  Fs.writeFileSync(stale.plan.entry, "{}\n")
  await Trace.runPlain(command(tools, "deploy-for-long", world), {
    onLine: (line, pid) => {
      if (line === "step readiness") process.kill(pid, "SIGKILL")
    }
  })
  for (const pid of World.pidsOf(world, lost.id)) process.kill(pid, "SIGKILL")
}

interface Sweep {
  readonly name: string
  readonly verb: string
  readonly prepare: (world: World.World, tools: Tools) => Promise<unknown>
  /** The phase whose calls are meant; without it, all of them from the moment that the home is open. */
  readonly from?: string
  /** The type of the agent that the sweep is about, and the conditions that it may be in afterwards. */
  readonly subject: string
  readonly allowed: ReadonlyArray<World.Condition>
  /** Every other agent, by type. */
  readonly others: Readonly<Record<string, World.Condition>>
}

export const kills: ReadonlyArray<Sweep> = [
  {
    name: "open",
    verb: "open",
    prepare: async () => {},
    subject: "none",
    allowed: ["gone"],
    others: {}
  },
  { name: "deploy", verb: "deploy", prepare: nothing, subject: "worker", allowed: ["whole", "gone"], others: {} },
  {
    name: "deploy beside another",
    verb: "deploy",
    prepare: (world, tools) => deployed(world, tools, "bystander"),
    subject: "worker",
    allowed: ["whole", "gone"],
    others: { bystander: "whole" }
  },
  {
    name: "stop",
    verb: "stop",
    prepare: (world, tools) => deployed(world, tools, "worker"),
    subject: "worker",
    allowed: ["whole", "ended"],
    others: {}
  },
  {
    name: "deploy and stop",
    verb: "deploy-and-stop",
    prepare: nothing,
    from: "stop",
    subject: "worker",
    allowed: ["whole", "ended"],
    others: {}
  },
  {
    name: "reap",
    verb: "reap",
    prepare: corpses,
    subject: "worker",
    allowed: ["gone"],
    others: { lost: "ended", stale: "whole" }
  }
]

const reapOnce = (world: World.World, tools: Tools) => {
  World.ageDrafts(world)
  return within(world, tools, (slipway) => Effect.flatMap(slipway.reapPlan, (plan) => slipway.reap(plan)))
}

/** What the library itself finds wrong. */
const findings = (world: World.World, tools: Tools) =>
  within(
    world,
    tools,
    Effect.fnUntraced(function*(slipway) {
      const { items } = yield* slipway.reapPlan
      const diagnosis = yield* slipway.doctor
      return [
        ...items.map(({ evidence, subject, verdict }) => `planned: ${verdict} ${subject}: ${evidence}`),
        ...(diagnosis.healthy ? [] : diagnosis.findings.map(({ evidence, kind }) => `doctor: ${kind}: ${evidence}`))
      ]
    })
  )

const typeOf = (id: string): string => id.replace(/-\d{6}-\d{6}-[0-9a-f]{6}$/, "")

/** What is wrong now, and in which condition the subject is. */
const assessed = async (world: World.World, tools: Tools, sweep: Sweep) => {
  const seen = await World.settledAudit(world)
  const failures = [...seen.faults]
  const conditions = Array.from(seen.agents)
  const subject = conditions.find(([id]) => typeOf(id) === sweep.subject)
  const outcome = subject?.[1] ?? "gone"
  if (!sweep.allowed.includes(outcome)) failures.push(`${sweep.subject} is ${outcome}`)
  for (const [type, wanted] of Object.entries(sweep.others)) {
    const found = conditions.find(([id]) => typeOf(id) === type)?.[1]
    if (found !== wanted && failures.length === 0) {
      failures.push(`${type} is ${found ?? "nowhere"} in place of ${wanted}`)
    }
  }
  failures.push(...(await findings(world, tools)))
  return { outcome, failures }
}

/** Runs in a world of its own, which is removed afterwards. */
const inWorld = async <A>(use: (world: World.World) => Promise<A>): Promise<A> => {
  const world = World.make()
  try {
    return await use(world)
  } finally {
    World.remove(world)
  }
}

let counter = 0
const freshLog = (tools: Tools): string => Path.join(tools.directory, `${counter++}.trace`)

/** The points of a program, from a run in which nothing happens to it. */
const pointsOf = (tools: Tools, sweep: Sweep): Promise<ReadonlyArray<Trace.Point>> =>
  inWorld(async (world) => {
    await sweep.prepare(world, tools)
    const log = freshLog(tools)
    const ran = await Trace.run(command(tools, sweep.verb, world), { log })
    Fs.rmSync(log, { force: true })
    if (!ran.lines.includes("done")) {
      throw new Error(`${sweep.name} failed by itself: ${ran.lines.join("; ")} ${ran.errors}`)
    }
    return ran.calls.filter((call) =>
      (sweep.verb === "open" || call.phase !== "start") && (sweep.from ?? call.phase) === call.phase &&
      Trace.matters(world.root, call)
    )
  })

// The number of a write varies, since Node wakes its own threads by writes as well.
const besides = [0, -1, 1, -2, 2, -3, 3]

/** For a write to the control client: tries the numbers beside the one that it had, until it is hit. Whatever else is hit must hold too. */
const aimed = async (
  point: Trace.Point,
  once: (point: Trace.Point) => Promise<{ readonly result: Result; readonly hit: Trace.Point | undefined }>
): Promise<Result> => {
  const failures: Array<string> = []
  let last: Result | undefined
  for (const beside of besides) {
    const { hit, result } = await once({ ...point, at: Math.max(1, point.at + beside) })
    failures.push(...result.failures)
    last = result
    if (!Trace.isToClient(point) || failures.length > 0) break
    if (hit !== undefined && Trace.isToClient(hit)) break
    last = { ...result, outcome: "missed" }
  }
  if (last === undefined) throw new Error("nothing was tried")
  return { ...last, failures }
}

const killTrial = (tools: Tools, sweep: Sweep, point: Trace.Point): Trial => ({
  sweep: sweep.name,
  transport: tools.transport,
  name: `${sweep.name} ${point.phase} ${point.syscall}#${point.at}`,
  run: () => aimed(point, (point) => inWorld((world) => killedAt(tools, sweep, world, point)))
})

const killedAt = async (tools: Tools, sweep: Sweep, world: World.World, point: Trace.Point) => {
  await sweep.prepare(world, tools)
  const log = freshLog(tools)
  const ran = await Trace.run(command(tools, sweep.verb, world), {
    log,
    inject: `${point.syscall}:signal=SIGKILL:when=${point.at}`
  })
  Fs.rmSync(log, { force: true })
  const hit = (ran.killed ? ran.calls.at(-1) : undefined) ?? point
  const left = await World.clientsGone(world)
  await reapOnce(world, tools)
  // The number of a call may be that of one before the phase that is meant, such as the deployment of what is to be stopped.
  const isEarly = sweep.from !== undefined && hit.phase !== sweep.from
  const allowed: Sweep["allowed"] = isEarly ? [...sweep.allowed, "gone"] : sweep.allowed
  const { failures, outcome } = await assessed(world, tools, { ...sweep, allowed })
  const result: Result = {
    sweep: sweep.name,
    transport: tools.transport,
    phase: hit.phase,
    syscall: hit.syscall,
    about: `${hit.syscall}#${hit.at} ${Trace.about(world.root, hit)}`,
    outcome: ran.killed ? outcome : "missed",
    failures: [...left, ...failures]
  }
  return { result, hit: ran.killed ? hit : undefined }
}

/** One trial for each call of each program. */
export const killTrials = async (tools: Tools, wanted: (name: string) => boolean): Promise<ReadonlyArray<Trial>> => {
  const trials: Array<Trial> = []
  for (const sweep of kills.filter(({ name }) => wanted(name))) {
    const points = await pointsOf(tools, sweep)
    trials.push(...points.map((point) => killTrial(tools, sweep, point)))
  }
  return trials
}

const deploySweep: Sweep = {
  name: "",
  verb: "deploy",
  prepare: nothing,
  subject: "worker",
  allowed: ["whole", "gone"],
  others: {}
}

// ---- tmux's own processes

const clientCalls =
  "openat,socket,connect,bind,listen,unlink,sendmsg,sendto,write,writev,clone,clone3,fork,vfork,execve,setsid,kill,flock,chmod,umask,mkdir"

type Quarry = "client" | "client and deployer" | "server"

/**
 * An executable in place of tmux that traces one call of it: the control client, the process that makes the session, or
 * the one that starts the server.
 */
const wrapper = (world: World.World, tools: Tools, quarry: Quarry, log: string, inject?: string): string => {
  const path = Path.join(world.root, "tmux")
  const injection = inject === undefined ? "" : `-e inject=${inject}`
  const trace = `-o '${log}' -y -s 48 -qq -e signal=none -e trace=${clientCalls} ${injection} tmux "$@"`
  // The tracer of a server lives as long as it, and must not hold the pipe that the deployer reads to its end.
  const answers = `>'${log}.out' 2>'${log}.err'; code=$?; cat '${log}.out'; cat '${log}.err' >&2; exit $code`
  const scripts: Record<Quarry, string> = {
    client: `exec strace ${trace}`,
    "client and deployer": `strace ${trace}\ncode=$?\n[ $code = 137 ] && kill -9 $PPID\nexit $code`,
    server: `strace -DD -f ${trace} ${answers}`
  }
  const word = quarry === "server" && tools.transport === "control" ? "start-server" : "new-session"
  const choice = `for a; do [ "$a" = ${word} ] && new=1; done\n[ "$new" ] || exec tmux "$@"`
  Fs.writeFileSync(path, `#!/bin/sh\n${choice}\n${scripts[quarry]}\n`, { mode: 0o755 })
  return path
}

const tmuxPoints = (tools: Tools, quarry: Quarry): Promise<ReadonlyArray<Trace.Point>> =>
  inWorld(async (world) => {
    await nothing(world, tools)
    const log = freshLog(tools)
    const ran = await Trace.runPlain(command(tools, "deploy", world, wrapper(world, tools, quarry, log)), {})
    if (!ran.lines.includes("done")) {
      throw new Error(`${quarry} failed by itself: ${ran.lines.join("; ")} ${ran.errors}`)
    }
    // The log of a server that goes on is whole as far as it goes.
    const calls = Trace.perProcess(Fs.readFileSync(log, "utf8"))
    Fs.rmSync(log, { force: true })
    return calls.filter(({ detail, syscall }) =>
      syscall !== "openat" || detail.includes("O_CREAT") || detail.includes("/dev/pt")
    )
  })

const tmuxTrial = (tools: Tools, quarry: Quarry, point: Trace.Point): Trial => ({
  sweep: `tmux ${quarry}`,
  transport: tools.transport,
  name: `tmux ${quarry} ${point.syscall}#${point.at}`,
  run: () =>
    inWorld(async (world): Promise<Result> => {
      await nothing(world, tools)
      const log = freshLog(tools)
      const inject = `${point.syscall}:signal=SIGKILL:when=${point.at}`
      const ran = await Trace.runPlain(command(tools, "deploy", world, wrapper(world, tools, quarry, log, inject)), {})
      const text = Fs.existsSync(log) ? Fs.readFileSync(log, "utf8") : ""
      Fs.rmSync(log, { force: true })
      const own = outcomeOf(ran)
      const failures: Array<string> = []
      if (own === undefined && quarry !== "client and deployer") {
        failures.push(`the deployer said ${ran.lines.join("; ")} ${ran.errors}`)
      }
      if (own?.startsWith("defect")) failures.push(own)
      failures.push(...(await World.clientsGone(world)))
      // A deployer that lives rolls back by itself; one whose agent died after the commit leaves that to the reap.
      if (quarry !== "client") await reapOnce(world, tools)
      const after = await assessed(world, tools, {
        ...deploySweep,
        allowed: quarry === "server" ? ["whole", "gone", "ended"] : ["whole", "gone"]
      })
      return {
        sweep: `tmux ${quarry}`,
        transport: tools.transport,
        phase: "session",
        syscall: point.syscall,
        about: `${point.syscall}#${point.at} ${Trace.about(world.root, point)}`,
        outcome: Trace.hasKilled(text) ? after.outcome : "missed",
        failures: [...failures, ...after.failures]
      }
    })
})

/** One trial for each call of the tmux client that makes the session, and of the server that it starts. */
export const tmuxTrials = async (tools: Tools, wanted: (name: string) => boolean): Promise<ReadonlyArray<Trial>> => {
  const trials: Array<Trial> = []
  for (const quarry of ["client", "client and deployer", "server"] as const) {
    if (!wanted(`tmux ${quarry}`)) continue
    const points = await tmuxPoints(tools, quarry)
    trials.push(...points.map((point) => tmuxTrial(tools, quarry, point)))
  }
  return trials
}

// ---- the control client, killed by its pid

/** Kills the control client when the program's word to it is seen: before it is said, or when it has been. */
const wordTrial = (tools: Tools, index: number, side: "before" | "after"): Trial => ({
  sweep: clientSweep,
  transport: tools.transport,
  name: `${clientSweep} ${side} word ${index + 1}`,
  run: () =>
    inWorld(async (world) => {
      await nothing(world, tools)
      const log = freshLog(tools)
      // Each write waits for a moment, in which the client can be killed.
      const running = Trace.run(command(tools, "deploy-and-stop", world), {
        log,
        inject: `write:delay_${side === "before" ? "enter" : "exit"}=40000`
      })
      let word: Trace.Point | undefined
      const watch = setInterval(() => {
        if (word !== undefined || !Fs.existsSync(log)) return
        word = Trace.parse(Fs.readFileSync(log, "utf8")).filter(Trace.isToClient)[index]
        if (word !== undefined) World.killControlClients(world)
      }, 3)
      const ran = await running
      clearInterval(watch)
      Fs.rmSync(log, { force: true })
      return bereaved(world, tools, ran, word?.phase ?? "none", `${side} word ${index + 1}`, word === undefined)
    })
})

const momentTrial = (tools: Tools, step: string, delay: number): Trial => ({
  sweep: clientSweep,
  transport: tools.transport,
  name: `${clientSweep} ${step} and ${Math.round(delay)} ms`,
  run: () =>
    inWorld(async (world) => {
      await nothing(world, tools)
      let phase = "start"
      let hit: string | undefined
      let over = false
      const ran = await Trace.runPlain(command(tools, "deploy-and-stop", world), {
        onLine: (line) => {
          if (line.startsWith("step ")) phase = line.slice("step ".length)
          if (line.startsWith("committed")) phase = "committed"
          if (outcomeOf({ lines: [line] }) !== undefined) over = true
          if (line !== step) return
          const strike = (): void => {
            if (over) return
            if (World.killControlClients(world) > 0) hit = phase
            else setTimeout(strike, 2)
          }
          setTimeout(strike, delay)
        }
      })
      over = true
      return bereaved(world, tools, ran, hit ?? "no client", `${step} and ${Math.round(delay)} ms`, hit === undefined)
    })
})

/** Kills the program when its word is said and before the server has answered it: the server stands still meanwhile. */
const unansweredTrial = (tools: Tools, index: number): Trial => ({
  sweep: unansweredSweep,
  transport: tools.transport,
  name: `${unansweredSweep} ${index + 1}`,
  run: () =>
    inWorld(async (world): Promise<Result> => {
      await nothing(world, tools)
      const log = freshLog(tools)
      const running = Trace.run(command(tools, "deploy-and-stop", world), { log, inject: "write:delay_enter=40000" })
      let word: Trace.Point | undefined
      const watch = setInterval(() => {
        if (!Fs.existsSync(log)) return
        word = Trace.parse(Fs.readFileSync(log, "utf8")).filter(Trace.isToClient)[index]
        if (word === undefined) return
        World.signalServer(world, "SIGSTOP")
        if (/= \d+/.test(word.detail)) World.killProgram(world)
      }, 3)
      const ran = await running
      clearInterval(watch)
      World.signalServer(world, "SIGCONT")
      Fs.rmSync(log, { force: true })
      const left = await World.clientsGone(world)
      await reapOnce(world, tools)
      const after = await assessed(world, tools, { ...deploySweep, allowed: ["whole", "ended", "gone"] })
      return {
        sweep: unansweredSweep,
        transport: tools.transport,
        phase: word?.phase ?? "none",
        syscall: "SIGKILL",
        about: `word ${index + 1}`,
        outcome: word === undefined || outcomeOf(ran) !== undefined ? "missed" : after.outcome,
        failures: [...left, ...after.failures]
      }
    })
})

// The steps in which there is a client; it takes a moment to come in the first.
const lives = ["session", "session", "readiness", "task-entry", "commit", "stop", "stop"]
const longestDelayMillis = 60

const clientSweep = "tmux client by pid"
const unansweredSweep = "unanswered command"

/** What must be true of a program that lost its client: it did what it was to do, or it failed and says so and left nothing. */
const bereaved = async (
  world: World.World,
  tools: Tools,
  ran: Trace.Ran,
  phase: string,
  about: string,
  missed: boolean
): Promise<Result> => {
  const own = outcomeOf(ran) ?? `exit code ${ran.code}: ${ran.lines.join("; ")} ${ran.errors}`
  const left = await World.clientsGone(world)
  const committed = ran.lines.some((line) => line.startsWith("committed"))
  const isDone = ran.code === 0 && own === "done"
  const isUndone = ran.code === 5
  const after = await assessed(world, tools, {
    ...deploySweep,
    allowed: isDone ? ["ended"] : committed ? ["whole", "ended"] : ["gone"]
  })
  return {
    sweep: clientSweep,
    transport: tools.transport,
    phase,
    syscall: "SIGKILL",
    about: `${about}: ${own}`,
    outcome: missed ? "missed" : after.outcome,
    failures: [...(isDone || isUndone ? [] : [`it ended with ${own}`]), ...left, ...after.failures]
  }
}

/** One trial for each word of a program to its control client, before it and after it, and so many at random moments. */
export const clientTrials = async (
  tools: Tools,
  wanted: (name: string) => boolean,
  random: () => number,
  count: number
): Promise<ReadonlyArray<Trial>> => {
  if (tools.transport !== "control" || !wanted(clientSweep) && !wanted(unansweredSweep)) return []
  const words = await inWorld(async (world) => {
    await nothing(world, tools)
    const ran = await Trace.run(command(tools, "deploy-and-stop", world), { log: freshLog(tools) })
    return ran.calls.filter(Trace.isToClient).length
  })
  return [
    ...Array.from(
      { length: words },
      (_, index) => [wordTrial(tools, index, "before"), wordTrial(tools, index, "after")]
    )
      .flat(),
    ...Array.from({ length: words }, (_, index) => unansweredTrial(tools, index)),
    ...Array.from(
      { length: count },
      (_, index) => momentTrial(tools, `step ${lives[index % lives.length]}`, random() * longestDelayMillis)
    )
  ].filter(({ sweep }) => wanted(sweep))
}

// ---- calls that fail

/** What the deployer said of its end; undefined when it was killed. */
const outcomeOf = ({ lines }: Pick<Trace.Ran, "lines">): string | undefined =>
  lines.findLast((line) => /^(done|failed|defect|interrupted)/.test(line))

const errnos: Readonly<Record<string, ReadonlyArray<string>>> = {
  openat: ["ENOSPC", "EACCES", "EMFILE", "EIO"],
  mkdir: ["ENOSPC", "EACCES"],
  write: ["ENOSPC", "EIO"],
  writev: ["ENOSPC"],
  pwrite64: ["ENOSPC", "EIO"],
  rename: ["ENOSPC", "EIO"],
  link: ["ENOSPC"],
  unlink: ["EACCES", "EIO"],
  rmdir: ["EIO"],
  ftruncate: ["EIO"],
  fallocate: ["ENOSPC"],
  chmod: ["EPERM"],
  fchmod: ["EIO"],
  fsync: ["EIO"],
  fdatasync: ["EIO"],
  clone: ["EAGAIN"],
  clone3: ["EAGAIN"],
  fork: ["EAGAIN"],
  vfork: ["EAGAIN"]
}

// A client that has ended is another failure than a disk that is full.
const errnosOf = (point: Trace.Point): ReadonlyArray<string> =>
  Trace.isToClient(point) ? ["EPIPE", "ECONNRESET"] : errnos[point.syscall] ?? []

interface Told {
  readonly tag: string
  readonly step: string
  readonly clean: boolean
  readonly left: ReadonlyArray<string>
}

const faultTrial = (tools: Tools, point: Trace.Point, errno: string, lasting: boolean): Trial => {
  const sweep = lasting ? "fault that lasts" : "fault"
  return {
    sweep,
    transport: tools.transport,
    name: `${sweep} ${point.phase} ${point.syscall}#${point.at} ${errno}`,
    run: () => aimed(point, (point) => inWorld((world) => failedAt(tools, sweep, world, point, errno, lasting)))
  }
}

const failedAt = async (
  tools: Tools,
  sweep: string,
  world: World.World,
  point: Trace.Point,
  errno: string,
  lasting: boolean
) => {
  await nothing(world, tools)
  const log = freshLog(tools)
  const ran = await Trace.run(command(tools, "deploy", world), {
    log,
    inject: `${point.syscall}:error=${errno}:when=${point.at}${lasting ? "+" : ""}`,
    limitMillis: 90_000
  })
  Fs.rmSync(log, { force: true })
  const hit = ran.calls.find(({ at, syscall }) => syscall === point.syscall && at === point.at)
  const missed: Result = {
    sweep,
    transport: tools.transport,
    phase: point.phase,
    syscall: `${point.syscall} ${errno}`,
    about: `${point.syscall}#${point.at}`,
    outcome: "missed",
    failures: []
  }
  // Now and then another call has this number, such as one that wakes a thread of Node's own.
  if (hit === undefined || !Trace.matters(world.root, hit)) return { result: missed, hit: undefined }
  const own = outcomeOf(ran)
  const failures: Array<string> = []
  const said = own ?? `exit code ${ran.code}`
  // Node itself was seen to end here, which is a kill as any other.
  const crashed = lasting && point.syscall.startsWith("write") && ran.code === null
  if (!crashed && ran.code !== 0 && ran.code !== 5 && ran.code !== 6) {
    failures.push(`it ended with ${said} ${ran.errors.slice(0, 400)}`)
  }
  failures.push(...(await World.clientsGone(world)))
  if (crashed) await reapOnce(world, tools)
  const told: Told | undefined = own?.startsWith("failed ") === true
    ? JSON.parse(own.slice("failed ".length))
    : undefined
  if (ran.code === 6) {
    if (told !== undefined && told.left.length === 0) failures.push("it left something and does not name it")
    await reapOnce(world, tools)
  }
  // A disk that can't sync may keep what it said that it had not: then the row is there, and nothing else.
  if (lasting && point.syscall === "fsync" && told?.step === "admission") await reapOnce(world, tools)
  const committed = ran.code === 0 || ran.lines.some((line) => line.startsWith("committed"))
  const after = await assessed(world, tools, { ...deploySweep, allowed: committed ? ["whole"] : ["gone"] })
  const result: Result = {
    sweep,
    transport: tools.transport,
    phase: point.phase,
    syscall: `${point.syscall} ${errno}`,
    about: `${point.syscall}#${point.at} ${Trace.about(world.root, point)}: ${
      told === undefined
        ? own ?? ""
        : `${told.tag} at ${told.step}${told.clean ? "" : `, left ${told.left.join("; ")}`}`
    }`,
    outcome: after.outcome,
    failures: [...failures, ...after.failures]
  }
  return { result, hit }
}

/** One trial for each call of a deployment and each error that it may answer with, once and from then on. */
export const faultTrials = async (tools: Tools, wanted: (name: string) => boolean): Promise<ReadonlyArray<Trial>> => {
  if (!wanted("fault") && !wanted("fault that lasts")) return []
  const points = await pointsOf(tools, { ...deploySweep, name: "fault" })
  // Node ends itself when it can't have a thread.
  const trials = points.filter(({ detail }) => !detail.includes("CLONE_THREAD")).flatMap((point) =>
    errnosOf(point).flatMap((errno) => [false, true].map((lasting) => faultTrial(tools, point, errno, lasting)))
  )
  return trials.filter(({ sweep }) => wanted(sweep))
}

// ---- signals

/** How long a deployment takes from the moment that the home is open. */
const durationOf = (tools: Tools): Promise<number> =>
  inWorld(async (world) => {
    await nothing(world, tools)
    const times: Record<string, number> = {}
    await Trace.runPlain(command(tools, "deploy-slowly", world), { onLine: (line) => void (times[line] = Date.now()) })
    return (times["done"] ?? 0) - (times["opened"] ?? 0)
  })

const signalTrial = (tools: Tools, signal: NodeJS.Signals, delay: number): Trial => ({
  sweep: "signal",
  transport: tools.transport,
  name: `${signal} after ${Math.round(delay)} ms`,
  run: () =>
    inWorld(async (world): Promise<Result> => {
      await nothing(world, tools)
      let phase = "start"
      let hit = "after the end"
      let over = false
      const ran = await Trace.runPlain(command(tools, "deploy-slowly", world), {
        onLine: (line, pid) => {
          if (line.startsWith("step ")) phase = line.slice("step ".length)
          if (line.startsWith("committed")) phase = "committed"
          if (outcomeOf({ lines: [line] }) !== undefined) over = true
          if (line !== "opened") return
          setTimeout(() => {
            if (over) return
            hit = phase
            process.kill(pid, signal)
          }, delay)
        }
      })
      over = true
      const own = outcomeOf(ran)
      const failures: Array<string> = []
      if (own === undefined || !/^(done|interrupted)/.test(own)) {
        failures.push(`the deployer said ${own ?? ran.lines.join("; ")} ${ran.errors}`)
      }
      const committed = ran.lines.some((line) => line.startsWith("committed"))
      failures.push(...(await World.clientsGone(world)))
      // No reap: what a signal interrupts is rolled back by the deployer itself.
      const after = await assessed(world, tools, { ...deploySweep, allowed: committed ? ["whole"] : ["gone"] })
      return {
        sweep: "signal",
        transport: tools.transport,
        phase: hit,
        syscall: signal,
        about: `${signal} after ${Math.round(delay)} ms: ${own ?? ""}`,
        outcome: after.outcome,
        failures: [...failures, ...after.failures]
      }
    })
})

/** So many signals at random moments of a deployment. */
export const signalTrials = async (
  tools: Tools,
  wanted: (name: string) => boolean,
  random: () => number,
  count: number
): Promise<ReadonlyArray<Trial>> => {
  if (!wanted("signal")) return []
  const duration = await durationOf(tools)
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const
  return Array.from(
    { length: count },
    (_, index) => signalTrial(tools, signals[index % 3] ?? "SIGINT", random() * duration * 1.1)
  )
}
