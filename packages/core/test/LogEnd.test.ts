import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { mostMessage } from "../src/agent/AgentOutput.ts"
import * as LogEnd from "../src/agent/LogEnd.ts"
import type { FileInfo } from "../src/machine/Files.ts"
import { guarantee, open } from "./support/Scenario.ts"

/** A log in memory that counts what is read of it. */
const log = (text: string | Uint8Array, limits: { readonly common?: number; readonly most?: number } = {}) => {
  const bytes = Buffer.from(text)
  const info: FileInfo = {
    kind: "file",
    mode: 0o600,
    uid: 0,
    size: bytes.length,
    modifiedMillis: 0,
    changedMillis: 0,
    device: 0,
    inode: 0
  }
  const reads: Array<number> = []
  const source: LogEnd.Source = {
    path: "log",
    commonBytes: limits.common,
    mostBytes: limits.most,
    files: {
      inspect: () => Effect.succeed(info),
      readChunk: (_, offset, length) =>
        Effect.sync(() => {
          const chunk = bytes.subarray(offset, offset + length)
          reads.push(chunk.length)
          return chunk
        })
    }
  }
  return { source, reads, read: () => reads.reduce((sum, length) => sum + length, 0) }
}

const line = (value: unknown) => `${JSON.stringify(value)}\n`
const mib = 1024 * 1024

describe("the end of a log", () => {
  const Size = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 40 }))

  it.effect.prop(
    "is made of whole lines, the last ones, at least as many as were asked for, and says when one is too long",
    [Schema.Array(Schema.String.check(Schema.isMaxLength(60))), Size, Size],
    ([texts, common, more]) =>
      Effect.gen(function*() {
        const lines = texts.map((text) => `<${text.replaceAll(/\s/g, "_").replaceAll(/[\ud800-\udfff]/g, "é")}>`)
        const text = lines.map((each) => `${each}\n`).join("")
        const { read, source } = log(text, { common, most: common + more })
        const end = yield* LogEnd.read(source)
        const found = end.lines.filter((each) => each !== "")
        assert.deepStrictEqual(found, found.length === 0 ? [] : lines.slice(-found.length))
        assert.strictEqual(end.isWhole, Buffer.byteLength(text) <= common + more && found.length === lines.length)
        if (!end.isCut) {
          const bytes = Buffer.byteLength(found.map((each) => `${each}\n`).join(""))
          assert.isAtLeast(bytes, Math.min(common, Buffer.byteLength(text)))
        }
        assert.isAtMost(read(), common + more)
      })
  )

  it.effect("of a common log costs one read of 64 KiB, and one more to the beginning of the line that it cuts", () =>
    Effect.gen(function*() {
      const short = log(line({ type: "thread.started", thread_id: "s" }) + line({ type: "turn.completed" }))
      yield* LogEnd.read(short.source)
      assert.lengthOf(short.reads, 1)
      const long = log(line({ type: "item.completed", item: { type: "x" } }).repeat(100_000))
      yield* LogEnd.read(long.source)
      assert.deepStrictEqual(long.reads, [65_536, 65_536])
    }))

  it.effect("with a line longer than the bound is read up to the bound, and tells that it is cut", () =>
    Effect.gen(function*() {
      const { read, source } = log(`${"x".repeat(20 * mib)}\nend\n`)
      assert.deepStrictEqual(yield* LogEnd.read(source), { lines: ["end"], isWhole: false, isCut: true })
      assert.strictEqual(read(), 16 * mib)
      const alone = log("x".repeat(20 * mib))
      assert.deepStrictEqual(yield* LogEnd.read(alone.source), { lines: [], isWhole: false, isCut: true })
    }))
})

