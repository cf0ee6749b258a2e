/**
 * `slipway diff`: what an agent changed in its own tree, as a patch, committed or not.
 */
import { Slipway } from "@slipway/core"
import { Effect } from "effect"
import { Argument, Command, toggle } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"

export const diff = Command.make(
  "diff",
  {
    agent: Argument.String("agent").pipe(Argument.withDescription("The agent's id, or the beginning of it")),
    stat: toggle("stat", "Only which files changed, and by how much")
  },
  Effect.fnUntraced(function*({ agent, stat }) {
    const output = yield* Output
    const slipway = yield* Slipway
    const { base, from, patch } = yield* slipway.diff(yield* slipway.selectAgent(agent), { stat })
    if (output.json) return yield* output.answer({ agent_id: agent, base, from, patch }, "")
    yield* output.bytes("stdout", new TextEncoder().encode(patch))
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Print what an agent changed in its own tree since it began, with what is not committed and what is untracked. Nothing is changed. Of a tree that is gone it is what was saved of it, else its branch."
  ),
  Command.withShortDescription("Print what an agent changed in its own tree"),
  Command.withExamples([
    { command: "slipway diff fixer-260102-030405-0a1b2c" },
    { command: "slipway diff fixer-260102-030405-0a1b2c --stat" }
  ])
)
