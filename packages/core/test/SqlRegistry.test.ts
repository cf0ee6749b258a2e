import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option, Result, type Scope } from "effect"
import { Reactivity } from "effect/reactivity"
import { SqlClient, Statement } from "effect/sql"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { commit } from "../src/agent/Agent.ts"
import { RegistryCorrupt, RegistryTooNew, RegistryUnavailable } from "../src/registry/RegistryError.ts"
import * as Migrations from "../src/registry/sql/Migrations.ts"
import * as SqlRegistry from "../src/registry/sql/SqlRegistry.ts"
import * as NodeSqlite from "../src/registry/sqlite/NodeSqlite.ts"
import * as SqliteRegistry from "../src/registry/sqlite/SqliteRegistry.ts"
import { atOnce, runText } from "./children.ts"
import { suite } from "./RegistryContract.ts"
import { makeAgent, makeTask, moment, running, scratch } from "./rows.ts"
import { type Whole, whole } from "./support/Registry.ts"

const directories = scratch("registry")
afterAll(() => assert.deepStrictEqual(directories.left(), []))

const file = Effect.map(directories.make, (directory) => Path.join(directory, "registry.db"))
const roomy = { allowDuplicate: false, homeLimit: Effect.succeed({ maxActive: 1000, ofCaller: false }) }

suite("SQLite", Layer.unwrap(Effect.map(file, (path) => SqliteRegistry.layer({ path }))))

/** Uses a registry on the file, and closes it. */
const using = <A, E>(
  path: string,
  use: (registry: Whole) => Effect.Effect<A, E, Scope.Scope>,
  options?: Partial<SqliteRegistry.Options>
) => Effect.scoped(Effect.flatMap(whole, use).pipe(Effect.provide(SqliteRegistry.layer({ path, ...options }))))

const opening = (path: string) => Effect.flip(using(path, () => Effect.void, { lockTimeout: "100 millis" }))

const onDatabase = <A>(path: string, use: (db: DatabaseSync) => A) =>
  Effect.acquireUseRelease(
    Effect.sync(() => new DatabaseSync(path)),
    (db) => Effect.sync(() => use(db)),
    (db) => Effect.sync(() => db.close())
  )

/** How many transactions the write-ahead log holds: its frames that bear a size of the database end one each. */
const durableTransactions = (path: string) =>
  Effect.sync(() => {
    const log = Fs.readFileSync(`${path}-wal`)
    const frame = 24 + log.readUInt32BE(8)
    let commits = 0
    for (let at = 32; at + frame <= log.length; at += frame) {
      const current = log.readUInt32BE(at + 8) === log.readUInt32BE(16)
      if (current && log.readUInt32BE(at + 4) !== 0) commits++
    }
    return commits
  })

