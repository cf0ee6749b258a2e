/**
 * Tasks and agents as the outside sees them: the JSON that the command prints and that workspaces hold.
 *
 * One shape for both, in snake case, with times in ISO 8601 and UTC. Fields are only ever added.
 */
import { DateTime } from "effect"
import * as Path from "node:path"
import { promptFile, stderrFile, stdoutFile } from "../machine/Layout.ts"
import { type Agent, isFinal, type State, status } from "./Agent.ts"
import * as CleanupReport from "./CleanupReport.ts"
import type { Task, TaskCounts } from "./Task.ts"

const time = (moment: DateTime.Utc | null): string | null => moment === null ? null : DateTime.formatIso(moment)

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

/** An agent as `ps`, `show` and the task entry have it. */
export const agent = (agent: Agent) => ({
  agent_id: agent.id,
  type: agent.type,
  task_id: agent.taskId,
  parent: agent.parent,
  depth: agent.depth,
  status: status(agent),
  agent: agent.spec.kind,
  created_at: time(agent.createdAt),
  started_at: time(agent.startedAt),
  ended_at: time(agent.endedAt),
  exit: exitOf(agent),
  reason: reasonOf(agent),
  home_id: agent.plan.homeId,
  cwd: agent.cwd,
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
export type AgentView = ReturnType<typeof agent>

/** An agent's document in the workspace, as it is written. */
export const entryText = (row: Agent): string => `${JSON.stringify(agent(row), null, 2)}\n`

/** A task as `task list`, `task show` and `task.json` have it. */
export const task = (task: Task) => ({
  task_id: task.id,
  description: task.description,
  project: task.project,
  priority: task.priority,
  max_agents: task.limits.maxAgents,
  max_concurrent: task.limits.maxConcurrent,
  max_depth: task.limits.maxDepth,
  is_default: task.isDefault,
  created_at: time(task.createdAt)
})
export type TaskView = ReturnType<typeof task>

export const counts = ({ active, total }: TaskCounts) => ({ agents_total: total, agents_active: active })
