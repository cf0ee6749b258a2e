import { afterAll, assert, describe, it } from "@effect/vitest"
import { type DateTime, Effect, Layer, Option, References, Result, Schema, type Scope, Stream } from "effect"
import { Reactivity } from "effect/reactivity"
import { Migrator, SqlClient } from "effect/sql"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { type Agent, commit, rollBack } from "../src/agent/Agent.ts"
import type { ReleaseOutcome, ReleaseRecord } from "../src/agent/Release.ts"
import * as Findings from "../src/reconcile/Findings.ts"
import * as Metrics from "../src/reconcile/Metrics.ts"
import type { Reaped } from "../src/reconcile/ReapPlan.ts"
import type { Totals } from "../src/registry/Counters.ts"
import type { TransitionEvent } from "../src/registry/EventLog.ts"
import { RegistryUnavailable } from "../src/registry/RegistryError.ts"
import * as Counters from "../src/registry/sql/Increments.ts"
import * as Migrations from "../src/registry/sql/Migrations.ts"
import * as NodeSqlite from "../src/registry/sqlite/NodeSqlite.ts"
import * as SqliteRegistry from "../src/registry/sqlite/SqliteRegistry.ts"
import { makeAgent, makeTask, moment, record, running, scratch } from "./rows.ts"
import * as Prometheus from "./support/Prometheus.ts"
import { type Whole, whole } from "./support/Registry.ts"
import { capture, finished, guarantee, open, request } from "./support/Scenario.ts"

const directories = scratch("metrics")
afterAll(() => assert.deepStrictEqual(directories.left(), []))

const file = Effect.map(directories.make, (directory) => Path.join(directory, "registry.db"))
const roomy = { allowDuplicate: false, homeLimit: Effect.succeed({ maxActive: 1000, ofCaller: false }) }

const using = <A, E>(path: string, use: (registry: Whole) => Effect.Effect<A, E, Scope.Scope>) =>
  Effect.scoped(Effect.flatMap(whole, use).pipe(Effect.provide(SqliteRegistry.layer({ path }))))

const onDatabase = <A>(path: string, use: (db: DatabaseSync) => A) =>
  Effect.acquireUseRelease(
    Effect.sync(() => new DatabaseSync(path)),
    (db) => Effect.sync(() => use(db)),
    (db) => Effect.sync(() => db.close())
  )

const took = (resource: string, millis: number, outcome: ReleaseOutcome = { _tag: "Released" }) => ({
  ...record(resource, outcome),
  millis
})

/** What a registry does with increments, as simply as it can be said. */
const sums = (transitions: ReadonlyArray<ReadonlyArray<Counters.Increment>>): ReadonlyArray<Counters.Counter> => {
  const rows: Array<Counters.Counter> = []
  for (const { reason, ...increment } of transitions.flat()) {
    const index = rows.findIndex((row) =>
      row.metric === increment.metric && row.label === increment.label && row.detail === increment.detail
    )
    const row = rows[index]
    const next = { ...increment, firstAt: "", lastAt: "", lastReason: reason }
    if (row === undefined) rows.push(next)
    else rows[index] = { ...next, count: row.count + next.count, micros: row.micros + next.micros }
  }
  return rows
}

const onCounters = (counters: ReadonlyArray<Counters.Counter>): Totals => ({
  agents: [],
  leaked: 0,
  ...Counters.totals(counters)
})

const agent = makeAgent(makeTask().id)
const ended = (releases: ReadonlyArray<ReleaseRecord>): TransitionEvent => ({ at: moment(1), detail: "", releases })

