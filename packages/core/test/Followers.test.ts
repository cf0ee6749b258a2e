import { assert, describe } from "@effect/vitest"
import { FileError } from "@slipway/core"
import { Deferred, Duration, Effect, Fiber, Stream } from "effect"
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { AgentId } from "../src/agent/Agent.ts"
import { runModule } from "./children.ts"
import { eventually, watched } from "./processes.ts"
import { isGone, stateOf } from "./support/Proof.ts"
import { agreed, guarantee, only, open, openAround, request, staying, written } from "./support/Scenario.ts"
import type * as World from "./support/World.ts"

const up = { ready: "output", readyWithin: 20_000 } as const

const text = <E>(stream: Stream.Stream<Uint8Array, E>) => Stream.mkString(Stream.decodeText(stream))

const digest = <E>(stream: Stream.Stream<Uint8Array, E>) =>
  Stream.runFold(stream, () => createHash("sha256"), (hash, chunk) => hash.update(chunk)).pipe(
    Effect.map((hash) => hash.digest("hex"))
  )

const go = (world: World.World) => Fs.writeFileSync(Path.join(world.project, "go"), "")

const descriptors = (): number => Fs.readdirSync("/proc/self/fd").length

describe("following", () => {
  guarantee(
    "gives thirty followers at once the same bytes from the first on, and ends with the agent",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script =
          "echo up; until [ -e go ]; do sleep 0.01; done; head -c 300000 /dev/urandom; i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; printf end"
        const { agent } = yield* slipway.deploy(request(world, script, up))
        const followers = yield* Effect.forEach(
          Array.from({ length: 30 }),
          () => Effect.forkChild(digest(slipway.output(agent.id, { follow: true })), { startImmediately: true })
        )
        go(world)
        const digests = yield* Effect.forEach(followers, Fiber.join)
        const log = Fs.readFileSync(Path.join(agent.plan.directory, "stdout.log"))
        assert.isAbove(log.length, 300_000)
        assert.deepStrictEqual([...new Set(digests)], [createHash("sha256").update(log).digest("hex")])
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "exited")
        return [agent.id]
      })
  )

  guarantee(
    "of one agent by many has its end carried out once, and every one of them is told",
    (world) =>
      Effect.gen(function*() {
        let ends = 0
        const slipway = yield* openAround(world, {
          processes: (service) => ({
            ...service,
            terminate: (options) =>
              Effect.suspend(() => {
                ends++
                return service.terminate(options)
              })
          })
        })
        const { agent } = yield* slipway.deploy(
          request(world, "echo up; until [ -e go ]; do sleep 0.01; done; exit 7", up)
        )
        const many = Array.from({ length: 30 })
        const followers = yield* Effect.forEach(
          many,
          () => Effect.forkChild(text(slipway.output(agent.id, { follow: true })), { startImmediately: true })
        )
        const waiters = yield* Effect.forEach(
          many,
          () => Effect.forkChild(slipway.wait(agent.id), { startImmediately: true })
        )
        go(world)
        yield* eventually(() => ends > 0)
        // Among them, most likely, whoever is at it.
        yield* Fiber.interruptAll(waiters.slice(0, 5))
        assert.deepStrictEqual([...new Set(yield* Effect.forEach(followers, Fiber.join))], ["up\n"])
        for (const waiter of waiters.slice(5)) {
          assert.deepStrictEqual((yield* Fiber.join(waiter)).state, {
            _tag: "exited",
            code: 7,
            signal: null,
            outcome: "failure"
          })
        }
        assert.isBelow(ends, 8)
        yield* agreed(slipway, agent.id)
        return [agent.id]
      })
  )

  guarantee("and waiting leave nothing behind when they are interrupted", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(request(world, staying, up))
      const before = { watched: watched(), descriptors: descriptors() }
      const seen = yield* Effect.forEach(Array.from({ length: 10 }), () => Deferred.make<void>())
      const followers = yield* Effect.forEach(seen, (first) =>
        Effect.forkChild(
          Stream.runForEach(slipway.output(agent.id, { follow: true }), () => Deferred.succeed(first, undefined)),
          { startImmediately: true }
        ))
      const waiters = yield* Effect.forEach(seen, () =>
        Effect.forkChild(slipway.wait(agent.id), { startImmediately: true }))
      yield* Effect.forEach(seen, Deferred.await)
      // A watch rests for a moment after each event.
      yield* eventually(() =>
        watched() > before.watched
      )
      yield* Fiber.interruptAll([...followers, ...waiters])
      yield* eventually(() => watched() <= before.watched && descriptors() <= before.descriptors)
      assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "running")
      yield* slipway.stop([agent.id])
      yield* agreed(slipway, agent.id)
      return [agent.id]
    }))

  guarantee("goes on when the agent itself cuts its log, for each follower", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const script =
        `echo before the cut; until [ -e go ]; do sleep 0.01; done; : >"$SLIPWAY_HOME/agents/$SLIPWAY_AGENT_ID/stdout.log"; echo x >cut; until [ -e on ]; do sleep 0.01; done; echo new`
      const { agent } = yield* slipway.deploy(request(world, script, up))
      const seen = ["", "", ""]
      const followers = yield* Effect.forEach(seen, (_, index) =>
        Effect.forkChild(
          Stream.runForEach(
            Stream.decodeText(slipway.output(agent.id, { follow: true })),
            (chunk) => Effect.sync(() => void (seen[index] += chunk))
          ),
          { startImmediately: true }
        ))
      yield* eventually(() => seen.every((each) => each === "before the cut\n"))
      go(world)
      yield* written(Path.join(world.project, "cut"))
      Fs.writeFileSync(Path.join(world.project, "on"), "")
      yield* Effect.forEach(followers, Fiber.join)
      assert.deepStrictEqual(seen, Array.from({ length: 3 }, () => "before the cut\nnew\n"))
      yield* agreed(slipway, agent.id)
      return [agent.id]
    }))

  guarantee("works on an agent of a deployer that was killed", (world) =>
    Effect.gen(function*() {
      const script = "echo up; until [ -e go ]; do sleep 0.01; done; echo down; exit 4"
      const deployer = yield* runModule("support/deployer.ts", [world.root, "deploy", script, "output"])
      const id = AgentId.make((yield* deployer.says("committed ")).split(" ")[1] ?? "")
      const slipway = yield* open(world)
      const following = yield* Effect.forkChild(text(slipway.output(id, { follow: true })), { startImmediately: true })
      const waiting = yield* Effect.forkChild(slipway.wait(id), { startImmediately: true })
      deployer.process.kill("SIGKILL")
      yield* eventually(() => deployer.process.signalCode !== null)
      assert.strictEqual((yield* slipway.agent(id)).state._tag, "running")
      go(world)
      assert.strictEqual(yield* Fiber.join(following), "up\ndown\n")
      const { state } = yield* Fiber.join(waiting)
      assert.deepStrictEqual({ ...state }, { _tag: "exited", code: 4, signal: null, outcome: "failure" })
      yield* agreed(slipway, id)
      return [id]
    }))

  guarantee("ends when the deployment is rolled back meanwhile", (world) =>
    Effect.gen(function*() {
      const [slipway, other] = [yield* open(world), yield* open(world)]
      const deploying = yield* Effect.forkChild(
        slipway.deploy(request(world, staying, { ready: "survive", readyWithin: 60_000 })),
        { startImmediately: true }
      )
      while ((yield* other.agents()).every(({ plan }) => !Fs.existsSync(Path.join(plan.directory, "stdout.log")))) {
        yield* Effect.sleep("5 millis")
      }
      const agent = only(yield* other.agents())
      const first = yield* Deferred.make<void>()
      const following = yield* Effect.forkChild(
        Stream.runForEach(other.output(agent.id, { follow: true }), () => Deferred.succeed(first, undefined)),
        { startImmediately: true }
      )
      yield* Deferred.await(first)
      yield* Fiber.interrupt(deploying)
      yield* Fiber.join(following)
      assert.strictEqual((yield* other.agent(agent.id)).state._tag, "rolled-back")
      // Its files went with it, and its row keeps the end of what it wrote.
      assert.strictEqual(yield* text(other.output(agent.id, { follow: true })), "up\n")
      isGone(world)
    }))

  guarantee("ends when the agent is pruned before the follower has asked for more", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(request(world, staying, up))
      const [first, forgotten] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const following = yield* Effect.forkChild(
        Stream.runForEach(slipway.output(agent.id, { follow: true }), () =>
          Effect.andThen(Deferred.succeed(first, undefined), Deferred.await(forgotten))),
        { startImmediately: true }
      )
      yield* Deferred.await(first)
      yield* slipway.stop([agent.id])
      while ((yield* slipway.prune({ olderThan: "1 millis" })).length === 0) {
        yield* Effect.sleep("2 millis")
      }
      yield* Deferred.succeed(forgotten, undefined)
      yield* Fiber.join(following)
    }))

  guarantee("an agent that says much costs whoever waits for it next to nothing", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(request(world, "echo up; while :; do echo a line; done", up))
      const log = Path.join(agent.plan.directory, "stdout.log")
      const waiting = yield* Effect.forkChild(slipway.wait(agent.id), { startImmediately: true })
      const [size, cpu] = [Fs.statSync(log).size, process.cpuUsage()]
      const [took] = yield* Effect.timed(Effect.sleep("500 millis"))
      const { system, user } = process.cpuUsage(cpu)
      assert.isAbove(Fs.statSync(log).size, size)
      assert.isBelow((system + user) / 1000, Duration.toMillis(took) / 4)
      yield* slipway.stop([agent.id])
      yield* Fiber.join(waiting)
      yield* agreed(slipway, agent.id)
      return [agent.id]
    }))
})

