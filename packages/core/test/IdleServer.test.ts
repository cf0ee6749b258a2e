import { assert, describe } from "@effect/vitest"
import type { DeployError, Deployment, Slipway, SlipwayOptions } from "@slipway/core"
import { Duration, Effect, Fiber, type Scope } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { IdleAfter } from "../src/home/IdleServer.ts"
import { eventually } from "./processes.ts"
import * as Scenario from "./support/Scenario.ts"
import { guarantee, lasting } from "./support/Scenario.ts"
import type * as World from "./support/World.ts"

type World = World.World

/** Opens Slipway with a home that counts as idle after this time; by default as soon as no agent is active. */
const open = (
  world: World,
  { around, idleAfter = Duration.zero, ...options }: SlipwayOptions & {
    readonly idleAfter?: Duration.Duration
    readonly around?: Scenario.Around
  } = {}
) =>
  Scenario.openAround(world, around ?? {}, { transport: "process", ...options }).pipe(
    Effect.provideService(IdleAfter, idleAfter)
  )

/** The steps that are told of before anything is admitted. */
const beforeAdmission: ReadonlySet<string> = new Set(["request", "preflight", "admission"])

const tenMinutes = Duration.minutes(10)

const tmux = (world: World, ...args: ReadonlyArray<string>) =>
  spawnSync("tmux", ["-S", world.socket, ...args], { encoding: "utf8" })

const isAlive = (pid: number): boolean => {
  try {
    return !/\) [ZX]/.test(Fs.readFileSync(`/proc/${pid}/stat`, "utf8"))
  } catch {
    return false
  }
}

/** The pid of the server, or 0 where there is none. */
const serverPid = (world: World): number => Number(tmux(world, "display-message", "-p", "#{pid}").stdout)

/** An agent that has come and gone, and what it leaves: a server without a session. */
const idle = Effect.fnUntraced(function*(world: World, slipway: Slipway["Service"]) {
  const { agent } = yield* slipway.deploy(lasting(world, { allowDuplicate: true }))
  const pid = serverPid(world)
  yield* slipway.stop([agent.id], { grace: "100 millis" })
  return { id: agent.id, pid }
})

/** The same, by somebody for whom the home is not idle yet. */
const leftIdle = (world: World) =>
  Effect.scoped(Effect.flatMap(open(world, { idleAfter: tenMinutes }), (slipway) => idle(world, slipway)))

const reap = (slipway: Slipway["Service"]) => Effect.flatMap(slipway.reapPlan, (plan) => slipway.reap(plan))

const looks: ReadonlyArray<
  readonly [name: string, look: (slipway: Slipway["Service"]) => Effect.Effect<unknown, unknown, Scope.Scope>]
> = [
  ["ps", (slipway) => slipway.agents({ activeOnly: true })],
  ["a reap", reap],
  ["a prune", (slipway) => slipway.prune({ dryRun: true })],
  [
    "a stop of what has ended",
    (slipway) => Effect.flatMap(slipway.agents(), (all) => slipway.stop(all.map(({ id }) => id)))
  ]
]

