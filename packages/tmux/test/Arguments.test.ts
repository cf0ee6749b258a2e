import { assert, describe, it } from "@effect/vitest"
import { Option, Schema } from "effect"
import * as Arguments from "../src/Arguments.ts"
import { Target, TmuxVersion } from "../src/index.ts"

const Pieces = Schema.Array(Schema.Literals(["#", "$", "\n", ";", "a", "/", " ", "é", "\u0000", "\t", "("]))
const name = Target.SessionName.make("one")
const isSocketPath = Schema.is(Target.SocketPath)

// oxlint-disable no-control-regex
const interpreted = (text: string) =>
  text.includes("#") || text.includes("$") || /[\u0000-\u001f\u007f]/.test(text) || text.endsWith(";")

describe("Arguments", () => {
  it.prop("a script's path is refused exactly when tmux would read more than a path", [Pieces], ([pieces]) => {
    const script = `/${pieces.join("")}`
    const refusal = Arguments.refuseNewSession({ name, environment: {}, script })
    assert.strictEqual(Option.isSome(refusal), interpreted(script))
  })

  it.prop("a variable's value is refused exactly when tmux would interpret it", [Pieces], ([pieces]) => {
    const value = pieces.join("")
    const refusal = Arguments.refuseNewSession({ name, environment: { A: value }, script: "/s" })
    assert.strictEqual(Option.isSome(refusal), interpreted(value))
  })

  it.prop("any text is a socket's path only if it is absolute, short, and free of code", [
    Schema.Union([Schema.String, Pieces])
  ], ([input]) => {
    const path = typeof input === "string" ? input : `/${input.join("")}`
    const allowed = path.startsWith("/") && Buffer.byteLength(path) <= 100 && !interpreted(path)
    assert.strictEqual(isSocketPath(path), allowed)
  })

  it("a socket's path is measured in bytes", () => {
    assert.isTrue(isSocketPath(`/${"a".repeat(99)}`))
    assert.isFalse(isSocketPath(`/${"a".repeat(100)}`))
    assert.isFalse(isSocketPath(`/${"é".repeat(50)}`))
  })

  it.prop("what a refusal says never repeats what was refused", [Schema.String], ([text]) => {
    const value = `hunter2${text}$`
    const refusal = Arguments.refuseNewSession({ name, environment: { A: value }, script: "/s" })
    assert.isTrue(Option.isSome(refusal))
    if (Option.isSome(refusal)) assert.notInclude(JSON.stringify(refusal.value) + refusal.value.message, "hunter2")
  })
})

describe("Target", () => {
  it("inexact targets cannot be made", () => {
    for (const text of ["", "=", "a*", "a.0", "a:", "@1", "%1", "$1", "{last}", "!"]) {
      assert.isFalse(Schema.is(Target.SessionName)(text), text)
    }
    for (const text of ["", "$", "$-1", "$01", "$a", "0", "@1", "$1:", "$1\n"]) {
      assert.isFalse(Schema.is(Target.SessionId)(text), text)
    }
    assert.isFalse(Schema.is(Target.Target)({ _tag: "Id", id: "$1" }))
    assert.isFalse(Schema.is(Target.Target)({ _tag: "Id", id: "$1", serverPid: 0 }))
  })
})

describe("TmuxVersion", () => {
  const supported = (text: string) => {
    const version = TmuxVersion.parse(text)
    return version === undefined ? "unknown" : TmuxVersion.isSupported(version)
  }

  it("releases, snapshots and OpenBSD's tmux are distinguished from what is too old", () => {
    for (const text of ["tmux 3.2", "tmux 3.3a\n", "tmux 3.10", "tmux 4.0", "tmux next-3.5", "tmux 3.4-rc2"]) {
      assert.strictEqual(supported(text), true, text)
    }
    for (const text of ["tmux master", "tmux openbsd-7.4"]) assert.strictEqual(supported(text), true, text)
    for (const text of ["tmux 3.1c", "tmux 2.9a", "tmux 1.8", "tmux next-3.1"]) {
      assert.strictEqual(supported(text), false, text)
    }
    for (const text of ["", "tmux", "screen 4.9", "3.3a", "tmux 3.3a\nmore"]) {
      assert.strictEqual(supported(text), "unknown", text)
    }
  })
})
