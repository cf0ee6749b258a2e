import { assert, describe } from "@effect/vitest"
import { AgentNotFound, RegistryUnavailable, type Slipway } from "@slipway/core"
import { DateTime, Effect, Fiber } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Agent, AgentId } from "../src/agent/Agent.ts"
import { FileError } from "../src/machine/Files.ts"
import { editRow } from "./support/Proof.ts"
import { agreed, guarantee, lasting, open, openAround, request } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const ended = Effect.fnUntraced(function*(world: World.World, slipway: Slipway["Service"], script = "echo done") {
  const { agent } = yield* slipway.deploy(request(world, script, { allowDuplicate: true, ready: "none" }))
  return yield* slipway.wait(agent.id)
})

/** Has an agent ended so long ago. */
const age = (world: World.World, id: AgentId, days: number) =>
  editRow(world, id, (agent) => ({
    ...agent,
    endedAt: agent.endedAt === null ? assert.fail("it has not ended") : DateTime.subtract(agent.endedAt, { days })
  }))

const everything = (world: World.World, agents: ReadonlyArray<Agent>) => ({
  rows: World.rows(world),
  entries: agents.map(({ plan }) => Fs.readFileSync(plan.entry, "utf8")),
  files: agents.map(({ plan }) => Fs.readdirSync(plan.directory))
})

const isForgotten = Effect.fnUntraced(function*(world: World.World, slipway: Slipway["Service"], agent: Agent) {
  assert.isFalse(Fs.existsSync(agent.plan.directory))
  assert.isFalse(Fs.existsSync(agent.plan.entry))
  assert.notInclude(World.rows(world).map(({ id }) => id), agent.id)
  assert.instanceOf(yield* Effect.flip(slipway.agent(agent.id)), AgentNotFound)
  assert.instanceOf(yield* Effect.flip(slipway.events(agent.id)), AgentNotFound)
})

const all = { olderThan: "1 hour" } as const

