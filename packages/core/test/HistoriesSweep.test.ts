/**
 * Short histories with one program cut off or held up at each of its calls in turn: what random histories only sometimes
 * meet, these meet always.
 */
import { assert, layer } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import * as HistoryAudit from "./support/HistoryAudit.ts"
import { type Course, coursed, type Step } from "./support/HistorySteps.ts"
import { store } from "./support/HistoryWorld.ts"

class Stores extends Context.Service<Stores, Effect.Success<typeof store>>()("test/Stores") {}

const whole = coursed("whole", 0)
const deploy = (more: Partial<Extract<Step, { _tag: "Deploy" }>> = {}): Step => ({
  _tag: "Deploy",
  home: 0,
  task: 0,
  behaviour: 0,
  type: 0,
  parent: 0,
  key: 0,
  allowDuplicate: false,
  ready: "none",
  scoped: 0,
  fate: whole,
  ...more
})
const reap: Step = { _tag: "Reap", home: 0, strays: 0, fate: whole }
const stop: Step = { _tag: "Stop", home: 0, agent: 0, fate: whole }
const thaw: Step = { _tag: "Thaw", program: 0 }
const wait = (seconds: 1 | 12 | 300): Step => ({ _tag: "Wait", seconds })

/** More than a program of these histories has calls. */
const calls = 300

layer(Layer.effect(Stores, store))("at every call", (it) => {
  const sweep = (name: string, course: Course, of: (fate: typeof whole) => ReadonlyArray<Step>) =>
    it.effect(name, () =>
      Effect.gen(function*() {
        const stores = yield* Stores
        for (let at = 0; at < calls; at++) {
          const steps = of(coursed(course, at))
          const counts = new Map<string, number>()
          const problems = yield* HistoryAudit.play(stores, steps, counts)
          assert.isEmpty(problems, HistoryAudit.story(steps, problems))
          // Nothing was cut off any more: the program has fewer calls.
          if (![...counts.keys()].some((what) => what.includes(` ${course} `))) return
        }
        assert.fail(`a program has more than ${calls} calls`)
      }), 120_000)

  sweep("a deployment that was killed is undone, and its tmux client comes too late", "killed", (fate) => [
    deploy({ fate }),
    reap,
    wait(1)
  ])
  it.effect("a tmux client that comes in the midst of a reap runs nothing", () =>
    Effect.gen(function*() {
      const stores = yield* Stores
      let found = 0
      for (let at = 0; at < calls && found === 0; at++) {
        const counts = new Map<string, number>()
        yield* HistoryAudit.play(stores, [deploy({ fate: coursed("killed", at) })], counts)
        if (counts.has("Deploy killed before Tmux.newSession")) found = at
      }
      assert.isAbove(found, 0, "no deployment makes a session")
      for (let at = 0; at < calls; at++) {
        const steps: ReadonlyArray<Step> = [
          deploy({ fate: coursed("killed", found) }),
          { _tag: "Reap", home: 0, strays: 0, fate: coursed("frozen", at) },
          wait(12),
          thaw,
          wait(1)
        ]
        const counts = new Map<string, number>()
        const problems = yield* HistoryAudit.play(stores, steps, counts)
        assert.isEmpty(problems, HistoryAudit.story(steps, problems))
        if (![...counts.keys()].some((what) => what.startsWith("Reap frozen"))) return
      }
    }), 120_000)
  sweep("a deployment that was killed after its agent had ended is undone", "killed", (fate) => [
    deploy({ behaviour: 3, ready: "survive", fate }),
    { _tag: "Look", home: 0, fate: whole },
    reap
  ])
  sweep("a deployment that was stopped while it stood still never commits", "frozen", (fate) => [
    deploy({ fate }),
    stop,
    thaw,
    reap
  ])
  sweep("a deployment that stood still for longer than its lease leaves nothing when it goes on", "frozen", (fate) => [
    deploy({ fate }),
    wait(300),
    reap,
    thaw,
    reap
  ])
  sweep("a deployment that was interrupted leaves nothing", "interrupted", (fate) => [deploy({ fate }), reap])
  sweep("a stop that was killed is finished, and its agent holds its slot until then", "killed", (fate) => [
    deploy({ behaviour: 4 }),
    deploy({ type: 1 }),
    { _tag: "Stop", home: 0, agent: 0, fate },
    deploy({ type: 2 }),
    reap
  ])
  sweep("a stop that stands still keeps its agent's slot", "frozen", (fate) => [
    deploy({ behaviour: 4 }),
    deploy({ type: 1 }),
    { _tag: "Stop", home: 0, agent: 0, fate },
    deploy({ type: 2 }),
    thaw,
    reap
  ])
  sweep("a reap that was killed is finished by the next one", "killed", (fate) => [
    deploy({ behaviour: 5 }),
    deploy({ behaviour: 6, type: 1 }),
    { _tag: "KillServer" },
    { _tag: "Reap", home: 0, strays: 0, fate },
    reap
  ])
  sweep("agents of two homes with one id on one socket never reach each other", "killed", (fate) => [
    deploy(),
    deploy({ home: 1, fate }),
    { _tag: "Reap", home: 1, strays: 0, fate: whole },
    reap
  ])

  const example = (name: string, steps: ReadonlyArray<Step>) =>
    it.effect(name, () =>
      Effect.gen(function*() {
        const problems = yield* HistoryAudit.play(yield* Stores, steps)
        assert.isEmpty(problems, HistoryAudit.story(steps, problems))
      }))

  example("a stray stays until it is asked for", [
    { _tag: "Save", home: 0 },
    deploy(),
    { _tag: "Restore", home: 0 },
    reap,
    { ...reap, strays: 3 }
  ])
  example("an agent ends with the owner of its scope", [
    deploy({ scoped: 4 }),
    { _tag: "Kill", program: 0 },
    reap
  ])
  // The reap has the pid and the start time that the deployer had before the restart.
  example("a deployer of an earlier boot is not taken for a program that runs now", [
    deploy({ fate: coursed("frozen", 50) }),
    { _tag: "Restart" },
    reap
  ])
  example("an old plan ends nothing that lives", [
    deploy({ behaviour: 1 }),
    wait(12),
    { _tag: "Plan", home: 0 },
    { _tag: "Look", home: 0, fate: whole },
    deploy({ type: 1 }),
    { _tag: "ApplyOld", home: 0, fate: whole },
    reap
  ])
})
