import { assert, describe } from "@effect/vitest"
import type { Deployment, Slipway } from "@slipway/core"
import { Deferred, Duration, Effect, Exit, Fiber, Result } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { eventually } from "./processes.ts"
import { agreed, finished, guarantee, lasting, numberIn, open, reasonOf, request, written } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

/** A window that no test waits for: what is decided early is far from its end. */
const window = Duration.seconds(30)
const patient = { readyWithin: Duration.toMillis(window) } as const

const wellBefore = (took: Duration.Duration) => assert.isBelow(Duration.toMillis(took), Duration.toMillis(window) / 3)

const stopAll = (slipway: Slipway["Service"], deployments: ReadonlyArray<Deployment>) => {
  const ids = [...new Set(deployments.map(({ agent }) => agent.id))]
  return Effect.as(finished(slipway, ids), ids)
}

describe("readiness", () => {
  guarantee(
    "survive: an agent that lives through the window is up, with all that was planned in place",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const [took, { agent, reused }] = yield* Effect.timed(
          slipway.deploy(request(world, "exec sleep 1000", { ready: "survive", readyWithin: 400 }))
        )
        assert.isAtLeast(Duration.toMillis(took), 400)
        assert.isFalse(reused)
        assert.strictEqual(agent.state._tag, "running")
        assert.deepStrictEqual(World.sessions(world), [agent.plan.session])
        assert.deepStrictEqual(yield* agreed(slipway, agent.id), agent)
        const statuses = (yield* slipway.events(agent.id)).map(({ status }) => status)
        assert.deepStrictEqual(statuses, ["deploying", "running"])
        yield* finished(slipway, [agent.id])
        return [agent.id]
      })
  )

  guarantee("output: an agent is up as soon as it has written something", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const [took, { agent }] = yield* Effect.timed(slipway.deploy(lasting(world, patient)))
      wellBefore(took)
      assert.strictEqual(agent.state._tag, "running")
      yield* finished(slipway, [agent.id])
      return [agent.id]
    }))

  guarantee(
    "output: an agent that never writes is rolled back with what it said on standard error",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const error = yield* Effect.flip(
          slipway.deploy(
            request(world, "echo still thinking >&2; exec sleep 1000", { ready: "output", readyWithin: 600 })
          )
        )
        const reason = reasonOf(error, "NoFirstOutput")
        assert.strictEqual(reason.withinMillis, 600)
        assert.include(error.message, "still thinking")
        assert.isTrue(error.isClean)
      })
  )

  guarantee("none: nothing is waited for", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const [took, { agent }] = yield* Effect.timed(
        slipway.deploy(request(world, "exec sleep 1000", { ready: "none", ...patient }))
      )
      wellBefore(took)
      assert.strictEqual(agent.state._tag, "running")
      yield* finished(slipway, [agent.id])
      return [agent.id]
    }))

  for (const ready of ["survive", "output"] as const) {
    guarantee(
      `${ready}: an agent that is through with code 0 within the window has committed and has succeeded`,
      (world) =>
        Effect.gen(function*() {
          const slipway = yield* open(world)
          const [took, { agent }] = yield* Effect.timed(
            slipway.deploy(request(world, "cat", { ready, prompt: "all done", ...patient }))
          )
          wellBefore(took)
          const settled = yield* slipway.wait(agent.id)
          assert.deepStrictEqual({ ...settled.state }, { _tag: "exited", code: 0, signal: null, outcome: "success" })
          assert.strictEqual(Fs.readFileSync(Path.join(agent.plan.directory, "stdout.log"), "utf8"), "all done")
          yield* agreed(slipway, agent.id)
          return [agent.id]
        })
    )

    guarantee(
      `${ready}: an agent that fails does so at once, with code and standard error`,
      (world) =>
        Effect.gen(function*() {
          const slipway = yield* open(world)
          const [took, error] = yield* Effect.timed(
            Effect.flip(slipway.deploy(request(world, "sleep 0.2; echo bad key >&2; exit 9", { ready, ...patient })))
          )
          wellBefore(took)
          assert.deepInclude(reasonOf(error, "AgentExitedEarly"), {
            code: 9,
            signal: null,
            stderrTail: "bad key\n",
            lastMessage: null
          })
          assert.strictEqual(error.step, "readiness")
          assert.isTrue(error.isClean)
        })
    )

    guarantee(
      `${ready}: an agent that a signal ends fails at once, with the signal`,
      (world) =>
        Effect.gen(function*() {
          const slipway = yield* open(world)
          const [took, error] = yield* Effect.timed(
            Effect.flip(slipway.deploy(request(world, "kill -9 $$", { ready, ...patient })))
          )
          wellBefore(took)
          const reason = reasonOf(error, "AgentExitedEarly")
          assert.deepStrictEqual([reason.code, reason.signal], [137, "SIGKILL"])
        })
    )
  }

  guarantee(
    "an agent whose launcher is killed fails at once, and what is left of it is ended",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const deploying = yield* Effect.forkChild(
          Effect.timed(Effect.flip(slipway.deploy(request(world, "echo $PPID > launcher; exec sleep 1000", patient))))
        )
        process.kill(yield* numberIn(Path.join(world.project, "launcher")), "SIGKILL")
        const [took, error] = yield* Fiber.join(deploying)
        wellBefore(took)
        reasonOf(error, "AgentVanished")
        assert.isTrue(error.isClean)
      })
  )

  guarantee(
    "an interruption during the wait is answered at once and leaves nothing",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const deploying = yield* Effect.forkChild(
          slipway.deploy(request(world, "trap '' HUP; sleep 1000 & echo up > up; wait", patient))
        )
        yield* written(Path.join(world.project, "up"))
        const [took] = yield* Effect.timed(Fiber.interrupt(deploying))
        wellBefore(took)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(deploying)))
        assert.deepStrictEqual(World.rows(world).map(({ status }) => status), ["rolled-back"])
      })
  )
})

