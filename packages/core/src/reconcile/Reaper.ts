/**
 * The reaper: finds where the registry, tmux, the process table and the files do not agree, and cleans it up.
 *
 * `plan` reads each of them once (one listing of sessions, one scan of processes, one query) and changes nothing. Each
 * item has its verdict, the evidence for it and the action. `apply` assesses every item again at the moment of acting, by
 * the functions that a stop and a reconciliation use. So an old plan kills nothing that lives. A reap that was interrupted or
 * killed is simply run again, and two at once do no harm.
 *
 * What is unknown is reported and left. What bears another home's id, or none, is never in a plan. A stray bears our
 * home's id and has no row (a restored or copied registry). It is only touched when a caller names its id.
 */
import { Tmux } from "@slipway/tmux"
import type { Session } from "@slipway/tmux"
import { Clock, Context, DateTime, Duration, Effect, Layer, Option, Result, Schema } from "effect"
import * as Path from "node:path"
import {
  type Agent,
  AgentId,
  hasCommitted,
  isFinal,
  sessionName,
  type State,
  status,
  subjectOf
} from "../agent/Agent.ts"
import * as CleanupReport from "../agent/CleanupReport.ts"
import { described } from "../agent/Described.ts"
import * as Document from "../agent/Document.ts"
import * as Plan from "../agent/Plan.ts"
import type { Planned } from "../agent/Plan.ts"
import type { ReleaseRecord } from "../agent/Release.ts"
import type { Task } from "../agent/Task.ts"
import { Home } from "../home/Home.ts"
import { Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { agentMarker, homeMarker } from "../machine/Layout.ts"
import * as Layout from "../machine/Layout.ts"
import { type ProcessSnapshot, type ProcessTableUnreadable, ProcessTree } from "../machine/ProcessTree.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { presenceIn } from "../resource/AgentSession.ts"
import type { Presence } from "../resource/Resource.ts"
import { Resources } from "../resource/Resources.ts"
import * as Rollback from "../resource/Rollback.ts"
import { isCurrent, TaskEntry } from "../resource/TaskEntry.ts"
import { Ending } from "./Ending.ts"
import { Reconciler } from "./Reconciler.ts"
import type { Verdict } from "./Verdict.ts"

/** What is wrong. */
export const ItemVerdict = Schema.Literals([
  /** A deployment whose deployer is dead, or whose lease has run out. */
  "dead-deployment",
  /** An agent that has ended, lost its owner, or is past a limit of time, and is not recorded so. */
  "ended-agent",
  /** An ending that one process began and none finished. */
  "unfinished-ending",
  /** Processes, a session or files of a row that is final. */
  "leftover",
  /** A task entry that is not what its row says. */
  "stale-entry",
  /** Something of this home without any row. */
  "stray",
  /** A document that was not put in place, since its writer was killed. */
  "draft",
  /** The session no longer exists while the agent lives; nothing is done about it. */
  "session-gone",
  "unknown"
])
export type ItemVerdict = typeof ItemVerdict.Type

export const Item = Schema.Struct({
  subject: described(Schema.String, "The agent's id, of a stray the id that it bears, of a draft its path."),
  verdict: described(ItemVerdict, "What is wrong."),
  status: described(Schema.NullOr(Schema.String), "The row's status; null where there is no row."),
  evidence: described(Schema.String, "What was seen."),
  action: described(
    Schema.Literals([
      "roll-back",
      "reconcile",
      "finish",
      "release",
      "rewrite",
      "remove",
      "remove-when-asked",
      "none"
    ]),
    "What a reap does about it; `remove-when-asked` only when a caller names the id."
  )
})
export type Item = typeof Item.Type

/** A plan as it is written. */
export const ReapPlanDocument = Schema.Struct({
  home_id: described(Schema.String, "The home that the plan is of."),
  at: described(Schema.DateTimeUtcFromString, "When it was made."),
  items: described(Schema.Array(Item), "What was found.")
})

const { at, home_id: homeId, items } = ReapPlanDocument.fields

/** A plan can be written to a file, read, and applied later. */
export const ReapPlan = Schema.Struct({ homeId, at, items }).pipe(Schema.encodeKeys({ homeId: "home_id" }))
export type ReapPlan = typeof ReapPlan.Type

/** What became of an item. */
export interface Reaped {
  readonly item: Item
  /** `left` names what is still there; `skipped` what no longer was as the plan said, or is only reported. */
  readonly outcome: "done" | "left" | "skipped"
  /** The row's status afterwards; null where there is no row. */
  readonly status: string | null
  readonly problems: ReadonlyArray<string>
}

export interface ReapOptions {
  /** Act only on what is in this plan as well. */
  readonly within?: ReapPlan | undefined
  /** The strays to remove, by the ids that they bear. */
  readonly strays?: ReadonlyArray<string> | undefined
}

/** One listing of tmux's sessions and one scan of the process table; `undefined` where there was no answer. */
interface Sightings {
  readonly sessions: (
    socket: string
  ) => ReadonlyArray<{ readonly session: Session; readonly agentId: string }> | undefined
  readonly processes: Result.Result<ProcessSnapshot, ProcessTableUnreadable>
}

export class Reaper extends Context.Service<Reaper, {
  /** Makes a plan, and changes nothing. */
  readonly plan: Effect.Effect<ReapPlan, RegistryError>
  /** Acts on a plan; never fails because of one item. */
  readonly apply: (plan: ReapPlan, options?: ReapOptions) => Effect.Effect<ReadonlyArray<Reaped>, RegistryError>
}>()("@slipway/core/Reaper") {
  static readonly layer = Layer.effect(Reaper, Effect.suspend(() => make))
}

const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const processes = yield* ProcessTree
  const ledger = yield* Ledger
  const ending = yield* Ending
  const { assess, reconcile } = yield* Reconciler
  const tmux = yield* Tmux
  const entry = yield* TaskEntry
  const { kinds } = yield* Resources

  /**
   * The sessions on a socket that bear this home's id: empty where there is no server, none where tmux did not answer.
   */
  const sessionsOn = (socket: Home["Service"]["socket"]) =>
    tmux.server(socket).environments.pipe(
      Effect.map((all) =>
        all.flatMap(({ environment, session }) => {
          const agentId = environment[agentMarker]
          return environment[homeMarker] === home.id && agentId !== undefined ? [{ session, agentId }] : []
        })
      ),
      Effect.catchTag("TmuxNoServer", () => Effect.succeed([])),
      Effect.option
    )

  const look = Effect.fnUntraced(function*(active: ReadonlyArray<Agent>): Effect.fn.Return<Sightings> {
    const sockets = [...new Set([home.socket, ...active.map((agent) => agent.plan.socket)])]
    const listings = new Map<string, Effect.Success<ReturnType<typeof sessionsOn>>>()
    for (const socket of sockets) listings.set(socket, yield* sessionsOn(socket))
    const snapshot = yield* Effect.result(processes.snapshot)
    return {
      sessions: (socket) => Option.getOrUndefined(listings.get(socket) ?? Option.none()),
      processes: snapshot
    }
  })

  /** What `AgentSession.probe` answers, from one scan for all agents. */
  const presenceOf = (agent: Agent, sightings: Sightings): Presence => {
    const sessions = sightings.sessions(agent.plan.socket)
    const sight: Presence = sessions === undefined
      ? { _tag: "Unknown", reason: "tmux does not answer" }
      : { _tag: sessions.some(({ agentId }) => agentId === agent.id) ? "Present" : "Absent" }
    return presenceIn(subjectOf(agent), host.identity, sight, sightings.processes)
  }

  const planActive = Effect.fnUntraced(function*(agent: Agent, sightings: Sightings) {
    const found = yield* assess(agent, Effect.sync(() => presenceOf(agent, sightings)))
    const item = itemOf(agent, found)
    if (item !== undefined) {
      // A deployer that committed and exited since its row was read is dead, and its agent is well.
      const now = Option.getOrUndefined(yield* ledger.agent(agent.id))
      if (now === undefined || now.state._tag === agent.state._tag) return [item]
      const again = itemOf(now, yield* assess(now))
      return again === undefined ? [] : [again]
    }
    const sessions = sightings.sessions(agent.plan.socket)
    const isGone = agent.state._tag === "running" && sessions?.every(({ agentId }) => agentId !== agent.id) === true
    if (isGone) return [describe(agent, "session-gone", "its launcher lives and tmux has no session of it", "none")]
    return agent.state._tag === "running" && !(yield* isCurrent(files, agent))
      ? [describe(agent, "stale-entry", `${agent.plan.entry} is not what the row says`, "rewrite")]
      : []
  })

  const listed = (path: string) => Effect.orElseSucceed(files.list(path), () => [])

  const entriesOf = Effect.fnUntraced(function*(task: Task) {
    const directory = Path.join(Layout.directoryOf(task.project, task.id), "agents")
    return (yield* listed(directory)).filter((name) => name.endsWith(".json")).map((name) => ({
      id: name.slice(0, -".json".length),
      path: Path.join(directory, name)
    }))
  })

  /** What was written beside its place, and has stayed there longer than a living writer needs. */
  const staleDrafts = Effect.fnUntraced(function*(tasks: ReadonlyArray<Task>) {
    const workspaces = tasks.map((task) => Layout.directoryOf(task.project, task.id))
    const below = workspaces.flatMap((path) => [Path.dirname(path), path, Path.join(path, "agents")])
    const before = (yield* Clock.currentTimeMillis) - Duration.toMillis(draftAge)
    const found: Array<string> = []
    for (const directory of new Set([home.directory, ...below])) {
      for (const name of (yield* listed(directory)).filter(isDraft)) {
        const path = Path.join(directory, name)
        const info = yield* Effect.orElseSucceed(files.inspect(path), () => undefined)
        if (info?.kind === "file" && info.modifiedMillis < before) found.push(path)
      }
    }
    return found
  })

  /** Things of this home whose row is final, or that have none. */
  const planRest = Effect.fnUntraced(function*(sightings: Sightings) {
    const tasks = yield* ledger.tasks
    const directories = yield* listed(home.agents)
    const entries = yield* Effect.forEach(tasks, entriesOf)
    // Read last: whatever was seen before has its row by now, if it has one at all.
    const states = yield* ledger.statuses
    const found = new Map<string, Array<string>>()
    const note = (id: string, what: string) => found.set(id, [...found.get(id) ?? [], what])
    const isOver = (id: string): boolean => {
      const tag = states.get(id)
      return tag === undefined || isFinalTag(tag)
    }
    for (const { agentId, session } of sightings.sessions(home.socket) ?? []) {
      if (isOver(agentId)) note(agentId, `session ${session.name}`)
    }
    const seen = Option.getOrUndefined(Result.getSuccess(sightings.processes))
    for (const { agentId, homeId, pid } of seen?.bearers ?? []) {
      const isOurs = homeId === home.id && isOver(agentId)
      const members = isOurs ? seen?.members({ agentId, homeId, roots: [] }).members ?? [] : []
      if (members.some((member) => member.pid === pid)) note(agentId, `process ${pid}`)
    }
    const isGoneFor = (id: string) => !states.has(id) || states.get(id) === "rolled-back"
    for (const name of directories) if (isGoneFor(name)) note(name, `directory ${Path.join(home.agents, name)}`)
    for (const { id, path } of entries.flat()) if (isGoneFor(id)) note(id, `task entry ${path}`)
    const drafts = (yield* staleDrafts(tasks)).map((path): Item => ({
      subject: path,
      verdict: "draft",
      status: null,
      evidence: "its writer was killed before it was put in place",
      action: "remove"
    }))
    const things = Array.from(found, ([subject, things]): Item => {
      const state = states.get(subject)
      return {
        subject,
        verdict: state === undefined ? "stray" : "leftover",
        status: state ?? null,
        evidence: things.join(", "),
        action: state === undefined ? "remove-when-asked" : "release"
      }
    })
    return [...things, ...drafts]
  })

  const plan = Effect.gen(function*() {
    const active = yield* ledger.agents({ activeOnly: true })
    const sightings = yield* look(active)
    const items = yield* Effect.forEach(active, (agent) => planActive(agent, sightings), { concurrency: 8 })
    const rest = yield* planRest(sightings)
    const made: ReapPlan = { homeId: home.id, at: yield* DateTime.now, items: [...items.flat(), ...rest] }
    return made
  }).pipe(Effect.withSpan("Reaper.plan"))

  const reconciled = (item: Item, agent: Agent): Reaped => {
    const problems = agent.state._tag === "ending" ? CleanupReport.problems({ releases: agent.state.left ?? [] }) : []
    // What was assessed again and found well was not touched.
    if (agent.state._tag === "deploying" || agent.state._tag === "running") return skipped(item, status(agent))
    return { item, outcome: isFinal(agent.state) ? "done" : "left", status: status(agent), problems }
  }

  const skipped = (item: Item, status: string | null, problem?: string): Reaped => ({
    item,
    outcome: "skipped",
    status,
    problems: problem === undefined ? [] : [problem]
  })

  const released = (item: Item, status: string | null, releases: ReadonlyArray<ReleaseRecord>): Reaped => ({
    item,
    outcome: CleanupReport.leftovers({ releases }).length === 0 ? "done" : "left",
    status,
    problems: CleanupReport.problems({ releases })
  })

  const rowOf = (item: Item) =>
    Effect.map(
      Schema.is(AgentId)(item.subject) ? ledger.agent(item.subject) : Effect.succeedNone,
      Option.getOrUndefined
    )

  /** What is left of an agent whose row is final. */
  const releaseLeftover = Effect.fnUntraced(function*(item: Item, agent: Agent) {
    const { releases } = yield* ending.releaseLeft(agent)
    return released(item, status(agent), releases)
  })

  const removeStray = Effect.fnUntraced(function*(item: Item) {
    if (!Schema.is(AgentId)(item.subject)) {
      return skipped(item, null, "it does not bear an agent's id; remove it by hand")
    }
    const agentId = item.subject
    const found = (yield* Effect.forEach(yield* ledger.tasks, entriesOf)).flat().filter(({ id }) => id === agentId)
    const places = {
      directory: home.agentDirectory(agentId),
      socket: home.socket,
      session: sessionName(agentId),
      workspace: "",
      entry: ""
    }
    // A plan as the deployment would have made it, with every entry of its name.
    const resources: ReadonlyArray<Planned> = [
      ...Plan.make(home.id, places).resources.filter(({ kind }) => kind !== Plan.houseKinds.entry),
      ...found.map(({ path }) => ({
        kind: Plan.houseKinds.entry,
        reference: { workspace: Path.dirname(Path.dirname(path)), entry: path }
      }))
    ]
    const subject = { homeId: home.id, agentId, host: null, launcher: null, since: null }
    const { releases } = yield* Rollback.releaseAll(kinds, resources, subject, {
      until: "rollback",
      unknown: "name"
    })
    return released(item, null, releases)
  })

  const removeDraft = Effect.fnUntraced(function*(item: Item) {
    const isThere = (yield* staleDrafts(yield* ledger.tasks)).includes(item.subject)
    if (!isThere) return skipped(item, null)
    const removed = yield* Effect.result(files.removeFile(item.subject))
    const reaped: Reaped = removed._tag === "Success"
      ? { item, outcome: "done", status: null, problems: [] }
      : { item, outcome: "left", status: null, problems: [removed.failure.message] }
    return reaped
  })

  /** Writes the entry until the row has not changed meanwhile: no command rewrites the entry of a final row. */
  const rewrite = Effect.fnUntraced(function*(agent: Agent) {
    for (let shown: Agent | undefined = agent; shown !== undefined;) {
      const written: Agent = shown
      yield* entry.make(written.plan, written, subjectOf(written))
      const now = Option.getOrUndefined(yield* ledger.agent(written.id))
      shown = now === undefined || Document.entryText(now) === Document.entryText(written) ? undefined : now
    }
  })

  const act = Effect.fnUntraced(
    function*(item: Item, strays: ReadonlySet<string>): Effect.fn.Return<Reaped, RegistryError> {
      if (item.verdict === "draft") return yield* removeDraft(item)
      const agent = yield* rowOf(item)
      if (item.verdict === "stray") {
        if (agent !== undefined) return skipped(item, status(agent), "it has a row by now")
        return strays.has(item.subject)
          ? yield* removeStray(item)
          : skipped(item, null, `reported only; 'slipway reap --stray ${item.subject}' removes it`)
      }
      if (agent === undefined) return skipped(item, null, "its row was removed meanwhile")
      switch (item.action) {
        case "roll-back":
        case "reconcile":
        case "finish":
          return isFinal(agent.state) ? skipped(item, status(agent)) : reconciled(item, yield* reconcile(agent))
        case "release":
          return isFinal(agent.state) ? yield* releaseLeftover(item, agent) : skipped(item, status(agent))
        case "rewrite": {
          if (!hasCommitted(agent)) return skipped(item, status(agent))
          const written = yield* Effect.result(rewrite(agent))
          return written._tag === "Success"
            ? { item, outcome: "done", status: status(agent), problems: [] }
            : { item, outcome: "left", status: status(agent), problems: [written.failure.message] }
        }
        default:
          return skipped(item, status(agent))
      }
    }
  )

  const apply = Effect.fn("Reaper.apply")(function*(plan: ReapPlan, options: ReapOptions = {}) {
    const { strays = [], within } = options
    const key = (item: Item) => `${item.verdict} ${item.subject}`
    const allowed = within === undefined ? undefined : new Set(within.items.map(key))
    const items = plan.items.filter((item) => allowed?.has(key(item)) ?? true)
    return yield* Effect.forEach(items, (item) => act(item, new Set(strays)), { concurrency: 8 })
  })

  return Reaper.of({ plan, apply })
})

/** A write takes a moment; one that was not finished by then never will be. */
const draftAge = Duration.seconds(10)

/** As `Files.replaceFile` and the home name them. */
const isDraft = (name: string): boolean => /\.[0-9a-f]{12}\.tmp(-wal|-shm|-journal)?$/.test(name)

const isFinalTag = (tag: State["_tag"]): boolean => tag !== "deploying" && tag !== "running" && tag !== "ending"

const describe = (agent: Agent, verdict: ItemVerdict, evidence: string, action: Item["action"]): Item => ({
  subject: agent.id,
  verdict,
  status: status(agent),
  evidence,
  action
})

const itemOf = (agent: Agent, found: Verdict): Item | undefined => {
  switch (found._tag) {
    case "Stands":
      return undefined
    case "Unknown":
      return describe(agent, "unknown", found.evidence, "none")
    case "Unfinished":
      return describe(agent, "unfinished-ending", "an ending was begun and not finished", "finish")
    case "Ended":
      return agent.state._tag === "deploying"
        ? describe(agent, "dead-deployment", found.evidence, "roll-back")
        : describe(agent, "ended-agent", found.evidence, "reconcile")
  }
}