describe("the server of an idle home", () => {
  for (const [name, look] of looks) {
    guarantee(
      `ends by ${name}, with its socket, and the next deployment has one of its own`,
      (world) =>
        Effect.gen(function*() {
          const first = yield* leftIdle(world)
          assert.isTrue(isAlive(first.pid))
          const slipway = yield* open(world)
          yield* look(slipway)
          assert.isFalse(isAlive(first.pid))
          assert.isFalse(Fs.existsSync(world.socket))
          const second = yield* idle(world, slipway)
          assert.notStrictEqual(second.pid, first.pid)
          return [first.id, second.id]
        })
    )
  }

  guarantee("stays for ten minutes after the last agent, and after its own start", (world) =>
    Effect.gen(function*() {
      const { id, pid } = yield* leftIdle(world)
      const slipway = yield* open(world, { idleAfter: tenMinutes })
      yield* reap(slipway)
      yield* slipway.agents()
      assert.isTrue(isAlive(pid))
      // Whatever happened, happened long ago; the server was started just now.
      const database = new DatabaseSync(Path.join(world.home, "registry.db"))
      database.exec("UPDATE events SET at = '2026-01-01T00:00:00.000Z'")
      database.close()
      yield* slipway.agents()
      yield* Effect.scoped(Effect.flatMap(open(world, { idleAfter: tenMinutes }), reap))
      assert.isTrue(isAlive(pid))
      return [id]
    }))

  guarantee(
    "stays as long as any agent is active, also one that is only being deployed",
    (world) =>
      Effect.gen(function*() {
        const { id: former, pid } = yield* leftIdle(world)
        const slipway = yield* open(world, { idleAfter: tenMinutes })
        const looker = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world), {
          onStep: (step) =>
            beforeAdmission.has(step) ? Effect.void : Effect.orDie(Effect.andThen(looker.agents(), reap(looker)))
        })
        yield* looker.agents()
        assert.strictEqual(serverPid(world), pid)
        yield* slipway.stop([agent.id], { grace: "100 millis" })
        return [former, agent.id]
      })
  )

  guarantee(
    "is ended while no deployment is admitted: one that comes meanwhile waits, and has another server",
    (world) =>
      Effect.gen(function*() {
        const { id: former } = yield* leftIdle(world)
        const slipway = yield* open(world, { idleAfter: tenMinutes })
        const steps: Array<string> = []
        let seen: ReadonlyArray<string> = []
        let deploying: Fiber.Fiber<Deployment, DeployError> | undefined
        const whileAsked = Effect.gen(function*() {
          deploying = yield* Effect.forkDetach(
            slipway.deploy(lasting(world), { onStep: (step) => Effect.sync(() => void steps.push(step)) })
          )
          yield* eventually(() => steps.includes("admission"))
          // Time in which it would go on if it could.
          yield* Effect.timeoutOption(eventually(() => steps.at(-1) !== "admission"), "200 millis")
          seen = [...steps]
        })
        const looker = yield* open(world, {
          around: {
            tmux: (tmux) => ({
              ...tmux,
              server: (socket) => {
                const server = tmux.server(socket)
                return { ...server, endIdle: (idle) => Effect.andThen(whileAsked, server.endIdle(idle)) }
              }
            })
          }
        })
        yield* looker.agents()
        assert.strictEqual(seen.at(-1), "admission")
        const { agent } = yield* Fiber.join(deploying ?? assert.fail("tmux was not asked"))
        assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "running")
        yield* slipway.stop([agent.id], { grace: "100 millis" })
        return [former, agent.id]
      })
  )

  guarantee("is lost by no deployment, however many look while others deploy", (world) =>
    Effect.gen(function*() {
      const ids: Array<string> = []
      const servers = new Set<number>()
      const slipway = yield* open(world, { idleAfter: tenMinutes })
      const one = Effect.gen(function*() {
        const { agent } = yield* slipway.deploy(lasting(world, { allowDuplicate: true }))
        ids.push(agent.id)
        servers.add(serverPid(world))
        yield* slipway.stop([agent.id], { grace: "50 millis" })
      })
      // Every fourth round the next deployments come when the server has just ended.
      const deploying = Effect.forEach(Array.from({ length: 12 }, (_, round) => round), (round) =>
        Effect.andThen(
          Effect.all([one, one], { concurrency: 2 }),
          round % 4 === 3 ? eventually(() => !Fs.existsSync(world.socket)) : Effect.void
        ))
      const looking = Effect.flatMap(open(world), (looker) => Effect.forever(looker.agents({ activeOnly: true })))
      yield* Effect.raceFirst(
        deploying,
        Effect.all([looking, looking], { concurrency: 2 })
      )
      assert.lengthOf(ids, 24)
      // Otherwise nothing was tried.
      assert.isAbove(servers.size, 1)
      return ids
    }), 120_000)

  guarantee(
    "stays while an orchestrator's client is attached to it, and ends when it has left",
    (world) =>
      Effect.gen(function*() {
        const looker = yield* open(world)
        const { id, pid } = yield* Effect.scoped(Effect.gen(function*() {
          const orchestrator = yield* open(world, { transport: "control" })
          const left = yield* idle(world, orchestrator)
          yield* orchestrator.agents()
          yield* reap(looker)
          assert.isTrue(isAlive(left.pid))
          return left
        }))
        // The anchor goes with its client, a moment later.
        yield* eventually(() => tmux(world, "list-sessions").stdout === "")
        yield* looker.agents()
        assert.isFalse(isAlive(pid))
        return [id]
      })
  )

  guarantee("stays where its socket was named by a caller, since others may use it", (world) =>
    Effect.gen(function*() {
      const elsewhere = { ...world, socket: Path.join(world.root, "t.sock") }
      yield* Effect.addFinalizer(() => Effect.sync(() => tmux(elsewhere, "kill-server")))
      const slipway = yield* open(world, { socket: elsewhere.socket })
      const { id, pid } = yield* idle(elsewhere, slipway)
      yield* reap(slipway)
      assert.isTrue(isAlive(pid))
      return [id]
    }))

  guarantee("that hangs holds up nobody for long, and does not end when it goes on", (world) =>
    Effect.gen(function*() {
      const { id, pid } = yield* leftIdle(world)
      const looker = yield* open(world)
      const slipway = yield* open(world, { idleAfter: tenMinutes })
      process.kill(pid, "SIGSTOP")
      yield* Effect.addFinalizer(() => Effect.sync(() => isAlive(pid) && process.kill(pid, "SIGCONT")))
      yield* eventually(() => /\) T/.test(Fs.readFileSync(`/proc/${pid}/stat`, "utf8")))
      const looking = yield* Effect.forkChild(looker.agents(), { startImmediately: true })
      const [took] = yield* Effect.timed(Effect.andThen(Fiber.join(looking), slipway.setLimits({ maxActive: 9 })))
      assert.isBelow(Duration.toMillis(took), 5_000)
      process.kill(pid, "SIGCONT")
      // What it was asked in vain comes before this.
      assert.strictEqual(serverPid(world), pid)
      const { agent } = yield* slipway.deploy(lasting(world))
      assert.strictEqual(serverPid(world), pid)
      yield* slipway.stop([agent.id], { grace: "100 millis" })
      return [id, agent.id]
    }))

  guarantee("costs no call of tmux where the home is not idle, or has no server", (world) =>
    Effect.gen(function*() {
      let calls = 0
      const around: Scenario.Around = {
        tmux: (tmux) => ({
          ...tmux,
          server: (socket) => {
            const server = tmux.server(socket)
            const counted = <A, E>(effect: Effect.Effect<A, E>) => Effect.andThen(Effect.sync(() => calls++), effect)
            return { ...server, pid: counted(server.pid), endIdle: (idle) => counted(server.endIdle(idle)) }
          }
        })
      }
      const slipway = yield* open(world, { around })
      yield* slipway.agents()
      yield* reap(slipway)
      const { agent } = yield* slipway.deploy(lasting(world))
      yield* slipway.agents()
      assert.strictEqual(calls, 0)
      yield* slipway.stop([agent.id], { grace: "100 millis" })
      assert.strictEqual(calls, 1)
      yield* slipway.agents()
      assert.strictEqual(calls, 1)
      return [agent.id]
    }))
})

