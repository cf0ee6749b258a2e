/**
 * The world that a history runs in on the real machine: real tmux, real processes, real SQLite and files, two homes on
 * one socket. A killed deployer is a process of its own that ends by a real SIGKILL. A restart of the machine ends all
 * that belongs to the homes, and the programs from then on see another boot.
 *
 * The audit looks at /proc, at tmux's own answers, at the files and at the rows, and not through the code under test.
 */
import { type DeployInput, Slipway } from "@slipway/core"
import { Target } from "@slipway/tmux"
import { Context, Effect, Fiber, Layer, Schema } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { DatabaseSync, type SQLOutputValue } from "node:sqlite"
import { Agent, isFinal } from "../../src/agent/Agent.ts"
import * as Document from "../../src/agent/Document.ts"
import { Host } from "../../src/machine/Host.ts"
import { services } from "../../src/Services.ts"
import { runModule } from "../children.ts"
import { eventually, identify, lives } from "../processes.ts"
import { behaviourOf, courseOf, describe, scriptOf, type Step } from "./HistorySteps.ts"
import * as World from "./World.ts"

export interface LiveHome extends World.World {
  readonly index: number
}

/** A home of the world at a root; both have one project and one socket. */
export const homeOf = (root: string, index: number): LiveHome => ({
  index,
  root,
  home: Path.join(root, `home-${index}`),
  project: Path.join(root, "project"),
  socket: Path.join(root, "tmux.sock")
})

/** The facade as a program of this boot has it; the first boot is the machine's own. */
export const facade = (home: LiveHome, boot: string) => {
  const options = {
    directory: home.home,
    socket: Target.SocketPath.make(home.socket),
    caller: World.caller(home),
    maxActive: 4
  }
  const host = Layer.effect(
    Host,
    Effect.map(Host, (real) => Host.of({ ...real, identity: { ...real.identity, boot } }))
  )
  return Layer.fresh(
    Slipway.layerNoDeps(options).pipe(Layer.provide(host), Layer.provide(services(options)))
  )
}

/** A world without anything; when the scope closes, whatever it still has is ended by pid and removed. */
export const make = Effect.acquireRelease(
  Effect.sync(() => {
    const root = Fs.mkdtempSync(Path.join(Os.tmpdir(), "slipway-"))
    Fs.mkdirSync(Path.join(root, "project"))
    return root
  }),
  (root) =>
    Effect.sync(() => {
      spawnSync("tmux", ["-S", Path.join(root, "tmux.sock"), "kill-server"])
      for (const pid of World.members(homeOf(root, 0))) kill(pid)
      for (const pid of World.members(homeOf(root, 1))) kill(pid)
      Fs.rmSync(root, { recursive: true, force: true })
    })
)

const kill = (pid: number) => {
  try {
    process.kill(pid, "SIGKILL")
  } catch {
    // It ended by itself.
  }
}

const Documents = Schema.Array(Schema.Struct({ document: Schema.fromJsonString(Agent) }))

const database = <A>(home: LiveHome, use: (database: DatabaseSync) => A): A => {
  const opened = new DatabaseSync(Path.join(home.home, "registry.db"), { timeout: 5000 })
  try {
    return use(opened)
  } finally {
    opened.close()
  }
}

const rows = (home: LiveHome): ReadonlyArray<Agent> =>
  database(home, (database) =>
    Schema.decodeUnknownSync(Documents)(
      database.prepare("SELECT document FROM agents ORDER BY created_at, id").all()
    )).map(({ document }) => document)

interface Living {
  readonly pid: number
  readonly agentId: string
}

/** The processes that bear a home's id, by /proc. */
const living = (home: LiveHome): ReadonlyArray<Living> =>
  Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).flatMap((pid) => {
    try {
      const environ = Fs.readFileSync(`/proc/${pid}/environ`, "utf8").split("\0")
      const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
      const agentId = environ.find((each) => each.startsWith("SLIPWAY_AGENT_ID="))?.split("=")[1]
      const isZombie = stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z")
      const isOurs = environ.includes(`SLIPWAY_HOME_ID=${World.homeId(home)}`)
      return agentId === undefined || isZombie || !isOurs ? [] : [{ pid: Number(pid), agentId }]
    } catch {
      return []
    }
  })

