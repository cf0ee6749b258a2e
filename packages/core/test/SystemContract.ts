/**
 * What process proof relies on in an operating system, the real one and the one in memory alike.
 */
import { assert, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import type { System } from "../src/machine/processes/System.ts"

/** A system to look at, with means to make a process on it. */
export interface Subject {
  readonly system: System
  /** Starts a process that leads a session of its own, and that ends on TERM unless it is deaf. */
  readonly start: (options: {
    readonly agentId?: string
    readonly homeId?: string
    readonly deaf?: boolean
  }) => Effect.Effect<number, never, Scope.Scope>
  /** Waits until the condition holds. */
  readonly eventually: (condition: () => boolean) => Effect.Effect<void>
}

export const suite = (name: string, subject: Effect.Effect<Subject, never, Scope.Scope>) => {
  const test = (title: string, body: (subject: Subject) => Effect.Effect<void, never, Scope.Scope>) =>
    it.live(`${name}: ${title}`, () => Effect.flatMap(subject, body))

  const lives = ({ system }: Subject, pid: number) => {
    const stat = system.stat(pid)
    return typeof stat !== "string" && !stat.zombie
  }

  test("a process that was started stands in the table, alone in its session and group", (subject) =>
    Effect.gen(function*() {
      const { start, system } = subject
      const pid = yield* start({})
      const table = system.table()
      if ("blind" in table) return assert.fail(table.blind)
      const row = table.find((each) => each.pid === pid) ?? assert.fail("it is not in the table")
      assert.deepInclude(row, { pid, sid: pid, pgid: pid, zombie: false, kernel: false })
      const stat = system.stat(pid)
      if (typeof stat === "string") return assert.fail(stat)
      assert.deepStrictEqual([stat.start, stat.ppid, stat.sid], [row.start, row.ppid, row.sid])
    }))

  test("a process that began later does not have an earlier start", ({ start, system }) =>
    Effect.gen(function*() {
      const startOf = (pid: number) => {
        const stat = system.stat(pid)
        return typeof stat === "string" ? assert.fail(stat) : system.seconds(stat.start)
      }
      const first = startOf(yield* start({}))
      assert.isAtLeast(startOf(yield* start({})), first)
    }))

  test("a birth moves the pid that was given out last", ({ start, system }) =>
    Effect.gen(function*() {
      const before = system.newestPid()
      yield* start({})
      assert.notStrictEqual(system.newestPid(), before)
    }))

  test("the environment tells agent and home, or that there is neither", ({ eventually, start, system }) =>
    Effect.gen(function*() {
      const marked = yield* start({ agentId: "an-agent", homeId: "a-home" })
      yield* eventually(() => system.environ(marked)._tag === "Read")
      assert.deepStrictEqual(system.environ(marked), { _tag: "Read", agentId: "an-agent", homeId: "a-home" })
      const plain = yield* start({})
      yield* eventually(() => system.environ(plain)._tag === "Read")
      assert.deepStrictEqual(system.environ(plain), { _tag: "Read", agentId: undefined, homeId: undefined })
    }))

  test("TERM ends a process, and asking alone does not", (subject) =>
    Effect.gen(function*() {
      const { eventually, start, system } = subject
      const pid = yield* start({})
      assert.strictEqual(system.kill(pid, 0), "sent")
      assert.isTrue(lives(subject, pid))
      assert.strictEqual(system.kill(pid, "SIGTERM"), "sent")
      yield* eventually(() => !lives(subject, pid))
    }))

  test("a process that ignores TERM ends by KILL to its group, and then nobody is there to be signalled", (subject) =>
    Effect.gen(function*() {
      const { eventually, start, system } = subject
      const pid = yield* start({ deaf: true })
      assert.strictEqual(system.kill(pid, "SIGTERM"), "sent")
      assert.isTrue(lives(subject, pid))
      assert.strictEqual(system.kill(-pid, "SIGKILL"), "sent")
      yield* eventually(() => system.kill(pid, 0) === "gone")
      assert.strictEqual(system.stat(pid), "gone")
      assert.strictEqual(system.environ(pid)._tag, "Gone")
      yield* eventually(() => system.kill(-pid, "SIGTERM") === "gone")
    }))
}