describe("an idempotency key", () => {
  guarantee("returns the first agent, in whatever state it is, and makes nothing", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const first = yield* slipway.deploy(lasting(world, { key: "once" }))
      const second = yield* slipway.deploy(lasting(world, { key: "once" }))
      assert.deepStrictEqual([first.reused, second.reused], [false, true])
      assert.strictEqual(second.agent.id, first.agent.id)
      yield* finished(slipway, [first.agent.id])
      const third = yield* slipway.deploy(lasting(world, { key: "once" }))
      assert.isTrue(third.reused)
      assert.strictEqual(third.agent.state._tag, "stopped")
      assert.lengthOf(World.rows(world), 1)
      return [first.agent.id]
    }))

  guarantee(
    "is shared by callers in flight, in this process and in others: one agent, and all are told of it",
    (world) =>
      Effect.gen(function*() {
        const layers = [yield* open(world), yield* open(world), yield* open(world)]
        const wanted = request(world, "exec sleep 1000", { key: "shared", readyWithin: 700 })
        const deployments = yield* Effect.forEach([...layers, ...layers], (slipway) => slipway.deploy(wanted), {
          concurrency: "unbounded"
        })
        assert.lengthOf(new Set(deployments.map(({ agent }) => agent.id)), 1)
        assert.lengthOf(deployments.filter(({ reused }) => !reused), 1)
        for (const { agent } of deployments) assert.strictEqual(agent.state._tag, "running")
        assert.lengthOf(World.sessions(world), 1)
        return yield* stopAll(yield* open(world), deployments)
      })
  )

  guarantee("shares the failure too, and is free again after the rollback", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const go = Path.join(world.project, "go")
      const wanted = request(world, `echo up > up; until [ -e go ]; do sleep 0.02; done; exec $(cat go)`, {
        key: "shared",
        ...patient
      })
      const first = yield* Effect.forkChild(Effect.flip(slipway.deploy(wanted)))
      yield* written(Path.join(world.project, "up"))
      const second = yield* Effect.forkChild(Effect.flip(slipway.deploy(wanted, { onStep: () => Effect.void })))
      const admitted = yield* Deferred.make<void>()
      const third = yield* Effect.forkChild(Effect.flip(slipway.deploy(wanted, {
        onStep: (step) => step === "admission" ? Deferred.succeed(admitted, undefined) : Effect.void
      })))
      yield* Deferred.await(admitted)
      Fs.writeFileSync(go, "false")
      const failed = yield* Fiber.join(first)
      reasonOf(failed, "AgentExitedEarly")
      for (const fiber of [second, third]) {
        const error = yield* Fiber.join(fiber)
        assert.deepStrictEqual(reasonOf(error, "SharedDeploymentFailed").agentId, failed.agentId)
      }
      assert.deepStrictEqual(World.leftovers(world), [])
      Fs.writeFileSync(go, "true")
      const again = yield* slipway.deploy(wanted)
      assert.isFalse(again.reused)
      assert.notStrictEqual(again.agent.id, failed.agentId)
      yield* slipway.wait(again.agent.id)
      return [again.agent.id]
    }))

  guarantee("is refused for another request", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(lasting(world, { key: "once" }))
      const error = yield* Effect.flip(slipway.deploy(lasting(world, { key: "once", prompt: "other work" })))
      assert.strictEqual(error.step, "admission")
      assert.deepInclude(reasonOf(error, "KeyConflict"), {
        key: "once",
        existing: agent.id
      })
      yield* finished(slipway, [agent.id])
      return [agent.id]
    }))
})

