import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Os from "node:os"
import { Host, sameHost } from "../src/machine/Host.ts"
import { eventually, fakeSystem, identify, linux, lives, start } from "./processes.ts"

const identity = { machine: "m", boot: "b", pidNamespace: "n" }

describe("this machine", () => {
  it.live("the identity is the same for everyone who asks during one boot", () =>
    Effect.gen(function*() {
      const one = yield* Host
      const two = yield* Effect.provide(Host, Layer.fresh(Host.layer))
      assert.deepStrictEqual(one.identity, two.identity)
      assert.isTrue(sameHost(one.identity, two.identity))
      assert.isFalse(sameHost(one.identity, { ...one.identity, boot: "another" }))
      for (const part of Object.values(one.identity)) assert.isAbove(part.length, 0)
      assert.deepStrictEqual(one.self, identify(process.pid))
    }).pipe(Effect.provide(Host.layer)))

  it.live("the boot clock counts the seconds of this boot and never goes back", () =>
    Effect.gen(function*() {
      const host = yield* Host
      const first = yield* host.bootClock
      yield* Effect.sleep("30 millis")
      const second = yield* host.bootClock
      assert.isAbove(second, first)
      assert.approximately(second, Os.uptime(), 2)
    }).pipe(Effect.provide(Host.layer)))

  it.live("a process lives until it ends, and another start time is another process", () =>
    Effect.gen(function*() {
      const host = yield* Host
      assert.strictEqual(yield* host.probe(host.self), "alive")
      assert.strictEqual(yield* host.probe({ pid: host.self.pid, start: "1" }), "dead")
      const { root } = yield* start({ script: "echo ready; exec sleep 300" })
      assert.strictEqual(yield* host.probe(root), "alive")
      linux.kill(root.pid, "SIGKILL")
      yield* eventually(() => linux.stat(root.pid) === "gone")
      assert.strictEqual(yield* host.probe(root), "dead")
    }).pipe(Effect.provide(Host.layer)))

  it.live("a zombie is dead", () =>
    Effect.gen(function*() {
      const host = yield* Host
      const { named } = yield* start({ script: "sleep 0.2 & echo pid $!; echo ready; exec sleep 300" })
      const [zombie] = named
      assert.isDefined(zombie)
      yield* eventually(() => !lives(zombie))
      assert.notStrictEqual(linux.stat(zombie.pid), "gone")
      assert.strictEqual(yield* host.probe(zombie), "dead")
    }).pipe(Effect.provide(Host.layer)))
})

describe("an operating system in memory", () => {
  it.effect("a process that may not be signalled is alive", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10", onSignal: () => "denied" } })
      assert.strictEqual(yield* Host.make(fake.system, identity).probe({ pid: 100, start: "10" }), "alive")
    }))

  it.effect("a process whose row cannot be read, or is hidden, is unknown", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10" } })
      const unreadable = Host.make({ ...fake.system, stat: () => "unreadable" }, identity)
      assert.strictEqual(yield* unreadable.probe({ pid: 100, start: "10" }), "unknown")
      assert.strictEqual(yield* unreadable.probe({ pid: 101, start: "10" }), "dead")
      const hidden = Host.make({ ...fake.system, stat: () => "gone" }, identity)
      assert.strictEqual(yield* hidden.probe({ pid: 100, start: "10" }), "unknown")
    }))

  it.effect("a record without a start time, or with a group for a pid, is unknown", () =>
    Effect.gen(function*() {
      const host = Host.make(fakeSystem({ 100: { start: "10" } }).system, identity)
      assert.strictEqual(yield* host.probe({ pid: 100, start: "" }), "unknown")
      assert.strictEqual(yield* host.probe({ pid: -100, start: "10" }), "unknown")
      assert.strictEqual(yield* host.probe({ pid: 0, start: "10" }), "unknown")
    }))
})
