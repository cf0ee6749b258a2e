/**
 * A resource of one's own: a port that an agent has for itself. This program deploys with it and is killed at each step of
 * the deployment, and one reap leaves nothing of it.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Slipway } from "@slipway/core"
import * as Resource from "@slipway/core/resource"
import { Console, Duration, Effect, Schema } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, linkSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

class PortTaken extends Schema.TaggedError<PortTaken>()("PortTaken", { port: Schema.Int }) {
  override get message() {
    return `port ${this.port} is leased to another agent`
  }
}

const attempt = <A>(f: () => A) => Effect.try({ try: f, catch: (error) => String(error) })

/** Leases are files of this directory, each named by its port; its content is the agent. */
const portLease = (directory: string) =>
  Resource.own({
    kind: "port",
    // What a request says, and what the registry keeps before anything is made.
    Input: Schema.Struct({ port: Schema.Int }),
    Reference: Schema.Struct({ path: Schema.String, port: Schema.Int }),
    plan: ({ port }) => Effect.succeed({ path: join(directory, String(port)), port }),
    environment: ({ port }) => ({ PORT: String(port) }),
    // It goes with the agent, after its processes, which may use the port as long as they live.
    until: "end",
    after: ["tmux_session"],
    keptBy: ["tmux_session"],
    describe: ({ path }) => path,
    limit: () => Duration.seconds(2),
    // A link puts the lease in place whole, and fails where another stands.
    make: ({ path, port }, _input, { agentId }) =>
      Effect.mapError(
        attempt(() => {
          mkdirSync(directory, { recursive: true })
          writeFileSync(`${path}.${agentId}`, agentId)
          linkSync(`${path}.${agentId}`, path)
        }),
        () => new PortTaken({ port })
      ),
    // It may run at any time, any number of times, in any process, and takes only what is this agent's.
    release: ({ path }, { agentId }) =>
      attempt((): Resource.ReleaseOutcome => {
        rmSync(`${path}.${agentId}`, { force: true })
        if (!existsSync(path)) return Resource.AlreadyGone
        const owner = readFileSync(path, "utf8")
        if (owner !== agentId) return Resource.kept(`it is leased to ${owner}`)
        rmSync(path, { force: true })
        return Resource.Released
      }).pipe(Effect.catch((reason) => Effect.succeed(Resource.failed(reason)))),
    probe: ({ path }) => Effect.sync((): Resource.Presence => ({ _tag: existsSync(path) ? "Present" : "Absent" }))
  })

const [root = mkdtempSync(join(tmpdir(), "slipway-ports-")), killedAt] = process.argv.slice(2)
const leases = join(root, "leases")
const slipway = Slipway.layer({ directory: join(root, "home"), resources: [portLease(leases)] })

/** Deploys, and is killed by the hardest signal when the step begins. */
const deploy = Effect.gen(function*() {
  const service = yield* Slipway
  yield* service.deploy({
    project: root,
    prompt: "serve",
    agent: { kind: "command", argv: ["sh", "-c", "echo \"serving on $PORT\"; exec sleep 1000"] },
    ready: "output",
    resources: { port: { port: 4001 } }
  }, { onStep: (step) => Effect.sync(() => void (step === killedAt && process.kill(process.pid, "SIGKILL"))) })
})

const everyStep = Effect.gen(function*() {
  for (const step of ["agent-directory", "resources", "session", "readiness", "task-entry", "commit"]) {
    const child = spawnSync(process.execPath, ["--conditions=source", import.meta.filename, root, step])
    const left = yield* Effect.gen(function*() {
      const service = yield* Slipway
      yield* service.reap(yield* service.reapPlan)
      return (yield* service.agents({ activeOnly: true })).length
    }).pipe(Effect.provide(slipway))
    const files = existsSync(leases) ? readdirSync(leases).length : 0
    yield* Console.log(
      `killed (${child.signal}) at ${step}: ${left} agents and ${files} leases are left after one reap`
    )
    if (child.signal !== "SIGKILL" || left > 0 || files > 0) return yield* Effect.die("something is left")
  }
  spawnSync("tmux", ["-S", join(root, "home", "tmux.sock"), "kill-server"])
  rmSync(root, { recursive: true, force: true })
})

NodeRuntime.runMain(killedAt === undefined ? everyStep : Effect.provide(deploy, slipway))
