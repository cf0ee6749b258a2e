/**
 * Slipway for orchestrators: `Slipway.layer()` gives one service that deploys agents whole or leaves nothing behind.
 */
export * as Agent from "./agent/Agent.ts"
export * as AgentCommand from "./agent/AgentCommand.ts"
export * as CleanupReport from "./agent/CleanupReport.ts"
export { described, descriptionOf } from "./agent/Described.ts"
export * as Document from "./agent/Document.ts"
export * as Family from "./agent/Family.ts"
export { InvalidRequest, RequestIssue, requestSentence } from "./agent/InvalidRequest.ts"
export { type ReleaseOutcome, type ReleaseRecord } from "./agent/Release.ts"
export * as Task from "./agent/Task.ts"
export { WorkspaceUnusable } from "./agent/Workspace.ts"
export * as DeployDocument from "./deployment/DeployDocument.ts"
export { type Deployment, type Observer } from "./deployment/Deployer.ts"
export {
  DeployError,
  DeploymentEnded,
  Reason,
  SharedDeploymentFailed,
  Step,
  StepTimedOut
} from "./deployment/DeployError.ts"
export { type DeployInput, DeployRequest, maxPromptBytes } from "./deployment/DeployRequest.ts"
export {
  AttributeRefused,
  OtherNamespace,
  PlacementError,
  ProgramMissing,
  ServerNotVisible,
  ServerReplaced
} from "./deployment/Placement.ts"
export { DiskFull, NotWritable, WorkingDirectoryMissing } from "./deployment/Preflight.ts"
export {
  AgentExitedEarly,
  AgentUnreadable,
  AgentVanished,
  NoFirstOutput,
  ReadinessError
} from "./deployment/Readiness.ts"
export { type FollowOptions } from "./home/Events.ts"
export { HomeLimits, HomeUnusable, InvalidLimit, parseMaxActive } from "./home/Home.ts"
export { type Choice, choose, defaultDirectory, HomeUnknown, resolvePath } from "./home/HomeChoice.ts"
export { HomeBusy, type SetLimitsError } from "./home/HomeLimits.ts"
export { ReaperRunning } from "./home/ReaperLock.ts"
export { type Caller, CurrentCaller, currentCaller, WorkingDirectoryUnusable } from "./machine/Caller.ts"
export { FileError } from "./machine/Files.ts"
export {
  HomeCopied,
  Rebuild,
  type RebuildError,
  type RebuildRequest,
  RebuildRunning,
  type Rebuilt,
  RegistryHealthy,
  RegistryInUse
} from "./rebuild/Rebuild.ts"
export { SelfStopRefused, type StopRequest } from "./reconcile/Agents.ts"
export { type Diagnosis, type Finding } from "./reconcile/Doctor.ts"
export * as Metrics from "./reconcile/Metrics.ts"
export { type OutputChunk, type OutputOptions, type OutputPart, type ReadOptions } from "./reconcile/Output.ts"
export { type Pruned, type PruneRequest } from "./reconcile/Prune.ts"
export { Item, type Reaped, type ReapOptions, ReapPlan, ReapPlanDocument } from "./reconcile/ReapPlan.ts"
export { AgentAmbiguous, TaskAmbiguous, TaskNotFound } from "./reconcile/Selection.ts"
export { type Turn, type Watched, type WatchOptions } from "./reconcile/Watch.ts"
export {
  AdmissionRefused,
  DepthExceeded,
  DuplicateType,
  HomeFull,
  KeyConflict,
  ParentNotRunning,
  TaskFull,
  TaskKeyTaken,
  TooManyActive,
  UnknownParent,
  UnknownTask
} from "./registry/Admission.ts"
export type { AgentTotal, Histogram, ReleaseTotal, Totals } from "./registry/Counters.ts"
export { type AgentEvent, Cleanup, EventCursor, HomeEvent } from "./registry/EventLog.ts"
export {
  AgentNotFound,
  RegistryCorrupt,
  RegistryError,
  RegistryReplaced,
  RegistryTooNew,
  RegistryUnavailable,
  UnavailableBecause
} from "./registry/RegistryError.ts"
export { type Draft, InvalidResources, type OwnKind, ResourceFailed, ResourceRefused } from "./resource/Own.ts"
export { type Diff, DiffError, type DiffOptions, NoWorktree } from "./resource/worktree/Diff.ts"
export { GitFailed } from "./resource/worktree/Git.ts"
export { type Landed, LandError, LandRefused, type LandRequest } from "./resource/worktree/Land.ts"
export { WorktreeFailed } from "./resource/worktree/Making.ts"
export { BranchTaken, WorktreeRefused, WorktreeRequest } from "./resource/worktree/Planning.ts"
export { type CreateTaskError, Slipway, type SlipwayOptions, type TaskInput } from "./Slipway.ts"
