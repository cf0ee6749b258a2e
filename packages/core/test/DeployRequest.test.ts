import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Schema } from "effect"
import { AgentType } from "../src/agent/Agent.ts"
import { AgentSpec } from "../src/agent/AgentCommand.ts"
import {
  decode,
  defaultType,
  type DeployInput,
  type DeployRequest,
  digest,
  maxPromptBytes
} from "../src/deployment/DeployRequest.ts"
import { newTaskId } from "./rows.ts"

const minimal: DeployInput = { prompt: "do it", agent: { kind: "command", argv: ["true"] } }

const problem = (input: unknown) =>
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- requests come from outside, whatever their type says
  Effect.map(Effect.flip(decode(input as DeployInput)), (error) => error.message)

const full: DeployInput = {
  task: newTaskId(),
  project: "/project",
  type: "worker",
  prompt: "do it",
  agent: { kind: "claude", model: "m", args: ["-x"] },
  parent: "worker-260102-030405-0a1b2c",
  allowDuplicate: true,
  cwd: "/project/sub",
  environment: { TOKEN: "secret", EMPTY: "", _x9: "a\nb" },
  key: "k",
  ready: "output",
  readyWithin: 0,
  maxRun: 1,
  firstOutputWithin: "2 seconds",
  stallAfter: { minutes: 3 }
}

