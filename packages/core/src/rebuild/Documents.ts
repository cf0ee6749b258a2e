/**
 * What tasks and agents left, read back: `task.json`, and an agent's entry in the workspace; and the rows that follow from
 * an entry and from what the agent's directory says.
 *
 * Pure. Each document is decoded by Schema, and what can't be decoded is no document. What an entry does not hold is
 * derived (the plan, from the agent's id and the entry's path) or stated as lost. A row made from an entry has no key,
 * no limits of time, and no lease. What was deployed it has from the agent's directory.
 */
import { Target } from "@slipway/tmux"
import { DateTime, Option, Schema, Struct } from "effect"
import * as Path from "node:path"
import { type Agent, type AgentId, AgentType, type Final, type Plan, type Running } from "../agent/Agent.ts"
import type { AgentSpec } from "../agent/AgentCommand.ts"
import * as Document from "../agent/Document.ts"
import type { Task, TaskId } from "../agent/Task.ts"
import type { HostIdentity } from "../machine/Host.ts"

const TaskFile = Schema.Struct({
  ...Document.TaskDocument.fields,
  // Not written by the first versions.
  key: Schema.optionalKey(Document.TaskDocument.fields.key),
  home_id: Schema.optionalKey(Schema.String)
})

/** An agent's document in the workspace: what a row is made from, of an agent that committed. */
export const Entry = Schema.Struct({
  ...Struct.pick(Document.AgentDocument.fields, [
    "agent_id",
    "type",
    "task_id",
    "parent",
    "depth",
    "agent",
    "created_at",
    "ended_at",
    "exit",
    "reason",
    "home_id",
    "cwd",
    "owner",
    "stopped_by",
    "session_id",
    "cost_usd",
    "last_message",
    "ended_at_from"
  ]),
  worktree: Schema.optionalKey(Document.AgentDocument.fields.worktree),
  status: Schema.Literals(["running", "ending", "leaked", "exited", "stopped", "lost"]),
  started_at: Schema.DateTimeUtcFromString,
  tmux_socket: Target.SocketPath,
  prompt_file: Schema.String
})
export type Entry = typeof Entry.Type

const decodeTask = Schema.decodeUnknownOption(Schema.fromJsonString(TaskFile))
const decodeEntry = Schema.decodeUnknownOption(Schema.fromJsonString(Entry))
const decodeOwner = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({ home_id: Schema.String })))

/** The home that a document names, if it names one. */
export const homeOf = (text: string): string | undefined => Option.getOrUndefined(decodeOwner(text))?.home_id

export const task = (text: string): Task | undefined => {
  const found = Option.getOrUndefined(decodeTask(text))
  if (found === undefined) return undefined
  return {
    id: found.task_id,
    description: found.description,
    project: found.project,
    priority: found.priority,
    limits: { maxAgents: found.max_agents, maxConcurrent: found.max_concurrent, maxDepth: found.max_depth },
    isDefault: found.is_default,
    createdAt: found.created_at,
    ...(typeof found.key === "string" ? { key: found.key } : {})
  }
}

/** An agent's entry; undefined where its state lacks a field that belongs to it. */
export const entry = (text: string): Entry | undefined => {
  const found = Option.getOrUndefined(decodeEntry(text))
  return found === undefined || (found.status !== "running" && endOf(found) === undefined) ? undefined : found
}

const endOf = ({ exit, reason, status, stopped_by: by }: Entry): Final | undefined => {
  if (status === "running") return undefined
  if (exit !== null) return { _tag: "exited", ...exit }
  if (reason === null) return undefined
  return by === null ? { _tag: "lost", why: reason } : { _tag: "stopped", reason, by }
}

const stateOf = (entry: Entry): Agent["state"] => {
  const end = endOf(entry)
  if (end === undefined) return { _tag: "running" }
  return entry.status === "ending" || entry.status === "leaked" ? { _tag: "ending", as: end, left: null } : end
}

