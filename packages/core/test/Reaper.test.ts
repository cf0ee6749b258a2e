import { assert, describe } from "@effect/vitest"
import { Item, type Reaped, ReapPlan, Slipway, type SlipwayOptions } from "@slipway/core"
import { Context, Effect, Layer, Schema } from "effect"
import { spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { AgentId } from "../src/agent/Agent.ts"
import { Ledger } from "../src/registry/Ledger.ts"
import { services } from "../src/Services.ts"
import { runModule, runProgram } from "./children.ts"
import { eventually, identify, lives } from "./processes.ts"
import * as Faults from "./support/Faults.ts"
import { agreed, guarantee, lasting, only, open, openAround, request, staying, written } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

type Facade = Slipway["Service"]

const tmux = (world: World.World, ...args: ReadonlyArray<string>) =>
  spawnSync("tmux", ["-S", world.socket, ...args], { encoding: "utf8" })

const verdicts = ({ items }: ReapPlan) => items.map(({ subject, verdict }) => [subject, verdict])

const outcomes = (reaped: ReadonlyArray<Reaped>) =>
  reaped.map(({ item, outcome, status }) => [item.verdict, outcome, status])

const reap = (slipway: Facade) => Effect.flatMap(slipway.reapPlan, (plan) => slipway.reap(plan))

/** The plan is empty: all is as the rows say. */
const settled = (slipway: Facade) => Effect.map(slipway.reapPlan, (plan) => assert.deepStrictEqual(verdicts(plan), []))

const statuses = (world: World.World) => World.rows(world).map(({ status }) => status)

const execute = (world: World.World, ...statements: ReadonlyArray<string>) => {
  const db = new DatabaseSync(Path.join(world.home, "registry.db"), { timeout: 5000 })
  try {
    for (const statement of statements) db.exec(statement)
  } finally {
    db.close()
  }
}

/** Changes the stored document of a row behind Slipway's back, as SQLite's JSON sees it. */
const edit = (world: World.World, id: string, path: string, value: string) =>
  execute(world, `UPDATE agents SET document = json_set(document, '${path}', ${value}) WHERE id = '${id}'`)

/** Makes a session by hand that bears these marks. */
const handMade = (world: World.World, name: string, marks: Record<string, string>, script = "exec sleep 1000") =>
  tmux(
    world,
    "new-session",
    "-d",
    "-s",
    name,
    ...Object.entries(marks).flatMap(([key, value]) => ["-e", `${key}=${value}`]),
    "--",
    "/bin/sh",
    "-c",
    script
  )

/** A process of nobody, which must live on whatever is reaped. */
const stranger = (env: Record<string, string> = {}) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => spawn("sleep", ["1000"], { cwd: "/", detached: true, stdio: "ignore", env })),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    ),
    (child) => identify(child.pid ?? assert.fail("no stranger"))
  )

/**
 * A deployer as a process of its own, which sends itself a signal as it comes to a step, and says how it ended.
 */
const deployerText = `
import { Slipway } from "@slipway/core"
import { Effect, Logger } from "effect"
const [home, project, type, moment, signal] = process.argv.slice(1)
const say = (line) => process.stdout.write(line + "\\n")
const strike = (at) => Effect.sync(() => {
  if (at !== moment) return
  say("at " + at)
  process.kill(process.pid, signal)
})
const caller = { environment: { PATH: process.env.PATH, HOME: project }, cwd: project, umask: 0o022, isRoot: process.getuid() === 0 }
const program = Effect.flatMap(Slipway, (slipway) =>
  slipway.deploy({
    project, type, prompt: "work", agent: { kind: "command", argv: ["sh", "-c", "echo up; exec sleep 1000"] },
    ready: "none", readyWithin: 100
  }, { onStep: strike, onCommitted: ({ agent }) => Effect.andThen(strike("committed"), Effect.sync(() => say("committed " + agent.id))) })
).pipe(Effect.provide([Slipway.layer({ directory: home, caller }), Logger.layer([])]))
Effect.runPromise(program).then(() => say("done"), (error) => say("failed " + (error.reason?._tag ?? error)))
`

const deployer = (
  world: World.World,
  moment: string,
  signal: NodeJS.Signals,
  { type = "worker" }: { readonly type?: string } = {}
) => runProgram(deployerText, [world.home, world.project, type, moment, signal])

const signalled = (child: { readonly process: { readonly signalCode: NodeJS.Signals | null } }) =>
  eventually(() => child.process.signalCode === "SIGKILL")