describe("decode", () => {
  it.effect("a request with all or nothing set decodes to itself", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual<unknown>(yield* decode(minimal), minimal)
      assert.deepStrictEqual<unknown>(yield* decode(full), {
        ...full,
        readyWithin: Duration.zero,
        maxRun: Duration.millis(1),
        firstOutputWithin: Duration.seconds(2),
        stallAfter: Duration.minutes(3)
      })
    }))

  it.effect("a prompt has 1 byte to 10 MB of text", () =>
    Effect.gen(function*() {
      for (
        const prompt of ["x", " ", "\n", "-n", "'\"$(x)`\\", "🚢", "x".repeat(200_000), "é".repeat(maxPromptBytes / 2)]
      ) {
        assert.strictEqual((yield* decode({ ...minimal, prompt })).prompt, prompt)
      }
      assert.include(yield* problem({ ...minimal, prompt: "" }), "a prompt that is not empty")
      const long = yield* problem({ ...minimal, prompt: `${"x".repeat(maxPromptBytes)}y` })
      assert.include(long, `and it has ${maxPromptBytes + 1}`)
      assert.isBelow(long.length, 300)
      // What counts is bytes, not characters.
      assert.include(yield* problem({ ...minimal, prompt: "é".repeat(maxPromptBytes / 2 + 1) }), "bytes")
      assert.include(yield* problem({ ...minimal, prompt: "a\0b" }), "NUL")
      for (const prompt of ["\ud800", "a\udc00b", "\ude00\ud83d"]) {
        assert.include(yield* problem({ ...minimal, prompt }), "Unicode")
      }
    }))

  it.effect("a type is a short name of lower-case letters, digits, - and _", () =>
    Effect.gen(function*() {
      const bad = [
        "",
        "../../x",
        "-rf",
        "_a",
        "a.b",
        "a:b",
        "a/b",
        "a b",
        "a\n",
        "a\0",
        "Worker",
        "é",
        "a".repeat(41),
        "a".repeat(300)
      ]
      for (const type of bad) assert.include(yield* problem({ ...minimal, type }), "type")
      for (const type of ["a", "0", "worker", "code-reviewer_2", "a".repeat(40)]) {
        assert.strictEqual((yield* decode({ ...minimal, type })).type, AgentType.make(type))
      }
    }))

  it.effect("what is no id, no path, no name of a variable, no duration and no command is refused", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<Record<string, unknown>> = [
        { task: "TASK-1" },
        { task: "../x" },
        { parent: "x" },
        { project: "relative" },
        { project: "/a\0b" },
        { cwd: "" },
        { environment: { "A=B": "x" } },
        { environment: { "": "x" } },
        { environment: { "": "x" } },
        { environment: { "A=B": "x" } },
        { environment: { A: "x\0y" } },
        { environment: { A: 1 } },
        { key: "" },
        { key: "x".repeat(201) },
        { ready: "soon" },
        { readyWithin: -1 },
        { readyWithin: Number.NaN },
        { readyWithin: Number.POSITIVE_INFINITY },
        { maxRun: 0 },
        { maxRun: 1e15 },
        { firstOutputWithin: 0 },
        { stallAfter: -1 },
        { stallAfter: "Infinity" },
        { maxRun: "1 fortnight" },
        { maxRun: "" },
        { maxRun: null },
        { maxRun: {} },
        { maxRun: [1] },
        { maxRun: "367 days" },
        { promt: "a slip of the pen" },
        { agent: { kind: "command", argv: [] } },
        { agent: { kind: "command", argv: [""] } },
        { agent: { kind: "command", argv: ["a\0b"] } },
        { agent: { kind: "unknown" } },
        { agent: undefined },
        { prompt: undefined },
        { allowDuplicate: "yes" }
      ]
      for (const part of bad) {
        const [field = ""] = Object.keys(part)
        assert.include(yield* problem({ ...minimal, ...part }), field)
      }
      for (const input of [null, undefined, 1, "text", []]) yield* problem(input)
    }))

  it.effect("a refusal says field by field what is expected, as data and as a sentence", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(decode({
        ...minimal,
        prompt: "",
        type: "Worker",
        // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- requests come from outside, whatever their type says
        ready: "soon" as "output",
        maxRun: "400 days",
        environment: { A: "x\0" }
      }))
      assert.deepStrictEqual<unknown>(error.issues.map(({ path }) => path), [
        ["type"],
        ["prompt"],
        ["environment", "A"],
        ["ready"],
        ["maxRun"]
      ])
      assert.strictEqual(error.issues[4]?.expected, "a duration between 1ms and 366d")
      assert.strictEqual(error.issues[3]?.expected, "\"survive\" or \"output\" or \"none\"")
      assert.include(error.message, "the request is not valid: type: expected ")
      assert.include(
        error.message,
        "; prompt: expected a prompt that is not empty; environment.A: expected a value without"
      )
    }))

  const secret = "s3cr3t-value"

  it.effect("no message repeats a prompt or the value of a variable", () =>
    Effect.gen(function*() {
      const bad: ReadonlyArray<unknown> = [
        { ...minimal, prompt: `${secret}\0` },
        { ...minimal, prompt: `${secret}\ud800` },
        { ...minimal, prompt: [secret] },
        { ...minimal, prompt: { text: secret } },
        { ...minimal, prompt: secret.repeat(1_000_000) },
        { ...minimal, environment: { A: `${secret}\0` } },
        { ...minimal, environment: { "A=B": secret } },
        { ...minimal, environment: { A: [secret] } },
        { ...minimal, environment: [secret] },
        { ...minimal, environment: secret },
        { ...full, prompt: secret, environment: { A: secret }, type: "../x", task: "no", agent: { kind: "none" } },
        { prompt: secret, environment: { TOKEN: secret } },
        { ...minimal, agent: { kind: "command", argv: [] }, prompt: secret, environment: { A: secret } },
        { ...minimal, agent: { kind: "command", argv: ["tool", `--token=${secret}\0`] } },
        { ...minimal, agent: { kind: "claude", args: [`--token=${secret}\0`] } },
        { ...minimal, agent: { kind: "unknown", args: [secret] } },
        { ...minimal, agent: [secret] },
        { ...minimal, unexpected: secret, type: "../x" },
        [secret],
        secret
      ]
      for (const input of bad) {
        const message = yield* problem(input)
        assert.notInclude(message, secret)
        assert.isBelow(message.length, 2000)
      }
    }))

  it.effect.prop(
    "a prompt decodes to itself, or is refused without being repeated",
    [Schema.String],
    ([prompt]) =>
      Effect.gen(function*() {
        const exit = yield* Effect.exit(decode({ ...minimal, prompt }))
        const good = prompt !== "" && !prompt.includes("\0") && prompt.isWellFormed()
        assert.strictEqual(Exit.isSuccess(exit), good)
        if (Exit.isSuccess(exit)) assert.strictEqual(exit.value.prompt, prompt)
      })
  )
})

