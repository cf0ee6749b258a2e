import { assert, describe } from "@effect/vitest"
import { AgentNotFound, Document, SelfStopRefused, type Slipway } from "@slipway/core"
import { Clock, Duration, Effect, Fiber, Stream } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { AgentId } from "../src/agent/Agent.ts"
import { runModule } from "./children.ts"
import { eventually } from "./processes.ts"
import {
  agreed,
  fakeTmux,
  finished,
  guarantee,
  lasting,
  numberIn,
  open,
  request,
  staying,
  written
} from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const up = { ready: "output", readyWithin: 20_000 } as const

const isGone = (world: World.World) => {
  assert.deepStrictEqual(World.sessions(world), [])
  assert.deepStrictEqual(World.members(world), [])
}

const stateOf = (slipway: Slipway["Service"], id: AgentId) => Effect.map(agreed(slipway, id), ({ state }) => state)

describe("stop", () => {
  guarantee(
    "ends an agent that obeys TERM well within its grace, and keeps its reason and its last words",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script = `trap 'echo saved; exit 0' TERM; echo up; while :; do sleep 0.02; done`
        const { agent } = yield* slipway.deploy(request(world, script, up))
        const [took, [stopped]] = yield* Effect.timed(
          slipway.stop([agent.id], { reason: "enough", grace: "30 seconds" })
        )
        assert.isBelow(Duration.toMillis(took), 10_000)
        assert.nestedPropertyVal(stopped, "state._tag", "stopped")
        assert.nestedPropertyVal(stopped, "state.reason", "enough")
        assert.include(stopped?.tail?.stdout ?? "", "saved")
        isGone(world)
        assert.deepStrictEqual(yield* agreed(slipway, agent.id), stopped)
        return [agent.id]
      })
  )

  guarantee(
    "gives an agent its whole grace to save its work, whoever looks at it meanwhile",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const other = yield* open(world)
        const script = `trap 'echo >saving; sleep 2; echo saved; exit 0' TERM; echo up; while :; do sleep 0.02; done`
        const { agent } = yield* slipway.deploy(request(world, script, up))
        const stopping = yield* Effect.forkChild(slipway.stop([agent.id], { grace: "30 seconds" }))
        yield* written(Path.join(world.project, "saving"))
        const [seen] = yield* other.agents({ activeOnly: true })
        assert.nestedPropertyVal(seen, "state._tag", "ending")
        assert.deepStrictEqual((yield* other.reapPlan).items, [])
        const [stopped] = yield* Fiber.join(stopping)
        assert.nestedPropertyVal(stopped, "state._tag", "stopped")
        assert.include(stopped?.tail?.stdout ?? "", "saved")
        isGone(world)
        return [agent.id]
      })
  )

  guarantee("ends an agent that ignores TERM when its grace is over", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(request(world, "trap '' TERM; echo up; while :; do sleep 1000; done", up))
      const [took] = yield* Effect.timed(slipway.stop([agent.id], { grace: "300 millis" }))
      assert.isAtLeast(Duration.toMillis(took), 300)
      isGone(world)
      assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "stopped")
      return [agent.id]
    }))

  guarantee(
    "takes an agent's active descendants with it, children first, and nobody else",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const deploy = (type: string, parent?: AgentId, script = staying) =>
          Effect.map(
            slipway.deploy(request(world, script, { ...up, type, ...(parent === undefined ? {} : { parent }) })),
            ({ agent }) => agent.id
          )
        const top = yield* deploy("top")
        const middle = yield* deploy("middle", top)
        const below = yield* deploy("below", middle)
        const through = yield* deploy("through", top, "echo done")
        const beside = yield* deploy("beside")
        yield* slipway.wait(through)
        const stopped = yield* slipway.stop([top])
        assert.sameMembers(stopped.map(({ id }) => id), [top, middle, below])
        const states = yield* Effect.forEach([top, middle, below, through, beside], (id) => stateOf(slipway, id))
        assert.deepStrictEqual(states.map(({ _tag }) => _tag), ["stopped", "stopped", "stopped", "exited", "running"])
        const ends = [below, middle, top].map((id) =>
          stopped.find((agent) => agent.id === id)?.endedAt?.epochMilliseconds ?? 0
        )
        assert.deepStrictEqual(ends, ends.toSorted((a, b) => a - b))
        assert.deepStrictEqual(World.sessions(world), [`agent_${beside}`])
        yield* finished(slipway, [beside])
        return [top, middle, below, through, beside]
      })
  )

  guarantee(
    "of an agent that has ended changes nothing, and of one that ended unseen tells how it ended",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(
          request(world, "echo up; until [ -e go ]; do sleep 0.02; done; exit 4", up)
        )
        Fs.writeFileSync(Path.join(world.project, "go"), "")
        yield* eventually(() => Fs.existsSync(Path.join(agent.plan.directory, "exit.4")))
        yield* finished(slipway, [agent.id])
        const ended = yield* agreed(slipway, agent.id)
        assert.deepStrictEqual({ ...ended.state }, { _tag: "exited", code: 4, signal: null, outcome: "failure" })
        const events = yield* slipway.events(agent.id)
        yield* finished(slipway, [agent.id])
        assert.deepStrictEqual(yield* agreed(slipway, agent.id), ended)
        assert.deepStrictEqual(yield* slipway.events(agent.id), events)
        return [agent.id]
      })
  )

  guarantee("of an unknown agent says so, and ends none of the others", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(lasting(world))
      const unknown = AgentId.make("nobody-260102-030405-0a1b2c")
      const error = yield* Effect.flip(slipway.stop([unknown]))
      assert.instanceOf(error, AgentNotFound)
      assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "running")
      yield* finished(slipway, [agent.id])
      return [agent.id]
    }))

  guarantee(
    "may be asked for by several at once, here and in other layers: all are told the same",
    (world) =>
      Effect.gen(function*() {
        const layers = [yield* open(world), yield* open(world), yield* open(world)]
        const [slipway] = layers
        if (slipway === undefined) return assert.fail()
        const { agent } = yield* slipway.deploy(
          request(world, "trap '' TERM; echo up; while :; do sleep 1000; done", up)
        )
        const answers = yield* Effect.forEach([...layers, ...layers], (each) =>
          each.stop([agent.id], { grace: "200 millis" }), {
          concurrency: "unbounded"
        })
        for (const answer of answers) {
          assert.deepStrictEqual(
            answer.map(({ state }) =>
              state._tag
            ),
            ["stopped"]
          )
        }
        isGone(world)
        const after = yield* agreed(slipway, agent.id)
        yield* finished(slipway, [agent.id])
        assert.deepStrictEqual(yield* agreed(slipway, agent.id), after)
        return [agent.id]
      })
  )

  guarantee("of the agent that asks, or of one above it, is refused", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const top = (yield* slipway.deploy(lasting(world, { type: "top" }))).agent
      const below = (yield* slipway.deploy(lasting(world, { type: "below", parent: top.id }))).agent
      const inside = yield* open(world, { caller: World.caller(world, { SLIPWAY_AGENT_ID: below.id }) })
      for (const id of [below.id, top.id]) {
        assert.instanceOf(yield* Effect.flip(inside.stop([id])), SelfStopRefused)
        assert.strictEqual((yield* slipway.agent(id)).state._tag, "running")
      }
      const above = yield* open(world, { caller: World.caller(world, { SLIPWAY_AGENT_ID: top.id }) })
      yield* above.stop([below.id])
      assert.strictEqual((yield* slipway.agent(top.id)).state._tag, "running")
      yield* finished(slipway, [top.id])
      return [top.id, below.id]
    }))

  guarantee(
    "that can't be carried out names what is left, keeps the slot, and is finished by who looks next",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        const broken = yield* open(world, {
          tmux: fakeTmux(world, `[ "$1" = -V ] || { echo "no answer" >&2; exit 1; }`)
        })
        const [left] = yield* broken.stop([agent.id])
        assert.nestedPropertyVal(left, "state._tag", "ending")
        assert.nestedPropertyVal(left, "state.left.0.resource", "tmux_session")
        assert.nestedPropertyVal(left, "state.left.0.outcome._tag", "Failed")
        assert.deepStrictEqual(World.rows(world).map(({ holdsSlot }) => holdsSlot), [true])
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "stopped")
        return [agent.id]
      })
  )
})

