import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import * as Agent from "../src/agent/Agent.ts"
import { ReleaseRecord } from "../src/agent/Release.ts"
import { makeAgent, makeTask, moment, newTaskId, record, running } from "./rows.ts"

// `Schema.Int` includes -0, which JSON does not keep.
const normal = <A>(value: A): A => JSON.parse(JSON.stringify(value))

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("commit"), token: Schema.Literals(["own", "another"]) }),
  Schema.Struct({
    do: Schema.Literal("begin"),
    as: Agent.Final,
    expected: Schema.optionalKey(Schema.Literals(["deploying", "running", "ending", "exited"]))
  }),
  Schema.Struct({
    do: Schema.Literal("finish"),
    left: Schema.Array(ReleaseRecord),
    deployer: Schema.Literals(["gone", "expired", "at-work"])
  }),
  Schema.Struct({ do: Schema.Literal("rollBack"), left: Schema.Array(ReleaseRecord) })
])
type Step = typeof Step.Type
const Steps = Schema.Array(Step).check(Schema.isMaxLength(12))

const apply = (agent: Agent.Agent, step: Step, second: number): Result.Result<Agent.Agent, Agent.TransitionRefused> => {
  const at = moment(second)
  switch (step.do) {
    case "commit":
      return Agent.commit(agent, {
        token: step.token === "own" ? agent.token : "another",
        running,
        startedAt: at
      })
    case "begin":
      return Agent.beginEnding(agent, step.as, { expected: step.expected })
    case "finish":
      return Agent.finishEnding(agent, { left: step.left, deployer: step.deployer, at })
    case "rollBack":
      return Agent.rollBack(agent, { step: "session", error: { tag: "Boom", message: "boom" }, left: step.left, at })
  }
}

/** Every row that a sequence of transitions leads through. */
const story = (steps: ReadonlyArray<Step>) => {
  const rows = [makeAgent(newTaskId())]
  steps.forEach((step, index) => {
    const before = rows[rows.length - 1]
    if (before === undefined) return
    rows.push(Result.getOrElse(apply(before, step, index + 1), () => before))
  })
  return rows
}

const pairs = <A>(rows: ReadonlyArray<A>) =>
  rows.slice(1).flatMap((after, index) => {
    const before = rows[index]
    return before === undefined ? [] : [{ before, after }]
  })

describe("states", () => {
  it.prop("no sequence of transitions leaves a final state", [Steps], ([steps]) => {
    for (const { after, before } of pairs(story(steps))) {
      if (Agent.isFinal(before.state)) assert.strictEqual(after, before)
    }
  })

  it.prop("no sequence of transitions goes back", [Steps], ([steps]) => {
    const rank = (agent: Agent.Agent) =>
      Agent.isFinal(agent.state) ? 3 : ["deploying", "running", "ending"].indexOf(agent.state._tag)
    for (const { after, before } of pairs(story(steps))) assert.isAtLeast(rank(after), rank(before))
  })

  it.prop("the first claim decides how the story ends", [Steps], ([steps]) => {
    const ends = story(steps).flatMap(({ state }) =>
      state._tag === "ending" ? [state.as] : Agent.isFinal(state) ? [state] : []
    )
    for (const end of ends) assert.deepStrictEqual(end, ends[0])
  })

  it.prop("a slot is held and a leak is shown for as long as the state says so", [Steps], ([steps]) => {
    for (const agent of story(steps)) {
      const { state } = agent
      const final = Agent.isFinal(state)
      assert.strictEqual(Agent.isActive(state), !final)
      if (final) assert.isFalse(Agent.holdsSlot(state) || Agent.isLeaked(agent))
      if (state._tag === "deploying" || state._tag === "running") {
        assert.isTrue(Agent.holdsSlot(state))
        assert.isFalse(Agent.isLeaked(agent))
      }
      if (state._tag === "ending") {
        const session = state.left?.some((record) => record.occupies === true)
        assert.strictEqual(Agent.holdsSlot(state), state.left === null || session === true)
        assert.strictEqual(Agent.isLeaked(agent), state.left !== null && state.left.length > 0)
      }
      assert.strictEqual(Agent.status(agent), Agent.isLeaked(agent) ? "leaked" : state._tag)
      assert.strictEqual(Agent.hasCommitted(agent), agent.startedAt !== null)
    }
  })

  it.prop(
    "only what is deploying commits, under its own token, and what is rolled back need not have",
    [Steps],
    ([steps]) => {
      pairs(story(steps)).forEach(({ after, before }, index) => {
        if (after.state._tag === "running" && before.state._tag !== "running") {
          assert.strictEqual(before.state._tag, "deploying")
          assert.deepInclude(steps[index], { do: "commit", token: "own" })
          assert.isNull(after.lease)
        }
      })
    }
  )

  it.prop("every row comes back from JSON as it was", [Steps], ([steps]) => {
    const codec = Schema.fromJsonString(Agent.Agent)
    for (const agent of story(normal(steps))) {
      assert.deepStrictEqual(Schema.decodeUnknownSync(codec)(Schema.encodeSync(codec)(agent)), agent)
    }
  })
})

