/**
 * Resources that a program brings along: they are in the plan, so every end releases them, in whichever process it comes.
 */
import { assert, describe } from "@effect/vitest"
import { own } from "@slipway/core/resource"
import { Deferred, Duration, Effect, Fiber, Schema } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { runModule } from "./children.ts"
import { portLease } from "./support/PortLease.ts"
import { guarantee, lasting, only, open, reasonOf, request, written } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const ports = (world: World.World) => Path.join(world.root, "ports")
const leases = (world: World.World): ReadonlyArray<string> =>
  Fs.existsSync(ports(world)) ? Fs.readdirSync(ports(world)) : []

const openWith = (world: World.World) => open(world, { resources: [portLease(ports(world))] })
const withPort = (port = 4001) => ({ resources: { port: { port } } })

/** What the resources have in common that are nothing but what a test hears of them. */
const plain = {
  Input: Schema.Struct({}),
  Reference: Schema.String,
  describe: (ref: string) => ref,
  limit: () => Duration.seconds(1),
  probe: () => Effect.succeed({ _tag: "Absent" as const })
}

describe("a resource that a program brings along", () => {
  guarantee("is made before the agent starts, told to it, and gone with its end", (world) =>
    Effect.gen(function*() {
      const slipway = yield* openWith(world)
      const told = Path.join(world.root, "told")
      const script = `echo "$PORT" > ${told}; cat ${ports(world)}/4001 >> ${told}; echo up; exec sleep 1000`
      const { agent } = yield* slipway.deploy(request(world, script, { ...withPort(), ready: "output" }))
      assert.strictEqual(yield* written(told), `4001\n${agent.id}`)
      assert.include(leases(world), "4001")
      yield* slipway.stop([agent.id])
      assert.deepStrictEqual(leases(world), [])
      return [agent.id]
    }))

  guarantee(
    "is released when the agent ends by itself, by the next command that looks",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* openWith(world)
        const { agent } = yield* slipway.deploy(
          request(world, "echo up; sleep 0.2", { ...withPort(), ready: "output" })
        )
        yield* slipway.wait(agent.id)
        assert.deepStrictEqual(leases(world), [])
        return [agent.id]
      })
  )

  guarantee("is released when a later step fails, and named in the report", (world) =>
    Effect.gen(function*() {
      const slipway = yield* openWith(world)
      const error = yield* Effect.flip(slipway.deploy(request(world, "exit 3", withPort())))
      reasonOf(error, "AgentExitedEarly")
      assert.deepStrictEqual(error.cleanup.releases.map(({ resource }) => resource), [
        "tmux_session",
        "port",
        "prompt_file",
        "global_registry"
      ])
      assert.strictEqual(error.cleanup.releases[1]?.outcome._tag, "Released")
      assert.isTrue(error.isClean)
      assert.deepStrictEqual(leases(world), [])
    }))

  guarantee(
    "fails the deployment typed when it can't be made, and another's is left alone",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* openWith(world)
        const { agent } = yield* slipway.deploy(lasting(world, withPort()))
        const error = yield* Effect.flip(slipway.deploy(lasting(world, { ...withPort(), type: "second" })))
        assert.strictEqual(error.step, "resources")
        assert.deepInclude(reasonOf(error, "ResourceFailed").error, { tag: "PortTaken" })
        assert.include(error.message, "port 4001 is leased to another agent")
        assert.isTrue(error.isClean)
        assert.strictEqual(Fs.readFileSync(Path.join(ports(world), "4001"), "utf8"), agent.id)
        yield* slipway.stop([agent.id])
        return [agent.id]
      })
  )

  guarantee(
    "is refused before anything is made where the program does not provide it, or it does not take the input",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* openWith(world)
        for (const resources of [{ database: {} }, { port: { port: "many" } }, { port: { port: 80 } }]) {
          const error = yield* Effect.flip(slipway.deploy(lasting(world, { resources })))
          assert.strictEqual(error.step, "preflight")
          assert.isNull(error.agentId)
          reasonOf(error, "ResourceRefused")
        }
        assert.deepStrictEqual(World.rows(world), [])
      })
  )

  for (const step of ["agent-directory", "resources", "session", "readiness"]) {
    guarantee(
      `is gone after one reap when the deployer was killed at the step ${step}`,
      (world) =>
        Effect.gen(function*() {
          const child = yield* runModule("support/deployer.ts", [
            world.root,
            "deploy",
            "exec sleep 1000",
            "survive",
            "600000",
            "4001"
          ])
          yield* child.says(`step ${step}`)
          child.process.kill("SIGKILL")
          yield* child.ended
          const slipway = yield* openWith(world)
          yield* slipway.reap(yield* slipway.reapPlan)
          assert.deepStrictEqual(leases(world), [])
          assert.deepStrictEqual(yield* slipway.agents({ activeOnly: true }), [])
        })
    )
  }

  guarantee(
    "stays with its agent's row, named, where a program that does not know it ends the agent; one that does releases it",
    (world) =>
      Effect.gen(function*() {
        const knowing = yield* openWith(world)
        const { agent } = yield* knowing.deploy(lasting(world, withPort()))
        const other = yield* open(world)
        yield* other.stop([agent.id])
        const left = only(yield* other.agents({ activeOnly: true }))
        assert.nestedPropertyVal(left, "state.left.0.resource", "port")
        assert.lengthOf(World.sessions(world), 0)
        assert.isFalse(World.rows(world)[0]?.holdsSlot, "what can't live holds no slot")
        assert.include(leases(world), "4001")
        yield* knowing.agents()
        assert.deepStrictEqual(leases(world), [])
        assert.strictEqual((yield* knowing.agent(agent.id)).state._tag, "stopped")
        return [agent.id]
      })
  )

  guarantee(
    "that hangs while it is made is given up at the limit of the step, and released",
    (world) =>
      Effect.gen(function*() {
        const released = yield* Deferred.make<string>()
        const stuck = own({
          kind: "stuck",
          ...plain,
          until: "end",
          plan: (_input, { agentId }) => Effect.succeed(`the one of ${agentId}`),
          make: () => Effect.never,
          release: (ref) => Effect.as(Deferred.succeed(released, ref), { _tag: "Released" as const })
        })
        const slipway = yield* open(world, { resources: [stuck], stepLimit: "3 seconds" })
        const error = yield* Effect.flip(slipway.deploy(lasting(world, { resources: { stuck: {} } })))
        reasonOf(error, "StepTimedOut")
        assert.isTrue(error.isClean)
        assert.include(yield* Deferred.await(released), "the one of worker-")
      })
  )

  guarantee(
    "that breaks in the middle of its making, before it has given an effect, is released",
    (world) =>
      Effect.gen(function*() {
        const path = Path.join(world.root, "half")
        const half = own({
          kind: "half",
          ...plain,
          until: "end",
          plan: () => Effect.succeed(path),
          make: (ref) => {
            Fs.writeFileSync(ref, "half")
            throw new Error("a bug")
          },
          release: (ref) => {
            Fs.rmSync(ref)
            return Effect.succeed({ _tag: "Released" as const })
          }
        })
        const slipway = yield* open(world, { resources: [half] })
        const exit = yield* Effect.exit(slipway.deploy(lasting(world, { resources: { half: {} } })))
        assert.isTrue(exit._tag === "Failure")
        assert.isFalse(Fs.existsSync(path))
        assert.deepStrictEqual(yield* slipway.agents({ activeOnly: true }), [])
      })
  )

  guarantee(
    "that holds the slot holds it on, whichever program looks, until it is released",
    (world) =>
      Effect.gen(function*() {
        let isStuck = true
        const seat = own({
          kind: "seat",
          ...plain,
          until: "end",
          occupies: true,
          plan: () => Effect.succeed("seat"),
          make: () => Effect.void,
          release: () =>
            Effect.succeed(isStuck ? { _tag: "Failed" as const, reason: "busy" } : { _tag: "Released" as const })
        })
        const knowing = yield* open(world, { resources: [seat] })
        const other = yield* open(world)
        const { agent } = yield* knowing.deploy(lasting(world, { resources: { seat: {} } }))
        yield* knowing.stop([agent.id])
        yield* other.agents()
        yield* other.agents()
        assert.isTrue(World.rows(world)[0]?.holdsSlot)
        const { state } = only(yield* other.agents({ activeOnly: true }))
        assert.nestedPropertyVal(state, "left.0.outcome.reason", "busy")
        const events = yield* other.events(agent.id)
        yield* knowing.agents()
        yield* other.agents()
        assert.lengthOf(yield* other.events(agent.id), events.length, "looks that change nothing tell nothing")
        isStuck = false
        yield* knowing.agents()
        assert.isFalse(World.rows(world)[0]?.holdsSlot)
        return [agent.id]
      })
  )

  guarantee(
    "that went with the agent keeps no program from forgetting it; one that goes with a prune keeps its row and its files",
    (world) =>
      Effect.gen(function*() {
        const kept = own({
          kind: "archive",
          ...plain,
          until: "prune",
          plan: () => Effect.succeed("archive"),
          make: () => Effect.void,
          release: () => Effect.succeed({ _tag: "Released" as const })
        })
        const knowing = yield* open(world, { resources: [portLease(ports(world)), kept] })
        const other = yield* open(world)
        const brief = (type: string, resources: Record<string, Schema.Json>) =>
          Effect.flatMap(
            knowing.deploy(request(world, "exit 0", { type, resources, ready: "none" })),
            ({ agent }) => knowing.wait(agent.id)
          )
        const withEnd = yield* brief("one", { port: { port: 4001 } })
        const withPrune = yield* brief("two", { archive: {} })
        yield* Effect.sleep("10 millis")
        const pruned = yield* other.prune({ olderThan: 0 })
        const problems = new Map(pruned.map(({ agentId, problems }) => [agentId, problems]))
        assert.deepStrictEqual(problems.get(withEnd.id), [])
        assert.include(problems.get(withPrune.id)?.join(), "archive")
        assert.isTrue(Fs.existsSync(Path.join(withPrune.plan.directory, "stdout.log")), "its output stays")
        yield* knowing.prune({ olderThan: 0 })
        assert.deepStrictEqual(World.rows(world), [])
      })
  )

  guarantee("can't give the agent a variable that is Slipway's own, or none at all", (world) =>
    Effect.gen(function*() {
      for (const [name, value] of [["SLIPWAY_AGENT_ID", "another"], ["", "x"], ["A=B", "x"], ["X", "a\0b"]] as const) {
        const named = own({
          kind: "named",
          ...plain,
          until: "end",
          plan: () => Effect.succeed("named"),
          environment: () => ({ [name]: value }),
          make: () => Effect.void,
          release: () => Effect.succeed({ _tag: "Released" as const })
        })
        const slipway = yield* open(world, { resources: [named] })
        const error = yield* Effect.flip(slipway.deploy(lasting(world, { resources: { named: {} } })))
        assert.include(reasonOf(error, "ResourceRefused").problem, JSON.stringify(name))
      }
    }))

  guarantee("is released when the deployment is interrupted while it is made", (world) =>
    Effect.gen(function*() {
      const [begun, released] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const slow = own({
        kind: "slow",
        ...plain,
        until: "prune",
        plan: () => Effect.succeed("slow"),
        make: () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never),
        release: () => Effect.as(Deferred.succeed(released, undefined), { _tag: "Released" as const })
      })
      const slipway = yield* open(world, { resources: [slow] })
      const fiber = yield* Effect.forkChild(slipway.deploy(lasting(world, { resources: { slow: {} } })))
      yield* Deferred.await(begun)
      yield* Fiber.interrupt(fiber)
      yield* Deferred.await(released)
    }))

  guarantee(
    "is refused by the layer where its name is taken, twice there, or its order goes in a circle",
    (world) =>
      Effect.gen(function*() {
        const named = (kind: string, after: ReadonlyArray<string> = []) =>
          own({
            kind,
            after,
            ...plain,
            until: "end",
            plan: () => Effect.succeed("ref"),
            make: () => Effect.void,
            release: () => Effect.succeed({ _tag: "AlreadyGone" as const })
          })
        for (
          const resources of [
            [named("tmux_session")],
            [named("global_registry")],
            [named("Port")],
            [named("port"), named("port")],
            [named("one", ["two"]), named("two", ["one"])]
          ]
        ) {
          const error = yield* Effect.flip(open(world, { resources }))
          assert.strictEqual(error._tag, "InvalidResources")
        }
      })
  )
})
