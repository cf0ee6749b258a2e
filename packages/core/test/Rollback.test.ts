import { assert, describe } from "@effect/vitest"
import { CleanupReport, type Observer } from "@slipway/core"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, References } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { AgentId } from "../src/agent/Agent.ts"
import { FileError, Files } from "../src/machine/Files.ts"
import { Host } from "../src/machine/Host.ts"
import { ProcessTree } from "../src/machine/ProcessTree.ts"
import { Ledger } from "../src/registry/Ledger.ts"
import { RegistryUnavailable } from "../src/registry/RegistryError.ts"
import { runModule } from "./children.ts"
import { eventually } from "./processes.ts"
import {
  agreed,
  capture,
  fakeTmux,
  finished,
  guarantee,
  lasting,
  numberIn,
  only,
  open,
  openAround,
  reasonOf,
  request,
  written
} from "./support/Scenario.ts"
import * as World from "./support/World.ts"

// The order in which a walk releases them: while a process may live, its files and its entry say what it is.
const kinds = ["tmux_session", "task_registry", "prompt_file", "global_registry"] as const

/** An observer that keeps the cleanup report, which a caller of an interrupted deployment is not handed. */
const watching = (observer: Observer = {}) => {
  const reports: Array<CleanupReport.CleanupReport> = []
  return {
    reports,
    observer: {
      ...observer,
      onRolledBack: (report: CleanupReport.CleanupReport) => Effect.sync(() => void reports.push(report))
    }
  }
}

/** Something that happens when all four resources are there, and the commit is about to begin. */
const beforeCommit = (effect: Effect.Effect<void>): Observer => ({
  onStep: (step) => step === "commit" ? effect : Effect.void
})

/** What became of each resource; a release that had to be tried again may find what it removed `AlreadyGone`. */
const outcomes = (report: CleanupReport.CleanupReport): Record<string, string | null> =>
  Object.fromEntries(kinds.map((kind) => {
    const outcome = CleanupReport.outcomeOf(report, kind)?._tag ?? null
    return [kind, outcome === "Released" || outcome === "AlreadyGone" ? "gone" : outcome]
  }))

const allGone = { task_registry: "gone", tmux_session: "gone", prompt_file: "gone", global_registry: "gone" }

const failingCommit = (service: Ledger["Service"]) =>
  Ledger.of({
    ...service,
    transition: (id, f, event) =>
      event.detail === "committed"
        ? Effect.fail(new RegistryUnavailable({ operation: "store the commit", because: "other", reason: "injected" }))
        : service.transition(id, f, event)
  })

/** It ends, and leaves a child behind for the rollback to find. */
const dying = "trap '' HUP; sleep 1000 & echo boom >&2; exit 3"

const rolledBack = (world: World.World) =>
  assert.deepStrictEqual(
    World.rows(world).map(({ holdsSlot, isActive, status }) => ({ holdsSlot, isActive, status })),
    [
      { holdsSlot: false, isActive: false, status: "rolled-back" }
    ]
  )

describe("what a deployment makes", () => {
  guarantee("all four references stand in the row before anything of them is made", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      let looked = false
      const look = Effect.gen(function*() {
        const { plan, state } = only(yield* slipway.agents())
        assert.strictEqual(state._tag, "deploying")
        assert.strictEqual(plan.socket, world.socket)
        assert.strictEqual(Path.dirname(plan.directory), Path.join(world.home, "agents"))
        assert.isTrue(plan.entry.startsWith(Path.join(world.project, ".slipway")))
        assert.isFalse(Fs.existsSync(plan.directory))
        assert.isFalse(Fs.existsSync(plan.entry))
        assert.deepStrictEqual(World.sessions(world), [])
        looked = true
      })
      const { agent } = yield* slipway.deploy(lasting(world), {
        onStep: (step) => step === "agent-directory" ? Effect.orDie(look) : Effect.void
      })
      assert.isTrue(looked)
      assert.deepStrictEqual(World.sessions(world), [agent.plan.session])
      assert.isTrue(Fs.existsSync(Path.join(agent.plan.directory, "prompt.md")))
      assert.isTrue(Fs.existsSync(agent.plan.entry))
      assert.strictEqual((yield* agreed(slipway, agent.id)).state._tag, "running")
      yield* finished(slipway, [agent.id])
      return [agent.id]
    }))

  guarantee(
    "an agent that ends early has its prompt file released, and no entry was ever made",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const error = yield* Effect.flip(slipway.deploy(request(world, dying)))
        assert.strictEqual(error.step, "readiness")
        assert.deepStrictEqual(outcomes(error.cleanup), { ...allGone, task_registry: null })
        assert.isTrue(CleanupReport.performed(error.cleanup))
        assert.deepStrictEqual(CleanupReport.problems(error.cleanup), [])
        assert.isTrue(error.isClean)
        rolledBack(world)
      })
  )
})

