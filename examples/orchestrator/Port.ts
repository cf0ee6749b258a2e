/** A port that an agent has for itself, as a resource that Slipway releases with it. */
import * as Resource from "@slipway/core/resource"
import { Duration, Effect, Schema } from "effect"
import type { Leases } from "./Leases.ts"

class PortTaken extends Schema.TaggedError<PortTaken>()("PortTaken", { port: Schema.Int }) {
  override get message() {
    return `port ${this.port} is leased to another agent`
  }
}

const Port = Schema.Struct({ port: Schema.Int })

export const portLease = (leases: Leases) =>
  Resource.own({
    kind: "port",
    Input: Port,
    Reference: Port,
    plan: ({ port }) => Effect.succeed({ port }),
    environment: ({ port }) => ({ PORT: String(port) }),
    until: "end",
    // An agent that may live may use its port.
    after: ["tmux_session"],
    keptBy: ["tmux_session"],
    describe: ({ port }) => `port ${port}`,
    limit: () => Duration.seconds(2),
    make: ({ port }, _input, { agentId }) =>
      leases.take(port, agentId).pipe(
        Effect.catch(() => Effect.succeed(false)),
        Effect.flatMap((isFree) => isFree ? Effect.void : Effect.fail(new PortTaken({ port })))
      ),
    release: ({ port }, { agentId }) =>
      Effect.gen(function*() {
        const owner = yield* leases.ownerOf(port)
        yield* leases.free(port, agentId)
        if (owner === undefined) return Resource.AlreadyGone
        return owner === agentId ? Resource.Released : Resource.kept(`it is leased to ${owner}`)
      }).pipe(Effect.catch((error) => Effect.succeed(Resource.failed(error.message)))),
    probe: ({ port }, { agentId }) =>
      leases.ownerOf(port).pipe(
        Effect.map((owner): Resource.Presence => ({ _tag: owner === agentId ? "Present" : "Absent" })),
        Effect.catch((error) => Effect.succeed<Resource.Presence>({ _tag: "Unknown", reason: error.message }))
      )
  })
