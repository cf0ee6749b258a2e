/**
 * What stands at the doors of the library: ids as they come from outside, the watch, and the facade of promises.
 */
import { assert, describe } from "@effect/vitest"
import { CurrentCaller, InvalidRequest, Slipway } from "@slipway/core"
import { open as openClient } from "@slipway/core/promise"
import { Deferred, Effect, Fiber, Layer, Result, Stream } from "effect"
import { inspect } from "node:util"
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

describe("an error", () => {
  guarantee("prints its sentence however it is shown, and that of its reason too", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const errors = [
        yield* Effect.flip(slipway.agent("nobody")),
        yield* Effect.flip(slipway.task("none")),
        yield* Effect.flip(slipway.deploy(request(world, "exit 3"))),
        yield* Effect.flip(slipway.stop(["x"], { grace: "1 day", reason: "none" }))
      ]
      for (const error of errors) {
        for (const shown of [inspect(error), inspect({ error }), JSON.stringify(error), String(error), error.stack]) {
          assert.include(String(shown).replaceAll("\\", ""), error.message)
        }
      }
      const [, , failed] = errors
      assert.include(inspect(failed), "_tag: 'AgentExitedEarly'")
    }))
})

describe("a caller that comes with its call", () => {
  const as = (world: World.World, environment: Readonly<Record<string, string>>, cwd?: string) => {
    const caller = World.caller(world)
    return Effect.provideService(CurrentCaller, {
      ...caller,
      environment: { ...caller.environment, ...environment },
      cwd: cwd ?? caller.cwd
    })
  }

  guarantee(
    "is who the agent inherits from, and who may not stop itself: two through one layer are told apart",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script = "echo \"$WHO in $(pwd)\"; exec sleep 1000"
        const { project: _, ...asked } = request(world, script, { ready: "output", readyWithin: "20 seconds" })
        const first = yield* slipway.deploy(asked).pipe(as(world, { WHO: "first" }, world.project))
        const inside = {
          WHO: "second",
          SLIPWAY_HOME_ID: slipway.home.id,
          SLIPWAY_TASK_ID: first.agent.taskId,
          SLIPWAY_AGENT_ID: first.agent.id
        }
        const second = yield* slipway.deploy({ ...asked, type: "child" }).pipe(as(world, inside, "/"))
        const said = (id: string) => Stream.mkString(Stream.decodeText(slipway.output(id)))
        assert.strictEqual(yield* said(first.agent.id), `first in ${world.project}\n`)
        assert.strictEqual(yield* said(second.agent.id), `second in ${world.project}\n`)
        assert.strictEqual(first.agent.parent, null)
        assert.deepInclude(second.agent, { parent: first.agent.id, depth: 2, taskId: first.agent.taskId })

        const elsewhere = { ...inside, SLIPWAY_HOME_ID: "another" }
        const stranger = yield* slipway.deploy({ ...asked, type: "stranger" }).pipe(as(world, elsewhere, world.project))
        assert.strictEqual(stranger.agent.parent, null)

        const refused = yield* Effect.flip(slipway.stop([first.agent.id]).pipe(as(world, inside)))
        assert.strictEqual(refused._tag, "SelfStopRefused")
        const stopped = yield* slipway.stop([first.agent.id])
        assert.sameMembers(stopped.map(({ id }) => id), [first.agent.id, second.agent.id])
        yield* slipway.stop([stranger.agent.id])
        return [first.agent.id, second.agent.id, stranger.agent.id]
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
