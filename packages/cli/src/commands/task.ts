/**
 * `slipway task`: makes tasks, and shows them with their counts and agents.
 */
import {
  Agent,
  currentCaller,
  descriptionOf,
  Document,
  Family,
  resolvePath,
  Slipway,
  Task,
  type TaskInput,
  WorkingDirectoryUnusable
} from "@slipway/core"
import { DateTime, Effect, Option } from "effect"
import { Argument, choice, Command, count, Flag, text } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output, plain } from "../Output.ts"
import * as Text from "../Text.ts"

const { maxAgents, maxConcurrent, maxDepth } = Task.defaultLimits

const said = (field: keyof typeof Task.TaskRequest.fields): string => descriptionOf(Task.TaskRequest.fields[field])

const create = Command.make(
  "create",
  {
    description: Argument.String("description").pipe(Argument.withDescription(said("description"))),
    project: text("project", "DIR", said("project")).pipe(Flag.optional),
    maxAgents: count("max-agents", "N", said("maxAgents")).pipe(Flag.withDefault(maxAgents)),
    maxConcurrent: count("max-concurrent", "N", said("maxConcurrent")).pipe(Flag.withDefault(maxConcurrent)),
    maxDepth: count("max-depth", "N", said("maxDepth")).pipe(Flag.withDefault(maxDepth)),
    key: text("key", "KEY", said("key")).pipe(Flag.optional),
    priority: choice("priority", "P", Task.Priority.literals, said("priority")).pipe(Flag.withDefault("P2" as const))
  },
  Effect.fnUntraced(function*({ key, project, ...given }) {
    const output = yield* Output
    const caller = yield* currentCaller
    const named = Option.getOrElse(project, () => caller.cwd)
    if (named === undefined) return yield* new WorkingDirectoryUnusable({ path: null })
    const slipway = yield* Slipway
    const input: TaskInput = {
      ...given,
      key: Option.getOrUndefined(key),
      project: yield* resolvePath(caller, named)
    }
    const task = yield* slipway.createTask(input)
    yield* output.answer(
      { success: true, ...Document.task(task) },
      `created ${output.paint("bold", task.id)} in ${
        plain(task.project)
      }\n  deploy   slipway deploy --task ${task.id} --agent claude --prompt '…'`
    )
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Make a task: a piece of work in a project, with limits for the agents that are deployed for it."
  ),
  Command.withShortDescription("Make a task"),
  Command.withExamples([
    { command: "slipway task create 'upgrade the parser'" },
    { command: "slipway task create 'review every module' --project ~/src/app --max-concurrent 5" },
    { command: "slipway task create 'nightly review' --key nightly-2026-11-27" }
  ])
)

const list = Command.make(
  "list",
  {},
  Effect.fnUntraced(function*() {
    const output = yield* Output
    const slipway = yield* Slipway
    const tasks = yield* Effect.forEach(
      yield* slipway.tasks,
      (task) => Effect.map(slipway.taskCounts(task.id), (counts) => ({ task, counts }))
    )
    if (tasks.length === 0) {
      yield* output.note(
        "There are no tasks yet. 'slipway task create DESCRIPTION' makes one, and so does the first deploy in a project."
      )
    }
    const rows = tasks.map(({ counts, task }) => [
      task.id,
      `${counts.active}/${task.limits.maxConcurrent}`,
      `${counts.total}/${task.limits.maxAgents}`,
      task.priority,
      Text.brief(task.description, 60)
    ])
    yield* output.answer(
      { tasks: tasks.map(({ counts, task }) => ({ ...Document.task(task), ...Document.counts(counts) })) },
      tasks.length === 0 ? "" : Text.table(
        ["TASK", "ACTIVE", "AGENTS", "PRIO", "DESCRIPTION"],
        rows,
        (text, row) => row === -1 ? output.paint("dim", text) : text
      )
    )
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription("List the tasks, newest first, with how many agents are active and how many there were."),
  Command.withShortDescription("List the tasks")
)

type NodeView = Document.AgentDocument & { readonly children: ReadonlyArray<NodeView> }

const nodeView = ({ agent, children }: Family.Node): NodeView => ({
  ...Document.agent(agent),
  children: children.map(nodeView)
})

const show = Command.make(
  "show",
  { task: Argument.String("task").pipe(Argument.withDescription("The task's id, or the beginning of it")) },
  Effect.fnUntraced(function*(given) {
    const output = yield* Output
    const slipway = yield* Slipway
    const task = yield* slipway.selectTask(given.task)
    const agents = yield* slipway.agents({ taskId: task.id })
    // Asked after the query for the agents, which reconciles those that have ended.
    const counts = yield* slipway.taskCounts(task.id)
    const nodes = Family.tree(agents)
    const now = yield* DateTime.now
    const { maxAgents, maxConcurrent, maxDepth } = task.limits
    yield* output.answer(
      { ...Document.task(task), ...Document.counts(counts), agents: nodes.map(nodeView) },
      [
        `${output.paint("bold", task.id)}  ${plain(task.description)}`,
        `  project   ${plain(task.project)}`,
        `  priority  ${task.priority}${task.isDefault ? ", the default task of its project" : ""}`,
        `  created   ${DateTime.formatIso(task.createdAt)} (${Text.ago(task.createdAt, now)} ago)`,
        `  agents    ${counts.active} of ${maxConcurrent} active, ${counts.total} of ${maxAgents} in all, at most ${maxDepth} deep`,
        ...(nodes.length === 0 ? [] : [""]),
        ...Text.treeLines(nodes, (agent) => {
          const state = Text.paintedState(agent, output.paint)
          return `${state}  ${
            output.paint(
              "dim",
              `${Agent.isActive(agent.state) ? "for " : ""}${Text.ago(agent.startedAt ?? agent.createdAt, now)}${
                Agent.isActive(agent.state) ? "" : " ago"
              }`
            )
          }`
        })
      ].join("\n")
    )
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription("Show a task with its limits, its counts, and its agents under their parents."),
  Command.withShortDescription("Show a task and its agents")
)

export const task = Command.make("task").pipe(
  Command.withDescription("Make and show tasks: pieces of work in a project, with limits for their agents."),
  Command.withShortDescription("Make and show tasks"),
  Command.withSubcommands([create, list, show])
)
