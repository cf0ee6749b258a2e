/** What every registry has to do, as one suite: run it with a layer that gives an empty registry each time it is built. */
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, type Layer, Option, Result } from "effect"
import {
  type Agent,
  AgentId,
  beginEnding,
  finishEnding,
  rollBack,
  type State,
  TransitionRefused
} from "../src/agent/Agent.ts"
import type { Task } from "../src/agent/Task.ts"
import type { Registry } from "../src/registry/Registry.ts"
import { makeAgent, makeTask, moment, newTaskId, record, running } from "./rows.ts"
import { type Whole, whole } from "./support/Registry.ts"

type Shape = Whole

const hasTag = <E extends { readonly _tag: string }, Tag extends string>(
  error: E,
  tag: Tag
): error is Extract<E, { readonly _tag: Tag }> => error._tag === tag

/** Fails unless the effect fails with this tag. */
export const failsWith = <A, E extends { readonly _tag: string }, R, Tag extends E["_tag"]>(
  self: Effect.Effect<A, E, R>,
  tag: Tag
): Effect.Effect<Extract<E, { readonly _tag: Tag }>, A, R> =>
  Effect.map(
    Effect.flip(self),
    (error) => hasTag(error, tag) ? error : assert.fail(`failed with ${error._tag} in place of ${tag}`)
  )

const roomy = { allowDuplicate: false, homeLimit: Effect.succeed({ maxActive: 1000, ofCaller: false }) }
const event = { at: moment(1), detail: "something happened" }

const ending = (left: Extract<State, { _tag: "ending" }>["left"]): State => ({
  _tag: "ending",
  as: { _tag: "stopped", reason: "it was asked to", by: "request" },
  left
})
const exited: State = { _tag: "exited", code: 0, signal: null, outcome: "success" }

const toState = (registry: Shape, id: AgentId, state: State) =>
  registry.transition(id, (agent) => Result.succeed({ ...agent, state }), event)

const rolledBack = (agent: Agent) =>
  rollBack(agent, { step: "session", error: { tag: "Boom", message: "boom" }, left: [], at: moment(2) })

const stop = (agent: Agent) => beginEnding(agent, { _tag: "stopped", reason: "it was asked to", by: "request" })

const withTask = Effect.fnUntraced(function*(registry: Shape, limits?: Partial<Task["limits"]>) {
  const task = makeTask(limits === undefined ? {} : { limits })
  yield* registry.addTask(task)
  return task
})

const admitted = Effect.fnUntraced(function*(registry: Shape, agent: Agent, options = roomy) {
  const decision = yield* registry.admit(agent, options)
  assert.strictEqual(decision._tag, "Admit")
  return Option.getOrThrow(yield* registry.agent(agent.id))
})

const runningAgent = Effect.fnUntraced(
  function*(registry: Shape, task: Task, options: Parameters<typeof makeAgent>[1] = {}) {
    const agent = yield* admitted(registry, makeAgent(task.id, options))
    return yield* toState(registry, agent.id, { _tag: "running" })
  }
)

