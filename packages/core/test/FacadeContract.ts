/**
 * What whoever uses Slipway relies on, on the real machine and on the one in memory alike.
 *
 * Neither the bodies nor what they assert know which of both they run on: agents are named by what they do.
 */
import { assert } from "@effect/vitest"
import { Agent, type DeployInput, Slipway } from "@slipway/core"
import { Effect, Exit, Fiber, type Scope, Stream } from "effect"

/** What an agent does. */
export const behaviours = [
  "brief",
  "steady",
  "failing",
  "silent",
  "stubborn",
  "parent",
  "unlucky",
  "talkative"
] as const
export type Behaviour = (typeof behaviours)[number]

/** The steps at which a deployment is cut off. */
const steps = ["admission", "agent-directory", "resources", "session", "readiness", "task-entry", "commit"] as const
export type Cut = (typeof steps)[number]

/** A machine to deploy on. */
export interface Subject {
  readonly project: string
  /** An agent that does so: `brief` says hello and ends with 0, `steady` says up and stays, `failing` ends with 3. */
  readonly agent: (behaviour: Behaviour) => DeployInput["agent"]
  /** What is left, for people, beside what ended and committed agents may leave. */
  readonly left: Effect.Effect<ReadonlyArray<string>>
  /** The ports that agents hold by the resource `port`. */
  readonly ports: Effect.Effect<ReadonlyArray<number>>
  /** A process of its own deploys this agent with a port, and is killed as by `kill -9` when it comes to the step. */
  readonly killedAt: (
    step: Cut,
    behaviour: Behaviour,
    port: number
  ) => Effect.Effect<void, never, Slipway | Scope.Scope>
}

export type Body = (subject: Subject) => Effect.Effect<void, unknown, Slipway | Scope.Scope>