const isStopped = (pid: number | undefined) => Fs.readFileSync(`/proc/${pid}/stat`, "utf8").includes(") T ")

describe("a deployer that was killed", () => {
  for (const moment of ["agent-directory", "session", "readiness", "task-entry", "commit"]) {
    guarantee(
      `as it came to ${moment} is a dead deployment, of which one reap leaves nothing`,
      (world) =>
        Effect.gen(function*() {
          const slipway = yield* open(world)
          yield* signalled(yield* deployer(world, moment, "SIGKILL"))
          const plan = yield* slipway.reapPlan
          assert.lengthOf(plan.items, 1)
          assert.deepInclude(plan.items[0], { verdict: "dead-deployment", status: "deploying", action: "roll-back" })
          assert.match(plan.items[0]?.evidence ?? "", /process \d+ has ended/)
          assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["dead-deployment", "done", "rolled-back"]])
          assert.deepStrictEqual(World.leftovers(world), [])
          yield* settled(slipway)
        })
    )
  }

  guarantee(
    "before the admission has left nothing, and after the commit an agent that stays",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        yield* signalled(yield* deployer(world, "admission", "SIGKILL"))
        assert.deepStrictEqual(World.rows(world), [])
        yield* signalled(yield* deployer(world, "committed", "SIGKILL"))
        const { id } = only(yield* slipway.agents())
        assert.deepStrictEqual(statuses(world), ["running"])
        yield* settled(slipway)
        assert.deepStrictEqual(yield* reap(slipway), [])
        yield* agreed(slipway, id)
        yield* slipway.stop([id])
        return [id]
      })
  )

  guarantee(
    "and whose agent was bound to its scope takes the agent along, and the row says why",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const child = yield* runModule("support/deployer.ts", [world.root, "deployScoped", staying, "output"])
        yield* child.says("committed")
        yield* settled(slipway)
        child.process.kill("SIGKILL")
        yield* signalled(child)
        const plan = yield* slipway.reapPlan
        assert.deepInclude(plan.items[0], { verdict: "ended-agent", status: "running", action: "reconcile" })
        assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["ended-agent", "done", "stopped"]])
        const agent = yield* agreed(slipway, AgentId.make(plan.items[0]?.subject ?? ""))
        assert.deepInclude(agent.state, { _tag: "stopped", by: "owner-gone" })
        return [agent.id]
      })
  )
})

/** The facade of a process that looks an hour later: every lease of now has run out by its clock. */
const openLater = (world: World.World) =>
  openAround(world, {
    host: (host) => ({ ...host, bootClock: Effect.map(host.bootClock, (seconds) => seconds + 3600) })
  })

describe("a deployer that slept past its lease", () => {
  guarantee(
    "is taken over wherever it slept; when it goes on, its commit is refused and it releases what it still makes",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* openLater(world)
        const moments = ["agent-directory", "session", "task-entry", "commit"]
        const children = yield* Effect.forEach(
          moments,
          (moment) => deployer(world, moment, "SIGSTOP", { type: moment }),
          { concurrency: 2 }
        )
        yield* eventually(() => children.every(({ process }) => isStopped(process.pid)))
        const types = ({ items }: ReapPlan) => items.map(({ subject }) => subject.replace(/-\d{6}-.*/, "")).toSorted()
        const plan = yield* slipway.reapPlan
        assert.deepStrictEqual(types(plan), moments.toSorted())
        for (const item of plan.items) assert.match(item.evidence, /the lease ran out/)
        const reaped = yield* slipway.reap(plan)
        assert.deepStrictEqual(World.sessions(world), [])
        assert.deepStrictEqual(World.directories(world), [])
        assert.deepStrictEqual(World.entries(world), [])
        // It may go on any time, so that the row stays open; what it counted for is free.
        assert.deepStrictEqual(outcomes(reaped), moments.map(() => ["dead-deployment", "left", "ending"]))
        assert.isTrue(World.rows(world).every(({ holdsSlot }) => !holdsSlot))
        assert.deepStrictEqual(types(yield* slipway.reapPlan), moments.toSorted())

        for (const { process } of children) process.kill("SIGCONT")
        for (const child of children) assert.strictEqual(yield* child.says("failed"), "failed DeploymentEnded")
        assert.deepStrictEqual(statuses(world), moments.map(() => "rolled-back"))
        assert.deepStrictEqual(World.leftovers(world), [])
        yield* settled(slipway)
      }),
    60_000
  )

  guarantee("and is killed then is settled by the next reap", (world) =>
    Effect.gen(function*() {
      const slipway = yield* openLater(world)
      const child = yield* deployer(world, "task-entry", "SIGSTOP")
      yield* child.says("at task-entry")
      yield* reap(slipway)
      assert.deepStrictEqual(statuses(world), ["ending"])
      child.process.kill("SIGKILL")
      yield* signalled(child)
      assert.deepStrictEqual(outcomes(yield* reap(slipway)), [["unfinished-ending", "done", "rolled-back"]])
      yield* settled(slipway)
    }), 60_000)
})

