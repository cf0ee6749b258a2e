import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import { AgentId, AgentType } from "../src/agent/Agent.ts"
import { type Candidate, choose } from "../src/reconcile/Selection.ts"

const Names = Schema.Array(Schema.Struct({
  type: Schema.Literals(["a", "ab", "a-1", "b"]),
  tail: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 5 })),
  isActive: Schema.Boolean
}))

const candidatesOf = (names: typeof Names.Type): ReadonlyArray<Candidate> => [
  ...new Map(names.map(({ isActive, tail, type }) => {
    const id = AgentId.make(`${type}-260102-030405-00000${tail}`)
    return [id, { id, type: AgentType.make(type), isActive }]
  })).values()
]

const Given = Schema.Literals(["a", "ab", "a-", "a-1", "a-260102", "b", "b-260102-030405-000003", "c"])

describe("the choice of an agent by a part of its id", () => {
  it.prop(
    "answers one whose id begins so, and where it refuses, there are several, and it names them all",
    [Names, Given],
    ([names, given]) => {
      const all = candidatesOf(names)
      const fitting = all.filter(({ id }) => id.startsWith(given))
      const chosen = choose(given, fitting)
      if (Result.isSuccess(chosen)) {
        assert.isTrue(chosen.success.startsWith(given))
      } else if (chosen.failure._tag === "AgentNotFound") {
        assert.deepStrictEqual(fitting, [])
      } else {
        const { candidates } = chosen.failure
        assert.isAbove(candidates.length, 1)
        assert.isTrue(candidates.every((id) => fitting.some((each) => each.id === id)))
        for (const id of candidates.slice(0, 5)) assert.include(chosen.failure.message, id)
      }
    }
  )

  it.prop("is never one of several that are alike", [Names, Given], ([names, given]) => {
    const fitting = candidatesOf(names).filter(({ id }) => id.startsWith(given))
    const chosen = choose(given, fitting)
    if (!Result.isSuccess(chosen)) return
    const ofType = fitting.filter(({ type }) => type === given)
    const rivals = ofType.length === 0 ? fitting : ofType
    const active = rivals.filter(({ isActive }) => isActive)
    assert.isTrue(rivals.length === 1 || (rivals === ofType && active.length === 1 && active[0]?.id === chosen.success))
  })
})