/** Each guarantee, with the test that a machine has to pass. */
export const guarantees = (test: (title: string, body: Body) => void): void => {
  const request = (subject: Subject, behaviour: Behaviour, more: Partial<DeployInput> = {}): DeployInput => ({
    project: subject.project,
    type: behaviour,
    prompt: "work",
    agent: subject.agent(behaviour),
    ready: "output",
    readyWithin: "20 seconds",
    ...more
  })
  const deploy = (subject: Subject, behaviour: Behaviour, more: Partial<DeployInput> = {}) =>
    Effect.flatMap(Slipway, (slipway) => slipway.deploy(request(subject, behaviour, more)))
  const withPort = (port: number) => ({ resources: { port: { port } } })

  const nothingLeft = Effect.fnUntraced(function*(subject: Subject) {
    assert.deepStrictEqual(yield* subject.left, [])
    assert.deepStrictEqual(yield* subject.ports, [])
  })
  const reap = Effect.flatMap(Slipway, (slipway) => Effect.flatMap(slipway.reapPlan, (plan) => slipway.reap(plan)))

  test("an agent that was deployed runs, and its output and its end are on record", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent, reused } = yield* deploy(subject, "brief")
      assert.deepStrictEqual([agent.state._tag, reused], ["running", false])
      const output = slipway.output(agent.id, { follow: true }).pipe(Stream.decodeText, Stream.mkString)
      assert.strictEqual(yield* output, "hello\nbye\n")
      const ended = yield* slipway.wait(agent.id)
      assert.deepInclude(ended.state, { _tag: "exited", code: 0, signal: null })
      assert.deepStrictEqual(
        (yield* slipway.events(agent.id)).map(({ status }) => status),
        ["deploying", "running", "ending", "exited"]
      )
      yield* nothingLeft(subject)
    }))

  test("an agent with merged streams has all that it wrote in one, in the order written; else each has its own", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const bothOf = Effect.fnUntraced(function*(more: Partial<DeployInput>) {
        const { agent } = yield* deploy(subject, "talkative", { ready: "none", ...more })
        const chunks = yield* Stream.runCollect(slipway.outputs(agent.id, { follow: true }))
        yield* slipway.wait(agent.id)
        const of = (stream: "stdout" | "stderr") =>
          slipway.output(agent.id, { stream }).pipe(Stream.decodeText, Stream.mkString)
        const said = { stdout: "", stderr: "" }
        for (const { bytes, offset, stream } of chunks) {
          assert.strictEqual(offset, said[stream].length, "no byte is missing, and none comes twice")
          said[stream] += new TextDecoder().decode(bytes)
        }
        return { said, stdout: yield* of("stdout"), stderr: yield* of("stderr") }
      })
      const all = "out 1\nerr 1\nout 2\nerr 2\n"
      assert.deepStrictEqual(yield* bothOf({ stderr: "merged" }), {
        said: { stdout: all, stderr: "" },
        stdout: all,
        stderr: all
      })
      const [stdout, stderr] = ["out 1\nout 2\n", "err 1\nerr 2\n"]
      assert.deepStrictEqual(yield* bothOf({}), { said: { stdout, stderr }, stdout, stderr })
      yield* nothingLeft(subject)
    }))

  test("an agent that ends before it is up fails its deployment, typed and clean, with its last words", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const error = yield* Effect.flip(deploy(subject, "failing", withPort(4001)))
      assert.deepInclude(error.reason, { _tag: "AgentExitedEarly", code: 3 })
      assert.deepStrictEqual([error.step, error.isClean], ["readiness", true])
      assert.include(error.message, "no key")
      yield* nothingLeft(subject)
      const [row] = yield* slipway.agents()
      assert.deepInclude(row?.state, { _tag: "rolled-back", step: "readiness" })
    }))

  test("an agent that says nothing in its time fails its deployment, and is ended", (subject) =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(deploy(subject, "silent", { readyWithin: "300 millis" }))
      assert.strictEqual(error.reason._tag, "NoFirstOutput")
      yield* nothingLeft(subject)
    }))

  test("an agent that a signal ends has that signal on record", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy(subject, "unlucky")
      assert.deepInclude((yield* slipway.wait(agent.id)).state, { _tag: "exited", code: 139, signal: "SIGSEGV" })
      yield* nothingLeft(subject)
    }))

  test("a reader that polls through the end of an agent gets every byte once, whatever it asks for at a time", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy(subject, "brief")
      const wanted = [1, 3, 2, 64]
      let [seen, offset, isComplete] = ["", 0, false]
      for (let turn = 0; !isComplete; turn++) {
        const part = yield* slipway.readOutput(agent.id, { offset, maxBytes: wanted[turn % wanted.length] })
        assert.strictEqual(part.nextOffset, offset + part.bytes.length)
        assert.isAtLeast(part.size, part.nextOffset)
        seen += new TextDecoder().decode(part.bytes)
        offset = part.nextOffset
        isComplete = part.isComplete
        if (part.bytes.length === 0) yield* Effect.sleep("20 millis")
      }
      assert.strictEqual(seen, "hello\nbye\n")
      assert.isTrue(Agent.isFinal((yield* slipway.agent(agent.id)).state))
      const output = slipway.output(agent.id, { offset: 6 }).pipe(Stream.decodeText, Stream.mkString)
      assert.strictEqual(yield* output, "bye\n")
      yield* nothingLeft(subject)
    }))

  test("an offset behind the end of an output gets nothing and stays; a negative or fractional one is refused", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy(subject, "steady")
      const { bytes, ...behind } = yield* slipway.readOutput(agent.id, { offset: 100 })
      assert.strictEqual(bytes.length, 0)
      assert.deepStrictEqual(behind, { offset: 100, nextOffset: 100, size: 3, isComplete: false, isTail: false })
      const none = slipway.output(agent.id, { offset: 100 }).pipe(Stream.decodeText, Stream.mkString)
      assert.strictEqual(yield* none, "", "it does not begin anew")
      for (const offset of [-1, 0.5, Number.NaN]) {
        const refused = yield* Effect.flip(slipway.readOutput(agent.id, { offset }))
        assert.include(refused.message, "offset: expected a whole number of bytes, zero or more")
        const stream = yield* Effect.flip(Stream.runDrain(slipway.output(agent.id, { offset })))
        assert.strictEqual(stream._tag, "InvalidRequest")
      }
      for (const maxBytes of [0, 1.5, 2 ** 21]) {
        assert.strictEqual((yield* Effect.flip(slipway.readOutput(agent.id, { maxBytes })))._tag, "InvalidRequest")
      }
      const both = slipway.output(agent.id, { offset: 1, tailLines: 1 })
      assert.strictEqual((yield* Effect.flip(Stream.runDrain(both)))._tag, "InvalidRequest")
      yield* slipway.stop([agent.id])
      const after = yield* slipway.readOutput(agent.id, { offset: 100 })
      assert.deepStrictEqual([after.nextOffset, after.isComplete], [100, true])
      yield* nothingLeft(subject)
    }))

  test("of an agent that was rolled back, the end of its output that is kept can be read", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      yield* Effect.flip(deploy(subject, "failing"))
      const id = (yield* slipway.agents())[0]?.id ?? ""
      const all = yield* slipway.readOutput(id, { stream: "stderr" })
      assert.include(new TextDecoder().decode(all.bytes), "no key")
      assert.deepStrictEqual([all.isComplete, all.isTail, all.size], [true, true, all.bytes.length])
      const rest = yield* slipway.readOutput(id, { stream: "stderr", offset: 3 })
      assert.deepStrictEqual(rest.bytes, all.bytes.slice(3))
      const text = slipway.output(id, { stream: "stderr", follow: true }).pipe(Stream.decodeText, Stream.mkString)
      assert.include(yield* text, "no key")
      yield* nothingLeft(subject)
    }))

  test("a stop ends an agent that ignores TERM, by a KILL that is counted", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy(subject, "stubborn")
      const [stopped] = yield* slipway.stop([agent.id], { grace: "200 millis", reason: "no longer needed" })
      assert.deepInclude(stopped?.state, { _tag: "stopped" })
      assert.deepStrictEqual((yield* slipway.totals).escalations, [{ resource: "tmux_session", count: 1 }])
      yield* nothingLeft(subject)
    }))

  test("a stop ends what the agent started in a session of its own", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy(subject, "parent")
      yield* slipway.stop([agent.id])
      yield* nothingLeft(subject)
    }))

  test("a scope that closes has its agent stopped", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const id = yield* Effect.scoped(
        Effect.map(slipway.deployScoped(request(subject, "steady", withPort(4001))), ({ agent }) => agent.id)
      )
      assert.strictEqual((yield* slipway.agent(id)).state._tag, "stopped")
      yield* nothingLeft(subject)
    }))

  test("a type, and a key, are deployed once as long as their agent lives", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const first = yield* deploy(subject, "steady", { key: "one" })
      const again = yield* deploy(subject, "steady", { key: "one" })
      assert.deepStrictEqual([again.reused, again.agent.id], [true, first.agent.id])
      const refused = yield* Effect.flip(deploy(subject, "steady"))
      assert.deepStrictEqual([refused.step, refused.isClean], ["admission", true])
      yield* slipway.stop([first.agent.id])
      yield* nothingLeft(subject)
    }))

  test("the limit of a task counts only agents that live", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const task = yield* slipway.createTask({ description: "one", project: subject.project, maxConcurrent: 1 })
      const { agent } = yield* deploy(subject, "brief", { task: task.id })
      yield* slipway.wait(agent.id)
      const { agent: second } = yield* deploy(subject, "steady", { task: task.id })
      const refused = yield* Effect.flip(deploy(subject, "parent", { task: task.id }))
      assert.strictEqual(refused.step, "admission")
      yield* slipway.stop([second.id])
      yield* nothingLeft(subject)
    }))

  test("a part of an id selects the one agent that it can mean, and several are refused by name", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy(subject, "steady")
      const type = agent.type
      assert.strictEqual(yield* slipway.selectAgent(agent.id), agent.id)
      assert.strictEqual(yield* slipway.selectAgent(agent.id.slice(0, -3)), agent.id)
      assert.strictEqual(yield* slipway.selectAgent(type.slice(0, 3)), agent.id)
      for (const text of ["", "nobody", `${agent.id}0`, "nobody-260102-030405-0a1b2c"]) {
        assert.propertyVal(yield* Effect.flip(slipway.selectAgent(text)), "_tag", "AgentNotFound")
      }
      yield* slipway.stop([agent.id])
      const { agent: next } = yield* deploy(subject, "steady")
      // The type means the live one, and a beginning of it any.
      assert.strictEqual(yield* slipway.selectAgent(type), next.id)
      const refused = yield* Effect.flip(slipway.selectAgent(type.slice(0, 3)))
      assert.propertyVal(refused, "_tag", "AgentAmbiguous")
      assert.include(refused.message, agent.id)
      assert.include(refused.message, next.id)
      yield* slipway.stop([next.id])
      assert.propertyVal(yield* Effect.flip(slipway.selectAgent(type)), "_tag", "AgentAmbiguous")

      const [one] = yield* slipway.tasks
      assert.strictEqual((yield* slipway.selectTask(one?.id.slice(0, -1) ?? "none")).id, one?.id)
      yield* slipway.createTask({ description: "another", project: subject.project })
      assert.propertyVal(yield* Effect.flip(slipway.selectTask("TASK-")), "_tag", "TaskAmbiguous")
      assert.propertyVal(yield* Effect.flip(slipway.selectTask("TASK-x")), "_tag", "TaskNotFound")
      yield* nothingLeft(subject)
    }))

  test("a key makes one task, and a repeated call finds it with its workspace", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const input = { description: "nightly", project: subject.project, key: "nightly-1" }
      const task = yield* slipway.createTask(input)
      assert.strictEqual((yield* slipway.createTask(input)).id, task.id)
      const refused = yield* Effect.flip(slipway.createTask({ ...input, maxAgents: 7 }))
      assert.propertyVal(refused, "_tag", "TaskKeyTaken")
      assert.propertyVal(refused, "existing", task.id)
      assert.lengthOf(yield* slipway.tasks, 1)
      const { agent } = yield* deploy(subject, "steady", { task: task.id })
      yield* slipway.stop([agent.id])
      yield* nothingLeft(subject)
    }))

  test("a resource of one's own is held by one agent, and free when that one has ended", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const { agent } = yield* deploy(subject, "steady", withPort(4001))
      assert.deepStrictEqual(yield* subject.ports, [4001])
      const refused = yield* Effect.flip(deploy(subject, "brief", withPort(4001)))
      assert.deepStrictEqual([refused.step, refused.isClean], ["resources", true])
      yield* slipway.stop([agent.id])
      yield* nothingLeft(subject)
    }))

  test("who follows the home hears of every transition, in order", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      const follower = yield* slipway.follow().pipe(
        Stream.takeUntil(({ to }) => to === "exited"),
        Stream.runCollect,
        Effect.forkChild({ startImmediately: true })
      )
      const { agent } = yield* deploy(subject, "brief")
      yield* slipway.wait(agent.id)
      const heard = yield* Fiber.join(follower)
      assert.deepStrictEqual(heard.map(({ to }) => to), ["deploying", "running", "ending", "exited"])
      assert.isTrue(heard.every(({ agentId }) => agentId === agent.id))
    }))

  test("a deployment that is interrupted at any step leaves nothing, and says so to its observer", (subject) =>
    Effect.gen(function*() {
      const slipway = yield* Slipway
      for (const step of steps.filter((step) => step !== "commit")) {
        let isClean: boolean | undefined
        const fiber: Fiber.Fiber<unknown, unknown> = yield* Effect.forkChild(
          slipway.deploy(request(subject, "steady", withPort(4001)), {
            onStep: (reached) => Effect.sync(() => reached === step ? fiber.interruptUnsafe() : undefined),
            onRolledBack: ({ releases }) =>
              Effect.sync(() => {
                isClean = releases.every(({ outcome }) => outcome._tag !== "Failed" && outcome._tag !== "Survivors")
              })
          })
        )
        assert.isTrue(Exit.hasInterrupts(yield* Fiber.await(fiber)), step)
        if (step !== "admission") assert.isTrue(isClean, step)
        yield* nothingLeft(subject)
      }
    }))

  for (const step of steps) {
    test(`a deployer that is killed at the step ${step} leaves nothing after one reap`, (subject) =>
      Effect.gen(function*() {
        const slipway = yield* Slipway
        yield* subject.killedAt(step, "steady", 4001)
        yield* reap
        yield* nothingLeft(subject)
        assert.deepStrictEqual((yield* slipway.agents()).filter((agent) => Agent.isActive(agent.state)), [])
        // Nothing of it holds what a new deployment needs.
        const { agent } = yield* deploy(subject, "steady", withPort(4001))
        yield* slipway.stop([agent.id])
        yield* nothingLeft(subject)
      }))
  }
}
