/**
 * `slipway rebuild`: sets a registry that is refused aside, and makes a new one from what tasks and agents left.
 */
import { Agent, Document, Rebuild, type Rebuilt } from "@slipway/core"
import { Effect, Layer } from "effect"
import { Command, Flag, text, toggle } from "../Cli.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output, plain } from "../Output.ts"
import * as Text from "../Text.ts"

const layer = Layer.unwrap(Effect.map(Open.options, Rebuild.layer))

const sources = {
  row: "a row that could be read",
  entry: "its task entry",
  directory: "its directory"
} as const satisfies Record<Rebuilt["agents"][number]["source"], string>

const toJson = ({ agents, damage, dryRun, problems, setAside, tasks }: Rebuilt) => ({
  success: true,
  rebuilt: !dryRun,
  dry_run: dryRun,
  damage,
  set_aside: setAside,
  tasks: tasks.map(Document.task),
  agents: agents.map(({ agent, source }) => ({
    agent_id: agent.id,
    task_id: agent.taskId,
    status: Agent.status(agent),
    source
  })),
  problems
})

const count = (n: number, what: string): string => `${n === 0 ? "no" : n} ${what}${n === 1 ? "" : "s"}`

const toText = ({ agents, damage, dryRun, problems, setAside, tasks }: Rebuilt, paint: Text.Paint): string => {
  const header = (cell: string, row: number) => row === -1 ? paint("dim", cell) : cell
  const list = agents.length === 0
    ? []
    : [Text.table(
      ["AGENT", "STATUS", "FROM"],
      agents.map(({ agent, source }) => [agent.id, Text.state(agent), sources[source]]),
      header
    )]
  const next = dryRun ? "" : " 'slipway reap' handles what does not agree with it."
  return [
    ...list,
    ...problems.map(({ reason, subject }) => `${paint("yellow", plain(subject))}: ${plain(reason)}`),
    `The registry was refused: ${plain(damage)}.`,
    ...(setAside === null ? [] : [`${dryRun ? "It would be" : "It is"} set aside as ${plain(setAside)}.`]),
    `${dryRun ? "Would restore" : "Restored"} ${count(tasks.length, "task")} and ${count(agents.length, "agent")}${
      problems.length === 0 ? "" : `, with ${count(problems.length, "problem")}`
    }.${next}`
  ].join("\n")
}

export const rebuild = Command.make(
  "rebuild",
  {
    project: text(
      "project",
      "DIR",
      "A project to search for tasks, beside those that are found (default: the working directory); repeatable"
    ).pipe(Flag.atLeast(0)),
    dryRun: toggle("dry-run", "Only report what would be restored")
  },
  Effect.fnUntraced(function*({ dryRun, project }) {
    const output = yield* Output
    const status = yield* ExitCode.ExitStatus
    const { run } = yield* Rebuild
    const rebuilt = yield* run({ projects: project, dryRun })
    yield* output.answer(toJson(rebuilt), toText(rebuilt, output.paint))
    yield* status.conclude(ExitCode.done)
  }, Effect.provide(layer))
).pipe(
  Command.withDescription(
    "Make a new registry where the present one is refused as damaged, replaced or missing. It is made from the rows that can still be read, " +
      "the task entries in the projects, and the agents' directories. The old one is set aside beside it, and never deleted. A healthy " +
      "registry is left as it is, and so is one that a process has open."
  ),
  Command.withShortDescription("Make a new registry where the present one is refused"),
  Command.withExamples([
    { command: "slipway rebuild --project ~/projects/api --dry-run", description: "See what would be restored" },
    { command: "slipway rebuild --project ~/projects/api && slipway reap" }
  ])
)