describe("slots", () => {
  guarantee(
    "of agents that ended on their own are free for the next one without anybody's help",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const task = yield* slipway.createTask({ description: "five", project: world.project, maxConcurrent: 5 })
        const five = yield* Effect.forEach(
          ["a", "b", "c", "d", "e"],
          (type) =>
            slipway.deploy(request(world, `echo up; until [ -e go ]; do sleep 0.02; done; echo ${type} >> ended`, {
              task: task.id,
              type,
              ready: "output",
              readyWithin: 20_000
            })),
          { concurrency: "unbounded" }
        )
        const refused = yield* Effect.flip(slipway.deploy(lasting(world, { task: task.id, type: "f" })))
        reasonOf(refused, "TooManyActive")
        Fs.writeFileSync(path(world, "go"), "")
        yield* eventually(() => five.every(({ agent }) => Fs.existsSync(Path.join(agent.plan.directory, "exit.0"))))
        assert.isTrue(
          World.rows(world).every(({ status }) => status === "running" || status === "rolled-back"),
          "nobody looked"
        )
        const sixth = yield* slipway.deploy(lasting(world, { task: task.id, type: "f" }))
        yield* finished(slipway, [sixth.agent.id])
        return [...five, sixth].map(({ agent }) => agent.id)
      })
  )

  guarantee(
    "and types are free for the next one when the first has ended on its own",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const first = yield* slipway.deploy(request(world, "exec sleep 0.3", { ready: "none" }))
        yield* eventually(() => Fs.existsSync(Path.join(first.agent.plan.directory, "exit.0")))
        const second = yield* slipway.deploy(lasting(world))
        yield* finished(slipway, [second.agent.id])
        return [first.agent.id, second.agent.id]
      })
  )
})

describe("tmux's server", () => {
  guarantee(
    "loses no deployment that meets the end of its last agent, in a hundred tries",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const task = yield* slipway.createTask({
          description: "many",
          project: world.project,
          maxAgents: 1000,
          maxConcurrent: 1000
        })
        const results = yield* Effect.forEach(
          Array.from({ length: 100 }, (_, index) => `w${index}`),
          (type) => Effect.result(slipway.deploy(request(world, "exit 0", { task: task.id, type, ready: "none" }))),
          { concurrency: 2 }
        )
        assert.deepStrictEqual(results.filter(Result.isFailure).map(({ failure }) => failure.message), [])
        const ids = results.filter(Result.isSuccess).map(({ success }) => success.agent.id)
        const ended = yield* Effect.forEach(ids, slipway.wait, { concurrency: 8 })
        assert.deepStrictEqual(new Set(ended.map(({ state }) => state._tag === "exited" && state.code)), new Set([0]))
        assert.lengthOf(new Set(ended.map(({ running }) => running?.serverPid)), 1, "one server served them all")
        return ids
      }),
    60_000
  )
})

const path = (world: World.World, name: string) => Path.join(world.project, name)
