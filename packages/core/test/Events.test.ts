import { afterAll, assert, describe, it } from "@effect/vitest"
import { Context, type Duration, Effect, Fiber, Layer, Result, Stream } from "effect"
import type { Agent } from "../src/agent/Agent.ts"
import { Events, type FollowOptions } from "../src/home/Events.ts"
import { Home } from "../src/home/Home.ts"
import * as Files from "../src/machine/Files.ts"
import { Host } from "../src/machine/Host.ts"
import { EventLog, type HomeEvent } from "../src/registry/EventLog.ts"
import { RegistryUnavailable } from "../src/registry/RegistryError.ts"
import * as SqliteRegistry from "../src/registry/sqlite/SqliteRegistry.ts"
import { atOnce, runModule } from "./children.ts"
import { eventually, watched } from "./processes.ts"
import { makeAgent, makeTask, moment, scratch } from "./rows.ts"
import { type Whole, wholeOf } from "./support/Registry.ts"
import { finished, guarantee, lasting, open } from "./support/Scenario.ts"

const directories = scratch("events")
afterAll(() => assert.deepStrictEqual(directories.left(), []))

const roomy = { allowDuplicate: true, homeLimit: Effect.succeed({ maxActive: 10_000, ofCaller: false }) }

interface Around {
  /** Called with each read of events. */
  readonly onRead?: () => Effect.Effect<void, RegistryUnavailable>
  /** Whether file events come; without them there is the poll alone. */
  readonly watches?: boolean
  readonly polls?: Duration.Input
}

/** A home with its registry, as one process has them open. */
const openHome = (directory: string, { onRead, polls = "1 second", watches = true }: Around = {}) => {
  const files = watches ? Files.layer : Layer.effect(
    Files.Files,
    Effect.map(Files.Files, (service) => ({ ...service, watch: () => service.watch("/nowhere") }))
  ).pipe(Layer.provide(Files.layer))
  const home = Home.layer({ directory }).pipe(Layer.provide([files, Host.layer]))
  const registry = Layer.unwrap(Effect.map(Home, (home) => SqliteRegistry.layer({ path: home.registry })))
  const watched = Layer.effect(
    EventLog,
    Effect.map(EventLog, (service) =>
      EventLog.of({
        ...service,
        eventsAfter: (cursor, limit) => Effect.andThen(onRead?.() ?? Effect.void, service.eventsAfter(cursor, limit))
      }))
  ).pipe(Layer.provideMerge(registry))
  const layer = Layer.fresh(
    Events.layerEvery(polls).pipe(Layer.provideMerge(watched), Layer.provideMerge(home), Layer.provide(files))
  )
  return Effect.map(Layer.build(layer), (context) => ({
    follow: Context.get(context, Events).follow,
    registry: wholeOf(context),
    path: Context.get(context, Home).registry
  }))
}

const admit = Effect.fnUntraced(function*(registry: Whole, count: number) {
  const task = yield* registry.defaultTask(makeTask({ limits: { maxAgents: 10_000, maxConcurrent: 10_000 } }))
  const agents = Array.from({ length: count }, () => makeAgent(task.id))
  for (const agent of agents) yield* registry.admit(agent, roomy)
  return agents
})

const exited = (agent: Agent) =>
  Result.succeed<Agent>({ ...agent, state: { _tag: "exited", code: 0, signal: null, outcome: "success" } })

const end = (registry: Whole, agent: Agent) =>
  registry.transition(agent.id, exited, { at: moment(1), detail: "it ended" })

/** Gathers events in the background for as long as the test. */
const gather = Effect.fnUntraced(function*(follow: Events["Service"]["follow"], options?: FollowOptions) {
  const events: Array<HomeEvent> = []
  const fiber = yield* Effect.forkScoped(
    Stream.runForEach(follow(options), (event) => Effect.sync(() => void events.push(event))),
    { startImmediately: true }
  )
  return { events, fiber }
})

const ids = (events: ReadonlyArray<HomeEvent>) => events.map(({ agentId }) => agentId)