describe("whatever ends a deployment kills the session, removes the prompt file, and rolls both entries back", () => {
  guarantee("a typed failure", (world) =>
    Effect.gen(function*() {
      const slipway = yield* openAround(world, { ledger: failingCommit })
      const error = yield* Effect.flip(slipway.deploy(lasting(world)))
      reasonOf(error, "RegistryUnavailable")
      assert.strictEqual(error.step, "commit")
      assert.deepStrictEqual(outcomes(error.cleanup), allGone)
      assert.deepStrictEqual(
        error.cleanup.releases.map(({ resource }) => resource),
        [...kinds],
        "last made, first released"
      )
      rolledBack(world)
    }))

  guarantee("a defect", (world) =>
    Effect.gen(function*() {
      const slipway = yield* openAround(world, {
        ledger: (service) =>
          Ledger.of({
            ...service,
            transition: (id, f, event) =>
              event.detail === "committed" ? Effect.die("a defect") : service.transition(id, f, event)
          })
      })
      const { observer, reports } = watching()
      const exit = yield* Effect.exit(slipway.deploy(lasting(world), observer))
      assert.deepStrictEqual(Exit.isFailure(exit) && Cause.squash(exit.cause), "a defect")
      assert.deepStrictEqual(reports.map(outcomes), [allGone])
      rolledBack(world)
    }))

  guarantee("an interruption", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const reached = yield* Deferred.make<void>()
      const { observer, reports } = watching(
        beforeCommit(Effect.andThen(Deferred.succeed(reached, undefined), Effect.never))
      )
      const fiber = yield* Effect.forkChild(slipway.deploy(lasting(world), observer))
      yield* Deferred.await(reached)
      yield* Fiber.interrupt(fiber)
      assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)))
      assert.deepStrictEqual(reports.map(outcomes), [allGone])
      rolledBack(world)
    }))

  guarantee("a stop by somebody else just before the commit, which is then refused", (world) =>
    Effect.gen(function*() {
      const [slipway, other] = [yield* open(world), yield* open(world)]
      const stop = Effect.gen(function*() {
        const { id } = only(yield* other.agents())
        const fiber = yield* Effect.forkDetach(other.stop([id]))
        yield* eventually(() => World.rows(world).some(({ status }) => status === "ending"))
        return fiber
      })
      const stopping = yield* Deferred.make<Effect.Success<typeof stop>>()
      const error = yield* Effect.flip(
        slipway.deploy(
          lasting(world),
          beforeCommit(Effect.flatMap(Effect.orDie(stop), (fiber) => Effect.asVoid(Deferred.succeed(stopping, fiber))))
        )
      )
      assert.strictEqual(error.step, "commit")
      reasonOf(error, "DeploymentEnded")
      assert.isTrue(error.isClean)
      const [stopped] = yield* Fiber.join(yield* Deferred.await(stopping))
      assert.strictEqual(stopped?.state._tag, "rolled-back")
      rolledBack(world)
    }))

  guarantee("a stop by somebody else while the deployment waits for its agent", (world) =>
    Effect.gen(function*() {
      const [slipway, other] = [yield* open(world), yield* open(world)]
      const within = Duration.seconds(60)
      const waiting = yield* Deferred.make<void>()
      const deploying = yield* Effect.forkChild(Effect.timed(Effect.flip(
        slipway.deploy(
          request(world, "echo up > up; exec sleep 1000", { readyWithin: Duration.toMillis(within) }),
          {
            onStep: (step) => step === "readiness" ? Deferred.succeed(waiting, undefined) : Effect.void
          }
        )
      )))
      yield* Deferred.await(waiting)
      yield* written(Path.join(world.project, "up"))
      const [stopped] = yield* other.stop([only(yield* other.agents()).id])
      const [took, error] = yield* Fiber.join(deploying)
      assert.strictEqual(error.step, "readiness")
      reasonOf(error, "DeploymentEnded")
      assert.isTrue(error.isClean)
      assert.strictEqual(stopped?.state._tag, "rolled-back")
      assert.isBelow(Duration.toMillis(took), Duration.toMillis(within) / 4)
      rolledBack(world)
    }))

  guarantee("a settle by somebody else after the deployer has slept past its lease", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      // Somebody whose clock says that an hour has passed.
      const other = yield* openAround(world, {
        host: (service) => Host.of({ ...service, bootClock: Effect.map(service.bootClock, (now) => now + 3600) })
      })
      const sleepPastTheLease = Effect.asVoid(other.agents())
      const error = yield* Effect.flip(
        slipway.deploy(
          request(world, "exec sleep 1000", { ready: "none" }),
          beforeCommit(Effect.orDie(sleepPastTheLease))
        )
      )
      reasonOf(error, "DeploymentEnded")
      assert.isTrue(error.isClean)
      rolledBack(world)
    }))
})

