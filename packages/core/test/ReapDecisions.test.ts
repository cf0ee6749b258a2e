/**
 * What a reap finds, and what it does about it by then: properties of the pure decisions, over rows, sessions, processes
 * and files of any kind.
 */
import { assert, describe, it } from "@effect/vitest"
import { Target, TmuxNoServer, TmuxTimeout } from "@slipway/tmux"
import type { Session, TmuxServer } from "@slipway/tmux"
import { Effect, Result, Schema } from "effect"
import { type Agent, hasCommitted, isFinal, type State, StateTag, status } from "../src/agent/Agent.ts"
import { agentMarker, homeMarker } from "../src/machine/Layout.ts"
import { type ProcessSnapshot, ProcessTableUnreadable } from "../src/machine/ProcessTree.ts"
import * as ReapItems from "../src/reconcile/ReapItems.ts"
import { Item, itemsWithin, ItemVerdict } from "../src/reconcile/ReapPlan.ts"
import * as ReapStep from "../src/reconcile/ReapStep.ts"
import { type Live, presenceOf, type Remains } from "../src/reconcile/Sightings.ts"
import * as Sessions from "../src/resource/Sessions.ts"
import { host, makeAgent, moment, newTaskId, record, running } from "./rows.ts"

const socket = Target.SocketPath.make("/home/tmux.sock")
const homeId = "0123456789ab"
const homes = { ours: homeId, other: "ba9876543210", none: undefined } as const
const runs = { arbitrary: { runs: 1000 } }

const Owner = Schema.Literals(["ours", "other", "none"])
const Listings = Schema.Literals(["NoServer", "NoAnswer", "Listed"])

/** One id, and what there is of it. */
const Thing = Schema.Struct({
  row: Schema.NullOr(StateTag),
  session: Schema.NullOr(Owner),
  process: Schema.NullOr(Schema.Struct({ home: Owner, isMember: Schema.Boolean })),
  hasDirectory: Schema.Boolean,
  hasEntry: Schema.Boolean
})
const Drawn = Schema.Struct({
  tmux: Listings,
  canScan: Schema.Boolean,
  things: Schema.Array(Thing).check(Schema.isMaxLength(6)),
  drafts: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 }))
})
type Drawn = typeof Drawn.Type
type Thing = typeof Thing.Type

const idOf = (index: number): string => `worker-260102-030405-00000${index}`

const sessionOf = (index: number): Session => ({
  id: Target.SessionId.make(`$${index}`),
  name: `renamed ${index}`,
  serverPid: 1,
  panePid: 100 + index
})

const listingOf = ({ things, tmux }: Pick<Drawn, "things" | "tmux">): Sessions.Listing => {
  if (tmux === "NoAnswer") return { _tag: tmux, reason: "it hangs" }
  if (tmux === "NoServer") return { _tag: tmux }
  return {
    _tag: tmux,
    sessions: things.flatMap(({ session }, index) =>
      session === null ? [] : [{ session: sessionOf(index), agentId: idOf(index), homeId: homes[session] }]
    )
  }
}

const scanOf = ({ things }: Pick<Drawn, "things">): ProcessSnapshot => ({
  complete: true,
  bearers: things.flatMap(({ process }, index) =>
    process === null ? [] : [{ pid: 200 + index, start: "1", agentId: idOf(index), homeId: homes[process.home] }]
  ),
  members: ({ agentId }) => ({
    doubtful: [],
    members: things.flatMap(({ process }, index) =>
      process?.isMember === true && idOf(index) === agentId
        ? [{ pid: 200 + index, start: "1", ppid: 1, pgid: 1, sid: 1, state: "S", evidence: "marker" as const }]
        : []
    )
  })
})

const liveOf = (drawn: Drawn): Live => ({
  listingOn: () => listingOf(drawn),
  processes: drawn.canScan
    ? Result.succeed(scanOf(drawn))
    : Result.fail(new ProcessTableUnreadable({ reason: "EACCES" }))
})