describe("a log that the agent replaced", () => {
  guarantee(
    "by a link is not followed anywhere, and by a pipe is empty and keeps nobody waiting",
    (world) =>
      Effect.gen(function*() {
        const secret = Path.join(world.root, "secret")
        Fs.writeFileSync(secret, "nobody's business\n")
        const slipway = yield* open(world)
        const script = "echo up; exec sleep 1000"
        const { agent } = yield* slipway.deploy(request(world, script, up))
        const log = Path.join(agent.plan.directory, "stdout.log")
        const asked = [{}, { follow: true }, { tailLines: 1 }]
        Fs.rmSync(log)
        Fs.symlinkSync(secret, log)
        for (const options of asked) {
          assert.instanceOf(yield* Effect.flip(text(slipway.output(agent.id, options))), FileError)
        }
        Fs.rmSync(log)
        spawnSync("mkfifo", [log])
        assert.strictEqual(yield* text(slipway.output(agent.id)), "")
        assert.strictEqual(yield* text(slipway.output(agent.id, { tailLines: 1 })), "")
        const [stopped] = yield* slipway.stop([agent.id])
        assert.strictEqual(stopped?.state._tag, "stopped")
        assert.notInclude(JSON.stringify(stopped), "business")
        yield* agreed(slipway, agent.id)
        return [agent.id]
      })
  )
})