describe("an ending that nobody finished", () => {
  guarantee(
    "since the stopper was killed half way is finished by the next reap, with the stopper's reason",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(
          request(world, "trap '' TERM; echo up; while :; do sleep 1000; done", {
            ready: "output",
            readyWithin: 20_000
          })
        )
        const text = `
        import { Slipway } from "@slipway/core"
        import { Effect, Logger } from "effect"
        const [directory, id] = process.argv.slice(1)
        Effect.runFork(Effect.flatMap(Slipway, (slipway) => slipway.stop([id], { grace: "100 seconds", reason: "enough" })).pipe(
          Effect.provide([Slipway.layer({ directory }), Logger.layer([])])
        ))`
        const stopper = yield* runProgram(text, [world.home, agent.id])
        yield* eventually(() => statuses(world)[0] === "ending")
        stopper.process.kill("SIGKILL")
        yield* signalled(stopper)
        assert.lengthOf(World.sessions(world), 1)
        const plan = yield* slipway.reapPlan
        assert.deepInclude(plan.items[0], { verdict: "unfinished-ending", status: "ending", action: "finish" })
        assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["unfinished-ending", "done", "stopped"]])
        const { state } = yield* agreed(slipway, agent.id)
        assert.deepInclude(state, { _tag: "stopped", reason: "enough", by: "request" })
        yield* settled(slipway)
        return [agent.id]
      })
  )
})

describe("what is left of a row that is final", () => {
  guarantee(
    "a session and processes that bear its marks are ended, under whatever name",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        yield* slipway.stop([agent.id])
        const marks = { SLIPWAY_AGENT_ID: agent.id, SLIPWAY_HOME_ID: slipway.home.id }
        handMade(world, "whatever", marks)
        const loose = yield* stranger(marks)
        const plan = yield* slipway.reapPlan
        assert.lengthOf(plan.items, 1)
        assert.deepInclude(plan.items[0], {
          subject: agent.id,
          verdict: "leftover",
          status: "stopped",
          action: "release"
        })
        assert.include(plan.items[0]?.evidence, "session whatever")
        assert.include(plan.items[0]?.evidence, `process ${loose.pid}`)
        assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["leftover", "done", "stopped"]])
        assert.isFalse(lives(loose))
        assert.deepStrictEqual(World.sessions(world), [])
        yield* settled(slipway)
        return [agent.id]
      })
  )

  guarantee(
    "a directory and an entry of a deployment that was rolled back are removed",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        yield* Effect.flip(slipway.deploy(request(world, "exit 3")))
        const { id, plan: made } = only(yield* slipway.agents())
        Fs.mkdirSync(made.directory)
        Fs.writeFileSync(Path.join(made.directory, `owner.${slipway.home.id}`), "")
        Fs.writeFileSync(Path.join(made.directory, "prompt.md"), "work")
        Fs.writeFileSync(made.entry, JSON.stringify({ agent_id: id, home_id: slipway.home.id }))
        const plan = yield* slipway.reapPlan
        assert.deepInclude(plan.items[0], { subject: id, verdict: "leftover", status: "rolled-back" })
        assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["leftover", "done", "rolled-back"]])
        assert.deepStrictEqual(World.leftovers(world), [])
        yield* settled(slipway)
      })
  )
})

