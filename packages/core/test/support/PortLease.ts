/**
 * A resource that a program brings along, as a user would write it: a port that the agent has for itself, kept by a file
 * that is made exclusively and names the agent.
 */
import * as Own from "@slipway/core/resource"
import { Duration, Effect, Schema } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"

class PortTaken extends Schema.TaggedError<PortTaken>()("PortTaken", { port: Schema.Int }) {
  override get message() {
    return `port ${this.port} is leased to another agent`
  }
}

const Reference = Schema.Struct({ path: Schema.String, port: Schema.Int })

const attempt = <A>(f: () => A) => Effect.try({ try: f, catch: (error) => error instanceof Error ? error.message : "" })

/** What the agent writes before the lease, which is put in place by a link: nobody ever reads half a lease. */
const draftOf = (path: string, agentId: string) => `${path}.${agentId}`

const ownerOf = (path: string) => attempt(() => Fs.existsSync(path) ? Fs.readFileSync(path, "utf8") : undefined)

/** Leases of ports, in a directory. */
export const portLease = (directory: string) =>
  Own.own({
    kind: "port",
    Input: Schema.Struct({ port: Schema.Int.check(Schema.isBetween({ minimum: 1024, maximum: 65_535 })) }),
    Reference,
    until: "end",
    // An agent that may live may use its port.
    after: ["tmux_session"],
    keptBy: ["tmux_session"],
    describe: ({ path }) => path,
    limit: () => Duration.seconds(2),
    plan: ({ port }) => Effect.succeed({ path: Path.join(directory, String(port)), port }),
    environment: ({ port }) => ({ PORT: String(port) }),
    make: ({ path, port }, _input, { agentId }) =>
      Effect.mapError(
        attempt(() => {
          Fs.mkdirSync(directory, { recursive: true })
          Fs.writeFileSync(draftOf(path, agentId), agentId)
          Fs.linkSync(draftOf(path, agentId), path)
        }),
        () => new PortTaken({ port })
      ),
    release: ({ path }, { agentId }) =>
      attempt(() => Fs.rmSync(draftOf(path, agentId), { force: true })).pipe(
        Effect.andThen(ownerOf(path)),
        Effect.flatMap((owner) => {
          if (owner === undefined) return Effect.succeed(Own.AlreadyGone)
          return owner === agentId
            ? Effect.as(attempt(() => Fs.rmSync(path, { force: true })), Own.Released)
            : Effect.succeed(Own.kept(`it is leased to ${owner}`))
        }),
        Effect.catch((reason) => Effect.succeed(Own.failed(reason)))
      ),
    probe: ({ path }) =>
      ownerOf(path).pipe(
        Effect.map((owner): Own.Presence => ({ _tag: owner === undefined ? "Absent" : "Present" })),
        Effect.catch((reason) => Effect.succeed<Own.Presence>({ _tag: "Unknown", reason }))
      )
  })