/** The agents of a home that tmux has a session of, by the marks of each. */
const sessions = (home: LiveHome): ReadonlyArray<string> =>
  World.sessions(home).flatMap((name) => {
    const answer = spawnSync("tmux", ["-S", home.socket, "show-environment", "-t", `=${name}`], { encoding: "utf8" })
    const marks = answer.stdout.split("\n")
    if (!marks.includes(`SLIPWAY_HOME_ID=${World.homeId(home)}`)) return []
    return marks.filter((mark) => mark.startsWith("SLIPWAY_AGENT_ID=")).map((mark) => mark.split("=")[1] ?? "")
  })

const listed = (path: string) => Fs.existsSync(path) ? Fs.readdirSync(path) : []

const entries = (home: LiveHome): ReadonlyArray<string> =>
  database(home, (database) => database.prepare("SELECT id FROM tasks").all())
    .flatMap(({ id }) => listed(Path.join(home.project, ".slipway", String(id), "agents")))
    .filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length))

const strays = (home: LiveHome): ReadonlyArray<string> => {
  const known = new Set<string>(rows(home).map(({ id }) => id))
  const there = [
    ...living(home).map(({ agentId }) => agentId),
    ...sessions(home),
    ...World.directories(home),
    ...entries(home)
  ]
  return [...new Set(there)].filter((id) => !known.has(id)).toSorted()
}

const audit = (home: LiveHome): ReadonlyArray<string> => {
  const alive = new Set(living(home).map(({ agentId }) => agentId))
  const held = new Set(sessions(home))
  const documents = new Set(entries(home))
  return rows(home).flatMap((row) => {
    const { _tag } = row.state
    const found = (problem: string) => [`${row.id} (${_tag}): ${problem}`]
    if (_tag === "deploying" || _tag === "ending") return found("nobody finished it")
    const there = alive.has(row.id) || held.has(row.id)
    const isRecorded = listed(row.plan.directory).some((name) => name.startsWith("exit."))
    if (_tag === "running" && (isRecorded || !there)) return found("it has ended")
    if (isFinal(row.state) && there) return found("something of it lives")
    const hasDirectory = Fs.existsSync(row.plan.directory)
    if (_tag === "rolled-back") return hasDirectory || documents.has(row.id) ? found("it left files") : []
    if (!hasDirectory) return found("its directory is gone")
    const isTrue = documents.has(row.id) && Fs.readFileSync(row.plan.entry, "utf8") === Document.entryText(row)
    return isTrue ? [] : found("its entry is not what the row says")
  })
}

const tables = ["tasks", "agents", "events"]

