/**
 * An agent's manifest: what its own directory in the home says of it when the registry is lost. Pure.
 *
 * It is written with the directory, before anything else of the agent is made, and stays as long as the directory. It holds
 * the whole plan: so a rebuild knows of everything that a deployment may have made, also of one that never committed.
 * Nothing in it changes later, and how the agent's story goes on is not in it.
 */
import { Schema } from "effect"
import type { Agent } from "./Agent.ts"
import { AgentSpec } from "./AgentCommand.ts"
import { AgentId } from "./AgentId.ts"
import { Plan } from "./Plan.ts"
import { TaskId } from "./Task.ts"

export const Manifest = Schema.Struct({
  version: Schema.Literal(1),
  agentId: AgentId,
  taskId: TaskId,
  spec: AgentSpec,
  /** As it was decided: a home that was moved since has its own things elsewhere. */
  plan: Plan
})
export type Manifest = typeof Manifest.Type

/** The text of the file. */
export const text = ({ id, plan: { homeId, resources }, spec, taskId }: Agent): string => {
  const manifest: typeof Manifest.Encoded = { version: 1, agentId: id, taskId, spec, plan: { homeId, resources } }
  return `${JSON.stringify(manifest)}\n`
}

/** Reads a manifest back; none where the text is anything else. */
export const decode = Schema.decodeUnknownOption(Schema.fromJsonString(Manifest))