describe("each release is on its own", () => {
  const failing = (path: string) => Effect.fail(new FileError({ operation: "remove", path, code: "EIO" }))
  const removingFails = (matches: (path: string) => boolean) => (service: Files["Service"]) =>
    Files.of({
      ...service,
      removeTree: (path) => matches(path) ? failing(path) : service.removeTree(path),
      removeFile: (path) => matches(path) ? failing(path) : service.removeFile(path)
    })
  /** All of the deployment's writes to its row after the admission fail, the rollback's as well. */
  const failingTransitions = (service: Ledger["Service"]) =>
    Ledger.of({
      ...service,
      transition: () =>
        Effect.fail(new RegistryUnavailable({ operation: "store it", because: "other", reason: "injected" }))
    })

  guarantee(
    "one that hangs is given up after five seconds for a session, reported, and tried again by who looks next",
    (world) =>
      Effect.gen(function*() {
        const log = capture()
        const slipway = yield* openAround(world, {
          ledger: failingCommit,
          processes: (service) => ProcessTree.of({ ...service, terminate: () => Effect.never })
        })
        const [took, error] = yield* Effect.timed(Effect.flip(slipway.deploy(lasting(world)))).pipe(
          Effect.provide(log.layer),
          Effect.provideService(References.MinimumLogLevel, "Debug")
        )
        assert.isAtLeast(Duration.toMillis(took), 4000)
        assert.isBelow(Duration.toMillis(took), 10_000)
        // The directory says what the processes are, so it stays as long as they may live.
        assert.deepStrictEqual(outcomes(error.cleanup), {
          ...allGone,
          tmux_session: "Failed",
          prompt_file: "Failed"
        })
        assert.isFalse(error.isClean)
        const problems = CleanupReport.problems(error.cleanup)
        assert.include(problems[0], "tmux_session")
        assert.include(problems[0], "not done within 5s")
        assert.include(problems[1], "prompt_file")
        for (const problem of problems) assert.include(error.message, problem)
        const logged = (wanted: string) =>
          log.lines.filter(({ level }) => level === wanted).map(({ resource }) => resource)
        assert.deepStrictEqual(logged("Error"), ["tmux_session", "prompt_file"])
        assert.deepStrictEqual(logged("Debug"), ["task_registry", "global_registry"])
        assert.deepStrictEqual(
          World.rows(world).map(({ holdsSlot, status }) => ({ holdsSlot, status })),
          [{ holdsSlot: true, status: "ending" }],
          "what may still live holds its slot"
        )
        assert.lengthOf(World.sessions(world), 1)
        yield* Effect.flatMap(open(world), (next) => next.agents())
        rolledBack(world)
      })
  )

  guarantee(
    "a directory that can't be removed does not keep the session alive, and holds no slot",
    (world) =>
      Effect.gen(function*() {
        const log = capture()
        const slipway = yield* openAround(world, {
          files: removingFails((path) =>
            path.includes("/agents/worker-") && !path.endsWith("launcher") && path.startsWith(world.home)
          )
        })
        const error = yield* Effect.flip(slipway.deploy(request(world, dying))).pipe(Effect.provide(log.layer))
        assert.deepStrictEqual(outcomes(error.cleanup), { ...allGone, task_registry: null, prompt_file: "Failed" })
        assert.include(error.message, "input/output error")
        assert.deepStrictEqual(log.lines.filter(({ level }) => level === "Error").map(({ resource }) => resource), [
          "prompt_file"
        ])
        assert.deepStrictEqual(
          World.rows(world).map(({ holdsSlot, status }) => ({ holdsSlot, status })),
          [{ holdsSlot: false, status: "ending" }]
        )
        yield* Effect.flatMap(open(world), (next) => next.agents())
        rolledBack(world)
      })
  )

  guarantee(
    "an entry that can't be removed does not keep the session or the prompt file",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* openAround(world, {
          ledger: failingCommit,
          files: removingFails((path) => path.endsWith(".json"))
        })
        const error = yield* Effect.flip(slipway.deploy(lasting(world)))
        assert.deepStrictEqual(outcomes(error.cleanup), { ...allGone, task_registry: "Failed" })
        assert.deepStrictEqual(World.sessions(world), [])
        assert.deepStrictEqual(World.directories(world), [])
        assert.lengthOf(World.entries(world), 1)
        yield* Effect.flatMap(open(world), (next) => next.agents())
        rolledBack(world)
      })
  )

  guarantee(
    "a row that can't be written back keeps nothing else, and is settled once the registry answers",
    (world) =>
      Effect.gen(function*() {
        let broken = true
        const slipway = yield* openAround(world, {
          ledger: (service) =>
            Ledger.of({
              ...service,
              transition: (id, f, event) =>
                broken ? failingTransitions(service).transition(id, f, event) : service.transition(id, f, event)
            })
        })
        const error = yield* Effect.flip(slipway.deploy(request(world, dying)))
        assert.deepStrictEqual(outcomes(error.cleanup), {
          ...allGone,
          task_registry: null,
          global_registry: "Failed"
        })
        assert.deepStrictEqual(World.directories(world), [])
        assert.deepStrictEqual(World.sessions(world), [])
        assert.deepStrictEqual(World.rows(world).map(({ status }) => status), ["deploying"])
        broken = false
        yield* slipway.agents()
        rolledBack(world)
      })
  )

  guarantee(
    "what was released is logged at DEBUG, and nothing above that when all went well",
    (world) =>
      Effect.gen(function*() {
        const log = capture()
        const slipway = yield* openAround(world, { ledger: failingCommit })
        yield* Effect.flip(slipway.deploy(lasting(world))).pipe(
          Effect.provide(log.layer),
          Effect.provideService(References.MinimumLogLevel, "Debug")
        )
        assert.deepStrictEqual(
          log.lines.map(({ level, resource }) => [level, resource]),
          kinds.map((kind) => ["Debug", kind])
        )
      })
  )
})

