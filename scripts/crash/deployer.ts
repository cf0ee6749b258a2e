/**
 * The program that is killed: does one thing on the world at a root through the library, by the transport that its
 * arguments name. It prints each moment of it on standard output as it comes.
 */
import { CleanupReport, type DeployError, type Observer, Slipway } from "@slipway/core"
import { Cause, Effect, Exit, Logger } from "effect"
import * as Fs from "node:fs"
import { caller, worldAt } from "./world.ts"

const [verb = "", root = "", tmux = "tmux", transport = "control"] = process.argv.slice(2)
const world = worldAt(root)

// Synchronous, so that each line stands in the trace where it belongs. A disk that fails may fail for this as well.
const tell = (line: string): void => {
  try {
    Fs.writeSync(1, `${line}\n`)
  } catch {
    // The exit code says the same.
  }
}
const say = (line: string) => Effect.sync(() => tell(line))

const observer: Observer = {
  onStep: (step) => say(`step ${step}`),
  onCommitted: ({ agent }) => say(`committed ${agent.id}`),
  onRolledBack: () => say("rolled-back")
}

// These two do not wait for output that comes at once, so the process that kills or signals has time.
const survived: Readonly<Record<string, number>> = { "deploy-slowly": 150, "deploy-for-long": 20_000 }

const deploy = (slipway: Slipway["Service"]) =>
  slipway.deploy({
    project: world.project,
    prompt: "work",
    type: "worker",
    agent: { kind: "command", argv: ["sh", "-c", "echo up; exec sleep 1000"] },
    ready: survived[verb] === undefined ? "output" : "survive",
    readyWithin: survived[verb] ?? 20_000
  }, observer)

const stop = Effect.fnUntraced(function*(slipway: Slipway["Service"]) {
  const running = yield* slipway.agents({ activeOnly: true })
  yield* say("step stop")
  yield* slipway.stop(running.map(({ id }) => id), { grace: "500 millis" })
})

const reap = Effect.fnUntraced(function*(slipway: Slipway["Service"]) {
  yield* say("step plan")
  const plan = yield* slipway.reapPlan
  yield* say("step apply")
  yield* slipway.reap(plan)
})

const program = Effect.gen(function*() {
  const slipway = yield* Slipway
  yield* say("opened")
  if (verb === "stop") yield* stop(slipway)
  else if (verb === "reap") yield* reap(slipway)
  else if (verb !== "open") yield* deploy(slipway)
  if (verb === "deploy-and-stop") yield* stop(slipway)
}).pipe(
  Effect.provide([
    Slipway.layer({
      directory: world.home,
      caller: caller(world),
      tmux,
      transport: transport === "process" ? "process" : "control",
      stepLimit: "10 seconds"
    }),
    Logger.layer([])
  ])
)

const isDeployError = (error: { readonly _tag: string }): error is DeployError => error._tag === "DeployError"

/** One line that says how it failed. */
const failure = (error: { readonly _tag: string; readonly message: string }) =>
  isDeployError(error)
    ? {
      tag: error.reason._tag,
      step: error.step,
      clean: error.isClean,
      left: CleanupReport.problems(error.cleanup),
      message: error.message
    }
    : { tag: error._tag, step: "none", clean: true, left: [], message: error.message }

// First of all: a fiber runs at once, up to where it waits.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => fiber.interruptUnsafe())
const fiber = Effect.runFork(program)
fiber.addObserver((exit) => {
  if (Exit.isSuccess(exit)) return tell("done")
  const error = Cause.findErrorOption(exit.cause)
  if (error._tag === "Some") {
    const told = failure(error.value)
    tell(`failed ${JSON.stringify(told)}`)
    process.exitCode = told.clean ? 5 : 6
  } else if (Cause.hasInterruptsOnly(exit.cause)) {
    tell("interrupted")
    process.exitCode = 130
  } else {
    tell(`defect ${Cause.pretty(exit.cause)}`)
    process.exitCode = 70
  }
})
