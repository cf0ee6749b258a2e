import { assert, describe, it } from "@effect/vitest"
import { Option, Schema } from "effect"
import { type Session, Target } from "../src/index.ts"
import * as Output from "../src/Output.ts"

const Pid = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 4_194_304 }))
const Name = Schema.String.check(Schema.isPattern(/^[a-z#$\\" é;,{}]{1,20}$/u))
const Rows = Schema.Array(Schema.Struct({ id: Target.SessionId, serverPid: Pid, panePid: Pid, name: Name }))
const Variable = Schema.String.check(Schema.isPattern(/^[A-Z_][A-Z0-9_]{0,8}$/u))
// Dense in what the format uses itself.
const Pieces = Schema.Array(
  Schema.Literals([`"`, "\\", "\n", "$", "`", "; export A;\n", "end\n", "row\t", "environment $0\n", `A="`, "é", "x"])
)
const Variables = Schema.Array(Schema.Struct({ name: Variable, value: Pieces }))

const row = ({ id, name, panePid, serverPid }: Session) => `${id}\t${serverPid}\t${panePid}\t${name}\n`

/** What tmux prints for a variable: `cmd_show_environment_print` escapes these four characters. */
const shown = (name: string, value: string) => `${name}="${value.replace(/[$`"\\]/g, "\\$&")}"; export ${name};\n`

describe("Output", () => {
  it.prop("rows are read back as the sessions that they were printed from", [Rows], ([rows]) => {
    assert.deepStrictEqual(Output.parseSessions(rows.map(row).join("")), Option.some(rows))
  })

  it.prop("a text is read as a whole or not at all", [Schema.Array(Schema.Union([Schema.String, Name]))], ([parts]) => {
    const text = parts.join("\t")
    const parsed = Output.parseSessions(text)
    if (Option.isSome(parsed)) assert.strictEqual(parsed.value.map(row).join(""), text === "" ? "" : `${text}\n`)
  })

  it("one unreadable row makes the listing unreadable", () => {
    const good = "$1\t2\t3\tname\n"
    assert.isTrue(Option.isSome(Output.parseSessions(good)))
    for (
      const bad of [
        "",
        "x",
        "$1\t2\t3",
        "$1\t2\t3\t",
        "1\t2\t3\tn",
        "$1\t0\t3\tn",
        "$1\t-2\t3\tn",
        "$1\t2\t1e3\tn",
        "$1_2_3_n"
      ]
    ) {
      assert.isTrue(Option.isNone(Output.parseSessions(`${good}${bad}\n${good}`)), JSON.stringify(bad))
    }
    assert.isTrue(Option.isNone(Output.parseSession("")))
    assert.isTrue(Option.isNone(Output.parseSession(good + good)))
  })

  it.prop("variables of any value are read back, however close they come to the format", [Variables], ([all]) => {
    const variables = all.map(({ name, value }) => [name, value.join("")] as const)
    const text = variables.map(([name, value]) => shown(name, value)).join("unset OTHER;\n")
    assert.deepStrictEqual(Output.parseEnvironment(text), Object.fromEntries(variables))
  })

  it.prop(
    "the environments of all sessions are read back, and no value poses as a session",
    [Rows, Variables],
    ([rows, all]) => {
      const sessions = [...new Map(rows.map((each) => [each.id, each])).values()]
      const variables = all.map(({ name, value }) => [name, value.join("")] as const)
      const block = variables.map(([name, value]) => shown(name, value)).join("")
      const text = sessions.map((each) => `row\t${row(each)}`).join("") +
        sessions.map(({ id }) => `${block}unset OTHER;\nenvironment ${id}\n`).join("")
      assert.deepStrictEqual(
        Output.parseEnvironments(`${text}end\n`),
        Option.some(sessions.map((session) => ({ session, environment: Object.fromEntries(variables) })))
      )
      assert.isTrue(Option.isNone(Output.parseEnvironments(text)), "without its end the text is incomplete")
    }
  )

  it("a session that came or went between the listing and its environment is left out", () => {
    const text = `row\t$1\t2\t3\tgone\nA="1"; export A;\nenvironment $2\nend\n`
    assert.deepStrictEqual(Output.parseEnvironments(text), Option.some([]))
  })

  it("a value of a megabyte is read in time", () => {
    const value = `\\"\n`.repeat(300_000)
    assert.strictEqual(Output.parseEnvironment(shown("A", value))["A"], value)
    Output.parseEnvironment(shown("A", value).slice(0, -3))
  })
})
