import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Agent } from "../src/agent/Agent.ts"
import type { ProcessIdentity } from "../src/machine/Host.ts"
import { ProcessTree } from "../src/machine/ProcessTree.ts"
import { eventually, identify, linux, lives } from "./processes.ts"
import { beat, beating, editRow, isGone, signal, silent, stateOf, stranger } from "./support/Proof.ts"
import { agreed, guarantee, lasting, numberIn, open, openAround, request } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const deaf = "trap '' HUP; exec ./beat"

const launcherOf = (agent: Agent): ProcessIdentity => agent.running?.launcher ?? assert.fail("no launcher")
const serverOf = (agent: Agent): ProcessIdentity => identify(agent.running?.serverPid ?? assert.fail("no server"))

/** Stops a process for as long as the scope, or until the answer is run. */
const frozen = Effect.fnUntraced(function*(process: ProcessIdentity) {
  const thaw = Effect.sync(() => lives(process) ? signal(process, "SIGCONT") : undefined)
  yield* Effect.acquireRelease(Effect.sync(() => signal(process, "SIGSTOP")), () => thaw)
  return { thaw }
})

describe("while tmux does not answer", () => {
  guarantee(
    "an agent stays running, a stop ends its processes and names what it can't tell, and is finished later",
    (world) =>
      Effect.gen(function*() {
        beat(world)
        const slipway = yield* open(world)
        const script = `setsid -f ./beat; ${deaf}`
        const { agent } = yield* slipway.deploy(request(world, script, { ready: "none" }))
        const known = yield* beating(world, 2)
        const { thaw } = yield* frozen(serverOf(agent))
        assert.deepStrictEqual((yield* slipway.agents()).map(({ state }) => state._tag), ["running"])
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "running")
        const [left] = yield* slipway.stop([agent.id], { grace: "200 millis" })
        assert.deepStrictEqual(known.filter(lives), [])
        yield* silent(world)
        assert.nestedPropertyVal(left, "state._tag", "ending")
        assert.nestedPropertyVal(left, "state.left.0.resource", "tmux_session")
        assert.deepStrictEqual(World.rows(world).map(({ holdsSlot, status }) => ({ holdsSlot, status })), [
          { holdsSlot: true, status: "ending" }
        ])
        const { status } = JSON.parse(Fs.readFileSync(agent.plan.entry, "utf8"))
        assert.strictEqual(status, "leaked")
        yield* thaw
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "stopped")
        isGone(world, known)
        return [agent.id]
      })
  )

  guarantee(
    "an agent without a launcher stays running, too, and so does one that is gone without a record",
    (world) =>
      Effect.gen(function*() {
        beat(world)
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(request(world, deaf, { ready: "none" }))
        const [known] = yield* beating(world, 1)
        const { thaw } = yield* frozen(serverOf(agent))
        signal(launcherOf(agent), "SIGKILL")
        yield* eventually(() => !lives(launcherOf(agent)))
        assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "running")
        signal(known, "SIGKILL")
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "running", "its session may be there")
        yield* thaw
        assert.strictEqual((yield* slipway.wait(agent.id)).state._tag, "lost")
        isGone(world)
        yield* agreed(slipway, agent.id)
        return [agent.id]
      })
  )
})

describe("when the socket has vanished while the server lives", () => {
  guarantee(
    "an agent stays running, can be stopped, and the next one gets a server of its own",
    (world) =>
      Effect.gen(function*() {
        beat(world)
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(request(world, deaf, { ready: "none", type: "first" }))
        const known = yield* beating(world, 1)
        const server = serverOf(agent)
        yield* Effect.addFinalizer(() => Effect.sync(() => lives(server) ? signal(server, "SIGKILL") : undefined))
        Fs.unlinkSync(world.socket)
        assert.deepStrictEqual((yield* slipway.agents()).map(({ state }) => state._tag), ["running"])
        const next = (yield* slipway.deploy(lasting(world, { type: "second" }))).agent
        assert.notStrictEqual(next.running?.serverPid, server.pid)
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "running")
        const [stopped] = yield* slipway.stop([agent.id], { grace: "200 millis" })
        assert.strictEqual(stopped?.state._tag, "stopped")
        assert.deepStrictEqual(known.filter(lives), [])
        assert.isFalse(lives(launcherOf(agent)))
        assert.strictEqual((yield* slipway.agent(next.id)).state._tag, "running")
        yield* slipway.stop([next.id])
        yield* agreed(slipway, agent.id)
        yield* agreed(slipway, next.id)
        return [agent.id, next.id]
      })
  )

  guarantee(
    "an agent whose launcher was killed is told by its processes, and is lost when they are gone",
    (world) =>
      Effect.gen(function*() {
        beat(world)
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(request(world, deaf, { ready: "none" }))
        const [known] = yield* beating(world, 1)
        const server = serverOf(agent)
        yield* Effect.addFinalizer(() => Effect.sync(() => lives(server) ? signal(server, "SIGKILL") : undefined))
        Fs.unlinkSync(world.socket)
        signal(launcherOf(agent), "SIGKILL")
        yield* eventually(() => !lives(launcherOf(agent)))
        assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "running")
        signal(known, "SIGKILL")
        assert.strictEqual((yield* slipway.wait(agent.id)).state._tag, "lost")
        yield* agreed(slipway, agent.id)
        return [agent.id]
      })
  )
})

