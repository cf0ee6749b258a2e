import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Os from "node:os"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Prometheus from "../../core/test/support/Prometheus.ts"
import { canMount, disk, mount, processesOf, procFile, type Running, type Sandbox, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

/** Answers when the condition holds; what a reaper does once its patience is over takes longer than other waits. */
const eventually = (what: string, condition: () => boolean, seconds = 60) =>
  Effect.sync(condition).pipe(
    Effect.repeat({ until: (holds: boolean) => holds, schedule: Schedule.spaced("10 millis") }),
    Effect.timeoutOrElse({
      duration: `${seconds} seconds`,
      orElse: () => Effect.die(new Error(`never happened: ${what}`))
    })
  )

const lock = (box: Sandbox): string => Path.join(box.home, "reaper.json")

const watcher = Effect.fnUntraced(function*(box: Sandbox, every = "100ms", ...flags: ReadonlyArray<string>) {
  const watching = yield* box.start(["reap", "--watch", "--every", every, ...flags])
  yield* eventually("it watches", () => watching.stderr.includes("reaping every") || watching.ended)
  assert.isFalse(watching.ended, watching.stderr)
  return watching
})

const ends = Effect.fnUntraced(function*(watching: Running, signal: NodeJS.Signals) {
  assert.isFalse(watching.ended, watching.stderr)
  yield* watching.signal(signal)
  return (yield* watching.result).code
})

const statusOf = (box: Sandbox, id: string): string | undefined => box.rows().find((row) => row.id === id)?.status

const becomes = (box: Sandbox, id: string, status: string) =>
  eventually(`${id} becomes ${status}`, () => statusOf(box, id) === status)

const stubborn = "(trap '' TERM; while :; do sleep 1; done)"

const hasStrace = spawnSync("strace", ["-V"]).error === undefined

/** Runs the command on a system that refuses this fork of it, and all later ones where `when` says so. */
const shortOfMemory = (box: Sandbox, code: "ENOMEM" | "EAGAIN", when: string, args: ReadonlyArray<string>) =>
  box.startProgram("strace", [
    "-qq",
    "-o",
    box.path("trace"),
    "-e",
    "trace=clone,vfork,fork",
    "-e",
    `inject=clone,vfork,fork:error=${code}:when=${when}`,
    process.execPath,
    "--",
    box.bin,
    ...args
  ])

describe.skipIf(!hasStrace)("on a machine without memory for one more process", () => {
  for (const code of ["ENOMEM", "EAGAIN"] as const) {
    it.live(`commands say so with the code of an environment that can't be used, and nothing is left: ${code}`, () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        const run = (...args: ReadonlyArray<string>) =>
          Effect.flatMap(shortOfMemory(box, code, "1+", args), (running) => running.result)
        const deployed = yield* run("deploy", "--prompt", "x", "--ready", "none", "--", "true")
        assert.strictEqual(deployed.code, 4, deployed.stderr)
        assert.include(deployed.stderr, code)
        assert.include(deployed.stderr, "free memory")
        yield* box.assertNothingLeft
        const { agent_id: id } = yield* box.deploy("exec sleep 300")
        const stopped = yield* run("stop", id)
        assert.strictEqual(stopped.code, 6, stopped.stderr)
        assert.strictEqual((yield* box.run(["stop", id])).code, 0)
      }))

    it.live(`a standing reaper goes on with its next turn: ${code}`, () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        yield* box.deploy("exec sleep 300")
        const watching = yield* shortOfMemory(box, code, "2", ["reap", "--watch", "--every", "100ms"])
        yield* eventually("it watches", () => watching.stderr.includes("reaping every") || watching.ended)
        assert.isFalse(watching.ended, watching.stderr)
        yield* eventually(
          "a fork is refused",
          () => watching.ended || Fs.readFileSync(box.path("trace"), "utf8").includes("INJECTED")
        )
        const { agent_id: id } = yield* box.deploy("exit 3", ["--type", "next"])
        yield* becomes(box, id, "exited")
        assert.isFalse(watching.ended, watching.stderr)
        const reaper = JSON.parse(Fs.readFileSync(lock(box), "utf8"))
        process.kill(reaper.holder.pid, "SIGTERM")
        assert.strictEqual((yield* watching.result).code, 143)
      }))
  }
})

/** A deployment whose deployer was killed while it waited for the agent. */
const deadDeployment = Effect.fnUntraced(function*(box: Sandbox, type: string, command = "sleep 301") {
  const up = box.path(`${type}.up`)
  const script = `${command} & touch '${up}'; wait`
  const deployer = yield* box.start(
    ["deploy", "--prompt", "x", "--type", type, "--ready-within", "120s", "--", "sh", "-c", script]
  )
  yield* eventually("the agent is up", () => Fs.existsSync(up))
  yield* deployer.signal("SIGKILL")
  yield* deployer.result
  const row = box.rows().find(({ id }) => id.startsWith(`${type}-`))
  assert.strictEqual(row?.status, "deploying")
  return row?.id ?? ""
})

