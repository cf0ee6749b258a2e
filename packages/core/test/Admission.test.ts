import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import type { Agent } from "../src/agent/Agent.ts"
import { type AdmissionFacts, AdmissionRefused, counted, decide } from "../src/registry/Admission.ts"
import { makeAgent, makeTask, newTaskId } from "./rows.ts"

const task = makeTask({ limits: { maxAgents: 3, maxConcurrent: 2, maxDepth: 2 } })
const candidate = makeAgent(task.id)
const parentOf = (options: Partial<Omit<Agent, "type">> = {}) =>
  makeAgent(task.id, { state: { _tag: "running" }, ...options })

const free: AdmissionFacts = {
  task,
  parent: undefined,
  sameKey: undefined,
  sameType: undefined,
  taskTotal: 0,
  taskActive: 0,
  homeActive: 0,
  homeLimit: { maxActive: 10, ofCaller: false }
}

const tagOf = (facts: Partial<AdmissionFacts>, of: Partial<Omit<Agent, "type">> = {}, allowDuplicate = false) => {
  const answer = decide({ ...candidate, ...of }, { allowDuplicate }, { ...free, ...facts })
  return Result.isSuccess(answer) ? answer.success._tag : answer.failure._tag
}

describe("decide", () => {
  it("each refusal comes before the next, and a deployment under the same key before all limits", () => {
    const all: Partial<AdmissionFacts> = {
      parent: parentOf({ depth: 2, state: { _tag: "deploying" } }),
      sameType: makeAgent(task.id).id,
      taskTotal: 3,
      taskActive: 2,
      homeActive: 10
    }
    const child = { parent: all.parent?.id ?? null, key: "k" }
    const running = { ...all, parent: parentOf({ depth: 2 }) }
    const shallow = { ...all, parent: parentOf({ depth: 1 }) }
    assert.strictEqual(tagOf({ ...all, task: undefined, sameKey: candidate }, child), "UnknownTask")
    assert.strictEqual(tagOf({ ...all, sameKey: candidate }, child), "Existing")
    assert.strictEqual(tagOf({ ...all, sameKey: { ...candidate, requestDigest: "other" } }, child), "KeyConflict")
    assert.strictEqual(tagOf({ ...all, parent: undefined }, child), "UnknownParent")
    assert.strictEqual(tagOf({ ...all, parent: { ...parentOf(), taskId: newTaskId() } }, child), "UnknownParent")
    assert.strictEqual(tagOf(all, child), "ParentNotRunning")
    assert.strictEqual(tagOf(running, child), "DepthExceeded")
    assert.strictEqual(tagOf(shallow, child), "DuplicateType")
    assert.strictEqual(tagOf(shallow, child, true), "TaskFull")
    assert.strictEqual(tagOf({ ...shallow, taskTotal: 2 }, child, true), "TooManyActive")
    assert.strictEqual(tagOf({ ...shallow, taskTotal: 2, taskActive: 1 }, child, true), "HomeFull")
    assert.strictEqual(tagOf({ ...shallow, taskTotal: 2, taskActive: 1, homeActive: 9 }, child, true), "Admit")
  })

  const Count = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 6 }))
  const Limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5 }))
  const World = Schema.Struct({
    limits: Schema.Struct({ maxAgents: Limit, maxConcurrent: Limit, maxDepth: Limit }),
    total: Count,
    active: Count,
    home: Count,
    homeMax: Limit,
    parentDepth: Count,
    hasTask: Schema.Boolean,
    hasParent: Schema.Boolean,
    sameType: Schema.Boolean,
    sameKey: Schema.Literals(["none", "same", "other"]),
    allowDuplicate: Schema.Boolean
  })

  it.prop("every question has an answer, and none admits beyond a limit", [World], ([world]) => {
    const task = makeTask({ limits: world.limits })
    const parent = makeAgent(task.id, { state: { _tag: "running" }, depth: world.parentDepth })
    const candidate = makeAgent(task.id, { parent: world.hasParent ? parent.id : null })
    const sameKey = makeAgent(task.id, { requestDigest: world.sameKey })
    const answer = decide(
      { ...candidate, key: world.sameKey === "none" ? null : "k", requestDigest: "same" },
      { allowDuplicate: world.allowDuplicate },
      {
        task: world.hasTask ? task : undefined,
        parent: world.hasParent ? parent : undefined,
        sameKey: world.sameKey === "none" ? undefined : sameKey,
        sameType: world.sameType ? sameKey.id : undefined,
        taskTotal: world.total,
        taskActive: world.active,
        homeActive: world.home,
        homeLimit: { maxActive: world.homeMax, ofCaller: false }
      }
    )
    if (Result.isFailure(answer)) {
      assert.isTrue(Schema.is(AdmissionRefused)(answer.failure))
      assert.isAbove(answer.failure.message.length, 20)
      return
    }
    assert.isTrue(world.hasTask)
    if (answer.success._tag === "Existing") return assert.strictEqual(world.sameKey, "same")
    assert.strictEqual(world.sameKey, "none")
    assert.isTrue(world.allowDuplicate || !world.sameType)
    assert.isBelow(world.total, world.limits.maxAgents)
    assert.isBelow(world.active, world.limits.maxConcurrent)
    assert.isBelow(world.home, world.homeMax)
    assert.strictEqual(answer.success.depth, world.hasParent ? world.parentDepth + 1 : 1)
    assert.isAtMost(answer.success.depth, world.limits.maxDepth)
  })
})

describe("counted", () => {
  it("names all rows whose unseen end would lift the refusal", () => {
    const refusal = (facts: Partial<AdmissionFacts>, of: Partial<Omit<Agent, "type">> = {}) => {
      const answer = decide({ ...candidate, ...of }, { allowDuplicate: false }, { ...free, ...facts })
      return Result.isFailure(answer) ? counted(answer.failure) : assert.fail("it was not refused")
    }
    const other = { ...makeAgent(task.id), requestDigest: "other" }
    const wholeTask = { _tag: "Task", id: task.id } as const
    assert.deepStrictEqual(refusal({ sameKey: other }, { key: "k" }), { _tag: "Agent", id: other.id })
    assert.deepStrictEqual(refusal({ sameType: other.id }), wholeTask)
    assert.deepStrictEqual(refusal({ taskTotal: 3 }), wholeTask)
    assert.deepStrictEqual(refusal({ taskActive: 2 }), wholeTask)
    assert.deepStrictEqual(refusal({ homeActive: 10 }), { _tag: "Home" })
    assert.deepStrictEqual(refusal({ task: undefined }), { _tag: "None" })
    assert.deepStrictEqual(refusal({}, { parent: other.id }), { _tag: "None" })
  })
})
