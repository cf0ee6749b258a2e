/**
 * Rows as 0.1.0 wrote them: the plan was a record of the house's own references, and what was left of a session was known
 * by its name. The migration rewrites them, and so does a rebuild, which reads what no migration has seen. Pure.
 */
import { Option, Schema } from "effect"
import * as Plan from "../../agent/Plan.ts"
import { ReleaseRecord } from "../../agent/Release.ts"

const OldPlan = Schema.Struct({
  homeId: Schema.String,
  directory: Schema.String,
  socket: Schema.String,
  session: Schema.String,
  workspace: Schema.String,
  entry: Schema.String
})

const decodePlan = Schema.decodeUnknownOption(OldPlan)
const decodeRecord = Schema.decodeUnknownOption(ReleaseRecord)

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const upgradePlan = (plan: unknown): unknown =>
  Option.match(decodePlan(plan), {
    onNone: () => plan,
    onSome: ({ homeId, ...places }) => ({ homeId, resources: Plan.resourcesOf(places) })
  })

const upgradeLeft = (left: unknown): unknown =>
  Array.isArray(left)
    ? left.map((record: unknown) =>
      Option.match(decodeRecord(record), {
        onNone: () => record,
        onSome: (known) => known.resource === Plan.houseKinds.session ? { ...known, occupies: true } : known
      })
    )
    : left

/** The document of an agent as it is written now; one that is no such document comes back as it is. */
export const upgrade = (document: unknown): unknown => {
  if (!isRecord(document)) return document
  const { plan, state } = document
  return {
    ...document,
    ...("plan" in document ? { plan: upgradePlan(plan) } : {}),
    ...(isRecord(state) && "left" in state ? { state: { ...state, left: upgradeLeft(state["left"]) } } : {})
  }
}