describe("the text", () => {
  const Resources = Schema.Literals(["prompt_file", "tmux_session", "task_registry"])
  // On the bounds as well as between them.
  const Millis = Schema.Union([
    Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: 20_000 })),
    Schema.Literals(Counters.releaseBounds.map((bound) => bound * 1000))
  ])

  it.effect.prop(
    "has of each histogram as many in each bucket as there were up to its bound, in whatever transitions they came",
    [Schema.Array(Schema.Array(Schema.Struct({ resource: Resources, millis: Millis })))],
    ([transitions]) =>
      Effect.sync(() => {
        const all = transitions.flat()
        const counters = sums(transitions.map((releases) =>
          Counters.ofTransition(agent, agent, ended(releases.map(({ millis, resource }) => took(resource, millis))))
        ))
        const families = Prometheus.parse(Metrics.prometheus(onCounters(counters)))
        const family = families.get("slipway_release_duration_seconds")
        for (const { labels, name, value } of family?.samples ?? []) {
          const mine = all.filter(({ resource }) =>
            resource === labels["resource"]
          )
          const seconds = mine.map(({ millis }) => millis / 1000)
          if (name.endsWith("_sum")) {
            assert.approximately(value, seconds.reduce((sum, each) => sum + each, 0), 1e-6 * mine.length + 1e-9)
          } else {
            const bound = labels["le"] === undefined || labels["le"] === "+Inf" ? Infinity : Number(labels["le"])
            assert.strictEqual(value, seconds.filter((each) => each <= bound).length, `${name} ${labels["le"]}`)
          }
        }
        assert.strictEqual(
          Object.values(
            Prometheus.values(families, "slipway_release_duration_seconds", "slipway_release_duration_seconds_count")
          ).reduce((sum, each) => sum + each, 0),
          all.length
        )
      })
  )

  it.effect.prop(
    "gives every label back as it was, whatever characters are in it",
    [Schema.Array(Schema.String)],
    ([names]) =>
      Effect.sync(() => {
        const distinct = [...new Set([...names, "a\"b\\c\nd", "\\n", "\\", "{}=,\"", "é\u2028"])]
        const rollbacks = distinct.map((step) => ({ step, count: 1 }))
        const families = Prometheus.parse(Metrics.prometheus({ ...onCounters([]), rollbacks }))
        assert.deepStrictEqual(
          families.get("slipway_rollbacks_total")?.samples.map(({ labels }) => labels["step"]),
          distinct
        )
      })
  )

  it("tells what never happened as 0, so that the first time is seen as an increase", () => {
    const families = Prometheus.parse(Metrics.prometheus(onCounters([])))
    assert.deepStrictEqual(Prometheus.values(families, "slipway_deployments_total"), { committed: 0, "rolled-back": 0 })
    assert.deepStrictEqual(Prometheus.values(families, "slipway_escalations_total"), { tmux_session: 0 })
    assert.deepStrictEqual(Prometheus.values(families, "slipway_strays_total"), { "": 0 })
    assert.deepStrictEqual(Object.values(Prometheus.values(families, "slipway_orphans_total")), [0, 0, 0, 0])
    assert.isNull(Metrics.successRate(onCounters([])))
  })

  it("of a standing reaper joins the registry's, and leaves out what it does not know yet", () => {
    const watch = { sinceTurnSeconds: null, lastTurnSeconds: null, turns: { done: 0, failed: 0 } }
    const early = Prometheus.parse(Metrics.prometheus(onCounters([])) + Metrics.prometheusWatch(watch))
    assert.deepStrictEqual(early.get("slipway_reap_last_turn_age_seconds")?.samples, [])
    const later = Prometheus.parse(
      Metrics.prometheusWatch({ sinceTurnSeconds: 1.5, lastTurnSeconds: 0.25, turns: { done: 3, failed: 1 } })
    )
    assert.deepStrictEqual(Prometheus.values(later, "slipway_reap_last_turn_age_seconds"), { "": 1.5 })
    assert.deepStrictEqual(Prometheus.values(later, "slipway_reap_turns_total"), { done: 3, failed: 1 })
  })
})

const committing = (agent: Agent, at: DateTime.Utc) => (row: Agent) =>
  commit(row, { token: agent.token, running, startedAt: at })

const failing = (step: string) => (row: Agent) =>
  rollBack(row, { step, error: { tag: "Boom", message: "boom" }, left: [], at: moment(2) })

const admitted = Effect.fnUntraced(
  function*(registry: Whole, options: Parameters<typeof makeAgent>[1] = {}) {
    const task = makeTask()
    yield* registry.addTask(task)
    const agent = makeAgent(task.id, options)
    yield* registry.admit(agent, roomy)
    return agent
  }
)

const exited = (row: Agent) =>
  Result.succeed<Agent>({ ...row, state: { _tag: "exited", code: 0, signal: null, outcome: "success" } })

