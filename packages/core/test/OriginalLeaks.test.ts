import { NodeChildProcessSpawner, NodeFileSystem, NodePath } from "@effect/platform-node"
import { assert, describe } from "@effect/vitest"
import { TmuxProcess } from "@slipway/tmux"
import { Tmux } from "@slipway/tmux"
import { Context, Deferred, type Duration, Effect, Exit, Fiber, Layer, Result } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { isFinal } from "../src/agent/Agent.ts"
import { eventually } from "./processes.ts"
import {
  agreed,
  fakeTmux,
  finished,
  guarantee,
  lasting,
  numberIn,
  open,
  openAround,
  reasonOf,
  request,
  staying,
  written
} from "./support/Scenario.ts"
import * as World from "./support/World.ts"

/** Has the registry's file refuse a write, by SQLite itself, until the answer is called. */
const refusing = (world: World.World, name: string, trigger: string) => {
  const execute = (sql: string) => {
    const db = new DatabaseSync(Path.join(world.home, "registry.db"), { timeout: 5000 })
    db.exec(sql)
    db.close()
  }
  execute(`CREATE TRIGGER ${name} ${trigger} BEGIN SELECT RAISE(ABORT, 'injected'); END`)
  return () => execute(`DROP TRIGGER ${name}`)
}

const alive = (pid: number) =>
  Fs.existsSync(`/proc/${pid}`) && !Fs.readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z")

describe("a failed deployment", () => {
  for (const bytes of [20_000, 200_000]) {
    guarantee(`leaves no prompt file, however long the prompt is (${bytes} bytes)`, (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const count = Path.join(world.root, "count")
        const error = yield* Effect.flip(
          slipway.deploy(request(world, `wc -c > ${count}; exit 1`, { prompt: "x".repeat(bytes) }))
        )
        reasonOf(error, "AgentExitedEarly")
        assert.strictEqual(Fs.readFileSync(count, "utf8").trim(), String(bytes), "the agent read all of it")
      }))
  }

  guarantee("leaves no prompt file when the session can't be created", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world, { tmux: fakeTmux(world, `[ "$new" ] && exit 1`) })
      const error = yield* Effect.flip(slipway.deploy(lasting(world, { prompt: "x".repeat(20_000) })))
      reasonOf(error, "AgentSessionFailed")
    }))

  guarantee(
    "says why an agent died early: exit code, and the end of its standard error",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const noise = "i=0; while [ $i -lt 2000 ]; do echo noise $i >&2; i=$((i+1)); done"
        const error = yield* Effect.flip(slipway.deploy(request(world, `${noise}; echo no credentials >&2; exit 41`)))
        const reason = reasonOf(error, "AgentExitedEarly")
        assert.strictEqual(reason.code, 41)
        assert.strictEqual(reason.signal, null)
        assert.isTrue(reason.stderrTail.endsWith("noise 1999\nno credentials\n"))
        assert.isAtMost(reason.stderrTail.length, 4096)
        assert.include(error.message, "41")
        assert.include(error.message, "no credentials")
        const [row] = yield* slipway.agents()
        assert.isTrue(row?.tail?.stderr.endsWith("no credentials\n"), "the tail outlives the files")
      })
  )

  guarantee("leaves nothing when the registry refuses the insert", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      refusing(world, "refuse", "BEFORE INSERT ON agents")
      const error = yield* Effect.flip(slipway.deploy(request(world, "echo ran > ran; exec sleep 1000")))
      assert.strictEqual(error.step, "admission")
      reasonOf(error, "RegistryUnavailable")
      assert.deepStrictEqual(World.rows(world), [])
      assert.isFalse(Fs.existsSync(Path.join(world.project, "ran")))
    }))

  guarantee(
    "after the insert leaves no row running, and neither a slot nor a type taken",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const task = yield* slipway.createTask({
          description: "one at a time",
          project: world.project,
          maxConcurrent: 1
        })
        const drop = refusing(world, "refuse", "BEFORE UPDATE ON agents WHEN NEW.status = 'running'")
        const error = yield* Effect.flip(slipway.deploy(lasting(world, { task: task.id })))
        assert.strictEqual(error.step, "commit")
        assert.deepStrictEqual(World.leftovers(world), [])
        assert.deepStrictEqual(yield* slipway.taskCounts(task.id), { total: 0, active: 0 })
        drop()
        const { agent } = yield* slipway.deploy(lasting(world, { task: task.id }))
        yield* finished(slipway, [agent.id])
        return [agent.id]
      })
  )

  guarantee("leaves nothing when it is interrupted, at whichever step", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      for (const at of ["preflight", "admission", "agent-directory", "session", "readiness", "task-entry", "commit"]) {
        const reached = yield* Deferred.make<void>()
        const fiber = yield* Effect.forkChild(slipway.deploy(lasting(world), {
          onStep: (step) =>
            step === at ? Effect.andThen(Deferred.succeed(reached, undefined), Effect.yieldNow) : Effect.void
        }))
        yield* Deferred.await(reached)
        yield* Fiber.interrupt(fiber)
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)), at)
        assert.deepStrictEqual(World.leftovers(world), [], at)
      }
    }))
})

