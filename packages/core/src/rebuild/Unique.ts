/**
 * Makes unique what a registry has only once: a project's default task, and a key. Pure, but for what it tells.
 *
 * The oldest task of a project stays its default, and the first agent with a key keeps it. Nothing else is changed.
 */
import { DateTime } from "effect"
import type { Agent } from "../agent/Agent.ts"
import type { Task } from "../agent/Task.ts"
import type { Complain } from "./Problem.ts"

const isNew = (seen: Set<string>, value: string): boolean => seen.size < seen.add(value).size
const ordinary = (task: Task): Task => ({ ...task, isDefault: false })
const withoutKey = (agent: Agent): Agent => ({ ...agent, key: null })

/** The tasks, oldest first. */
export const tasks = (all: ReadonlyArray<Task>, complain: Complain): ReadonlyArray<Task> => {
  const defaults = new Set<string>()
  const oldest = all.toSorted((a, b) => DateTime.toEpochMillis(a.createdAt) - DateTime.toEpochMillis(b.createdAt))
  return oldest.map((task) => {
    if (!task.isDefault || isNew(defaults, task.project)) return task
    complain(task.id, `${task.project} has another default task; this one has to be named`)
    return ordinary(task)
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
