import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
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
  readyWithinMillis: 0,
  maxRunMillis: 1,
  firstOutputMillis: 1,
  stallMillis: 1
}

describe("decode", () => {
  it.effect("a request with all or nothing set decodes to itself", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual<unknown>(yield* decode(minimal), minimal)
      assert.deepStrictEqual<unknown>(yield* decode(full), full)
    }))

  it.effect("a prompt has 1 byte to 10 MB of text", () =>
    Effect.gen(function*() {
      for (
        const prompt of ["x", " ", "\n", "-n", "'\"$(x)`\\", "🚢", "x".repeat(200_000), "é".repeat(maxPromptBytes / 2)]
      ) {
        assert.strictEqual((yield* decode({ ...minimal, prompt })).prompt, prompt)
      }
      assert.include(yield* problem({ ...minimal, prompt: "" }), "the prompt is empty")
      const long = yield* problem({ ...minimal, prompt: `${"x".repeat(maxPromptBytes)}y` })
      assert.include(long, `the prompt has ${maxPromptBytes + 1} bytes`)
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
        { readyWithinMillis: -1 },
        { readyWithinMillis: Number.NaN },
        { readyWithinMillis: Number.POSITIVE_INFINITY },
        { maxRunMillis: 0 },
        { maxRunMillis: 1e15 },
        { firstOutputMillis: 0 },
        { stallMillis: -1 },
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
        { readyWithinMillis: 1 },
        { maxRunMillis: 2 },
        { firstOutputMillis: 2 },
        { stallMillis: 2 }
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