describe("names", () => {
  for (const type of ["a.b", "a:b", "a b", "-a", "=a", "A", "a#{pid}", "a;b", "", "é", "a\nb", "x".repeat(41)]) {
    guarantee(`the type ${JSON.stringify(type)} is refused before anything is made`, (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const error = yield* Effect.flip(slipway.deploy(lasting(world, { type })))
        assert.strictEqual(error.step, "request")
        reasonOf(error, "InvalidRequest")
        assert.deepStrictEqual(World.rows(world), [])
        assert.isFalse(Fs.existsSync(Path.join(world.project, ".slipway")))
      }))
  }

  guarantee(
    "a session has the name that was asked for, and is found and ended by it",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world, { type: "a_b-c9" }))
        assert.strictEqual(agent.plan.session, `agent_${agent.id}`)
        assert.deepStrictEqual(World.sessions(world), [agent.plan.session])
        yield* finished(slipway, [agent.id])
        assert.deepStrictEqual(World.sessions(world), [])
        return [agent.id]
      })
  )

  guarantee(
    "an agent whose name begins as another's is neither seen nor ended in its place",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const first = (yield* slipway.deploy(lasting(world, { type: "a" }))).agent
        // A type may look like an id, so that this session's name begins with all of the other's.
        const second = (yield* slipway.deploy(lasting(world, { type: first.id }))).agent
        assert.isTrue(second.plan.session.startsWith(first.plan.session))
        yield* finished(slipway, [first.id])
        assert.deepStrictEqual(World.sessions(world), [second.plan.session])
        assert.strictEqual((yield* slipway.agent(first.id)).state._tag, "stopped")
        yield* finished(slipway, [first.id])
        assert.deepStrictEqual(World.sessions(world), [second.plan.session])
        assert.strictEqual((yield* slipway.agent(second.id)).state._tag, "running")
        yield* finished(slipway, [second.id])
        return [first.id, second.id]
      })
  )
})

describe("limits", () => {
  guarantee(
    "are kept by any number of deployments at once: the limit of them commits, the others are refused",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const task = yield* slipway.createTask({ description: "five", project: world.project, maxConcurrent: 5 })
        const results = yield* Effect.forEach(
          Array.from({ length: 14 }, (_, index) => `worker${index}`),
          (type) => Effect.result(slipway.deploy(lasting(world, { task: task.id, type }))),
          { concurrency: "unbounded" }
        )
        const deployed = results.filter(Result.isSuccess).map(({ success }) => success.agent.id)
        assert.lengthOf(deployed, 5)
        for (const refused of results.filter(Result.isFailure)) {
          assert.strictEqual(refused.failure.step, "admission")
          reasonOf(refused.failure, "TooManyActive")
          assert.deepStrictEqual(refused.failure.cleanup.releases.filter(({ made }) => made), [])
        }
        assert.lengthOf(World.sessions(world), 5)
        yield* finished(slipway, deployed)
        return deployed
      })
  )

  guarantee("of a type are kept likewise: one commits", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const results = yield* Effect.forEach(
        Array.from({ length: 8 }),
        () => Effect.result(slipway.deploy(lasting(world))),
        { concurrency: "unbounded" }
      )
      const deployed = results.filter(Result.isSuccess).map(({ success }) => success.agent.id)
      assert.lengthOf(deployed, 1)
      for (const refused of results.filter(Result.isFailure)) {
        assert.deepStrictEqual(reasonOf(refused.failure, "DuplicateType").existing, deployed[0])
      }
      yield* finished(slipway, deployed)
      return deployed
    }))

  guarantee("of depth are enforced, and an agent that has ended deploys nothing", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const task = yield* slipway.createTask({ description: "shallow", project: world.project, maxDepth: 2 })
      const deploy = (type: string, parent?: string) =>
        slipway.deploy(lasting(world, { task: task.id, type, ...(parent === undefined ? {} : { parent }) }))
      const top = (yield* deploy("top")).agent
      const below = (yield* deploy("below", top.id)).agent
      assert.deepStrictEqual([top.depth, below.depth], [1, 2])
      const error = yield* Effect.flip(deploy("deeper", below.id))
      assert.deepInclude(reasonOf(error, "DepthExceeded"), { depth: 3, maxDepth: 2 })
      yield* finished(slipway, [below.id])
      reasonOf(yield* Effect.flip(deploy("late", below.id)), "ParentNotRunning")
      yield* finished(slipway, [top.id])
      return [top.id, below.id]
    }))
})

