/**
 * The process that calls Slipway, as agents inherit from it.
 */
import { Effect, Schema } from "effect"

/** The calling process as agents inherit from it. */
export interface Caller {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** The working directory; none where it was removed, or can't be read. */
  readonly cwd: string | undefined
  readonly umask: number
  readonly isRoot: boolean
  /** The soft limit of open files for agents, where this process was started with a lower one than it has now. */
  readonly openFiles?: number | undefined
}

const workingDirectory = (): string | undefined => {
  try {
    return globalThis.process.cwd()
  } catch {
    return undefined
  }
}

/** The process that this code runs in. */
export const currentCaller: Effect.Effect<Caller> = Effect.sync(() => ({
  environment: globalThis.process.env,
  cwd: workingDirectory(),
  umask: globalThis.process.umask(),
  isRoot: globalThis.process.getuid?.() === 0
}))

/** The caller's working directory is needed and can't be named, for example since it was removed. */
export class WorkingDirectoryUnusable extends Schema.TaggedError<WorkingDirectoryUnusable>()(
  "WorkingDirectoryUnusable",
  {
    /** The relative path that was to be resolved; none where the directory itself was meant. */
    path: Schema.NullOr(Schema.String)
  }
) {
  override get message() {
    const why = this.path === null ? "" : `, which ${JSON.stringify(this.path)} is relative to,`
    return `the working directory${why} can't be used: it was removed, or can't be read; change to another one, or name a directory by an absolute path`
  }
}
