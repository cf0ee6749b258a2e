/**
 * Tasks and agents as the outside sees them: the documents that the command prints, that workspaces hold, and that a
 * rebuild reads back. Each is one Schema with a description of every field; what is printed has its encoded form.
 *
 * Snake case, with times in ISO 8601 and UTC. Fields are only ever added.
 */
import { DateTime, Schema } from "effect"
import * as Path from "node:path"
import { promptFile, stderrFile, stdoutFile } from "../machine/Layout.ts"
import { type Agent, EndSource, isFinal, Outcome, type State, StateTag, status, StoppedBy } from "./Agent.ts"
import { AgentKind } from "./AgentCommand.ts"
import { AgentId, AgentType } from "./AgentId.ts"
import * as CleanupReport from "./CleanupReport.ts"
import { described } from "./Described.ts"
import { worktreeOf, type WorktreeRef } from "./Plan.ts"
import { Priority, ProjectPath, type Task, type TaskCounts, TaskId } from "./Task.ts"

const Time = Schema.DateTimeUtcFromString

const optional = <S extends Schema.Top>(schema: S, description: string) =>
  Schema.NullOr(schema).annotate({ description })

/** How an agent's own program ended. */
export const ExitDocument = Schema.Struct({
  code: described(Schema.Int, "The exit code; of a program that a signal ended, 128 and the signal's number."),
  signal: optional(Schema.String, "The signal that ended the program."),
  outcome: described(Outcome, "What the exit and the agent's own last words say of the work.")
})

/** The git working tree that was made for an agent alone. */
export const TreeDocument = Schema.Struct({
  path: described(Schema.String, "Its directory."),
  branch: described(Schema.String, "Its branch."),
  base: described(Schema.String, "The commit that the branch began at.")
})

/** An agent, as `ps`, `show`, `wait`, `stop` and the task entry have it. */
export const AgentDocument = Schema.Struct({
  agent_id: described(AgentId, "The agent's id."),
  type: described(AgentType, "What kind of work it does; one live agent per type and task."),
  task_id: described(TaskId, "The task that it was deployed for."),
  parent: optional(AgentId, "The agent that deployed it."),
  depth: described(
    Schema.Int.check(Schema.isGreaterThanOrEqualTo(1)),
    "1 for an agent without a parent, else one more than its parent's."
  ),
  status: described(
    Schema.Literals([...StateTag.literals, "leaked"]),
    "Where it is in its life; `leaked` where an end could not release everything."
  ),
  agent: described(AgentKind, "What runs: a known agent, or a command."),
  created_at: described(Time, "When it was admitted."),
  started_at: optional(Time, "When its deployment committed."),
  ended_at: optional(Time, "When it ended."),
  exit: optional(ExitDocument, "How its program ended, where it ended by itself."),
  reason: optional(Schema.String, "Why it was stopped, lost or rolled back."),
  home_id: described(Schema.String, "The home that it belongs to."),
  cwd: described(ProjectPath, "The directory that it works in."),
  worktree: optional(TreeDocument, "Its own git working tree, also when that has been removed since."),
  tmux_session: described(Schema.String, "Its tmux session."),
  tmux_socket: described(Schema.String, "The socket of its tmux server."),
  workspace: described(Schema.String, "The directory of its task, for people and agents to read."),
  prompt_file: optional(Schema.String, "The file with its prompt; of a deployment that was rolled back there is none."),
  log_file: optional(Schema.String, "The file with what it wrote to standard output."),
  stderr_file: optional(Schema.String, "The file with what it wrote to standard error."),
  owner: described(
    Schema.Literals(["registry", "scope"]),
    "What it lives as long as: `scope` is a program's scope, `registry` nothing."
  ),
  stopped_by: optional(StoppedBy, "Who or what stopped it."),
  session_id: optional(Schema.String, "What the agent itself calls its run, and continues it by."),
  cost_usd: optional(Schema.Finite, "What the run cost in US dollars, as the agent reckons it."),
  last_message: optional(Schema.String, "The last text of its model."),
  left: described(Schema.Array(Schema.String), "What its end could not release, a sentence for each."),
  ended_at_from: Schema.optionalKey(
    described(EndSource, "What the time of its end comes from; absent in documents of the first versions.")
  )
})
export type AgentDocument = typeof AgentDocument.Encoded

/** A task, as `task list`, `task show` and `task.json` have it. */
export const TaskDocument = Schema.Struct({
  task_id: described(TaskId, "The task's id."),
  description: described(Schema.String, "What it is about."),
  project: described(ProjectPath, "The project's directory."),
  priority: described(Priority, "How urgent it is; Slipway only records it."),
  max_agents: described(Schema.Int, "How many agents it may have in all, without those rolled back."),
  max_concurrent: described(Schema.Int, "How many of them may be active at once."),
  max_depth: described(Schema.Int, "How deep its agents may deploy agents."),
  is_default: described(Schema.Boolean, "Whether it takes the deployments in its project that name no task."),
  created_at: described(Time, "When it was made."),
  key: optional(Schema.String, "The key that it was made under.")
})
export type TaskDocument = typeof TaskDocument.Encoded

