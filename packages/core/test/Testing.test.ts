/** The test kit, as a user has it: in memory, and on the test's clock. */
import { assert, describe, it } from "@effect/vitest"
import { type DeployInput, Slipway } from "@slipway/core"
import * as Testing from "@slipway/core/testing"
import { Cause, Clock, Effect, Exit, Fiber, Layer, Ref, Stream } from "effect"
import { TestClock } from "effect/testing"
import { memoryPorts } from "./support/MemoryPorts.ts"

const { after, complains, dies, exits, hangs, ignoresTerm, says, starts } = Testing

const agents: Testing.MemoryOptions["agents"] = {
  brief: [says("hello"), after("2 seconds"), says("bye"), exits(0)],
  steady: [says("up"), hangs],
  failing: [complains("no key"), exits(3)],
  silent: [hangs],
  stubborn: [ignoresTerm, says("up"), hangs],
  parent: [starts(), says("up"), hangs],
  unlucky: [says("up"), after("1 minute"), dies("SIGSEGV")]
}

const request = (type: string, more: Partial<DeployInput> = {}): DeployInput => ({
  project: Testing.project,
  type,
  prompt: `be ${type}`,
  agent: { kind: "command", argv: [`/bin/${type}`] },
  ready: "output",
  ...more
})

const deploy = (type: string, more: Partial<DeployInput> = {}) =>
  Effect.flatMap(Slipway, (slipway) => slipway.deploy(request(type, more)))

const reap = Effect.flatMap(Slipway, (slipway) => Effect.flatMap(slipway.reapPlan, (plan) => slipway.reap(plan)))

const kit = (options: Testing.MemoryOptions = {}) => Testing.Slipway.layerMemory({ agents, ...options })

describe("agents in memory", () => {
  it.effect("say and end what their script says, when the test's clock comes to it", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy("brief")
      assert.strictEqual(agent.state._tag, "running")
      const said = slipway.output(agent.id).pipe(Stream.decodeText, Stream.mkString)
      assert.strictEqual(yield* said, "hello\n")
      const begin = yield* Clock.currentTimeMillis
      const ended = yield* slipway.wait(agent.id)
      assert.strictEqual(yield* said, "hello\nbye\n")
      assert.deepInclude(ended.state, { _tag: "exited", code: 0 })
      assert.approximately((yield* Clock.currentTimeMillis) - begin, 2000, 200)
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("that end before they are up fail their deployment with what they said last", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(deploy("failing"))
      assert.deepInclude(error.reason, { _tag: "AgentExitedEarly", code: 3 })
      assert.include(error.message, "no key")
      assert.isTrue(error.isClean)
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("that say nothing fail their deployment when its time is over on the test's clock", () =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Effect.flip(deploy("silent", { readyWithin: "1 minute" })))
      yield* TestClock.adjust("59 seconds")
      assert.isUndefined(fiber.pollUnsafe())
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(fiber)).reason._tag, "NoFirstOutput")
      yield* Testing.expectNothingLeft
    }).pipe(Effect.provide(kit())))

  it.effect("that ignore TERM are ended by KILL, after the grace", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy("stubborn")
      const begin = yield* Clock.currentTimeMillis
      const [stopped] = yield* slipway.stop([agent.id], { grace: "30 seconds" })
      assert.strictEqual(stopped?.state._tag, "stopped")
      assert.isAtLeast((yield* Clock.currentTimeMillis) - begin, 30_000)
      assert.deepStrictEqual((yield* slipway.totals).escalations, [{ resource: "tmux_session", count: 1 }])
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("that started a process in a session of its own end with it", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy("parent")
      const there = (yield* Testing.leftovers).filter(({ what }) => what === "process")
      assert.lengthOf(there, 3)
      yield* slipway.stop([agent.id])
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("that a signal ends are recorded with it", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy("unlucky")
      const ended = yield* slipway.wait(agent.id)
      assert.deepInclude(ended.state, { _tag: "exited", code: 139, signal: "SIGSEGV" })
      const other = yield* deploy("steady")
      yield* Testing.killAgent(other.agent.id)
      assert.deepInclude((yield* slipway.wait(other.agent.id)).state, { _tag: "exited", signal: "SIGKILL" })
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("without a script end at once, and say so", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(deploy("unknown"))
      assert.include(error.message, "no script of the test's is for an agent of type unknown")
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("are found by their type, their kind, their program, or else by *", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const said = Effect.fnUntraced(function*(type: string, agent: DeployInput["agent"]) {
        const deployment = yield* deploy(type, { agent })
        return yield* slipway.output(deployment.agent.id).pipe(Stream.decodeText, Stream.mkString)
      })
      const command = (path: string) => ({ kind: "command", argv: [path] }) as const
      assert.strictEqual(yield* said("type", command("/srv/program.sh")), "type\n")
      assert.strictEqual(yield* said("other", { kind: "codex" }), "kind\n")
      assert.strictEqual(yield* said("third", command("/srv/program.sh")), "program\n")
      assert.strictEqual(yield* said("fourth", command("/srv/else.sh")), "any\n")
      const prompts = (yield* Testing.deployed).map(({ prompt }) => prompt)
      assert.deepStrictEqual(prompts, ["be type", "be other", "be third", "be fourth"])
    }).pipe(
      Testing.elapse,
      Effect.provide(kit({
        agents: {
          type: [says("type"), hangs],
          codex: [says("kind"), hangs],
          "program.sh": [says("program"), hangs],
          "*": [says("any"), hangs]
        }
      }))
    ))
})