describe("the end of an agent", () => {
  guarantee(
    "is proven after a stop, even if all of the agent's processes ignore TERM and HUP",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script =
          "trap '' TERM HUP INT; sleep 1000 & setsid sleep 1000 & echo $$ > pid; echo up; while :; do sleep 1; done"
        const { agent } = yield* slipway.deploy(request(world, script, { ready: "output", readyWithin: 20_000 }))
        const pid = yield* numberIn(Path.join(world.project, "pid"))
        assert.isAtLeast(World.members(world).length, 4)
        const [stopped] = yield* slipway.stop([agent.id], { grace: "200 millis" })
        assert.strictEqual(stopped?.state._tag, "stopped")
        assert.isFalse(alive(pid))
        assert.deepStrictEqual(World.members(world), [])
        return [agent.id]
      })
  )

  const ownTmux = (world: World.World, executable: string, timeout: Duration.Input) =>
    Effect.map(
      Layer.build(
        TmuxProcess.layer({ executable, timeout, environment: World.caller(world).environment }).pipe(
          Layer.provide(NodeChildProcessSpawner.layer),
          Layer.provide([NodeFileSystem.layer, NodePath.layer])
        )
      ),
      Context.get(Tmux)
    )

  const silences = {
    "hangs": `[ "$1" = -V ] || exec sleep 1000`,
    "fails": `[ "$1" = -V ] || { echo "error connecting (Permission denied)" >&2; exit 1; }`,
    "says what nobody understands": `[ "$1" = -V ] || { echo "all is well"; exit 0; }`
  }
  for (const [how, script] of Object.entries(silences)) {
    guarantee(
      `is not concluded from a tmux that ${how}: the row stays as it is until tmux answers`,
      (world) =>
        Effect.gen(function*() {
          const silent = yield* ownTmux(world, fakeTmux(world, script), "300 millis")
          const slipway = yield* open(world)
          const { agent } = yield* slipway.deploy(request(world, "echo $$ > pid; echo up; exec sleep 1000", {
            ready: "output",
            readyWithin: 20_000
          }))
          const pid = yield* numberIn(Path.join(world.project, "pid"))
          const launcher = agent.running?.launcher?.pid ?? assert.fail("no launcher")
          process.kill(launcher, "SIGKILL")
          process.kill(pid, "SIGKILL")
          yield* eventually(() => !alive(launcher) && !alive(pid))
          const blind = yield* openAround(world, { tmux: () => silent })
          const [unknown] = yield* blind.agents()
          assert.strictEqual(unknown?.state._tag, "running")
          assert.deepStrictEqual(World.rows(world).map(({ holdsSlot, status }) => ({ holdsSlot, status })), [
            { holdsSlot: true, status: "running" }
          ])
          assert.strictEqual((yield* slipway.agent(agent.id)).state._tag, "lost")
          yield* agreed(slipway, agent.id)
          return [agent.id]
        })
    )
  }
})

describe("the caller's shell and modes", () => {
  guarantee(
    "which shell the caller logs in with makes no difference, and it is never run",
    (world) =>
      Effect.gen(function*() {
        const shell = Path.join(world.root, "fish")
        Fs.writeFileSync(shell, `#!/bin/sh\necho "$@" >> ${world.root}/shell.ran\nexit 1\n`, { mode: 0o755 })
        const slipway = yield* open(world, { caller: World.caller(world, { SHELL: shell }) })
        const { agent } = yield* slipway.deploy(request(world, `echo "$SHELL" > shell; ${staying}`, {
          ready: "output",
          readyWithin: 20_000
        }))
        assert.strictEqual(yield* written(Path.join(world.project, "shell")), `${shell}\n`)
        yield* finished(slipway, [agent.id])
        assert.isFalse(Fs.existsSync(Path.join(world.root, "shell.ran")))
        return [agent.id]
      })
  )

  guarantee(
    "all that Slipway writes is private under any umask, and the agent has the caller's umask",
    (world) =>
      Effect.gen(function*() {
        yield* Effect.acquireRelease(
          Effect.sync(() => process.umask(0)),
          (before) => Effect.sync(() => process.umask(before))
        )
        const slipway = yield* open(world, { caller: { ...World.caller(world), umask: 0 } })
        const { agent } = yield* slipway.deploy(
          request(world, `: > made; ${staying}`, { ready: "output", readyWithin: 20_000 })
        )
        yield* finished(slipway, [agent.id])
        const seen: Record<string, string> = {}
        const walk = (path: string) => {
          const stat = Fs.lstatSync(path)
          if (stat.isFile() || stat.isDirectory()) {
            seen[Path.relative(world.root, path)] = (stat.mode & 0o777).toString(8)
          }
          if (stat.isDirectory()) Fs.readdirSync(path).forEach((name) => walk(Path.join(path, name)))
        }
        walk(world.home)
        walk(Path.join(world.project, ".slipway"))
        assert.isAbove(Object.keys(seen).length, 10)
        const isDirectory = (path: string) => Fs.statSync(Path.join(world.root, path)).isDirectory()
        for (const [path, mode] of Object.entries(seen)) {
          assert.strictEqual(
            mode,
            isDirectory(path) ? "700" : "600",
            path
          )
        }
        assert.strictEqual((Fs.statSync(Path.join(world.project, "made")).mode & 0o777).toString(8), "666")
        assert.isTrue(isFinal((yield* agreed(slipway, agent.id)).state))
        return [agent.id]
      })
  )
})
