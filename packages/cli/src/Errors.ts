/**
 * What the command itself can refuse, beside what the library refuses: input that is not usable, and ids that name nothing.
 */
import type {
  AgentAmbiguous,
  AgentNotFound,
  CreateTaskError,
  DeployError,
  DiffError,
  FileError,
  HomeUnknown,
  HomeUnusable,
  InvalidLimit,
  InvalidResources,
  LandError,
  ReaperRunning,
  RebuildError,
  RegistryError,
  SelfStopRefused,
  SetLimitsError,
  TaskAmbiguous,
  TaskNotFound,
  WorkingDirectoryUnusable
} from "@slipway/core"
import { type PlatformError, Predicate, Schema } from "effect"

/** The command line, or what it names, can't be used; nothing was made. */
export class UsageError extends Schema.TaggedError<UsageError>()("UsageError", {
  problem: Schema.String,
  hint: Schema.optionalKey(Schema.String)
}) {
  override get message() {
    return this.hint === undefined ? this.problem : `${this.problem}; ${this.hint}`
  }
}

/** The code of an error of the system. */
export const codeOf = (error: unknown): string | undefined =>
  Predicate.hasProperty(error, "code") && Predicate.isString(error.code) ? error.code : undefined

const whys: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EISDIR: "it is a directory",
  ENOENT: "no such file",
  ENOTDIR: "no such file",
  EPERM: "permission denied"
}

/** A file that the command line names can't be read, by the code of the error. */
export const unreadableBy = (what: string, code: string, hint?: string): UsageError =>
  new UsageError({ problem: `${what} can't be read: ${whys[code] ?? code}`, ...(hint === undefined ? {} : { hint }) })

/** A file that the command line names can't be read. */
export const unreadable = (what: string, { reason }: PlatformError.PlatformError, hint?: string): UsageError =>
  unreadableBy(what, codeOf(reason.cause) ?? reason._tag, hint)

/** The metrics can't be served on this port; nothing was begun. */
export class MetricsUnservable extends Schema.TaggedError<MetricsUnservable>()("MetricsUnservable", {
  host: Schema.String,
  port: Schema.Int,
  reason: Schema.String
}) {
  override get message() {
    return `metrics can't be served on ${this.host}:${this.port}: ${this.reason}; give --metrics-port another one, or 0 for any that is free`
  }
}

/** Every failure that a command can end with. */
export type Failure =
  | AgentAmbiguous
  | AgentNotFound
  | CreateTaskError
  | DeployError
  | DiffError
  | FileError
  | HomeUnknown
  | HomeUnusable
  | InvalidLimit
  | InvalidResources
  | LandError
  | MetricsUnservable
  | ReaperRunning
  | RebuildError
  | RegistryError
  | SelfStopRefused
  | SetLimitsError
  | TaskAmbiguous
  | TaskNotFound
  | UsageError
  | WorkingDirectoryUnusable