describe("while the process table can't be read", () => {
  const blind = (world: World.World) => {
    const tree = ProcessTree.make({ ...linux, table: () => ({ blind: "EACCES" }) })
    return openAround(world, { processes: () => tree })
  }

  guarantee(
    "an agent that can't be told stays as it is, and a stop names what it can't prove",
    (world) =>
      Effect.gen(function*() {
        beat(world)
        const unseeing = yield* blind(world)
        const { agent } = yield* unseeing.deploy(request(world, deaf, { ready: "none" }))
        const known = yield* beating(world, 1)
        assert.strictEqual((yield* stateOf(unseeing, agent.id))._tag, "running")
        signal(launcherOf(agent), "SIGKILL")
        yield* eventually(() => World.sessions(world).length === 0)
        assert.strictEqual((yield* stateOf(unseeing, agent.id))._tag, "running")
        const [left] = yield* unseeing.stop([agent.id], { grace: "100 millis" })
        assert.nestedPropertyVal(left, "state._tag", "ending")
        assert.nestedPropertyVal(left, "state.left.0.outcome._tag", "Failed")
        assert.include(JSON.stringify(left?.state), "process table")
        assert.deepStrictEqual(World.rows(world).map(({ holdsSlot, status }) => ({ holdsSlot, status })), [
          { holdsSlot: true, status: "ending" }
        ])
        assert.isTrue(known.every(lives), "no signal without a look")
        const slipway = yield* open(world)
        assert.strictEqual((yield* slipway.wait(agent.id)).state._tag, "stopped")
        isGone(world, known)
        yield* agreed(slipway, agent.id)
        return [agent.id]
      })
  )
})

describe("a row of another boot", () => {
  for (const way of ["looked at", "stopped"] as const) {
    guarantee(
      `is lost when it is ${way}, and whoever has its pids now gets no signal`,
      (world) =>
        Effect.gen(function*() {
          const slipway = yield* open(world)
          const script = "trap '' HUP; echo $$ >pid; while :; do sleep 1000; done"
          const { agent } = yield* slipway.deploy(request(world, script, { ready: "none" }))
          const main = identify(yield* numberIn(Path.join(world.project, "pid")))
          // What a restart does.
          const server = serverOf(agent)
          for (const each of [launcherOf(agent), main, server]) if (lives(each)) process.kill(each.pid, "SIGKILL")
          for (const pid of World.members(world)) process.kill(pid, "SIGKILL")
          yield* eventually(() => World.members(world).length === 0 && !lives(main))
          const other = yield* stranger
          editRow(world, agent.id, (row) => ({
            ...row,
            running: row.running === null
              ? null
              : {
                ...row.running,
                host: { ...row.running.host, boot: "an earlier one" },
                launcher: other,
                serverPid: other.pid
              }
          }))
          if (way === "stopped") yield* slipway.stop([agent.id], { grace: "100 millis" })
          else yield* slipway.agents()
          const state = yield* stateOf(slipway, agent.id)
          assert.deepStrictEqual({ ...state }, { _tag: "lost", why: "the machine was restarted" })
          assert.isTrue(lives(other))
          return [agent.id]
        })
    )
  }

  guarantee("that left an exit record before the restart is told by that", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(request(world, "exit 12", { ready: "none" }))
      yield* eventually(() => Fs.existsSync(Path.join(agent.plan.directory, "exit.12")))
      const other = yield* stranger
      editRow(world, agent.id, (row) => ({
        ...row,
        running: row.running === null
          ? null
          : { ...row.running, host: { ...row.running.host, boot: "an earlier one" }, launcher: other }
      }))
      const state = yield* stateOf(slipway, agent.id)
      assert.deepStrictEqual({ ...state }, { _tag: "exited", code: 12, signal: null, outcome: "failure" })
      assert.isTrue(lives(other))
      return [agent.id]
    }))
})

describe("a row of another pid namespace, or another machine", () => {
  const elsewhere = { pidNamespace: "pid:[1]", machine: "another one" }
  for (const [what, there] of Object.entries(elsewhere)) {
    guarantee(
      `(${what}) is not assessed and not touched, a stop says where to stop it, and there it is finished`,
      (world) =>
        Effect.gen(function*() {
          beat(world)
          const slipway = yield* open(world)
          const { agent } = yield* slipway.deploy(request(world, deaf, { ready: "none" }))
          const known = yield* beating(world, 1)
          const other = yield* stranger
          editRow(world, agent.id, (row) => ({
            ...row,
            running: row.running === null
              ? null
              : { ...row.running, host: { ...row.running.host, [what]: there }, launcher: other }
          }))
          assert.deepStrictEqual((yield* slipway.agents()).map(({ state }) => state._tag), ["running"])
          const [left] = yield* slipway.stop([agent.id], { grace: "100 millis" })
          assert.nestedPropertyVal(left, "state._tag", "ending")
          assert.nestedPropertyVal(left, "state.left.0.outcome._tag", "Failed")
          assert.include(JSON.stringify(left?.state), "stop it from there")
          assert.deepStrictEqual((yield* slipway.agents()).map(({ state }) => state._tag), ["ending"])
          assert.strictEqual((yield* stateOf(slipway, agent.id))._tag, "ending")
          assert.deepStrictEqual(World.rows(world).map(({ holdsSlot, status }) => ({ holdsSlot, status })), [
            { holdsSlot: true, status: "ending" }
          ])
          assert.isTrue(lives(other))
          assert.isTrue(known.every(lives))
          // Back where it runs.
          editRow(world, agent.id, (row) => ({ ...row, running: agent.running }))
          assert.strictEqual((yield* slipway.wait(agent.id)).state._tag, "stopped")
          isGone(world, known)
          assert.isTrue(lives(other))
          yield* agreed(slipway, agent.id)
          return [agent.id]
        })
    )
  }
})