/** How many agents a task has. */
export const CountsDocument = Schema.Struct({
  agents_total: described(Schema.Int, "Its agents, without those rolled back."),
  agents_active: described(Schema.Int, "Those that hold a slot.")
})

/** A failure, of whatever command. */
export const FailureDocument = Schema.Struct({
  success: described(Schema.Literal(false), "The command has not done what it was called for."),
  error: described(Schema.String, "What went wrong and what to do, in a sentence."),
  error_tag: described(Schema.String, "The name of the failure, for programs.")
})
export type FailureDocument = typeof FailureDocument.Encoded

const time = (moment: DateTime.Utc): string => DateTime.formatIso(moment)

const timeOrNull = (moment: DateTime.Utc | null): string | null => moment === null ? null : time(moment)

const endOf = (state: State) => isFinal(state) ? state : state._tag === "ending" ? state.as : undefined

const exitOf = (agent: Agent) => {
  const end = endOf(agent.state)
  return end?._tag === "exited" ? { code: end.code, signal: end.signal, outcome: end.outcome } : null
}

const reasonOf = (agent: Agent): string | null => {
  const end = endOf(agent.state)
  switch (end?._tag) {
    case "stopped":
      return end.reason
    case "lost":
      return end.why
    case "rolled-back":
      return `failed at ${end.step}: ${end.error.message}`
    default:
      return null
  }
}

const stoppedBy = (agent: Agent) => {
  const end = endOf(agent.state)
  return end?._tag === "stopped" ? end.by : null
}

// The rollback of a deployment that never committed removes its files.
const fileOf = (agent: Agent, name: string): string | null =>
  agent.state._tag === "rolled-back" ? null : Path.join(agent.plan.directory, name)

/** The tree that was made for it alone; also when it has been removed since. */
const treeOf = (agent: Agent) => {
  const ref = worktreeOf(agent.plan)
  return ref === null ? null : { path: ref.tree, branch: ref.branch.replace(/^refs\/heads\//, ""), base: ref.base }
}

/** The reference of a tree that a document tells of; `common` is its repository, which no document names. */
export const treeReference = ({ base, branch, path }: typeof TreeDocument.Type, common: string): WorktreeRef => ({
  common,
  directory: Path.dirname(path),
  tree: path,
  branch: `refs/heads/${branch}`,
  base
})

/** The document of an agent. */
export const agent = (agent: Agent): AgentDocument => ({
  agent_id: agent.id,
  type: agent.type,
  task_id: agent.taskId,
  parent: agent.parent,
  depth: agent.depth,
  status: status(agent),
  agent: agent.spec.kind,
  created_at: time(agent.createdAt),
  started_at: timeOrNull(agent.startedAt),
  ended_at: timeOrNull(agent.endedAt),
  exit: exitOf(agent),
  reason: reasonOf(agent),
  home_id: agent.plan.homeId,
  cwd: agent.cwd,
  worktree: treeOf(agent),
  tmux_session: agent.plan.session,
  tmux_socket: agent.plan.socket,
  workspace: agent.plan.workspace,
  prompt_file: fileOf(agent, promptFile),
  log_file: fileOf(agent, stdoutFile),
  stderr_file: fileOf(agent, stderrFile),
  owner: agent.owner === null ? "registry" : "scope",
  stopped_by: stoppedBy(agent),
  session_id: agent.summary?.sessionId ?? null,
  cost_usd: agent.summary?.costUsd ?? null,
  last_message: agent.summary?.lastMessage ?? null,
  left: agent.state._tag === "ending" && agent.state.left !== null
    ? CleanupReport.problems({ releases: agent.state.left })
    : [],
  // Absent where the row does not have it: entries that an earlier version wrote stay as they are.
  ...(agent.endedAtFrom === undefined ? {} : { ended_at_from: agent.endedAtFrom })
})
/** An agent's document in the workspace, as it is written. Without a tree it says nothing of one, as it always did. */
export const entryText = (row: Agent): string => {
  const { worktree, ...document } = agent(row)
  return `${JSON.stringify(worktree === null ? document : { ...document, worktree }, null, 2)}\n`
}

/** The document of a task. */
export const task = (task: Task): TaskDocument => ({
  task_id: task.id,
  description: task.description,
  project: task.project,
  priority: task.priority,
  max_agents: task.limits.maxAgents,
  max_concurrent: task.limits.maxConcurrent,
  max_depth: task.limits.maxDepth,
  is_default: task.isDefault,
  created_at: time(task.createdAt),
  key: task.key ?? null
})
export const counts = ({ active, total }: TaskCounts): typeof CountsDocument.Type => ({
  agents_total: total,
  agents_active: active
})

/** The document of a failure. */
export const failed = (error: string, tag: string): FailureDocument => ({ success: false, error, error_tag: tag })
