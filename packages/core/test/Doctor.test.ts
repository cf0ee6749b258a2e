import { assert, describe } from "@effect/vitest"
import { type Slipway } from "@slipway/core"
import { Tmux, TmuxNotFound } from "@slipway/tmux"
import { Effect, type Scope } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { type Agent, type AgentId } from "../src/agent/Agent.ts"
import { FileError, Files } from "../src/machine/Files.ts"
import { Ledger } from "../src/registry/Ledger.ts"
import { RegistryUnavailable } from "../src/registry/RegistryError.ts"
import { runProgram } from "./children.ts"
import { eventually, identify, linux, lives } from "./processes.ts"
import { guarantee, lasting, only, open, openAround, request } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

type Facade = Slipway["Service"]

const kinds = (slipway: Facade) =>
  Effect.map(slipway.doctor, ({ findings }) => findings.map(({ kind }) => kind).toSorted())

const isHealthy = Effect.fnUntraced(function*(slipway: Facade) {
  assert.deepStrictEqual(yield* slipway.doctor, { healthy: true, findings: [] })
})

/** The one finding, which is of this kind, names these things, and says what to do. */
const finds = Effect.fnUntraced(function*(
  slipway: Facade,
  kind: string,
  evidence: ReadonlyArray<string>,
  recommendation: string
) {
  const diagnosis = yield* slipway.doctor
  assert.deepStrictEqual(diagnosis.findings.map((finding) => finding.kind), [kind], JSON.stringify(diagnosis.findings))
  const [finding] = diagnosis.findings
  for (const part of evidence) assert.include(finding?.evidence, part)
  assert.include(finding?.recommendation, recommendation)
  assert.strictEqual(diagnosis.healthy, kind === "release-failures")
})

const reap = (slipway: Facade, strays: ReadonlyArray<string> = []) =>
  Effect.flatMap(slipway.reapPlan, (plan) => slipway.reap(plan, { strays }))

const execute = (world: World.World, ...statements: ReadonlyArray<string>) => {
  // So that a test may damage it.
  const options = { timeout: 5000, defensive: false }
  const db = new DatabaseSync(Path.join(world.home, "registry.db"), options)
  try {
    for (const statement of statements) db.exec(statement)
  } finally {
    db.close()
  }
}

const tmux = (world: World.World, ...args: ReadonlyArray<string>) =>
  spawnSync("tmux", ["-S", world.socket, ...args], { encoding: "utf8" })

/** The launcher first, so that it records nothing; the agent ends with its group. */
const killMembers = (world: World.World, agent: Agent) => {
  const launcher = agent.running?.launcher?.pid ?? assert.fail("no launcher")
  const isOf = (pid: number) => {
    try {
      return Fs.readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(`SLIPWAY_AGENT_ID=${agent.id}`)
    } catch {
      return false
    }
  }
  for (const pid of [launcher, ...World.members(world).filter((pid) => pid !== launcher && isOf(pid))]) {
    try {
      process.kill(pid, "SIGKILL")
    } catch {
      // It ended with the launcher.
    }
  }
}

/** Something that comes up with an agent, is found, and is mended; the home is healthy before and after. */
const finding = <E>(
  kind: string,
  how: string,
  body: (
    world: World.World,
    slipway: Facade,
    agent: Agent
  ) => Effect.Effect<void, E, Scope.Scope>
) =>
  guarantee(`${kind}: ${how}`, (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(lasting(world))
      yield* isHealthy(slipway)
      yield* body(world, slipway, agent)
      yield* isHealthy(slipway)
      const all = (yield* slipway.agents()).map(({ id }) => id)
      yield* slipway.stop(all)
      return World.rows(world).filter(({ status }) => status !== "rolled-back").map(({ id }) => id)
    }), 60_000)

