/**
 * The agent's directory in the home, with the prompt file and all that a launcher needs.
 *
 * The directory is 0700 and made exclusively; each file in it is 0600, also those that the launcher makes. The first
 * file bears the home's id in its name, and holds the agent's manifest. By it a release distinguishes a directory of ours from anything else at the path: without
 * that file only an empty directory is removed, and anything else is `Kept`. All operations are synchronous system
 * calls: an interruption finds each of them done or not begun. The release removes the launcher first, then the whole
 * directory, and follows no link.
 */
import { Sentence } from "@slipway/tmux"
import { Context, Duration, Effect, Layer, Schema } from "effect"
import * as Path from "node:path"
import { type Subject } from "../agent/Agent.ts"
import { AgentDirectoryRef, houseKinds, worktreeKind } from "../agent/Plan.ts"
import { AlreadyGone, failed, kept, Released, type ReleaseOutcome } from "../agent/Release.ts"
import { Home } from "../home/Home.ts"
import { checkOwned, FileError, Files } from "../machine/Files.ts"
import * as Layout from "../machine/Layout.ts"
import { type Presence, type Resource } from "./Resource.ts"

export interface AgentFiles {
  readonly prompt: string | Uint8Array
  readonly launcher: string
  /** The agent's variables, where the launcher reads them from a file. */
  readonly environment?: string | undefined
  /** Whether standard error goes into the file of standard output; by default not. */
  readonly isMerged?: boolean | undefined
  /** What a rebuild of the registry reads of the agent (`agent/Manifest`). */
  readonly manifest: string
}

/** The agent's directory, or a file in it, could not be made. */
export class AgentDirectoryFailed extends Schema.TaggedError<AgentDirectoryFailed>()("AgentDirectoryFailed", {
  directory: Schema.String,
  error: FileError
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the agent's files could not be made: ${this.error.message}`
  }
}

export class AgentDirectory extends Context.Service<
  AgentDirectory,
  Resource<AgentDirectoryRef, AgentFiles, void, AgentDirectoryFailed>
>()("@slipway/core/resource/AgentDirectory") {
  static readonly layer = Layer.effect(
    AgentDirectory,
    Effect.gen(function*() {
      const files = yield* Files
      const home = yield* Home
      const checked = (path: string) => checkOwned(files, home.directory, path)

      const make = Effect.fn("AgentDirectory.make")(function*(
        ref: AgentDirectoryRef,
        content: AgentFiles,
        subject: Subject
      ) {
        const path = (name: string) => Path.join(ref.directory, name)
        const create = (name: string, text: string | Uint8Array) => files.createFile(path(name), text, 0o600)
        yield* checked(ref.directory)
        yield* files.makeDirectory(ref.directory, 0o700)
        const owner = Layout.ownerFile(subject.homeId)
        yield* create(owner, content.manifest)
        // Of the state only the name carries information, and a second name costs a twentieth of a file.
        yield* files.link(path(owner), path(Layout.stateFile))
        yield* create(Layout.promptFile, content.prompt)
        // Older than the launcher: an empty one that is younger was truncated. The launcher makes the file for standard
        // error.
        yield* create(Layout.stdoutFile, "")
        // Two names of one file, to which both are appended: so it has all writes in their order, and each reader of either
        // name finds them.
        if (content.isMerged === true) yield* files.link(path(Layout.stdoutFile), path(Layout.stderrFile))
        if (content.environment !== undefined) yield* create(Layout.environmentFile, content.environment)
        yield* create(Layout.launcherFile, content.launcher)
      })

      const release = Effect.fn("AgentDirectory.release")(function*(
        ref: AgentDirectoryRef,
        { homeId }: Subject
      ): Effect.fn.Return<ReleaseOutcome, FileError> {
        yield* checked(ref.directory)
        const info = yield* files.inspect(ref.directory)
        if (info === undefined) return AlreadyGone
        if (info.kind !== "directory") return kept("what stands there is not a directory")
        const names = yield* files.list(ref.directory)
        if (names.length === 0) return (yield* files.removeDirectory(ref.directory)) ? Released : AlreadyGone
        if (!names.includes(Layout.ownerFile(homeId))) return kept("it does not bear this home's id")
        // The launcher first, so that nothing can run any more; the mark last, so that an interrupted removal can
        // continue.
        const rest = names.filter((name) => name !== Layout.launcherFile && name !== Layout.ownerFile(homeId))
        yield* files.removeFile(Path.join(ref.directory, Layout.launcherFile))
        for (const name of rest) yield* files.removeTree(Path.join(ref.directory, name))
        yield* files.removeFile(Path.join(ref.directory, Layout.ownerFile(homeId)))
        return (yield* files.removeDirectory(ref.directory)) ? Released : AlreadyGone
      })

      const probe = (ref: AgentDirectoryRef): Effect.Effect<Presence> =>
        files.inspect(ref.directory).pipe(
          Effect.map((info): Presence => ({ _tag: info === undefined ? "Absent" : "Present" })),
          Effect.catch((error) => Effect.succeed<Presence>({ _tag: "Unknown", reason: error.message }))
        )

      return AgentDirectory.of({
        kind: houseKinds.directory,
        Reference: AgentDirectoryRef,
        // While a process of the agent may live, its directory says what it is.
        after: [houseKinds.session, houseKinds.entry],
        // A tree that can't go yet keeps them too: with its agent forgotten in part, nobody would know whose it is.
        keptBy: [houseKinds.session, worktreeKind],
        until: "prune",
        limit: () => Duration.seconds(10),
        describe: (ref) => Path.join(ref.directory, Layout.promptFile),
        make: (ref, content, subject) =>
          Effect.mapError(
            make(ref, content, subject),
            (error) => new AgentDirectoryFailed({ directory: ref.directory, error })
          ),
        release: (ref, subject) =>
          Effect.catch(release(ref, subject), (error) => Effect.succeed(failed(error.message))),
        probe
      })
    })
  )
}