describe("a file of many processes", () => {
  it.live("eight processes make one schema of an empty file, and take five slots of five in all", () =>
    Effect.gen(function*() {
      const path = yield* file
      Fs.writeFileSync(path, "")
      const answers = yield* atOnce(8, "admitAtOnce.ts", [path, "10"])
      const tasks = new Set(answers.map((line) => line.split(" ")[0]))
      assert.strictEqual(tasks.size, 1)
      assert.strictEqual(answers.reduce((sum, line) => sum + Number(line.split(" ")[1]), 0), 5)
      const { active, versions } = yield* onDatabase(path, (db) => ({
        active: db.prepare("SELECT count(*) AS n FROM agents").get()?.n,
        versions: db.prepare("SELECT migration_id FROM slipway_migrations").all().length
      }))
      assert.strictEqual(active, 5)
      assert.strictEqual(versions, Migrations.newest)
    }))

  const hold = (path: string, millis: number) =>
    Effect.tap(
      runText(
        `const db = new (require("node:sqlite").DatabaseSync)(process.argv[1])
         db.exec("BEGIN IMMEDIATE")
         process.stdout.write("locked\\n")
         setTimeout(() => { db.exec("COMMIT"); process.exit() }, Number(process.argv[2]))`,
        [path, String(millis)]
      ),
      (child) => child.says("locked")
    )

  it.live("a lock of another process is waited for, and other fibers go on meanwhile", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          const gaps: Array<number> = []
          const ticking = yield* Effect.forkChild(Effect.gen(function*() {
            for (let before = performance.now(); true; before = performance.now()) {
              yield* Effect.sleep("1 millis")
              gaps.push(performance.now() - before)
            }
          }))
          yield* hold(path, 600)
          const from = gaps.length
          yield* registry.addTask(makeTask())
          const during = gaps.slice(from)
          yield* Fiber.interrupt(ticking)
          assert.isAbove(during.length, 10)
          assert.isBelow(during.toSorted((a, b) => a - b)[Math.floor(during.length / 2)] ?? Infinity, 60)
          assert.strictEqual((yield* registry.tasks).length, 1)
        }))
    }).pipe(Effect.scoped))

  it.live("a transition that waits for a lock decides once, when it has the lock", () =>
    Effect.gen(function*() {
      const path = yield* file
      const task = makeTask()
      const agent = makeAgent(task.id)
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          yield* registry.addTask(task)
          yield* registry.admit(agent, roomy)
          yield* hold(path, 200)
          let decisions = 0
          yield* registry.transition(agent.id, (agent) => {
            decisions++
            return Result.succeed({ ...agent, cwd: "/elsewhere" })
          }, { at: moment(1), detail: "" })
          assert.strictEqual(decisions, 1)
        }))
    }))

  it.live("a file that another process is just making is waited for", () =>
    Effect.gen(function*() {
      const path = yield* file
      Fs.writeFileSync(path, "")
      yield* hold(path, 200)
      assert.deepStrictEqual(yield* using(path, (registry) => registry.tasks), [])
    }))

  it.live("a lock that is held too long is a failure that stores nothing, and reading goes on", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          const holder = yield* hold(path, 60_000)
          const before = performance.now()
          const error = yield* Effect.flip(registry.addTask(makeTask()))
          assert.instanceOf(error, RegistryUnavailable)
          assert.include(error.message, "locked")
          assert.isBelow(performance.now() - before, 2000)
          assert.deepStrictEqual(yield* registry.tasks, [])
          holder.process.kill("SIGKILL")
          yield* holder.ended
          yield* registry.addTask(makeTask())
          assert.strictEqual((yield* registry.tasks).length, 1)
        }), { lockTimeout: "150 millis" })
    }).pipe(Effect.scoped))

  it.live("what waits for a lock can be interrupted at once", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          yield* hold(path, 60_000)
          const fiber = yield* Effect.forkChild(registry.addTask(makeTask()), { startImmediately: true })
          const before = performance.now()
          yield* Fiber.interrupt(fiber)
          assert.isBelow(performance.now() - before, 1000)
        }))
    }).pipe(Effect.scoped))
})

