/**
 * The audit of a world in memory: what must be so once a home was reaped, looked at from outside.
 *
 * It reads the rows from the database, the processes and sessions from the machine, and the files from the disk in memory; nothing
 * of the code under test has a part in it, except for the text of a task entry.
 */
import { Effect } from "effect"
import * as Path from "node:path"
import { type Agent, isFinal } from "../../src/agent/Agent.ts"
import * as Document from "../../src/agent/Document.ts"
import { print, type Step } from "./HistorySteps.ts"
import { HistoryWorld, type MemoryHome, type Store } from "./HistoryWorld.ts"

type Findings = ReadonlyArray<{ readonly kind: string; readonly evidence: string }>

const entriesOf = (world: HistoryWorld, home: MemoryHome): ReadonlyArray<string> =>
  home.tasks.flatMap((task) => world.listed(Path.join(world.project, ".slipway", task.id, "agents")))

/** What there is of a home without a row: sessions, processes, directories, entries. */
export const strays = (world: HistoryWorld, home: MemoryHome): ReadonlySet<string> => {
  const known = new Set<string>(world.rows(home).map(({ id }) => id))
  const there = [
    ...world.sessions(home),
    ...Array.from(world.machine.processes.values()).filter(({ homeId }) => homeId === home.id).map((each) =>
      each.agentId
    ),
    ...world.listed(home.service.agents),
    ...entriesOf(world, home).filter((name) => name.endsWith(".json")).map((name) => name.slice(0, -".json".length))
  ]
  return new Set(there.filter((id) => id !== undefined).filter((id) => !known.has(id)))
}

/** Agents that live though their end was recorded; at any time, and not only after a reap. */
const revenants = (world: HistoryWorld, home: MemoryHome): ReadonlyArray<string> =>
  world.rows(home).filter(({ id, state }) =>
    isFinal(state) && world.living(home, id).some(({ role }) => role === "agent" || role === "child")
  ).map(({ id, state }) => `${id} lives, and its row says ${state._tag}`)

/** Whether a living program still carries the row's deployment or its ending out. */
const isAttended = (world: HistoryWorld, { lease, state }: Agent): boolean => {
  const byDeployer = lease !== null && world.isAlive(lease.holder, lease.host.boot)
  const carrier = state._tag === "ending" ? state.carrier : undefined
  return byDeployer ||
    (carrier !== undefined && world.isAlive(carrier.holder, carrier.host.boot) && world.machine.uptime <= carrier.until)
}

/** Everything about a home that must not be so after a reap that could look at everything. */
export const problems = (world: HistoryWorld, home: MemoryHome): ReadonlyArray<string> => {
  const found: Array<string> = []
  const rows = new Map<string, Agent>(world.rows(home).map((row) => [row.id, row]))
  const sessions = new Set(world.sessions(home))
  for (const row of rows.values()) {
    const living = world.living(home, row.id)
    const there = living.length > 0 || sessions.has(row.id)
    const attended = isAttended(world, row)
    const { _tag } = row.state
    if (isFinal(row.state) && there) {
      found.push(`${row.id} is ${_tag}, and lives: ${living.map(({ role }) => role).join(", ")}`)
    }
    if (_tag === "deploying" && !world.isHeld(row)) found.push(`${row.id} is deploying without a deployer`)
    if (_tag === "ending" && !attended) found.push(`the ending of ${row.id} was not finished`)
    if (_tag === "running") {
      if (living.length === 0) found.push(`${row.id} is running, and nothing of it lives`)
      if (world.isRecorded(row)) found.push(`${row.id} is running, and has left an exit record`)
      const { owner } = row
      if (owner !== null && !world.isAlive(owner.holder, owner.host.boot)) found.push(`${row.id} outlived its owner`)
    }
    if (_tag === "rolled-back" && row.startedAt !== null) found.push(`${row.id} had committed and was rolled back`)
    const hasDirectory = world.disk.exists(row.plan.directory)
    if (_tag === "rolled-back" && hasDirectory) found.push(`${row.id} was rolled back and has a directory`)
    const entry = world.disk.text(row.plan.entry)
    if (row.startedAt === null || _tag === "rolled-back") {
      if (entry !== undefined && !attended) found.push(`${row.id} has never committed and has an entry`)
    } else {
      if (!hasDirectory) found.push(`${row.id} has committed and has no directory`)
      if (entry === undefined) found.push(`${row.id} has committed and has no entry`)
      else if (entry !== Document.entryText(row) && !attended) {
        found.push(`the entry of ${row.id} is not what its row says`)
      }
    }
  }
  const now = world.time.wall + world.time.now
  const drafts = [
    home.service.directory,
    ...home.tasks.flatMap((task) => {
      const workspace = Path.join(world.project, ".slipway", task.id)
      return [workspace, Path.join(workspace, "agents")]
    })
  ].flatMap((path) => world.listed(path).filter((name) => name.endsWith(".tmp")).map((name) => Path.join(path, name)))
  for (const draft of drafts) {
    if ((world.disk.info(draft)?.modifiedMillis ?? now) < now - 11_000) found.push(`${draft} was left by its writer`)
  }
  return found
}

