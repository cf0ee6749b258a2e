/**
 * Makes unique what a registry has only once: a project's default task, and a key. Pure, but for what it tells.
 *
 * The oldest task of a project stays its default, and the oldest task and the first agent with a key keep it. Nothing else is changed.
 */
import { DateTime, Struct } from "effect"
import type { Agent } from "../agent/Agent.ts"
import type { Task } from "../agent/Task.ts"
import type { Complain } from "./Problem.ts"

const isNew = (seen: Set<string>, value: string): boolean => seen.size < seen.add(value).size
const ordinary = (task: Task): Task => ({ ...task, isDefault: false })
const keyless = (task: Task): Task => Struct.omit(task, ["key"])
const withoutKey = (agent: Agent): Agent => ({ ...agent, key: null })

/** The tasks, oldest first. */
export const tasks = (all: ReadonlyArray<Task>, complain: Complain): ReadonlyArray<Task> => {
  const defaults = new Set<string>()
  const oldest = all.toSorted((a, b) => DateTime.toEpochMillis(a.createdAt) - DateTime.toEpochMillis(b.createdAt))
  const keys = new Set<string>()
  return oldest.map((found) => {
    let task = found
    if (task.isDefault && !isNew(defaults, task.project)) {
      complain(task.id, `${task.project} has another default task; this one has to be named`)
      task = ordinary(task)
    }
    if (task.key !== undefined && !isNew(keys, task.key)) {
      complain(task.id, "another task has its key")
      task = keyless(task)
    }
    return task
  })
}

export const agents = <A extends { readonly agent: Agent }>(
  all: ReadonlyArray<A>,
  complain: Complain
): ReadonlyArray<A> => {
  const keys = new Set<string>()
  return all.map((restored) => {
    const { agent } = restored
    if (agent.key === null || agent.state._tag === "rolled-back" || isNew(keys, agent.key)) return restored
    complain(agent.id, "another agent has its key")
    return { ...restored, agent: withoutKey(agent) }
  })
}
