/**
 * What a look at the machine says is wrong: from rows, verdicts and sightings to the items of a plan. Pure.
 *
 * What is not seen is no item, and what another home's id is on, or none, never is. A directory, an entry, a session or a
 * process is an item only where no row is active for it. Files of an agent that committed are no leftover: they stay until
 * a prune.
 */
import { Option, Result } from "effect"
import { type Agent, type State, status, subjectOf } from "../agent/Agent.ts"
import * as Sessions from "../resource/Sessions.ts"
import type { Item, ItemVerdict } from "./ReapPlan.ts"
import type { Live, Remains } from "./Sightings.ts"
import type { Verdict } from "./Verdict.ts"

const of = (agent: Agent, verdict: ItemVerdict, evidence: string, action: Item["action"]): Item => ({
  subject: agent.id,
  verdict,
  status: status(agent),
  evidence,
  action
})

/** What the verdict on a row says is wrong; nothing where the row is true. */
export const ofVerdict = (agent: Agent, found: Verdict): Item | undefined => {
  switch (found._tag) {
    case "Stands":
      return undefined
    case "Unknown":
      return of(agent, "unknown", found.evidence, "none")
    case "Unfinished":
      return of(agent, "unfinished-ending", "an ending was begun and not finished", "finish")
    case "Ended":
      return agent.state._tag === "deploying"
        ? of(agent, "dead-deployment", found.evidence, "roll-back")
        : of(agent, "ended-agent", found.evidence, "reconcile")
  }
}

/** An agent that lives, and of which tmux says that it has no session. */
export const ofSession = (agent: Agent, { listingOn }: Pick<Live, "listingOn">): Item | undefined =>
  agent.state._tag === "running" && Sessions.find(listingOn(agent.plan.socket), subjectOf(agent))._tag === "Absent"
    ? of(agent, "session-gone", "its launcher lives and tmux has no session of it", "none")
    : undefined

/** A living agent whose entry is not what the row says. */
export const staleEntry = (agent: Agent): Item =>
  of(agent, "stale-entry", `${agent.plan.entry} is not what the row says`, "rewrite")

const isFinalTag = (tag: State["_tag"]): boolean => tag !== "deploying" && tag !== "running" && tag !== "ending"

const draftOf = (path: string): Item => ({
  subject: path,
  verdict: "draft",
  status: null,
  evidence: "its writer was killed before it was put in place",
  action: "remove"
})

/** Whose sessions and processes a look is to be read for. */
interface Ours {
  readonly homeId: string
  readonly socket: Parameters<Live["listingOn"]>[0]
}

/** What runs or stands of this home and belongs to a row that is final, or to none; and drafts. */
export const ofRemains = ({ homeId, socket }: Ours, live: Live, remains: Remains): ReadonlyArray<Item> => {
  const { directories, drafts, entries, statuses } = remains
  const found = new Map<string, Array<string>>()
  const note = (id: string, what: string) => found.set(id, [...found.get(id) ?? [], what])
  const isOver = (id: string): boolean => {
    const tag = statuses.get(id)
    return tag === undefined || isFinalTag(tag)
  }
  const mayHaveFiles = (id: string): boolean => statuses.has(id) && statuses.get(id) !== "rolled-back"

  for (const { agentId, session } of Sessions.seenOf(live.listingOn(socket), homeId)) {
    if (isOver(agentId)) note(agentId, `session ${session.name}`)
  }
  const scan = Option.getOrUndefined(Result.getSuccess(live.processes))
  for (const bearer of scan?.bearers ?? []) {
    if (bearer.homeId !== homeId || !isOver(bearer.agentId)) continue
    const members = scan?.members({ agentId: bearer.agentId, homeId, roots: [] }).members ?? []
    if (members.some(({ pid }) => pid === bearer.pid)) note(bearer.agentId, `process ${bearer.pid}`)
  }
  for (const { id, path } of directories) if (!mayHaveFiles(id)) note(id, `directory ${path}`)
  for (const { id, path } of entries) if (!mayHaveFiles(id)) note(id, `task entry ${path}`)

  const things = Array.from(found, ([subject, things]): Item => {
    const state = statuses.get(subject)
    return {
      subject,
      verdict: state === undefined ? "stray" : "leftover",
      status: state ?? null,
      evidence: things.join(", "),
      action: state === undefined ? "remove-when-asked" : "release"
    }
  })
  return [...things, ...drafts.map(draftOf)]
}