describe("wait", () => {
  guarantee("answers when an agent of another process has ended, with its end", (world) =>
    Effect.gen(function*() {
      const script = "echo up; until [ -e go ]; do sleep 0.02; done; exit 5"
      const deployer = yield* runModule("support/deployer.ts", [world.root, "deploy", script, "output"])
      const [, id = ""] = (yield* deployer.says("committed ")).split(" ")
      const slipway = yield* open(world)
      const waiting = yield* Effect.forkChild(slipway.wait(AgentId.make(id)), { startImmediately: true })
      Fs.writeFileSync(Path.join(world.project, "go"), "")
      const ended = yield* Fiber.join(waiting)
      assert.deepStrictEqual({ ...ended.state }, { _tag: "exited", code: 5, signal: null, outcome: "failure" })
      assert.deepStrictEqual(yield* agreed(slipway, ended.id), ended)
      return [id]
    }))

  guarantee("answers when another layer stops the agent", (world) =>
    Effect.gen(function*() {
      const [slipway, other] = [yield* open(world), yield* open(world)]
      const { agent } = yield* slipway.deploy(lasting(world))
      const waiting = yield* Effect.forkChild(other.wait(agent.id), { startImmediately: true })
      yield* finished(slipway, [agent.id])
      assert.strictEqual((yield* Fiber.join(waiting)).state._tag, "stopped")
      return [agent.id]
    }))

  guarantee("for an unknown agent says so", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      assert.instanceOf(yield* Effect.flip(slipway.wait(AgentId.make("nobody-260102-030405-0a1b2c"))), AgentNotFound)
    }))
})

