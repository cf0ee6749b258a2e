/** A process that holds a control client of a socket until it is killed: `owner.ts SOCKET SCRIPT`. */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { Target, Tmux, TmuxControl } from "../src/index.ts"

const [, , socket = "", script = ""] = process.argv

const program = Effect.gen(function*() {
  const server = (yield* Tmux).server(Target.SocketPath.make(socket))
  yield* server.newSession({ name: Target.SessionName.make("owned"), environment: {}, script })
  process.stdout.write("ready\n")
  return yield* Effect.never
})

Effect.runFork(Effect.provide(program, TmuxControl.layer().pipe(Layer.provide(NodeServices.layer))))