/** An agent that ends with 4 when the test asks for it. */
const untilTold = Effect.fnUntraced(function*(box: Sandbox, type: string) {
  const told = box.path(`${type}.told`)
  const deployed = yield* box.deploy(`until [ -e '${told}' ]; do sleep 0.05; done; exit 4`, ["--type", type])
  return { id: String(deployed.agent_id), tell: () => Fs.writeFileSync(told, "") }
})

/** Runs an effect while this process holds the registry's write lock. */
const locked = <A, E, R>(box: Sandbox, effect: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => {
      const holder = new DatabaseSync(Path.join(box.home, "registry.db"), { timeout: 10_000 })
      holder.exec("BEGIN IMMEDIATE")
      return holder
    }),
    () => effect,
    (holder) =>
      Effect.sync(() => {
        holder.exec("ROLLBACK")
        holder.close()
      })
  )

const failedTurn = "this reap failed, and the next one tries again"

describe("a standing reaper", () => {
  it.live(
    "goes on when the tmux server was killed, and settles what died with it and what comes after",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        const first = yield* box.deploy("exec sleep 300", ["--type", "first"])
        const escaped = yield* box.deploy("trap '' HUP; setsid sleep 300 & exec sleep 300", ["--type", "escaped"])
        const watching = yield* watcher(box)
        const server = Number(box.tmux("display-message", "-p", "#{pid}"))
        assert.isAbove(server, 1)
        process.kill(server, "SIGKILL")
        yield* eventually(
          "the server has ended",
          () => /^(|State:\s+Z)/m.test(procFile(server, "status").match(/^State:.*$/m)?.[0] ?? "")
        )
        yield* eventually(
          "the first is settled",
          () => !["running", "ending"].includes(statusOf(box, first.agent_id) ?? "")
        )
        const later = yield* box.deploy("exit 4", ["--type", "later"])
        yield* becomes(box, later.agent_id, "exited")
        const dead = yield* deadDeployment(box, "dead")
        yield* becomes(box, dead, "rolled-back")
        assert.strictEqual((yield* box.run(["stop", escaped.agent_id, "--grace", "200ms"])).code, 0)
        assert.strictEqual(yield* ends(watching, "SIGTERM"), 143)
        assert.deepStrictEqual(box.sessions(), [])
        assert.deepStrictEqual(processesOf(box.homeId ?? ""), [])
        assert.deepStrictEqual((yield* box.json(["reap", "--dry-run"])).value.items, [])
      }),
    240_000
  )

  it.live(
    "reports that the registry is locked for longer than it waits, and settles when it is free again",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        const agent = yield* untilTold(box, "agent")
        const watching = yield* watcher(box)
        yield* locked(
          box,
          Effect.gen(function*() {
            agent.tell()
            yield* eventually("the failed turn is reported", () => watching.stderr.includes(failedTurn))
            assert.strictEqual(statusOf(box, agent.id), "running")
          })
        )
        assert.match(watching.stderr, /the next one tries again: the registry [^\n]*lock/)
        yield* eventually("it is settled", () => watching.stdout.includes(`${agent.id} ended-agent: done`))
        assert.strictEqual(statusOf(box, agent.id), "exited")
        assert.strictEqual(yield* ends(watching, "SIGTERM"), 143)
      }),
    240_000
  )

  it.live("begins and reads while another process holds the registry's write lock", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.run(["ps"])
      const watching = yield* locked(box, watcher(box))
      assert.strictEqual(yield* ends(watching, "SIGTERM"), 143)
    }), 240_000)

  it.live(
    "that was killed in the middle of a release is followed at once by one that finishes it",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        const dead = yield* deadDeployment(box, "dead", stubborn)
        const first = yield* watcher(box)
        yield* becomes(box, dead, "ending")
        assert.strictEqual(yield* ends(first, "SIGKILL"), 137)
        assert.isTrue(Fs.existsSync(lock(box)))
        assert.strictEqual(statusOf(box, dead), "ending")
        const second = yield* watcher(box)
        yield* eventually("it is finished", () => second.stdout.includes(`${dead} unfinished-ending: done`))
        assert.strictEqual(statusOf(box, dead), "rolled-back")
        assert.strictEqual(yield* ends(second, "SIGINT"), 130)
        yield* box.assertNothingLeft
      }),
    240_000
  )

  it.live(
    "is one of five that begin at once; the others name it, and none leaves a draft",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        yield* box.run(["ps"])
        const all = yield* Effect.forEach(
          Array.from({ length: 5 }),
          () => box.start(["reap", "--watch", "--every", "100ms"])
        )
        yield* eventually("four have ended", () => all.filter(({ ended }) => ended).length >= 4)
        const [watching, ...more] = all.filter(({ ended }) => !ended)
        assert.isEmpty(more)
        if (watching === undefined) return assert.fail(all.map(({ stderr }) => stderr).join(""))
        for (const other of all.filter((each) => each !== watching)) {
          const { code, stderr } = yield* other.result
          assert.strictEqual(code, 3, stderr)
          assert.include(stderr, `process ${watching.child.pid} already watches this home`)
        }
        yield* eventually("it watches", () => watching.stderr.includes("reaping every"))
        assert.deepStrictEqual(Fs.readdirSync(box.home).filter((name) => name.endsWith(".tmp")), [])
        assert.strictEqual(yield* ends(watching, "SIGTERM"), 143)
        assert.isFalse(Fs.existsSync(lock(box)))
      }),
    240_000
  )

  it.live("refuses a second one also while it is frozen", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const watching = yield* watcher(box)
      yield* watching.signal("SIGSTOP")
      yield* eventually("it is frozen", () => /^State:\s+T/m.test(procFile(watching.child.pid ?? 0, "status")))
      const second = yield* box.run(["reap", "--watch"])
      yield* watching.signal("SIGCONT")
      assert.strictEqual(second.code, 3, second.stderr)
      assert.include(second.stderr, `process ${watching.child.pid} already watches this home`)
      assert.strictEqual(yield* ends(watching, "SIGTERM"), 143)
    }), 240_000)

  it.live("ends clean on INT, TERM and HUP, between two turns and in the middle of one", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.deploy("exec sleep 300", ["--type", "live"])
      for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
        const quiet = yield* watcher(box, "1h")
        assert.strictEqual(yield* ends(quiet, signal), 128 + Os.constants.signals[signal])
        // It is still at it when the agent that ignores TERM has been asked to end.
        const dead = yield* deadDeployment(box, signal.toLowerCase(), stubborn)
        const busy = yield* watcher(box)
        yield* becomes(box, dead, "ending")
        assert.strictEqual(yield* ends(busy, signal), 128 + Os.constants.signals[signal])
        const left = Fs.readdirSync(box.home).filter((name) => name.endsWith(".tmp") || name === "reaper.json")
        assert.deepStrictEqual(left, [])
        assert.strictEqual((yield* box.run(["reap"])).code, 0)
        assert.strictEqual(statusOf(box, dead), "rolled-back")
      }
      assert.lengthOf(box.sessions(), 1)
    }), 240_000)
})