describe("a file that is no registry of this version", () => {
  const content = (path: string) => Fs.readFileSync(path).toString("base64")

  /** A registry with some rows, closed. */
  const filled = Effect.gen(function*() {
    const path = yield* file
    yield* using(path, (registry) =>
      Effect.gen(function*() {
        const task = makeTask()
        yield* registry.addTask(task)
        for (let count = 0; count < 10; count++) yield* registry.admit(makeAgent(task.id), roomy)
      }))
    return path
  })

  it.live("a newer one is refused and left as it is", () =>
    Effect.gen(function*() {
      const path = yield* filled
      yield* onDatabase(
        path,
        (db) => db.exec(`INSERT INTO slipway_migrations (migration_id, name) VALUES (99, 'later')`)
      )
      const before = content(path)
      const error = yield* opening(path)
      assert.instanceOf(error, RegistryTooNew)
      assert.deepInclude(error, { path, found: 99, supported: Migrations.newest })
      assert.strictEqual(content(path), before)
      assert.deepStrictEqual(Fs.readdirSync(Path.dirname(path)), ["registry.db"])
    }))

  it.live("a damaged one is refused and left as it is", () =>
    Effect.gen(function*() {
      const path = yield* filled
      const whole = Fs.readFileSync(path)
      assert.isAbove(whole.length, 20_000)
      const wiped = Buffer.from(whole)
      wiped.fill(0x5a, 4096)
      const damages: Record<string, Uint8Array> = {
        garbage: Buffer.alloc(8192, "garbage "),
        text: Buffer.from("no registry"),
        header: whole.subarray(0, 100),
        half: whole.subarray(0, Math.floor(whole.length / 2)),
        "less a page": whole.subarray(0, whole.length - 4096),
        wiped
      }
      for (const [name, bytes] of Object.entries(damages)) {
        Fs.writeFileSync(path, bytes)
        const before = content(path)
        const error = yield* opening(path)
        assert.instanceOf(error, RegistryCorrupt, name)
        assert.strictEqual(error.path, path)
        assert.strictEqual(content(path), before, name)
      }
    }))

  it.live("a row that can't be read is damage too, and does not hide the others", () =>
    Effect.gen(function*() {
      const path = yield* file
      const [good, bad] = [makeTask(), makeTask()]
      yield* using(path, (registry) => Effect.andThen(registry.addTask(good), registry.addTask(bad)))
      for (const document of ["{", "{}", "null"]) {
        yield* onDatabase(path, (db) => db.prepare("UPDATE tasks SET document = ? WHERE id = ?").run(document, bad.id))
        yield* using(path, (registry) =>
          Effect.gen(function*() {
            assert.instanceOf(yield* Effect.flip(registry.task(bad.id)), RegistryCorrupt)
            assert.deepStrictEqual(yield* registry.task(good.id), Option.some(good))
          }))
      }
    }))

  it.live("a directory, and a file where none can be made, are unavailable", () =>
    Effect.gen(function*() {
      const directory = yield* directories.make
      for (const path of [directory, Path.join(directory, "missing", "registry.db"), "/proc/registry.db"]) {
        const before = performance.now()
        assert.instanceOf(yield* opening(path), RegistryUnavailable, path)
        assert.isBelow(performance.now() - before, 90, "what will not pass is not waited for")
      }
    }))

  const chattr = (flag: "+i" | "-i", path: string) =>
    Effect.sync(() => spawnSync("chattr", [flag, path], { stdio: "ignore" }).status === 0)
  const immutable = (path: string) => Effect.acquireRelease(chattr("+i", path), () => chattr("-i", path))

  it.live("a file that can't be written is unavailable, and so is one in a directory that can't", (context) =>
    Effect.gen(function*() {
      for (const targetOf of [(path: string) => path, Path.dirname]) {
        const path = yield* filled
        yield* Effect.scoped(Effect.gen(function*() {
          if (!(yield* immutable(targetOf(path)))) return context.skip("this file system has no immutable files")
          const before = performance.now()
          const error = yield* Effect.flip(using(path, (registry) => registry.addTask(makeTask())))
          assert.instanceOf(error, RegistryUnavailable, targetOf(path))
          assert.isBelow(performance.now() - before, 2000, "what will not pass is not waited for")
        }))
        yield* using(path, (registry) => registry.addTask(makeTask()))
      }
    }))
})

