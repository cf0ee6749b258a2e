/**
 * The answer to a deployment as the outside sees it: of one that committed, and of one that did not, with what the
 * rollback did. Every face (the command, a server of tools) gives these documents.
 *
 * Snake case, with times in ISO 8601 and UTC. Fields are only ever added.
 */
import { Schema, Struct } from "effect"
import type { Agent } from "../agent/Agent.ts"
import * as CleanupReport from "../agent/CleanupReport.ts"
import { described } from "../agent/Described.ts"
import * as Document from "../agent/Document.ts"
import { houseKinds, rowKind } from "../agent/Plan.ts"
import { type DeployError, Step } from "./DeployError.ts"

/** A deployment that committed. */
export const DeployedDocument = Schema.Struct({
  success: described(Schema.Literal(true), "The agent is up."),
  ...Struct.pick(Document.AgentDocument.fields, [
    "agent_id",
    "type",
    "task_id",
    "parent",
    "depth",
    "tmux_session",
    "workspace",
    "prompt_file",
    "log_file",
    "worktree",
    "started_at"
  ]),
  status: described(Schema.Literal("deployed"), "Always `deployed`; `show` has the agent's own status."),
  deployment_method: described(Schema.Literal("tmux session"), "How it runs.")
})
export type DeployedDocument = typeof DeployedDocument.Encoded

const outcomes = {
  Released: "released",
  AlreadyGone: "already-gone",
  Kept: "kept",
  Survivors: "survivors",
  Failed: "failed"
} as const

/** What became of a resource; null where there was nothing to clean. */
const Cleaned = Schema.NullOr(Schema.Literals(Object.values(outcomes)))

/** A deployment that did not commit; one that never began has an empty report. */
export const NotDeployedDocument = Schema.Struct({
  ...Document.FailureDocument.fields,
  step: described(Step, "The step that failed."),
  agent_id: described(Schema.NullOr(Schema.String), "The id that the agent would have had; null before its admission."),
  cleanup_performed: described(Schema.Boolean, "Whether something had been made and was released."),
  resources_cleaned: described(
    Schema.Record(Schema.String, Cleaned),
    "What became of each resource, those of the program's own too; null where there was nothing to clean."
  ),
  cleanup_errors: described(
    Schema.Array(Schema.String),
    "What the rollback left, a sentence for each; it stays on record."
  ),
  exit_code: Schema.optionalKey(described(Schema.Int, "The exit code of an agent that ended before it was up.")),
  signal: Schema.optionalKey(described(Schema.NullOr(Schema.String), "The signal that ended it.")),
  stderr_tail: Schema.optionalKey(described(Schema.String, "The end of its standard error."))
})
export type NotDeployedDocument = typeof NotDeployedDocument.Encoded

/** The document of a deployment that committed. */
export const deployed = (agent: Agent): DeployedDocument => {
  const {
    agent_id,
    depth,
    log_file,
    parent,
    prompt_file,
    started_at,
    task_id,
    tmux_session,
    type,
    workspace,
    worktree
  } = Document.agent(agent)
  return {
    success: true,
    agent_id,
    type,
    task_id,
    parent,
    depth,
    status: "deployed",
    tmux_session,
    workspace,
    prompt_file,
    log_file,
    worktree,
    started_at,
    deployment_method: "tmux session"
  }
}

const house = [houseKinds.session, houseKinds.directory, houseKinds.entry, rowKind] as const

/** The document of a deployment that did not commit. */
export const notDeployed = (failed: {
  readonly error: string
  readonly tag: string
  readonly step: Step
  readonly agentId?: string | null
  readonly report?: CleanupReport.CleanupReport
}): NotDeployedDocument => {
  const report = failed.report ?? CleanupReport.empty
  const cleaned = (resource: string) => {
    const outcome = CleanupReport.outcomeOf(report, resource)
    return [resource, outcome === null ? null : outcomes[outcome._tag]] as const
  }
  const named = new Set([...house, ...report.releases.map(({ resource }) => resource)])
  return {
    success: false,
    error: failed.error,
    error_tag: failed.tag,
    step: failed.step,
    agent_id: failed.agentId ?? null,
    cleanup_performed: CleanupReport.performed(report),
    resources_cleaned: Object.fromEntries([...named].map(cleaned)),
    cleanup_errors: CleanupReport.problems(report)
  }
}

/** The document of a deployment that failed, with the end of what the agent wrote; `message` is the failure's own. */
export const failure = (error: DeployError, message: string = error.message): NotDeployedDocument => ({
  ...notDeployed({
    error: message,
    tag: error.reason._tag,
    step: error.step,
    agentId: error.agentId,
    report: error.cleanup
  }),
  ...(error.reason._tag === "AgentExitedEarly" ? { exit_code: error.reason.code, signal: error.reason.signal } : {}),
  ...("stderrTail" in error.reason ? { stderr_tail: error.reason.stderrTail } : {})
})
