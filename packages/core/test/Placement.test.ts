import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Attributes from "../src/machine/processes/Attributes.ts"
import { runModule } from "./children.ts"
import { finished, guarantee, lasting, open, reasonOf, staying, written } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const Amount = Schema.Literals([0n, 1n, 256n, 1024n, 1_048_576n, Attributes.unlimited])
const Drawn = Schema.Struct({
  soft: Amount,
  hard: Amount,
  nice: Schema.Literals([-5, 0, 5, 19]),
  oomScoreAdj: Schema.Literals([-100, 0, 300]),
  cpus: Schema.Literals(["0", "0-1"]),
  may: Schema.Literals([0n, 1n << 23n, 1n << 24n, (1n << 23n) | (1n << 24n)]),
  niceLimit: Schema.Literals([0n, 20n, 40n])
})

const attributes = (drawn: typeof Drawn.Type): Attributes.Attributes => ({
  limits: {
    nofile: { soft: drawn.soft < drawn.hard ? drawn.soft : drawn.hard, hard: drawn.hard },
    nproc: { soft: drawn.hard, hard: drawn.hard },
    nice: { soft: drawn.niceLimit, hard: drawn.niceLimit }
  },
  nice: drawn.nice,
  oomScoreAdj: drawn.oomScoreAdj,
  cpus: drawn.cpus,
  capabilities: drawn.may,
  namespaces: {}
})

/** What a child of the server is like once the launcher has set what is carried. */
const applied = (server: Attributes.Attributes, carried: Attributes.Carried): Attributes.Attributes => ({
  ...server,
  limits: {
    ...server.limits,
    ...(carried.openFiles === undefined || server.limits.nofile === undefined
      ? {}
      : { nofile: { ...server.limits.nofile, soft: carried.openFiles } }),
    ...Object.fromEntries(carried.limits)
  },
  nice: server.nice + carried.niceBy,
  oomScoreAdj: carried.oomScoreAdj ?? server.oomScoreAdj,
  cpus: carried.cpus ?? server.cpus
})