const steps = [
  "preflight",
  "admission",
  "agent-directory",
  "resources",
  "session",
  "readiness",
  "task-entry",
  "commit"
] as const satisfies ReadonlyArray<Testing.FaultStep>
const moments = ["before", "after"] as const

const withPort = (port = 4001) => deploy("steady", { resources: { port: { port } } })

/** A kit with leases of ports. */
const leasing = (options: Testing.MemoryOptions = {}) => {
  const { kind, leases } = memoryPorts()
  return { leases, layer: kit({ resources: [kind], ...options }) }
}

describe("a resource of one's own in memory", () => {
  it.effect("is there as long as its agent lives, and refused to another", () => {
    const { layer, leases } = leasing()
    return Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* withPort()
      assert.deepStrictEqual(yield* Ref.get(leases), new Map([[4001, agent.id]]))
      const error = yield* Effect.flip(deploy("brief", { resources: { port: { port: 4001 } } }))
      assert.strictEqual(error.step, "resources")
      assert.include(error.message, "port 4001 is leased")
      yield* Testing.expectOnly([agent.id])
      yield* slipway.stop([agent.id])
      assert.strictEqual((yield* Ref.get(leases)).size, 0)
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(layer))
  })

  it.effect("that is left when its agent has ended is named", () => {
    const { layer, leases } = leasing()
    return Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* withPort()
      yield* slipway.stop([agent.id])
      yield* Ref.set(leases, new Map([[4001, agent.id]]))
      const error = yield* Effect.flip(Testing.expectNothingLeft)
      assert.deepStrictEqual(error.left, [{ what: "resource", agentId: agent.id, which: "port 4001" }])
      assert.include(error.message, "resource port 4001")
    }).pipe(Testing.elapse, Effect.provide(layer))
  })
})

describe("a fault at a step", () => {
  for (const step of steps) {
    for (const moment of moments) {
      const faults = [
        Testing.failAt(step, moment),
        Testing.dieAt(step, moment),
        Testing.hangAt(step, moment)
      ]
      for (const fault of faults) {
        it.effect(`${step}: a deployment whose call does ${fault.does}, ${moment} it has happened, leaves nothing`, () => {
          const { layer, leases } = leasing({ faults: [fault] })
          return Effect.gen(function*() {
            const exit = yield* Effect.exit(withPort())
            if (Exit.isSuccess(exit)) {
              // The commit was stored before the answer got lost.
              assert.deepStrictEqual([step, moment], ["commit", "after"])
              return yield* Testing.expectOnly([exit.value.agent.id])
            }
            const error = exit.cause.reasons.find(Cause.isFailReason)?.error
            if (fault.does !== "die") assert.strictEqual(error?.step, step)
            if (fault.does === "hang") assert.strictEqual(error?.reason._tag, "StepTimedOut")
            yield* Testing.expectNothingLeft
            assert.strictEqual((yield* Ref.get(leases)).size, 0)
            yield* Testing.heal
            yield* withPort()
          }).pipe(Testing.elapse, Effect.provide(layer))
        })
      }
    }
  }
})

