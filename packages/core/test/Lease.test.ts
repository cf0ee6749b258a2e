import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { Host, type HostIdentity, type ProcessIdentity } from "../src/machine/Host.ts"
import { assess, assessHolder, grant } from "../src/machine/Lease.ts"
import { fakeSystem } from "./processes.ts"

const identity: HostIdentity = { machine: "m", boot: "b", pidNamespace: "n" }

/** A machine with one other process, at a second of its boot clock. */
const machine = (
  seconds: number,
  options: { readonly identity?: Partial<HostIdentity>; readonly unreadable?: boolean } = {}
) => {
  const { system } = fakeSystem({ 100: { start: "10" } })
  const seen = options.unreadable === true ? { ...system, stat: () => "unreadable" as const } : system
  return Host.of({ ...Host.make(seen, { ...identity, ...options.identity }), bootClock: Effect.succeed(seconds) })
}

const lease = (
  expiresAt: number,
  options: { readonly host?: Partial<HostIdentity>; readonly holder?: ProcessIdentity } = {}
) => ({
  host: { ...identity, ...options.host },
  holder: options.holder ?? { pid: 100, start: "10" },
  expiresAt
})

const standing = (of: ReturnType<typeof lease>, on: Host["Service"]) =>
  Effect.map(assess(on, of), (standing) => standing._tag)

it.effect("a lease is this process's, on this host, until so many seconds from now", () =>
  Effect.gen(function*() {
    const host = machine(40)
    const granted = yield* grant(host, 20)
    assert.deepInclude(granted, { host: identity, holder: host.self, expiresAt: 60 })
    assert.strictEqual(yield* standing(granted, host), "held")
  }))

it.effect("it is held while its holder lives and it has not run out, and then it has expired", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* standing(lease(60), machine(0)), "held")
    assert.strictEqual(yield* standing(lease(60), machine(60)), "held")
    assert.strictEqual(yield* standing(lease(60), machine(60.01)), "expired")
  }))

it.effect("it is dead when its holder is gone, or when another process has the pid", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* standing(lease(60, { holder: { pid: 101, start: "10" } }), machine(0)), "dead")
    assert.strictEqual(yield* standing(lease(60, { holder: { pid: 100, start: "11" } }), machine(0)), "dead")
    assert.strictEqual(yield* standing(lease(60, { holder: { pid: 101, start: "10" } }), machine(100)), "dead")
  }))

it.effect("it is dead after a restart of the machine, whatever process has the pid and whatever the clock says", () =>
  Effect.gen(function*() {
    for (const seconds of [0, 59, 1000]) {
      assert.strictEqual(yield* standing(lease(60, { host: { boot: "earlier" } }), machine(seconds)), "dead")
    }
  }))

it.effect("a holder on another machine is not assessed, and its clock is not ours", () =>
  Effect.gen(function*() {
    const away = lease(60, { host: { machine: "other", boot: "other" } })
    for (const seconds of [0, 1000]) assert.strictEqual(yield* standing(away, machine(seconds)), "unknown")
  }))

it.effect("a holder in another pid namespace, or behind another machine's id on this boot, has its expiry alone", () =>
  Effect.gen(function*() {
    for (const host of [{ pidNamespace: "other" }, { machine: "container" }]) {
      const away = lease(60, { host, holder: { pid: 101, start: "10" } })
      assert.strictEqual(yield* standing(away, machine(0)), "unknown")
      assert.strictEqual(yield* standing(away, machine(61)), "expired")
      const holder = yield* assessHolder(machine(61), away)
      assert.strictEqual(holder._tag, "unknown")
    }
  }))

it.effect("a holder that can't be looked at is not assessed until the lease has run out", () =>
  Effect.gen(function*() {
    assert.strictEqual(yield* standing(lease(60), machine(0, { unreadable: true })), "unknown")
    assert.strictEqual(yield* standing(lease(60), machine(61, { unreadable: true })), "expired")
  }))

it.effect("a wall clock that is set back or forward changes nothing", () =>
  Effect.gen(function*() {
    for (const time of [0, 4_000_000_000_000, 1]) {
      yield* TestClock.setTime(time)
      assert.strictEqual(yield* standing(lease(60), machine(30)), "held")
      assert.strictEqual(yield* standing(lease(60), machine(90)), "expired")
    }
  }))

it.effect("the verdict on a holder names the evidence", () =>
  Effect.gen(function*() {
    const gone = yield* assess(machine(0), lease(60, { holder: { pid: 101, start: "10" } }))
    assert.deepStrictEqual(gone, { _tag: "dead", evidence: "process 101 has ended" })
    const late = yield* assess(machine(75), lease(60))
    assert.deepStrictEqual(late, { _tag: "expired", evidence: "the lease ran out 15 s ago" })
  }))
