/**
 * What can be known before anything is made: tmux, the agent's executable, the directories, the free disk.
 *
 * It only reads, in a few milliseconds, and a deployment that fails here leaves nothing to release. It proves nothing
 * for later: every step after it still has its own typed error.
 */
import { Sentence } from "@slipway/tmux"
import { Tmux, type TmuxError } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import { type AgentExecutableMissing, findExecutable } from "../agent/AgentCommand.ts"
import { Home, requiredBytes } from "../home/Home.ts"
import { type FileError, Files } from "../machine/Files.ts"

/** The directory that the agent should work in is not there. */
export class WorkingDirectoryMissing extends Schema.TaggedError<WorkingDirectoryMissing>()("WorkingDirectoryMissing", {
  path: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `there is no directory ${this.path} for the agent to work in; make it, or name another with --cwd or --project`
  }
}

/** A directory that a deployment has to write to can't be written. */
export class NotWritable extends Schema.TaggedError<NotWritable>()("NotWritable", { path: Schema.String }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `${this.path} can't be written; check its owner, its mode, and whether the file system is read-only`
  }
}

/** Too little is free on the disk of the home. */
export class DiskFull extends Schema.TaggedError<DiskFull>()("DiskFull", {
  path: Schema.String,
  freeBytes: Schema.Finite,
  requiredBytes: Schema.Finite
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const megabytes = (bytes: number) => `${Math.floor(bytes / 1_000_000)} MB`
    return `only ${megabytes(this.freeBytes)} are free on the disk of ${this.path}, and ${
      megabytes(this.requiredBytes)
    } are required; free some, or use a home on another disk`
  }
}

export type PreflightError =
  | AgentExecutableMissing
  | DiskFull
  | FileError
  | NotWritable
  | TmuxError
  | WorkingDirectoryMissing

export interface PreflightOptions {
  readonly executable: string
  readonly path: string | undefined
  readonly cwd: string
  readonly project: string
}

/** The check, for as long as the home is open; it answers with the executable's absolute path. */
export const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const tmux = yield* Tmux

  return Effect.fn("Preflight.check")(function*(
    options: PreflightOptions
  ): Effect.fn.Return<string, PreflightError> {
    yield* tmux.version
    for (const directory of new Set([options.project, options.cwd])) {
      // A link to a directory is fine here: the person named it.
      const real = yield* Effect.mapError(
        files.realPath(directory),
        (error) =>
          error.code === "ENOENT" || error.code === "ENOTDIR" ? new WorkingDirectoryMissing({ path: directory }) : error
      )
      if ((yield* files.inspect(real))?.kind !== "directory") {
        return yield* new WorkingDirectoryMissing({ path: directory })
      }
    }
    const executable = yield* findExecutable(files, options.executable, options)
    if (!(yield* files.isWritable(home.agents))) return yield* new NotWritable({ path: home.agents })
    const { freeBytes } = yield* files.space(home.agents)
    if (freeBytes < requiredBytes) return yield* new DiskFull({ path: home.directory, freeBytes, requiredBytes })
    return executable
  })
})
