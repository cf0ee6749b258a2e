/**
 * Who is alive and who has ended: properties of the pure decision, over rows and facts of any kind.
 */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import type { Agent } from "../src/agent/Agent.ts"
import type { Standing } from "../src/machine/Lease.ts"
import * as Verdict from "../src/reconcile/Verdict.ts"
import type { Presence } from "../src/resource/Resource.ts"
import { host, makeAgent, moment, newTaskId, running } from "./rows.ts"

const here = host
const there = { ...host, pidNamespace: "another" }

const Standings = Schema.Literals(["held", "dead", "expired", "unknown"])
const Drawn = Schema.Struct({
  state: Schema.Literals(["deploying", "running", "carried", "uncarried", "exited"]),
  isHere: Schema.Boolean,
  knowsLauncher: Schema.Boolean,
  isScoped: Schema.Boolean,
  maxRunMillis: Schema.NullOr(Schema.Literals([1000, 1_000_000])),
  firstOutputMillis: Schema.NullOr(Schema.Literals([1000, 1_000_000])),
  stallMillis: Schema.NullOr(Schema.Literals([1000, 1_000_000])),
  deployer: Standings,
  owner: Standings,
  carrier: Standings,
  exit: Schema.Literals(["none", "recorded", "unreadable"]),
  lateExit: Schema.Literals(["none", "recorded", "unreadable"]),
  launcher: Schema.Literals(["alive", "dead", "unknown"]),
  presence: Schema.Literals(["Present", "Absent", "Unknown"]),
  activity: Schema.Literals(["quiet", "busy", "silent", "unreadable"])
})
type Drawn = typeof Drawn.Type

const standing = (tag: Drawn["owner"]): Standing =>
  tag === "held" ? { _tag: tag } : { _tag: tag, evidence: `it is ${tag}` }

const exitOf = (drawn: Drawn["exit"]): Verdict.Facts["exit"] => {
  switch (drawn) {
    case "none":
      return null
    case "unreadable":
      return { unreadable: "permission denied" }
    case "recorded":
      return { code: 0, signal: null, outcome: "success", endedAt: moment(9) }
  }
}

const activityOf = (drawn: Drawn["activity"]): Verdict.Facts["activity"] => {
  if (drawn === "unreadable") return { unreadable: "permission denied" }
  const now = 500_000
  const at = drawn === "busy" ? now - 10 : 100_000
  return { now, stdoutBytes: drawn === "silent" ? 0 : 1, stdoutAt: at, stderrAt: at, launcherAt: 100_000 }
}

const presenceOf = (tag: Drawn["presence"]): Presence =>
  tag === "Unknown" ? { _tag: tag, reason: "tmux does not answer" } : { _tag: tag }

const stateOf = ({ isHere, state }: Drawn): Agent["state"] => {
  const as = { _tag: "stopped", reason: "asked for", by: "request" } as const
  switch (state) {
    case "deploying":
    case "running":
      return { _tag: state }
    case "carried":
      return {
        _tag: "ending",
        as,
        left: null,
        carrier: { host: isHere ? here : there, holder: { pid: 1, start: "1" }, until: 100 }
      }
    case "uncarried":
      return { _tag: "ending", as, left: null }
    case "exited":
      return { _tag: "exited", code: 0, signal: null, outcome: "success" }
  }
}

const rowOf = (drawn: Drawn): Agent =>
  makeAgent(newTaskId(), {
    state: stateOf(drawn),
    limits: {
      maxRunMillis: drawn.maxRunMillis,
      firstOutputMillis: drawn.firstOutputMillis,
      stallMillis: drawn.stallMillis
    },
    owner: drawn.isScoped ? { host, holder: { pid: 2, start: "1" } } : null,
    running: drawn.state === "deploying"
      ? null
      : {
        ...running,
        since: 40,
        host: drawn.isHere ? here : there,
        launcher: drawn.knowsLauncher ? running.launcher : null
      },
    startedAt: drawn.state === "deploying" ? null : moment(1)
  })

const factsOf = (drawn: Drawn): Required<Verdict.Facts> => ({
  here,
  bootClock: 60,
  deployer: standing(drawn.deployer),
  owner: standing(drawn.owner),
  carrier: standing(drawn.carrier),
  exit: exitOf(drawn.exit) ?? null,
  lateExit: exitOf(drawn.lateExit) ?? null,
  launcher: drawn.launcher,
  presence: presenceOf(drawn.presence),
  activity: activityOf(drawn.activity) ?? { unreadable: "" }
})