describe("a healthy home", () => {
  guarantee(
    "is one that was just made, one in use, and one in which agents have ended, each in its way",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        yield* isHealthy(slipway)
        const ids: Array<AgentId> = []
        const deploy = Effect.fnUntraced(function*(type: string, script?: string) {
          const input = script === undefined ? lasting(world, { type }) : request(world, script, { type })
          const { agent } = yield* slipway.deploy(input)
          ids.push(agent.id)
          return agent
        })
        const stopped = yield* deploy("stopped")
        yield* deploy("running")
        yield* deploy("exited", "exit 0")
        const killed = yield* deploy("lost")
        yield* Effect.flip(slipway.deploy(request(world, "exit 3")))
        yield* slipway.stop([stopped.id])
        killMembers(world, killed)
        yield* slipway.wait(killed.id)
        yield* isHealthy(slipway)
        tmux(world, "kill-server")
        yield* Effect.forEach(ids, (id) => slipway.wait(id))
        yield* isHealthy(slipway)
        return ids
      })
  )
})

describe("a finding comes with what it names, and goes with what it recommends", () => {
  finding("dead-deployment", "a deployer was killed; a reap rolls back", (world, slipway) =>
    Effect.gen(function*() {
      const text = `
        import { Slipway } from "@slipway/core"
        import { Effect, Logger } from "effect"
        const [directory, project] = process.argv.slice(1)
        Effect.runFork(Effect.flatMap(Slipway, (slipway) => slipway.deploy({
          project, prompt: "work", type: "dying", agent: { kind: "command", argv: ["sleep", "1000"] }, ready: "none"
        }, { onStep: (step) => Effect.sync(() => step === "commit" && process.kill(process.pid, "SIGKILL")) })).pipe(
          Effect.provide([Slipway.layer({ directory }), Logger.layer([])])
        ))`
      const child = yield* runProgram(text, [world.home, world.project])
      yield* eventually(() => child.process.signalCode === "SIGKILL")
      yield* finds(slipway, "dead-deployment", ["dying-", "(deploying)", "has ended"], "slipway reap")
      yield* reap(slipway)
    }))

  finding(
    "ended-agent",
    "an agent was killed with its launcher; a reap records it",
    (world, slipway, agent) =>
      Effect.gen(function*() {
        killMembers(world, agent)
        yield* eventually(() => World.sessions(world).length === 0)
        yield* finds(slipway, "ended-agent", [agent.id, "(running)", "left no exit record"], "slipway reap")
        yield* reap(slipway)
      })
  )

  finding(
    "unfinished-ending",
    "an ending was begun and not finished; a reap finishes it",
    (world, slipway, agent) =>
      Effect.gen(function*() {
        const state = `{"_tag":"ending","as":{"_tag":"stopped","reason":"enough","by":"request"},"left":null}`
        execute(
          world,
          `UPDATE agents SET status = 'ending', document = json_set(document, '$.state', json('${state}')) WHERE id = '${agent.id}'`
        )
        yield* finds(slipway, "unfinished-ending", [agent.id, "(ending)"], "slipway reap")
        yield* reap(slipway)
      })
  )

  finding(
    "leftover",
    "a session bears the marks of an agent that has ended; a reap ends it",
    (world, slipway, agent) =>
      Effect.gen(function*() {
        yield* slipway.stop([agent.id])
        yield* isHealthy(slipway)
        const marks = [`SLIPWAY_AGENT_ID=${agent.id}`, `SLIPWAY_HOME_ID=${slipway.home.id}`].flatMap((
          mark
        ) => ["-e", mark])
        tmux(world, "new-session", "-d", "-s", "late", ...marks, "--", "sleep", "1000")
        yield* finds(slipway, "leftover", [agent.id, "(stopped)", "session late", "process "], "slipway reap")
        yield* reap(slipway)
      })
  )

  finding(
    "stale-entry",
    "the entry of a running agent was removed; a reap writes it",
    (_, slipway, agent) =>
      Effect.gen(function*() {
        Fs.rmSync(agent.plan.entry)
        yield* finds(slipway, "stale-entry", [agent.id, agent.plan.entry], "slipway reap")
        yield* reap(slipway)
      })
  )

  guarantee(
    "stale-entry: the entry of an agent that has ended was changed; a prune forgets both",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        yield* slipway.stop([agent.id])
        Fs.appendFileSync(agent.plan.entry, "\n")
        yield* finds(slipway, "stale-entry", [agent.plan.entry, agent.id], "slipway prune")
        // What is not ours any more is kept, so that the prune is asked for while the entry still names its agent.
        yield* Effect.sleep("2 millis")
        yield* slipway.prune({ olderThan: "1 millis" })
        yield* isHealthy(slipway)
      })
  )

  guarantee(
    "stray: a row is gone while the agent lives; a reap removes it when it is asked for",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world))
        execute(world, "DELETE FROM events", "DELETE FROM agents")
        yield* finds(slipway, "stray", [agent.id, `session ${agent.plan.session}`], "slipway reap --stray")
        yield* reap(slipway)
        yield* finds(slipway, "stray", [agent.id], "slipway reap --stray")
        yield* reap(slipway, [agent.id])
        yield* isHealthy(slipway)
      })
  )

  guarantee(
    "session-gone: somebody killed the session of an agent that goes on; a stop ends the agent",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const script = "trap '' HUP; echo up; while :; do sleep 0.1; done"
        const { agent } = yield* slipway.deploy(request(world, script, { ready: "output", readyWithin: 20_000 }))
        tmux(world, "kill-session", "-t", `=${agent.plan.session}`)
        yield* eventually(() => World.sessions(world).length === 0)
        yield* finds(slipway, "session-gone", [agent.id], "slipway stop")
        yield* slipway.stop([agent.id])
        yield* isHealthy(slipway)
        return [agent.id]
      })
  )

  finding(
    "draft",
    "a writer was killed before it was done; a reap removes what it left",
    (world, slipway, agent) =>
      Effect.gen(function*() {
        for (const path of [`${agent.plan.entry}.0123456789ab.tmp`, Path.join(world.home, "home.0123456789ab.tmp")]) {
          Fs.writeFileSync(path, "{")
          Fs.utimesSync(path, 1, 1)
          yield* finds(slipway, "draft", [path], "slipway reap")
          yield* reap(slipway)
          assert.isFalse(Fs.existsSync(path))
        }
      })
  )

  finding(
    "stale-file",
    "an agent's directory is followed by one that nobody knows",
    (world, slipway) =>
      Effect.gen(function*() {
        const path = Path.join(world.home, "agents", "mine")
        Fs.mkdirSync(path)
        assert.deepStrictEqual(yield* kinds(slipway), ["stale-file", "stray"])
        assert.isFalse((yield* slipway.doctor).healthy)
        Fs.rmdirSync(path)
      })
  )

  for (
    const [name, mode, wanted] of [
      ["", 0o755, "0700"],
      ["agents", 0o750, "0700"],
      ["registry.db", 0o644, "0600"],
      ["home.json", 0o640, "0600"]
    ] as const
  ) {
    finding(
      "permissions",
      `others may read ${name === "" ? "the home" : name}`,
      (world, slipway) =>
        Effect.gen(function*() {
          const path = name === "" ? world.home : Path.join(world.home, name)
          Fs.chmodSync(path, mode)
          yield* finds(slipway, "permissions", [path, mode.toString(8)], `chmod ${wanted} ${path}`)
          Fs.chmodSync(path, Number.parseInt(wanted, 8))
        })
    )
  }

  guarantee(
    "former-home: an agent lives whose home was removed, and another home stands at its place",
    (world) =>
      Effect.gen(function*() {
        const before = yield* open(world)
        const { agent } = yield* before.deploy(lasting(world))
        const server = agent.running?.serverPid ?? assert.fail("no server")
        const living = World.members(world).filter((pid) => pid !== server)
        // The end of one may be the end of another before its turn comes.
        const all = [...living, server].map(identify)
        const killAll = Effect.sync(() => all.filter(lives).forEach(({ pid }) => linux.kill(pid, "SIGKILL")))
        yield* Effect.addFinalizer(() => killAll)
        Fs.rmSync(world.home, { recursive: true })
        const slipway = yield* open(world)
        assert.notStrictEqual(slipway.home.id, agent.plan.homeId)
        const pids = living.toSorted((a, b) => a - b).map(String)
        const { findings } = yield* slipway.doctor
        // The tmux server has lost its socket with the home, which is a finding of its own.
        assert.sameMembers(findings.map(({ kind }) => kind), ["former-home", "tmux-server"])
        const { evidence, recommendation } = findings.find(({ kind }) => kind === "former-home") ?? assert.fail("none")
        for (const part of [agent.id, agent.plan.homeId, world.home, ...pids]) assert.include(evidence, part)
        assert.include(recommendation, "does not touch")
        assert.isTrue(living.every((pid) => Fs.existsSync(`/proc/${pid}`)))
        yield* killAll
        yield* eventually(() => !all.some(lives))
        yield* isHealthy(slipway)
        Fs.rmSync(agent.plan.entry)
      })
  )

  guarantee("tmux: there is none on the PATH any more", (world) =>
    Effect.gen(function*() {
      let missing = false
      const slipway = yield* openAround(world, {
        tmux: (service) =>
          Tmux.of({
            ...service,
            version: Effect.suspend(() =>
              missing ? Effect.fail(new TmuxNotFound({ executable: "tmux" })) : service.version
            )
          })
      })
      yield* isHealthy(slipway)
      missing = true
      yield* finds(slipway, "tmux", ["tmux"], "until that is mended")
      missing = false
      yield* isHealthy(slipway)
    }))

  guarantee("disk: less is free than a deployment asks for", (world) =>
    Effect.gen(function*() {
      let full = false
      const slipway = yield* openAround(world, {
        files: (service) =>
          Files.of({
            ...service,
            space: (path) =>
              Effect.map(service.space(path), (space) => full ? { ...space, freeBytes: 99_999_999 } : space)
          })
      })
      yield* isHealthy(slipway)
      full = true
      yield* finds(slipway, "disk", ["99 MB", world.home], "free some")
      full = false
      yield* isHealthy(slipway)
    }))

  finding("registry", "the database complains of itself", (world, slipway) =>
    Effect.gen(function*() {
      // As a torn page would: a value that the schema forbids.
      const schema = (from: string, to: string) =>
        `UPDATE sqlite_schema SET sql = replace(sql, '${from}', '${to}') WHERE name = 'events'`
      const [strict, lax] = ["detail TEXT NOT NULL", "detail TEXT"]
      const writable = "PRAGMA writable_schema = ON"
      execute(world, writable, schema(strict, lax), "PRAGMA writable_schema = RESET")
      execute(world, "UPDATE events SET detail = NULL WHERE id = (SELECT min(id) FROM events)")
      execute(world, writable, schema(lax, strict), "PRAGMA writable_schema = RESET")
      yield* finds(slipway, "registry", ["events.detail"], world.home)
      execute(world, "UPDATE events SET detail = 'restored' WHERE id = (SELECT min(id) FROM events)")
    }))
})

