/**
 * Tasks and agents as rows of their tables. A row's truth is its document; the columns beside it are what queries and
 * constraints need, and one function writes both together.
 */
import { DateTime, Effect, Schema } from "effect"
import { Agent, endDetail, holdsSlot, isActive } from "../../agent/Agent.ts"
import { Task } from "../../agent/Task.ts"
import { RegistryUnavailable } from "../RegistryError.ts"

/** Rows of the column `document`. */
export const TaskRows = Schema.Array(Schema.Struct({ document: Schema.fromJsonString(Task) }))
export const AgentRows = Schema.Array(Schema.Struct({ document: Schema.fromJsonString(Agent) }))

const encodeTask = Schema.encodeEffect(Schema.fromJsonString(Task))
const encodeAgent = Schema.encodeEffect(Schema.fromJsonString(Agent))

/** A value that can't be stored. */
export const unwritable = (error: Schema.SchemaError) =>
  new RegistryUnavailable({ operation: "write a row", because: "content", reason: error.message, cause: error })

/** What of an agent's row a transition changes. */
export const agentUpdate = Effect.fnUntraced(function*(agent: Agent) {
  return {
    status: agent.state._tag,
    is_active: isActive(agent.state) ? 1 : 0,
    holds_slot: holdsSlot(agent.state) ? 1 : 0,
    request_key: agent.key,
    end_detail: endDetail(agent.state),
    document: yield* Effect.mapError(encodeAgent(agent), unwritable)
  }
})

/** An agent as a row of its table. */
export const agentRow = Effect.fnUntraced(function*(agent: Agent) {
  return {
    id: agent.id,
    task_id: agent.taskId,
    parent: agent.parent,
    type: agent.type,
    created_at: DateTime.formatIso(agent.createdAt),
    ...(yield* agentUpdate(agent))
  }
})

/** A task as a row of its table. */
export const taskRow = Effect.fnUntraced(function*(task: Task) {
  return {
    id: task.id,
    project: task.project,
    is_default: task.isDefault ? 1 : 0,
    request_key: task.key ?? null,
    created_at: DateTime.formatIso(task.createdAt),
    document: yield* Effect.mapError(encodeTask(task), unwritable)
  }
})
