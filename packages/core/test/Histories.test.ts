/**
 * Whatever happens, in whatever order, the invariants hold: histories drawn at random, in memory by the hundred and on
 * real tmux and real processes by the dozen.
 *
 * SLIPWAY_SEED draws other histories, SLIPWAY_HISTORIES says how many, SLIPWAY_STATISTICS prints what they were made of.
 */
import { afterAll, assert, it, layer } from "@effect/vitest"
import { Arbitrary, Context, Effect, Layer, Logger } from "effect"
import * as HistoryAudit from "./support/HistoryAudit.ts"
import * as HistoryLive from "./support/HistoryLive.ts"
import { History, LiveHistory } from "./support/HistorySteps.ts"
import { store } from "./support/HistoryWorld.ts"

class Stores extends Context.Service<Stores, Effect.Success<typeof store>>()("test/Stores") {}

const seed = process.env["SLIPWAY_SEED"] ?? "slipway"
const runs = Number(process.env["SLIPWAY_HISTORIES"] ?? 400)
const liveRuns = Number(process.env["SLIPWAY_LIVE_HISTORIES"] ?? 12)
const counts = new Map<string, number>()

const statistics = () => {
  if (process.env["SLIPWAY_STATISTICS"] === undefined) return
  const lines = [...counts].toSorted(([a], [b]) => a < b ? -1 : 1).map(([what, n]) =>
    `${String(n).padStart(7)} ${what}`
  )
  process.stdout.write(`${lines.join("\n")}\n`)
}
afterAll(statistics)

layer(Layer.effect(Stores, store))("in memory", (it) => {
  it.effect.prop(
    `the invariants hold after every reap of every history (SLIPWAY_SEED=${seed})`,
    [History],
    Effect.fnUntraced(function*([steps]) {
      const problems = yield* HistoryAudit.play(yield* Stores, steps, counts)
      assert.isEmpty(problems, HistoryAudit.story(steps, problems))
    }),
    { timeout: 300_000, arbitrary: { runs, seed, size: 24, maxShrinks: 300 } }
  )

  it("of which some have agents, that commit and end in every way", () => {
    if (runs < 100) return
    for (const what of ["committed", "Deploy killed", "Deploy interrupted", "Stop succeeded", "Reap succeeded"]) {
      assert.isTrue([...counts.keys()].some((each) => each.startsWith(what)), what)
    }
  })
})

it.live(`the invariants hold on the machine itself (SLIPWAY_SEED=${seed})`, () =>
  Effect.gen(function*() {
    const result = yield* Arbitrary.checkEffect(
      Arbitrary.schema(LiveHistory),
      Effect.fnUntraced(function*(steps) {
        const problems = yield* HistoryLive.play(steps, counts)
        assert.isEmpty(problems, HistoryAudit.story(steps, problems))
        return true
      }),
      { runs: liveRuns, seed, size: 40, maxShrinks: 20, concurrency: 2 }
    )
    const failure = Arbitrary.formatCheckFailure(result)
    assert.isUndefined(failure, failure)
  }).pipe(Effect.provide(Logger.layer([]))), 300_000)
