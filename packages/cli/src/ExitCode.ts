/**
 * The exit code of every ending: one table, total by type, so that a new failure can't be added without a code.
 *
 * Nothing here prints or ends the process.
 */
import { DeployError, type Step } from "@slipway/core"
import { Context, Effect, Layer, Option } from "effect"
import { constants } from "node:os"
import type { Failure } from "./Errors.ts"

export const done = 0
export const unhealthy = 1
export const usage = 2
export const refused = 3
export const environment = 4
export const rolledBack = 5
export const leftBehind = 6
export const notFound = 7
export const unsuccessful = 8
export const defect = 70
export const timedOut = 124

/** What each code says, for help, README and docs/CLI.md; the last is of a family. */
export const meanings: ReadonlyArray<readonly [code: string, meaning: string]> = [
  [String(done), "done"],
  [String(unhealthy), "'doctor' found something"],
  [String(usage), "the command line or its input can't be used; nothing was made"],
  [String(refused), "refused: a limit, a duplicate, a key, an unknown task or parent; nothing was made"],
  [
    String(environment),
    "tmux, the agent's program, the disk, permissions, the registry, limits or namespaces; nothing was made. Also an answer that could not be written"
  ],
  [String(rolledBack), "the deployment failed, and was rolled back clean"],
  [
    String(leftBehind),
    "something could not be released, or a second signal cut the rollback short; it is named, and tried again by 'reap' and 'ps'"
  ],
  [String(notFound), "there is no such agent, task or stray"],
  [
    String(unsuccessful),
    "an agent that was waited for ended, and not with success ('wait --exit-code' ends with its own code)"
  ],
  [String(defect), "a defect in Slipway"],
  [String(timedOut), "the wait timed out"],
  ["128+n", "ended by signal n, and rolled back clean"]
]

type Tag = Exclude<Failure, DeployError>["_tag"] | DeployError["reason"]["_tag"]

/** By tag, for a failure before anything was made; what fails later is `rolledBack` or `leftBehind`, whatever the tag. */
const beforeAnything = {
  UsageError: usage,
  AgentAmbiguous: usage,
  TaskAmbiguous: usage,
  InvalidLimit: usage,
  InvalidRequest: usage,
  InvalidResources: usage,
  ResourceRefused: usage,
  WorktreeRefused: usage,
  WorkingDirectoryMissing: usage,

  UnknownTask: refused,
  UnknownParent: refused,
  ParentNotRunning: refused,
  DepthExceeded: refused,
  BranchTaken: refused,
  DuplicateType: refused,
  TaskFull: refused,
  TooManyActive: refused,
  HomeBusy: refused,
  HomeFull: refused,
  KeyConflict: refused,
  TaskKeyTaken: refused,
  LandRefused: refused,
  ReaperRunning: refused,
  RebuildRunning: refused,
  RegistryHealthy: refused,
  RegistryInUse: refused,
  SelfStopRefused: refused,
  TransitionRefused: refused,

  AgentExecutableMissing: environment,
  AttributeRefused: environment,
  DiskFull: environment,
  FileError: environment,
  GitFailed: environment,
  HomeCopied: environment,
  HomeUnknown: environment,
  HomeUnusable: environment,
  MetricsUnservable: environment,
  NotWritable: environment,
  ResourceFailed: environment,
  OtherNamespace: environment,
  ProgramMissing: environment,
  RegistryCorrupt: environment,
  RegistryReplaced: environment,
  RegistryTooNew: environment,
  RegistryUnavailable: environment,
  ServerNotVisible: environment,
  StepTimedOut: environment,
  TmuxClientLost: environment,
  TmuxCommandFailed: environment,
  TmuxDuplicateSession: environment,
  TmuxNoServer: environment,
  TmuxNoSuchSession: environment,
  TmuxNotFound: environment,
  TmuxNotStarted: environment,
  TmuxRefusedArgument: environment,
  TmuxTimeout: environment,
  TmuxTooOld: environment,
  WorkingDirectoryUnusable: environment,
  WorkspaceUnusable: environment,

  AgentDirectoryFailed: rolledBack,
  AgentExitedEarly: rolledBack,
  AgentSessionFailed: rolledBack,
  AgentUnreadable: rolledBack,
  AgentVanished: rolledBack,
  DeploymentEnded: rolledBack,
  NoFirstOutput: rolledBack,
  ServerReplaced: rolledBack,
  SharedDeploymentFailed: rolledBack,
  TaskEntryFailed: rolledBack,
  WorktreeFailed: rolledBack,

  AgentNotFound: notFound,
  NoWorktree: notFound,
  TaskNotFound: notFound
} as const satisfies Record<Tag, number>

const makes = {
  request: false,
  preflight: false,
  admission: false,
  "agent-directory": true,
  resources: true,
  session: true,
  readiness: true,
  "task-entry": true,
  commit: true
} as const satisfies Record<Step, boolean>

/** The exit code that a failure stands for. */
export const ofFailure = (failure: Failure): number => {
  if (!(failure instanceof DeployError)) return beforeAnything[failure._tag]
  if (!failure.isClean) return leftBehind
  return makes[failure.step] ? rolledBack : beforeAnything[failure.reason._tag]
}

/** What a shell reports for a process that the signal ended. */
export const ofSignal = (signal: NodeJS.Signals): number => 128 + constants.signals[signal]

/**
 * The code that a command settled on, if it did. It outlasts an interruption: a deployment that committed before a signal
 * is done, and one that left something behind says so, whatever ended it.
 */
export class ExitStatus extends Context.Service<ExitStatus, {
  readonly conclude: (code: number) => Effect.Effect<void>
  readonly concluded: Effect.Effect<Option.Option<number>>
}>()("@slipway/cli/ExitStatus") {
  static readonly layer = Layer.sync(ExitStatus, () => {
    let concluded = Option.none<number>()
    return ExitStatus.of({
      conclude: (code) => Effect.sync(() => void (concluded = Option.some(code))),
      concluded: Effect.sync(() => concluded)
    })
  })
}