describe("a server that has lost its socket", () => {
  const found = (slipway: Slipway["Service"]) =>
    Effect.map(slipway.doctor, ({ findings, healthy }) => ({
      healthy,
      servers: findings.filter(({ kind }) => kind === "tmux-server")
    }))

  guarantee(
    "is named by the doctor, ended by a reap when the home is idle, and not before",
    (world) =>
      Effect.gen(function*() {
        const { id, pid } = yield* leftIdle(world)
        const slipway = yield* open(world, { idleAfter: tenMinutes })
        assert.deepStrictEqual(yield* found(slipway), { healthy: true, servers: [] })
        Fs.rmSync(world.socket)
        const { healthy, servers: [server] } = yield* found(slipway)
        assert.isFalse(healthy)
        assert.include(server?.evidence, `process ${pid}`)
        assert.include(server?.recommendation, `kill -USR1 ${pid}`)
        yield* reap(slipway)
        assert.isTrue(isAlive(pid))
        const later = yield* open(world)
        yield* reap(later)
        yield* eventually(() => !isAlive(pid))
        assert.deepStrictEqual(yield* found(later), { healthy: true, servers: [] })
        return [id]
      })
  )

  guarantee(
    "is left alone while an agent lives in it, and what the doctor recommends brings it back",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        const pid = serverPid(world)
        Fs.rmSync(world.socket)
        yield* reap(slipway)
        assert.lengthOf((yield* found(slipway)).servers, 1)
        assert.isTrue(isAlive(pid))
        process.kill(pid, "SIGUSR1")
        yield* eventually(() => serverPid(world) === pid)
        assert.deepStrictEqual(yield* found(slipway), { healthy: true, servers: [] })
        assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "running")
        yield* slipway.stop([agent.id], { grace: "100 millis" })
        return [agent.id]
      })
  )

  guarantee(
    "is told from the one that has the socket by now, and only that one stays",
    (world) =>
      Effect.gen(function*() {
        const { id, pid } = yield* leftIdle(world)
        Fs.rmSync(world.socket)
        const slipway = yield* open(world, { idleAfter: tenMinutes })
        const { agent } = yield* slipway.deploy(lasting(world))
        const successor = serverPid(world)
        assert.notStrictEqual(successor, pid)
        const { servers } = yield* found(slipway)
        assert.lengthOf(servers, 1)
        assert.include(servers[0]?.evidence, `process ${pid}`)
        assert.notInclude(servers[0]?.recommendation, "USR1")
        yield* slipway.stop([agent.id], { grace: "100 millis" })
        // A person's session keeps it from being ended with its socket.
        tmux(world, "new-session", "-d", "-s", "of-a-person", "--", "sh", "-c", "exec sleep 1000")
        yield* reap(yield* open(world))
        yield* eventually(() => !isAlive(pid))
        assert.strictEqual(serverPid(world), successor)
        tmux(world, "kill-session", "-t", "of-a-person")
        return [id, agent.id]
      })
  )

  guarantee("of anything else than this home is never touched", (world) =>
    Effect.gen(function*() {
      const other = { ...world, socket: Path.join(world.root, "other.sock") }
      const similar = { ...world, socket: `${world.socket}2` }
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          for (const pid of pids) if (isAlive(pid)) process.kill(pid, "SIGTERM")
        })
      )
      const { id, pid } = yield* leftIdle(world)
      const pids = [other, similar].map((at) => {
        tmux(
          at,
          "set-option",
          "-s",
          "exit-empty",
          "off",
          ";",
          "start-server",
          ";",
          "set-option",
          "-s",
          "@x",
          world.socket
        )
        const pid = serverPid(at)
        Fs.rmSync(at.socket)
        return pid
      })
      const slipway = yield* open(world)
      yield* reap(slipway)
      assert.isFalse(isAlive(pid))
      assert.deepStrictEqual(pids.map(isAlive), [true, true])
      assert.deepStrictEqual((yield* found(slipway)).servers, [])
      return [id]
    }))
})
