import { assert, describe } from "@effect/vitest"
import {
  type DeployInput,
  HomeCopied,
  HomeUnusable,
  Rebuild,
  type RebuildRequest,
  RegistryHealthy,
  RegistryInUse,
  RegistryTooNew,
  Slipway
} from "@slipway/core"
import { Context, Deferred, Effect, Fiber, Layer, Schema, type Scope, Stream } from "effect"
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { AgentId } from "../src/agent/Agent.ts"
import { Plan, worktreeOf } from "../src/agent/Plan.ts"
import { TaskId } from "../src/agent/Task.ts"
import { Home } from "../src/home/Home.ts"
import { holdFile } from "../src/home/ReaperLock.ts"
import { FileError, Files } from "../src/machine/Files.ts"
import { Host } from "../src/machine/Host.ts"
import { Ledger } from "../src/registry/Ledger.ts"
import * as SqliteRegistry from "../src/registry/sqlite/SqliteRegistry.ts"
import { machine } from "../src/Services.ts"
import { atOnce, runModule, runText } from "./children.ts"
import { portLease } from "./support/PortLease.ts"
import { editRow } from "./support/Proof.ts"
import * as Repository from "./support/Repository.ts"
import * as Scenario from "./support/Scenario.ts"
import { guarantee, lasting, reasonOf, request } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

type World = World.World

const rebuild = (world: World, request?: RebuildRequest) =>
  Effect.flatMap(Rebuild, ({ run }) => run(request)).pipe(
    Effect.provide(Rebuild.layer({ directory: world.home, caller: World.caller(world) }))
  )

const rebuilt = (world: World) =>
  Effect.suspend(() => {
    Fs.rmSync(registryOf(world))
    return rebuild(world)
  })

const refused = (world: World, request?: RebuildRequest) => Effect.flip(rebuild(world, request))

