/**
 * A resource that a program brings along, in memory: a port that an agent has for itself. Its leases outlive every program.
 */
import * as Own from "@slipway/core/resource"
import { Duration, Effect, Ref, Schema } from "effect"

class PortTaken extends Schema.TaggedError<PortTaken>()("PortTaken", { port: Schema.Int }) {
  override get message() {
    return `port ${this.port} is leased to another agent`
  }
}

const Port = Schema.Struct({ port: Schema.Int })

/** Leases of ports, and the kind `port` by which agents have them. */
export const memoryPorts = () => {
  const leases = Ref.makeUnsafe<ReadonlyMap<number, string>>(new Map())
  const kind = Own.own({
    kind: "port",
    Input: Port,
    Reference: Port,
    plan: ({ port }) => Effect.succeed({ port }),
    environment: ({ port }) => ({ PORT: String(port) }),
    until: "end",
    after: ["tmux_session"],
    keptBy: ["tmux_session"],
    describe: ({ port }) => String(port),
    limit: () => Duration.seconds(2),
    make: ({ port }, _input, { agentId }) =>
      Effect.flatMap(
        Ref.modify(leases, (all) => {
          const isFree = !all.has(port)
          return [isFree, isFree ? new Map([...all, [port, agentId]]) : all] as const
        }),
        (isFree) => isFree ? Effect.void : Effect.fail(new PortTaken({ port }))
      ),
    release: ({ port }, { agentId }) =>
      Ref.modify(leases, (all) => {
        if (all.get(port) !== agentId) return [Own.AlreadyGone, all] as const
        return [Own.Released, new Map([...all].filter(([each]) => each !== port))] as const
      }),
    probe: ({ port }, { agentId }) =>
      Effect.map(
        Ref.get(leases),
        (all): Own.Presence => ({ _tag: all.get(port) === agentId ? "Present" : "Absent" })
      )
  })
  return { leases, kind, held: Effect.map(Ref.get(leases), (all) => [...all.keys()]) }
}