describe("a stray", () => {
  guarantee(
    "is reported and lives on, until it is asked for by its id; then nothing of it is left",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        const { agent: other } = yield* slipway.deploy(lasting(world, { type: "other" }))
        execute(
          world,
          `DELETE FROM events WHERE agent_id = '${agent.id}'`,
          `DELETE FROM agents WHERE id = '${agent.id}'`
        )
        const plan = yield* slipway.reapPlan
        assert.lengthOf(plan.items, 1)
        assert.deepInclude(plan.items[0], {
          subject: agent.id,
          verdict: "stray",
          status: null,
          action: "remove-when-asked"
        })
        for (const what of ["session", "process", "directory", "task entry"]) {
          assert.include(plan.items[0]?.evidence, what)
        }
        for (const strays of [[], [other.id]]) {
          const [skipped] = yield* slipway.reap(plan, { strays })
          assert.deepInclude(skipped, { outcome: "skipped", status: null })
          assert.include(skipped?.problems[0], `slipway reap --stray ${agent.id}`)
        }
        assert.lengthOf(World.sessions(world), 2)
        assert.lengthOf(World.directories(world), 2)
        assert.deepStrictEqual(outcomes(yield* slipway.reap(plan, { strays: [agent.id] })), [["stray", "done", null]])
        assert.deepStrictEqual(World.sessions(world), [other.plan.session])
        assert.deepStrictEqual(World.directories(world), [other.id])
        assert.deepStrictEqual(World.entries(world), [`${other.id}.json`])
        yield* settled(slipway)
        yield* slipway.stop([other.id])
        return [other.id]
      })
  )

  guarantee("that is no agent's id is reported, and never touched", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const path = Path.join(world.home, "agents", "mine")
      Fs.mkdirSync(path)
      const plan = yield* slipway.reapPlan
      assert.deepStrictEqual(verdicts(plan), [["mine", "stray"]])
      const [skipped] = yield* slipway.reap(plan, { strays: ["mine"] })
      assert.deepInclude(skipped, { outcome: "skipped" })
      assert.isTrue(Fs.existsSync(path))
      Fs.rmdirSync(path)
    }))
})

describe("the task entry of a running agent", () => {
  for (
    const [how, change] of [
      ["is missing", (path: string) => Fs.rmSync(path)],
      ["tells something else", (path: string) => Fs.writeFileSync(path, "{}")]
    ] as const
  ) {
    guarantee(`is written again when it ${how}`, (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        change(agent.plan.entry)
        const plan = yield* slipway.reapPlan
        assert.deepInclude(plan.items[0], { subject: agent.id, verdict: "stale-entry", action: "rewrite" })
        assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["stale-entry", "done", "running"]])
        yield* agreed(slipway, agent.id)
        yield* settled(slipway)
        yield* slipway.stop([agent.id])
        return [agent.id]
      }))
  }

  guarantee(
    "is not written with an old state when the agent was stopped after the plan",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        Fs.writeFileSync(agent.plan.entry, "{}")
        const plan = yield* slipway.reapPlan
        yield* slipway.stop([agent.id])
        yield* slipway.reap(plan)
        assert.strictEqual((yield* agreed(slipway, agent.id)).state._tag, "stopped")
        return [agent.id]
      })
  )
})

describe("a draft that was not put in place", () => {
  guarantee(
    "is left alone while a writer may be at it, and is removed later; nothing else is",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        const { workspace } = agent.plan
        const drafts = [
          `${agent.plan.entry}.0123456789ab.tmp`,
          Path.join(workspace, "task.json.0123456789ab.tmp"),
          Path.join(Path.dirname(workspace), ".gitignore.0123456789ab.tmp"),
          Path.join(world.home, "home.0123456789ab.tmp")
        ]
        const others = [Path.join(workspace, "notes.tmp"), Path.join(world.project, "a.0123456789ab.tmp")]
        for (const path of [...drafts, ...others]) Fs.writeFileSync(path, "{")
        yield* settled(slipway)
        for (const path of [...drafts, ...others]) Fs.utimesSync(path, 1, 1)
        const plan = yield* slipway.reapPlan
        assert.sameDeepMembers(verdicts(plan), drafts.map((path) => [path, "draft"]))
        const [first] = plan.items
        const forged = others.map((subject) => ({ ...(first ?? assert.fail("no item")), subject }))
        const reaped = yield* slipway.reap({ ...plan, items: [...plan.items, ...forged] })
        assert.deepStrictEqual(reaped.map(({ outcome }) => outcome), [
          "done",
          "done",
          "done",
          "done",
          "skipped",
          "skipped"
        ])
        assert.deepStrictEqual(drafts.filter((path) => Fs.existsSync(path)), [])
        for (const path of others) Fs.rmSync(path)
        yield* settled(slipway)
        yield* slipway.stop([agent.id])
        return [agent.id]
      })
  )
})

