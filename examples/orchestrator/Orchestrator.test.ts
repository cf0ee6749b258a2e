/** The orchestrator's tests, without tmux: agents do what the scripts say, on the test's clock. */
import { assert, it } from "@effect/vitest"
import { Slipway } from "@slipway/core"
import * as Testing from "@slipway/core/testing"
import { Clock, Effect } from "effect"
import { TestConsole } from "effect/testing"
import { inMemory } from "./Leases.ts"
import { orchestrate } from "./Orchestrator.ts"
import { portLease } from "./Port.ts"

const { after, complains, exits, hangs, ignoresTerm, says } = Testing

const scripts = {
  greeter: [says("hello to: everybody"), after("1 minute"), exits(0)],
  helper: [says("working on: help"), hangs],
  failing: [complains("no key for the model"), exits(3)]
} satisfies Testing.MemoryOptions["agents"]

const kit = (options: Testing.MemoryOptions = {}) => {
  const leases = inMemory()
  const layer = Testing.Slipway.layerMemory({
    directories: ["/srv/project"],
    agents: scripts,
    resources: [portLease(leases)],
    ...options
  })
  return { leases, layer }
}

const run = orchestrate({ project: "/srv/project", agents: "/srv/agents" })

it.effect("greets everybody, has a helper, tells of a failure, and leaves nothing", () =>
  Effect.gen(function*() {
    yield* run
    const lines = (yield* TestConsole.logLines).join("\n")
    assert.match(lines, /greeter-\S+ is exited and said: hello to: everybody/)
    assert.match(lines, /helper-\S+ helps on port 4001/)
    assert.include(
      lines,
      "at readiness: the agent ended with exit code 3 before it was up: no key for the model; clean: true"
    )
    assert.isAtLeast(yield* Clock.currentTimeMillis, 60_000)
    const asked = (yield* Testing.deployed).map(({ agent }) => agent.type)
    assert.deepStrictEqual(asked, ["greeter", "helper", "failing"])
    yield* Testing.expectNothingLeft
  }).pipe(Testing.elapse, Effect.provide(kit().layer)))

it.effect("gives the port back also when the helper does not end by itself", () => {
  const { layer, leases } = kit({ agents: { ...scripts, helper: [ignoresTerm, says("busy"), hangs] } })
  return Effect.gen(function*() {
    yield* run
    assert.isUndefined(yield* leases.ownerOf(4001))
    yield* Testing.expectNothingLeft
  }).pipe(Testing.elapse, Effect.provide(layer))
})

it.effect("fails, and leaves nothing, when tmux makes no session", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(run)
    assert.propertyVal(error, "step", "session")
    yield* Testing.expectNothingLeft
  }).pipe(Testing.elapse, Effect.provide(kit({ faults: [Testing.failAt("session")] }).layer)))

for (const step of ["agent-directory", "resources", "session", "commit"] as const) {
  it.effect(`leaves nothing behind one reap when it is killed at the step ${step} of a deployment`, () => {
    const { layer, leases } = kit()
    return Effect.gen(function*() {
      yield* Testing.killedAt(step, run)
      const slipway = yield* Slipway
      yield* slipway.reap(yield* slipway.reapPlan)
      yield* Testing.expectNothingLeft
      assert.isUndefined(yield* leases.ownerOf(4001))
    }).pipe(Testing.elapse, Effect.provide(layer))
  })
}