const remainsOf = ({ drafts, things }: Drawn): Remains => {
  const named = (has: (thing: Thing) => boolean, prefix: string) =>
    things.flatMap((thing, index) => has(thing) ? [{ id: idOf(index), path: `${prefix}/${idOf(index)}` }] : [])
  return {
    directories: named(({ hasDirectory }) => hasDirectory, "/home/agents"),
    entries: named(({ hasEntry }) => hasEntry, "/project/agents"),
    drafts: Array.from({ length: drafts }, (_, index) => `/project/draft.${index}`),
    statuses: new Map(things.flatMap(({ row }, index) => row === null ? [] : [[idOf(index), row] as const]))
  }
}

const found = (drawn: Drawn) => ReapItems.ofRemains({ homeId, socket }, liveOf(drawn), remainsOf(drawn))

const isActive = (row: State["_tag"] | null): boolean => row === "deploying" || row === "running" || row === "ending"

/** What is seen of an id that no active row explains, by the rule as a person would tell it. */
const evidenceOf = (drawn: Drawn, index: number): ReadonlyArray<string> => {
  const thing = drawn.things[index] ?? assert.fail("nothing was drawn")
  if (isActive(thing.row)) return []
  const keepsFiles = thing.row !== null && thing.row !== "rolled-back"
  const { process } = thing
  return [
    ...(drawn.tmux === "Listed" && thing.session === "ours" ? [`session renamed ${index}`] : []),
    ...(drawn.canScan && process?.home === "ours" && process.isMember ? [`process ${200 + index}`] : []),
    ...(thing.hasDirectory && !keepsFiles ? [`directory /home/agents/${idOf(index)}`] : []),
    ...(thing.hasEntry && !keepsFiles ? [`task entry /project/agents/${idOf(index)}`] : [])
  ]
}

describe("what is left without an active row", () => {
  it.prop("is one item with all that was seen of it, and nothing else is an item", [Drawn], ([drawn]) => {
    const items = found(drawn)
    for (const [index] of drawn.things.entries()) {
      const own = items.filter(({ subject }) => subject === idOf(index))
      const evidence = evidenceOf(drawn, index)
      assert.deepStrictEqual(own.map((item) => item.evidence), evidence.length === 0 ? [] : [evidence.join(", ")])
    }
    const drafts = items.filter(({ verdict }) => verdict === "draft")
    assert.deepStrictEqual(drafts.map(({ subject }) => subject), remainsOf(drawn).drafts)
    const subjects = items.map(({ subject }) => subject)
    assert.lengthOf(subjects, new Set(subjects).size)
    const known = new Set([...drawn.things.keys()].map(idOf))
    for (const { subject, verdict } of items) assert.isTrue(known.has(subject) || verdict === "draft")
  }, runs)

  it.prop(
    "is released where a row is on record, and a stray is only removed when it is asked for",
    [Drawn],
    ([drawn]) => {
      for (const { action, status, subject, verdict } of found(drawn)) {
        if (verdict === "draft") {
          assert.deepStrictEqual([action, status], ["remove", null])
          continue
        }
        const row = remainsOf(drawn).statuses.get(subject)
        const expected = row === undefined ? ["stray", "remove-when-asked", null] : ["leftover", "release", row]
        assert.deepStrictEqual([verdict, action, status], expected)
      }
    },
    runs
  )

  it.prop("is the same where another home's sessions and processes are gone", [Drawn], ([drawn]) => {
    const ours = drawn.things.map((thing) => ({
      ...thing,
      session: thing.session === "ours" ? thing.session : null,
      process: thing.process?.home === "ours" ? thing.process : null
    }))
    assert.deepStrictEqual(found({ ...drawn, things: ours }), found(drawn))
  }, runs)
})

const stateOf = (tag: State["_tag"]): State => {
  switch (tag) {
    case "deploying":
    case "running":
      return { _tag: tag }
    case "ending":
      return { _tag: tag, as: { _tag: "stopped", reason: "asked for", by: "request" }, left: null }
    case "exited":
      return { _tag: tag, code: 0, signal: null, outcome: "success" }
    case "stopped":
      return { _tag: tag, reason: "asked for", by: "request" }
    case "lost":
      return { _tag: tag, why: "the machine was restarted" }
    case "rolled-back":
      return { _tag: tag, step: "session", error: { tag: "TmuxTimeout", message: "it hangs" } }
  }
}

const rowOf = (tag: State["_tag"], committed = tag !== "deploying"): Agent =>
  makeAgent(newTaskId(), {
    state: stateOf(tag),
    running: committed ? running : null,
    startedAt: committed ? moment(1) : null
  })