describe("what lives", () => {
  guarantee("without its session, which somebody killed, is reported and goes on", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const script = "trap '' HUP; echo $$ > pid; echo up; while :; do sleep 0.1; done"
      const { agent } = yield* slipway.deploy(request(world, script, { ready: "output", readyWithin: 20_000 }))
      const self = identify(Number(yield* written(Path.join(world.project, "pid"))))
      tmux(world, "kill-session", "-t", `=${agent.plan.session}`)
      yield* eventually(() => World.sessions(world).length === 0)
      const plan = yield* slipway.reapPlan
      assert.deepInclude(plan.items[0], {
        subject: agent.id,
        verdict: "session-gone",
        status: "running",
        action: "none"
      })
      assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["session-gone", "skipped", "running"]])
      assert.isTrue(lives(self))
      yield* slipway.stop([agent.id])
      assert.isFalse(lives(self))
      yield* settled(slipway)
      return [agent.id]
    }))

  guarantee(
    "and is well is in no plan, however many agents there are and whatever is deployed and ends beside it",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { id: task } = yield* slipway.createTask({
          description: "many",
          project: world.project,
          maxAgents: 1000,
          maxConcurrent: 100
        })
        const well = yield* Effect.forEach(
          Array.from({ length: 20 }),
          (_, index) =>
            Effect.map(
              slipway.deploy(lasting(world, { task, type: `well${index}`, ready: "none" })),
              ({ agent }) => agent.id
            ),
          { concurrency: 4 }
        )
        const churning = { on: true }
        const churn = Effect.gen(function*() {
          const made: Array<AgentId> = []
          for (let index = 0; churning.on; index++) {
            const { agent } = yield* slipway.deploy(
              lasting(world, { task, type: `short${index % 3}`, allowDuplicate: true })
            )
            made.push(agent.id)
            if (index % 2 === 0) {
              yield* slipway.stop([agent.id])
            }
          }
          return made
        })
        const look = Effect.gen(function*() {
          const other = yield* open(world)
          for (let round = 0; round < 10; round++) {
            const plan = yield* other.reapPlan
            const touched = plan.items.filter(({ subject, verdict }) =>
              verdict === "stray" || well.some((id) => id === subject)
            )
            assert.deepStrictEqual(touched, [])
            const reaped = yield* other.reap(plan, { strays: plan.items.map(({ subject }) => subject) })
            assert.deepStrictEqual(reaped.flatMap(({ problems }) => problems), [])
          }
        }).pipe(Effect.ensuring(Effect.sync(() => void (churning.on = false))))
        const [made] = yield* Effect.all([churn, look], { concurrency: 2 })
        assert.isAbove(made.length, 0)
        for (const id of well) assert.strictEqual((yield* agreed(slipway, id)).state._tag, "running")
        yield* slipway.stop([...well, ...made])
        return [...well, ...made]
      }),
    120_000
  )

  guarantee(
    "and whose deployer commits and exits between two looks is in no plan either",
    (world) =>
      Effect.gen(function*() {
        const child = yield* deployer(world, "commit", "SIGSTOP")
        yield* child.says("at commit")
        // Again and again: the first one may come before the child has stopped itself.
        const goOn = eventually(() => {
          if (child.process.exitCode === null) child.process.kill("SIGCONT")
          return child.process.exitCode !== null
        })
        const slipway = yield* openAround(world, {
          ledger: (service) =>
            Ledger.of({ ...service, agents: (filter) => Effect.tap(service.agents(filter), () => goOn) })
        })
        const plan = yield* slipway.reapPlan
        assert.deepStrictEqual(statuses(world), ["running"])
        assert.deepStrictEqual(verdicts(plan), [])
        const { id } = only(yield* slipway.agents())
        yield* slipway.stop([id])
        return [id]
      })
  )
})

