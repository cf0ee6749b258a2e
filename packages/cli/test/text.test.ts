import { assert, describe, it } from "@effect/vitest"
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
