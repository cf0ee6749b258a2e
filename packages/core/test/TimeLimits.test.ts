import { assert, describe } from "@effect/vitest"
import type { DeployInput } from "@slipway/core"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { AgentId, type StoppedBy } from "../src/agent/Agent.ts"
import { runProgram } from "./children.ts"
import { eventually } from "./processes.ts"
import { beat, beating, isGone, silent, stateOf } from "./support/Proof.ts"
import { agreed, guarantee, numberIn, open, request, written } from "./support/Scenario.ts"
import type * as World from "./support/World.ts"

interface Limited {
  readonly by: StoppedBy
  readonly because: string
  readonly limits: Partial<DeployInput>
  readonly script: string
}

const cases: ReadonlyArray<Limited> = [
  {
    by: "max-run",
    because: "it ran longer than 300ms",
    limits: { maxRun: 300 },
    script: "trap '' TERM; echo up; ./beat & while :; do echo busy; sleep 0.02; done"
  },
  {
    by: "first-output",
    because: "it wrote nothing to standard output within 300ms",
    limits: { firstOutputWithin: 300 },
    script: "./beat & while :; do echo not this >&2; sleep 0.02; done"
  },
  {
    by: "stall",
    because: "it wrote nothing for 300ms",
    limits: { stallAfter: 300 },
    script: "echo up; ./beat & exec sleep 1000"
  }
]

// Deploys the request in a process of its own, which then ends.
const deployElsewhere = Effect.fnUntraced(function*(world: World.World, input: DeployInput) {
  const text = `
    import { Slipway } from "@slipway/core"
    import { Effect } from "effect"
    import * as World from ${JSON.stringify(Path.join(import.meta.dirname, "support", "World.ts"))}
    const [world, input] = process.argv.slice(1).map((text) => JSON.parse(text))
    const deploy = Effect.flatMap(Slipway, (slipway) => slipway.deploy(input))
    Effect.runPromise(Effect.provide(deploy, World.layer(world))).then(({ agent }) => process.stdout.write("committed " + agent.id + "\\n"))`
  const child = yield* runProgram(text, [JSON.stringify(world), JSON.stringify(input)])
  const [, id = ""] = (yield* child.says("committed ")).split(" ")
  yield* eventually(() => child.process.exitCode !== null)
  return AgentId.make(id)
})

describe("a limit of time", () => {
  for (const { because, by, limits, script } of cases) {
    guarantee(
      `(${by}) ends an agent that is waited for, with all it started, and is told as its end`,
      (world) =>
        Effect.gen(function*() {
          beat(world)
          const slipway = yield* open(world)
          const { agent } = yield* slipway.deploy(request(world, script, { ready: "none", ...limits }))
          const known = yield* beating(world, 1)
          const { state } = yield* slipway.wait(agent.id)
          assert.deepStrictEqual({ ...state }, { _tag: "stopped", reason: because, by })
          isGone(world, known)
          yield* silent(world)
          const { stopped_by } = JSON.parse(Fs.readFileSync(agent.plan.entry, "utf8"))
          assert.strictEqual(stopped_by, by)
          yield* agreed(slipway, agent.id)
          return [agent.id]
        })
    )

    guarantee(`(${by}) is kept by whoever looks, when the deployer is gone`, (world) =>
      Effect.gen(function*() {
        beat(world)
        const id = yield* deployElsewhere(world, request(world, script, { ready: "none", ...limits }))
        const known = yield* beating(world, 1)
        const slipway = yield* open(world)
        const look = Effect.map(slipway.agents({ activeOnly: true }), (agents) =>
          agents.every(({ state }) => state._tag !== "running"))
        while (!(yield* look)) {
          yield* Effect.sleep("50 millis")
        }
        const state = yield* stateOf(slipway, id)
        assert.deepStrictEqual({ ...state }, { _tag: "stopped", reason: because, by })
        isGone(world, known)
        return [id]
      }))
  }

  guarantee("leaves an agent alone that keeps within all of them", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const limits = { maxRun: 60_000, firstOutputWithin: 1500, stallAfter: 1500 }
      const script =
        "echo up; i=0; while [ $i -lt 80 ]; do echo still here >&2; i=$((i+1)); sleep 0.02; done; echo x >done; exec sleep 1000"
      const { agent } = yield* slipway.deploy(
        request(world, script, { ready: "output", readyWithin: 20_000, ...limits })
      )
      const done = Path.join(world.project, "done")
      while (!Fs.existsSync(done)) {
        assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "running")
        yield* Effect.sleep("50 millis")
      }
      assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "running")
      const [stopped] = yield* slipway.stop([agent.id])
      assert.nestedPropertyVal(stopped, "state.by", "request")
      yield* agreed(slipway, agent.id)
      return [agent.id]
    }))

  guarantee(
    "tells an agent that ended by itself before anybody looked as it ended, and not as stopped",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const limits = { maxRun: 1, firstOutputWithin: 1, stallAfter: 1 }
        const { agent } = yield* slipway.deploy(request(world, "exit 6", { ready: "none", ...limits }))
        yield* eventually(() => Fs.existsSync(Path.join(agent.plan.directory, "exit.6")))
        const state = yield* stateOf(slipway, agent.id)
        assert.deepStrictEqual({ ...state }, { _tag: "exited", code: 6, signal: null, outcome: "failure" })
        return [agent.id]
      })
  )

  guarantee(
    "on the first output is kept for good once there was some, even when the log is cut",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script = "echo up; until [ -e go ]; do sleep 0.01; done; echo x >done; exec sleep 1000"
        const { agent } = yield* slipway.deploy(
          request(world, script, { ready: "output", readyWithin: 20_000, firstOutputWithin: 500 })
        )
        const begin = yield* numberOfUptime
        Fs.truncateSync(Path.join(agent.plan.directory, "stdout.log"))
        while ((yield* numberOfUptime) - begin < 0.7) yield* Effect.sleep("50 millis")
        assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "running")
        Fs.writeFileSync(Path.join(world.project, "go"), "")
        yield* written(Path.join(world.project, "done"))
        yield* slipway.stop([agent.id])
        yield* agreed(slipway, agent.id)
        return [agent.id]
      })
  )

  guarantee("is no reason to end an agent's child, which has limits of its own", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const parent = (yield* slipway.deploy(
        request(world, "exec sleep 1000", { ready: "none", type: "parent", maxRun: 1500 })
      )).agent
      const child = (yield* slipway.deploy(
        request(world, "echo $$ >pid; exec sleep 1000", { ready: "none", type: "child", parent: parent.id })
      )).agent
      yield* numberIn(Path.join(world.project, "pid"))
      assert.nestedPropertyVal(yield* slipway.wait(parent.id), "state.by", "max-run")
      assert.strictEqual((yield* slipway.agent(child.id)).state._tag, "running")
      yield* slipway.stop([child.id])
      yield* agreed(slipway, parent.id)
      return [parent.id, child.id]
    }))
})

const numberOfUptime = Effect.sync(() => Number(Fs.readFileSync("/proc/uptime", "utf8").split(" ")[0]))
