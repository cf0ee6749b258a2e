/**
 * `slipway ps`: agents as they are now. It reconciles those that have ended, so that their slots become free.
 */
import { Agent, Document, Family, Slipway } from "@slipway/core"
import { DateTime, Effect, Option } from "effect"
import { Command, Flag, text, toggle } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"
import * as Text from "../Text.ts"

export const ps = Command.make(
  "ps",
  {
    task: text("task", "TASK", "Only the agents of this task").pipe(Flag.optional),
    all: toggle("all", "Also those that have ended").pipe(Flag.withAlias("a"))
  },
  Effect.fnUntraced(function*({ all, task }) {
    const output = yield* Output
    const slipway = yield* Slipway
    const taskId = Option.isSome(task) ? (yield* slipway.selectTask(task.value)).id : undefined
    const found = yield* slipway.agents({ taskId, activeOnly: !all })
    // This query itself reconciles the agents that had ended unseen.
    const agents = Family.liveFirst(all ? found : found.filter((agent) => Agent.isActive(agent.state)))
    if (agents.length === 0) {
      yield* output.note(
        all ? "There are no agents." : "No agents are live. 'slipway ps --all' shows those that have ended."
      )
    }
    yield* output.answer(
      { agents: agents.map(Document.agent) },
      agents.length === 0
        ? ""
        : Text.agents(agents, {
          now: yield* DateTime.now,
          paint: output.paint,
          showTask: taskId === undefined,
          columns: output.columns
        })
    )
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription("List the agents of this home that are live; with --all also those that have ended."),
  Command.withShortDescription("List agents, live first"),
  Command.withExamples([
    { command: "slipway ps" },
    { command: "slipway ps --json | jq -r '.agents[].agent_id'", description: "The ids alone" }
  ])
)
