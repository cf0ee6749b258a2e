import { assert, describe } from "@effect/vitest"
import { Rebuild, type Slipway } from "@slipway/core"
import { Effect, Fiber, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import type { DeployInput } from "../src/deployment/DeployRequest.ts"
import { Host } from "../src/machine/Host.ts"
import { eventually } from "./processes.ts"
import * as Scenario from "./support/Scenario.ts"
import { guarantee, lasting, reasonOf } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

type World = World.World

/** Slipway as one caller has it, closed again afterwards. */
const as = <A, E>(
  world: World,
  caller: { readonly maxActive?: number; readonly variable?: string },
  use: (slipway: Slipway["Service"]) => Effect.Effect<A, E, Scope.Scope>
) =>
  Effect.scoped(Effect.flatMap(
    Scenario.open(world, {
      maxActive: caller.maxActive,
      caller: World.caller(world, caller.variable === undefined ? {} : { SLIPWAY_MAX_ACTIVE: caller.variable })
    }),
    use
  ))

const another = (world: World, more: Partial<DeployInput> = {}) => lasting(world, { allowDuplicate: true, ...more })

/** Deploys until it is refused, and stops all; answers with how many came up, and with the refusal. */
const fill = Effect.fnUntraced(function*(world: World, slipway: Slipway["Service"], most = 6) {
  const ids: Array<Parameters<typeof slipway.agent>[0]> = []
  const refusal = yield* Effect.flip(Effect.forever(Effect.gen(function*() {
    if (ids.length >= most) return yield* Effect.die(new Error(`${most} came up`))
    ids.push((yield* slipway.deploy(another(world))).agent.id)
  })))
  yield* slipway.stop(ids, { grace: "100 millis" })
  return { ids, refusal }
})

/** What this process puts in the file by which it holds a home. */
const holder = Effect.map(Host, ({ identity, self }) => JSON.stringify({ host: identity, holder: self })).pipe(
  Effect.provide(Host.layer)
)

const homeFile = (world: World) => Path.join(world.home, "home.json")

describe("the limit of a home", () => {
  guarantee(
    "is what the caller asked for that made the home, and holds for all who come after",
    (world) =>
      Effect.gen(function*() {
        yield* as(world, { variable: "2" }, (slipway) => slipway.agents())
        const { ids, refusal } = yield* as(world, {}, (slipway) => fill(world, slipway))
        assert.strictEqual(ids.length, 2)
        const reason = reasonOf(refusal, "HomeFull")
        assert.deepInclude(reason, { maxActive: 2, ofCaller: false })
        assert.include(reason.message, "slipway home set max-active")
        return ids
      })
  )

  guarantee(
    "is 1000 where nobody asked for anything, and the option goes before the variable",
    (world) =>
      Effect.gen(function*() {
        assert.deepStrictEqual(yield* as(world, {}, ({ home }) => home.limits), { maxActive: 1000 })
        Fs.rmSync(world.home, { recursive: true })
        const limits = yield* as(world, { maxActive: 3, variable: "5" }, ({ home }) => home.limits)
        assert.deepStrictEqual(limits, { maxActive: 3 })
      })
  )

  guarantee("can be lowered by a later caller for itself, and never raised", (world) =>
    Effect.gen(function*() {
      yield* as(world, { maxActive: 2 }, (slipway) => slipway.agents())
      const lower = yield* as(world, { variable: "1" }, (slipway) => fill(world, slipway))
      assert.strictEqual(lower.ids.length, 1)
      const reason = reasonOf(lower.refusal, "HomeFull")
      assert.deepInclude(reason, { maxActive: 1, ofCaller: true })
      assert.include(reason.message, "SLIPWAY_MAX_ACTIVE")
      const higher = yield* as(world, { maxActive: 50 }, (slipway) => fill(world, slipway))
      assert.strictEqual(higher.ids.length, 2)
      assert.deepStrictEqual(yield* as(world, {}, ({ home }) => home.limits), { maxActive: 2 })
      return [...lower.ids, ...higher.ids]
    }))

  guarantee(
    "counts for the very next deployment of a caller that is there already, when it is changed",
    (world) =>
      as(world, { maxActive: 1 }, (slipway) =>
        Effect.gen(function*() {
          const first = yield* fill(world, slipway)
          assert.strictEqual(first.ids.length, 1)
          const changed = yield* as(world, {}, (other) => other.setLimits({ maxActive: 3 }))
          assert.deepStrictEqual(changed, { maxActive: 3 })
          // This caller had asked for one.
          assert.strictEqual((yield* fill(world, slipway)).ids.length, 1)
          const [second, third] = yield* as(world, {}, (other) =>
            Effect.gen(function*() {
              const second = yield* fill(world, other)
              yield* slipway.setLimits({ maxActive: 2 })
              return [second, yield* fill(world, other)] as const
            }))
          assert.strictEqual(second.ids.length, 3)
          assert.strictEqual(third.ids.length, 2)
          return (yield* slipway.agents()).filter(({ state }) => state._tag !== "rolled-back").map(({ id }) => id)
        })),
    60_000
  )

  guarantee(
    "is read under the lock of the admission: what is set while others wait for it holds for them",
    (world) =>
      as(world, {}, (slipway) =>
        Effect.gen(function*() {
          const { agent } = yield* slipway.deploy(another(world))
          const database = new DatabaseSync(Path.join(world.home, "registry.db"))
          yield* Effect.addFinalizer(() => Effect.sync(() => database.close()))
          database.exec("BEGIN IMMEDIATE")
          const setting = yield* Effect.forkChild(slipway.setLimits({ maxActive: 1 }))
          // It can't be set while somebody else decides.
          yield* eventually(() => Fs.existsSync(Path.join(world.home, "rebuild.json")))
          assert.deepStrictEqual(yield* slipway.home.limits, { maxActive: 1000 })
          assert.isUndefined(setting.pollUnsafe())
          database.exec("COMMIT")
          yield* Fiber.join(setting)
          const refused = yield* Effect.flip(slipway.deploy(another(world)))
          assert.deepInclude(reasonOf(refused, "HomeFull"), { maxActive: 1, ofCaller: false })
          yield* slipway.stop([agent.id], { grace: "100 millis" })
          return [agent.id]
        }))
  )

  guarantee("stays, whatever becomes of the registry", (world) =>
    Effect.gen(function*() {
      yield* as(world, { maxActive: 7 }, (slipway) =>
        Effect.andThen(slipway.setLimits({ maxActive: 4 }), slipway.agents()))
      Fs.writeFileSync(Path.join(world.home, "registry.db"), "not a registry")
      for (const beside of ["-wal", "-shm"]) {
        Fs.rmSync(Path.join(world.home, `registry.db${beside}`), { force: true })
      }
      yield* Effect.flatMap(Rebuild, ({ run }) =>
        run()).pipe(
          Effect.provide(Rebuild.layer({ directory: world.home, caller: World.caller(world) }))
        )
      assert.deepStrictEqual(
        yield* as(world, {}, ({ home }) =>
          home.limits),
        { maxActive: 4 }
      )
    }))

  guarantee("of a home that 0.1.0 made is 1000, and can be set", (world) =>
    Effect.gen(function*() {
      yield* as(world, { maxActive: 5 }, (slipway) => slipway.agents())
      const { limits: _, ...former } = JSON.parse(Fs.readFileSync(homeFile(world), "utf8"))
      Fs.writeFileSync(homeFile(world), JSON.stringify(former))
      yield* as(world, { variable: "5" }, ({ home, setLimits }) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* home.limits, { maxActive: 1000 })
          assert.deepStrictEqual(yield* home.limit, { maxActive: 5, ofCaller: true })
          assert.deepStrictEqual(yield* setLimits({ maxActive: 6 }), { maxActive: 6 })
        }))
      const { limits, ...rest } = JSON.parse(Fs.readFileSync(homeFile(world), "utf8"))
      assert.deepStrictEqual(rest, former)
      assert.deepStrictEqual(limits, { maxActive: 6 })
    }))

  guarantee("is none that is not a number of agents, and then nothing is made", (world) =>
    Effect.gen(function*() {
      for (const variable of ["0", "-1", "1.5", "many", "1000001", "1e3", " 5"]) {
        const error = yield* Effect.flip(as(world, { variable }, (slipway) => slipway.agents()))
        assert.deepInclude(error, { _tag: "InvalidLimit", name: "SLIPWAY_MAX_ACTIVE", value: variable })
      }
      for (const maxActive of [0, -1, 1.5, Number.NaN, 1_000_001]) {
        const error = yield* Effect.flip(as(world, { maxActive }, (slipway) => slipway.agents()))
        assert.deepInclude(error, { _tag: "InvalidLimit", name: "maxActive" })
      }
      assert.isFalse(Fs.existsSync(world.home))
      yield* as(world, { variable: "" }, ({ setLimits }) =>
        Effect.gen(function*() {
          assert.strictEqual((yield* Effect.flip(setLimits({ maxActive: 0 })))._tag, "InvalidLimit")
          assert.deepStrictEqual(yield* setLimits({}), { maxActive: 1000 })
        }))
    }))

  guarantee(
    "is changed by one after the other, and never undoes what a rebuild recorded",
    (world) =>
      as(world, {}, (slipway) =>
        Effect.gen(function*() {
          const before = JSON.parse(Fs.readFileSync(homeFile(world), "utf8"))
          const wanted = [1, 2, 3, 4, 5, 6, 7, 8]
          const answers = yield* Effect.forEach(
            wanted,
            (maxActive) => as(world, {}, (other) => other.setLimits({ maxActive })),
            { concurrency: "unbounded" }
          )
          assert.strictEqual(answers.length, wanted.length)
          const { limits, ...rest } = JSON.parse(Fs.readFileSync(homeFile(world), "utf8"))
          const { limits: _, ...former } = before
          assert.deepStrictEqual(rest, former)
          assert.include(wanted, limits.maxActive)
          // Whoever rebuilds writes the same file, and holds this while it does.
          Fs.writeFileSync(
            Path.join(world.home, "rebuild.json"),
            yield* holder
          )
          const busy = yield* Effect.flip(slipway.setLimits({ maxActive: 9 }))
          assert.deepInclude(busy, { _tag: "HomeBusy", pid: process.pid })
          Fs.rmSync(Path.join(world.home, "rebuild.json"))
          assert.deepStrictEqual(yield* slipway.home.limits, limits)
        }))
  )
})