describe("what is foreign", () => {
  guarantee(
    "is in no plan and stays: sessions of a person, of like names, without marks, and of another home",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        yield* slipway.stop([agent.id])
        const alike = { SLIPWAY_AGENT_ID: agent.id, SLIPWAY_HOME_ID: "0123456789ab" }
        handMade(world, "mine", {})
        handMade(world, agent.plan.session, {})
        handMade(world, `${agent.plan.session}-2`, {})
        handMade(world, "agent_other", alike)
        const loose = yield* stranger(alike)
        const before = World.sessions(world).toSorted()
        assert.lengthOf(before, 4)
        yield* settled(slipway)
        assert.deepStrictEqual(yield* reap(slipway), [])
        // Asked for by name, too.
        const forged = (verdict: Item["verdict"], action: Item["action"]): Item => ({
          subject: agent.id,
          verdict,
          status: "stopped",
          evidence: "forged",
          action
        })
        const plan = yield* slipway.reapPlan
        const items = [
          forged("leftover", "release"),
          forged("stray", "remove-when-asked"),
          forged("ended-agent", "reconcile")
        ]
        yield* slipway.reap({ ...plan, items }, { strays: [agent.id] })
        assert.deepStrictEqual(World.sessions(world).toSorted(), before)
        assert.isTrue(lives(loose))
        tmux(world, "kill-server")
        return [agent.id]
      })
  )

  guarantee(
    "another home on the same socket keeps its agents, and each reaps its own alone",
    (world) =>
      Effect.gen(function*() {
        const second = yield* World.make
        const slipway = yield* open(world)
        const other = yield* open(second, { socket: world.socket })
        const { agent: theirs } = yield* other.deploy(lasting(second))
        const { agent: ours } = yield* slipway.deploy(lasting(world))
        execute(second, "DELETE FROM events", "DELETE FROM agents")
        yield* settled(slipway)
        assert.deepStrictEqual(verdicts(yield* other.reapPlan), [[theirs.id, "stray"]])
        yield* signalled(yield* deployer(world, "task-entry", "SIGKILL", { type: "dying" }))
        assert.deepStrictEqual(outcomes(yield* reap(slipway)), [["dead-deployment", "done", "rolled-back"]])
        assert.sameMembers([...World.sessions(world)], [ours.plan.session, theirs.plan.session])
        const theirPlan = yield* other.reapPlan
        yield* other.reap(theirPlan, { strays: [theirs.id, ours.id] })
        assert.deepStrictEqual(World.sessions(world), [ours.plan.session])
        yield* settled(other)
        yield* settled(slipway)
        yield* slipway.stop([ours.id])
        return [ours.id]
      })
  )
})

describe("who somebody is", () => {
  guarantee(
    "a deployer whose pid was given out anew is dead, and the stranger lives on",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        yield* signalled(yield* deployer(world, "task-entry", "SIGKILL"))
        const someone = yield* stranger()
        const { id } = World.rows(world)[0] ?? assert.fail("no row")
        edit(world, id, "$.lease.holder.pid", String(someone.pid))
        assert.deepStrictEqual(outcomes(yield* reap(slipway)), [["dead-deployment", "done", "rolled-back"]])
        assert.isTrue(lives(someone))
      })
  )

  guarantee(
    "a launcher whose pid was given out anew is gone, and the stranger lives on",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const someone = yield* stranger()
        const { agent } = yield* slipway.deploy(lasting(world))
        const pids = World.members(world).filter((pid) => pid !== agent.running?.serverPid)
        for (const pid of pids) process.kill(pid, "SIGKILL")
        yield* eventually(() => World.sessions(world).length === 0)
        edit(world, agent.id, "$.running.launcher.pid", String(someone.pid))
        assert.deepStrictEqual(outcomes(yield* reap(slipway)), [["ended-agent", "done", "lost"]])
        assert.isTrue(lives(someone))
        return [agent.id]
      })
  )

  guarantee(
    "a wall clock that was set back or forward changes nothing for who lives",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        const child = yield* deployer(world, "commit", "SIGSTOP", { type: "slow" })
        yield* child.says("at commit")
        for (const time of ["2001-01-01T00:00:00.000Z", "2101-01-01T00:00:00.000Z"]) {
          for (const { id } of World.rows(world)) edit(world, id, "$.createdAt", `'${time}'`)
          edit(world, agent.id, "$.startedAt", `'${time}'`)
          const plan = yield* slipway.reapPlan
          // The entry shows these times, and that is all that differs.
          assert.deepStrictEqual(verdicts(plan), [[agent.id, "stale-entry"]])
          yield* slipway.reap(plan)
          assert.sameMembers([...statuses(world)], ["running", "deploying"])
        }
        child.process.kill("SIGCONT")
        yield* child.says("committed")
        yield* slipway.stop((yield* slipway.agents()).map(({ id }) => id))
        return World.rows(world).map(({ id }) => id)
      })
  )
})

