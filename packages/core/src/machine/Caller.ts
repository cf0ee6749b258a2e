/**
 * The process that calls Slipway, as agents inherit from it.
 */
import { Sentence } from "@slipway/tmux"
import { Context, Effect, Schema } from "effect"

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

/**
 * Who makes a call, where that is not the process that opened the layer: a server that works for several clients
 * provides it around each `deploy` and `stop`. Its environment, working directory, umask and user are then what the
 * agent inherits, and the agent that it runs in (`SLIPWAY_AGENT_ID`) is the parent, and is not stopped by itself.
 */
export const CurrentCaller = Context.Reference<Caller | undefined>("@slipway/core/CurrentCaller", {
  defaultValue: () => undefined
})

/** The task and the agent that a caller runs in, where they are of this home. */
export const surroundings = (
  { environment }: Caller,
  homeId: string
): { readonly task: string | undefined; readonly agent: string | undefined } => {
  const isHere = environment["SLIPWAY_HOME_ID"] === homeId
  const value = (name: string) => isHere && environment[name] !== "" ? environment[name] : undefined
  return { task: value("SLIPWAY_TASK_ID"), agent: value("SLIPWAY_AGENT_ID") }
}

/** The caller's working directory is needed and can't be named, for example since it was removed. */
export class WorkingDirectoryUnusable extends Schema.TaggedError<WorkingDirectoryUnusable>()(
  "WorkingDirectoryUnusable",
  {
    /** The relative path that was to be resolved; none where the directory itself was meant. */
    path: Schema.NullOr(Schema.String)
  }
) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const why = this.path === null ? "" : `, which ${JSON.stringify(this.path)} is relative to,`
    return `the working directory${why} can't be used: it was removed, or can't be read; change to another one, or name a directory by an absolute path`
  }
}