describe("what somebody else did to the files meanwhile", () => {
  const own = `cd "$SLIPWAY_HOME/agents/$SLIPWAY_AGENT_ID"`

  guarantee("a prompt file that is gone already is no problem", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const error = yield* Effect.flip(slipway.deploy(request(world, `${own}; rm prompt.md; exit 1`)))
      reasonOf(error, "AgentExitedEarly")
      assert.isTrue(error.isClean)
      rolledBack(world)
    }))

  guarantee("a directory that is gone already is no problem", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const error = yield* Effect.flip(slipway.deploy(request(world, `${own}; rm -rf "$PWD"; exec sleep 1000`)))
      assert.strictEqual(error.step, "readiness")
      assert.strictEqual(CleanupReport.outcomeOf(error.cleanup, "prompt_file")?._tag, "AlreadyGone")
      assert.isTrue(error.isClean)
      rolledBack(world)
    }))

  guarantee(
    "a directory that was replaced by a symbolic link is left alone with the link's target",
    (world) =>
      Effect.gen(function*() {
        const precious = Path.join(world.root, "precious")
        Fs.mkdirSync(precious)
        for (const name of ["launcher", "prompt.md", "mine"]) Fs.writeFileSync(Path.join(precious, name), name)
        const slipway = yield* openAround(world, { ledger: failingCommit })
        const swap = Effect.sync(() => {
          const [name = ""] = World.directories(world)
          const path = Path.join(world.home, "agents", name)
          Fs.renameSync(path, Path.join(world.root, "moved"))
          Fs.symlinkSync(precious, path)
        })
        const error = yield* Effect.flip(slipway.deploy(lasting(world), beforeCommit(swap)))
        assert.strictEqual(CleanupReport.outcomeOf(error.cleanup, "prompt_file")?._tag, "Failed")
        assert.include(error.message, "symbolic link")
        assert.deepStrictEqual(Fs.readdirSync(precious).toSorted(), ["launcher", "mine", "prompt.md"])
        assert.deepStrictEqual(World.sessions(world), [], "the processes are ended all the same")
        assert.deepStrictEqual(World.members(world), [])
        const { id } = only(yield* slipway.agents({ activeOnly: true }))
        assert.deepStrictEqual(Fs.readdirSync(precious).toSorted(), ["launcher", "mine", "prompt.md"])
        Fs.unlinkSync(Path.join(world.home, "agents", id))
        yield* slipway.agents()
        rolledBack(world)
      })
  )

  guarantee("a directory of somebody else at the agent's path is kept", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const occupy = Effect.gen(function*() {
        const { plan } = only(yield* slipway.agents())
        Fs.mkdirSync(plan.directory)
        Fs.writeFileSync(Path.join(plan.directory, "mine"), "mine")
      })
      const error = yield* Effect.flip(slipway.deploy(lasting(world), {
        onStep: (step) => step === "agent-directory" ? Effect.orDie(occupy) : Effect.void
      }))
      reasonOf(error, "AgentDirectoryFailed")
      assert.strictEqual(CleanupReport.outcomeOf(error.cleanup, "prompt_file")?._tag, "Kept")
      assert.isTrue(error.isClean)
      const [name = ""] = World.directories(world)
      assert.deepStrictEqual(Fs.readdirSync(Path.join(world.home, "agents", name)), ["mine"])
      Fs.rmSync(Path.join(world.home, "agents", name), { recursive: true })
      rolledBack(world)
    }))
})

