/**
 * How agents stand to each other: under their parents, and the live before those that have ended. Pure.
 */
import { DateTime } from "effect"
import { type Agent, type AgentId, isActive } from "./Agent.ts"

/** An agent with those that it deployed. */
export interface Node {
  readonly agent: Agent
  readonly children: ReadonlyArray<Node>
}

/** Agents under their parents, oldest first; one whose parent is not among them stands at the top. */
export const tree = (list: ReadonlyArray<Agent>): ReadonlyArray<Node> => {
  const known = new Set(list.map((agent) => agent.id))
  const oldestFirst = list.toSorted((a, b) =>
    DateTime.toEpochMillis(a.createdAt) - DateTime.toEpochMillis(b.createdAt) || a.id.localeCompare(b.id)
  )
  const under = (parent: AgentId | null): ReadonlyArray<Node> =>
    oldestFirst
      .filter((agent) => (agent.parent !== null && known.has(agent.parent) ? agent.parent : null) === parent)
      .map((agent) => ({ agent, children: under(agent.id) }))
  return under(null)
}

/** Live ones first, each part newest first as the registry has it. */
export const liveFirst = (list: ReadonlyArray<Agent>): ReadonlyArray<Agent> => [
  ...list.filter((agent) => isActive(agent.state)),
  ...list.filter((agent) => !isActive(agent.state))
]
