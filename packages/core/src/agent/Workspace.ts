/**
 * A task's workspace, `<project>/.slipway/<task id>/`: what people and agents read about the task.
 *
 * It belongs to the task and not to a deployment, so no rollback removes it. Everything in it is a projection of the
 * registry, is written whole (by write and rename), and may be rewritten at any time.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import * as Path from "node:path"
import { checkOwned, type FileError, Files } from "../machine/Files.ts"
import { directoryOf } from "../machine/Layout.ts"
import * as Document from "./Document.ts"
import type { Task } from "./Task.ts"

/** The project's directory, or the workspace in it, can't be used. */
export class WorkspaceUnusable extends Schema.TaggedError<WorkspaceUnusable>()("WorkspaceUnusable", {
  path: Schema.String,
  project: Schema.String,
  /** The system's name of the error, such as EROFS. */
  code: Schema.String,
  reason: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const what = `the project ${this.project} has no usable workspace ${this.path}: ${this.reason}`
    return unwritable.has(this.code)
      ? `${what}; let this user write to the project, or name another with --project`
      : what
  }
}

const unwritable: ReadonlySet<string> = new Set(["EACCES", "EPERM", "EROFS"])

/** What makes the missing parts of a task's workspace and writes `task.json`; safe to run again, and several times at once. */
export const make = Effect.map(Files, (files) =>
  Effect.fnUntraced(function*(
    task: Task,
    homeId: string
  ): Effect.fn.Return<string, WorkspaceUnusable> {
    const workspace = directoryOf(task.project, task.id)
    const make = Effect.gen(function*() {
      const top = Path.join(task.project, ".slipway")
      yield* checkOwned(files, task.project, Path.join(workspace, "agents"))
      for (const directory of [top, workspace, Path.join(workspace, "agents")]) {
        if ((yield* files.inspect(directory)) !== undefined) continue
        yield* Effect.catchIf(files.makeDirectory(directory, 0o700), isThere, () => Effect.void)
      }
      const ignore = Path.join(top, ".gitignore")
      if ((yield* files.inspect(ignore)) === undefined) yield* files.replaceFile(ignore, "*\n", 0o600)
      const document = Path.join(workspace, "task.json")
      if ((yield* files.inspect(document)) === undefined) {
        // The home's id distinguishes the tasks of two homes in one project, for a rebuild of the registry from them.
        const content = { ...Document.task(task), home_id: homeId }
        yield* files.replaceFile(document, `${JSON.stringify(content, null, 2)}\n`, 0o600)
      }
    })
    yield* Effect.mapError(
      make,
      ({ code, message }) => new WorkspaceUnusable({ path: workspace, project: task.project, code, reason: message })
    )
    return workspace
  }))

const isThere = (error: FileError): boolean => error.code === "EEXIST"
