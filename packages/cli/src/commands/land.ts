/**
 * `slipway land`: puts what an agent committed in its own tree on a branch, whole or not at all.
 */
import { Slipway } from "@slipway/core"
import { Effect, Option } from "effect"
import { Argument, Command, Flag, text } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"

const hows = {
  already: "is there already",
  "fast-forward": "was landed, as a fast-forward",
  merge: "was landed, as a merge"
} as const

export const land = Command.make(
  "land",
  {
    agent: Argument.String("agent").pipe(Argument.withDescription("The agent's id, or the beginning of it")),
    onto: text("onto", "BRANCH", "The branch that gets the work"),
    check: text("check", "CMD", "A shell command that has to succeed on the result, before the branch moves").pipe(
      Flag.optional
    )
  },
  Effect.fnUntraced(function*({ agent, check, onto }) {
    const output = yield* Output
    const slipway = yield* Slipway
    const landed = yield* slipway.land(yield* slipway.selectAgent(agent), { onto, check: Option.getOrUndefined(check) })
    yield* output.answer(
      { success: true, agent_id: agent, onto: landed.onto, commit: landed.commit, how: landed.how, tree: landed.tree },
      `the work of ${output.paint("bold", agent)} ${hows[landed.how]}: ${landed.onto} is at ${
        landed.commit.slice(0, 12)
      }`
    )
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Put what an agent committed in its own tree on a branch. A conflict, changes that are not committed, and a check that fails are refused (exit code 3): then nothing is changed, and the tree stays as it is.\nThe check runs in a checkout of its own. Where the branch is checked out, the files of that tree move along, if nothing is changed there."
  ),
  Command.withShortDescription("Put an agent's commits on a branch"),
  Command.withExamples([
    { command: "slipway land fixer-260102-030405-0a1b2c --onto main" },
    {
      command: "slipway land fixer-260102-030405-0a1b2c --onto main --check 'npm ci && npm test'",
      description: "Only if the tests pass on the result"
    }
  ])
)
