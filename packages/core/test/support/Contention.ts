/**
 * Many processes that deploy, stop and reap at random on one home, some of which are killed in the middle, and a judge who
 * looks at the registry's file, at tmux and at the processes, and not through the code under test.
 *
 * Limits are assessed twice: on samples of the rows while it goes on, and on every event afterwards, in the order of the commits.
 */
import { type DeployInput, Slipway } from "@slipway/core"
import { Effect, Exit, Fiber, Schema } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { type Child, runModule } from "../children.ts"
import * as World from "./World.ts"

export interface Options {
  readonly seconds: number
  readonly processes: number
  readonly seed: number
}

export interface Report {
  /** By operation and outcome. */
  readonly operations: ReadonlyMap<string, number>
  /** By step and tag, with the last message. */
  readonly refusals: ReadonlyMap<string, { readonly count: number; readonly message: string }>
  /** What was logged, without its numbers and ids. */
  readonly logs: ReadonlyMap<string, number>
  /** By state, before everything was stopped. */
  readonly rows: ReadonlyMap<string, number>
  readonly kills: number
  readonly samples: number
  /** The most agents that held a slot at once: in the home, and in each task with its limit. */
  readonly most: ReadonlyArray<
    { readonly of: string; readonly sampled: number; readonly replayed: number; readonly limit: number }
  >
  /** Keys that were answered, and callers that were answered by them. */
  readonly keys: { readonly count: number; readonly answers: number }
  /** What the one reap at the end found. */
  readonly reaped: ReadonlyMap<string, number>
  readonly violations: ReadonlyArray<string>
  /** Of each agent that a violation names: what happened to it, and what was said of it. */
  readonly stories: ReadonlyMap<string, ReadonlyArray<string>>
}

