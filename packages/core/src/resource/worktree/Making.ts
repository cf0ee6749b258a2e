/**
 * Makes a tree: its directory in the home, its branch, git's entry for it, its files.
 *
 * Each step can be told from outside after a kill, and undone. The branch is made first and alone, in one atomic step of
 * git that fails where there is one. So a make that is killed in `git worktree add` leaves nothing that the next one
 * stumbles over, and two never share a branch. The tree is locked in git as long as it lives: that marks it as Slipway's,
 * and keeps git's own tidying (`worktree prune`, `gc`, `worktree remove`) away from it.
 */
import { Sentence } from "@slipway/tmux"
import { Duration, Effect, Schema } from "effect"
import * as Path from "node:path"
import type { Subject } from "../../agent/Agent.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { FileError, Files } from "../../machine/Files.ts"
import { ownerFile } from "../../machine/Layout.ts"
import { Git, GitFailed, lastLines, type RunOptions } from "./Git.ts"
import { entryOf, madeMark, marksOf, reasonOf, shortOf } from "./Places.ts"

/** The tree, its branch or its files could not be made. */
export class WorktreeFailed extends Schema.TaggedError<WorktreeFailed>()("WorktreeFailed", {
  tree: Schema.String,
  error: Schema.Union([FileError, GitFailed])
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the agent's working tree could not be made: ${this.error.message}`
  }
}

/** How long a make may take: a checkout of a large repository is no step of seconds. */
export const makeLimit = Duration.minutes(5)

const zero = (oid: string): string => "0".repeat(oid.length)

// Git reads the entries of all trees while it adds one, and gives up on one that another git is just making or removing.
const passing = /commondir|could not (create|open)|unable to read gitdir/i
const tries = 6

/**
 * A killed add may leave its entry with an empty `commondir`, on which every other add then fails until that entry is
 * released. All entries have the same there, so to write it does no harm, also where that git is still at work.
 */
const mend = Effect.fnUntraced(function*(ref: WorktreeRef, complaint: string) {
  const files = yield* Files
  const name = /worktrees\/([^/\n]+)\/commondir/.exec(complaint)?.[1]
  if (name === undefined) return
  const entry = Path.join(ref.common, "worktrees", name)
  const lock = yield* files.readText(Path.join(entry, "locked"))
  const link = Path.join(entry, "commondir")
  const isEmpty = (yield* files.inspect(link))?.size === 0
  if (isEmpty && lock.startsWith("slipway ")) yield* files.replaceFile(link, "../..\n", 0o644)
})

export const make = Effect.fn("Worktree.make")(function*(
  ref: WorktreeRef,
  subject: Subject
): Effect.fn.Return<void, FileError | GitFailed, Files | Git> {
  const files = yield* Files
  const git = yield* Git
  const marks = marksOf(subject)
  const inCommon: RunOptions = { cwd: ref.common, marks }

  yield* files.ensureDirectory(Path.dirname(ref.directory), 0o700)
  yield* files.makeDirectory(ref.directory, 0o700)
  yield* files.createFile(Path.join(ref.directory, ownerFile(subject.homeId)), "", 0o600)
  yield* git.read([
    `--git-dir=${ref.common}`,
    "update-ref",
    "--create-reflog",
    "-m",
    reasonOf(subject),
    ref.branch,
    ref.base,
    zero(ref.base)
  ], inCommon)

  const add = git.ask([
    `--git-dir=${ref.common}`,
    "worktree",
    "add",
    "--no-checkout",
    "--lock",
    "--reason",
    reasonOf(subject),
    ref.tree,
    shortOf(ref.branch)
  ], { ...inCommon, lock: ref.common })
  for (let attempt = 1;; attempt++) {
    const { exitCode, stderr } = yield* add
    if (exitCode === 0) break
    if (attempt === tries || !passing.test(stderr)) {
      return yield* new GitFailed({ command: "git worktree add", exitCode, problem: lastLines(stderr) })
    }
    yield* Effect.ignore(mend(ref, stderr))
    yield* Effect.sleep(Duration.millis(20 * attempt))
  }
  const link = yield* Effect.orElseSucceed(files.readText(Path.join(entryOf(ref), "gitdir")), () => "")
  if (link.trim() !== Path.join(ref.tree, ".git")) {
    return yield* new GitFailed({
      command: "git worktree add",
      exitCode: 0,
      problem: `its entry is not ${entryOf(ref)}; another tree has that name`
    })
  }
  yield* git.read(["reset", "--quiet", "--hard", "--no-recurse-submodules"], { cwd: ref.tree, marks, limit: makeLimit })
  yield* files.createFile(madeMark(ref), "", 0o600)
})
