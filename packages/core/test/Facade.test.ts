/** The contract of the facade, on real tmux with real processes, and on the machine in memory. */
import { assert, describe, it } from "@effect/vitest"
import * as Testing from "@slipway/core/testing"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { runModule } from "./children.ts"
import { type Behaviour, guarantees, type Subject } from "./FacadeContract.ts"
import { memoryPorts } from "./support/MemoryPorts.ts"
import { portLease } from "./support/PortLease.ts"
import * as World from "./support/World.ts"

const shells: Record<Behaviour, string> = {
  brief: "echo hello; sleep 0.3; echo bye",
  steady: "echo up; exec sleep 1000",
  failing: "echo 'no key' >&2; exit 3",
  silent: "exec sleep 1000",
  stubborn: "trap '' TERM HUP; echo up; exec sleep 1000",
  parent: "setsid sleep 1000 & echo up; exec sleep 1000",
  unlucky: "echo up; sleep 0.3; kill -s SEGV $$",
  talkative: "for i in 1 2; do echo out $i; echo err $i >&2; done"
}

const { after, complains, dies, exits, hangs, ignoresTerm, says, starts } = Testing
const scripts: Record<Behaviour, Testing.Script> = {
  brief: [says("hello"), after("300 millis"), says("bye"), exits(0)],
  steady: [says("up"), hangs],
  failing: [complains("no key"), exits(3)],
  silent: [hangs],
  stubborn: [ignoresTerm, says("up"), hangs],
  parent: [starts(), says("up"), hangs],
  unlucky: [says("up"), after("300 millis"), dies("SIGSEGV")],
  talkative: [says("out 1"), complains("err 1"), says("out 2"), complains("err 2"), exits(0)]
}

describe("on the real machine", () => {
  const subject = (world: World.World): Subject => ({
    project: world.project,
    agent: (behaviour) => World.shell(shells[behaviour]),
    left: Effect.sync(() => {
      const committed = World.rows(world).filter(({ status }) => status !== "rolled-back").map(({ id }) => id)
      const kept = World.kept(committed)
      return World.leftovers(world).filter((each) => !kept.includes(each))
    }),
    ports: Effect.sync(() => {
      const directory = Path.join(world.root, "ports")
      const names = Fs.existsSync(directory) ? Fs.readdirSync(directory) : []
      // Beside a lease stands its draft, which bears the agent's id.
      return names.map(Number).filter(Number.isInteger)
    }),
    killedAt: (step, behaviour, port) =>
      Effect.gen(function*() {
        const args = [world.root, "deploy", shells[behaviour], "output", "20000", String(port), step]
        const child = yield* runModule("support/deployer.ts", args)
        yield* child.ended
        assert.strictEqual(child.process.signalCode, "SIGKILL")
      })
  })

  guarantees((title, body) =>
    it.live(title, () =>
      Effect.gen(function*() {
        const world = yield* World.make
        const layer = World.layer(world, { resources: [portLease(Path.join(world.root, "ports"))] })
        yield* Effect.provide(body(subject(world)), layer)
      }), 90_000)
  )
})

describe("on the machine in memory", () => {
  guarantees((title, body) =>
    it.effect(title, () => {
      const { held, kind } = memoryPorts()
      return Effect.gen(function*() {
        const machine = yield* Testing.Machine
        const deploy = (behaviour: Behaviour, port: number) =>
          Effect.flatMap(Testing.Slipway, (slipway) =>
            slipway.deploy({
              project: Testing.project,
              type: "worker",
              prompt: "work",
              agent: { kind: "command", argv: [`/agents/${behaviour}`] },
              ready: "output",
              resources: { port: { port } }
            }))
        yield* body({
          project: Testing.project,
          agent: (behaviour) => ({ kind: "command", argv: [`/agents/${behaviour}`] }),
          left: Effect.map(
            machine.leftovers,
            (left) => left.map(({ what, which }) => `${what} ${which}`)
          ),
          ports: held,
          killedAt: (step, behaviour, port) => Effect.orDie(machine.killedAt(step, deploy(behaviour, port)))
        })
      }).pipe(
        Testing.elapse,
        Effect.provide(Testing.Slipway.layerMemory({ agents: scripts, resources: [kind] }))
      )
    })
  )
})