describe("trouble with tmux", () => {
  guarantee(
    "a session that tmux refuses to make leaves nothing, and the error says what tmux said",
    (world) =>
      Effect.gen(function*() {
        const tmux = fakeTmux(world, `[ "$new" ] && { echo "no space for sessions" >&2; exit 1; }`)
        const slipway = yield* open(world, { tmux })
        const error = yield* Effect.flip(slipway.deploy(lasting(world)))
        reasonOf(error, "AgentSessionFailed")
        assert.strictEqual(error.step, "session")
        assert.include(error.message, "no space for sessions")
        assert.deepStrictEqual(outcomes(error.cleanup), { ...allGone, task_registry: null, tmux_session: null })
        rolledBack(world)
      })
  )

  guarantee("a session that was made although tmux failed is found and killed", (world) =>
    Effect.gen(function*() {
      // Earlier, the release of the launcher alone would end it.
      const untilUp = `while [ -d "$here" ] && ! [ -e "$here/project/up" ]; do sleep 0.02; done`
      const tmux = fakeTmux(world, `[ "$new" ] && { "$real" "$@"; ${untilUp}; echo "lost my way" >&2; exit 1; }`)
      const slipway = yield* open(world, { tmux })
      const error = yield* Effect.flip(slipway.deploy(request(world, "echo up > up; exec sleep 1000")))
      reasonOf(error, "AgentSessionFailed")
      assert.strictEqual(outcomes(error.cleanup)["tmux_session"], "gone")
      rolledBack(world)
    }))

  guarantee("a session whose command dies at once fails typed, and leaves nothing", (world) =>
    Effect.gen(function*() {
      const tmux = fakeTmux(world, `for a; do shift; [ "$a" = /bin/sh ] && a=/bin/false; set -- "$@" "$a"; done`)
      const slipway = yield* open(world, { tmux })
      const within = Duration.seconds(30)
      const [took, error] = yield* Effect.timed(
        Effect.flip(slipway.deploy(lasting(world, { readyWithin: Duration.toMillis(within) })))
      )
      // Such a session may be gone before tmux has told of it.
      assert.include(["AgentVanished", "AgentSessionFailed"], error.reason._tag)
      assert.isBelow(Duration.toMillis(took), Duration.toMillis(within) / 3)
      rolledBack(world)
    }))

  guarantee(
    "a tmux that hangs at the new session is given up after the step's limit, and its client is ended",
    (world) =>
      Effect.gen(function*() {
        const tmux = fakeTmux(world, `[ "$new" ] && { echo $$ > "$here/client"; exec sleep 1000; }`)
        const slipway = yield* open(world, { tmux, stepLimit: "2 seconds" })
        const [took, error] = yield* Effect.timed(Effect.flip(slipway.deploy(lasting(world))))
        assert.deepInclude(reasonOf(error, "StepTimedOut"), { step: "session", millis: 2000 })
        assert.isBelow(Duration.toMillis(took), 5000)
        const client = yield* numberIn(Path.join(world.root, "client"))
        yield* eventually(() => !Fs.existsSync(`/proc/${client}`))
        rolledBack(world)
      })
  )

  for (const when of ["while the rollback goes on", "when the rollback is over"]) {
    guarantee(
      `a client that outlives its time and makes the session ${when} finds nothing to run`,
      (world) =>
        Effect.gen(function*() {
          const file = (name: string) => Path.join(world.root, name)
          const letGo = Effect.gen(function*() {
            Fs.writeFileSync(file("late.go"), "")
            assert.strictEqual(yield* numberIn(file("late.code")), 0, "the late session was made")
            assert.include(Fs.readFileSync(file("late.out"), "utf8"), "agent_worker")
          })
          // The late client leaves the group that is killed with the one that was asked.
          Fs.writeFileSync(
            file("late"),
            `until [ -e "$1/late.go" ]; do [ -d "$1" ] || exit; sleep 0.02; done
          here=$1; shift; "$@" > "$here/late.out" 2>&1; echo $? > "$here/late.code"`
          )
          const tmux = fakeTmux(
            world,
            `[ "$new" ] && { setsid sh "$here/late" "$here" "$real" "$@" & exec sleep 1000; }`
          )
          const during = when.startsWith("while")
          const slipway = yield* openAround(world, {
            files: (service) =>
              Files.of({
                ...service,
                // Listed when the session's release is over, and the directory's begins.
                list: (path) => during ? Effect.andThen(letGo, service.list(path)) : service.list(path)
              })
          }, { tmux, stepLimit: "2 seconds" })
          const error = yield* Effect.flip(
            slipway.deploy(request(world, "echo ran >> ran; exec sleep 1000", { ready: "none" }))
          )
          reasonOf(error, "StepTimedOut")
          assert.isTrue(error.isClean)
          if (!during) {
            assert.deepStrictEqual(World.leftovers(world), [])
            yield* letGo
          }
          yield* eventually(() => World.sessions(world).length === 0)
          assert.isFalse(Fs.existsSync(Path.join(world.project, "ran")))
          rolledBack(world)
        })
    )
  }
})

