/**
 * Run by a test as a process of its own: deploys one agent on the world at a root, tells each step as it begins and the
 * agent's id when it has committed, and then stays until it is killed; where a step is named, it kills itself there.
 */
import { Slipway } from "@slipway/core"
import { Effect, Logger } from "effect"
import * as Path from "node:path"
import { portLease } from "./PortLease.ts"
import * as World from "./World.ts"

const [root = "", way = "deploy", script = "", ready = "survive", withinMillis = "60000", port = "", killAt = ""] =
  process
    .argv
    .slice(2)

const world: World.World = {
  root,
  home: Path.join(root, "home"),
  project: Path.join(root, "project"),
  socket: Path.join(root, "home", "tmux.sock")
}
const say = (line: string) => Effect.sync(() => void process.stdout.write(`${line}\n`))

const program = Effect.gen(function*() {
  const slipway = yield* Slipway
  const deploy = way === "deployScoped" ? slipway.deployScoped : slipway.deploy
  yield* deploy({
    project: world.project,
    prompt: "work",
    type: "worker",
    agent: World.shell(script),
    ready: ready === "output" || ready === "none" ? ready : "survive",
    readyWithin: Number(withinMillis),
    ...(port === "" ? {} : { resources: { port: { port: Number(port) } } })
  }, {
    onStep: (step) =>
      step === killAt ? Effect.sync(() => void process.kill(process.pid, "SIGKILL")) : say(`step ${step}`),
    onCommitted: ({ agent }) => say(`committed ${agent.id}`)
  })
  return yield* Effect.never
}).pipe(
  Effect.scoped,
  Effect.provide([World.layer(world, { resources: [portLease(Path.join(root, "ports"))] }), Logger.layer([])])
)

Effect.runPromise(program).catch((error: unknown) => process.stdout.write(`failed ${String(error)}\n`))
// A pending effect alone does not keep a process alive.
process.stdin.resume()
