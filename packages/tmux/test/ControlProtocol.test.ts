import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as ControlProtocol from "../src/ControlProtocol.ts"

const utf8 = new TextEncoder()

const read = (text: string) => ControlProtocol.make().feed(utf8.encode(text))

const block = (number: number, text: string, options?: { readonly isError?: boolean; readonly isOwn?: boolean }) =>
  ({
    _tag: "Block",
    number,
    isOwn: options?.isOwn ?? true,
    isError: options?.isError ?? false,
    text
  }) as const

const written = (message: ControlProtocol.Message): string => {
  switch (message._tag) {
    case "Block": {
      const numbers = `1700000000 ${message.number} ${message.isOwn ? 1 : 0}`
      return `%begin ${numbers}\n${message.text}%${message.isError ? "error" : "end"} ${numbers}\n`
    }
    case "Notification":
      return `%${message.name}${message.argument === "" ? "" : ` ${message.argument}`}\n`
    case "Unexpected":
      return `${message.line}\n`
  }
}

// What makes trouble: protocol lines, characters of several bytes, and none at all.
const pieces = [
  "%",
  "%begin 1 2 1",
  "%end 1 2 1",
  "%end 1700000000 0 1",
  "%error 1700000000 1 0",
  "%exit",
  "é",
  "→",
  "𝒳",
  "\uFEFF",
  "\r",
  "\t",
  " ",
  "",
  "a",
  "\\",
  "$1"
]
const index = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: pieces.length - 1 }))
const Line = Schema.Array(index)
const Item = Schema.Struct({
  kind: Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 4 })),
  lines: Schema.Array(Line)
})
const Cuts = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 9 })))

const textOf = (line: ReadonlyArray<number>): string => line.map((at) => pieces[at] ?? "").join("")

const messageOf = (item: typeof Item.Type, at: number): ControlProtocol.Message =>
  item.kind === 0
    ? { _tag: "Notification", name: "sessions-changed", argument: textOf(item.lines[0] ?? []) }
    // The numbers of a block are ones that no line of the pieces has.
    : block(at + 10, item.lines.map((line) => `${textOf(line)}\n`).join(""), {
      isError: item.kind === 1,
      isOwn: item.kind !== 2
    })

describe("ControlProtocol", () => {
  it("a block has the lines of one command, and shows whether it failed and whose it is", () => {
    assert.deepStrictEqual(
      read("%begin 5 7 1\na\nb\n%end 5 7 1\n%begin 5 8 0\n%end 5 8 0\n%begin 5 9 1\nno\n%error 5 9 1\n"),
      [block(7, "a\nb\n"), block(8, "", { isOwn: false }), block(9, "no\n", { isError: true })]
    )
  })

  it("lines in a block that have the form of the protocol are output", () => {
    const text = "%begin 1 2 1\n%end 5 8 1\n%error 6 7 1\n%sessions-changed\n%exit\n%end 5 7 0\n %end 5 7 1\n"
    assert.deepStrictEqual(read(`%begin 5 7 1\n${text}%end 5 7 1\n`), [block(7, text)])
  })

  it("an end that is not the open block's ends nothing, and one outside of a block is unexpected", () => {
    assert.deepStrictEqual(read("%begin 5 7 1\n%end 5 6 1\n"), [])
    for (const line of ["%end 5 7 1", "%error 5 7 1", "%begin 5 x 1", "%begin", "text", "", "% x", "%A"]) {
      assert.deepStrictEqual(read(`${line}\n`), [{ _tag: "Unexpected", line }])
    }
  })

  it("a notification has a name and the rest of its line", () => {
    assert.deepStrictEqual(read("%exit\n%session-renamed $1 a  b é\n%exit server exited\n"), [
      { _tag: "Notification", name: "exit", argument: "" },
      { _tag: "Notification", name: "session-renamed", argument: "$1 a  b é" },
      { _tag: "Notification", name: "exit", argument: "server exited" }
    ])
  })

  it.effect.prop(
    "messages are the same however the bytes are cut",
    [Schema.Array(Item), Cuts],
    ([items, cuts]) =>
      Effect.sync(() => {
        const messages = items.map(messageOf)
        const bytes = utf8.encode(messages.map(written).join(""))
        const parser = ControlProtocol.make()
        const found: Array<ControlProtocol.Message> = []
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = cuts[turn % Math.max(1, cuts.length)] ?? 1
          found.push(...parser.feed(bytes.subarray(at, at + size)))
          at += size
        }
        assert.deepStrictEqual(found, messages)
      })
  )

  it.effect.prop(
    "any bytes are read without a throw, and no message is invented",
    [Schema.Array(Schema.Int)],
    ([ints]) =>
      Effect.sync(() => {
        const parser = ControlProtocol.make()
        const bytes = Uint8Array.from(ints, (int) => int & 0xff)
        const lines = bytes.filter((byte) => byte === 10).length
        assert.isAtMost(parser.feed(bytes).length, lines)
      })
  )

  it("time is linear in the bytes: a long line in small pieces", () => {
    const parser = ControlProtocol.make()
    const piece = utf8.encode("x".repeat(64))
    parser.feed(utf8.encode("%begin 5 7 1\n"))
    for (let count = 0; count < 50_000; count++) parser.feed(piece)
    const [found] = parser.feed(utf8.encode("\n%end 5 7 1\n"))
    assert.strictEqual(found?._tag === "Block" ? found.text.length : 0, 3_200_001)
  })
})
