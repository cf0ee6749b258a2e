/**
 * What stands at the doors of the library: ids as they come from outside, the watch, and the facade of promises.
 */
import { assert, describe } from "@effect/vitest"
import { InvalidRequest, Slipway } from "@slipway/core"
import { open as openClient } from "@slipway/core/promise"
import { Deferred, Effect, Fiber, Layer, Result, Stream } from "effect"
import { guarantee, lasting, open, request } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

describe("an id that does not have the form of one", () => {
  guarantee(
    "names no agent and no task: each member says so, typed, and none breaks",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        for (const id of ["", "nonsense", "worker-1", "../../etc", "worker-260102-030405-0a1b2c\n"]) {
          const asked = [
            slipway.agent(id),
            slipway.events(id),
            slipway.wait(id),
            slipway.stop([id]),
            Stream.runDrain(slipway.output(id)),
            slipway.task(id),
            slipway.taskCounts(id)
          ]
          const tags = yield* Effect.forEach(
            asked,
            (effect: Effect.Effect<unknown, { readonly _tag: string; readonly message: string }>) =>
              Effect.map(Effect.flip(effect), (error) => {
                assert.include(error.message, JSON.stringify(id))
                return error._tag
              })
          )
          assert.deepStrictEqual(tags, [...Array(5).fill("AgentNotFound"), "TaskNotFound", "TaskNotFound"])
          assert.deepStrictEqual(yield* slipway.agents({ taskId: id }), [])
        }
      })
  )
})

describe("a duration that is none", () => {
  guarantee(
    "is refused by each member that takes one, typed, with the name of its field, and nothing is done",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- durations come from outside, whatever their type says
        const duration = "1 fortnight" as "1 week"
        const asked = [
          ["grace", slipway.stop([agent.id], { grace: duration })],
          ["olderThan", slipway.prune({ olderThan: duration })],
          ["every", Stream.runDrain(slipway.watch({ every: duration }))],
          ["maxRun", Effect.mapError(slipway.deploy(lasting(world, { maxRun: duration })), ({ reason }) => reason)]
        ] as const
        for (const [field, effect] of asked) {
          const error = yield* Effect.flip<unknown, unknown, never>(effect)
          assert.instanceOf(error, InvalidRequest)
          assert.deepStrictEqual(error.issues.map(({ path }) => path), [[field]])
          assert.include(error.message, `${field}: expected a duration`)
        }
        assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "running")
        yield* slipway.stop([agent.id])
        return [agent.id]
      })
  )
})

describe("a watch", () => {
  guarantee(
    "begins, and then records the end of an agent that nobody else asks about",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const began = yield* Deferred.make<void>()
        const reaped = yield* slipway.watch({ every: "100 millis" }).pipe(
          Stream.tap(({ _tag }) => _tag === "Began" ? Deferred.succeed(began, undefined) : Effect.void),
          Stream.filter((watched) =>
            watched._tag === "Turn" && Result.isSuccess(watched.result) &&
            watched.result.success.some(({ item, outcome }) => item.verdict === "ended-agent" && outcome === "done")
          ),
          Stream.take(1),
          Stream.runDrain,
          Effect.forkChild
        )
        yield* Deferred.await(began)
        const { agent } = yield* slipway.deploy(request(world, "echo up; sleep 0.3", { ready: "output" }))
        yield* Fiber.join(reaped)
        assert.strictEqual(World.rows(world).find(({ id }) => id === agent.id)?.status, "exited")
        return [agent.id]
      })
  )

  guarantee(
    "is refused while another watches the home, and begins when that one has ended",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const other = yield* open(world)
        yield* slipway.watch().pipe(
          Stream.take(1),
          Stream.runForEach(() =>
            Effect.map(
              Effect.flip(Stream.runDrain(other.watch())),
              ({ _tag }) => assert.strictEqual(_tag, "ReaperRunning")
            )
          )
        )
        const first = yield* Stream.runHead(other.watch())
        assert.isTrue(first._tag === "Some" && first.value._tag === "Began")
      })
  )

  guarantee("of a layer lets a program that only follows hear of every end", (world) =>
    Effect.gen(function*() {
      yield* Effect.gen(function*() {
        const slipway = yield* Slipway
        const { agent } = yield* slipway.deploy(request(world, "echo up; sleep 0.3", { ready: "output" }))
        const ended = yield* slipway.follow().pipe(
          Stream.filter(({ agentId, to }) => agentId === agent.id && to === "exited"),
          Stream.runHead
        )
        assert.isTrue(ended._tag === "Some")
      }).pipe(
        Effect.provide(Slipway.layerWatch({ every: "100 millis" }).pipe(Layer.provideMerge(World.layer(world))))
      )
      return World.rows(world).map(({ id }) => id)
    }))
})

describe("the facade of promises", () => {
  guarantee("deploys, reads, stops and closes", (world) =>
    Effect.promise(async () => {
      const steps: Array<string> = []
      const client = await openClient({ directory: world.home, caller: World.caller(world) })
      const { agent } = await client.deploy(lasting(world), { onStep: (step) => void steps.push(step) })
      assert.include(steps, "commit")
      let output = ""
      for await (const chunk of client.output(agent.id)) output += new TextDecoder().decode(chunk)
      assert.strictEqual(output, "up\n")
      const [stopped] = await client.stop([agent.id])
      assert.strictEqual(stopped?.state._tag, "stopped")
      await client.close()
      await client.close()
      return [agent.id]
    }))

  guarantee(
    "is rejected with the typed error, and a signal rolls a deployment back before it is rejected",
    (world) =>
      Effect.promise(async () => {
        const client = await openClient({ directory: world.home, caller: World.caller(world) })
        const failure = await client.deploy(request(world, "exit 3")).then(() => undefined, (error: unknown) => error)
        assert.nestedPropertyVal(failure, "_tag", "DeployError")
        assert.nestedPropertyVal(failure, "reason._tag", "AgentExitedEarly")
        const aborting = new AbortController()
        let rolledBack = false
        await client.deploy(request(world, "sleep 1000", { ready: "survive", readyWithin: 60_000 }), {
          signal: aborting.signal,
          onStep: (step) => step === "readiness" ? aborting.abort() : undefined,
          onRolledBack: () => void (rolledBack = true)
        }).then(() => assert.fail("it was deployed"), () => assert.isTrue(rolledBack))
        assert.deepStrictEqual(World.sessions(world), [])
        await client.close()
      })
  )
})