/** mulberry32: numbers from 0 to 1 that a seed repeats. */
export const random = (seed: number): () => number => {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

export const worldAt = (root: string): World.World => {
  const home = Path.join(root, "home")
  return { root, home, project: Path.join(root, "project"), socket: Path.join(home, "tmux.sock") }
}

const scripts = {
  stays: "echo up; exec sleep 1000",
  brief: "echo up; exec sleep 0.3",
  fails: "exit 3",
  stubborn: "trap '' TERM; echo up; sleep 1000 & wait",
  escapes: "setsid sleep 1000 & echo up; exec sleep 1000"
}
export type Life = keyof typeof scripts

export interface Wish {
  readonly task: string
  readonly type: string
  readonly life: Life
  readonly ready: "none" | "survive" | "output"
  readonly allowDuplicate: boolean
}

/** The row shows in the agent's arguments how it lives, and whether others of its type were allowed. */
export const request = ({ allowDuplicate, life, ready, task, type }: Wish): DeployInput => ({
  task,
  prompt: "work",
  type,
  agent: { kind: "command", argv: ["sh", "-c", scripts[life], life, allowDuplicate ? "among" : "alone"] },
  allowDuplicate,
  ready,
  readyWithin: ready === "output" ? 20_000 : 50
})

/** The living processes of an agent. */
export const bearers = (world: World.World, agentId: string): ReadonlyArray<number> =>
  World.members(world).filter((pid) => agentOf(pid) === agentId)

const agentOf = (pid: number): string | undefined => {
  try {
    const environ = Fs.readFileSync(`/proc/${pid}/environ`, "utf8").split("\0")
    return environ.find((each) => each.startsWith("SLIPWAY_AGENT_ID="))?.slice("SLIPWAY_AGENT_ID=".length)
  } catch {
    return undefined
  }
}

const Row = Schema.Struct({
  id: Schema.String,
  task: Schema.String,
  type: Schema.String,
  status: Schema.String,
  holds: Schema.Int,
  life: Schema.String,
  manner: Schema.String,
  started: Schema.NullOr(Schema.String)
})
type Row = typeof Row.Type
const decodeRows = Schema.decodeUnknownSync(Schema.Array(Row))

const selectRows = `SELECT id, task_id AS task, type, status, holds_slot AS holds,
  json_extract(document, '$.spec.argv[3]') AS life, json_extract(document, '$.spec.argv[4]') AS manner,
  json_extract(document, '$.startedAt') AS started FROM agents ORDER BY created_at, id`

const TransitionEvent = Schema.Struct({ id: Schema.String, status: Schema.String, cleanup: Schema.Int })
const decodeHappenings = Schema.decodeUnknownSync(Schema.Array(TransitionEvent))
const selectHappenings = "SELECT agent_id AS id, status, cleanup IS NOT NULL AS cleanup FROM events ORDER BY events.id"

const Complaints = Schema.Array(Schema.Record(Schema.String, Schema.Unknown))
const decodeComplaints = Schema.decodeUnknownSync(Complaints)

const query = <A>(world: World.World, decode: (rows: unknown) => A, sql: string): A => {
  const registry = new DatabaseSync(Path.join(world.home, "registry.db"), { readOnly: true, timeout: 10_000 })
  try {
    return decode(registry.prepare(sql).all())
  } finally {
    registry.close()
  }
}

interface Allowed {
  readonly id: string
  readonly name: string
  readonly maxConcurrent: number
  readonly maxAgents: number
}

interface Rules {
  readonly home: number
  readonly tasks: ReadonlyArray<Allowed>
}

/** The most that there was of everything at once. */
interface Most {
  home: number
  readonly tasks: Map<string, number>
}

/** What rows that hold a slot at one moment break. */
const judgeSlots = (rules: Rules, holding: ReadonlyArray<Row>, most: Most): ReadonlyArray<string> => {
  const found: Array<string> = []
  most.home = Math.max(most.home, holding.length)
  if (holding.length > rules.home) found.push(`${holding.length} agents are active in the home, of ${rules.home}`)
  for (const { id, maxConcurrent, name } of rules.tasks) {
    const inTask = holding.filter(({ task }) => task === id)
    most.tasks.set(id, Math.max(most.tasks.get(id) ?? 0, inTask.length))
    if (inTask.length > maxConcurrent) found.push(`${inTask.length} agents are active in ${name}, of ${maxConcurrent}`)
    // One that must be alone is admitted when no other is live; those that may be among others come after it.
    const alone = Map.groupBy(inTask.filter(({ manner }) => manner === "alone"), ({ type }) => type)
    for (const [type, rows] of alone) {
      if (rows.length > 1) {
        found.push(`${rows.map(({ id }) => id).join(", ")} of type ${type} are live in ${name} at once`)
      }
    }
  }
  return found
}

const judgeTotals = (rules: Rules, rows: ReadonlyArray<Row>): ReadonlyArray<string> =>
  rules.tasks.flatMap(({ id, maxAgents, name }) => {
    const count = rows.filter(({ status, task }) => task === id && status !== "rolled-back").length
    return count > maxAgents ? [`${name} has had ${count} agents, of ${maxAgents}`] : []
  })

const finals = new Set(["exited", "stopped", "lost", "rolled-back"])

/** Goes through all that happened, in the order of the commits. */
const replay = (world: World.World, rules: Rules, most: Most) => {
  const rows = new Map(query(world, decodeRows, selectRows).map((row) => [row.id, row]))
  const holding = new Map<string, Row>()
  const over = new Set<string>()
  const committed = new Set<string>()
  const violations: Array<string> = []
  for (const { cleanup, id, status } of query(world, decodeHappenings, selectHappenings)) {
    const row = rows.get(id)
    if (row === undefined) {
      violations.push(`something happened to ${id}, which has no row`)
      continue
    }
    if (over.has(id)) violations.push(`${id} became ${status} after its end`)
    if (status === "running") committed.add(id)
    if (finals.has(status)) over.add(id)
    // What releases left, only the row tells; so much is certain until they have answered.
    if (status === "deploying" || status === "running" || (status === "ending" && cleanup === 0)) holding.set(id, row)
    else holding.delete(id)
    if (status !== "deploying") continue
    violations.push(...judgeSlots(rules, [...holding.values()], most))
    const others = [...holding.values()].filter((each) =>
      each.id !== id && each.task === row.task && each.type === row.type
    )
    if (row.manner === "alone" && others.length > 0) {
      violations.push(`${id} was admitted while ${others.map((other) => other.id).join(", ")} of its type was live`)
    }
  }
  return { committed, over, violations }
}

const listed = (directory: string): ReadonlyArray<string> => Fs.existsSync(directory) ? Fs.readdirSync(directory) : []

const drafts = (world: World.World): ReadonlyArray<string> => {
  const slipway = Path.join(world.project, ".slipway")
  const tasks = listed(slipway).map((name) => Path.join(slipway, name)).filter((path) =>
    Fs.statSync(path).isDirectory()
  )
  return [world.home, slipway, ...tasks.flatMap((path) => [path, Path.join(path, "agents")])].flatMap((path) =>
    listed(path).filter((name) => name.endsWith(".tmp")).map((name) => Path.join(path, name))
  )
}

/** What is there and should not be, and what is not there and should be, after a reap. */
const audit = (world: World.World): ReadonlyArray<string> => {
  const rows = new Map(query(world, decodeRows, selectRows).map((row) => [row.id, row]))
  const isRunning = (id: string | undefined) => id !== undefined && rows.get(id)?.status === "running"
  const sessions = new Set(World.sessions(world).map((name) => name.replace(/^agent_/, "")))
  const living = new Map(World.members(world).map((pid) => [pid, agentOf(pid)]))
  const directories = new Set(World.directories(world))
  const entries = new Set(
    World.entries(world).filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -5))
  )
  const found: Array<string> = []
  for (const id of sessions) if (!isRunning(id)) found.push(`session of ${id}, which is ${rows.get(id)?.status}`)
  for (const [pid, id] of living) {
    if (!isRunning(id)) found.push(`process ${pid} of ${id}, which is ${rows.get(id ?? "")?.status}`)
  }
  for (const id of [...directories, ...entries]) {
    const status = rows.get(id)?.status
    if (status === undefined || status === "rolled-back") found.push(`files of ${id}, which is ${status}`)
  }
  for (const { id, life, started, status } of rows.values()) {
    if (status !== "running" && !finals.has(status)) found.push(`${id} is ${status}`)
    if (status === "rolled-back") continue
    if (started === null) found.push(`${id} is ${status}, and has never committed`)
    if (!directories.has(id)) found.push(`${id} is ${status}, and has no directory`)
    if (!entries.has(id)) found.push(`${id} is ${status}, and has no entry`)
    const stays = status === "running" && life !== "brief" && life !== "fails"
    if (stays && !(sessions.has(id) && [...living.values()].includes(id))) {
      found.push(`${id} is running, and nothing of it lives`)
    }
  }
  return found
}