const noServer = Effect.fail(new TmuxNoServer({ socket }))
const serverless: TmuxServer = {
  socket,
  newSession: () => noServer,
  pid: noServer,
  sessions: noServer,
  session: () => noServer,
  environment: () => noServer,
  environments: noServer,
  killSession: () => noServer,
  endIdle: () => noServer
}

describe("the session of an agent", () => {
  const Case = Schema.Struct({
    row: StateTag,
    tmux: Listings,
    marks: Schema.NullOr(Owner),
    processLives: Schema.Boolean
  })

  const caseOf = ({ marks, processLives, row, tmux }: typeof Case.Type) => {
    const agent = rowOf(row)
    const listing: Sessions.Listing = tmux !== "Listed" ? listingOf({ tmux, things: [] }) : {
      _tag: tmux,
      sessions: marks === null ? [] : [{ session: sessionOf(0), agentId: agent.id, homeId: homes[marks] }]
    }
    const member = { pid: 7, start: "1", ppid: 1, pgid: 1, sid: 1, state: "S", evidence: "marker" as const }
    const live: Live = {
      listingOn: () => listing,
      processes: Result.succeed({
        complete: true,
        bearers: [],
        members: () => ({ doubtful: [], members: processLives ? [member] : [] })
      })
    }
    return { agent, listing, live }
  }

  it.prop("is gone where tmux itself says so, of a running agent alone", [Case], ([drawn]) => {
    const { agent, live } = caseOf(drawn)
    const isThere = drawn.tmux === "Listed" && drawn.marks === "ours"
    const isGone = drawn.row === "running" && drawn.tmux !== "NoAnswer" && !isThere
    assert.strictEqual(ReapItems.ofSession(agent, live)?.verdict, isGone ? "session-gone" : undefined)
  }, runs)

  it.prop("is unknown and never absent where tmux does not answer", [Case], ([drawn]) => {
    const { agent, listing, live } = caseOf(drawn)
    const sight = Sessions.find(listing, { agentId: agent.id, homeId })
    const expected = drawn.tmux === "NoAnswer"
      ? "Unknown"
      : drawn.tmux === "Listed" && drawn.marks === "ours"
      ? "Present"
      : "Absent"
    assert.strictEqual(sight._tag, expected)
    // A process of it is as good a proof of life as its session.
    const presence = presenceOf(agent, host, live)
    assert.strictEqual(presence._tag, drawn.processLives ? "Present" : expected)
  }, runs)

  it.effect("is listed by its marks; that there is no server and that there is no answer are told apart", () =>
    Effect.gen(function*() {
      const session = sessionOf(0)
      const listed = (environments: TmuxServer["environments"]) => Sessions.list({ ...serverless, environments })
      const environment = { [agentMarker]: "worker", [homeMarker]: homeId, OTHER: "1" }
      assert.deepStrictEqual(yield* listed(Effect.succeed([{ session, environment }])), {
        _tag: "Listed",
        sessions: [{ session, agentId: "worker", homeId }]
      })
      assert.deepStrictEqual(yield* Sessions.list(serverless), { _tag: "NoServer" })
      const silent = yield* listed(Effect.fail(new TmuxTimeout({ operation: "show-environment", millis: 10 })))
      assert.strictEqual(silent._tag, "NoAnswer")
      assert.include(silent._tag === "NoAnswer" ? silent.reason : "", "show-environment")
      assert.deepStrictEqual(Sessions.seenOf(silent, homeId), [])
    }))
})