describe("what it costs", () => {
  it.live("an admission and a commit are one durable transaction each, a refusal and a look are none", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          const task = makeTask({ limits: { maxConcurrent: 1 } })
          yield* registry.addTask(task)
          const agent = makeAgent(task.id)
          const cost = <A, E>(effect: Effect.Effect<A, E>) =>
            Effect.gen(function*() {
              const before = yield* durableTransactions(path)
              yield* Effect.result(effect)
              return (yield* durableTransactions(path)) - before
            })
          const event = { at: moment(1), detail: "it is up" }
          const facts = { token: agent.token, running, startedAt: moment(1) }
          assert.strictEqual(yield* cost(registry.admit(agent, roomy)), 1)
          assert.strictEqual(yield* cost(registry.admit(makeAgent(task.id), roomy)), 0)
          assert.strictEqual(yield* cost(registry.transition(agent.id, (agent) => commit(agent, facts), event)), 1)
          assert.strictEqual(yield* cost(registry.transition(agent.id, Result.succeed, event)), 0)
          const looks = Effect.all([registry.agent(agent.id), registry.agents({}), registry.taskCounts(task.id)])
          assert.strictEqual(yield* cost(looks), 0)
          assert.strictEqual(Option.getOrThrow(yield* registry.agent(agent.id)).state._tag, "running")
        }))
    }))

  it.live("an admission, a stop, and a list of the active look at indexed rows alone", () =>
    Effect.gen(function*() {
      const path = yield* file
      const queries = new Set<string>()
      const observe: Statement.Transformer = (statement) =>
        Effect.sync(() => {
          queries.add(statement.compile()[0])
          return statement
        })
      const task = makeTask()
      const parent = makeAgent(task.id, { state: { _tag: "running" } })
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          yield* registry.addTask(task)
          yield* registry.admit(parent, roomy)
          yield* Effect.gen(function*() {
            yield* registry.admit(makeAgent(task.id, { parent: parent.id, key: "k" }), roomy)
            yield* registry.taskCounts(task.id)
            yield* registry.agents({ activeOnly: true })
            yield* registry.agents({ activeOnly: true, taskId: task.id })
            yield* registry.agents({ taskId: task.id })
            yield* registry.transitionFamily(parent.id, Result.succeed, { at: moment(1), detail: "" })
            yield* registry.events(parent.id)
            yield* registry.defaultTask(makeTask())
          }).pipe(Effect.provideService(Statement.CurrentTransformer, observe))
        }))
      const plans = yield* onDatabase(path, (db) =>
        Array.from(queries).filter((query) =>
          /^\s*(SELECT|WITH)/.test(query)
        ).map((query) => ({
          query,
          steps: db.prepare(`EXPLAIN QUERY PLAN ${query}`).all(...Array.from(query.matchAll(/\?/g), () => null))
            .map((row) => String(row.detail))
        })))
      assert.isAbove(plans.length, 8)
      // A partial index that holds what is active alone may be walked as a whole, and so may a count that ends at its limit.
      const walked = /^SCAN (CONSTANT ROW|counted|active|family|agents USING (COVERING )?INDEX agents_(slots|active))$/
      for (const { query, steps } of plans) {
        const slow = steps.filter((step) => step.startsWith("SCAN") && !walked.test(step))
        assert.deepStrictEqual(slow, [], `${query}\n${steps.join("\n")}`)
      }
      const total = plans.find(({ query }) => query.includes("<> 'rolled-back'") && query.includes("task_id"))
      assert.include(total?.steps.join(), "agents_counted")
      // All agents of a task, the ended ones too, are looked at by whoever lists them alone.
      const admission = plans.find(({ query }) => query.includes("same_type"))
      assert.notInclude(admission?.steps.join() ?? "agents_task", "agents_task")
    }))

  it.live("what another client of SQL is given works alike", () =>
    Effect.gen(function*() {
      const path = yield* file
      const client = Layer.effect(SqlClient.SqlClient, NodeSqlite.make({ filename: path, busyTimeout: 0 })).pipe(
        Layer.provide(Reactivity.layer)
      )
      const task = makeTask()
      yield* Effect.flatMap(whole, (registry) =>
        Effect.gen(function*() {
          yield* registry.addTask(task)
          assert.deepStrictEqual(yield* registry.tasks, [task])
        })).pipe(Effect.provide(SqlRegistry.layer({ path }).pipe(Layer.provide(client))))
    }))
})