/** Writes until nothing more can be written. */
const fill = (path: string): void => {
  for (const size of [1 << 20, 1 << 12, 1]) {
    try {
      while (true) Fs.appendFileSync(path, Buffer.alloc(size))
    } catch {
      // It is full.
    }
  }
}

describe.skipIf(!canMount)("a standing reaper on a disk of its own", () => {
  it.live("reports that the disk is full, and settles when there is room again", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* disk(box, "300m")
      const agent = yield* untilTold(box, "agent")
      const watching = yield* watcher(box)
      assert.isTrue(mount("-o", "remount,size=16m", box.home))
      const ballast = Path.join(box.home, "ballast")
      fill(ballast)
      agent.tell()
      for (const _ of [1, 2]) {
        const said = watching.stderr.length
        yield* eventually("a reap fails", () => watching.stderr.slice(said).includes(failedTurn))
      }
      assert.match(watching.stderr, /the next one tries again: the registry [^\n]+full/)
      assert.strictEqual(statusOf(box, agent.id), "running")
      Fs.rmSync(ballast)
      yield* becomes(box, agent.id, "exited")
      assert.strictEqual(yield* ends(watching, "SIGTERM"), 143)
      assert.isFalse(Fs.existsSync(lock(box)))
      assert.deepStrictEqual((yield* box.json(["reap", "--dry-run"])).value.items, [])
    }), 240_000)
})

