/**
 * A process that holds a control client of a socket until it is killed: `owner.ts SOCKET SCRIPT [asking]`; one that is asking
 * never stops to.
 */
import { NodeServices } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { Target, Tmux, TmuxControl } from "../src/index.ts"

const [, , socket = "", script = "", what] = process.argv

const program = Effect.gen(function*() {
  const server = (yield* Tmux).server(Target.SocketPath.make(socket))
  yield* server.newSession({ name: Target.SessionName.make("owned"), environment: {}, script })
  process.stdout.write("ready\n")
  const asked = Array.from({ length: 50 }, () => server.sessions)
  return yield* what === "asking" ? Effect.forever(Effect.all(asked, { concurrency: "unbounded" })) : Effect.never
})

Effect.runFork(Effect.provide(program, TmuxControl.layer().pipe(Layer.provide(NodeServices.layer))))