describe("a commit that was stored although the deployer hears of a failure", () => {
  type Then = (id: AgentId) => Effect.Effect<unknown, unknown>

  /** Stores the commit, lets something happen, and then does not tell that it was stored. */
  const untold = (then: Then, how: "fail" | "die") => (service: Ledger["Service"]) =>
    Ledger.of({
      ...service,
      transition: (id, f, event) =>
        event.detail !== "committed" ? service.transition(id, f, event) : Effect.gen(function*() {
          yield* service.transition(id, f, event)
          yield* Effect.orDie(then(id))
          return yield* how === "die"
            ? Effect.die(new Error("injected"))
            : Effect.fail(new RegistryUnavailable({ operation: "commit", because: "other", reason: "injected" }))
        })
    })

  for (const how of ["fail", "die"] as const) {
    guarantee(`is a commit (${how})`, (world) =>
      Effect.gen(function*() {
        const slipway = yield* openAround(world, { ledger: untold(() => Effect.void, how) })
        const { agent } = yield* slipway.deploy(lasting(world))
        assert.strictEqual((yield* agreed(slipway, agent.id)).state._tag, "running")
        yield* finished(slipway, [agent.id])
        return [agent.id]
      }))
  }

  guarantee("keeps the output of an agent that has ended since", (world) =>
    Effect.gen(function*() {
      const other = yield* open(world)
      const slipway = yield* openAround(world, { ledger: untold(other.wait, "fail") })
      const { agent } = yield* slipway.deploy(request(world, "echo precious; sleep 0.3", { ready: "none" }))
      assert.strictEqual(agent.state._tag, "exited")
      assert.include(Fs.readFileSync(Path.join(agent.plan.directory, "stdout.log"), "utf8"), "precious")
      return [agent.id]
    }))

  guarantee("keeps an agent that somebody has stopped since a stopped one", (world) =>
    Effect.gen(function*() {
      const other = yield* open(world)
      const slipway = yield* openAround(world, { ledger: untold((id) => other.stop([id]), "fail") })
      const { agent } = yield* slipway.deploy(lasting(world))
      assert.strictEqual((yield* agreed(slipway, agent.id)).state._tag, "stopped")
      return [agent.id]
    }))
})

