import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Logger } from "effect"
import * as Contention from "./support/Contention.ts"
import { guarantee, lasting, openAround } from "./support/Scenario.ts"

it.live(
  "six processes that deploy, stop and reap at random, and are killed at random, break no promise",
  () =>
    Effect.gen(function*() {
      const report = yield* Contention.run({ seconds: 4, processes: 6, seed: 1 })
      assert.deepStrictEqual(report.violations, [], JSON.stringify([...report.stories], null, 2))
      assert.isAbove(report.kills, 0)
      assert.isAbove(report.samples, 0)
      const commits = [...report.operations].filter(([name]) => name.endsWith("/committed"))
      assert.isNotEmpty(commits, JSON.stringify([...report.operations]))
    }).pipe(Effect.provide(Logger.layer([]))),
  240_000
)

guarantee(
  "an interruption that comes while a commit waits for the registry rolls nothing back that has committed",
  (world) =>
    Effect.gen(function*() {
      const reached = yield* Deferred.make<void>()
      const free = yield* Deferred.make<void>()
      const told: Array<string> = []
      const slipway = yield* openAround(world, {
        ledger: (service) => ({
          ...service,
          transition: (id, f, event) =>
            event.detail === "committed"
              ? Deferred.succeed(reached, undefined).pipe(
                Effect.andThen(Deferred.await(free)),
                Effect.andThen(service.transition(id, f, event))
              )
              : service.transition(id, f, event)
        })
      })
      const deploying = yield* Effect.forkChild(slipway.deploy(lasting(world), {
        onCommitted: ({ agent }) => Effect.sync(() => void told.push(`committed ${agent.id}`)),
        onRolledBack: (_, id) => Effect.sync(() => void told.push(`rolled back ${id}`))
      }))
      yield* Deferred.await(reached)
      deploying.interruptUnsafe()
      yield* Deferred.succeed(free, undefined)
      yield* Fiber.await(deploying)
      const [agent] = yield* slipway.agents()
      if (agent === undefined) return assert.fail("no row")
      const statuses = (yield* slipway.events(agent.id)).map(({ status }) => status)
      const hasCommitted = statuses.includes("running")
      assert.deepStrictEqual(told, [`${hasCommitted ? "committed" : "rolled back"} ${agent.id}`], statuses.join(", "))
      assert.strictEqual(agent.state._tag, hasCommitted ? "running" : "rolled-back")
      yield* slipway.stop([agent.id])
      return hasCommitted ? [agent.id] : []
    })
)