describe("output", () => {
  const text = <E>(stream: Stream.Stream<Uint8Array, E>) => Stream.mkString(Stream.decodeText(stream))

  guarantee(
    "begins with the first byte, whenever it is asked for, and ends where it is now",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script =
          "echo first; echo to stderr >&2; i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); done; echo last; exec sleep 1000"
        const { agent } = yield* slipway.deploy(request(world, script, up))
        const log = Path.join(agent.plan.directory, "stdout.log")
        yield* eventually(() => Fs.readFileSync(log, "utf8").endsWith("last\n"))
        assert.strictEqual(yield* text(slipway.output(agent.id)), Fs.readFileSync(log, "utf8"))
        assert.isTrue((yield* text(slipway.output(agent.id))).startsWith("first\nline 0\n"))
        assert.strictEqual(yield* text(slipway.output(agent.id, { stream: "stderr" })), "to stderr\n")
        yield* finished(slipway, [agent.id])
        assert.isTrue((yield* text(slipway.output(agent.id))).startsWith("first\n"), "it is still there after the end")
        return [agent.id]
      })
  )

  guarantee("follows until the agent has ended, and misses nothing", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const script =
        "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); [ $((i % 50)) = 0 ] && sleep 0.05; done; printf end"
      const { agent } = yield* slipway.deploy(request(world, script, up))
      const all = yield* text(slipway.output(agent.id, { follow: true }))
      assert.strictEqual(all, `${Array.from({ length: 200 }, (_, index) => `line ${index}\n`).join("")}end`)
      assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "exited")
      return [agent.id]
    }))

  guarantee("can begin with the last lines", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const long = "x".repeat(100_000)
      const { agent } = yield* slipway.deploy(request(world, `cat; printf '\\n%s\\n' three; printf unfinished`, {
        prompt: `one\n${long}`
      }))
      yield* slipway.wait(agent.id)
      const tail = (tailLines: number) => text(slipway.output(agent.id, { tailLines }))
      assert.strictEqual(yield* tail(1), "unfinished")
      assert.strictEqual(yield* tail(2), "three\nunfinished")
      assert.strictEqual(yield* tail(3), `${long}\nthree\nunfinished`)
      assert.strictEqual(yield* tail(4), `one\n${long}\nthree\nunfinished`)
      assert.strictEqual(yield* tail(99), `one\n${long}\nthree\nunfinished`)
      assert.strictEqual(yield* tail(0), "")
      return [agent.id]
    }))

  guarantee(
    "that is truncated while it is followed is followed from its new beginning",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script = "echo before the cut; until [ -e go ]; do sleep 0.02; done; echo after"
        const { agent } = yield* slipway.deploy(request(world, script, up))
        let seen = ""
        const following = yield* Effect.forkChild(
          Stream.runForEach(
            Stream.decodeText(slipway.output(agent.id, { follow: true })),
            (chunk) => Effect.sync(() => void (seen += chunk))
          ),
          { startImmediately: true }
        )
        yield* eventually(() => seen === "before the cut\n")
        Fs.truncateSync(Path.join(agent.plan.directory, "stdout.log"))
        Fs.writeFileSync(Path.join(world.project, "go"), "")
        yield* Fiber.join(following)
        assert.strictEqual(seen, "before the cut\nafter\n")
        return [agent.id]
      })
  )
})