describe("a count", () => {
  it.live("is stored with its transition, and none is lowered when agents are forgotten", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          const well = yield* admitted(registry)
          yield* registry.transition(well.id, committing(well, moment(3)), { at: moment(3), detail: "committed" })
          const bad = yield* admitted(registry)
          yield* registry.transition(bad.id, failing("session"), {
            at: moment(2),
            detail: "failed",
            releases: [took("prompt_file", 2), took("tmux_session", 700, { _tag: "Released", killed: 2 })]
          })
          yield* registry.transition(well.id, exited, {
            at: moment(4),
            detail: "ended",
            releases: [
              took("tmux_session", 12_000, { _tag: "Survivors", processes: [{ pid: 1, start: "1" }], killed: 1 })
            ]
          })
          const before = yield* registry.totals
          assert.deepStrictEqual(before.deployments, [
            { outcome: "committed", count: 1 },
            { outcome: "rolled-back", count: 1 }
          ])
          assert.strictEqual(Metrics.successRate(before), 0.5)
          assert.deepStrictEqual(before.rollbacks, [{ step: "session", count: 1 }])
          assert.deepStrictEqual(before.escalations, [{ resource: "tmux_session", count: 2 }])
          assert.strictEqual(before.survivors, 1)
          assert.deepInclude(before.deployDuration, { count: 1, seconds: 3 })
          const sessions = before.releaseDurations.find(({ resource }) => resource === "tmux_session")
          assert.deepInclude(sessions, { count: 2, seconds: 12.7 })
          assert.deepStrictEqual(sessions?.buckets.slice(-3), [
            { le: "5", count: 1 },
            { le: "10", count: 1 },
            { le: "+Inf", count: 2 }
          ])
          assert.strictEqual(yield* registry.forget([well.id, bad.id]), 2)
          const { agents, ...counted } = yield* registry.totals
          const { agents: were, ...counts } = before
          assert.deepStrictEqual([were.length, agents.length], [2, 0])
          assert.deepStrictEqual(counted, counts)
        }))
    }))

  it.live("is not stored with a transition that is refused or changes nothing", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          const agent = yield* admitted(registry)
          const releases = [took("prompt_file", 2)]
          yield* registry.transition(agent.id, Result.succeed, { at: moment(1), detail: "", releases })
          yield* Effect.exit(
            registry.transition(agent.id, () => Result.fail("refused"), { at: moment(1), detail: "", releases })
          )
          const { deployments, releaseDurations, releases: counted } = yield* registry.totals
          assert.deepStrictEqual([deployments, counted, releaseDurations], [[], [], []])
        }))
    }))

  it.live("of what a reap found rises once for each, however often it is found, and by whom", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, (registry) =>
        using(path, (other) =>
          Effect.gen(function*() {
            const agent = yield* admitted(registry)
            yield* registry.transition(agent.id, exited, { at: moment(1), detail: "" })
            const orphan = { subject: agent.id, verdict: "ended-agent" }
            const stray = { subject: "somebody", verdict: "stray" }
            assert.strictEqual(yield* registry.found([orphan, stray, stray], moment(1)), 2)
            assert.strictEqual(yield* other.found([stray, orphan], moment(2)), 0)
            assert.strictEqual(yield* other.found([{ ...orphan, verdict: "leftover" }], moment(2)), 1)
            yield* registry.forget([agent.id])
            assert.deepStrictEqual((yield* registry.totals).findings, [
              { verdict: "ended-agent", count: 1 },
              { verdict: "leftover", count: 1 },
              { verdict: "stray", count: 1 }
            ])
          })))
      const left = yield* onDatabase(
        path,
        (db) => db.prepare("SELECT subject FROM findings").all().map((row) => row.subject)
      )
      assert.deepStrictEqual(left, ["somebody"], "what is told of an agent goes with it")
    }))

  it.live("is read from as many rows as there are labels, not as there were releases", () =>
    Effect.gen(function*() {
      const path = yield* file
      yield* using(path, (registry) =>
        Effect.gen(function*() {
          const agent = yield* admitted(registry)
          for (let round = 0; round < 300; round++) {
            const event = { at: moment(round), detail: "", releases: [took("prompt_file", round)] }
            yield* registry.transition(agent.id, (row) => Result.succeed({ ...row, cwd: `/${round}` }), event)
          }
          assert.deepInclude((yield* registry.totals).releases[0], { count: 300, outcome: "Released" })
        }))
      const rows = yield* onDatabase(path, (db) => db.prepare("SELECT count(*) AS n FROM tallies").get()?.n)
      assert.isBelow(Number(rows), 20)
    }))
})