describe("prune", () => {
  guarantee(
    "forgets what ended longer ago than was asked for, with files, entry, row and events, and nothing else",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const [old, older, young] = [
          yield* ended(world, slipway, "echo four"),
          yield* ended(world, slipway, "exit 3"),
          yield* ended(world, slipway)
        ]
        age(world, old.id, 3)
        age(world, older.id, 9)
        const active = (yield* slipway.deploy(lasting(world))).agent
        const byDefault = yield* slipway.prune()
        assert.deepStrictEqual(byDefault.map(({ agentId, problems }) => ({ agentId, problems })), [
          { agentId: older.id, problems: [] }
        ])
        yield* isForgotten(world, slipway, older)
        const [pruned, ...more] = yield* slipway.prune({ olderThan: "2 days" })
        assert.deepStrictEqual(more, [])
        assert.strictEqual(pruned?.agentId, old.id)
        assert.isAtLeast(pruned?.bytes ?? 0, "four\n".length)
        yield* isForgotten(world, slipway, old)
        assert.deepStrictEqual(yield* slipway.prune({ olderThan: "2 days" }), [])
        assert.strictEqual((yield* agreed(slipway, young.id)).state._tag, "exited")
        assert.strictEqual((yield* agreed(slipway, active.id)).state._tag, "running")
        yield* slipway.stop([active.id])
        return [young.id, active.id]
      })
  )

  guarantee("asked for a dry run, says the same and changes nothing", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const agents = [yield* ended(world, slipway), yield* ended(world, slipway, "echo more")]
      for (const { id } of agents) age(world, id, 1)
      const before = everything(world, agents)
      const planned = yield* slipway.prune({ ...all, dryRun: true })
      assert.deepStrictEqual(everything(world, agents), before)
      assert.deepStrictEqual(yield* slipway.prune(all), planned)
      for (const agent of agents) yield* isForgotten(world, slipway, agent)
    }))

  guarantee(
    "never touches an agent that is not over, not even one whose end is on record and could not be finished",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        const blind = yield* openAround(world, {
          processes: (service) => ({
            ...service,
            terminate: () => Effect.succeed({ _tag: "Unknown" as const, reason: "a test" })
          })
        })
        const [left] = yield* blind.stop([agent.id])
        assert.nestedPropertyVal(left, "state._tag", "ending")
        assert.isNotNull(left?.endedAt)
        age(world, agent.id, 99)
        assert.deepStrictEqual(yield* slipway.prune(all), [])
        assert.strictEqual((yield* agreed(slipway, agent.id)).state._tag, "stopped")
        return [agent.id]
      })
  )

  guarantee("forgets what was rolled back too", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      yield* Effect.flip(slipway.deploy(request(world, "exit 9")))
      const [row] = yield* slipway.agents()
      if (row === undefined) return assert.fail("no row")
      age(world, row.id, 8)
      assert.lengthOf(yield* slipway.prune(), 1)
      yield* isForgotten(world, slipway, row)
    }))

  guarantee(
    "keeps and names an agent whose directory or entry does not bear our mark, and leaves these as they are",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const [unmarked, replaced, fine] = [
          yield* ended(world, slipway),
          yield* ended(world, slipway),
          yield* ended(world, slipway)
        ]
        for (const { id } of [unmarked, replaced, fine]) age(world, id, 8)
        const owner = Fs.readdirSync(unmarked.plan.directory).find((name) => name.startsWith("owner."))
        Fs.unlinkSync(Path.join(unmarked.plan.directory, owner ?? assert.fail("no owner")))
        Fs.writeFileSync(replaced.plan.entry, "somebody's own")
        const pruned = yield* slipway.prune()
        const problems = new Map(pruned.map(({ agentId, problems }) => [agentId, problems.join()]))
        assert.include(problems.get(unmarked.id), unmarked.plan.directory)
        assert.include(problems.get(replaced.id), replaced.plan.entry)
        assert.strictEqual(problems.get(fine.id), "")
        assert.isTrue(Fs.existsSync(Path.join(unmarked.plan.directory, "stdout.log")))
        assert.strictEqual(Fs.readFileSync(replaced.plan.entry, "utf8"), "somebody's own")
        assert.sameMembers(
          World.rows(world).map(({ id }) => id),
          [unmarked.id, replaced.id],
          "they are still on record"
        )
        Fs.rmSync(unmarked.plan.directory, { recursive: true })
        Fs.rmSync(replaced.plan.entry)
        yield* slipway.prune()
        for (const agent of [unmarked, replaced, fine]) yield* isForgotten(world, slipway, agent)
      })
  )

  const cuts = {
    "before the row": (world: World.World) =>
      openAround(world, { ledger: (service) => ({ ...service, forget: () => Effect.never }) }),
    "among the files": (world: World.World) =>
      openAround(world, {
        files: (service) => ({
          ...service,
          removeTree: (path) => path.endsWith("stdout.log") ? Effect.never : service.removeTree(path)
        })
      })
  }
  for (const [where, cut] of Object.entries(cuts)) {
    guarantee(`that is cut off ${where} is finished by the next`, (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const agents = [yield* ended(world, slipway), yield* ended(world, slipway)]
        for (const { id } of agents) age(world, id, 8)
        const pruning = yield* Effect.forkChild((yield* cut(world)).prune(), { startImmediately: true })
        while (World.entries(world).length === 2) yield* Effect.sleep("2 millis")
        yield* Fiber.interrupt(pruning)
        assert.lengthOf(World.rows(world), 2)
        assert.strictEqual((yield* slipway.agents()).length, 2)
        const pruned = yield* slipway.prune()
        assert.sameMembers(pruned.map(({ agentId }) => agentId), agents.map(({ id }) => id))
        for (const agent of agents) yield* isForgotten(world, slipway, agent)
      }))
  }

  guarantee(
    "keeps the row, and says why, where files can't be removed; and does not stop at it",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const [stuck, other] = [yield* ended(world, slipway), yield* ended(world, slipway)]
        for (const { id } of [stuck, other]) age(world, id, 8)
        const broken = yield* openAround(world, {
          files: (service) => ({
            ...service,
            removeTree: (path) =>
              path.startsWith(stuck.plan.directory)
                ? Effect.fail(new FileError({ operation: "remove", path, code: "EROFS" }))
                : service.removeTree(path)
          })
        })
        const pruned = yield* broken.prune()
        assert.include(pruned.find(({ agentId }) => agentId === stuck.id)?.problems.join(), "read-only")
        assert.deepStrictEqual(World.rows(world).map(({ id }) => id), [stuck.id])
        yield* isForgotten(world, slipway, other)
        yield* slipway.prune()
        yield* isForgotten(world, slipway, stuck)
      })
  )

  guarantee(
    "fails typed when the registry can't forget, and has lost nothing that the next can't finish",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const agent = yield* ended(world, slipway)
        age(world, agent.id, 8)
        const refused = new RegistryUnavailable({ operation: "forget agents", because: "other", reason: "a test" })
        const broken = yield* openAround(world, {
          ledger: (service) => ({ ...service, forget: () => Effect.fail(refused) })
        })
        assert.strictEqual(yield* Effect.flip(broken.prune()), refused)
        assert.lengthOf(yield* slipway.prune(), 1)
        yield* isForgotten(world, slipway, agent)
      })
  )

  guarantee("asked for by several at once forgets each once, and fails for none", (world) =>
    Effect.gen(function*() {
      const layers = [yield* open(world), yield* open(world), yield* open(world)]
      const [slipway] = layers
      if (slipway === undefined) return assert.fail()
      const agents = [yield* ended(world, slipway), yield* ended(world, slipway), yield* ended(world, slipway)]
      for (const { id } of agents) age(world, id, 8)
      yield* Effect.forEach(layers, (each) => each.prune(), { concurrency: "unbounded" })
      for (const agent of agents) yield* isForgotten(world, slipway, agent)
    }))
})