export const suite = (name: string, layer: Layer.Layer<Registry, unknown>) => {
  const test = <A, E>(title: string, body: (registry: Shape) => Effect.Effect<A, E>) =>
    it.live(title, () => Effect.flatMap(whole, body).pipe(Effect.provide(layer)))

  describe(`${name}: tasks`, () => {
    test("a task comes back as it was stored, and an unknown one is none", (registry) =>
      Effect.gen(function*() {
        const task = makeTask({
          description: "quotes ' \" and \\ and \u0000 and \ud800 and 'π'",
          project: "/it's \"there\""
        })
        yield* registry.addTask(task)
        assert.deepStrictEqual(yield* registry.task(task.id), Option.some(task))
        assert.deepStrictEqual(yield* registry.task(newTaskId()), Option.none())
      }))

    test("tasks are listed newest first", (registry) =>
      Effect.gen(function*() {
        const at = (seconds: number) => makeTask({ createdAt: moment(seconds) })
        const [a, b, c] = [at(2), at(3), at(1)]
        for (const task of [a, b, c]) yield* registry.addTask(task)
        assert.deepStrictEqual(yield* registry.tasks, [b, a, c])
      }))

    test("a key makes one task, however often and by how many at once it is asked for", (registry) =>
      Effect.gen(function*() {
        const asked = (key = "nightly-1") => makeTask({ description: "nightly", key })
        const made = yield* Effect.forEach(Array.from({ length: 5 }, () => asked()), registry.addTask, {
          concurrency: "unbounded"
        })
        const ids = new Set(made.map(({ id }) => id))
        assert.strictEqual(ids.size, 1)
        assert.deepStrictEqual((yield* registry.tasks).map(({ id }) => id), [...ids])
        yield* registry.addTask(asked("nightly-2"))
        yield* registry.addTask(makeTask({ description: "nightly" }))
        yield* registry.addTask(makeTask({ description: "nightly" }))
        assert.lengthOf(yield* registry.tasks, 4)
      }))

    test("a key that stands for another request is refused with the task, and nothing is stored", (registry) =>
      Effect.gen(function*() {
        const first = yield* registry.addTask(makeTask({ key: "k" }))
        const limits = { ...first.limits, maxDepth: first.limits.maxDepth + 1 }
        const others: ReadonlyArray<Parameters<typeof makeTask>[0]> = [
          { description: "another" },
          { project: "/elsewhere" },
          { priority: "P0" as const },
          { limits }
        ]
        for (const other of others) {
          const error = yield* failsWith(registry.addTask(makeTask({ key: "k", ...other })), "TaskKeyTaken")
          assert.deepStrictEqual([error.key, error.existing], ["k", first.id])
        }
        assert.deepStrictEqual(yield* registry.tasks, [first])
      }))

    test("a task is never overwritten by another of its id", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        yield* failsWith(registry.addTask({ ...task, description: "another" }), "RegistryUnavailable")
        assert.deepStrictEqual(yield* registry.task(task.id), Option.some(task))
      }))

    test("a project has one default task, whoever asks at once, and other tasks beside it", (registry) =>
      Effect.gen(function*() {
        yield* registry.addTask(makeTask())
        const answers = yield* Effect.all(
          Array.from({ length: 8 }, () => registry.defaultTask(makeTask())),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(answers.map((task) => task.id)).size, 1)
        assert.isTrue(answers.every((task) => task.isDefault))
        const other = yield* registry.defaultTask(makeTask({ project: "/other" }))
        assert.notStrictEqual(other.id, answers[0]?.id)
        assert.strictEqual((yield* registry.tasks).length, 3)
      }))
  })

  describe(`${name}: admission`, () => {
    test("what is admitted is stored with its depth and its first event", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const candidate = makeAgent(task.id, { depth: 99, key: "a key" })
        assert.deepStrictEqual(yield* registry.admit(candidate, roomy), { _tag: "Admit", depth: 1 })
        assert.deepStrictEqual(yield* registry.agent(candidate.id), Option.some({ ...candidate, depth: 1 }))
        const events = yield* registry.events(candidate.id)
        assert.deepStrictEqual(events.map((event) => event.status), ["deploying"])
      }))

    test("a child is one deeper than its parent", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const parent = yield* runningAgent(registry, task)
        const child = yield* runningAgent(registry, task, { parent: parent.id })
        const grandchild = yield* runningAgent(registry, task, { parent: child.id })
        assert.deepStrictEqual([parent, child, grandchild].map((agent) => agent.depth), [1, 2, 3])
      }))

    test("an unknown task is refused, and nothing is stored", (registry) =>
      Effect.gen(function*() {
        const candidate = makeAgent(newTaskId())
        const error = yield* failsWith(registry.admit(candidate, roomy), "UnknownTask")
        assert.strictEqual(error.taskId, candidate.taskId)
        assert.deepStrictEqual(yield* registry.agent(candidate.id), Option.none())
        assert.deepStrictEqual(yield* registry.events(candidate.id), [])
      }))

    test("an unknown parent, and a parent of another task, are refused", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const other = yield* runningAgent(registry, yield* withTask(registry))
        const unknown = AgentId.make("nobody-260102-030405-ffffff")
        for (const parent of [unknown, other.id]) {
          const error = yield* failsWith(registry.admit(makeAgent(task.id, { parent }), roomy), "UnknownParent")
          assert.strictEqual(error.parent, parent)
        }
        assert.deepStrictEqual(yield* registry.agents({ taskId: task.id }), [])
      }))

    test("only a running parent can deploy children", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        for (const state of [{ _tag: "deploying" }, ending(null), ending([record("tmux_session")]), exited] as const) {
          const parent = yield* admitted(registry, makeAgent(task.id))
          yield* toState(registry, parent.id, state)
          yield* failsWith(registry.admit(makeAgent(task.id, { parent: parent.id }), roomy), "ParentNotRunning")
        }
      }))

    test("an agent deeper than the task allows is refused", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry, { maxDepth: 2 })
        const parent = yield* runningAgent(registry, task)
        const child = yield* runningAgent(registry, task, { parent: parent.id })
        const error = yield* failsWith(registry.admit(makeAgent(task.id, { parent: child.id }), roomy), "DepthExceeded")
        assert.deepInclude(error, { depth: 3, maxDepth: 2 })
      }))

    test("a type is unique among the live agents of its task, unless duplicates are allowed", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const first = yield* admitted(registry, makeAgent(task.id, { type: "worker" }))
        const again = () => makeAgent(task.id, { type: "worker" })
        const error = yield* failsWith(registry.admit(again(), roomy), "DuplicateType")
        assert.strictEqual(error.existing, first.id)
        yield* admitted(registry, makeAgent((yield* withTask(registry)).id, { type: "worker" }))
        const second = yield* admitted(registry, again(), { ...roomy, allowDuplicate: true })
        yield* toState(registry, first.id, exited)
        yield* failsWith(registry.admit(again(), roomy), "DuplicateType")
        yield* toState(registry, second.id, exited)
        yield* admitted(registry, again())
      }))

    test("a task has no more agents than it allows, and those rolled back do not count", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry, { maxAgents: 2 })
        const first = yield* admitted(registry, makeAgent(task.id))
        const second = yield* admitted(registry, makeAgent(task.id))
        yield* toState(registry, first.id, exited)
        yield* failsWith(registry.admit(makeAgent(task.id), roomy), "TaskFull")
        yield* registry.transition(second.id, rolledBack, event)
        yield* admitted(registry, makeAgent(task.id))
        const error = yield* failsWith(registry.admit(makeAgent(task.id), roomy), "TaskFull")
        assert.deepInclude(error, { taskId: task.id, maxAgents: 2 })
      }))

    test("no more agents are active than a task allows, and what has ended does not count", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry, { maxConcurrent: 1 })
        for (const state of [exited, ending([]), ending([record("prompt_file"), record("task_registry")])]) {
          const agent = yield* admitted(registry, makeAgent(task.id))
          yield* failsWith(registry.admit(makeAgent(task.id), roomy), "TooManyActive")
          yield* toState(registry, agent.id, { _tag: "running" })
          yield* failsWith(registry.admit(makeAgent(task.id), roomy), "TooManyActive")
          yield* toState(registry, agent.id, state)
        }
        yield* admitted(registry, makeAgent(task.id))
      }))

    test("an ending whose session may live holds its slot", (registry) =>
      Effect.gen(function*() {
        for (const left of [null, [record("prompt_file"), record("tmux_session")]]) {
          const task = yield* withTask(registry, { maxConcurrent: 1 })
          const agent = yield* admitted(registry, makeAgent(task.id, { type: "worker" }))
          yield* toState(registry, agent.id, ending(left))
          yield* failsWith(registry.admit(makeAgent(task.id), roomy), "TooManyActive")
          yield* failsWith(registry.admit(makeAgent(task.id, { type: "worker" }), roomy), "DuplicateType")
          assert.deepStrictEqual(yield* registry.taskCounts(task.id), { total: 1, active: 1 })
        }
      }))

    test("a home has no more active agents than it allows, over all its tasks", (registry) =>
      Effect.gen(function*() {
        const tasks = [yield* withTask(registry), yield* withTask(registry), yield* withTask(registry)]
        const two = { allowDuplicate: false, homeLimit: Effect.succeed({ maxActive: 2, ofCaller: false }) }
        const [first] = yield* Effect.forEach(tasks.slice(0, 2), (task) => admitted(registry, makeAgent(task.id), two))
        const refused = () => registry.admit(makeAgent(tasks[2]?.id ?? newTaskId()), two)
        const error = yield* failsWith(refused(), "HomeFull")
        assert.strictEqual(error.maxActive, 2)
        assert.isDefined(first)
        yield* toState(registry, first.id, exited)
        assert.strictEqual((yield* refused())._tag, "Admit")
      }))

    test("a key stands for its first deployment: the same request gets that agent, another is refused", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry, { maxAgents: 1, maxConcurrent: 1 })
        const first = yield* admitted(registry, makeAgent(task.id, { key: "k", type: "worker" }))
        const again = makeAgent(task.id, { key: "k", type: "worker" })
        assert.deepStrictEqual(yield* registry.admit(again, roomy), { _tag: "Existing", agent: first })
        assert.deepStrictEqual(yield* registry.agent(again.id), Option.none())
        yield* toState(registry, first.id, exited)
        const answer = yield* registry.admit(again, roomy)
        assert.strictEqual(answer._tag === "Existing" && answer.agent.id, first.id)
        const other = makeAgent(task.id, { key: "k", requestDigest: "another" })
        const error = yield* failsWith(registry.admit(other, roomy), "KeyConflict")
        assert.deepInclude(error, { key: "k", existing: first.id })
      }))

    test("a key is free again after a rollback, as often as that happens", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry, { maxAgents: 1 })
        for (let round = 0; round < 3; round++) {
          const agent = yield* admitted(registry, makeAgent(task.id, { key: "k", requestDigest: `${round}` }))
          yield* registry.transition(agent.id, rolledBack, event)
        }
        assert.strictEqual((yield* registry.agents({ taskId: task.id })).length, 3)
      }))

    test("a key that a row has given up is free, though its end is not over", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const first = yield* admitted(registry, makeAgent(task.id, { key: "k" }))
        yield* registry.transition(
          first.id,
          (agent) => Result.succeed({ ...agent, key: null, state: ending([record("prompt_file")]) }),
          event
        )
        const second = yield* admitted(registry, makeAgent(task.id, { key: "k", requestDigest: "another" }))
        const answer = yield* registry.admit(makeAgent(task.id, { key: "k", requestDigest: "another" }), roomy)
        assert.deepStrictEqual(answer, { _tag: "Existing", agent: second })
      }))

    test("two tasks can't both have a key", (registry) =>
      Effect.gen(function*() {
        const [one, two] = [yield* withTask(registry), yield* withTask(registry)]
        const outcomes = yield* Effect.all(
          [one, two].map((task) =>
            Effect.result(registry.admit(makeAgent(task.id, { key: "k", requestDigest: task.id }), roomy))
          ),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(outcomes.filter(Result.isSuccess).length, 1)
        const refusal = outcomes.find(Result.isFailure)
        assert.strictEqual(refusal?.failure._tag, "KeyConflict")
      }))

    test("deployers at once get the slots that there are, and not one more", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry, { maxConcurrent: 3 })
        const outcomes = yield* Effect.all(
          Array.from({ length: 12 }, () => Effect.result(registry.admit(makeAgent(task.id), roomy))),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(outcomes.filter(Result.isSuccess).length, 3)
        assert.deepStrictEqual(yield* registry.taskCounts(task.id), { total: 3, active: 3 })
      }))
  })

  describe(`${name}: transitions`, () => {
    test("a transition is applied once, stored, and told as an event", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const agent = yield* admitted(registry, makeAgent(task.id))
        const seen: Array<Agent> = []
        const after = yield* registry.transition(agent.id, (agent) => {
          seen.push(agent)
          return Result.succeed<Agent>({
            ...agent,
            state: { _tag: "running" },
            lease: null,
            running,
            startedAt: moment(3),
            tail: { stdout: "out\u0000\ud800", stderr: "" }
          })
        }, { at: moment(3), detail: "it is up" })
        assert.deepStrictEqual(seen, [agent])
        assert.deepStrictEqual(Option.getOrThrow(yield* registry.agent(agent.id)), after)
        assert.deepStrictEqual((yield* registry.events(agent.id)).at(-1), {
          agentId: agent.id,
          at: moment(3),
          status: "running",
          detail: "it is up"
        })
      }))

    test("a transition that is refused, or changes nothing, stores nothing", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const agent = yield* admitted(registry, makeAgent(task.id))
        const refused = new TransitionRefused({ agentId: agent.id, wanted: "running", found: "deploying" })
        const error = yield* Effect.flip(registry.transition(agent.id, () => Result.fail(refused), event))
        assert.strictEqual(error, refused)
        assert.deepStrictEqual(yield* registry.transition(agent.id, Result.succeed, event), agent)
        assert.deepStrictEqual(yield* registry.agent(agent.id), Option.some(agent))
        assert.strictEqual((yield* registry.events(agent.id)).length, 1)
      }))

    test("a transition that throws is a defect and stores nothing, and the registry goes on", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const agent = yield* admitted(registry, makeAgent(task.id))
        const exit = yield* Effect.exit(registry.transition(agent.id, () => {
          throw new Error("a bug")
        }, event))
        assert.strictEqual(exit._tag, "Failure")
        assert.deepStrictEqual(yield* registry.agent(agent.id), Option.some(agent))
        yield* toState(registry, agent.id, exited)
      }))

    test("an agent that does not exist is not found", (registry) =>
      Effect.gen(function*() {
        const id = AgentId.make("nobody-260102-030405-ffffff")
        assert.deepStrictEqual(yield* registry.agent(id), Option.none())
        assert.strictEqual((yield* failsWith(registry.transition(id, stop, event), "AgentNotFound")).agentId, id)
        assert.strictEqual((yield* failsWith(registry.transitionFamily(id, stop, event), "AgentNotFound")).agentId, id)
      }))

    test("of transitions at once, each sees what the one before has stored", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const agent = yield* admitted(registry, makeAgent(task.id))
        const increment = (agent: Agent) =>
          Result.succeed({ ...agent, limits: { ...agent.limits, maxRunMillis: (agent.limits.maxRunMillis ?? 0) + 1 } })
        yield* Effect.all(
          Array.from({ length: 20 }, () => registry.transition(agent.id, increment, event)),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(Option.getOrThrow(yield* registry.agent(agent.id)).limits.maxRunMillis, 20)
      }))

    test("a family is taken with all its active descendants, children first", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const root = yield* runningAgent(registry, task)
        const child = yield* runningAgent(registry, task, { parent: root.id })
        const ended = yield* runningAgent(registry, task, { parent: root.id })
        const grandchild = yield* runningAgent(registry, task, { parent: child.id })
        const orphaned = yield* runningAgent(registry, task, { parent: ended.id })
        const bystander = yield* runningAgent(registry, task)
        yield* toState(registry, ended.id, exited)
        const roles: Array<readonly [string, string]> = []
        const family = yield* registry.transitionFamily(root.id, (agent, role) => {
          roles.push([agent.id, role])
          return stop(agent)
        }, event)
        assert.deepStrictEqual(roles.at(-1), [root.id, "self"])
        assert.isTrue(roles.slice(0, -1).every(([, role]) => role === "descendant"))
        assert.deepStrictEqual(family.map((agent) => agent.id), roles.map(([id]) => id))
        assert.sameMembers(
          family.map((agent) => agent.id),
          [root, child, grandchild, orphaned].map((agent) => agent.id)
        )
        const depths = family.map((agent) => agent.depth)
        assert.deepStrictEqual(depths, depths.toSorted((a, b) => b - a))
        assert.isTrue(family.every((agent) => agent.state._tag === "ending"))
        for (const member of family) {
          assert.deepStrictEqual(yield* registry.agent(member.id), Option.some(member))
          assert.deepInclude((yield* registry.events(member.id)).at(-1), { status: "ending", detail: event.detail })
        }
        assert.deepStrictEqual(yield* registry.agent(bystander.id), Option.some(bystander))
        assert.strictEqual(Option.getOrThrow(yield* registry.agent(ended.id)).state._tag, "exited")
      }))

    test("a family is stored whole or not at all", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const root = yield* runningAgent(registry, task)
        const child = yield* runningAgent(registry, task, { parent: root.id })
        const refuse = (agent: Agent, role: "self" | "descendant") =>
          role === "self"
            ? Result.fail(new TransitionRefused({ agentId: agent.id, wanted: "ending", found: "running" }))
            : stop(agent)
        yield* failsWith(registry.transitionFamily(root.id, refuse, event), "TransitionRefused")
        for (const member of [root, child]) {
          assert.deepStrictEqual(yield* registry.agent(member.id), Option.some(member))
          assert.strictEqual((yield* registry.events(member.id)).length, 2)
        }
      }))

    test("events are told in the order in which they were stored, whatever their clocks say", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const agent = yield* admitted(registry, makeAgent(task.id))
        yield* registry.transition(agent.id, stop, { at: moment(9), detail: "one" })
        const left = [record("tmux_session")]
        yield* registry.transition(
          agent.id,
          (agent) => finishEnding(agent, { left, deployer: "gone", at: moment(4) }),
          { at: moment(4), detail: "two" }
        )
        yield* registry.transition(
          agent.id,
          (agent) => finishEnding(agent, { left: [], deployer: "gone", at: moment(5) }),
          { at: moment(5), detail: "three" }
        )
        const events = yield* registry.events(agent.id)
        assert.deepStrictEqual(events.map((event) => event.status), ["deploying", "ending", "leaked", "stopped"])
        assert.deepStrictEqual(events.slice(1).map((event) => event.detail), ["one", "two", "three"])
      }))
  })

  describe(`${name}: events of the home`, () => {
    test("are told in the order in which they were stored, with what they led from and to, behind any cursor", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const [one, two] = [yield* runningAgent(registry, task), yield* admitted(registry, makeAgent(task.id))]
        const survivors = [{ pid: 7, start: "70" }]
        const releases = [
          { ...record("tmux_session", { _tag: "Survivors", processes: survivors, killed: 2 }), millis: 1500 },
          { ...record("prompt_file", { _tag: "Released" }), millis: 2.5 }
        ]
        yield* registry.transition(two.id, rolledBack, { at: moment(2), detail: "it failed", releases })
        yield* toState(registry, one.id, exited)
        const all = yield* registry.eventsAfter(0, 100)
        assert.deepStrictEqual(all.map(({ agentId, from, to }) => [agentId, from, to]), [
          [one.id, null, "deploying"],
          [one.id, "deploying", "running"],
          [two.id, null, "deploying"],
          [two.id, "deploying", "rolled-back"],
          [one.id, "running", "exited"]
        ])
        assert.deepStrictEqual(all.map(({ taskId }) => taskId), all.map(() => task.id))
        const { cursor: _, ...third } = all[3] ?? assert.fail("there is one")
        assert.deepStrictEqual(third, {
          agentId: two.id,
          taskId: task.id,
          at: moment(2),
          from: "deploying",
          to: "rolled-back",
          detail: "it failed",
          cleanup: { releases, survivors, escalated: true, millis: 1502.5 }
        })
        assert.isTrue(all.every(({ cleanup }, index) => index === 3 || cleanup === null))
        for (const [index, { cursor }] of all.entries()) {
          assert.deepStrictEqual(yield* registry.eventsAfter(cursor, 2), all.slice(index + 1, index + 3))
        }
        assert.strictEqual(yield* registry.lastEvent, all.at(-1)?.cursor)
      }))

    test("go with an agent that is forgotten, and no cursor is given out twice", (registry) =>
      Effect.gen(function*() {
        assert.strictEqual(yield* registry.lastEvent, 0)
        const task = yield* withTask(registry)
        const [one, two] = [yield* runningAgent(registry, task), yield* runningAgent(registry, task)]
        yield* toState(registry, two.id, exited)
        const before = yield* registry.lastEvent
        yield* registry.forget([two.id])
        assert.deepStrictEqual((yield* registry.eventsAfter(0, 100)).map(({ agentId }) => agentId), [one.id, one.id])
        yield* toState(registry, one.id, exited)
        const [next] = yield* registry.eventsAfter(before, 100)
        assert.deepInclude(next, { agentId: one.id, from: "running", to: "exited" })
      }))
  })

  describe(`${name}: sums`, () => {
    test("rise with each transition that is stored, and with each thing that is found once", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        const released = { ...record("tmux_session", { _tag: "Released", killed: 1 }), millis: 7 }
        for (let round = 1; round <= 2; round++) {
          const agent = yield* admitted(registry, makeAgent(task.id))
          const releases = [released, record("prompt_file"), record("prompt_file")]
          yield* registry.transition(agent.id, rolledBack, { at: moment(round), detail: "", releases })
          yield* registry.found([{ subject: agent.id, verdict: "leftover" }], moment(round))
          yield* registry.found([{ subject: agent.id, verdict: "leftover" }], moment(round))
        }
        const totals = yield* registry.totals
        assert.deepStrictEqual(totals.releases, [
          {
            resource: "prompt_file",
            outcome: "Failed",
            count: 4,
            millis: 4,
            firstAt: DateTime.formatIso(moment(1)),
            lastAt: DateTime.formatIso(moment(2)),
            lastReason: "it would not go"
          },
          {
            resource: "tmux_session",
            outcome: "Released",
            count: 2,
            millis: 14,
            firstAt: DateTime.formatIso(moment(1)),
            lastAt: DateTime.formatIso(moment(2)),
            lastReason: null
          }
        ])
        assert.deepStrictEqual(totals.escalations, [{ resource: "tmux_session", count: 2 }])
        assert.deepStrictEqual(totals.rollbacks, [{ step: "session", count: 2 }])
        assert.deepStrictEqual(totals.deployments, [{ outcome: "rolled-back", count: 2 }])
        assert.deepStrictEqual(totals.findings, [{ verdict: "leftover", count: 2 }])
      }))

    test("tell how many agents are leaked now", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        for (const state of [ending(null), ending([record("tmux_session")]), ending([record("prompt_file")]), exited]) {
          const agent = yield* admitted(registry, makeAgent(task.id))
          yield* toState(registry, agent.id, state)
        }
        assert.strictEqual((yield* registry.totals).leaked, 2)
      }))
  })

  describe(`${name}: lists and counts`, () => {
    test("agents are listed newest first, by task, and by whether something is left to do", (registry) =>
      Effect.gen(function*() {
        const [task, other] = [yield* withTask(registry), yield* withTask(registry)]
        const at = (seconds: number, of: Task) => admitted(registry, makeAgent(of.id, { createdAt: moment(seconds) }))
        const [b, c, a, d] = [yield* at(2, task), yield* at(3, other), yield* at(1, task), yield* at(4, task)]
        yield* toState(registry, d.id, exited)
        yield* toState(registry, a.id, ending([record("prompt_file")]))
        const ids = (filter: Parameters<Shape["agents"]>[0]) =>
          Effect.map(registry.agents(filter), (agents) => agents.map((agent) => agent.id))
        assert.deepStrictEqual(yield* ids({}), [d.id, c.id, b.id, a.id])
        assert.deepStrictEqual(yield* ids({ taskId: task.id }), [d.id, b.id, a.id])
        assert.deepStrictEqual(yield* ids({ activeOnly: true }), [c.id, b.id, a.id])
        assert.deepStrictEqual(yield* ids({ taskId: task.id, activeOnly: true }), [b.id, a.id])
        assert.deepStrictEqual(yield* ids({ taskId: newTaskId() }), [])
      }))

    test("counts leave out what was rolled back, and active is who holds a slot", (registry) =>
      Effect.gen(function*() {
        const task = yield* withTask(registry)
        assert.deepStrictEqual(yield* registry.taskCounts(task.id), { total: 0, active: 0 })
        const states: ReadonlyArray<State> = [{ _tag: "running" }, ending(null), ending([]), exited]
        for (const state of states) {
          const agent = yield* admitted(registry, makeAgent(task.id))
          yield* toState(registry, agent.id, state)
        }
        const undone = yield* admitted(registry, makeAgent(task.id))
        assert.deepStrictEqual(yield* registry.taskCounts(task.id), { total: 5, active: 3 })
        yield* registry.transition(undone.id, rolledBack, event)
        assert.deepStrictEqual(yield* registry.taskCounts(task.id), { total: 4, active: 2 })
        assert.deepStrictEqual(yield* registry.taskCounts(newTaskId()), { total: 0, active: 0 })
      }))
  })
}