const unknownCommand: AgentSpec = { kind: "command", argv: ["(unknown)"] }

/** What was deployed: an entry tells its kind, and the agent's directory the whole. */
const specOf = (kind: Entry["agent"], deployed: AgentSpec | undefined): AgentSpec =>
  deployed?.kind === kind ? deployed : kind === "command" ? unknownCommand : { kind }

/** What neither an entry nor a directory tells of a row. */
const lost = {
  readiness: { kind: "none", withinMillis: 0 },
  limits: { maxRunMillis: null, firstOutputMillis: null, stallMillis: null },
  key: null,
  requestDigest: "",
  lease: null,
  tail: null
} as const

/** The state of a row as its entry records it. */
export const fromEntry = (entry: Entry, running: Running | null) => ({
  state: stateOf(entry),
  lease: null,
  running,
  startedAt: entry.started_at,
  endedAt: entry.ended_at,
  ...(entry.ended_at_from === undefined ? {} : { endedAtFrom: entry.ended_at_from }),
  summary: summaryOf(entry)
})

const summaryOf = (entry: Entry): Agent["summary"] =>
  entry.session_id === null && entry.cost_usd === null && entry.last_message === null ? null : {
    ...(entry.session_id === null ? {} : { sessionId: entry.session_id }),
    ...(entry.cost_usd === null ? {} : { costUsd: entry.cost_usd }),
    ...(entry.last_message === null ? {} : { lastMessage: entry.last_message })
  }

/** The row of an agent that has an entry. */
export const row = (
  entry: Entry,
  known: {
    readonly plan: Plan
    readonly token: string
    readonly spec: AgentSpec | undefined
    readonly running: Running | null
    readonly host: HostIdentity
  }
): Agent => ({
  ...lost,
  ...fromEntry(entry, known.running),
  id: entry.agent_id,
  type: entry.type,
  taskId: entry.task_id,
  parent: entry.parent,
  depth: entry.depth,
  spec: specOf(entry.agent, known.spec),
  cwd: entry.cwd,
  plan: known.plan,
  token: known.token,
  // The owner's process is no longer known. One without a start time is never assessed dead, so it stops no agent.
  owner: entry.owner === "registry" ? null : { host: known.host, holder: { pid: 0, start: "" } },
  createdAt: entry.created_at
})

const idParts = /^(.+)-(\d\d)(\d\d)(\d\d)-(\d\d)(\d\d)(\d\d)-[0-9a-f]{6}$/
const isType = Schema.is(AgentType)

/** The row of a deployment that never committed: the next command that reads it rolls it back. */
export const dead = (
  id: AgentId,
  known: {
    readonly plan: Plan
    readonly token: string
    readonly taskId: TaskId
    readonly cwd: string
    readonly spec: AgentSpec | undefined
  }
): Agent | undefined => {
  const [, type = "", year, month, day, hour, minute, second] = idParts.exec(id) ?? []
  const createdAt = Option.getOrUndefined(
    DateTime.make(`20${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`)
  )
  if (!isType(type) || createdAt === undefined) return undefined
  const error = { tag: "DeployerGone", message: "it had not committed when the registry was lost" }
  return {
    ...lost,
    id,
    type,
    taskId: known.taskId,
    parent: null,
    depth: 1,
    spec: known.spec ?? unknownCommand,
    cwd: known.cwd,
    plan: known.plan,
    token: known.token,
    state: { _tag: "ending", as: { _tag: "rolled-back", step: "deployment", error }, left: null },
    owner: null,
    running: null,
    createdAt: DateTime.toUtc(createdAt),
    startedAt: null,
    endedAt: null,
    summary: null
  }
}

/** The project that a workspace stands in, if the path has the form of one. */
export const projectOf = (workspace: string): string | undefined => {
  const above = Path.dirname(workspace)
  return Path.isAbsolute(workspace) && Path.basename(above) === ".slipway" ? Path.dirname(above) : undefined
}