/** The findings that the doctor must have where nothing is wrong: strays, and agents that lost their session. */
const expected = (world: HistoryWorld, home: MemoryHome): ReadonlyArray<string> => {
  const sessions = new Set(world.sessions(home))
  const unheld = world.rows(home).filter(({ id, state }) => state._tag === "running" && !sessions.has(id))
  return [
    ...Array.from(strays(world, home), (id) => `stray ${id}`),
    ...unheld.map(({ id }) => `session-gone ${id}`)
  ].toSorted()
}

/** What is told of an ending that waits for a deployer whose lease ran out while it lives; all else has to be gone. */
const isLate = ({ kind }: { readonly kind: string }) => kind === "unfinished-ending"

const audit = (world: HistoryWorld, home: MemoryHome, when: string, findings: Findings) => {
  if (world.machine.blind.size > 0) return
  world.count("audits")
  for (const problem of problems(world, home)) world.problem(`after ${when}: ${problem}`)
  const wanted = expected(world, home)
  const told = findings.filter((finding) => !isLate(finding))
    .map(({ evidence, kind }) => `${kind} ${evidence.split(/[ :]/)[0]}`).toSorted()
  if (told.join() !== wanted.join()) {
    world.problem(`after ${when}: the doctor says [${told.join(", ")}], and there is [${wanted.join(", ")}]`)
  }
  const late = findings.filter(isLate).map(({ evidence }) => evidence.split(/[ :]/)[0])
  const attended = world.rows(home).filter((row) => row.state._tag === "ending" && isAttended(world, row))
  for (const id of late) {
    if (!attended.some((row) => row.id === id)) world.problem(`after ${when}: the doctor has ${id} unfinished`)
  }
}

/** Lets everything that is under way come to its end, and audits it strictly. */
const conclude = Effect.fnUntraced(function*(world: HistoryWorld) {
  world.machine.blind.clear()
  for (let round = 0; world.waiting().length > 0 && round < 10; round++) {
    const [first, ...others] = world.waiting()
    if (first !== undefined) yield* world.thaw(first)
    others.slice(0, 1).forEach((program) => world.kill(program))
  }
  world.time.pass(60_000)
  for (const home of world.homes) {
    yield* world.conclude(home, (when, findings) => {
      audit(world, home, when, findings)
      const open = world.rows(home).filter(({ state }) => state._tag === "ending" || state._tag === "deploying")
      for (const row of open) world.problem(`after ${when} ${row.id} is ${row.state._tag}`)
      if (when === "the reap at the end") return
      for (const id of strays(world, home)) world.problem(`after ${when} the stray ${id} is still there`)
    })
    for (const row of world.rows(home)) {
      if (!isFinal(row.state)) world.problem(`after the last stop ${row.id} is ${row.state._tag}`)
    }
    const left = Array.from(world.machine.processes.values()).filter(({ homeId }) => homeId === home.id)
    if (left.length > 0) world.problem(`after the last stop ${left.length} processes live`)
  }
  const others = Array.from(world.machine.processes.values()).filter(({ role }) => role === "stranger")
  if (others.length !== 1) world.problem("the stranger was not left alone")
})

/** Runs a history; answers with what went wrong, first things first. */
export const play = Effect.fnUntraced(
  function*(store: Store, steps: ReadonlyArray<Step>, counts?: Map<string, number>) {
    const world = new HistoryWorld(store, counts)
    yield* world.prepare()
    for (const [index, step] of steps.entries()) {
      const before = world.homes.map((home) => strays(world, home))
      const findings = yield* world.take(step)
      for (const home of world.homes) {
        world.judgeLimits(home, `after step ${index + 1}`)
        for (const problem of revenants(world, home)) world.problem(`after step ${index + 1}: ${problem}`)
      }
      for (const home of world.homes) {
        const asked = step._tag === "Reap" && step.home === home.index && step.strays === 3
        const isReap = (step._tag === "Reap" || step._tag === "ApplyOld" || step._tag === "Look") && !asked
        const now = strays(world, home)
        const gone = isReap ? [...before[home.index] ?? []].filter((id) => !now.has(id)) : []
        for (const id of gone) world.problem(`step ${index + 1} removed the stray ${id}, which nobody asked for`)
      }
      const reaped = step._tag === "Reap" ? world.homes[step.home] : undefined
      if (reaped !== undefined && findings !== undefined) audit(world, reaped, `step ${index + 1}`, findings)
      if (world.problems.length > 0) break
    }
    if (world.problems.length === 0) yield* conclude(world)
    world.count(`length ${String(Math.ceil(steps.length / 5) * 5).padStart(2, "0")}`)
    return world.problems
  }
)

/** How a history failed, for a person. */
export const story = (steps: ReadonlyArray<Step>, found: ReadonlyArray<string>): string =>
  `${found.slice(0, 5).join("\n")}\nin this history:\n${print(steps)}\n`