describe("a deployer that is killed", () => {
  for (const step of steps) {
    for (const moment of moments) {
      it.effect(`${moment} ${step} leaves nothing after one reap`, () => {
        const { layer, leases } = leasing()
        return Effect.gen(function*() {
          const slipway = yield* Slipway
          let finalized = false
          const beats: Array<number> = []
          const heart = Effect.forever(
            Effect.delay(Effect.map(Clock.currentTimeMillis, (now) => void beats.push(now)), "10 millis")
          )
          const doomed = Effect.ensuring(
            Effect.raceFirst(Effect.timeout(withPort(), "40 seconds"), heart),
            Effect.sync(() => void (finalized = true))
          )
          yield* Testing.killedAt(step, doomed, moment)
          const last = beats.length
          yield* Effect.sleep("1 minute")
          assert.isFalse(finalized)
          assert.strictEqual(beats.length, last)
          yield* reap
          // A tmux client that the dead deployer had started comes late, and runs nothing.
          yield* Effect.sleep("1 second")
          const [agent] = yield* slipway.agents({ activeOnly: true })
          if (agent !== undefined) {
            assert.deepStrictEqual([step, moment], ["commit", "after"])
            yield* slipway.stop([agent.id])
          }
          yield* Testing.expectNothingLeft
          assert.strictEqual((yield* Ref.get(leases)).size, 0)
          yield* withPort()
        }).pipe(Testing.elapse, Effect.provide(layer))
      })
    }
  }

  it.effect("takes with it whatever it does at the same time, and nothing wakes it any more", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const answering = Effect.flatMap(Slipway, (mine) =>
        mine.follow().pipe(
          Stream.filter(({ to }) => to === "rolled-back"),
          Stream.runForEach(() => mine.createTask({ description: "mend", project: Testing.project }))
        ))
      yield* Testing.killedAt("commit", Effect.all([deploy("steady"), answering], { concurrency: 2 }))
      const before = (yield* slipway.tasks).length
      yield* reap
      yield* Effect.sleep("1 minute")
      assert.lengthOf(yield* slipway.tasks, before)
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("before the reap, what it left is named", () =>
    Effect.gen(function*() {
      yield* Testing.killedAt("readiness", deploy("steady"))
      const { left } = yield* Effect.flip(Testing.expectNothingLeft)
      assert.sameMembers([...new Set(left.map(({ what }) => what))], ["session", "process", "row"])
      yield* reap
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("at a step that it never comes to is no killed deployer, and says how it ended", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Testing.killedAt("commit", deploy("failing")))
      assert.strictEqual(error._tag, "NotKilled")
      assert.include(error.message, "the step commit")
    }).pipe(Testing.elapse, Effect.provide(kit())))
})

describe("a release", () => {
  const kinds = ["tmux_session", "prompt_file", "task_registry", "port"]
  const faultsOf = (kind: string) => [Testing.failRelease(kind), Testing.dieRelease(kind), Testing.hangRelease(kind)]
  for (const kind of kinds) {
    for (const fault of faultsOf(kind)) {
      it.effect(`of ${kind} that does ${fault.does} is reported, and done by the next reap`, () => {
        const { layer } = leasing({ faults: [fault, Testing.failAt("commit")] })
        return Effect.gen(function*() {
          const error = yield* Effect.flip(withPort())
          assert.strictEqual(error.step, "commit")
          assert.isFalse(error.isClean)
          assert.include(
            error.cleanup.releases.filter(({ outcome }) => outcome._tag === "Failed").map(({ resource }) => resource),
            kind
          )
          assert.isNotEmpty(yield* Testing.leftovers)
          yield* Testing.heal
          yield* reap
          yield* Testing.expectNothingLeft
        }).pipe(Testing.elapse, Effect.provide(layer))
      })
    }
  }
})

describe("the machine in memory", () => {
  it.effect("refuses a program that is not installed, and a full disk, before anything is made", () =>
    Effect.gen(function*() {
      const missing = yield* Effect.flip(deploy("steady", { agent: { kind: "codex" } }))
      assert.strictEqual(missing.reason._tag, "AgentExecutableMissing")
      const machine = yield* Testing.Machine
      yield* machine.setFreeBytes(1000)
      assert.strictEqual((yield* Effect.flip(deploy("steady"))).reason._tag, "DiskFull")
      const elsewhere = yield* Effect.flip(deploy("steady", { project: "/nowhere" }))
      assert.strictEqual(elsewhere.reason._tag, "WorkingDirectoryMissing")
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit({ missing: ["codex"] }))))

  it.effect("has agents that outlive the program that deployed them, and their tmux server", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy("parent")
      const machine = yield* Testing.Machine
      yield* machine.killServer
      assert.isTrue((yield* Testing.leftovers).some(({ what }) => what === "process"))
      yield* reap
      yield* slipway.stop([agent.id])
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("wakes who follows it with every transition, before the follower would look by itself", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      yield* deploy("steady")
      const late: Array<number> = []
      yield* slipway.follow({ after: "latest" }).pipe(
        Stream.runForEach(({ at }) =>
          Effect.map(Clock.currentTimeMillis, (now) => void late.push(now - at.epochMilliseconds))
        ),
        Effect.forkChild({ startImmediately: true })
      )
      for (const pause of ["5100 millis", "5300 millis", "5500 millis"] as const) {
        yield* Effect.sleep(pause)
        const { agent } = yield* deploy("parent")
        yield* slipway.stop([agent.id])
      }
      yield* Effect.sleep("2 seconds")
      assert.lengthOf(late, 12)
      assert.isBelow(Math.max(...late), 60)
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("ends an idle tmux server after ten minutes of the test's time", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { files } = yield* Testing.Machine
      const { agent } = yield* deploy("brief")
      yield* slipway.wait(agent.id)
      const { socket } = slipway.home
      assert.isDefined(yield* files.inspect(socket))
      yield* Effect.sleep("11 minutes")
      yield* slipway.agents()
      assert.isUndefined(yield* files.inspect(socket))
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("is another one each time that it is provided, and a watch beside it sees every end on the test's clock", () => {
    const watched = Slipway.layerWatch().pipe(Layer.provideMerge(kit()))
    const look = Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy("brief")
      assert.lengthOf(yield* Testing.deployed, 1)
      yield* Effect.sleep("1 minute")
      const statuses = (yield* slipway.events(agent.id)).map(({ status }) => status)
      assert.deepStrictEqual(statuses, ["deploying", "running", "ending", "exited"])
      yield* Testing.expectNothingLeft
    })
    return Testing.elapse(
      Effect.all([Effect.provide(look, watched), Effect.provide(look, watched)], { concurrency: 2, discard: true })
    )
  })

  it.effect("stops what a scope deployed when it closes", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      yield* Effect.scoped(slipway.deployScoped(request("steady")))
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.effect("keeps two programs at once from deploying one type twice", () =>
    Effect.gen(function*() {
      const exits = yield* Effect.all([deploy("steady"), deploy("steady")].map(Effect.exit), { concurrency: 2 })
      assert.lengthOf(exits.filter(Exit.isSuccess), 1)
    }).pipe(Testing.elapse, Effect.provide(kit())))

  it.live("runs on the real clock too", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy("steady")
      yield* slipway.stop([agent.id])
      yield* Testing.expectNothingLeft
      yield* Testing.killedAt("session", deploy("steady"))
      yield* reap
      yield* Testing.expectNothingLeft
    }).pipe(Testing.elapse, Effect.provide(kit())))
})

describe("time in a test", () => {
  it.effect("passes for hours as fast as what happens in them", () =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy("steady", { maxRun: "1 hour" })
      yield* Effect.sleep("2 hours")
      yield* reap
      assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "stopped")
    }).pipe((body) => Testing.elapse(body, { limit: "3 hours" }), Effect.provide(kit())))

  it.effect("is over for what never ends, and names the limit", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Testing.elapse(Effect.never, { limit: "5 minutes" }))
      assert.strictEqual(error._tag, "StillRunning")
      assert.include(error.message, "5m")
      const waiting = Effect.flatMap(
        deploy("steady"),
        ({ agent }) => Effect.flatMap(Slipway, (slipway) => slipway.wait(agent.id))
      )
      assert.strictEqual((yield* Effect.flip(Testing.elapse(waiting, { limit: "5 minutes" })))._tag, "StillRunning")
    }).pipe(Effect.provide(kit())))
})