const Chapter = Schema.Struct({ id: Schema.String, text: Schema.String })
const decodeChapters = Schema.decodeUnknownSync(Schema.Array(Chapter))
const selectChapters =
  "SELECT agent_id AS id, at || ' ' || status || ': ' || detail AS text FROM events ORDER BY events.id"

const storiesOf = (world: World.World, violations: Iterable<string>, children: ReadonlyArray<Child>) => {
  const named = Array.from(violations).flatMap((violation) => violation.match(/[a-z]+(?:-\d{6}){2}-[0-9a-f]{6}/g) ?? [])
  const chapters = query(world, decodeChapters, selectChapters)
  return new Map(Array.from(new Set(named), (id): [string, ReadonlyArray<string>] => {
    const said = children.flatMap(({ lines }, child) =>
      lines.flatMap((line, at) =>
        line.includes(id)
          ? [...lines.slice(Math.max(0, at - 3), at + 3), ""].map((each) => `child ${child} said ${each}`)
          : []
      )
    )
    return [id, [...chapters.filter((chapter) => chapter.id === id).map(({ text }) => text), ...said]]
  }))
}

/** Asks until nothing is complained of; what still is after so long is the answer. */
const settled = Effect.fnUntraced(function*(limitMillis: number, complaints: () => ReadonlyArray<string>) {
  const limit = performance.now() + limitMillis
  let found = complaints()
  while (found.length > 0 && performance.now() < limit) {
    yield* Effect.sleep("200 millis")
    found = complaints()
  }
  return found
})

const steps = ["admission", "agent-directory", "session", "readiness", "task-entry", "commit"]

const increase = (counts: Map<string, number>, key: string): void => void counts.set(key, (counts.get(key) ?? 0) + 1)

const countBy = <A>(items: ReadonlyArray<A>, key: (item: A) => string): ReadonlyMap<string, number> => {
  const counts = new Map<string, number>()
  for (const item of items) increase(counts, key(item))
  return counts
}