describe("what counts as found", () => {
  const reaped = (verdict: Reaped["item"]["verdict"], outcome: Reaped["outcome"], status: string | null): Reaped => ({
    item: { subject: `${verdict} ${outcome}`, verdict, status, evidence: "", action: "none" },
    outcome,
    status,
    problems: []
  })

  it("is an orphan that the reap dealt with, and a stray that it saw, and neither what was well nor what is unknown", () => {
    const found = Findings.of([
      reaped("dead-deployment", "done", "rolled-back"),
      reaped("ended-agent", "left", "leaked"),
      reaped("unfinished-ending", "skipped", "stopped"),
      reaped("stray", "skipped", null),
      reaped("stray", "done", "running"),
      reaped("session-gone", "skipped", "running"),
      reaped("unknown", "skipped", "running"),
      reaped("draft", "done", null)
    ])
    assert.deepStrictEqual(found, [
      { subject: "dead-deployment done", verdict: "dead-deployment" },
      { subject: "ended-agent left", verdict: "ended-agent" },
      { subject: "stray skipped", verdict: "stray" }
    ])
  })
})

describe("a registry of the former schema", () => {
  /** A registry as the first migration alone makes it. */
  const former = Effect.fnUntraced(function*(fill: (db: DatabaseSync) => void) {
    const path = yield* file
    const loader = Migrator.fromRecord({ "0001_initial": Migrations.migrations["0001_initial"] })
    yield* Migrator.make({})({ loader, table: Migrations.table }).pipe(
      Effect.provide(
        Layer.effect(SqlClient.SqlClient, NodeSqlite.make({ filename: path, busyTimeout: 0 })).pipe(
          Layer.provide(Reactivity.layer)
        )
      )
    )
    yield* onDatabase(path, fill)
    return path
  })

  const task = makeTask()
  const rows = (db: DatabaseSync) => {
    db.prepare("INSERT INTO tasks VALUES (?, '/project', 0, '2026-01-01', ?)").run(
      task.id,
      Schema.encodeSync(Schema.fromJsonString(Schema.Unknown))({
        ...task,
        createdAt: "2026-01-01T00:00:00.000Z"
      })
    )
    const insert = (id: string, status: string, detail: string | null) => {
      db.prepare(
        "INSERT INTO agents VALUES (?, ?, NULL, 'worker', ?, 0, 0, NULL, ?, '2026-01-01T00:00:00.000Z', '{}')"
      ).run(id, task.id, status, detail)
    }
    const event = (id: string, status: string) =>
      db.prepare("INSERT INTO events (agent_id, at, status, detail) VALUES (?, '2026-01-01T00:00:00.000Z', ?, '')").run(
        id,
        status
      )
    const release = (resource: string, outcome: string, millis: number, reason: string | null = null) =>
      db.prepare("INSERT INTO releases VALUES ('somebody-260102-030405-000000', ?, ?, ?, ?, ?)")
        .run(`2026-01-01T00:00:${String(millis % 60).padStart(2, "0")}.000Z`, resource, outcome, reason, millis)
    insert("one-260102-030405-000000", "exited", "success")
    insert("two-260102-030405-000000", "rolled-back", "session")
    insert("three-260102-030405-000000", "rolled-back", "readiness")
    insert("four-260102-030405-000000", "rolled-back", "session")
    for (const status of ["deploying", "running", "ending", "exited"]) event("one-260102-030405-000000", status)
    event("two-260102-030405-000000", "rolled-back")
    release("tmux_session", "Released", 3)
    release("tmux_session", "Released", 5)
    release("tmux_session", "Failed", 1100, "an earlier reason")
    release("tmux_session", "Failed", 20_030, "a later reason")
    release("prompt_file", "Released", 0)
  }

  it.live("is brought up to date in place, with all that it had counted", () =>
    Effect.gen(function*() {
      const path = yield* former(rows)
      const check = (registry: Whole) =>
        Effect.gen(function*() {
          const totals = yield* registry.totals
          assert.deepStrictEqual(
            totals.releases.map(({ count, lastReason, millis, outcome, resource }) => [
              resource,
              outcome,
              count,
              millis,
              lastReason
            ]),
            [
              ["prompt_file", "Released", 1, 0, null],
              ["tmux_session", "Failed", 2, 21_130, "a later reason"],
              ["tmux_session", "Released", 2, 8, null]
            ]
          )
          assert.deepStrictEqual(totals.deployments, [
            { outcome: "committed", count: 1 },
            { outcome: "rolled-back", count: 3 }
          ])
          assert.deepStrictEqual(totals.rollbacks, [{ step: "readiness", count: 1 }, { step: "session", count: 2 }])
          const families = Prometheus.parse(Metrics.prometheus(totals))
          const name = "slipway_release_duration_seconds"
          const buckets = Prometheus.values(families, name, `${name}_bucket`)
          const of = (le: string) => buckets[`tmux_session ${le}`]
          assert.deepStrictEqual([of("0.005"), of("1"), of("2.5"), of("10"), of("+Inf")], [2, 2, 3, 3, 4])
          const events = yield* registry.eventsAfter(0, 10)
          assert.deepStrictEqual(events.map(({ cleanup, from, to }) => [from, to, cleanup]), [
            [null, "deploying", null],
            ["deploying", "running", null],
            ["running", "ending", null],
            ["ending", "exited", null],
            [null, "rolled-back", null]
          ])
          assert.deepStrictEqual(Option.map(yield* registry.task(task.id), ({ id }) => id), Option.some(task.id))
        })
      yield* using(path, check)
      // Once, not at each opening.
      yield* using(path, check)
    }))

  it.live("stays as it is when it can't be brought up to date", () =>
    Effect.gen(function*() {
      // Something of the name of a later table makes the migration fail half way.
      const path = yield* former((db) => db.exec("CREATE TABLE findings (whatever TEXT)"))
      const schema = (db: DatabaseSync) =>
        db.prepare("SELECT name, sql FROM sqlite_master ORDER BY name").all().map(({ name, sql }) => [name, sql])
      const before = yield* onDatabase(path, schema)
      const error = yield* Effect.flip(using(path, () => Effect.void))
      assert.instanceOf(error, RegistryUnavailable)
      assert.deepStrictEqual(yield* onDatabase(path, schema), before)
      const versions = yield* onDatabase(path, (db) =>
        db.prepare("SELECT migration_id FROM slipway_migrations").all().length)
      assert.strictEqual(versions, 1)
    }))
})

