/**
 * Run by a history as a process of its own: deploys one agent, and kills itself so many milliseconds after a step began.
 */
import { type DeployInput, Slipway } from "@slipway/core"
import { Effect, Logger } from "effect"
import * as HistoryLive from "./HistoryLive.ts"

const [root = "", home = "0", boot = "", killAt = "", delay = "0", request = "{}"] = process.argv.slice(2)

const killSelf = Effect.sync(() => void process.kill(process.pid, "SIGKILL"))
const killSoon = delay === "0" ? killSelf : Effect.asVoid(Effect.forkDetach(Effect.delay(killSelf, Number(delay))))

const program = Effect.gen(function*() {
  const slipway = yield* Slipway
  const input: DeployInput = JSON.parse(request)
  yield* Effect.exit(slipway.deploy(input, { onStep: (step) => step === killAt ? killSoon : Effect.void }))
  yield* killSelf
  return yield* Effect.never
}).pipe(
  Effect.provide([HistoryLive.facade(HistoryLive.homeOf(root, Number(home)), boot), Logger.layer([])])
)

Effect.runPromise(program).catch(() => process.exit(1))
// A pending effect alone does not keep a process alive.
process.stdin.resume()
