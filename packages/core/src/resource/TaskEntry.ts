/**
 * The agent's document in its task's workspace: a projection of the agent's row for people and agents to read.
 *
 * It is written whole, by write and rename, and may be written again whenever the row changed. A release removes it
 * only if it names this agent and this home; any other document at the same path is `Kept`. The workspace around it
 * belongs to the task and stays.
 */
import { Sentence } from "@slipway/tmux"
import { Context, Duration, Effect, Layer, Option, Schema } from "effect"
import * as Path from "node:path"
import type { Agent, Subject } from "../agent/Agent.ts"
import * as Document from "../agent/Document.ts"
import { houseKinds, TaskEntryRef, worktreeKind } from "../agent/Plan.ts"
import { AlreadyGone, failed, kept, Released, type ReleaseOutcome } from "../agent/Release.ts"
import { checkOwned, FileError, Files } from "../machine/Files.ts"
import { type Presence, type Resource } from "./Resource.ts"

/** The agent's document in the workspace could not be written. */
export class TaskEntryFailed extends Schema.TaggedError<TaskEntryFailed>()("TaskEntryFailed", {
  entry: Schema.String,
  error: FileError
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the agent's entry in the workspace could not be written: ${this.error.message}`
  }
}

const decodeOwner = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Struct({ agent_id: Schema.String, home_id: Schema.String }))
)

/** Whether the entry says what the row says; one that can't be read does not. */
export const isCurrent = (files: Files["Service"], agent: Agent): Effect.Effect<boolean> =>
  files.readText(agent.plan.entry).pipe(
    Effect.map((text) => text === Document.entryText(agent)),
    Effect.orElseSucceed(() => false)
  )

export class TaskEntry extends Context.Service<
  TaskEntry,
  Resource<TaskEntryRef, Agent, void, TaskEntryFailed>
>()("@slipway/core/resource/TaskEntry") {
  static readonly layer = Layer.effect(
    TaskEntry,
    Effect.gen(function*() {
      const files = yield* Files
      // `<project>/.slipway/<task id>/agents/<agent id>.json`: everything below the project is checked.
      const checked = (ref: TaskEntryRef) => checkOwned(files, Path.resolve(ref.workspace, "..", ".."), ref.entry)

      const write = Effect.fn("TaskEntry.make")(function*(ref: TaskEntryRef, agent: Agent) {
        yield* checked(ref)
        yield* files.replaceFile(ref.entry, Document.entryText(agent), 0o600)
      })

      // A write that was killed before its rename leaves a draft beside the entry.
      const removeDrafts = Effect.fnUntraced(function*(ref: TaskEntryRef) {
        const directory = Path.dirname(ref.entry)
        if ((yield* files.inspect(directory)) === undefined) return
        const isDraft = (name: string) => name.startsWith(`${Path.basename(ref.entry)}.`) && name.endsWith(".tmp")
        for (const name of (yield* files.list(directory)).filter(isDraft)) {
          yield* files.removeFile(Path.join(directory, name))
        }
      })

      const release = Effect.fn("TaskEntry.release")(function*(
        ref: TaskEntryRef,
        { agentId, homeId }: Subject
      ): Effect.fn.Return<ReleaseOutcome, FileError> {
        yield* checked(ref)
        yield* removeDrafts(ref)
        const info = yield* files.inspect(ref.entry)
        if (info === undefined) return AlreadyGone
        if (info.kind !== "file") return kept("what stands there is not a file")
        const owner = decodeOwner(yield* files.readText(ref.entry))
        if (Option.isNone(owner) || owner.value.agent_id !== agentId || owner.value.home_id !== homeId) {
          return kept("it does not name this agent and this home")
        }
        return (yield* files.removeFile(ref.entry)) ? Released : AlreadyGone
      })

      const probe = (ref: TaskEntryRef): Effect.Effect<Presence> =>
        files.inspect(ref.entry).pipe(
          Effect.map((info): Presence => ({ _tag: info === undefined ? "Absent" : "Present" })),
          Effect.catch((error) => Effect.succeed<Presence>({ _tag: "Unknown", reason: error.message }))
        )

      return TaskEntry.of({
        kind: houseKinds.entry,
        Reference: TaskEntryRef,
        after: [houseKinds.session],
        keptBy: [worktreeKind],
        until: "prune",
        limit: () => Duration.seconds(5),
        describe: (ref) => ref.entry,
        make: (ref, agent) =>
          Effect.mapError(write(ref, agent), (error) => new TaskEntryFailed({ entry: ref.entry, error })),
        release: (ref, subject) =>
          Effect.catch(release(ref, subject), (error) => Effect.succeed(failed(error.message))),
        probe
      })
    })
  )
}