describe("an agent that does not end when it is asked to", () => {
  const obstinate = "trap '' TERM; echo up; while :; do sleep 0.05; done"

  guarantee(
    "is counted as an escalation, told so in its event, and logged with how many got a KILL",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const ready = { ready: "output", readyWithin: 20_000 } as const
        const { agent } = yield* slipway.deploy(request(world, obstinate, ready))
        const gentle = yield* slipway.deploy(request(world, "echo up; exec sleep 1000", { ...ready, type: "gentle" }))
        const logs = capture()
        yield* finished(slipway, [agent.id, gentle.agent.id]).pipe(
          Effect.provide(logs.layer),
          Effect.provideService(References.MinimumLogLevel, "Debug")
        )
        const totals = yield* slipway.totals
        assert.deepStrictEqual(totals.escalations, [{ resource: "tmux_session", count: 1 }])
        assert.strictEqual(totals.survivors, 0)
        const sessions = logs.lines.filter(({ resource }) => resource === "tmux_session")
        assert.sameDeepMembers(sessions.map(({ level, text }) => [level, /"killed":\d/.test(text)]), [
          ["Info", true],
          ["Debug", false]
        ])
        assert.isTrue(sessions.every(({ text }) => /"outcome":"Released"/.test(text) && /"millis":\d/.test(text)))
        for (const { id } of [agent, gentle.agent]) {
          assert.isTrue(sessions.some(({ text }) => text.includes(`"agent":"${id}"`)), id)
        }
        const events = yield* slipway.follow().pipe(Stream.take(8), Stream.runCollect)
        const escalated = events.filter(({ cleanup }) => cleanup?.escalated === true)
        assert.deepStrictEqual(escalated.map(({ agentId, to }) => [agentId, to]), [[agent.id, "stopped"]])
        return [agent.id, gentle.agent.id]
      })
  )
})
