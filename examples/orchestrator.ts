import { NodeRuntime } from "@effect/platform-node"
import { Agent, Slipway } from "@slipway/core"
import { Console, Effect, Stream } from "effect"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const project = mkdtempSync(join(tmpdir(), "slipway-project-"))
const agents = join(import.meta.dirname, "agents")

const program = Effect.gen(function*() {
  const slipway = yield* Slipway
  const task = yield* slipway.createTask({ description: "greet everybody", project, maxConcurrent: 2 })

  // Outlives this program: its whole life is in the registry.
  const { agent } = yield* slipway.deploy({
    task: task.id,
    type: "greeter",
    prompt: "everybody",
    agent: { kind: "command", argv: [join(agents, "brief.sh")] },
    ready: "output"
  })
  const output = yield* slipway.output(agent.id, { follow: true }).pipe(Stream.decodeText, Stream.mkString)
  const ended = yield* slipway.wait(agent.id)
  yield* Console.log(`${agent.id} is ${Agent.status(ended)} and said: ${output.trim()}`)

  // Belongs to this scope: stopped, with proof, when the scope closes, whatever happens inside.
  yield* Effect.scoped(Effect.gen(function*() {
    const helper = yield* slipway.deployScoped({
      task: task.id,
      type: "helper",
      prompt: "help",
      agent: { kind: "command", argv: [join(agents, "steady.sh")] },
      ready: "output"
    })
    yield* Console.log(`${helper.agent.id} helps`)
  }))

  // A failure is typed, and reports what was released.
  const error = yield* Effect.flip(slipway.deploy({
    task: task.id,
    type: "failing",
    prompt: "try",
    agent: { kind: "command", argv: [join(agents, "failing.sh")] }
  }))
  yield* Console.log(`at ${error.step}: ${error.message}; clean: ${error.isClean}`)

  const active = yield* slipway.agents({ taskId: task.id, activeOnly: true })
  if (active.length > 0) return yield* Effect.die(`${active.length} agents are still active`)
}).pipe(Effect.provide(Slipway.layer()))

// A reader of the output that leaves, as `head` does, must not end the program before it has released what it made.
process.stdout.on("error", () => {})
// INT and TERM interrupt the program, and its scopes close.
NodeRuntime.runMain(program)
