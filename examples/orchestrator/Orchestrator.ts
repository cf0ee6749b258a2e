/** The orchestrator: it greets everybody, and has a helper for as long as it needs one. */
import { Agent, Slipway } from "@slipway/core"
import { Console, Effect, Stream } from "effect"
import { join } from "node:path"

export interface Options {
  readonly project: string
  /** The directory of the agents' programs. */
  readonly agents: string
}

/** Outlives this program: its whole life is in the registry. */
const greet = Effect.fn("greet")(function*(task: string, { agents }: Options) {
  const slipway = yield* Slipway
  const { agent } = yield* slipway.deploy({
    task,
    type: "greeter",
    prompt: "everybody",
    agent: { kind: "command", argv: [join(agents, "brief.sh")] },
    ready: "output"
  })
  const output = yield* slipway.output(agent.id, { follow: true }).pipe(Stream.decodeText, Stream.mkString)
  const ended = yield* slipway.wait(agent.id)
  yield* Console.log(`${agent.id} is ${Agent.status(ended)} and said: ${output.trim()}`)
})

/** Belongs to the scope: stopped, with proof, when the scope closes, whatever happens inside; its port is free then. */
const withHelper = Effect.fn("withHelper")(function*(task: string, { agents }: Options) {
  const slipway = yield* Slipway
  const helper = yield* slipway.deployScoped({
    task,
    type: "helper",
    prompt: "help",
    agent: { kind: "command", argv: [join(agents, "steady.sh")] },
    ready: "output",
    resources: { port: { port: 4001 } }
  })
  yield* Console.log(`${helper.agent.id} helps on port 4001`)
})

/** A failure is typed, and reports what was released. */
const tellFailure = Effect.fn("tellFailure")(function*(task: string, { agents }: Options) {
  const slipway = yield* Slipway
  const error = yield* Effect.flip(slipway.deploy({
    task,
    type: "failing",
    prompt: "try",
    agent: { kind: "command", argv: [join(agents, "failing.sh")] }
  }))
  yield* Console.log(`at ${error.step}: ${error.message}; clean: ${error.isClean}`)
})

export const orchestrate = Effect.fn("orchestrate")(function*(options: Options) {
  const slipway = yield* Slipway
  const task = yield* slipway.createTask({
    description: "greet everybody",
    project: options.project,
    maxConcurrent: 2
  })
  yield* greet(task.id, options)
  yield* Effect.scoped(withHelper(task.id, options))
  yield* tellFailure(task.id, options)
  const active = yield* slipway.agents({ taskId: task.id, activeOnly: true })
  if (active.length > 0) return yield* Effect.die(`${active.length} agents are still active`)
})