/** What may be answered while others are at work, or the machine is busy; any other typed error would be no fault of theirs. */
const expected = new Set([
  "AgentExitedEarly",
  "DepthExceeded",
  "DeploymentEnded",
  "DuplicateType",
  "HomeFull",
  "KeyConflict",
  "NoFirstOutput",
  "ParentNotRunning",
  "SharedDeploymentFailed",
  "StepTimedOut",
  "TaskFull",
  "TmuxTimeout",
  "TooManyActive"
])

/** A registry that is locked for longer than its patience is told so. */
const isExpected = (tag: string, message: string): boolean =>
  expected.has(tag) || (tag === "RegistryUnavailable" && message.includes("locked"))

/** All that children have said, sorted. */
const gather = (children: ReadonlyArray<Child>) => {
  const operations = new Map<string, number>()
  const refusals = new Map<string, { count: number; message: string }>()
  const logs = new Map<string, number>()
  const committed = new Set<string>()
  const rolledBack = new Set<string>()
  const admitted = new Set<string>()
  const keys = new Map<string, { readonly ids: Set<string>; readonly prompts: Set<string>; answers: number }>()
  const violations: Array<string> = []
  for (const line of children.flatMap(({ lines }) => lines)) {
    const [kind = "", what = "", ...rest] = line.split(" ")
    const text = rest.join(" ")
    if (kind === "operation") increase(operations, what)
    if (kind === "refused" || (kind === "operation" && text !== "")) {
      refusals.set(what, { count: (refusals.get(what)?.count ?? 0) + 1, message: text })
      if (!isExpected(what.split("/")[1] ?? "", text)) violations.push(`unexpected: ${what} ${text}`)
    }
    if (kind === "committed") committed.add(what)
    else if (kind === "rolled-back") rolledBack.add(what)
    else if (kind === "violation" || kind === "left") violations.push(line)
    else if (kind === "log") {
      increase(logs, line.slice(4).replaceAll(/[a-z]+-\d{6}-\d{6}-[0-9a-f]{6}/g, "ID").replaceAll(/\d+/g, "N"))
    } else if (kind === "key") {
      const known = keys.get(what) ?? { ids: new Set(), prompts: new Set(), answers: 0 }
      keys.set(what, known)
      known.ids.add(rest[0] ?? "")
      known.prompts.add(rest[1] ?? "")
      known.answers++
    }
    if (kind === "committed" || kind === "reused" || kind === "rolled-back") admitted.add(what)
  }
  for (const [key, { ids, prompts }] of keys) {
    if (ids.size > 1) violations.push(`${key} was answered with ${[...ids].join(", ")}`)
    if (prompts.size > 1) violations.push(`${key} was answered to two requests`)
  }
  return { operations, refusals, logs, committed, rolledBack, admitted, keys, violations }
}

