/**
 * Slipway for orchestrators: `Slipway.layer()` gives one service that deploys agents whole or leaves nothing behind.
 */
export * from "./Admission.ts"
export * as Agent from "./Agent.ts"
export * as AgentCommand from "./AgentCommand.ts"
export { type OutputOptions, SelfStopRefused, type StopRequest } from "./Agents.ts"
export { type Deployment, type Observer } from "./Deployer.ts"
export * from "./DeployError.ts"
export { type DeployInput, DeployRequest, InvalidRequest, maxPromptBytes } from "./DeployRequest.ts"
export { type Diagnosis, type Finding } from "./Doctor.ts"
export { type FollowOptions } from "./Events.ts"
export { FileError } from "./Files.ts"
export { HomeLimits, HomeUnusable, InvalidLimit, parseMaxActive } from "./Home.ts"
export { type Choice, choose, defaultDirectory, HomeUnknown, resolvePath } from "./HomeChoice.ts"
export { HomeBusy, type SetLimitsError } from "./HomeLimits.ts"
export * as Metrics from "./Metrics.ts"
export {
  AttributeRefused,
  OtherNamespace,
  PlacementError,
  ProgramMissing,
  ServerNotVisible,
  ServerReplaced
} from "./Placement.ts"
export * from "./Preflight.ts"
export { type Caller, currentCaller } from "./Preparation.ts"
export { type Pruned, type PruneRequest } from "./Prune.ts"
export * from "./Readiness.ts"
export { Item, type Reaped, type ReapOptions, ReapPlan } from "./Reaper.ts"
export { ReaperRunning } from "./ReaperLock.ts"
export {
  HomeCopied,
  Rebuild,
  type RebuildError,
  type RebuildRequest,
  RebuildRunning,
  type Rebuilt,
  RegistryHealthy,
  RegistryInUse
} from "./Rebuild.ts"
export {
  type AgentEvent,
  AgentNotFound,
  type AgentTotal,
  Cleanup,
  EventCursor,
  type Histogram,
  HomeEvent,
  RegistryCorrupt,
  RegistryError,
  RegistryReplaced,
  RegistryTooNew,
  RegistryUnavailable,
  type ReleaseTotal,
  type Totals
} from "./Registry.ts"
export * as CleanupReport from "./resource/CleanupReport.ts"
export { type Draft, InvalidResources, type OwnKind, ResourceFailed, ResourceRefused } from "./resource/Own.ts"
export { type ReleaseOutcome, type ReleaseRecord } from "./resource/Resource.ts"
export { type CreateTaskError, Slipway, type SlipwayOptions, type TaskInput, TaskNotFound } from "./Slipway.ts"
export * as Task from "./Task.ts"
export * as View from "./View.ts"
export { WorkspaceUnusable } from "./Workspace.ts"