describe("a tmux that does not answer", () => {
  /** Stops a process, and has it go on when the test ends. */
  const stopped = (pid: number) =>
    Effect.acquireRelease(
      Effect.sync(() => process.kill(pid, "SIGSTOP")),
      () => Effect.ignore(Effect.try(() => process.kill(pid, "SIGCONT")))
    )

  guarantee(
    "leaves a dead deployment leaked, without its processes; the next reap finishes it",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        yield* signalled(yield* deployer(world, "commit", "SIGKILL"))
        const server = Number(tmux(world, "display-message", "-p", "#{pid}").stdout)
        yield* stopped(server)
        const [reaped] = yield* reap(slipway)
        assert.deepInclude(reaped, { outcome: "left", status: "leaked" })
        assert.include(reaped?.problems[0], "tmux_session")
        assert.deepStrictEqual(World.members(world).filter((pid) => pid !== server), [])
        assert.deepStrictEqual(World.rows(world).map(({ holdsSlot, status }) => ({ holdsSlot, status })), [
          { holdsSlot: true, status: "ending" }
        ])
        assert.lengthOf(World.directories(world), 1)
        process.kill(server, "SIGCONT")
        assert.deepStrictEqual(outcomes(yield* reap(slipway)), [["unfinished-ending", "done", "rolled-back"]])
        yield* settled(slipway)
      }),
    60_000
  )

  guarantee(
    "makes unknown what it alone could tell, and nothing is done about it until it answers",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent: gone } = yield* slipway.deploy(lasting(world, { type: "gone" }))
        const { agent: well } = yield* slipway.deploy(lasting(world, { type: "well" }))
        const server = gone.running?.serverPid ?? assert.fail("no server")
        yield* stopped(server)
        const ofGone = World.members(world).filter((pid) =>
          Fs.readFileSync(`/proc/${pid}/environ`, "utf8").includes(`SLIPWAY_AGENT_ID=${gone.id}`)
        )
        for (const pid of ofGone) process.kill(pid, "SIGKILL")
        const plan = yield* slipway.reapPlan
        assert.deepStrictEqual(verdicts(plan), [[gone.id, "unknown"]])
        assert.include(plan.items[0]?.evidence, "tmux does not answer")
        assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["unknown", "skipped", "running"]])
        assert.deepStrictEqual(World.rows(world).map(({ holdsSlot, status }) => ({ holdsSlot, status })), [
          { holdsSlot: true, status: "running" },
          { holdsSlot: true, status: "running" }
        ])
        process.kill(server, "SIGCONT")
        yield* eventually(() => World.sessions(world).length === 1)
        assert.deepStrictEqual(outcomes(yield* reap(slipway)), [["ended-agent", "done", "lost"]])
        yield* settled(slipway)
        yield* slipway.stop([well.id])
        return [gone.id, well.id]
      }),
    60_000
  )
})

describe("a plan that is applied later", () => {
  const throughFile = Effect.fnUntraced(function*(world: World.World, plan: ReapPlan) {
    const path = Path.join(world.root, "plan.json")
    Fs.writeFileSync(path, yield* Schema.encodeEffect(Schema.fromJsonString(ReapPlan))(plan))
    return yield* Schema.decodeUnknownEffect(Schema.fromJsonString(ReapPlan))(Fs.readFileSync(path, "utf8"))
  })

  guarantee(
    "from a file acts on what is in it and in a fresh one, and on nothing else",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        yield* signalled(yield* deployer(world, "task-entry", "SIGKILL", { type: "first" }))
        yield* signalled(yield* deployer(world, "task-entry", "SIGKILL", { type: "second" }))
        const old = yield* throughFile(world, yield* slipway.reapPlan)
        assert.lengthOf(old.items, 2)
        const [, second] = old.items
        const within = { ...old, items: old.items.filter((item) => item === second) }
        yield* signalled(yield* deployer(world, "task-entry", "SIGKILL", { type: "third" }))
        const fresh = yield* slipway.reapPlan
        assert.lengthOf(fresh.items, 3)
        const reaped = yield* slipway.reap(fresh, { within })
        assert.deepStrictEqual(reaped.map(({ item }) => item.subject), [second?.subject])
        assert.lengthOf(World.sessions(world), 2)
        // The same file again: what it names is in no fresh plan any more.
        assert.deepStrictEqual(yield* slipway.reap(yield* slipway.reapPlan, { within }), [])
        yield* reap(slipway)
        assert.deepStrictEqual(World.leftovers(world), [])
      })
  )

  guarantee("harms no agent that lives, whatever it says of it", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(lasting(world))
      const before = yield* agreed(slipway, agent.id)
      const plan = yield* slipway.reapPlan
      const items = Item.fields.verdict.literals.flatMap((verdict) =>
        Item.fields.action.literals.map((action): Item => ({
          subject: agent.id,
          verdict,
          status: "running",
          evidence: "forged",
          action
        }))
      )
      const reaped = yield* slipway.reap({ ...plan, items }, { strays: [agent.id] })
      const done = reaped.filter(({ outcome }) => outcome !== "skipped")
      assert.isTrue(done.every(({ item }) => item.action === "rewrite"), JSON.stringify(done))
      assert.deepStrictEqual(yield* agreed(slipway, agent.id), before)
      assert.deepStrictEqual(World.sessions(world), [agent.plan.session])
      yield* slipway.stop([agent.id])
      return [agent.id]
    }))

  guarantee(
    "finds settled by somebody else what it would have settled, and says so",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        yield* signalled(yield* deployer(world, "task-entry", "SIGKILL"))
        const plan = yield* slipway.reapPlan
        yield* slipway.agents()
        assert.deepStrictEqual(outcomes(yield* slipway.reap(plan)), [["dead-deployment", "skipped", "rolled-back"]])
        assert.deepStrictEqual(World.leftovers(world), [])
      })
  )

  guarantee("by two at once settles each thing once", (world) =>
    Effect.gen(function*() {
      const [first, second] = [yield* open(world), yield* open(world)]
      const types = ["a", "b", "c"]
      yield* Effect.forEach(
        types,
        (type) => Effect.flatMap(deployer(world, "commit", "SIGKILL", { type }), signalled),
        { concurrency: 2 }
      )
      const plans = yield* Effect.all([first.reapPlan, second.reapPlan], { concurrency: 2 })
      const both = yield* Effect.all([first.reap(plans[0]), second.reap(plans[1])], { concurrency: 2 })
      assert.deepStrictEqual(both.flat().flatMap(({ problems }) => problems), [])
      assert.deepStrictEqual(statuses(world), ["rolled-back", "rolled-back", "rolled-back"])
      assert.deepStrictEqual(World.leftovers(world), [])
      for (const { id } of World.rows(world)) {
        const events = yield* first.events(AgentId.make(id))
        assert.deepStrictEqual(events.map(({ status }) => status), ["deploying", "ending", "rolled-back"])
      }
      yield* settled(first)
    }))
})