/** Runs all of it on a world of its own; what is left is removed when the scope closes. */
export const run = Effect.fnUntraced(function*({ processes, seconds, seed }: Options) {
  const world = yield* World.make
  const draw = random(seed)
  const below = (limit: number): number => Math.floor(draw() * limit)
  const home = Math.max(3, Math.floor(processes * 0.75))
  const violations = new Set<string>()
  const withSlipway = <A, E>(use: (slipway: Slipway["Service"]) => Effect.Effect<A, E>) =>
    Effect.flatMap(Slipway, use).pipe(Effect.provide(World.layer(world, { transport: "process", maxActive: home })))

  const limits = [
    { name: "a narrow task", maxConcurrent: Math.max(2, Math.floor(home / 4)), maxAgents: 100_000 },
    { name: "a short task", maxConcurrent: home, maxAgents: Math.max(5, Math.floor((processes * seconds) / 20)) },
    { name: "a wide task", maxConcurrent: home, maxAgents: 100_000 }
  ]
  const tasks = yield* withSlipway((slipway) =>
    Effect.forEach(limits, ({ name, ...limit }) =>
      Effect.map(
        slipway.createTask({ description: name, project: world.project, maxDepth: 2, ...limit }),
        ({ id }): Allowed => ({ id, name, ...limit })
      ))
  )
  const rules: Rules = { home, tasks }

  const all: Array<Child> = []
  const begin = Effect.gen(function*() {
    const number = all.length
    const child = yield* runModule("support/contender.ts", [
      world.root,
      String(seed * 10_000 + number),
      number % 2 === 0 ? "control" : "process",
      String(home),
      ...tasks.map(({ id }) => id)
    ])
    all.push(child)
    return child
  })

  const sampled: Most = { home: 0, tasks: new Map() }
  let samples = 0
  const watch = Effect.sync(() => {
    const rows = query(world, decodeRows, selectRows)
    for (const problem of judgeSlots(rules, rows.filter(({ holds }) => holds === 1), sampled)) violations.add(problem)
    for (const problem of judgeTotals(rules, rows)) violations.add(problem)
    samples++
  })

  const active = yield* Effect.forEach(Array.from({ length: processes }), () => begin)
  yield* Effect.forEach(active, (child) => child.says("ready"), { concurrency: "unbounded" })
  for (const child of active) child.tell("go")
  const watcher = yield* Effect.forkScoped(Effect.forever(Effect.delay(watch, "20 millis")))

  let kills = 0
  const until = performance.now() + seconds * 1000
  const replacements: Array<Fiber.Fiber<void>> = []
  const replace = Effect.gen(function*() {
    const next = yield* begin
    yield* next.says("ready")
    next.tell("go")
    active.push(next)
  })
  const kill = Effect.fnUntraced(function*(victim: Child) {
    const index = active.indexOf(victim)
    if (index >= 0) active.splice(index, 1)
    victim.process.kill("SIGKILL")
    const ended = yield* Effect.exit(victim.ended)
    if (Exit.isFailure(ended)) violations.add(`a process that was killed complained: ${String(ended.cause)}`)
    if (victim.process.signalCode === "SIGKILL") kills++
    else violations.add(`a process ended by itself: ${victim.process.exitCode}, ${victim.lines.at(-1)}`)
  })
  const reaches = Effect.fnUntraced(function*(children: ReadonlyArray<Child>, step: string, limit: number) {
    const from = children.map(({ lines }) => lines.length)
    const isThere = () => children.some(({ lines }, index) => lines.slice(from[index]).includes(step))
    while (performance.now() < limit && !isThere()) yield* Effect.sleep("1 millis")
  })
  /** Kills one in the middle: at a step of a deployment that is drawn, or at any moment, and puts another in its place. */
  const killOne = Effect.gen(function*() {
    yield* Effect.sleep(500 + below(1500))
    const step = draw() < 0.6 ? `step ${steps[below(steps.length)]}` : undefined
    const victim = active[below(active.length)]
    if (victim === undefined) return
    if (step !== undefined) yield* reaches([victim], step, Math.min(until, performance.now() + 2000))
    if (performance.now() >= until) return
    yield* kill(victim)
    replacements.push(yield* Effect.forkScoped(replace))
  })
  while (performance.now() < until) yield* killOne

  yield* Fiber.joinAll(replacements)
  const last = active.splice(0, 2)
  for (const child of active) child.tell("end")
  yield* Effect.forEach(active, (child) =>
    Effect.gen(function*() {
      const ended = yield* Effect.exit(Effect.timeout(child.ended, "120 seconds"))
      if (Exit.isFailure(ended)) {
        violations.add(`a process did not end well: ${String(ended.cause)}; ${child.lines.at(-1)}`)
      } else if (child.process.exitCode !== 0 || child.lines.at(-1) !== "over") {
        violations.add(`a process ended with ${child.process.exitCode} after: ${child.lines.at(-1)}`)
      }
    }), { concurrency: "unbounded" })
  // These are killed when nobody is left to stop what they were at: it is for the one reap to find.
  yield* reaches(last, `step ${steps[1 + below(4)]}`, performance.now() + 10_000)
  yield* Effect.forEach(last, kill, { concurrency: "unbounded" })
  yield* Fiber.interrupt(watcher)

  const said = gather(all)
  for (const problem of said.violations) violations.add(problem)

  const reaped = yield* withSlipway((slipway) => Effect.flatMap(slipway.reapPlan, slipway.reap))
  for (const { item, problems } of reaped.filter(({ outcome }) => outcome === "left")) {
    violations.add(`${item.subject} could not be reaped: ${problems.join("; ")}`)
  }
  for (const problem of yield* settled(20_000, () => audit(world))) violations.add(`after one reap: ${problem}`)
  const rows = countBy(World.rows(world), ({ status }) => status)

  yield* withSlipway((slipway) =>
    Effect.flatMap(
      slipway.agents({ activeOnly: true }),
      (agents) => slipway.stop(agents.map(({ id }) => id), { grace: 200 })
    )
  )
  // A draft that a killed writer left is taken for one when it has been there for a while.
  const leftDrafts = () => drafts(world).map((path) => `draft ${path}`)
  yield* withSlipway((slipway) =>
    Effect.gen(function*() {
      const limit = performance.now() + 30_000
      while (leftDrafts().length > 0 && performance.now() < limit) {
        yield* Effect.flatMap(slipway.reapPlan, slipway.reap)
        yield* Effect.sleep("500 millis")
      }
    })
  )
  const endRows = query(world, decodeRows, selectRows)
  const kept = new Set(World.kept(endRows.filter(({ status }) => status !== "rolled-back").map(({ id }) => id)))
  const leftovers = () => [
    ...audit(world),
    ...leftDrafts(),
    ...World.leftovers(world).filter((each) => !kept.has(each))
  ]
  for (const problem of yield* settled(20_000, leftovers)) violations.add(`after everything was stopped: ${problem}`)

  const replayed: Most = { home: 0, tasks: new Map() }
  const history = replay(world, rules, replayed)
  for (const problem of history.violations) violations.add(problem)
  const status = new Map(endRows.map((row) => [row.id, row.status]))
  for (const id of said.admitted) if (!status.has(id)) violations.add(`${id} was admitted, and its row is lost`)
  for (const id of said.committed) {
    if (!history.committed.has(id)) violations.add(`${id} was said to have committed, and is ${status.get(id)}`)
  }
  for (const id of said.rolledBack) {
    if (status.get(id) !== "rolled-back") violations.add(`${id} was said to be rolled back, and is ${status.get(id)}`)
  }
  for (const id of said.rolledBack) {
    if (history.committed.has(id)) violations.add(`${id} has committed, and was rolled back`)
  }
  // Who was killed between a commit and the word of it could not say it.
  const unsaid = [...history.committed].filter((id) => !said.committed.has(id))
  if (unsaid.length > kills) violations.add(`${unsaid.join(", ")} have committed, and nobody said so`)
  const doubled = countBy(query(world, decodeComplaints, selectKeys), (row) => String(row["k"]))
  for (const [key, count] of doubled) if (count > 1) violations.add(`${key} stands for ${count} agents`)
  const totals = yield* withSlipway((slipway) => slipway.totals)
  const total = (outcome: string) => totals.deployments.find((each) => each.outcome === outcome)?.count ?? 0
  const rolledBackRows = endRows.filter((row) => row.status === "rolled-back").length
  if (total("committed") !== history.committed.size) {
    violations.add(`${total("committed")} commits were counted of ${history.committed.size}`)
  }
  if (total("rolled-back") !== rolledBackRows) {
    violations.add(`${total("rolled-back")} rollbacks were counted of ${rolledBackRows}`)
  }
  const complaints = [
    ...query(world, decodeComplaints, "PRAGMA integrity_check"),
    ...query(world, decodeComplaints, "PRAGMA foreign_key_check")
  ].filter((row) => row["integrity_check"] !== "ok")
  for (const row of complaints) violations.add(`the registry complains: ${JSON.stringify(row)}`)

  const report: Report = {
    operations: said.operations,
    refusals: said.refusals,
    logs: said.logs,
    rows,
    kills,
    samples,
    most: [
      { of: "the home", sampled: sampled.home, replayed: replayed.home, limit: home },
      ...tasks.map(({ id, maxConcurrent, name }) => ({
        of: name,
        sampled: sampled.tasks.get(id) ?? 0,
        replayed: replayed.tasks.get(id) ?? 0,
        limit: maxConcurrent
      }))
    ],
    keys: { count: said.keys.size, answers: [...said.keys.values()].reduce((sum, { answers }) => sum + answers, 0) },
    reaped: countBy(reaped, ({ item, outcome }) => `${item.verdict}/${outcome}`),
    violations: [...violations],
    stories: storiesOf(world, violations, all)
  }
  return report
}, Effect.scoped)

const selectKeys = "SELECT request_key AS k FROM agents WHERE request_key IS NOT NULL AND status <> 'rolled-back'"
