import { assert, describe, it } from "@effect/vitest"
import { Family } from "@slipway/core"
import { DateTime } from "effect"
import { makeAgent, moment, newTaskId, running } from "../../core/test/rows.ts"
import * as Text from "../src/Text.ts"

describe("the table of agents", () => {
  const list = [1, 2].map(() =>
    makeAgent(newTaskId(), { type: "builder", state: { _tag: "running" }, running, startedAt: moment(1) })
  )
  const shown = (columns: number | undefined) =>
    Text.agents(list, {
      now: DateTime.makeUnsafe(DateTime.toEpochMillis(moment(60))),
      paint: (_style, text) => text,
      showTask: true,
      columns
    }).split("\n")

  for (const columns of [72, 80, 100]) {
    it(`has no line that a terminal of ${columns} columns wraps, and keeps each agent's id whole`, () => {
      const [, ...lines] = shown(columns)
      lines.forEach((line, index) => {
        assert.isAtMost(line.length, columns)
        assert.isTrue(line.startsWith(`${list[index]?.id} `))
      })
    })
  }

  it("has each task's id whole in a pipe and in a terminal that is wide enough", () => {
    for (const columns of [undefined, 120]) {
      const [, ...lines] = shown(columns)
      lines.forEach((line, index) => assert.isTrue(line.endsWith(` ${list[index]?.taskId}`)))
    }
  })
})

describe("the tree of a task's agents", () => {
  it("has what is said of each agent in one column, however deep and however long its id", () => {
    const task = newTaskId()
    const top = makeAgent(task, { type: "a-long-name-of-a-type" })
    const middle = makeAgent(task, { type: "b", parent: top.id })
    const deep = makeAgent(task, { type: "c", parent: middle.id })
    const lines = Text.treeLines(Family.tree([deep, middle, top]), () => "|running")
    assert.strictEqual(new Set(lines.map((line) => line.indexOf("|"))).size, 1)
    assert.deepStrictEqual(lines.map((line) => line.slice(0, line.indexOf("|")).trim()), [
      top.id,
      `└─ ${middle.id}`,
      `└─ ${deep.id}`
    ])
  })
})