/** Slipway on the world, with the registry closed again afterwards. */
const using = <A, E>(world: World, use: (slipway: Slipway["Service"]) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.scoped(Effect.flatMap(Scenario.open(world), use))

const registryOf = (world: World) => Path.join(world.home, "registry.db")

const onDatabase = <A>(world: World, use: (database: DatabaseSync) => A): A => {
  const database = new DatabaseSync(registryOf(world))
  try {
    return use(database)
  } finally {
    database.close()
  }
}

const decodePlan = Schema.decodeUnknownSync(Plan)

/** The plan of an agent as its row has it, without a reconciliation of the row. */
const planOf = (world: World, id: string): Plan =>
  decodePlan(
    onDatabase(
      world,
      (database) =>
        JSON.parse(String(database.prepare("SELECT document FROM agents WHERE id = ?").get(id)?.["document"])).plan
    )
  )

const overwrite = (world: World, at: number, bytes: Uint8Array) => {
  const file = Fs.openSync(registryOf(world), "r+")
  Fs.writeSync(file, bytes, 0, bytes.length, at)
  Fs.closeSync(file)
}

const noise = (bytes: number) => Buffer.alloc(bytes, 0x5a)

/** Damages a page that an index begins with, so that rows can still be read. */
const breakIndex = (world: World, name: string) => {
  const page = onDatabase(
    world,
    (database) => Number(database.prepare("SELECT rootpage FROM sqlite_master WHERE name = ?").get(name)?.["rootpage"])
  )
  overwrite(world, (page - 1) * 4096, noise(4096))
}

const damages: Record<string, readonly [tag: "RegistryCorrupt" | "RegistryReplaced", damage: (world: World) => void]> =
  {
    "whose pages were overwritten": ["RegistryCorrupt", (world) => {
      overwrite(world, 4096, noise(Fs.statSync(registryOf(world)).size - 4096))
    }],
    "that was cut": ["RegistryCorrupt", (world) => {
      Fs.truncateSync(registryOf(world), Fs.statSync(registryOf(world)).size - 4096 * 3)
    }],
    "with garbage for a header": ["RegistryCorrupt", (world) => overwrite(world, 0, noise(100))],
    "with an index that is damaged": ["RegistryCorrupt", (world) => breakIndex(world, "sqlite_autoindex_agents_1")],
    "that is gone": ["RegistryReplaced", (world) => Fs.rmSync(registryOf(world))],
    "that is empty": ["RegistryReplaced", (world) => Fs.truncateSync(registryOf(world), 0)],
    "that was restored from a copy": ["RegistryReplaced", (world) => {
      Fs.copyFileSync(registryOf(world), `${registryOf(world)}.copy`)
      Fs.renameSync(`${registryOf(world)}.copy`, registryOf(world))
    }]
  }

/** An agent of each kind of end, one that runs, and a deployment whose deployer was killed. */
const populate = Effect.fnUntraced(function*(world: World) {
  const made = yield* using(world, (slipway) =>
    Effect.gen(function*() {
      const { id: task } = yield* slipway.createTask({ description: "work", project: world.project, maxConcurrent: 2 })
      const of = (more: Partial<DeployInput>) => ({ ...more, task })
      const exited = (yield* slipway.deploy(request(world, "exit 0", of({ type: "exited", ready: "none" })))).agent.id
      yield* slipway.wait(exited)
      const stopped = (yield* slipway.deploy(lasting(world, of({ type: "stopped" })))).agent.id
      yield* Scenario.finished(slipway, [stopped])
      const running = (yield* slipway.deploy(lasting(world, of({ type: "running", key: "once" })))).agent.id
      return { task, exited, stopped, running }
    }))
  const deployer = yield* runModule("support/deployer.ts", [world.root, "deploy", "exec sleep 1000", "output"])
  yield* deployer.says("step readiness")
  deployer.process.kill("SIGKILL")
  yield* Effect.ignoreCause(deployer.ended)
  const dead = World.rows(world).find(({ status }) => status === "deploying")?.id ?? assert.fail("no dead deployment")
  return { ...made, dead }
})

/** Every file of the home by name and content. */
const contents = (world: World) =>
  Fs.readdirSync(world.home, { recursive: true, encoding: "utf8" }).toSorted().map((name) => {
    const path = Path.join(world.home, name)
    const file = Fs.lstatSync(path)
    const digest = file.isFile() ? createHash("sha256").update(Fs.readFileSync(path)).digest("hex") : ""
    // tmux itself changes the mode of its socket when it is talked to.
    return `${name} ${file.ino} ${file.isSocket() ? "" : file.mode.toString(8)} ${digest}`
  })

const setAsides = (world: World) => Fs.readdirSync(world.home).filter((name) => name.includes(".corrupt-"))

const statuses = (world: World) => Object.fromEntries(World.rows(world).map(({ id, status }) => [id, status]))

/** What Slipway says to the question for an agent that there is not: anything else is a refusal of the registry. */
const asked = (world: World) =>
  Effect.flip(using(world, (slipway) => slipway.agent(AgentId.make("nobody-260102-030405-0a1b2c"))))

/** Slipway refuses the registry with this error, which names the command. */
const isRefused = (world: World, tag: string) =>
  Effect.map(asked(world), (error) => {
    assert.strictEqual(error._tag, tag)
    assert.include(error.message, "slipway rebuild")
  })

/** All is as it should be, and stays so: what runs is counted and can be stopped, what died is rolled back. */
const isWhole = Effect.fnUntraced(function*(world: World, made: Effect.Success<ReturnType<typeof populate>>) {
  return yield* using(world, (slipway) =>
    Effect.gen(function*() {
      assert.strictEqual((yield* slipway.agent(made.running)).state._tag, "running")
      assert.deepInclude((yield* slipway.wait(made.exited)).state, { _tag: "exited", code: 0, outcome: "success" })
      assert.deepInclude((yield* slipway.wait(made.stopped)).state, { _tag: "stopped", by: "request" })
      for (const id of [made.exited, made.stopped, made.running]) yield* Scenario.agreed(slipway, id)
      assert.match((yield* slipway.events(made.running)).map(({ detail }) => detail).join(), /^rebuilt from /)

      const reaped = yield* slipway.reap(yield* slipway.reapPlan)
      assert.deepStrictEqual(reaped.map(({ item, outcome, status }) => [item.subject, outcome, status]), [
        [made.dead, "done", "rolled-back"]
      ])
      assert.deepStrictEqual((yield* slipway.doctor).findings, [])

      const extra = (yield* slipway.deploy(lasting(world, { task: made.task, type: "extra" }))).agent.id
      const full = yield* Effect.flip(slipway.deploy(lasting(world, { task: made.task, type: "more" })))
      reasonOf(full, "TooManyActive")
      yield* Scenario.finished(slipway, [made.running, extra])
      assert.deepStrictEqual((yield* slipway.doctor).findings, [])
      return [made.exited, made.stopped, made.running, extra]
    }))
})

/** An agent that has exited and is settled. */
const ended = (world: World) =>
  using(world, (slipway) =>
    Effect.gen(function*() {
      const { agent } = yield* slipway.deploy(request(world, "echo result", { ready: "none" }))
      return yield* slipway.wait(agent.id)
    }))

/** The machine's services, with these of its operations on files changed. */
const machineWith = (world: World, around: (files: Files["Service"]) => Partial<Files["Service"]>) => {
  const services = machine({ caller: World.caller(world) })
  const changed = Layer.effect(Files, Effect.map(Files, (files) => Files.of({ ...files, ...around(files) })))
  return changed.pipe(Layer.provideMerge(services))
}

const reopened = (world: World, around: (files: Files["Service"]) => Partial<Files["Service"]> = () => ({})) =>
  Home.reopen({ directory: world.home }).pipe(Layer.provideMerge(machineWith(world, around)))

describe("a registry", () => {
  for (const [name, [tag, damage]] of Object.entries(damages)) {
    guarantee(`${name} is refused, and rebuilt whole`, (world) =>
      Effect.gen(function*() {
        const made = yield* populate(world)
        // What a killed process left in the log would mend some of the damage.
        onDatabase(world, (database) => database.exec("PRAGMA wal_checkpoint(TRUNCATE)"))
        damage(world)
        yield* isRefused(world, tag)
        const before = Fs.existsSync(registryOf(world)) ? Fs.readFileSync(registryOf(world)) : undefined
        const rebuilt = yield* rebuild(world)
        assert.deepStrictEqual(rebuilt.problems, [])
        assert.sameMembers(
          rebuilt.agents.map(({ agent }) => agent.id),
          [made.exited, made.stopped, made.running, made.dead]
        )
        if (before === undefined) assert.isNull(rebuilt.setAside)
        else assert.isTrue(Fs.readFileSync(rebuilt.setAside ?? "").equals(before), "the old one keeps its bytes")
        assert.instanceOf(yield* refused(world), RegistryHealthy)
        return yield* isWhole(world, made)
      }), 60_000)
  }

  guarantee(
    "is set aside with the log that a killed process left, so that no other registry is read with it",
    (world) =>
      Effect.gen(function*() {
        const made = yield* populate(world)
        const log = Fs.readFileSync(`${registryOf(world)}-wal`)
        assert.isAbove(log.length, 0)
        overwrite(world, 0, noise(100))
        const { agents, setAside } = yield* rebuild(world)
        assert.lengthOf(agents, 4)
        assert.isTrue(Fs.readFileSync(`${setAside}-wal`).equals(log))
        assert.isFalse(Fs.existsSync(`${registryOf(world)}-wal`))
        return yield* isWhole(world, made)
      }),
    60_000
  )

  guarantee("keeps what its entries do not tell where rows can still be read", (world) =>
    Effect.gen(function*() {
      const agent = yield* using(world, (slipway) =>
        Effect.map(slipway.deploy(lasting(world, { key: "once", maxRun: "1 hour" })), ({ agent }) => agent))
      breakIndex(world, "sqlite_autoindex_agents_1")
      const rebuilt = yield* rebuild(world)
      assert.deepStrictEqual(rebuilt.agents, [{ agent, source: "row" }])
      yield* using(world, (slipway) =>
        Effect.gen(function*() {
          const again = yield* slipway.deploy(lasting(world, { key: "once", maxRun: "1 hour" }))
          assert.deepStrictEqual([again.agent.id, again.reused], [agent.id, true])
          yield* Scenario.finished(slipway, [agent.id])
        }))
      return [agent.id]
    }))

  guarantee(
    "never has an agent rolled back that has an entry, whatever its row says",
    (world) =>
      Effect.gen(function*() {
        const { id } = yield* using(
          world,
          (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent)
        )
        // As it was before a commit that the log lost.
        editRow(world, id, (agent) => ({ ...agent, state: { _tag: "deploying" }, startedAt: null, running: null }))
        breakIndex(world, "sqlite_autoindex_agents_1")
        const { agents } = yield* rebuild(world)
        assert.deepStrictEqual(agents.map(({ agent, source }) => [agent.state._tag, source]), [["running", "row"]])
        yield* using(world, (slipway) =>
          Effect.gen(function*() {
            assert.deepStrictEqual(yield* slipway.reap(yield* slipway.reapPlan), [])
            yield* Scenario.finished(slipway, [id])
          }))
        return [id]
      })
  )

  guarantee(
    "leaves an agent alone whose owner it does not know any more, and tells of it",
    (world) =>
      Effect.gen(function*() {
        const deployer = yield* runModule("support/deployer.ts", [
          world.root,
          "deployScoped",
          Scenario.staying,
          "output"
        ])
        const id = AgentId.make((yield* deployer.says("committed")).split(" ")[1] ?? "")
        const child = yield* using(world, (slipway) =>
          Effect.map(slipway.deploy(lasting(world, { type: "child", parent: id })), ({ agent }) => agent.id))
        deployer.process.kill("SIGKILL")
        yield* Effect.ignoreCause(deployer.ended)
        for (const suffix of ["-wal", "-shm"]) {
          Fs.rmSync(`${registryOf(world)}${suffix}`, { force: true })
        }
        overwrite(world, 0, noise(100))
        const { problems } = yield* rebuild(world)
        assert.deepStrictEqual(
          problems.map(({ subject }) =>
            subject
          ),
          [id]
        )
        yield* using(world, (slipway) =>
          Effect.gen(function*() {
            assert.deepStrictEqual(yield* slipway.reap(yield* slipway.reapPlan), [])
            assert.strictEqual((yield* slipway.agent(id)).state._tag, "running")
            yield* Scenario.finished(slipway, [id])
            assert.deepInclude((yield* slipway.agent(child)).state, { _tag: "stopped", by: "ancestor" })
          }))
        return [id, child]
      })
  )

  guarantee("an exit that nobody has seen goes before what rows and entries say", (world) =>
    Effect.gen(function*() {
      const go = Path.join(world.project, "go")
      const id = yield* using(world, (slipway) =>
        Effect.map(
          slipway.deploy(request(world, `until [ -e '${go}' ]; do sleep 0.02; done; exit 3`, { ready: "none" })),
          ({ agent }) => agent.id
        ))
      Fs.writeFileSync(go, "")
      const directory = Path.join(world.home, "agents", id)
      yield* Effect.repeat(Effect.sync(() => Fs.readdirSync(directory).includes("exit.3")), { until: (ended) => ended })
      overwrite(world, 0, noise(100))
      assert.strictEqual((yield* rebuild(world)).agents[0]?.agent.state._tag, "running")
      const agent = yield* using(world, (slipway) => slipway.wait(id))
      assert.deepInclude(agent.state, { _tag: "exited", code: 3, outcome: "failure" })
      return [id]
    }))

  guarantee(
    "is rebuilt while tmux does not answer, tells whose session is not on record, and loses no agent by it",
    (world) =>
      Effect.gen(function*() {
        const { id, running } = yield* using(
          world,
          (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent)
        )
        const server = running?.serverPid ?? assert.fail("no server")
        yield* Effect.acquireRelease(
          Effect.sync(() => process.kill(server, "SIGSTOP")),
          () => Effect.ignore(Effect.try(() => process.kill(server, "SIGCONT")))
        )
        Fs.rmSync(registryOf(world))
        const { agents, problems } = yield* rebuild(world)
        assert.deepStrictEqual(agents.map(({ agent }) => [agent.state._tag, agent.running?.sessionId]), [[
          "running",
          ""
        ]])
        assert.deepStrictEqual(problems.map(({ subject }) => subject), [id])
        assert.include(problems[0]?.reason, `tmux at ${world.socket} does not answer`)
        process.kill(server, "SIGCONT")
        yield* using(world, (slipway) =>
          Effect.gen(function*() {
            assert.deepStrictEqual(yield* slipway.reap(yield* slipway.reapPlan), [])
            assert.strictEqual((yield* slipway.agent(id)).state._tag, "running")
            yield* Scenario.finished(slipway, [id])
          }))
        return [id]
      }),
    60_000
  )

  guarantee(
    "is rebuilt from an entry whose directory is gone: what has ended stays so, what ran is lost",
    (world) =>
      Effect.gen(function*() {
        const ids = yield* using(world, (slipway) =>
          Effect.gen(function*() {
            const ended = (yield* slipway.deploy(request(world, "exit 0", { type: "ended", ready: "none" }))).agent.id
            yield* slipway.wait(ended)
            const ran = (yield* slipway.deploy(lasting(world))).agent
            process.kill(ran.running?.launcher?.pid ?? assert.fail("no launcher"), "SIGKILL")
            spawnSync("tmux", ["-S", world.socket, "kill-server"])
            return [ended, ran.id] as const
          }))
        for (const pid of World.members(world)) process.kill(pid, "SIGKILL")
        Fs.rmSync(registryOf(world))
        for (const id of ids) Fs.rmSync(Path.join(world.home, "agents", id), { recursive: true })
        yield* rebuild(world)
        yield* using(world, (slipway) =>
          Effect.gen(function*() {
            assert.strictEqual((yield* slipway.agent(ids[0])).state._tag, "exited")
            assert.strictEqual((yield* slipway.wait(ids[1])).state._tag, "lost")
            yield* slipway.prune({ olderThan: 0 })
          }))
      })
  )

  guarantee("what can't be read is told and left, and never guessed", (world) =>
    Effect.gen(function*() {
      const [good, bad] = yield* using(world, (slipway) =>
        Effect.gen(function*() {
          const first = (yield* slipway.deploy(request(world, "exit 0", { type: "good", ready: "none" }))).agent
          const second = (yield* slipway.deploy(request(world, "exit 0", { type: "bad", ready: "none" }))).agent
          yield* Effect.forEach([first, second], ({ id }) => slipway.wait(id))
          return [first, second] as const
        }))
      const entry = Fs.readFileSync(bad.plan.entry, "utf8")
      Fs.writeFileSync(bad.plan.entry, entry.replace(`"depth": 1`, `"depth": "deep"`))
      Fs.mkdirSync(Path.join(world.home, "agents", "x-260102-030405-0a1b2c"))
      Fs.rmSync(registryOf(world))
      const { agents, problems } = yield* rebuild(world)
      assert.deepStrictEqual(agents.map(({ agent }) => agent.id), [good.id])
      assert.sameMembers(problems.map(({ subject }) => subject), [bad.plan.entry, bad.id, "x-260102-030405-0a1b2c"])
      assert.isTrue(Fs.existsSync(bad.plan.directory), "it is left")
      Fs.writeFileSync(bad.plan.entry, entry)
      Fs.rmdirSync(Path.join(world.home, "agents", "x-260102-030405-0a1b2c"))
      return [good.id, bad.id]
    }))

  guarantee(
    "never has an agent rolled back whose entry can't be read, whether it runs or has ended",
    (world) =>
      Effect.gen(function*() {
        const ended = yield* using(world, (slipway) =>
          Effect.flatMap(
            slipway.deploy(request(world, "echo result", { type: "ended", ready: "none" })),
            ({ agent }) => slipway.wait(agent.id)
          ))
        const ran = yield* using(world, (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent))
        const agents = [ended, ran]
        const texts = agents.map(({ plan }) => Fs.readFileSync(plan.entry, "utf8"))
        Fs.writeFileSync(ended.plan.entry, "{")
        Fs.writeFileSync(ran.plan.entry, "{")
        const lost = yield* rebuilt(world)
        assert.deepStrictEqual(lost.agents, [])
        const subjects = agents.flatMap(({ id, plan }) => [plan.entry, id])
        assert.sameMembers(lost.problems.map(({ subject }) => subject), subjects)
        // Without an entry, and without a launcher: an end has begun, and it may have committed before.
        Fs.rmSync(ended.plan.entry)
        const gone = yield* rebuilt(world)
        assert.deepStrictEqual(gone.agents, [])
        assert.isTrue(Fs.existsSync(Path.join(ended.plan.directory, "stdout.log")))
        const entries = Path.dirname(ran.plan.entry)
        Fs.renameSync(entries, `${entries}.aside`)
        Fs.writeFileSync(entries, "no directory")
        const unlisted = yield* rebuilt(world)
        assert.deepStrictEqual(unlisted.agents, [])
        assert.include(unlisted.problems.map(({ subject }) => subject), entries)
        Fs.rmSync(entries)
        Fs.renameSync(`${entries}.aside`, entries)

        agents.forEach(({ plan }, index) => Fs.writeFileSync(plan.entry, texts[index] ?? "", { mode: 0o600 }))
        assert.deepStrictEqual((yield* rebuilt(world)).problems, [])
        yield* using(world, (slipway) => Scenario.finished(slipway, [ran.id]))
        return [ended.id, ran.id]
      })
  )

  guarantee(
    "is rebuilt with the workspaces that ended agents name, whatever project is asked for",
    (world) =>
      Effect.gen(function*() {
        const { id } = yield* ended(world)
        Fs.rmSync(registryOf(world))
        const { agents, problems } = yield* rebuild(world, { projects: [world.root] })
        assert.deepStrictEqual([agents.map(({ agent }) => agent.id), problems], [[id], []])
        return [id]
      })
  )

  guarantee(
    "is rebuilt without a workspace that nobody names, and with one that is named",
    (world) =>
      Effect.gen(function*() {
        const { id, plan } = yield* ended(world)
        // As the first versions made it.
        Fs.writeFileSync(Path.join(plan.directory, `owner.${plan.homeId}`), "")
        Fs.rmSync(registryOf(world))
        const elsewhere = yield* rebuild(world, { projects: [world.root], dryRun: true })
        assert.deepStrictEqual([elsewhere.agents, elsewhere.problems.map(({ subject }) => subject)], [[], [id]])
        assert.include(elsewhere.problems[0]?.reason, "--project")
        const nowhere = yield* refused(world, { projects: ["/nowhere"] })
        assert.deepStrictEqual([nowhere._tag, nowhere.message], [
          "InvalidRequest",
          "the request is not valid: projects: expected a directory to search for tasks, and there is none at /nowhere"
        ])
        const found = yield* rebuild(world, { projects: [world.project] })
        assert.deepStrictEqual(found.agents.map(({ agent }) => agent.id), [id])
        return [id]
      })
  )

  guarantee("of another home in the same project keeps what is its own", (world) =>
    Effect.gen(function*() {
      const home = Path.join(world.root, "other")
      const other: World = { ...world, home, socket: Path.join(home, "tmux.sock") }
      yield* Effect.addFinalizer(() => Effect.sync(() => spawnSync("tmux", ["-S", other.socket, "kill-server"])))
      const ours = yield* using(world, (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent))
      const theirs = yield* using(other, (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent))
      yield* using(other, (slipway) => slipway.createTask({ description: "empty", project: world.project }))
      const mine = yield* using(
        world,
        (slipway) => slipway.createTask({ description: "empty", project: world.project })
      )
      // Tasks of the first versions do not say whose they are, and the agents' entries do.
      for (const { plan } of [ours, theirs]) {
        const path = Path.join(plan.workspace, "task.json")
        const { home_id: _, ...task } = JSON.parse(Fs.readFileSync(path, "utf8"))
        Fs.writeFileSync(path, JSON.stringify(task))
      }
      const before = contents(other)
      Fs.rmSync(registryOf(world))
      const { agents, problems, tasks } = yield* rebuild(world)
      assert.deepStrictEqual(agents.map(({ agent }) => agent.id), [ours.id])
      assert.sameMembers(tasks.map(({ id }) => id), [ours.taskId, mine.id])
      assert.deepStrictEqual(problems, [])
      yield* using(world, (slipway) =>
        Effect.gen(function*() {
          assert.deepStrictEqual(yield* slipway.reap(yield* slipway.reapPlan), [])
          yield* Scenario.finished(slipway, [ours.id])
        }))
      assert.deepStrictEqual(contents(other), before)
      assert.lengthOf(World.sessions(other), 1)
      yield* using(other, (slipway) =>
        Effect.gen(function*() {
          assert.strictEqual((yield* slipway.agent(theirs.id)).state._tag, "running")
          yield* Scenario.finished(slipway, [theirs.id])
          yield* slipway.prune({ olderThan: 0 })
        }))
      return [ours.id]
    }))
})

describe("the plan of an agent", () => {
  for (const isAlone of [false, true]) {
    guarantee(
      `has its own working tree again by its ${
        isAlone ? "entry alone" : "directory"
      }, and a prune removes that and saves what was in it`,
      (world) =>
        Effect.gen(function*() {
          Repository.init(world)
          const agent = yield* using(world, (slipway) =>
            Effect.flatMap(
              slipway.deploy(request(world, "echo precious > new", { worktree: {}, ready: "none" })),
              ({ agent }) => slipway.wait(agent.id)
            ))
          Fs.rmSync(registryOf(world))
          const link = Path.join(worktreeOf(agent.plan)?.tree ?? "", ".git")
          if (isAlone) Fs.rmSync(agent.plan.directory, { recursive: true })
          // The directory alone is enough.
          else Fs.renameSync(link, `${link}.aside`)
          const { agents, problems } = yield* rebuild(world)
          if (!isAlone) Fs.renameSync(`${link}.aside`, link)
          assert.deepStrictEqual(problems, [])
          assert.deepStrictEqual(agents.map(({ agent, source }) => [agent.plan, source]), [[agent.plan, "entry"]])
          if (!isAlone) assert.deepStrictEqual(agents[0]?.agent.spec, agent.spec)
          yield* using(world, (slipway) =>
            Effect.gen(function*() {
              assert.deepStrictEqual((yield* slipway.doctor).findings, [])
              const [pruned] = yield* slipway.prune({ olderThan: 0 })
              assert.deepStrictEqual(pruned?.problems, [])
            }))
          const work = `refs/slipway/${agent.id}/work`
          assert.deepStrictEqual(Repository.traces(world), [work])
          assert.strictEqual(Repository.git(world.project, "show", `${work}:new`), "precious")
        })
    )
  }

  guarantee("is told to lack the tree where nothing says whose it was", (world) =>
    Effect.gen(function*() {
      Repository.init(world)
      const { id, plan } = yield* using(world, (slipway) =>
        Effect.flatMap(
          slipway.deploy(request(world, "exit 0", { worktree: {}, ready: "none" })),
          ({ agent }) => slipway.wait(agent.id)
        ))
      const tree = worktreeOf(plan)?.tree ?? assert.fail("no tree")
      const link = Fs.readFileSync(Path.join(tree, ".git"), "utf8")
      const text = Fs.readFileSync(plan.entry, "utf8")
      const aside = `${plan.directory}.aside`
      Fs.renameSync(plan.directory, aside)
      for (
        const spoil of [
          () => Fs.writeFileSync(Path.join(tree, ".git"), `gitdir: ${world.project}/.git\n`),
          () => Fs.rmSync(Path.join(tree, ".git")),
          // Another agent's tree is none of this one's, whatever its entry says.
          () => Fs.writeFileSync(plan.entry, text.replaceAll(`t-${id}`, "t-other-260102-030405-0a1b2c"))
        ]
      ) {
        spoil()
        Fs.rmSync(registryOf(world))
        const { agents, problems } = yield* rebuild(world)
        assert.deepStrictEqual(agents.map(({ agent }) => worktreeOf(agent.plan)), [null])
        assert.deepStrictEqual(problems.map(({ subject }) => subject), [id])
        assert.include(problems[0]?.reason, "working tree")
        Fs.writeFileSync(Path.join(tree, ".git"), link)
      }
      Fs.writeFileSync(plan.entry, text)
      Fs.renameSync(aside, plan.directory)
      Fs.rmSync(registryOf(world))
      assert.deepStrictEqual((yield* rebuild(world)).problems, [])
      yield* using(world, (slipway) => slipway.prune({ olderThan: 0 }))
      assert.deepStrictEqual(Repository.traces(world), [])
    }))

  guarantee(
    "that never committed has all that its deployer may have made, and a reap releases it",
    (world) =>
      Effect.gen(function*() {
        const ports = Path.join(world.root, "ports")
        const deployer = yield* runModule("support/deployer.ts", [
          world.root,
          "deploy",
          "exec sleep 1000",
          "none",
          "60000",
          "4007",
          "readiness"
        ])
        yield* Effect.ignoreCause(deployer.ended)
        assert.isNotEmpty(Fs.readdirSync(ports))
        const id = AgentId.make(World.directories(world)[0] ?? assert.fail("no directory"))
        const before = yield* using(world, (slipway) => slipway.reapPlan)
        assert.deepStrictEqual(before.items.map(({ subject }) => subject), [id])
        Fs.rmSync(registryOf(world))
        const { agents, problems } = yield* rebuild(world)
        assert.deepStrictEqual(problems, [])
        assert.deepStrictEqual(agents.map(({ agent, source }) => [agent.spec, source]), [
          [World.shell("exec sleep 1000"), "directory"]
        ])
        assert.isTrue(agents[0]?.agent.plan.resources.some(({ kind }) => kind === "port"))
        const layer = World.layer(world, { resources: [portLease(ports)] })
        const reaped = yield* Effect.flatMap(Slipway, (slipway) => Effect.flatMap(slipway.reapPlan, slipway.reap)).pipe(
          Effect.provide(layer)
        )
        assert.deepStrictEqual(reaped.map(({ item, outcome, status }) => [item.subject, outcome, status]), [
          [id, "done", "rolled-back"]
        ])
        assert.deepStrictEqual(Fs.readdirSync(ports), [])
      })
  )

  guarantee(
    "is told from its launcher where an earlier version made its directory, without a manifest",
    (world) =>
      Effect.gen(function*() {
        const deployer = yield* runModule("support/deployer.ts", [world.root, "deploy", "exec sleep 1000", "output"])
        yield* deployer.says("step readiness")
        deployer.process.kill("SIGKILL")
        yield* Effect.ignoreCause(deployer.ended)
        const id = AgentId.make(World.directories(world)[0] ?? assert.fail("no directory"))
        const plan = planOf(world, id)
        const made = (text: string) => Fs.writeFileSync(Path.join(plan.directory, `owner.${plan.homeId}`), text)
        Fs.rmSync(registryOf(world))
        for (const text of ["", plan.workspace]) {
          made(text)
          const { agents, problems } = yield* rebuild(world, { projects: [world.project], dryRun: true })
          assert.deepStrictEqual(problems, [])
          assert.deepStrictEqual(agents.map(({ agent, source }) => [agent.plan, source]), [
            [plan, "directory"]
          ])
        }
        made("{}")
        const { agents, problems } = yield* rebuild(world, { projects: [world.project], dryRun: true })
        assert.deepStrictEqual([agents, [...new Set(problems.map(({ subject }) => subject))]], [[], [id]])
        made(plan.workspace)
        yield* rebuild(world)
        yield* using(world, (slipway) =>
          Effect.gen(function*() {
            const reaped = yield* slipway.reap(yield* slipway.reapPlan)
            assert.deepStrictEqual(reaped.map(({ outcome, status }) => [outcome, status]), [["done", "rolled-back"]])
          }))
      })
  )

  guarantee("is not taken from the manifest of another agent", (world) =>
    Effect.gen(function*() {
      const first = yield* ended(world)
      const second = yield* ended(world)
      const owner = `owner.${first.plan.homeId}`
      const manifest = Path.join(second.plan.directory, owner)
      const own = Fs.readFileSync(manifest, "utf8")
      Fs.writeFileSync(manifest, Fs.readFileSync(Path.join(first.plan.directory, owner), "utf8"))
      Fs.rmSync(registryOf(world))
      const { agents, problems } = yield* rebuild(world, { dryRun: true })
      assert.deepStrictEqual(problems.map(({ subject }) => subject), [second.id])
      assert.include(problems[0]?.reason, "is not its manifest")
      const specs = new Map(agents.map(({ agent }) => [agent.id, agent.spec]))
      assert.deepStrictEqual(specs.get(first.id), first.spec)
      assert.deepStrictEqual(specs.get(second.id), { kind: "command", argv: ["(unknown)"] })
      Fs.writeFileSync(manifest, own)
      assert.deepStrictEqual((yield* rebuild(world)).problems, [])
      return [first.id, second.id]
    }))
})

describe("a rebuild", () => {
  guarantee("keeps the keys of tasks, each for one of them", (world) =>
    Effect.gen(function*() {
      const input = { description: "nightly", project: world.project, key: "nightly" }
      const made = yield* using(world, (slipway) => slipway.createTask(input))
      const workspaces = Path.join(world.project, ".slipway")
      const copied = TaskId.make("TASK-20260102-030405-0a1b2c3d")
      Fs.cpSync(Path.join(workspaces, made.id), Path.join(workspaces, copied), { recursive: true })
      const path = Path.join(workspaces, copied, "task.json")
      Fs.writeFileSync(path, JSON.stringify({ ...JSON.parse(Fs.readFileSync(path, "utf8")), task_id: copied }))
      Fs.rmSync(registryOf(world))
      const { problems, tasks } = yield* rebuild(world)
      assert.sameMembers(tasks.map(({ id }) => id), [made.id, copied])
      assert.deepStrictEqual(problems.map(({ reason }) => reason), ["another task has its key"])
      const again = yield* using(world, (slipway) => slipway.createTask(input))
      assert.include([made.id, copied], again.id)
      yield* using(world, (slipway) => Effect.map(slipway.tasks, (all) => assert.lengthOf(all, 2)))
    }))

  const exited = (world: World) => Effect.map(ended(world), ({ id }) => id)

  guarantee("that is dry changes nothing", (world) =>
    Effect.gen(function*() {
      const id = yield* exited(world)
      const ids: ReadonlyArray<AgentId> = [id]
      for (const damage of [() => breakIndex(world, "sqlite_autoindex_agents_1"), () => Fs.rmSync(registryOf(world))]) {
        damage()
        const before = contents(world)
        const told = yield* rebuild(world, { dryRun: true })
        assert.deepStrictEqual([told.dryRun, told.agents.map(({ agent }) => agent.id)], [true, ids])
        assert.strictEqual(contents(world).join("\n"), before.join("\n"))
      }
      return ids
    }))

  guarantee(
    "is refused where the registry is healthy, new, or of a newer Slipway, and there is nothing of it",
    (world) =>
      Effect.gen(function*() {
        assert.instanceOf(yield* refused(world), HomeUnusable)
        assert.isFalse(Fs.existsSync(world.home))
        yield* using(world, (slipway) => slipway.tasks)
        const healthy = yield* refused(world)
        assert.instanceOf(healthy, RegistryHealthy)
        onDatabase(
          world,
          (database) => database.exec("INSERT INTO slipway_migrations (migration_id, name) VALUES (99, 'later')")
        )
        const before = contents(world)
        const newer = yield* refused(world)
        assert.instanceOf(newer, RegistryTooNew)
        assert.strictEqual(newer.path, registryOf(world))
        assert.deepStrictEqual(contents(world), before)
      })
  )

  guarantee(
    "is refused while a process has the registry open, also one that was removed",
    (world) =>
      Effect.gen(function*() {
        const id = yield* exited(world)
        const child = yield* runText(
          `const { DatabaseSync } = require("node:sqlite")
         const db = new DatabaseSync(process.argv[1]); db.exec("SELECT 1 FROM agents"); console.log("open")
         process.stdin.resume()`,
          [registryOf(world)]
        )
        yield* child.says("open")
        for (const damage of [() => overwrite(world, 0, noise(100)), () => Fs.rmSync(registryOf(world))]) {
          damage()
          const error = yield* refused(world)
          assert.instanceOf(error, RegistryInUse)
          assert.deepStrictEqual(error.pids, [child.process.pid ?? 0])
          assert.include(error.message, String(child.process.pid))
        }
        assert.deepStrictEqual(setAsides(world), [])
        child.process.kill("SIGKILL")
        yield* Effect.ignoreCause(child.ended)
        yield* rebuild(world)
        yield* using(world, () => Effect.map(refused(world), (error) => assert.instanceOf(error, RegistryInUse)))
        return [id]
      })
  )

  guarantee(
    "is refused in a copy of a home that still stands, so that nobody answers twice for an agent",
    (world) =>
      Effect.gen(function*() {
        const id = yield* using(world, (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent.id))
        const copy: World = { ...world, home: Path.join(world.root, "copy") }
        assert.strictEqual(spawnSync("cp", ["-a", world.home, copy.home]).status, 0)
        for (const damage of [() => {}, () => Fs.rmSync(registryOf(copy))]) {
          damage()
          const error = yield* refused(copy)
          assert.instanceOf(error, HomeCopied)
          assert.strictEqual(error.original, Fs.realpathSync(world.home))
        }
        yield* using(world, (slipway) => Scenario.finished(slipway, [id]))
        Fs.rmSync(copy.home, { recursive: true })
        return [id]
      })
  )

  guarantee(
    "that is killed before any change that it makes to files is completed by the next",
    (world) =>
      Effect.gen(function*() {
        const id = yield* exited(world)
        const ran = yield* using(
          world,
          (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent.id)
        )
        const seen = new Set<string>()
        const drafts = () => Fs.readdirSync(world.home).filter((name) => name.includes(".tmp"))
        let rebuilds = 0
        for (let last = 0;; last++) {
          breakIndex(world, "sqlite_autoindex_agents_1")
          const broken = Fs.readFileSync(registryOf(world))
          const child = yield* runModule("support/rebuilder.ts", [world.root, String(last)])
          yield* Effect.ignoreCause(child.ended)
          if (child.lines.length > 0) {
            assert.deepStrictEqual(child.lines, ["done"])
            break
          }
          const { _tag: state, message } = yield* asked(world)
          seen.add(state)
          if (state === "AgentNotFound") assert.instanceOf(yield* refused(world), RegistryHealthy)
          else {
            assert.include(message, "slipway rebuild")
            const rebuilt = yield* rebuild(world)
            assert.isTrue(Fs.readFileSync(rebuilt.setAside ?? "").equals(broken), `before change ${last}`)
          }
          rebuilds++
          assert.lengthOf(setAsides(world).filter((name) => !name.endsWith("-wal") && !name.endsWith("-shm")), rebuilds)
          assert.deepStrictEqual(statuses(world), { [id]: "exited", [ran]: "running" }, `before change ${last}`)
          assert.deepStrictEqual(drafts().filter((name) => name.startsWith("registry.")), [])
        }
        assert.isAbove(rebuilds, 8)
        assert.deepStrictEqual([...seen].toSorted(), ["AgentNotFound", "RegistryCorrupt", "RegistryReplaced"])
        // What else a killed writer leaves is the reaper's, once it is old enough.
        for (const name of drafts()) Fs.utimesSync(Path.join(world.home, name), 1, 1)
        yield* using(world, (slipway) =>
          Effect.gen(function*() {
            yield* slipway.reap(yield* slipway.reapPlan)
            yield* Scenario.finished(slipway, [ran])
          }))
        return [id, ran]
      }),
    120_000
  )

  guarantee("whose recorded draft is damaged, or gone, begins anew", (world) =>
    Effect.gen(function*() {
      const id = yield* exited(world)
      const draft = Path.join(world.home, "registry.db.20260102T030405Z.0123456789ab.tmp")
      const path = Path.join(world.home, "home.json")
      for (const isGone of [false, true]) {
        Fs.writeFileSync(draft, noise(8192))
        const identity = JSON.parse(Fs.readFileSync(path, "utf8"))
        identity.registry.inode = Fs.statSync(draft).ino
        Fs.writeFileSync(path, JSON.stringify(identity))
        if (isGone) Fs.rmSync(draft)
        yield* isRefused(world, "RegistryReplaced")
        const rebuilt = yield* rebuild(world)
        assert.deepStrictEqual(rebuilt.agents.map(({ agent }) => agent.id), [id])
        assert.isFalse(Fs.existsSync(draft))
        assert.deepStrictEqual(statuses(world), { [id]: "exited" })
      }
      return [id]
    }))

  guarantee(
    "that runs beside others does no harm: one of them sets the old registry aside",
    (world) =>
      Effect.gen(function*() {
        const id = yield* exited(world)
        overwrite(world, 0, noise(100))
        const answers = yield* Effect.all(
          Array.from({ length: 4 }, () => Effect.result(rebuild(world))),
          { concurrency: "unbounded" }
        )
        const failures = answers.flatMap((answer) => answer._tag === "Failure" ? [answer.failure] : [])
        for (const failure of failures) {
          assert.include(["RebuildRunning", "RegistryHealthy"], failure._tag)
        }
        assert.lengthOf(answers.filter(({ _tag }) => _tag === "Success"), 1)
        assert.lengthOf(setAsides(world), 1)
        assert.deepStrictEqual(statuses(world), { [id]: "exited" })
        return [id]
      })
  )

  guarantee(
    "that was killed is completed also where a backup was put in the place of the registry meanwhile",
    (world) =>
      Effect.gen(function*() {
        const id = yield* exited(world)
        const backup = Fs.readFileSync(registryOf(world))
        breakIndex(world, "sqlite_autoindex_agents_1")
        const broken = Fs.readFileSync(registryOf(world))
        const first = (yield* rebuild(world)).setAside ?? assert.fail("nothing was set aside")
        // As a rebuild leaves it that is killed when the old registry has its new name and the draft has not.
        const stamp = first.split(".corrupt-")[1] ?? ""
        Fs.renameSync(registryOf(world), `${registryOf(world)}.${stamp}.0123456789ab.tmp`)
        Fs.writeFileSync(registryOf(world), backup, { mode: 0o600 })
        yield* isRefused(world, "RegistryReplaced")
        const told = yield* rebuild(world, { dryRun: true })
        const { setAside } = yield* rebuild(world)
        assert.strictEqual(told.setAside, setAside)
        assert.notStrictEqual(setAside, first)
        assert.isTrue(Fs.readFileSync(first).equals(broken), "the first keeps its bytes")
        assert.isTrue(Fs.readFileSync(setAside ?? "").equals(backup), "and so does the second")
        assert.instanceOf(yield* refused(world), RegistryHealthy)
        assert.deepStrictEqual(statuses(world), { [id]: "exited" })
        return [id]
      })
  )

  guarantee(
    "that takes over from a dead one is the only one, and leaves a home that can be used",
    (world) =>
      Effect.gen(function*() {
        const id = yield* exited(world)
        const lock = Path.join(world.home, "rebuild.json")
        for (let round = 1; round <= 2; round++) {
          breakIndex(world, "sqlite_autoindex_agents_1")
          const dead = yield* runModule("support/rebuilder.ts", [world.root, "3"])
          yield* Effect.ignoreCause(dead.ended)
          assert.isTrue(Fs.existsSync(lock), "a dead holder's")
          const answers = yield* atOnce(4, "support/rebuilder.ts", [world.root, "none"])
          const refusals = answers.filter((answer) => answer !== "done")
          assert.lengthOf(refusals, 3, answers.join())
          for (const refusal of refusals) assert.match(refusal, /^failed Re(buildRunning|gistryHealthy|gistryInUse)/)
          assert.instanceOf(yield* refused(world), RegistryHealthy)
          assert.lengthOf(setAsides(world), round)
          assert.deepStrictEqual(statuses(world), { [id]: "exited" })
        }
        assert.deepStrictEqual(Fs.readdirSync(world.home).filter((name) => name.startsWith("rebuild.")), [])
        return [id]
      }),
    60_000
  )

  guarantee(
    "does not take what it begins for the registry that is gone, where its number is given out again",
    (world) =>
      Effect.gen(function*() {
        const id = yield* exited(world)
        Fs.rmSync(registryOf(world))
        const path = Path.join(world.home, "home.json")
        const identity = JSON.parse(Fs.readFileSync(path, "utf8"))
        for (const dryRun of [true, false]) {
          let reused = false
          const around = (files: Files["Service"]): Partial<Files["Service"]> => ({
            createFile: (file, content, mode) =>
              Effect.tap(files.createFile(file, content, mode), () =>
                Effect.sync(() => {
                  if (reused || !Path.basename(file).startsWith("registry.db.")) return
                  reused = true
                  identity.registry.inode = Fs.statSync(file).ino
                  Fs.writeFileSync(path, JSON.stringify(identity))
                })),
            // Nothing of it can be put in place.
            link: (from, to) =>
              to.startsWith(registryOf(world))
                ? Effect.fail(new FileError({ operation: "link", path: to, code: "ENOSPC" }))
                : files.link(from, to)
          })
          yield* Effect.flatMap(Rebuild, ({ run }) => Effect.ignore(run({ dryRun }))).pipe(
            Effect.provide(
              Rebuild.layerNoDeps({ caller: World.caller(world) }).pipe(Layer.provide(reopened(world, around)))
            )
          )
          assert.strictEqual(reused, !dryRun, "a dry one makes no file")
          assert.deepStrictEqual(Fs.readdirSync(world.home).filter((name) => name.startsWith("registry.")), [])
        }
        const { agents, damage } = yield* rebuild(world)
        assert.deepStrictEqual([agents.map(({ agent }) => agent.id), damage], [[id], "the file is missing"])
        return [id]
      })
  )

  guarantee("does not begin when a process opens the registry in the last moment", (world) =>
    Effect.gen(function*() {
      const id = yield* exited(world)
      overwrite(world, 0, noise(100))
      const before = contents(world)
      let late: number | undefined
      const around = (files: Files["Service"]): Partial<Files["Service"]> => ({
        replaceFile: (path, content, mode) => {
          late ??= Fs.openSync(registryOf(world), "r")
          return files.replaceFile(path, content, mode)
        }
      })
      const error = yield* Effect.flatMap(Rebuild, ({ run }) => Effect.flip(run())).pipe(
        Effect.provide(
          Rebuild.layerNoDeps({ caller: World.caller(world) }).pipe(Layer.provide(reopened(world, around)))
        )
      )
      assert.instanceOf(error, RegistryInUse)
      const withoutRecord = (lines: ReadonlyArray<string>) => lines.filter((line) => !line.startsWith("home.json "))
      assert.deepStrictEqual(withoutRecord(contents(world)), withoutRecord(before))
      yield* isRefused(world, "RegistryCorrupt")
      Fs.closeSync(late ?? assert.fail("it was not opened"))
      yield* rebuild(world)
      assert.deepStrictEqual(statuses(world), { [id]: "exited" })
      return [id]
    }))
})

describe("a home that was moved", () => {
  const moved = (world: World, name = "moved"): World => {
    const home = Path.join(world.root, name)
    return { ...world, home, socket: Path.join(home, "tmux.sock") }
  }

  /** As somebody moves it from one disk to another. */
  const move = (world: World) => {
    const there = moved(world)
    assert.strictEqual(spawnSync("cp", ["-a", world.home, there.home]).status, 0)
    Fs.renameSync(world.home, moved(world, "gone").home)
    return there
  }

  /** Ends what a test has of it, since its world only knows where it was. */
  const cleared = (world: World) =>
    Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const name of ["moved", "gone"]) spawnSync("tmux", ["-S", moved(world, name).socket, "kill-server"])
        for (const pid of World.members(moved(world))) process.kill(pid, "SIGKILL")
      })
    )

  guarantee(
    "has all its agents where it is now, those that rows tell of like those of entries",
    (world) =>
      Effect.gen(function*() {
        yield* cleared(world)
        const { id } = yield* ended(world)
        const there = move(world)
        const { agents, problems } = yield* rebuild(there)
        assert.deepStrictEqual(agents.map(({ agent, source }) => [agent.plan.directory, source]), [
          [Path.join(there.home, "agents", id), "row"]
        ])
        assert.deepStrictEqual(problems, [])
        yield* using(there, (slipway) =>
          Effect.gen(function*() {
            const output = yield* Effect.map(
              Stream.runCollect(slipway.output(id)),
              (chunks) => Buffer.concat([...chunks]).toString()
            )
            assert.strictEqual(output, "result\n")
            assert.deepStrictEqual(yield* slipway.reap(yield* slipway.reapPlan), [])
            const pruned = yield* slipway.prune({ olderThan: 0 })
            assert.deepStrictEqual(pruned.map(({ agentId, problems }) => [agentId, problems]), [[id, []]])
          }))
        assert.deepStrictEqual(World.directories(there), [])
      })
  )

  guarantee(
    "tells of an agent that ran meanwhile, which a stop ends with all that it has",
    (world) =>
      Effect.gen(function*() {
        yield* cleared(world)
        const id = yield* using(world, (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent.id))
        const there = move(world)
        assert.lengthOf(World.members(there), 2)
        const { agents, problems } = yield* rebuild(there)
        assert.deepStrictEqual(agents.map(({ agent, source }) => [agent.state._tag, source]), [["running", "row"]])
        assert.deepStrictEqual(problems.map(({ subject }) => subject), [id])
        assert.include(problems[0]?.reason, `slipway stop ${id}`)
        yield* using(there, (slipway) =>
          Effect.gen(function*() {
            yield* Scenario.finished(slipway, [id])
            assert.deepInclude((yield* slipway.agent(id)).state, { _tag: "stopped", by: "request" })
            assert.deepStrictEqual((yield* slipway.reapPlan).items, [])
            yield* slipway.prune({ olderThan: 0 })
          }))
        assert.deepStrictEqual([World.members(there), World.directories(there)], [[], []])
      })
  )

  guarantee(
    "is the same home where its old path leads to it, and nobody has to be told",
    (world) =>
      Effect.gen(function*() {
        const there = moved(world)
        yield* cleared(world)
        const id = yield* using(world, (slipway) => Effect.map(slipway.deploy(lasting(world)), ({ agent }) => agent.id))
        Fs.renameSync(world.home, there.home)
        Fs.symlinkSync("moved", world.home)
        breakIndex(there, "sqlite_autoindex_agents_1")
        assert.deepStrictEqual((yield* rebuild(there)).problems, [])
        yield* using(there, (slipway) => Scenario.finished(slipway, [id]))
        return [id]
      })
  )
})