describe("the step for an item", () => {
  const Case = Schema.Struct({
    verdict: ItemVerdict,
    action: Item.fields.action,
    row: Schema.NullOr(StateTag),
    committed: Schema.Boolean,
    asked: Schema.Boolean
  })

  const caseOf = ({ action, asked, committed, row, verdict }: typeof Case.Type) => {
    const agent = row === null ? undefined : rowOf(row, committed)
    const item: Item = { subject: agent?.id ?? idOf(0), verdict, action, status: null, evidence: "it was seen" }
    return { agent, item, step: ReapStep.stepFor(item, agent, new Set(asked ? [item.subject] : ["another"])) }
  }

  it.prop("ends and rewrites nothing by an old plan, whatever it says", [Case], ([drawn]) => {
    const { agent, step } = caseOf(drawn)
    switch (step._tag) {
      case "Reconcile":
        return assert.isFalse(agent === undefined || isFinal(agent.state))
      case "Release":
        return assert.isTrue(agent !== undefined && isFinal(agent.state))
      case "Rewrite":
        return assert.isTrue(agent !== undefined && hasCommitted(agent))
      case "RemoveStray":
        return assert.isTrue(agent === undefined && drawn.asked && drawn.verdict === "stray")
      case "RemoveDraft":
        return assert.strictEqual(drawn.verdict, "draft")
      case "Skip":
        return
    }
  }, runs)

  it.prop("is taken wherever the item still holds", [Case], ([drawn]) => {
    const { agent, step } = caseOf(drawn)
    if (drawn.verdict === "draft") return assert.strictEqual(step._tag, "RemoveDraft")
    if (drawn.verdict === "stray") {
      return assert.strictEqual(step._tag, agent === undefined && drawn.asked ? "RemoveStray" : "Skip")
    }
    const steps: Partial<Record<Item["action"], ReapStep.Step["_tag"]>> = agent === undefined ? {} : {
      ...(isFinal(agent.state)
        ? { release: "Release" as const }
        : { "roll-back": "Reconcile" as const, reconcile: "Reconcile" as const, finish: "Reconcile" as const }),
      ...(hasCommitted(agent) ? { rewrite: "Rewrite" as const } : {})
    }
    assert.strictEqual(step._tag, steps[drawn.action] ?? "Skip")
  }, runs)

  it("is answered as left where something is, and as skipped where the row was found well", () => {
    const item: Item = {
      subject: idOf(0),
      verdict: "ended-agent",
      action: "reconcile",
      status: "running",
      evidence: ""
    }
    const outcome = (tag: State["_tag"]) => ReapStep.reconciled(item, rowOf(tag)).outcome
    const outcomes = StateTag.literals.map((tag) => [tag, outcome(tag)])
    assert.deepStrictEqual(Object.fromEntries(outcomes), {
      deploying: "skipped",
      running: "skipped",
      ending: "left",
      exited: "done",
      stopped: "done",
      lost: "done",
      "rolled-back": "done"
    })
    const clean = ReapStep.released(item, null, [record("tmux_session", { _tag: "Released" })])
    assert.deepInclude(clean, { outcome: "done", problems: [] })
    const left = ReapStep.released(item, null, [record("tmux_session")])
    assert.strictEqual(left.outcome, "left")
    assert.lengthOf(left.problems, 1)
  })

  it.prop("is only for what both plans have", [Schema.Array(Item), Schema.Array(Item)], ([items, others]) => {
    const plan = { homeId, at: moment(0), items }
    const key = ({ subject, verdict }: Item) => JSON.stringify([verdict, subject])
    const both = items.filter((item) => others.some((other) => key(other) === key(item)))
    assert.deepStrictEqual(itemsWithin(plan, { ...plan, items: [...others] }), both)
    assert.deepStrictEqual(itemsWithin(plan, undefined), items)
    assert.deepStrictEqual(itemsWithin(plan, plan), items)
  }, runs)
})

describe("the verdict on a row as an item", () => {
  it.prop("names the row's own status, and nothing where the row stands", [StateTag], ([tag]) => {
    const agent = rowOf(tag)
    const ended = { _tag: "Ended", as: { _tag: "lost", why: "it is gone" }, expected: tag, evidence: "seen" } as const
    assert.isUndefined(ReapItems.ofVerdict(agent, { _tag: "Stands" }))
    assert.deepInclude(ReapItems.ofVerdict(agent, { _tag: "Unknown", evidence: "?" }), {
      subject: agent.id,
      verdict: "unknown",
      action: "none",
      status: status(agent)
    })
    assert.deepInclude(ReapItems.ofVerdict(agent, { _tag: "Unfinished" }), { action: "finish", status: status(agent) })
    assert.deepInclude(
      ReapItems.ofVerdict(agent, ended),
      tag === "deploying"
        ? { verdict: "dead-deployment", action: "roll-back" }
        : { verdict: "ended-agent", action: "reconcile" }
    )
  })
})