describe("transitions", () => {
  const deploying = makeAgent(makeTask().id)
  const facts = { token: deploying.token, running, startedAt: moment(1) }
  const up = Result.getOrThrow(Agent.commit(deploying, facts))
  const stopped = { _tag: "stopped", reason: "asked", by: "request" } as const

  it("a commit needs the row to be deploying, with a lease, under the same token", () => {
    assert.deepInclude(up, { state: { _tag: "running" }, lease: null, running })
    for (
      const refused of [
        Agent.commit(deploying, { ...facts, token: "another" }),
        Agent.commit({ ...deploying, lease: null }, facts),
        Agent.commit(up, facts),
        Agent.commit(Result.getOrThrow(Agent.beginEnding(deploying, stopped)), facts)
      ]
    ) {
      assert.isTrue(Result.isFailure(refused))
    }
  })

  it("a claim that names another state than the row's is refused, and tells both", () => {
    const refused = Agent.beginEnding(up, stopped, { expected: "deploying" })
    if (Result.isSuccess(refused)) return assert.fail("it was not refused")
    assert.deepInclude(refused.failure, { agentId: up.id, wanted: "ending", found: "running" })
    assert.include(refused.failure.message, up.id)
  })

  it("an end is refused to what was not claimed", () => {
    assert.isTrue(Result.isFailure(Agent.finishEnding(up, { left: [], deployer: "gone", at: moment(2) })))
  })

  type EndFacts = Parameters<typeof Agent.finishEnding>[1]
  const finish = (agent: Agent.Agent, left: EndFacts["left"], deployer: EndFacts["deployer"], second: number) =>
    Result.getOrThrow(Agent.finishEnding(agent, { left, deployer, at: moment(second) }))

  it("the row stays ending while something is left, or a deployer may be at work, and ended when nothing of it was left", () => {
    const ending = Result.getOrThrow(Agent.beginEnding(deploying, stopped))
    const leaked = finish(ending, [record("tmux_session")], "at-work", 2)
    assert.strictEqual(Agent.status(leaked), "leaked")
    const waiting = finish(leaked, [], "at-work", 3)
    assert.strictEqual(Agent.status(waiting), "ending")
    assert.isTrue(Agent.holdsSlot(waiting.state))
    const late = finish(waiting, [], "expired", 4)
    assert.strictEqual(Agent.status(late), "ending")
    assert.isFalse(Agent.holdsSlot(late.state))
    for (const row of [leaked, waiting, late]) assert.deepStrictEqual(row.lease, deploying.lease)
    const over = finish(late, [], "gone", 5)
    assert.deepInclude(over, { state: stopped, lease: null, endedAt: moment(4), endedAtFrom: "proof" })
  })

  it("a file that is left does not put off the end of an agent, a process or a session does", () => {
    const ending = Result.getOrThrow(Agent.beginEnding(deploying, stopped))
    const file = finish(ending, [record("prompt_file")], "gone", 2)
    assert.deepInclude(finish(file, [], "gone", 3), { endedAt: moment(2), endedAtFrom: "proof" })
    const session = finish(ending, [record("tmux_session"), record("prompt_file")], "gone", 2)
    assert.deepInclude(finish(session, [], "gone", 3), { endedAt: moment(3), endedAtFrom: "proof" })
  })

  it("an exit is as old as its record, whoever finds it and whenever its releases are done; else it is said to be found", () => {
    const exited = { _tag: "exited", code: 0, signal: null, outcome: "success" } as const
    const recorded = Result.getOrThrow(Agent.beginEnding(deploying, exited, { endedAt: moment(1) }))
    const left = finish(recorded, [record("tmux_session")], "gone", 5)
    assert.deepInclude(finish(left, [], "gone", 9), { state: exited, endedAt: moment(1), endedAtFrom: "exit-record" })
    const unrecorded = Result.getOrThrow(Agent.beginEnding(deploying, exited))
    assert.deepInclude(finish(unrecorded, [], "gone", 9), { endedAt: moment(9), endedAtFrom: "found" })
    const lost = Result.getOrThrow(
      Agent.beginEnding(deploying, { _tag: "lost", why: "killed" }, { endedAt: moment(3) })
    )
    assert.deepInclude(finish(lost, [], "gone", 9), { endedAt: moment(3), endedAtFrom: "found" })
  })

  it("an answer that tells nothing new leaves the row as it is", () => {
    const ending = Result.getOrThrow(Agent.beginEnding(deploying, stopped))
    const leaked = finish(ending, [record("tmux_session")], "gone", 2)
    assert.strictEqual(finish(leaked, [{ ...record("tmux_session"), millis: 99 }], "gone", 3), leaked)
    assert.notStrictEqual(finish(leaked, [record("prompt_file")], "gone", 3), leaked)
  })

  it("the key of what is rolled back is free once nothing is left, and no other key ever is", () => {
    const keyed = { ...deploying, key: "k" }
    const undone = { _tag: "rolled-back", step: "session", error: { tag: "Boom", message: "boom" } } as const
    const keyAfter = (as: Agent.Final, left: EndFacts["left"], deployer: EndFacts["deployer"]) =>
      finish(Result.getOrThrow(Agent.beginEnding(keyed, as)), left, deployer, 2).key
    assert.strictEqual(keyAfter(undone, [], "gone"), null)
    assert.strictEqual(keyAfter(undone, [], "expired"), null)
    assert.strictEqual(keyAfter(undone, [], "at-work"), "k")
    assert.strictEqual(keyAfter(undone, [record("tmux_session")], "gone"), "k")
    assert.strictEqual(keyAfter(stopped, [], "gone"), "k")
  })

  it("a rollback of a row that another has claimed keeps that claim", () => {
    const ending = Result.getOrThrow(Agent.beginEnding(deploying, stopped))
    const after = Agent.rollBack(ending, {
      step: "session",
      error: { tag: "Boom", message: "boom" },
      left: [],
      at: moment(2)
    })
    assert.deepStrictEqual(Result.getOrThrow(after).state, stopped)
  })
})

describe("ids", () => {
  it.effect.prop(
    "an agent's id is made of its type and decodes",
    [Agent.AgentType, Schema.Int],
    ([type, seconds]) =>
      Effect.gen(function*() {
        const id = Agent.makeAgentId(type, moment(Math.abs(seconds % 1_000_000_000)), "0a1b2c")
        assert.isTrue(id.startsWith(`${type}-`))
        assert.strictEqual(yield* Schema.decodeUnknownEffect(Agent.AgentId)(id), id)
      })
  )

  it.effect("what is no type or no id is refused", () =>
    Effect.gen(function*() {
      const types = ["", "../../x", "-rf", "_a", "a.b", "a:b", "A", "a b", "a\n", "é", "a".repeat(41), "a".repeat(300)]
      for (const type of types) yield* Effect.flip(Schema.decodeUnknownEffect(Agent.AgentType)(type))
      const ids = [
        "a",
        "a-260102-030405-0A1B2C",
        "a-260102-030405-0a1b2",
        "../a-260102-030405-0a1b2c",
        "a-260102-030405-0a1b2c\n"
      ]
      for (const id of ids) yield* Effect.flip(Schema.decodeUnknownEffect(Agent.AgentId)(id))
    }))
})