describe("the cost of a plan", () => {
  /** The facade on counted services. */
  const counted = (world: World.World, faults: Faults.Faults) => {
    const options: SlipwayOptions = { directory: world.home, caller: World.caller(world) }
    const layer = Slipway.layerNoDeps(options).pipe(
      Layer.provide(Faults.layer(faults)),
      Layer.provide(services(options))
    )
    return Effect.map(Layer.build(layer), Context.get(Slipway))
  }
  const callsOf = Effect.fnUntraced(function*(slipway: Facade, faults: Faults.Faults) {
    faults.calls.length = 0
    faults.on = true
    yield* settled(slipway)
    faults.on = false
    return faults.calls.filter((call) => !call.startsWith("Files.")).toSorted()
  })

  guarantee(
    "is one call of tmux, one look at the processes and three statements, among ten thousand ended agents and fifty living",
    (world) =>
      Effect.gen(function*() {
        const faults = new Faults.Faults()
        const slipway = yield* counted(world, faults)
        const { agent } = yield* slipway.deploy(lasting(world))
        yield* slipway.stop([agent.id])
        const few = yield* callsOf(slipway, faults)
        assert.deepStrictEqual(few, [
          "Ledger.agents",
          "Ledger.statuses",
          "Ledger.tasks",
          "ProcessTree.snapshot",
          "Tmux.environments"
        ])
        execute(
          world,
          `WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000),
             ids AS (SELECT 'old-200102-030405-' || printf('%06x', i) AS id FROM n)
           INSERT INTO agents SELECT ids.id, task_id, parent, type, status, is_active, holds_slot, request_key, end_detail,
             created_at, replace(document, '${agent.id}', ids.id) FROM agents, ids WHERE agents.id = '${agent.id}'`
        )
        const { id: task } = yield* slipway.createTask({
          description: "many",
          project: world.project,
          maxAgents: 100,
          maxConcurrent: 100
        })
        const living = yield* Effect.forEach(
          Array.from({ length: 50 }),
          (_, index) =>
            Effect.map(
              slipway.deploy(lasting(world, { task, type: `well${index}`, ready: "none" })),
              ({ agent }) => agent.id
            ),
          { concurrency: 4 }
        )
        assert.lengthOf(World.sessions(world), 50)
        assert.lengthOf(World.rows(world), 10_051)
        assert.deepStrictEqual(yield* callsOf(slipway, faults), few)
        tmux(world, "kill-server")
        yield* slipway.stop(living, { grace: "100 millis" })
        return [agent.id, ...living]
      }),
    120_000
  )
})
