/**
 * A task: a piece of work in a project directory, with the limits that every deployment for it must keep.
 *
 * Everything here is data and pure functions. A task is made once, and no deployment changes it. People and agents read
 * its workspace (see `Workspace`); the registry holds the truth.
 */
import { DateTime, Effect, Schema } from "effect"
import { randomHex } from "../machine/Random.ts"
import { described } from "./Described.ts"

/** `TASK-YYYYMMDD-HHMMSS-xxxxxxxx`: the time is UTC, the tail is random. */
export const TaskId = Schema.String.check(
  Schema.isPattern(/^TASK-\d{8}-\d{6}-[0-9a-f]{8}$/, { expected: "a task id such as TASK-20260102-030405-0a1b2c3d" })
).pipe(Schema.brand("TaskId"))
export type TaskId = typeof TaskId.Type

/** How urgent a task is; Slipway records it and never acts on it. */
export const Priority = Schema.Literals(["P0", "P1", "P2", "P3", "P4"])
export type Priority = typeof Priority.Type

const limit = (minimum: number, maximum: number) => Schema.Int.check(Schema.isBetween({ minimum, maximum }))

/**
 * What a task allows: agents in all (those rolled back do not count), agents active at once, and how deep agents may
 * deploy agents (an agent deployed by a person or a script has depth 1).
 */
export const Limits = Schema.Struct({
  maxAgents: limit(1, 1_000_000),
  maxConcurrent: limit(1, 100_000),
  maxDepth: limit(1, 1_000)
})
export type Limits = typeof Limits.Type

export const defaultLimits: Limits = { maxAgents: 45, maxConcurrent: 20, maxDepth: 5 }

/** A project directory: absolute, and without NUL. Any other character is allowed, since it never reaches tmux. */
export const ProjectPath = Schema.String.check(
  Schema.isPattern(/^\/[^\0]*$/, { expected: "an absolute path" }),
  Schema.isMaxLength(4096)
)

export const Task = Schema.Struct({
  id: TaskId,
  description: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(10_000)),
  project: ProjectPath,
  priority: Priority,
  limits: Limits,
  /** The project's default task takes the deployments that name no task. */
  isDefault: Schema.Boolean,
  createdAt: Schema.DateTimeUtcFromString,
  /** What the call was known by that made it; absent without one. */
  key: Schema.optionalKey(Schema.String)
})
export type Task = typeof Task.Type

/** What `Slipway.createTask` takes; limits and priority have defaults. */
export const TaskRequest = Schema.Struct({
  description: described(Task.fields.description, "What the task is about"),
  project: described(ProjectPath, "The project that its agents work in (default: this directory)"),
  priority: described(Schema.optional(Priority), "How urgent it is, which is only recorded (default: P2)"),
  maxAgents: described(
    Schema.optional(Limits.fields.maxAgents),
    `How many agents it may have in all (default: ${defaultLimits.maxAgents})`
  ),
  maxConcurrent: described(
    Schema.optional(Limits.fields.maxConcurrent),
    `How many of them may be active at once (default: ${defaultLimits.maxConcurrent})`
  ),
  maxDepth: described(
    Schema.optional(Limits.fields.maxDepth),
    `How deep agents may deploy agents (default: ${defaultLimits.maxDepth})`
  ),
  key: described(
    Schema.optional(Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(200))),
    "Make one task per key: the same request again answers with the first task"
  )
})
export type TaskRequest = typeof TaskRequest.Type

/** `YYYYMMDD` and `HHMMSS` of a moment in UTC, as ids carry them. */
export const stamp = (moment: DateTime.Utc): { readonly date: string; readonly time: string } => {
  const iso = DateTime.formatIso(moment)
  return { date: iso.slice(0, 10).replaceAll("-", ""), time: iso.slice(11, 19).replaceAll(":", "") }
}

/** Makes the task that a decoded request describes; nothing is stored. */
export const fromRequest = Effect.fnUntraced(
  function*(request: TaskRequest, options?: { readonly isDefault: boolean }) {
    const createdAt = yield* DateTime.now
    const { date, time } = stamp(createdAt)
    const task: Task = {
      id: TaskId.make(`TASK-${date}-${time}-${yield* randomHex(8)}`),
      description: request.description,
      project: request.project,
      priority: request.priority ?? "P2",
      limits: {
        maxAgents: request.maxAgents ?? defaultLimits.maxAgents,
        maxConcurrent: request.maxConcurrent ?? defaultLimits.maxConcurrent,
        maxDepth: request.maxDepth ?? defaultLimits.maxDepth
      },
      isDefault: options?.isDefault ?? false,
      createdAt,
      ...(request.key === undefined ? {} : { key: request.key })
    }
    return task
  }
)

/** Whether two tasks were asked for alike: they differ at most in what Slipway itself gave them. */
export const isSameRequest = (a: Task, b: Task): boolean =>
  a.description === b.description && a.project === b.project && a.priority === b.priority &&
  a.limits.maxAgents === b.limits.maxAgents && a.limits.maxConcurrent === b.limits.maxConcurrent &&
  a.limits.maxDepth === b.limits.maxDepth

/** How many agents a task has had, without those rolled back, and how many hold a slot. */
export interface TaskCounts {
  readonly total: number
  readonly active: number
}