describe("a process that looked at the home before a rebuild, and opens the registry after", () => {
  const opening = (world: World) =>
    Effect.gen(function*() {
      const home = yield* Layer.build(
        Home.layer({ directory: world.home }).pipe(Layer.provideMerge(machineWith(world, () => ({}))))
      )
      return { open: Effect.scoped(Layer.build(SqliteRegistry.ofHome())).pipe(Effect.provideContext(home)) }
    })

  guarantee("is refused where there is none, and makes none", (world) =>
    Effect.gen(function*() {
      yield* using(world, (slipway) => slipway.tasks)
      const { open } = yield* opening(world)
      yield* open
      Fs.rmSync(registryOf(world))
      const error = yield* Effect.flip(open)
      assert.strictEqual(error._tag, "RegistryReplaced")
      assert.deepStrictEqual(Fs.readdirSync(world.home).filter((name) => name.startsWith("registry.")), [])
    }))

  guarantee(
    "is refused where it is another than the one recorded, before anything is written",
    (world) =>
      Effect.gen(function*() {
        yield* using(world, (slipway) => slipway.tasks)
        const { open } = yield* opening(world)
        Fs.renameSync(registryOf(world), `${registryOf(world)}.old`)
        Fs.writeFileSync(registryOf(world), "")
        assert.strictEqual((yield* Effect.flip(open))._tag, "RegistryReplaced")
        assert.strictEqual(Fs.statSync(registryOf(world)).size, 0)
        assert.isFalse(Fs.existsSync(`${registryOf(world)}-wal`))
      })
  )

  guarantee("opens the one that the rebuild made, and no other", (world) =>
    Effect.gen(function*() {
      const { id } = yield* ended(world)
      const { open } = yield* opening(world)
      breakIndex(world, "sqlite_autoindex_agents_1")
      yield* rebuild(world)
      const ledger = Context.get(yield* open, Ledger)
      assert.isFunction(ledger.admit)
      return [id]
    }))
})