/** Runs a history on the machine; answers with what went wrong. */
export const play = Effect.fnUntraced(function*(steps: ReadonlyArray<Step>, counts: Map<string, number>) {
  const root = yield* make
  const homes = [homeOf(root, 0), homeOf(root, 1)]
  const problems: Array<string> = []
  const saved = new Map<number, ReadonlyMap<string, ReadonlyArray<Record<string, SQLOutputValue>>>>()
  const plans = new Map<number, Effect.Success<Slipway["Service"]["reapPlan"]>>()
  const first = (yield* Effect.provide(Host, Host.layer)).identity.boot
  let boots = 0
  const boot = () => boots === 0 ? first : `${first}-${boots}`
  const count = (what: string) => counts.set(what, (counts.get(what) ?? 0) + 1)
  const on = <A, E>(home: LiveHome, use: (slipway: Slipway["Service"]) => Effect.Effect<A, E>) =>
    Effect.scoped(
      Effect.flatMap(Layer.build(facade(home, boot())), (built) => use(Context.get(built, Slipway)))
    )
  const homeAt = (index: number) => homes[index] ?? homeOf(root, 0)
  const tasks = yield* Effect.forEach(
    homes,
    (home) =>
      on(home, (slipway) =>
        Effect.forEach([0, 1], () =>
          slipway.createTask({
            description: "a task",
            project: home.project,
            maxAgents: 7,
            maxConcurrent: 3,
            maxDepth: 2
          })))
  )

  const deploy = Effect.fnUntraced(function*(step: Extract<Step, { _tag: "Deploy" }>) {
    const home = homeAt(step.home)
    const task = tasks[step.home]?.[step.task]
    const running = rows(home).filter((row) => row.state._tag === "running" && row.taskId === task?.id)
    const parent = step.parent === 0 ? undefined : running[(step.parent - 1) % Math.max(1, running.length)]
    const behaviour = behaviourOf(step.behaviour)
    const request: DeployInput = {
      ...(task === undefined ? {} : { task: task.id }),
      prompt: "work",
      type: `type-${step.type}`,
      // An agent that ends later, at a time of its own, would tell nothing of who ended it.
      agent: World.shell(scriptOf(behaviour === "late0" ? "stay" : behaviour)),
      ready: step.ready,
      readyWithin: step.ready === "output" ? 5000 : 150,
      allowDuplicate: step.allowDuplicate,
      ...(step.key > 3 ? { key: `key-${step.key}` } : {}),
      ...(parent === undefined ? {} : { parent: parent.id })
    }
    const stages = ["admission", "agent-directory", "session", "readiness", "task-entry", "commit"]
    const stage = stages[step.fate.at % stages.length] ?? "session"
    const course = courseOf(step.fate)
    count(`live ${course} ${course === "whole" ? "" : stage}`)
    if (course === "whole") return yield* Effect.asVoid(Effect.exit(on(home, (slipway) => slipway.deploy(request))))
    if (course === "interrupted") {
      const fiber: Fiber.Fiber<unknown, unknown> = yield* Effect.forkChild(
        Effect.exit(on(home, (slipway) =>
          slipway.deploy(request, {
            onStep: (at) => Effect.sync(() => at === stage ? fiber.interruptUnsafe() : undefined)
          })))
      )
      return yield* Effect.asVoid(Fiber.await(fiber))
    }
    yield* Effect.scoped(Effect.gen(function*() {
      const delay = step.fate.at % 3 === 0 ? 0 : step.fate.at % 20
      const args = [root, String(step.home), boot(), stage, String(delay), JSON.stringify(request)]
      const child = yield* runModule("support/HistoryDeployer.ts", args)
      yield* eventually(() => child.process.signalCode === "SIGKILL" || child.process.exitCode !== null)
      if (child.process.exitCode !== null) problems.push("the deployer could not be started")
    }))
  })

  const reap = Effect.fnUntraced(function*(home: LiveHome, label: string, withStrays: boolean) {
    const findings = yield* on(home, (slipway) =>
      Effect.gen(function*() {
        const plan = yield* slipway.reapPlan
        const asked = plan.items.filter(({ verdict }) => withStrays && verdict === "stray")
        yield* slipway.reap(plan, { strays: asked.map(({ subject }) => subject) })
        // A client of tmux that outlived its deployer may have come late: what it made ends by itself.
        yield* eventually(() => audit(home).length === 0).pipe(Effect.timeoutOption("2 seconds"))
        return (yield* slipway.doctor).findings
      }))
    count("live audits")
    for (const problem of audit(home)) problems.push(`after ${label}: ${problem}`)
    const told = findings.filter(({ kind }) => kind !== "release-failures")
      .map(({ evidence, kind }) => `${kind} ${evidence.split(/[ :]/)[0]}`).toSorted().join()
    const held = new Set(sessions(home))
    const gone = rows(home).filter((row) => row.state._tag === "running" && !held.has(row.id))
    const wanted = [...strays(home).map((id) => `stray ${id}`), ...gone.map(({ id }) => `session-gone ${id}`)]
      .toSorted().join()
    if (told !== wanted) problems.push(`after ${label}: the doctor says [${told}], and there is [${wanted}]`)
  })

  /** Agents that may end at any time, without anybody's doing. */
  const brief = new Set<string>()

  const take = Effect.fnUntraced(function*(step: Step, label: string) {
    count(`live ${step._tag}`)
    switch (step._tag) {
      case "Deploy":
        return yield* deploy(step)
      case "Stop": {
        const home = homeAt(step.home)
        const all = rows(home)
        const row = all[step.agent % Math.max(1, all.length)]
        if (row === undefined) return
        return yield* Effect.asVoid(on(home, (slipway) => slipway.stop([row.id], { grace: "100 millis" })))
      }
      case "Reap":
        return yield* reap(homeAt(step.home), label, step.strays === 3)
      case "Plan":
        plans.set(step.home, yield* on(homeAt(step.home), (slipway) => slipway.reapPlan))
        return
      case "ApplyOld": {
        const plan = plans.get(step.home)
        if (plan !== undefined) yield* on(homeAt(step.home), (slipway) => slipway.reap(plan))
        return
      }
      case "Look":
        return yield* Effect.asVoid(on(homeAt(step.home), (slipway) => slipway.agents({ activeOnly: true })))
      case "End": {
        const all = homes.flatMap(living)
        const chosen = all[step.process % Math.max(1, all.length)]
        if (chosen === undefined) return
        const identity = identify(chosen.pid)
        // What is left of its agent ends by itself from now on, whenever that is.
        brief.add(chosen.agentId)
        kill(chosen.pid)
        return yield* eventually(() => !lives(identity))
      }
      case "KillServer":
      case "Restart": {
        for (const { agentId } of homes.flatMap(living)) brief.add(agentId)
        spawnSync("tmux", ["-S", homeAt(0).socket, "kill-server"])
        if (step._tag === "KillServer") return
        for (const { pid } of homes.flatMap(living)) kill(pid)
        yield* eventually(() => homes.flatMap(living).length === 0)
        boots++
        return
      }
      case "Save":
        saved.set(
          step.home,
          database(
            homeAt(step.home),
            (database) => new Map(tables.map((table) => [table, database.prepare(`SELECT * FROM ${table}`).all()]))
          )
        )
        return
      case "Restore": {
        const copy = saved.get(step.home)
        if (copy === undefined) return
        return database(homeAt(step.home), (database) => {
          database.exec(
            "BEGIN IMMEDIATE; DELETE FROM events; DELETE FROM agents; DELETE FROM tasks"
          )
          for (const [table, content] of copy) {
            for (const row of content) {
              const names = Object.keys(row)
              const marks = names.map(() => "?")
              database.prepare(`INSERT INTO ${table} (${names.join()}) VALUES (${marks.join()})`)
                .run(...Object.values(row))
            }
          }
          database.exec("COMMIT")
        })
      }
      default:
        return
    }
  })

  /** Who lives of the home that a step does not concern; an agent that ends by itself may do so at any time. */
  const bystanders = (step: Step): ReadonlyArray<string> => {
    for (const row of homes.flatMap(rows)) {
      if (row.spec.kind === "command" && /# (quick|orphans)/.test(row.spec.argv.join(" "))) brief.add(row.id)
    }
    const home = "home" in step ? homeAt(1 - step.home) : undefined
    const there = home === undefined ? [] : living(home)
    return there.filter(({ agentId }) => !brief.has(agentId)).map(({ agentId, pid }) => `${agentId} ${pid}`)
  }

  for (const [index, step] of steps.entries()) {
    const label = `step ${index + 1} (${describe(step)})`
    const bystandersBefore = bystanders(step)
    const straysBefore = homes.map(strays)
    yield* take(step, label)
    const after = bystanders(step)
    const missing = bystandersBefore.filter((each) => !after.includes(each))
    if (missing.length > 0) problems.push(`${label}: of the other home ended ${missing.join(", ")}`)
    const isAsked = step._tag === "Reap" && step.strays === 3
    for (const home of step._tag === "Reap" && !isAsked ? homes : []) {
      const now = strays(home)
      for (const id of straysBefore[home.index] ?? []) {
        if (!now.includes(id)) problems.push(`${label}: the stray ${id} is gone`)
      }
    }
    if (problems.length > 0) return problems
  }
  for (const home of homes) {
    yield* reap(home, "the reap at the end", true)
    const ids = rows(home).filter(({ state }) => state._tag === "running").map(({ id }) => id)
    yield* on(home, (slipway) => slipway.stop(ids, { grace: "100 millis" }))
    yield* reap(home, "the last stop", false)
    const left = [...strays(home), ...living(home).map(({ agentId }) => agentId), ...sessions(home)]
    for (const id of left) problems.push(`at the end something of ${id} is left`)
  }
  return problems
}, Effect.scoped)