describe("the last lines of an output", () => {
  const block = 64 * 1024
  const line = (bytes: number) => `${"x".repeat(bytes - 1)}\n`
  const contents: Readonly<Record<string, string>> = {
    "nothing": "",
    "one line": "one\n",
    "one line without an end": "one",
    "nothing but empty lines": "\n\n\n",
    "lines": "one\ntwo\nthree\n",
    "lines of which the last has no end": "one\ntwo\nthree",
    "a line that ends with a block": line(block) + "two\n",
    "a line that begins a block": line(block - 1) + "\n" + line(block) + "end",
    "lines longer than blocks": line(3 * block) + line(2 * block + 1) + line(block - 1)
  }

  guarantee("are exactly as many as were asked for, or all there are", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(request(world, "exit 0", { ready: "none" }))
      yield* slipway.wait(agent.id)
      for (const [what, content] of Object.entries(contents)) {
        Fs.writeFileSync(Path.join(agent.plan.directory, "stdout.log"), content)
        const lines = content.match(/[^\n]*\n|[^\n]+$/g) ?? []
        for (const tailLines of [0, 1, 2, lines.length, lines.length + 1, 1000]) {
          const expected = tailLines === 0 ? "" : lines.slice(-tailLines).join("")
          const found = yield* text(slipway.output(agent.id, { tailLines }))
          assert.isTrue(found === expected, `${tailLines} of ${what}: ${found.length} bytes, not ${expected.length}`)
        }
      }
      return [agent.id]
    }))

  guarantee("are followed by what comes after them", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const script = "echo one; echo two; printf thr; until [ -e go ]; do sleep 0.01; done; echo ee; echo four"
      const { agent } = yield* slipway.deploy(request(world, script, up))
      yield* eventually(() => Fs.readFileSync(Path.join(agent.plan.directory, "stdout.log"), "utf8").endsWith("thr"))
      const followers = yield* Effect.forEach([0, 1, 2, 9], (tailLines) =>
        Effect.forkChild(text(slipway.output(agent.id, { follow: true, tailLines })), { startImmediately: true }))
      yield* Effect.sleep("50 millis")
      go(world)
      assert.deepStrictEqual(yield* Effect.forEach(followers, Fiber.join), [
        "ee\nfour\n",
        "three\nfour\n",
        "two\nthree\nfour\n",
        "one\ntwo\nthree\nfour\n"
      ])
      yield* agreed(slipway, agent.id)
      return [agent.id]
    }))
})
