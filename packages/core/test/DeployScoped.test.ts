import { assert, describe } from "@effect/vitest"
import { Cause, Deferred, Effect, Exit, Fiber, Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { runModule } from "./children.ts"
import { eventually } from "./processes.ts"
import { agreed, guarantee, lasting, only, open, request, staying, written } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

/** Two processes that outlive HUP and TERM, so that only a stop with proof ends them. */
const stubborn = "trap '' HUP TERM; setsid sleep 1000 & echo up; while :; do sleep 1000; done"

const isGone = (world: World.World) => {
  assert.deepStrictEqual(World.sessions(world), [])
  assert.deepStrictEqual(World.members(world), [])
}

describe("deployScoped stops its agent, with proof, when the scope closes", () => {
  guarantee("with success", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* Effect.scoped(Effect.tap(
        slipway.deployScoped(request(world, stubborn, { ready: "output", readyWithin: 20_000 })),
        () => Effect.sync(() => assert.lengthOf(World.sessions(world), 1))
      ))
      isGone(world)
      const { owner, state } = yield* agreed(slipway, agent.id)
      assert.strictEqual(state._tag, "stopped")
      assert.strictEqual(owner?.holder.pid, process.pid)
      assert.isTrue(Fs.existsSync(Path.join(agent.plan.directory, "stdout.log")), "the logs stay")
      return [agent.id]
    }), 40_000)

  guarantee("with a failure, which is kept", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const error = yield* Effect.flip(Effect.scoped(
        Effect.andThen(slipway.deployScoped(lasting(world)), Effect.fail("the caller's own failure"))
      ))
      assert.strictEqual(error, "the caller's own failure")
      isGone(world)
      return [only(yield* slipway.agents()).id]
    }))

  guarantee("by an interruption", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const up = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(Effect.scoped(
        Effect.andThen(
          slipway.deployScoped(lasting(world)),
          Effect.andThen(Deferred.succeed(up, undefined), Effect.never)
        )
      ))
      yield* Deferred.await(up)
      assert.lengthOf(World.sessions(world), 1)
      yield* Fiber.interrupt(fiber)
      isGone(world)
      return [only(yield* slipway.agents()).id]
    }))

  guarantee("by an interruption between the commit and the return", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const committed = yield* Deferred.make<void>()
      const asked = yield* Deferred.make<void>()
      const fiber = yield* Effect.forkChild(Effect.scoped(
        slipway.deployScoped(lasting(world), {
          // Uninterruptible here: the interruption is waiting when this returns.
          onCommitted: () => Effect.andThen(Deferred.succeed(committed, undefined), Deferred.await(asked))
        })
      ))
      yield* Deferred.await(committed)
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(fiber), { startImmediately: true })
      yield* Deferred.succeed(asked, undefined)
      yield* Fiber.join(interrupting)
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.hasInterrupts(exit))
      isGone(world)
      const agent = only(yield* slipway.agents())
      assert.strictEqual(agent.state._tag, "stopped")
      return [agent.id]
    }))

  guarantee("with all that the agent has deployed, children first", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const family = yield* Effect.scoped(Effect.gen(function*() {
        const top = (yield* slipway.deployScoped(lasting(world, { type: "top" }))).agent
        const middle = (yield* slipway.deploy(lasting(world, { type: "middle", parent: top.id }))).agent
        const below = (yield* slipway.deploy(lasting(world, { type: "below", parent: middle.id }))).agent
        return [below.id, middle.id, top.id]
      }))
      isGone(world)
      const agents = yield* Effect.forEach(family, (id) => agreed(slipway, id))
      assert.deepStrictEqual(agents.map(({ state }) => state._tag), ["stopped", "stopped", "stopped"])
      const ends = agents.map(({ endedAt }) => endedAt?.epochMilliseconds ?? 0)
      assert.deepStrictEqual(ends, ends.toSorted((a, b) => a - b))
      return family
    }))

  guarantee("and has nothing to stop when the agent ended before", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* Effect.scoped(Effect.tap(
        slipway.deployScoped(request(world, "exit 0")),
        ({ agent }) => slipway.wait(agent.id)
      ))
      assert.strictEqual((yield* agreed(slipway, agent.id)).state._tag, "exited")
      return [agent.id]
    }))
})

describe("deployScoped", () => {
  guarantee("leaves an agent that it was given by a key to whom it belongs", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const owner = yield* Scope.make()
      const first = yield* Scope.provide(slipway.deployScoped(lasting(world, { key: "one" })), owner)
      const second = yield* Effect.scoped(slipway.deployScoped(lasting(world, { key: "one" })))
      assert.isTrue(second.reused)
      assert.strictEqual((yield* slipway.agent(first.agent.id)).state._tag, "running")
      assert.lengthOf(World.sessions(world), 1)
      yield* Scope.close(owner, Exit.void)
      isGone(world)
      return [first.agent.id]
    }))

  guarantee("leaves nothing when the deployment itself fails", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const exit = yield* Effect.exit(Effect.scoped(slipway.deployScoped(request(world, "exit 3"))))
      const reason = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : assert.fail("it succeeded")
      assert.nestedPropertyVal(reason, "value.reason._tag", "AgentExitedEarly")
    }))

  guarantee("has its agent stopped by whoever looks next when the owner was killed", (world) =>
    Effect.gen(function*() {
      const owner = yield* runModule("support/deployer.ts", [
        world.root,
        "deployScoped",
        `echo up > up; ${staying}`,
        "output"
      ])
      const [, id = ""] = (yield* owner.says("committed ")).split(" ")
      yield* written(Path.join(world.project, "up"))
      const slipway = yield* open(world)
      assert.strictEqual(only(yield* slipway.agents()).state._tag, "running")
      owner.process.kill("SIGKILL")
      yield* eventually(() => owner.process.signalCode === "SIGKILL")
      const agent = only(yield* slipway.agents())
      assert.strictEqual(agent.id, id)
      assert.strictEqual(agent.state._tag, "stopped")
      isGone(world)
      yield* agreed(slipway, agent.id)
      return [id]
    }))
})