describe("a deployer that is killed", () => {
  const killed = Effect.fnUntraced(function*(world: World.World) {
    const script = "echo $$ > up; sleep 1000 & setsid sleep 1000 & wait"
    const deployer = yield* runModule("support/deployer.ts", [world.root, "deploy", script, "survive", "600000"])
    yield* deployer.says("step readiness")
    yield* written(Path.join(world.project, "up"))
    deployer.process.kill("SIGKILL")
    yield* eventually(() => deployer.process.signalCode === "SIGKILL")
    assert.lengthOf(World.sessions(world), 1)
    assert.isAbove(World.members(world).length, 2)
    assert.lengthOf(World.directories(world), 1)
  })

  guarantee("has its deployment rolled back whole by whoever looks next", (world) =>
    Effect.gen(function*() {
      yield* killed(world)
      const slipway = yield* open(world)
      const { state } = only(yield* slipway.agents())
      assert.strictEqual(state._tag, "rolled-back")
      rolledBack(world)
    }))

  guarantee("has its slot and its type free again for the very next deployment", (world) =>
    Effect.gen(function*() {
      yield* killed(world)
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(lasting(world))
      assert.deepStrictEqual(World.sessions(world), [agent.plan.session])
      yield* finished(slipway, [agent.id])
      assert.deepStrictEqual(World.rows(world).map(({ status }) => status), ["rolled-back", "stopped"])
      return [agent.id]
    }))
})