describe("what is carried from the caller", () => {
  it.prop(
    "makes a child of the server like the caller, but for hard limits that only a capability raises",
    [Drawn, Drawn],
    ([one, other]) => {
      const [caller, server] = [attributes(one), attributes(other)]
      const answer = Attributes.carry(caller, server)
      if (Result.isFailure(answer)) return
      const child = applied(server, answer.success)
      assert.deepStrictEqual([child.nice, child.oomScoreAdj, child.cpus], [
        caller.nice,
        caller.oomScoreAdj,
        caller.cpus
      ])
      for (const name of ["nofile", "nproc"] as const) {
        const [has, wanted, base] = [child.limits[name], caller.limits[name], server.limits[name]]
        assert.isTrue(has !== undefined && wanted !== undefined && base !== undefined)
        assert.strictEqual(has?.soft, wanted?.soft)
        const mayRaise = (server.capabilities & (1n << 24n)) !== 0n
        const lower = (wanted?.hard ?? 0n) < (base?.hard ?? 0n) ? wanted?.hard : base?.hard
        assert.strictEqual(has?.hard, mayRaise ? wanted?.hard : lower)
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop(
    "is refused only where the kernel would refuse it: a soft limit above the server's hard one, or a lower nice value",
    [Drawn, Drawn],
    ([one, other]) => {
      const [caller, server] = [attributes(one), attributes(other)]
      const answer = Attributes.carry(caller, server)
      const [mayRaise, mayNice] = [24n, 23n].map((bit) => (server.capabilities & (1n << bit)) !== 0n)
      const above = (["nofile", "nproc", "nice"] as const).some((name) =>
        !mayRaise && (caller.limits[name]?.soft ?? 0n) > (server.limits[name]?.hard ?? 0n)
      )
      const nicer = caller.nice < server.nice && !mayNice && caller.nice < 20 - Number(server.limits.nice?.soft ?? 0n)
      assert.strictEqual(Result.isFailure(answer), above || nicer)
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop("is nothing where the two are the same", [Drawn], ([drawn]) => {
    const answer = Attributes.carry(attributes(drawn), attributes(drawn))
    assert.deepStrictEqual(Result.getOrThrow(answer), Attributes.nothing)
  })

  it("never is the limit of locks", () => {
    const own = Attributes.read("self")
    assert.isDefined(own)
    assert.notProperty(own?.limits, "locks")
    assert.lengthOf(Object.keys(own?.limits ?? {}), 15)
  })
})

const shows =
  "echo \"$(ulimit -Sn) $(ulimit -Sc) $(nice) $(cat /proc/self/oom_score_adj) $(taskset -cp $$ | sed 's/.*: //')\" > shown; "

/** Deploys by a process of its own, started through another program. */
const deployThrough = Effect.fnUntraced(function*(world: World.World, through: ReadonlyArray<string>) {
  const child = yield* runModule("support/deployer.ts", [world.root, "deploy", `${shows}${staying}`, "output"], through)
  return yield* Effect.raceFirst(child.says("committed"), child.says("failed"))
})

describe("where an agent runs", () => {
  guarantee(
    "its limits, nice value, OOM score and CPUs are its own caller's, not those of whoever deployed first",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent: first } = yield* slipway.deploy(lasting(world, { type: "first" }))
        const through = ["nice", "-n", "3", "prlimit", "--core=0:0", "--nofile=256:256", "taskset", "-c", "0"]
        const adjusted = ["sh", "-c", "echo 200 >/proc/self/oom_score_adj; exec \"$@\"", "sh"]
        const answer = yield* deployThrough(world, [...adjusted, ...through])
        assert.match(answer, /^committed /)
        const nice = Number(spawnSync("nice", { encoding: "utf8" }).stdout) + 3
        assert.strictEqual(yield* written(Path.join(world.project, "shown")), `256 0 ${nice} 200 0\n`)
        const agents = yield* slipway.agents()
        const second = agents.find(({ id }) => id !== first.id)
        assert.strictEqual(second?.running?.serverPid, first.running?.serverPid)
        yield* finished(slipway, agents.map(({ id }) => id))
        return agents.map(({ id }) => id)
      })
  )

  guarantee(
    "a limit that a child of the server can't have is refused before anything is made, and is named",
    (world) =>
      Effect.gen(function*() {
        const first = yield* deployThrough(world, ["prlimit", "--nofile=256:256"])
        assert.match(first, /^committed /)
        const slipway = yield* open(world)
        const [agent] = yield* slipway.agents()
        const server = Attributes.read(agent?.running?.serverPid ?? 0)
        const own = Attributes.read("self")
        const mayRaise = ((server?.capabilities ?? 0n) & (1n << 24n)) !== 0n
        assert.isAbove(Number(own?.limits.nofile?.soft), 256)
        const answer = yield* Effect.result(slipway.deploy(lasting(world, { type: "second" })))
        if (mayRaise) assert.strictEqual(answer._tag, "Success")
        else {
          const error = Result.isFailure(answer) ? answer.failure : assert.fail("it was deployed")
          const reason = reasonOf(error, "AttributeRefused")
          assert.deepStrictEqual([error.step, reason.attribute, reason.allowed], ["preflight", "nofile", "256"])
          assert.lengthOf(World.rows(world), 1)
        }
        const agents = yield* slipway.agents()
        yield* finished(slipway, agents.map(({ id }) => id))
        return agents.map(({ id }) => id)
      })
  )

  const isRoot = process.getuid?.() === 0
  // Without a capability an ordinary user has another namespace only in another user namespace, which hides the rest.
  const own = ["unshare", "--user", "--map-current-user"]
  for (
    const [namespace, unshare, shown] of [
      ["net", isRoot ? ["unshare", "--net"] : [...own, "--net"], isRoot ? "net" : "user"],
      ["ipc", isRoot ? ["unshare", "--ipc"] : [...own, "--ipc"], isRoot ? "ipc" : "user"],
      ["uts", isRoot ? ["unshare", "--uts"] : [...own, "--uts"], isRoot ? "uts" : "user"],
      ["user", own, "user"]
    ] as const
  ) {
    const can = spawnSync(unshare[0] ?? "", [...unshare.slice(1), "true"]).status === 0
    const test: typeof guarantee = can ? guarantee : (name) => it.skip(name)
    test(`a deployment from another ${namespace} namespace than the server's is refused before anything is made`, (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(lasting(world, { type: "first" }))
        const before = World.rows(world)
        const answer = yield* deployThrough(world, unshare)
        assert.include(answer, "another namespace")
        assert.include(answer, `(${shown})`)
        assert.deepStrictEqual(World.rows(world), before)
        yield* finished(slipway, [agent.id])
        return [agent.id]
      }))
  }

  guarantee(
    "the server has descriptors 0 to 2 alone, whatever its first caller was started under",
    (world) =>
      Effect.gen(function*() {
        const lock = Path.join(world.root, "lock")
        const holding = ["bash", "-c", "exec 200>\"$0\"; flock 200; exec 33<&200; exec \"$@\"", lock]
        const answer = yield* deployThrough(world, holding)
        assert.match(answer, /^committed /)
        const slipway = yield* open(world)
        const [agent] = yield* slipway.agents()
        const server = agent?.running?.serverPid ?? 0
        const held = Fs.readdirSync(`/proc/${server}/fd`).map((name) => Fs.readlinkSync(`/proc/${server}/fd/${name}`))
        assert.deepStrictEqual(held.filter((path) => path.startsWith(world.root) && !path.includes("tmux.sock")), [])
        yield* finished(slipway, agent === undefined ? [] : [agent.id])
        return agent === undefined ? [] : [agent.id]
      })
  )

  guarantee(
    "an agent that is deployed from a git hook works on its own repository, not on the caller's index",
    (world) =>
      Effect.gen(function*() {
        const git = (...args: ReadonlyArray<string>) =>
          spawnSync("git", ["-c", "user.name=n", "-c", "user.email=e@example.org", ...args], {
            cwd: world.project,
            encoding: "utf8"
          })
        git("init", "-q")
        const names = git("rev-parse", "--local-env-vars").stdout.trim().split("\n")
        assert.include(names, "GIT_INDEX_FILE")
        const ofHook = Object.fromEntries(
          [...names, "GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"].map((name) => [name, "/nowhere"])
        )
        const kept = { GIT_AUTHOR_NAME: "someone", GIT_SSH_COMMAND: "ssh -v" }
        const slipway = yield* open(world, { caller: World.caller(world, { ...ofHook, ...kept }) })
        const { agent } = yield* slipway.deploy(lasting(world, {
          agent: World.shell(`env > env.part; mv env.part env; ${staying}`)
        }))
        const lines = (yield* written(Path.join(world.project, "env"))).split("\n")
        const given = lines.map((line) => line.split("=")[0] ?? "").filter((name) => name.startsWith("GIT_"))
        assert.sameMembers(given, Object.keys(kept))
        yield* finished(slipway, [agent.id])
        return [agent.id]
      })
  )
})