describe("what others do to a running agent", () => {
  const tmux = (world: World.World, ...args: ReadonlyArray<string>) => spawnSync("tmux", ["-S", world.socket, ...args])

  guarantee(
    "a session that was killed by hand is told as the agent's own end, when it ends of it",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(
          request(world, "trap 'exit 17' HUP; echo up; while :; do sleep 0.02; done", up)
        )
        tmux(world, "kill-session", "-t", `=${agent.plan.session}`)
        const ended = yield* slipway.wait(agent.id)
        assert.deepStrictEqual({ ...ended.state }, { _tag: "exited", code: 17, signal: null, outcome: "failure" })
        isGone(world)
        yield* agreed(slipway, agent.id)
        return [agent.id]
      })
  )

  guarantee(
    "an agent that outlives its session is still running, is found, and can be stopped",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(
          request(world, "trap '' HUP; echo up; while :; do sleep 1000; done", up)
        )
        tmux(world, "kill-session", "-t", `=${agent.plan.session}`)
        yield* eventually(() => World.sessions(world).length === 0)
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "running")
        yield* finished(slipway, [agent.id])
        isGone(world)
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "stopped")
        return [agent.id]
      })
  )

  for (
    const [how, kill] of [
      ["ended", (world: World.World) => tmux(world, "kill-server")],
      ["killed", (_: World.World, server: number) => process.kill(server, "SIGKILL")]
    ] as const
  ) {
    guarantee(
      `a tmux server that is ${how} takes its agents along, and each is told as it ended`,
      (world) =>
        Effect.gen(function*() {
          const slipway = yield* open(world)
          const deploy = (type: string) => Effect.map(slipway.deploy(lasting(world, { type })), ({ agent }) => agent)
          const agents = [yield* deploy("a"), yield* deploy("b")]
          kill(world, agents[0]?.running?.serverPid ?? assert.fail("no server"))
          for (const { id } of agents) {
            const { state } = yield* slipway.wait(id)
            assert.deepStrictEqual({ ...state }, { _tag: "exited", code: 129, signal: "SIGHUP", outcome: "failure" })
            yield* agreed(slipway, id)
          }
          isGone(world)
          const next = (yield* slipway.deploy(lasting(world, { type: "a" }))).agent
          assert.notStrictEqual(next.running?.serverPid, agents[0]?.running?.serverPid)
          yield* finished(slipway, [next.id])
          return [...agents, next].map(({ id }) => id)
        })
    )
  }

  guarantee(
    "an agent that was killed with its launcher is lost, what it started is ended, and its slot is free",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script = "trap '' HUP; setsid sleep 1000 & echo $$ > pid; echo up; while :; do sleep 1000; done"
        const { agent } = yield* slipway.deploy(request(world, script, up))
        const pid = yield* numberIn(Path.join(world.project, "pid"))
        process.kill(agent.running?.launcher?.pid ?? assert.fail("no launcher"), "SIGKILL")
        process.kill(pid, "SIGKILL")
        yield* eventually(() => World.sessions(world).length === 0)
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "running", "a process of it lives")
        for (const member of World.members(world)) process.kill(member, "SIGKILL")
        yield* eventually(() => World.members(world).length === 0)
        const next = (yield* slipway.deploy(lasting(world))).agent
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "lost")
        yield* finished(slipway, [next.id])
        return [agent.id, next.id]
      })
  )

  guarantee(
    "an agent that ends and leaves a child behind has it ended when it is settled",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(
          request(world, "trap '' HUP; setsid sleep 1000 & echo child > up; until [ -e go ]; do sleep 0.02; done", {
            ready: "none"
          })
        )
        yield* written(Path.join(world.project, "up"))
        Fs.writeFileSync(Path.join(world.project, "go"), "")
        const { state } = yield* slipway.wait(agent.id)
        assert.deepStrictEqual({ ...state }, { _tag: "exited", code: 0, signal: null, outcome: "success" })
        isGone(world)
        yield* agreed(slipway, agent.id)
        return [agent.id]
      })
  )
})
describe("the time of an end", () => {
  const exitFile = (path: string, code: number) => Path.join(path, `exit.${code}`)

  guarantee("is when the agent ended, however late anybody looks", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(request(world, "sleep 0.3; exit 4", { ready: "none" }))
      const record = exitFile(agent.plan.directory, 4)
      yield* eventually(() => Fs.existsSync(record))
      const recorded = Math.floor(Fs.statSync(record).ctimeMs)
      // Nobody looks for a while.
      yield* Effect.sleep("1200 millis")
      yield* slipway.agents()
      const looked = yield* Clock.currentTimeMillis
      const ended = yield* agreed(slipway, agent.id)
      assert.strictEqual(ended.endedAt?.epochMilliseconds, recorded)
      assert.isAbove(looked - recorded, 1000)
      assert.strictEqual(ended.endedAtFrom, "exit-record")
      assert.strictEqual(Document.agent(ended).ended_at_from, "exit-record")
      return [agent.id]
    }))

  guarantee(
    "of one that ended before its deployment committed is the commit, and never before it started",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(request(world, "exit 0"))
        const ended = yield* slipway.agent(agent.id)
        assert.isNotNull(ended.startedAt)
        assert.strictEqual(ended.endedAt?.epochMilliseconds, ended.startedAt?.epochMilliseconds)
        return [agent.id]
      })
  )

  guarantee(
    "of a stopped agent is when nothing of it was left, of a lost one when that was found, and says so",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const saving = "trap 'sleep 0.4; date +%s%3N >saved; exit 0' TERM; echo up; while :; do sleep 0.02; done"
        const stopping = (yield* slipway.deploy(request(world, saving, up))).agent
        const losing = (yield* slipway.deploy(lasting(world, { type: "losing" }))).agent
        const [stopped] = yield* slipway.stop([stopping.id], { reason: "enough", grace: "20 seconds" })
        const saved = yield* numberIn(Path.join(world.project, "saved"))
        assert.isAtLeast(stopped?.endedAt?.epochMilliseconds ?? 0, saved)
        assert.strictEqual(stopped?.endedAtFrom, "proof")
        const killed = yield* Clock.currentTimeMillis
        for (const pid of World.members(world)) process.kill(pid, "SIGKILL")
        yield* eventually(() => World.members(world).length === 0)
        yield* slipway.agents()
        const lost = yield* agreed(slipway, losing.id)
        assert.strictEqual(lost.state._tag, "lost")
        assert.isAtLeast(lost.endedAt?.epochMilliseconds ?? 0, killed)
        assert.strictEqual(lost.endedAtFrom, "found")
        return [stopping.id, losing.id]
      })
  )
})
