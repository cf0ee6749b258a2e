/**
 * Admission: whether a deployment may begin. A pure function decides on facts that the registry read in one
 * transaction.
 *
 * The registry gathers the facts, decides, and inserts the row while it holds the write lock, so no two deployers can
 * both take the last slot. A refused deployment has made nothing.
 */
import { Sentence } from "@slipway/tmux"
import { Result, Schema } from "effect"
import { type Agent, AgentId, AgentType, status } from "../agent/Agent.ts"
import { type Task, TaskId } from "../agent/Task.ts"

export class UnknownTask extends Schema.TaggedError<UnknownTask>()("UnknownTask", { taskId: TaskId }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `there is no task ${this.taskId} in this home; 'slipway task list' shows those there are`
  }
}

export class UnknownParent extends Schema.TaggedError<UnknownParent>()("UnknownParent", { parent: AgentId }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `there is no agent ${this.parent} in this task that could be the parent; 'slipway ps --all' shows those there are`
  }
}

export class ParentNotRunning extends Schema.TaggedError<ParentNotRunning>()("ParentNotRunning", {
  parent: AgentId,
  status: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the parent ${this.parent} is ${this.status}, and only a running agent can deploy children`
  }
}

export class DepthExceeded extends Schema.TaggedError<DepthExceeded>()("DepthExceeded", {
  depth: Schema.Int,
  maxDepth: Schema.Int
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the agent would have depth ${this.depth}, and the task allows ${this.maxDepth}; deploy it from higher up`
  }
}

export class DuplicateType extends Schema.TaggedError<DuplicateType>()("DuplicateType", {
  taskId: TaskId,
  type: AgentType,
  existing: AgentId
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `agent ${this.existing} of type ${this.type} is live in this task; wait for it, stop it, or pass --allow-duplicate`
  }
}

export class TaskFull extends Schema.TaggedError<TaskFull>()("TaskFull", { taskId: TaskId, maxAgents: Schema.Int }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `task ${this.taskId} has had all of its ${this.maxAgents} agents; make a task with a higher --max-agents`
  }
}

export class TooManyActive extends Schema.TaggedError<TooManyActive>()("TooManyActive", {
  taskId: TaskId,
  maxConcurrent: Schema.Int
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `task ${this.taskId} has ${this.maxConcurrent} active agents, as many as it allows; wait for one to end, or stop one`
  }
}

export class HomeFull extends Schema.TaggedError<HomeFull>()("HomeFull", {
  maxActive: Schema.Int,
  /** Whether the home allows more, and the caller asked for less. */
  ofCaller: Schema.Boolean
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return this.ofCaller
      ? `this home has ${this.maxActive} active agents or more, and this caller asked for no more (SLIPWAY_MAX_ACTIVE, maxActive); wait for one to end, stop one, or ask for more`
      : `this home has ${this.maxActive} active agents, as many as it allows; wait for one to end, stop one, or allow more with 'slipway home set max-active N'`
  }
}

export class KeyConflict extends Schema.TaggedError<KeyConflict>()("KeyConflict", {
  key: Schema.String,
  existing: AgentId
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the key ${this.key} already stands for agent ${this.existing}, which was deployed by another request; use a new key`
  }
}

/** The key of a new task stands for another task already; nothing was made. */
export class TaskKeyTaken extends Schema.TaggedError<TaskKeyTaken>()("TaskKeyTaken", {
  key: Schema.String,
  existing: TaskId
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the key ${this.key} already stands for task ${this.existing}, which was made by another request; use a new key`
  }
}

/** Why a deployment was refused; nothing was made. */
export const AdmissionRefused = Schema.Union([
  UnknownTask,
  UnknownParent,
  ParentNotRunning,
  DepthExceeded,
  DuplicateType,
  TaskFull,
  TooManyActive,
  HomeFull,
  KeyConflict
])
export type AdmissionRefused = typeof AdmissionRefused.Type

/** The rows that a refusal counted: if one of them has ended unseen, reconciling it may lift the refusal. */
export type Counted = { readonly _tag: "None" } | { readonly _tag: "Agent"; readonly id: AgentId } | {
  readonly _tag: "Task"
  readonly id: TaskId
} | { readonly _tag: "Home" }

export const counted = (refused: AdmissionRefused): Counted => {
  switch (refused._tag) {
    case "KeyConflict":
      return { _tag: "Agent", id: refused.existing }
    // Several agents of one type may be live, and one that was never up does not count against the task's total.
    case "DuplicateType":
    case "TaskFull":
    case "TooManyActive":
      return { _tag: "Task", id: refused.taskId }
    case "HomeFull":
      return { _tag: "Home" }
    default:
      return { _tag: "None" }
  }
}

/** How many agents may be active in the home of one caller. */
export interface HomeLimit {
  readonly maxActive: number
  /** Whether it is less than the home allows, since the caller asked for less. */
  readonly ofCaller: boolean
}

/** What the registry reads for one decision. */
export interface AdmissionFacts {
  readonly task: Task | undefined
  readonly parent: Agent | undefined
  /** The row, not rolled back, that the candidate's key stands for. */
  readonly sameKey: Agent | undefined
  /** An active agent of the candidate's type in its task. */
  readonly sameType: AgentId | undefined
  /** Agents of the task, without those rolled back. */
  readonly taskTotal: number
  readonly taskActive: number
  readonly homeActive: number
  readonly homeLimit: HomeLimit
}

export type Decision =
  | { readonly _tag: "Admit"; readonly depth: number }
  | { readonly _tag: "Existing"; readonly agent: Agent }

/** Decides whether the candidate may begin; an earlier deployment under the same key is answered, not refused. */
export const decide = (
  candidate: Agent,
  options: { readonly allowDuplicate: boolean },
  facts: AdmissionFacts
): Result.Result<Decision, AdmissionRefused> => {
  const { parent, sameKey, task } = facts
  if (task === undefined) return Result.fail(new UnknownTask({ taskId: candidate.taskId }))
  if (sameKey !== undefined) {
    return sameKey.requestDigest === candidate.requestDigest
      ? Result.succeed({ _tag: "Existing", agent: sameKey })
      : Result.fail(new KeyConflict({ key: candidate.key ?? "", existing: sameKey.id }))
  }
  if (candidate.parent !== null) {
    if (parent === undefined || parent.taskId !== candidate.taskId) {
      return Result.fail(new UnknownParent({ parent: candidate.parent }))
    }
    if (parent.state._tag !== "running") {
      return Result.fail(new ParentNotRunning({ parent: parent.id, status: status(parent) }))
    }
  }
  const depth = (parent?.depth ?? 0) + 1
  const { maxAgents, maxConcurrent, maxDepth } = task.limits
  if (depth > maxDepth) return Result.fail(new DepthExceeded({ depth, maxDepth }))
  if (facts.sameType !== undefined && !options.allowDuplicate) {
    return Result.fail(new DuplicateType({ taskId: task.id, type: candidate.type, existing: facts.sameType }))
  }
  if (facts.taskTotal >= maxAgents) return Result.fail(new TaskFull({ taskId: task.id, maxAgents }))
  if (facts.taskActive >= maxConcurrent) {
    return Result.fail(new TooManyActive({ taskId: task.id, maxConcurrent }))
  }
  if (facts.homeActive >= facts.homeLimit.maxActive) {
    return Result.fail(new HomeFull(facts.homeLimit))
  }
  return Result.succeed({ _tag: "Admit", depth })
}