describe("a pattern in releases that failed", () => {
  guarantee("is told with its count and its last reason, and makes nobody ill", (world) =>
    Effect.gen(function*() {
      const slipway = yield* openAround(world, {
        ledger: (service) =>
          Ledger.of({
            ...service,
            transition: (id, f, event) =>
              event.detail === "committed"
                ? Effect.fail(
                  new RegistryUnavailable({ operation: "store the commit", because: "other", reason: "injected" })
                )
                : service.transition(id, f, event)
          }),
        files: (service) =>
          Files.of({
            ...service,
            removeTree: (path) => Effect.fail(new FileError({ operation: "remove", path, code: "EIO" }))
          })
      })
      yield* Effect.flip(slipway.deploy(lasting(world)))
      const mended = yield* open(world)
      assert.deepStrictEqual(yield* kinds(mended), ["release-failures", "unfinished-ending"])
      yield* reap(mended)
      assert.strictEqual(only(yield* mended.agents()).state._tag, "rolled-back")
      yield* finds(
        mended,
        "release-failures",
        ["1 of 2 releases of prompt_file", "Failed", "input/output error"],
        "cause"
      )
    }))
})

describe("an audit", () => {
  guarantee("changes nothing", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(lasting(world))
      Fs.rmSync(agent.plan.entry)
      killMembers(world, agent)
      yield* eventually(() => World.sessions(world).length === 0)
      const before = World.rows(world)
      const first = yield* slipway.doctor
      assert.deepStrictEqual(yield* slipway.doctor, first)
      assert.deepStrictEqual(World.rows(world), before)
      assert.isFalse(Fs.existsSync(agent.plan.entry))
      yield* reap(slipway)
      yield* isHealthy(slipway)
      return [agent.id]
    }))
})