describe("the default type", () => {
  it.prop("it is a type, whatever runs", [AgentSpec], ([spec]) => {
    assert.isTrue(Schema.is(AgentType)(defaultType(spec)))
  })

  it.prop("it is a type, whatever the path of the program is", [
    Schema.Array(
      Schema.Literals(["/", ".", "-", "_", "A", "é", "İ", "x", "9", " ", "\n", "🚢", "\ud800", "long-".repeat(10)])
    )
  ], ([parts]) => {
    const spec: AgentSpec = { kind: "command", argv: [parts.join("") || "x"] }
    assert.isTrue(Schema.is(AgentType)(defaultType(spec)))
  })

  it("it is the name of the agent, or of the program", () => {
    const command = (program: string) => defaultType({ kind: "command", argv: [program, "x"] })
    assert.strictEqual(defaultType({ kind: "claude" }), AgentType.make("claude"))
    assert.strictEqual(command("/usr/bin/My Tool.sh"), AgentType.make("my-tool-sh"))
    for (const program of ["/", "..", "---", "🚢"]) assert.strictEqual(command(program), AgentType.make("command"))
  })
})

describe("the digest", () => {
  const context = { taskId: newTaskId(), cwd: "/project" }
  const of = (input: DeployInput, on = context) => Effect.map(decode(input), (request) => digest(request, on))

  it.effect("the values of variables, the order of names, and the key change nothing", () =>
    Effect.gen(function*() {
      const first = yield* of(full)
      const same: ReadonlyArray<DeployInput> = [
        { ...full },
        { ...full, environment: { _x9: "1", TOKEN: "renewed", EMPTY: "2" } },
        { ...full, agent: { args: ["-x"], model: "m", kind: "claude" } },
        { ...full, key: "another" }
      ]
      for (const input of same) assert.strictEqual(yield* of(input), first)
      assert.match(first, /^[0-9a-f]{64}$/)
    }))

  it.effect("all else makes another request", () =>
    Effect.gen(function*() {
      const others: ReadonlyArray<Partial<DeployInput>> = [
        { type: "other" },
        { prompt: "do it " },
        { agent: { kind: "claude", model: "m", args: ["-x", "-y"] } },
        { agent: { kind: "claude", model: "n", args: ["-x"] } },
        { agent: { kind: "claude", args: ["-x"] } },
        { agent: { kind: "codex", model: "m", args: ["-x"] } },
        { agent: { kind: "command", argv: ["m", "-x"] } },
        { parent: "worker-260102-030405-0a1b2d" },
        { allowDuplicate: false },
        { environment: { TOKEN: "secret", EMPTY: "" } },
        { environment: { TOKEN: "secret", EMPTY: "", _x9: "a\nb", MORE: "" } },
        { ready: "survive" },
        { readyWithin: 1 },
        { maxRun: 2 },
        { firstOutputWithin: 2 },
        { stallAfter: 2 }
      ]
      const { environment: _, ...bare } = full
      const digests = [
        yield* of(full),
        yield* of(bare),
        yield* of(minimal),
        yield* of(full, { ...context, cwd: "/other" }),
        yield* of(full, { ...context, taskId: newTaskId() }),
        ...(yield* Effect.forEach(others, (part) => of({ ...full, ...part })))
      ]
      assert.strictEqual(new Set(digests).size, digests.length)
    }))

  it.effect("neither the prompt nor a variable's name can pass for another part", () =>
    Effect.gen(function*() {
      const request = (
        prompt: string,
        names: ReadonlyArray<string>
      ): DeployRequest["environment"] extends infer _ ? DeployInput : never => ({
        ...minimal,
        prompt,
        environment: Object.fromEntries(names.map((name) => [name, ""]))
      })
      const digests = yield* Effect.forEach(
        [["x", ["A", "B"]], ["x", ["A_B"]], ["xA", ["B"]], ["x", []]] as const,
        ([prompt, names]) => of(request(prompt, names))
      )
      assert.strictEqual(new Set(digests).size, 4)
    }))
})
