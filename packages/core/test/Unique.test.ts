/**
 * What a rebuilt registry has only once: properties of the pure choice among several.
 */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Schema } from "effect"
import * as Unique from "../src/rebuild/Unique.ts"
import { makeAgent, makeTask, moment, newTaskId } from "./rows.ts"

const Seconds = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 3 }))
const Tasks = Schema.Array(Schema.Struct({
  project: Schema.Literals(["/a", "/b"]),
  isDefault: Schema.Boolean,
  at: Seconds
}))
const Agents = Schema.Array(Schema.Struct({
  key: Schema.NullOr(Schema.Literals(["once", "twice"])),
  isRolledBack: Schema.Boolean
}))

const told = () => {
  const subjects: Array<string> = []
  return { subjects, complain: (subject: string) => void subjects.push(subject) }
}

describe("in a registry that is rebuilt", () => {
  it.prop("each project keeps its oldest default task, and every other task stays as it is", [Tasks], ([drawn]) => {
    const { complain, subjects } = told()
    const all = drawn.map(({ at, isDefault, project }) => makeTask({ project, isDefault, createdAt: moment(at) }))
    const kept = Unique.tasks(all, complain)
    assert.sameMembers(kept.map(({ id }) => id), all.map(({ id }) => id))
    const millis = kept.map(({ createdAt }) => DateTime.toEpochMillis(createdAt))
    assert.deepStrictEqual(millis, millis.toSorted((a, b) => a - b))
    for (const project of ["/a", "/b"]) {
      const [oldest, ...others] = kept.filter(({ id }) => all.some((task) => task.id === id && task.isDefault))
        .filter((task) => task.project === project)
      if (oldest !== undefined) assert.isTrue(oldest.isDefault)
      for (const other of others) {
        assert.isFalse(other.isDefault)
        assert.include(subjects, other.id)
      }
    }
    const untouched = kept.filter(({ id }) => !subjects.includes(id))
    for (const task of untouched) assert.include(all, task)
    assert.lengthOf(subjects, kept.filter((task) => !all.includes(task)).length)
  })

  it.prop("the oldest task with a key keeps it", [Schema.Array(Seconds)], ([drawn]) => {
    const { complain, subjects } = told()
    const kept = Unique.tasks(drawn.map((at) => makeTask({ key: "once", createdAt: moment(at) })), complain)
    assert.deepStrictEqual(kept.map(({ key }) => key), kept.map((_, index) => index === 0 ? "once" : undefined))
    assert.deepStrictEqual(subjects, kept.slice(1).map(({ id }) => id))
  })

  it.prop(
    "one agent has a key, as long as it was not rolled back, and nothing else is changed",
    [Agents],
    ([drawn]) => {
      const { complain, subjects } = told()
      const task = newTaskId()
      const all = drawn.map(({ isRolledBack, key }) => ({
        source: "row",
        agent: makeAgent(task, {
          key,
          state: isRolledBack
            ? { _tag: "rolled-back", step: "session", error: { tag: "TmuxTimeout", message: "it hangs" } }
            : { _tag: "running" }
        })
      }))
      const kept = Unique.agents(all, complain)
      for (const key of ["once", "twice"]) {
        const before = all.filter(({ agent }) => agent.key === key && agent.state._tag === "running")
        const after = kept.filter(({ agent }) => agent.key === key && agent.state._tag === "running")
        assert.deepStrictEqual(after, before.slice(0, 1))
      }
      for (const [index, restored] of kept.entries()) {
        const before = all[index] ?? assert.fail("it was not there")
        if (restored === before) continue
        assert.deepStrictEqual(restored, { ...before, agent: { ...before.agent, key: null } })
        assert.include(subjects, restored.agent.id)
      }
    }
  )
})
