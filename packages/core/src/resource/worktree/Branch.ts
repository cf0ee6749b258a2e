/**
 * The branch of a tree that goes: it is removed only if this deployment made it and nothing was ever put on it. With a
 * commit on it, it is the work, and stays.
 */
import { DateTime, Duration, Effect } from "effect"
import * as Path from "node:path"
import type { Subject } from "../../agent/Agent.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { type FileError, Files } from "../../machine/Files.ts"
import { Git, GitFailed } from "./Git.ts"
import { marksOf, reasonOf, shortOf } from "./Places.ts"

/** A lock of git's is held for milliseconds; one that is older than this is a dead git's. */
const lockLife = Duration.seconds(1)
const lockTurn = Duration.millis(100)

/** How many commits are on the branch beyond its base; undefined where there is no such branch. */
export const commitsOn = Effect.fnUntraced(function*(ref: WorktreeRef): Effect.fn.Return<
  number | undefined,
  GitFailed,
  Git
> {
  const git = yield* Git
  const here = { cwd: ref.common }
  const tip = yield* tipOf(ref)
  if (tip === "") return undefined
  const count = yield* git.read([`--git-dir=${ref.common}`, "rev-list", "--count", tip, "--not", ref.base], here)
  return Number(count)
})

const tipOf = Effect.fnUntraced(function*(ref: WorktreeRef) {
  const git = yield* Git
  const words = [`--git-dir=${ref.common}`, "rev-parse", "--verify", "--quiet", ref.branch]
  return (yield* git.ask(words, { cwd: ref.common })).stdout.trim()
})

/** Whether the log of the branch says that this deployment made it: its last beginning is ours. */
const isOurs = Effect.fnUntraced(function*(ref: WorktreeRef, subject: Subject) {
  const files = yield* Files
  const log = yield* Effect.orElseSucceed(files.readText(Path.join(ref.common, "logs", ref.branch)), () => "")
  const beginning = log.split("\n").findLast((line) => /^0+ /.test(line))
  return beginning?.split("\t")[1] === reasonOf(subject)
})

/** A killed git leaves its lock; one with a beginning of our commit in it is that of our own branch being made. */
const breakLock = Effect.fnUntraced(function*(ref: WorktreeRef) {
  const files = yield* Files
  const lock = Path.join(ref.common, `${ref.branch}.lock`)
  for (;;) {
    const info = yield* files.inspect(lock)
    if (info === undefined) return
    const age = (yield* DateTime.now).epochMilliseconds - info.changedMillis
    if (age < Duration.toMillis(lockLife)) {
      yield* Effect.sleep(lockTurn)
      continue
    }
    const content = (yield* Effect.orElseSucceed(files.readText(lock), () => "")).trim()
    if (!ref.base.startsWith(content)) {
      return yield* new GitFailed({
        command: "git update-ref",
        exitCode: null,
        problem: `${lock} is another git's; remove it when no git is at work there`
      })
    }
    yield* files.removeFile(lock)
  }
})

/** Waits for the lock that removals of branches share; it may be anybody's, so that only a person removes it. */
const awaitPacked = Effect.fnUntraced(function*(ref: WorktreeRef) {
  const files = yield* Files
  const lock = Path.join(ref.common, "packed-refs.lock")
  for (let waited = 0; (yield* files.inspect(lock)) !== undefined; waited += Duration.toMillis(lockTurn)) {
    if (waited > 2 * Duration.toMillis(lockLife)) {
      return yield* new GitFailed({
        command: "git update-ref",
        exitCode: null,
        problem: `${lock} was left by a git that was killed, and keeps branches from being removed; remove it`
      })
    }
    yield* Effect.sleep(lockTurn)
  }
})

/** Removes the branch if nothing was ever put on it; answers with what became of it, for people. */
export const release = Effect.fn("Worktree.releaseBranch")(function*(
  ref: WorktreeRef,
  subject: Subject
): Effect.fn.Return<string | undefined, FileError | GitFailed, Files | Git> {
  const files = yield* Files
  const git = yield* Git
  yield* breakLock(ref)
  const tip = yield* tipOf(ref)
  const name = shortOf(ref.branch)
  if (tip === ref.base && (yield* isOurs(ref, subject))) {
    yield* awaitPacked(ref)
    yield* git.read([`--git-dir=${ref.common}`, "update-ref", "-d", ref.branch, ref.base], {
      cwd: ref.common,
      marks: marksOf(subject)
    })
  } else if (tip !== "") {
    const count = yield* commitsOn(ref)
    return `branch ${name} stays${
      count === undefined || count === 0 ? "" : ` with ${count} commit${count === 1 ? "" : "s"}`
    }`
  }
  // A git that was killed while it made the branch leaves its log, which it writes first, and the folders of its name.
  const log = Path.join(ref.common, "logs", ref.branch)
  const isEmpty = Effect.map(files.inspect(log), (info) => info?.size === 0)
  if (tip === "" && ((yield* isEmpty) || (yield* isOurs(ref, subject)))) yield* files.removeFile(log)
  for (const root of [Path.join(ref.common, "logs"), ref.common]) {
    for (let at = Path.dirname(ref.branch); at !== "refs/heads"; at = Path.dirname(at)) {
      yield* Effect.ignore(files.removeDirectory(Path.join(root, at)))
    }
  }
  return undefined
})