describe("what a long log says of the run", () => {
  const filler = (type: string, count: number) => line({ type, text: "x".repeat(1000) }).repeat(count)

  it.effect("is the session that only its first line names, and the answer of megabytes at its end", () =>
    Effect.gen(function*() {
      const answer = "y".repeat(3 * mib)
      const text = line({ type: "thread.started", thread_id: "s" }) + filler("error", 200) +
        line({ type: "item.completed", item: { type: "agent_message", text: answer } }) +
        line({ type: "turn.completed" })
      const { lastMessage, ...rest } = yield* LogEnd.readSummary("codex", log(text).source)
      assert.deepStrictEqual(rest, { sessionId: "s" })
      assert.lengthOf(lastMessage ?? "", mostMessage)
      assert.isTrue(lastMessage?.endsWith("y…"))
    }))

  it.effect("is the whole answer that an agent printed in a thousand parts", () =>
    Effect.gen(function*() {
      const part = (content: string) => line({ type: "message", role: "assistant", content, delta: true })
      const parts = Array.from({ length: 1000 }, (_, index) => `${index};`)
      const text = line({ type: "init", session_id: "s" }) + filler("tool_use", 100) +
        parts.map((content) => part(content)).join("") + line({ type: "result", status: "success" })
      assert.isAbove(text.length, 128 * 1024)
      assert.deepStrictEqual(yield* LogEnd.readSummary("gemini", log(text).source), {
        sessionId: "s",
        lastMessage: parts.join("")
      })
      const limited = yield* LogEnd.readSummary("gemini", log(text, { common: 1024, most: 4096 }).source)
      assert.deepStrictEqual(limited, { sessionId: "s" }, "what began beyond the bound is not told in part")
    }))

  it.effect("is what all its steps cost, each counted once", () =>
    Effect.gen(function*() {
      const step = line({ type: "step_finish", sessionID: "s", part: { reason: "tool-calls", cost: 0.25 } })
      for (const [count, between] of [[3, 0], [3, 300], [40, 10]] as const) {
        const text = (step + filler("tool_use", between)).repeat(count)
        const { costUsd } = yield* LogEnd.readSummary("opencode", log(text).source)
        assert.strictEqual(costUsd, 0.25 * count)
      }
      const { costUsd } = yield* LogEnd.readSummary(
        "opencode",
        log((step + filler("tool_use", 10)).repeat(20), { common: 1024, most: 8192 }).source
      )
      assert.isUndefined(costUsd, "a sum of which a part is beyond the bound is none")
    }))
})

describe("an agent with a final line of megabytes", () => {
  const said = (bytes: number) => "z".repeat(bytes)
  const logs = {
    claude: (bytes: number) =>
      line({ type: "system", subtype: "init", session_id: "s" }) + line({
        type: "result",
        subtype: "success",
        is_error: false,
        session_id: "s",
        result: "done",
        permission_denials: [{ tool_input: { content: said(bytes) } }],
        total_cost_usd: 0.5
      }),
    codex: (bytes: number) =>
      line({ type: "thread.started", thread_id: "s" }) + line({ type: "turn.completed", extra: said(bytes) }),
    gemini: (bytes: number) =>
      line({ type: "init", session_id: "s" }) + line({ type: "result", status: "success", stats: said(bytes) }),
    opencode: (bytes: number) =>
      line({ type: "step_start", sessionID: "s" }) +
      line({ type: "step_finish", sessionID: "s", part: { reason: "stop", cost: 0.5, tokens: said(bytes) } })
  }

  for (const kind of ["claude", "codex", "gemini", "opencode"] as const) {
    guarantee(
      `has succeeded all the same, and with one beyond every bound its outcome is unknown: ${kind}`,
      (world) =>
        Effect.gen(function*() {
          const slipway = yield* open(world)
          const bin = Path.join(world.root, "bin")
          Fs.mkdirSync(bin)
          Fs.writeFileSync(Path.join(bin, kind), "#!/bin/sh\ncat \"$OUTPUT\"\n", { mode: 0o755 })
          const run = Effect.fnUntraced(function*(bytes: number) {
            const output = Path.join(world.root, `output-${bytes}`)
            Fs.writeFileSync(output, logs[kind](bytes))
            const { agent } = yield* slipway.deploy({
              project: world.project,
              prompt: "work",
              type: "worker",
              agent: { kind },
              environment: { PATH: `${bin}:${process.env["PATH"] ?? ""}`, OUTPUT: output },
              ready: "none"
            })
            return yield* slipway.wait(agent.id)
          })
          const ended = [yield* run(70_000), yield* run(3 * mib), yield* run(17 * mib)]
          assert.deepStrictEqual(ended.map(({ state }) => "outcome" in state ? state.outcome : state._tag), [
            "success",
            "success",
            "unknown"
          ])
          for (const { summary } of ended.slice(0, 2)) {
            assert.strictEqual(summary?.sessionId, "s")
            if (kind === "claude") assert.strictEqual(summary?.lastMessage, "done")
            if (kind === "claude" || kind === "opencode") assert.strictEqual(summary?.costUsd, 0.5)
          }
          return ended.map(({ id }) => id)
        }),
      90_000
    )
  }
})