describe("following a home", () => {
  it.live("tells two subscribers every transition, in one order, from the first on record", () =>
    Effect.gen(function*() {
      const { follow, registry } = yield* openHome(yield* directories.make)
      const early = yield* admit(registry, 2)
      const [one, two] = [yield* gather(follow), yield* gather(follow)]
      const late = yield* admit(registry, 2)
      for (const agent of [...early, ...late]) yield* end(registry, agent)
      yield* eventually(() => one.events.length >= 8 && two.events.length >= 8)
      assert.deepStrictEqual(one.events, two.events)
      assert.deepStrictEqual(
        ids(one.events),
        [...early, ...late, ...early, ...late].map(({ id }) => id)
      )
      assert.deepStrictEqual(one.events.map(({ from, to }) => `${from} ${to}`).slice(3, 5), [
        "null deploying",
        "deploying exited"
      ])
      const cursors = one.events.map(({ cursor }) => cursor)
      assert.deepStrictEqual(cursors, [...new Set(cursors)].toSorted((a, b) => a - b))
    }))

  it.live("from the latest on tells only what comes then", () =>
    Effect.gen(function*() {
      const { follow, registry } = yield* openHome(yield* directories.make)
      yield* admit(registry, 3)
      const { events } = yield* gather(follow, { after: "latest" })
      const [next] = yield* admit(registry, 1)
      yield* eventually(() => events.length > 0)
      assert.strictEqual(ids(events).join(), next?.id)
    }))

  it.live("tells what other processes do, in the order of their commits, without waiting for the poll", () =>
    Effect.gen(function*() {
      const { follow, path } = yield* openHome(yield* directories.make, { polls: "1 hour" })
      const { events } = yield* gather(follow)
      const child = yield* runModule("eventsAtOnce.ts", [path, "1", "9"])
      yield* child.says("ready")
      child.tell("go")
      const said = yield* child.says("admitted ")
      yield* eventually(() => events.length === 1)
      assert.deepStrictEqual(ids(events), [said.split(" ")[1]])
      yield* atOnce(4, "eventsAtOnce.ts", [path, "25"])
      yield* eventually(() => events.length >= 101)
      assert.strictEqual(new Set(ids(events)).size, 101)
      for (const child of ["0", "1", "2", "3"]) {
        const own = ids(events).filter((id) => id.includes(`-${child.padStart(2, "f")}`))
        assert.deepStrictEqual(own, own.toSorted(), "what one process does keeps its order")
        assert.lengthOf(own, 25)
      }
    }))

  it.live("goes on behind a cursor after a restart, without a gap and without a repeat", () =>
    Effect.gen(function*() {
      const directory = yield* directories.make
      const first = yield* Effect.scoped(Effect.gen(function*() {
        const { follow, registry } = yield* openHome(directory)
        yield* admit(registry, 5)
        // The subscriber ends in the middle of a batch, and what it had not dealt with is not lost.
        return yield* follow().pipe(Stream.take(3), Stream.runCollect)
      }))
      const { follow, registry } = yield* openHome(directory)
      yield* admit(registry, 2)
      const after = first.at(-1)?.cursor
      const rest = yield* follow(after === undefined ? {} : { after }).pipe(Stream.take(4), Stream.runCollect)
      const all = yield* registry.eventsAfter(0, 100)
      assert.deepStrictEqual([...first, ...rest], all)
    }))

  it.live("tells five hundred events that come at once in their order, to one who is slow too", () =>
    Effect.gen(function*() {
      const { follow, registry } = yield* openHome(yield* directories.make)
      const { events } = yield* gather(follow)
      const slow: Array<HomeEvent> = []
      yield* Effect.forkScoped(
        Stream.runForEach(follow(), (event) =>
          Effect.andThen(
            Effect.sync(() => void slow.push(event)),
            slow.length % 100 === 0 ? Effect.sleep(30) : Effect.void
          ))
      )
      const agents = yield* admit(registry, 500)
      yield* eventually(() => events.length >= 500 && slow.length >= 500)
      assert.deepStrictEqual(ids(events), agents.map(({ id }) => id))
      assert.deepStrictEqual(slow, events)
    }))

  it.live("goes on while agents are forgotten, whose events are told once or not at all", () =>
    Effect.gen(function*() {
      const { follow, registry } = yield* openHome(yield* directories.make)
      const gone = yield* admit(registry, 300)
      for (const agent of gone) yield* end(registry, agent)
      const seen: Array<HomeEvent> = []
      const stay = yield* admit(registry, 1)
      const fiber = yield* Effect.forkScoped(Stream.runForEach(follow(), (event) =>
        Effect.gen(function*() {
          seen.push(event)
          // Behind what the first batch has read.
          if (seen.length === 10) yield* registry.forget(gone.map(({ id }) => id))
        })))
      yield* eventually(() => seen.some(({ agentId }) => agentId === stay[0]?.id))
      const last = yield* admit(registry, 1)
      yield* eventually(() => seen.at(-1)?.agentId === last[0]?.id)
      const cursors = seen.map(({ cursor }) => cursor)
      assert.deepStrictEqual(cursors, [...new Set(cursors)].toSorted((a, b) => a - b))
      assert.isBelow(seen.length, 302, "what was forgotten is not told")
      assert.isUndefined(fiber.pollUnsafe())
    }))

  it.live("costs one short read a second while nothing happens", () =>
    Effect.gen(function*() {
      let reads = 0
      const { follow, registry } = yield* openHome(yield* directories.make, {
        onRead: () => Effect.sync(() => void reads++)
      })
      yield* admit(registry, 3)
      const { events } = yield* gather(follow)
      yield* eventually(() => events.length === 3)
      // A watch that rests tells once more.
      yield* Effect.sleep("200 millis")
      const [before, cpu] = [reads, process.cpuUsage()]
      yield* Effect.sleep("3 seconds")
      const { system, user } = process.cpuUsage(cpu)
      assert.isAtLeast(reads - before, 1, "it looks for what no file event told")
      assert.isAtMost(reads - before, 4)
      assert.isBelow((system + user) / 1e6, 0.3, "of three seconds")
    }))

  it.live("finds by its poll what no file event told", () =>
    Effect.gen(function*() {
      const { follow, registry } = yield* openHome(yield* directories.make, { watches: false })
      const { events } = yield* gather(follow)
      yield* admit(registry, 1)
      yield* eventually(() => events.length === 1)
    }))

  it.live("goes on with a registry that was made anew, whose events stand behind all earlier cursors", () =>
    Effect.gen(function*() {
      const first = yield* openHome(yield* directories.make)
      yield* admit(first.registry, 300)
      const after = (yield* first.follow().pipe(Stream.take(300), Stream.runCollect)).at(-1)?.cursor
      const second = yield* openHome(yield* directories.make)
      const [agent] = yield* admit(second.registry, 1)
      const [told] = yield* second.follow({ after }).pipe(Stream.take(1), Stream.runCollect)
      assert.strictEqual(told?.agentId, agent?.id)
    }))

  it.live("ends with its scope, and leaves no watch", () =>
    Effect.gen(function*() {
      const { follow, registry } = yield* openHome(yield* directories.make)
      yield* admit(registry, 1)
      const before = watched()
      const { events, fiber } = yield* gather(follow)
      yield* eventually(() => events.length === 1)
      // A watch rests for a moment after each event.
      yield* eventually(() => watched() === before + 1)
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(watched(), before)
      yield* follow().pipe(Stream.take(1), Stream.runDrain)
      assert.strictEqual(watched(), before)
    }))

  it.live("ends with the registry's error when it can't be read, and goes on from the cursor later", () =>
    Effect.gen(function*() {
      let broken = false
      const { follow, registry } = yield* openHome(yield* directories.make, {
        onRead: () =>
          Effect.suspend(() =>
            broken
              ? Effect.fail(
                new RegistryUnavailable({ operation: "read the events", because: "other", reason: "injected" })
              )
              : Effect.void
          )
      })
      yield* admit(registry, 1)
      const { events, fiber } = yield* gather(follow)
      yield* eventually(() => events.length === 1)
      broken = true
      assert.instanceOf(yield* Effect.flip(Fiber.join(fiber)), RegistryUnavailable)
      broken = false
      const [next] = yield* admit(registry, 1)
      const [told] = yield* follow({ after: events[0]?.cursor }).pipe(Stream.take(1), Stream.runCollect)
      assert.strictEqual(told?.agentId, next?.id)
    }))
})

describe("an orchestrator that follows", () => {
  guarantee("sees a deployment and its end, with what the end released", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const other = yield* open(world)
      const { events } = yield* gather(slipway.follow)
      const { agent } = yield* other.deploy(lasting(world))
      yield* finished(other, [agent.id])
      yield* eventually(() => events.at(-1)?.to === "stopped")
      assert.deepStrictEqual(events.map(({ from, to }) => [from, to]), [
        [null, "deploying"],
        ["deploying", "running"],
        ["running", "ending"],
        ["ending", "stopped"]
      ])
      const [begun, , , ended] = events
      assert.deepInclude(begun, { agentId: agent.id, taskId: agent.taskId, cleanup: null })
      const released = ended?.cleanup?.releases.map(({ outcome, resource }) => [resource, outcome._tag])
      assert.deepStrictEqual(released, [["tmux_session", "Released"]])
      assert.deepInclude(ended?.cleanup, { survivors: [], escalated: false })
      assert.isAbove(ended?.cleanup?.millis ?? 0, 0)
      return [agent.id]
    }))
})
