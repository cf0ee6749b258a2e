/** `slipway logs` by bytes, on the published build. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

describe("logs by bytes", () => {
  it.live("answer with what was asked for, its very bytes, and where the reader stands", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* box.deploy("printf 'one\\nthr\\303\\251e\\n'")
      const id = agent.agent_id
      yield* box.run(["wait", id])
      // The fourth byte of the second line ends in the middle of a character.
      const { value: first } = yield* box.json(["logs", id, "--bytes", "8"])
      assert.deepInclude(first, {
        agent_id: id,
        stream: "stdout",
        offset: 0,
        next_offset: 8,
        size: 11,
        complete: false
      })
      const { value: rest } = yield* box.json(["logs", id, "--offset", String(first.next_offset)])
      assert.deepInclude(rest, { offset: 8, next_offset: 11, size: 11, complete: true, is_tail: false })
      const bytes = [first, rest].map((part) => Buffer.from(part.content_base64, "base64"))
      assert.strictEqual(Buffer.concat(bytes).toString("utf8"), "one\nthrée\n")
      assert.strictEqual((yield* box.run(["logs", id, "--offset", "4"])).stdout, "thrée\n")
      assert.strictEqual((yield* box.run(["logs", id, "--offset", "4", "--follow"])).stdout, "thrée\n")
      assert.strictEqual((yield* box.run(["logs", id, "--offset", "4", "--bytes", "3"])).stdout, "thr")
    }))

  it.live("have both streams in the order written, once, of an agent that was deployed with them merged", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const script = "for i in 1 2 3; do echo out $i; sh -c \"echo err $i\" >&2; done"
      const { agent_id: id } = yield* box.deploy(script, ["--merge-stderr"])
      const all = [1, 2, 3].map((i) => `out ${i}\nerr ${i}\n`).join("")
      assert.deepInclude(yield* box.run(["attach", id]), { stdout: all, code: 0 })
      assert.strictEqual((yield* box.run(["logs", id])).stdout, all)
      assert.strictEqual((yield* box.run(["logs", id, "--stderr"])).stdout, all)
    }))

  it.live("are refused with exit code 2 where flags contradict each other or a number is none", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { agent_id: id } = yield* box.deploy("echo one")
      for (
        const flags of [
          ["--offset", "-1"],
          ["--offset", "0.5"],
          ["--bytes", "0"],
          ["--bytes", "5", "--follow"],
          ["--tail", "1", "--offset", "0"]
        ]
      ) assert.strictEqual((yield* box.run(["logs", id, ...flags])).code, 2, flags.join(" "))
    }))
})
