/**
 * One read of a home in a process of its own, for its time and its memory: `child.ts HOME open|plan|list`. Prints JSON.
 */
import { Slipway } from "@slipway/core"
import { Console, Effect, Logger } from "effect"
import { timed } from "./Measure.ts"

const [directory = "", what = "open"] = process.argv.slice(2)

const program = Effect.gen(function*() {
  const slipway = yield* Slipway
  const millis: Array<number> = []
  let items = 0
  for (let round = 0; round < (what === "open" ? 1 : 8); round++) {
    const [took, found] = yield* timed(
      what === "plan" ? Effect.map(slipway.reapPlan, (plan) => plan.items.length) : Effect.succeed(0)
    )
    // The first ones pay for code that was never run before.
    if (round > 2 || what === "open") millis.push(took)
    items = found
  }
  yield* Console.log(JSON.stringify({ millis, items, peakMegabytes: process.resourceUsage().maxRSS / 1024 }))
})

Effect.runPromise(Effect.provide(program, [Slipway.layer({ directory, transport: "process" }), Logger.layer([])]))
  .catch(
    (error: unknown) => {
      console.error(error)
      process.exitCode = 1
    }
  )