/** A standing reaper, and how many turns it says that it has made. */
const counting = Effect.fnUntraced(function*(box: Sandbox, every = "100ms") {
  const watching = yield* watcher(box, every, "--metrics-port", "0")
  const port = Number(/127\.0\.0\.1:(\d+)\/metrics/.exec(watching.stderr)?.[1])
  const turns = Effect.callback<number>((resume) => {
    const request = Http.get({ host: "127.0.0.1", port, path: "/metrics", agent: false }, (response) => {
      let body = ""
      response.setEncoding("utf8").on("data", (text: string) => (body += text)).on("end", () => {
        const { done = 0, failed = 0 } = Prometheus.values(Prometheus.parse(body), "slipway_reap_turns_total")
        assert.strictEqual(failed, 0, watching.stderr)
        resume(Effect.succeed(done))
      })
    })
    request.on("error", (error) => resume(Effect.die(error)))
  })
  const after = (count: number) =>
    turns.pipe(
      Effect.repeat({ until: (done) => done >= count, schedule: Schedule.spaced("100 millis") }),
      Effect.timeout("180 seconds"),
      Effect.orDie
    )
  return { watching, pid: watching.child.pid ?? 0, after }
})

// What is resident now rises and falls with what else the machine has to do; the peak only rises.
const peakKilobytes = (pid: number): number => Number(/^VmHWM:\s+(\d+) kB$/m.exec(procFile(pid, "status"))?.[1])

const openFiles = (pid: number): number => Fs.readdirSync(`/proc/${pid}/fd`).length

/** Processor time in ticks of a hundredth of a second, with that of children that were waited for. */
const ticks = (pid: number): number => {
  const stat = procFile(pid, "stat")
  const [, , , , , , , , , , , user, system, usersChildren, systemsChildren] = stat.slice(stat.lastIndexOf(")") + 2)
    .split(" ")
  return [user, system, usersChildren, systemsChildren].reduce((sum, each) => sum + Number(each), 0)
}

/** How much more memory it may have after 200 turns than after 100. */
const memoryRatio = 1.2

/** How much of the time that it takes to start the command a turn may take. */
const turnRatio = 0.5

describe.skipIf(process.platform !== "linux")("a standing reaper is cheap", () => {
  it.live(
    `its peak of memory after 200 turns is at most ${memoryRatio} times that after 100, and no file stays open`,
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        for (const type of ["first", "second", "third"]) yield* box.deploy("exec sleep 300", ["--type", type])
        const { after, pid, watching } = yield* counting(box)
        // By then the engine has compiled what a turn uses.
        yield* after(100)
        const early = { memory: peakKilobytes(pid), files: openFiles(pid) }
        yield* after(200)
        const late = { memory: peakKilobytes(pid), files: openFiles(pid) }
        const ratio = late.memory / early.memory
        if (process.env["SLIPWAY_STATISTICS"] !== undefined) console.log(early, late, ratio)
        assert.isBelow(ratio, memoryRatio, JSON.stringify([early, late]))
        // A query of tmux that is under way has some.
        assert.isAtMost(late.files, early.files + 8)
        assert.strictEqual(yield* ends(watching, "SIGTERM"), 143)
      }),
    300_000
  )

  it.live(
    `a quiet turn takes at most ${turnRatio} of the time that 'slipway ps' takes, and a pause none`,
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        for (const type of ["first", "second", "third"]) yield* box.deploy("exec sleep 300", ["--type", type])
        // Two lines of two times, as "0m1.230s": the shell's own, and its children's.
        const script = `for i in 1 2 3 4 5; do "$@" ps >/dev/null || exit 1; done; times`
        const run = yield* Effect.flatMap(
          box.startProgram("sh", ["-c", script, "sh", process.execPath, box.bin]),
          ({ result }) => result
        )
        assert.strictEqual(run.code, 0, run.stderr)
        const times = Array.from(
          run.stdout.matchAll(/(\d+)m([\d.]+)s/g),
          ([, minutes, seconds]) => Number(minutes) * 60 + Number(seconds)
        )
        const command = (times[2] ?? 0) + (times[3] ?? 0)
        assert.isAbove(command, 0, run.stdout)

        const { after, pid, watching } = yield* counting(box)
        const first = yield* after(10)
        const from = ticks(pid)
        const turns = (yield* after(first + 20)) - first
        const perTurn = (ticks(pid) - from) / 100 / turns
        assert.strictEqual(yield* ends(watching, "SIGTERM"), 143)

        const quiet = yield* counting(box, "1h")
        yield* quiet.after(1)
        const before = ticks(quiet.pid)
        yield* Effect.sleep("3 seconds")
        const paused = (ticks(quiet.pid) - before) / 100
        assert.strictEqual(yield* ends(quiet.watching, "SIGTERM"), 143)
        if (process.env["SLIPWAY_STATISTICS"] !== undefined) console.log({ command: command / 5, perTurn, paused })
        assert.isBelow(perTurn / (command / 5), turnRatio)
        assert.isBelow(paused / (command / 5), turnRatio)
      }),
    300_000
  )
})
