/**
 * Why a deployment failed: the step, the typed reason, and what the rollback did.
 *
 * By the time a caller sees this error, the rollback is over. `cleanup` names every release that ran. What it could not
 * release is kept in the registry, and the agent's next reconciliation tries it again.
 */
import { Sentence } from "@slipway/tmux"
import { TmuxError } from "@slipway/tmux"
import { Schema } from "effect"
import { AgentId, TransitionRefused } from "../agent/Agent.ts"
import { AgentExecutableMissing } from "../agent/AgentCommand.ts"
import * as CleanupReport from "../agent/CleanupReport.ts"
import { InvalidRequest } from "../agent/InvalidRequest.ts"
import { WorkspaceUnusable } from "../agent/Workspace.ts"
import { HomeUnusable } from "../home/Home.ts"
import { WorkingDirectoryUnusable } from "../machine/Caller.ts"
import { FileError } from "../machine/Files.ts"
import { AdmissionRefused } from "../registry/Admission.ts"
import { AgentNotFound, RegistryError } from "../registry/RegistryError.ts"
import { AgentDirectoryFailed } from "../resource/AgentDirectory.ts"
import { AgentSessionFailed } from "../resource/AgentSession.ts"
import { ResourceFailed, ResourceRefused } from "../resource/Own.ts"
import { TaskEntryFailed } from "../resource/TaskEntry.ts"
import { GitFailed } from "../resource/worktree/Git.ts"
import { WorktreeFailed } from "../resource/worktree/Making.ts"
import { BranchTaken, WorktreeRefused } from "../resource/worktree/Planning.ts"
import { PlacementError, ServerReplaced } from "./Placement.ts"
import { DiskFull, NotWritable, WorkingDirectoryMissing } from "./Preflight.ts"
import { ReadinessError } from "./Readiness.ts"

/** The steps of a deployment, in their order. */
export const Step = Schema.Literals([
  "request",
  "preflight",
  "admission",
  "agent-directory",
  "resources",
  "session",
  "readiness",
  "task-entry",
  "commit"
])
export type Step = typeof Step.Type

/** A step did not end within its time. */
export class StepTimedOut extends Schema.TaggedError<StepTimedOut>()("StepTimedOut", {
  step: Step,
  millis: Schema.Finite
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the step ${this.step} was not done within ${this.millis} ms; the machine may be overloaded, try again`
  }
}

/** Another caller ended the deployment while it was under way: by a stop, or by a takeover of its lease. */
export class DeploymentEnded extends Schema.TaggedError<DeploymentEnded>()("DeploymentEnded", {
  agentId: AgentId,
  why: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the deployment of ${this.agentId} was ended by another caller: ${this.why}`
  }
}

/** The deployment that this request shares by its key failed. */
export class SharedDeploymentFailed extends Schema.TaggedError<SharedDeploymentFailed>()("SharedDeploymentFailed", {
  agentId: AgentId,
  problem: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `agent ${this.agentId}, which was deployed under the same key at the same time, ${this.problem}; the key is free again`
  }
}

export const Reason = Schema.Union([
  InvalidRequest,
  ...TmuxError.members,
  AgentExecutableMissing,
  WorkingDirectoryMissing,
  WorkingDirectoryUnusable,
  NotWritable,
  DiskFull,
  ...PlacementError.members,
  ServerReplaced,
  FileError,
  WorkspaceUnusable,
  ...AdmissionRefused.members,
  HomeUnusable,
  ...RegistryError.members,
  AgentNotFound,
  AgentDirectoryFailed,
  ResourceFailed,
  ResourceRefused,
  GitFailed,
  BranchTaken,
  WorktreeRefused,
  WorktreeFailed,
  AgentSessionFailed,
  ...ReadinessError.members,
  TaskEntryFailed,
  TransitionRefused,
  DeploymentEnded,
  StepTimedOut,
  SharedDeploymentFailed
])
export type Reason = typeof Reason.Type

/** A deployment failed and was rolled back; `Effect.catchReason` and `Effect.unwrapReason` reach the reason inside. */
export class DeployError extends Schema.TaggedError<DeployError>()("DeployError", {
  step: Step,
  reason: Reason,
  agentId: Schema.NullOr(AgentId),
  cleanup: CleanupReport.CleanupReport
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const left = CleanupReport.leftovers(this.cleanup)
    return left.length === 0
      ? this.reason.message
      : `${this.reason.message}; and the rollback left something: ${CleanupReport.problems(this.cleanup).join("; ")}`
  }
  /** Whether nothing is left of the deployment. */
  get isClean(): boolean {
    return CleanupReport.leftovers(this.cleanup).length === 0
  }
}