/** The verdict, with the questions that were asked for it. */
const assessed = (drawn: Drawn) => {
  const row = rowOf(drawn)
  const all = factsOf(drawn)
  const assess = (
    facts: Verdict.Facts,
    asked: ReadonlyArray<Verdict.Question>
  ): { readonly asked: ReadonlyArray<Verdict.Question>; readonly verdict: Verdict.Verdict } => {
    const answer = Verdict.assess(row, facts)
    if (answer._tag !== "Ask") return { asked, verdict: answer }
    assert.notInclude(asked, answer.question, "it asks twice")
    return assess({ ...facts, [answer.question]: all[answer.question] }, [...asked, answer.question])
  }
  return { row, ...assess({ here: all.here, bootClock: all.bootClock }, []) }
}

const runs = { arbitrary: { runs: 2000 } }

describe("the verdict on a row", () => {
  it.prop("comes after each question was asked at most once, and rests on those alone", [Drawn], ([drawn]) => {
    const { row, verdict } = assessed(drawn)
    assert.deepStrictEqual(Verdict.assess(row, factsOf(drawn)), verdict)
  }, runs)

  it.prop("ends nothing whose launcher lives, unless a limit or an owner says so", [Drawn], ([drawn]) => {
    const { verdict } = assessed(drawn)
    if (drawn.state !== "running" || drawn.exit !== "none" || !drawn.isHere) return
    if (!drawn.knowsLauncher || drawn.launcher !== "alive" || verdict._tag !== "Ended") return
    const by = verdict.as._tag === "stopped" ? verdict.as.by : assert.fail(`it is ${verdict.as._tag}`)
    assert.include(["owner-gone", "max-run", "first-output", "stall"], by)
    if (by === "owner-gone") assert.strictEqual(drawn.owner, "dead")
    if (by === "max-run") assert.strictEqual(drawn.maxRunMillis, 1000)
    if (by === "stall") assert.notStrictEqual(drawn.activity, "busy")
    if (by === "first-output") assert.strictEqual(drawn.activity, "silent")
  }, runs)

  it.prop("calls an agent lost only where all was seen and nothing was there", [Drawn], ([drawn]) => {
    const { verdict } = assessed(drawn)
    if (verdict._tag !== "Ended" || verdict.as._tag !== "lost") return
    assert.strictEqual(drawn.state, "running")
    assert.isTrue(drawn.isHere)
    assert.deepStrictEqual([drawn.exit, drawn.lateExit, drawn.presence], ["none", "none", "Absent"])
    if (drawn.knowsLauncher) assert.strictEqual(drawn.launcher, "dead")
  }, runs)

  it.prop("ends nothing by what could not be read", [Drawn], ([drawn]) => {
    const { asked, verdict } = assessed(drawn)
    const unreadable: Record<Verdict.Question, boolean> = {
      deployer: drawn.deployer === "unknown",
      // What is not proven to be dead is taken to live.
      owner: false,
      carrier: false,
      exit: drawn.exit === "unreadable",
      lateExit: drawn.lateExit === "unreadable",
      launcher: drawn.launcher === "unknown",
      presence: drawn.presence === "Unknown",
      activity: drawn.activity === "unreadable"
    }
    if (asked.some((question) => unreadable[question])) assert.strictEqual(verdict._tag, "Unknown")
  }, runs)

  it.prop(
    "takes no deployment over whose deployer is at work, and no ending that is carried out",
    [Drawn],
    ([drawn]) => {
      const { verdict } = assessed(drawn)
      if (drawn.state === "deploying") {
        const wanted = { held: "Stands", unknown: "Unknown", dead: "Ended", expired: "Ended" } as const
        assert.strictEqual(verdict._tag, wanted[drawn.deployer])
      }
      if (drawn.state === "carried") {
        assert.strictEqual(verdict._tag === "Stands", drawn.carrier !== "dead")
      }
      if (drawn.state === "uncarried") assert.strictEqual(verdict._tag, "Unfinished")
      if (drawn.state === "exited") assert.strictEqual(verdict._tag, "Stands")
    },
    runs
  )

  it.prop("is found by the exit record alone where there is one, wherever the agent ran", [Drawn], ([drawn]) => {
    const { asked, verdict } = assessed(drawn)
    if (drawn.state !== "running" || drawn.exit !== "recorded") return
    assert.deepStrictEqual(asked, ["exit"])
    assert.isTrue(verdict._tag === "Ended" && verdict.as._tag === "exited")
  }, runs)
})