describe("a lock of a dead holder", () => {
  guarantee("goes to one alone, however the others look at it and act", (world) =>
    Effect.gen(function*() {
      yield* using(world, (slipway) => slipway.tasks)
      const path = Path.join(world.home, "rebuild.json")
      const identity = yield* Effect.provide(Host, machineWith(world, () => ({})))
      const dead = JSON.stringify({ host: identity.identity, holder: { pid: 2 ** 22 + 1, start: "1" } })
      Fs.writeFileSync(path, dead)
      Fs.writeFileSync(`${path}.takeover`, dead)
      const assessed = yield* Deferred.make<void>()
      const go = yield* Deferred.make<void>()
      const holding = (around: (files: Files["Service"]) => Partial<Files["Service"]>) =>
        Effect.flatMap(holdFile("rebuild", () => "running" as const), ({ hold }) => hold).pipe(
          Effect.as("held" as const),
          Effect.provide(reopened(world, around))
        )
      const slow = yield* Effect.forkScoped(Effect.result(holding((files) => ({
        removeFile: (file) =>
          file === path
            ? Deferred.succeed(assessed, undefined).pipe(
              Effect.andThen(Deferred.await(go)),
              Effect.andThen(files.removeFile(file))
            )
            : files.removeFile(file)
      }))))
      yield* Deferred.await(assessed)
      const quick = yield* Effect.result(holding(() => ({})))
      yield* Deferred.succeed(go, undefined)
      const answers = [quick, yield* Fiber.join(slow)]
      assert.lengthOf(answers.filter(({ _tag }) => _tag === "Success"), 1)
      assert.isTrue(Fs.existsSync(path))
    }))
})
