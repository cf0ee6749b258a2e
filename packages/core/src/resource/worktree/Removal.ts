/**
 * Removes a tree: the one function for a rollback, for what a killed deployer left, and for a prune.
 *
 * Nothing is lost. What no branch, tag or remote holds is saved first (`Saving`); files that git ignores can't be saved so,
 * and make the whole tree wait in the home's trash; and whatever speaks against a removal (`Safety`) leaves the tree where
 * it was. A tree in which no agent has been, since its making was cut off, has nothing to save.
 *
 * It can be killed at any moment and called again. The tree goes by renames: `aside`, where it is examined a last time
 * and nobody comes in by its path; then `gone`, which is the decision, and is never looked into again. Git's entry goes
 * by one rename too, so no other git ever meets half of it. The directory with our mark is the last to go.
 */
import { Context, Effect } from "effect"
import * as Path from "node:path"
import type { Subject } from "../../agent/Agent.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { AlreadyGone, failed, kept, type ReleaseOutcome } from "../../agent/Release.ts"
import { type FileError, Files } from "../../machine/Files.ts"
import { ownerFile } from "../../machine/Layout.ts"
import type { Ledger } from "../../registry/Ledger.ts"
import type { RegistryError } from "../../registry/RegistryError.ts"
import * as Branch from "./Branch.ts"
import { Git, GitFailed } from "./Git.ts"
import {
  asideOf,
  checkPrefix,
  entryGoneOf,
  entryOf,
  goneOf,
  landingOf,
  madeMark,
  savedMark,
  trashOfTree,
  workOf
} from "./Places.ts"
import * as Safety from "./Safety.ts"
import * as Saving from "./Saving.ts"

/** Whether files that git ignores go at once, in place of waiting in the trash. */
export const DiscardIgnored = Context.Reference<boolean>("@slipway/core/resource/worktree/DiscardIgnored", {
  defaultValue: () => false
})

/** How long a tree waits in the trash. */
export const trashDays = 7

type Failed = FileError | GitFailed | RegistryError
type Needs = Files | Git | Ledger

const isThere = (path: string): Effect.Effect<boolean, FileError, Files> =>
  Effect.flatMap(Files, (files) => Effect.map(files.inspect(path), (info) => info !== undefined))

/** What speaks against a removal, without a look at what git makes of the files. */
const objections = Effect.fnUntraced(function*(
  ref: WorktreeRef,
  subject: Subject,
  at: string
): Effect.fn.Return<Safety.Objection, Failed, Needs> {
  return (yield* Safety.shared(ref, subject)) ?? (yield* Safety.inUse([ref.tree, asideOf(ref)])) ??
    (yield* Safety.mounted([ref.directory])) ?? (yield* Safety.contents(ref, at))
})

const unmergedText = "files in it are unmerged; resolve them, or 'git reset' them"

/** What a removal would find and do, without any change: why it is safe, or what speaks against it. */
export const assess = Effect.fn("Worktree.assess")(function*(
  ref: WorktreeRef,
  subject: Subject
): Effect.fn.Return<{ readonly safe: boolean; readonly why: string }, Failed, Needs> {
  const at = ref.tree
  const entry = yield* Safety.entry(ref, subject)
  const isMade = yield* isThere(madeMark(ref))
  if (!(yield* isThere(at)) || !isMade) {
    return isMade && entry !== "absent" && !(yield* isThere(savedMark(ref))) && !(yield* isThere(asideOf(ref)))
      ? { safe: false, why: entry === "ours" ? missing(ref) : entry.foreign }
      : { safe: true, why: "nothing of it is left" }
  }
  if (entry === "absent") return { safe: false, why: noEntry(ref) }
  if (entry !== "ours") return { safe: false, why: entry.foreign }
  const objection = yield* objections(ref, subject, at)
  if (objection !== undefined) return { safe: false, why: objection }
  const { changed, ignored, unmerged, untracked } = yield* Saving.inventory(ref, at)
  if (unmerged > 0) return { safe: false, why: unmergedText }
  const commits = yield* Branch.commitsOn(ref)
  const why = [
    changed + untracked === 0
      ? "nothing in it is changed"
      : `${changed} changed and ${untracked} untracked files would be saved as ${workOf(subject.agentId)}`,
    ...(commits === undefined || commits === 0 ? [] : [`its branch stays with ${commits} commits`]),
    ...(ignored === 0 || (yield* DiscardIgnored) ? [] : [`it would wait in the trash, with ${ignored} ignored files`])
  ]
  return { safe: true, why: why.join("; ") }
})

const missing = (ref: WorktreeRef): string =>
  `${ref.tree} is missing, and what was staged or committed there is not saved; put it back, or make an empty directory there`

const noEntry = (ref: WorktreeRef): string =>
  `git does not know it any more (${
    entryOf(ref)
  } is missing), so that nothing in it can be saved; take what you need and remove ${ref.directory}`

/** Examines the tree at one of its names, saves what has to be, and decides; answers with what was done or is in the way. */
const decide = Effect.fnUntraced(function*(
  ref: WorktreeRef,
  subject: Subject
): Effect.fn.Return<
  { readonly objection: string } | { readonly objection: undefined; readonly notes: ReadonlyArray<string> },
  Failed,
  Needs
> {
  const files = yield* Files
  const aside = asideOf(ref)
  const isAside = !(yield* isThere(ref.tree))
  // Of an earlier try, after which the tree was put back.
  yield* files.removeFile(savedMark(ref))
  const before = yield* objections(ref, subject, isAside ? aside : ref.tree)
  if (before !== undefined) return { objection: before }
  yield* files.rename(ref.tree, aside)
  // Who came in meanwhile by the path is still in it, and seen now.
  const after = yield* Safety.inUse([ref.tree, aside])
  if (after !== undefined) return { objection: after }
  const counts = yield* Saving.inventory(ref, aside)
  if (counts.unmerged > 0) return { objection: unmergedText }
  const saved = yield* Saving.save(ref, aside, subject)
  const waits = counts.ignored > 0 && !(yield* DiscardIgnored)
  yield* files.replaceFile(savedMark(ref), waits ? "trash" : "gone", 0o600)
  yield* files.rename(aside, goneOf(ref))
  return {
    objection: undefined,
    notes: [
      saved ?? "nothing in it that no branch has",
      ...(waits
        ? [`its files, ${counts.ignored} of them ignored by git, wait ${trashDays} days in ${trashOfTree(ref)}`]
        : [])
    ]
  }
})

/** Takes away what is decided to go. */
const remove = Effect.fnUntraced(
  function*(ref: WorktreeRef): Effect.fn.Return<void, FileError | GitFailed, Files | Git> {
    const files = yield* Files
    const git = yield* Git
    const gone = goneOf(ref)
    if (yield* isThere(gone)) {
      const saved = yield* Effect.orElseSucceed(files.readText(savedMark(ref)), () => "gone")
      if (saved === "trash") {
        const trash = trashOfTree(ref)
        yield* files.ensureDirectory(Path.dirname(trash), 0o700)
        yield* files.rename(gone, trash)
      } else {
        const { exitCode, stderr } = yield* git.run("rm", ["-rf", "--one-file-system", "--", gone], { cwd: "/" })
        if (exitCode !== 0) return yield* new GitFailed({ command: "rm", exitCode, problem: stderr.trim() })
      }
    }
    const entryGone = entryGoneOf(ref)
    yield* files.rename(entryOf(ref), entryGone)
    yield* files.removeTree(entryGone)
    // Git itself has no such directory where it has no tree. Another tree in it keeps it.
    yield* Effect.ignore(files.removeDirectory(Path.dirname(entryOf(ref))))
  }
)

/** Removes the tree, its branch if nothing is on it, and its directory, or says what speaks against it. */
export const release = Effect.fn("Worktree.release")(function*(
  ref: WorktreeRef,
  subject: Subject
): Effect.fn.Return<ReleaseOutcome, Failed, Needs> {
  const files = yield* Files
  if (!(yield* isThere(ref.directory))) {
    const entry = (yield* isThere(ref.common)) ? yield* Safety.entry(ref, subject) : "absent"
    return entry === "ours"
      ? failed(`${ref.directory} is missing, and git still has its entry; put it back, or 'git worktree repair' it`)
      : AlreadyGone
  }
  const names = yield* files.list(ref.directory)
  const owner = ownerFile(subject.homeId)
  if (names.length > 0 && !names.includes(owner)) return kept("what stands there does not bear this home's id")
  if (!(yield* isThere(ref.common))) {
    return failed(
      `its repository ${ref.common} is missing; if it is lost, take what you need and remove ${ref.directory}`
    )
  }
  // Ours alone: what a killed release left in the middle.
  yield* files.removeTree(entryGoneOf(ref))
  for (const name of [workOf(subject.agentId), landingOf(subject.agentId)]) {
    yield* Effect.ignore(files.removeFile(Path.join(ref.common, `${name}.lock`)))
  }

  const entry = yield* Safety.entry(ref, subject)
  if (entry !== "ours" && entry !== "absent") return failed(entry.foreign)
  const isMade = names.includes(Path.basename(madeMark(ref)))
  const stands = (yield* isThere(ref.tree)) || (yield* isThere(asideOf(ref)))
  const notes: Array<string> = []
  if (isMade && stands) {
    if (entry === "absent") return failed(noEntry(ref))
    const decided = yield* decide(ref, subject).pipe(
      Effect.onExit((exit) =>
        exit._tag === "Success" && exit.value.objection === undefined
          ? Effect.void
          : Effect.ignore(files.rename(asideOf(ref), ref.tree))
      )
    )
    if (decided.objection !== undefined) return failed(decided.objection)
    notes.push(...decided.notes)
  } else if (stands) {
    const objection = (yield* Safety.inUse([ref.directory])) ?? (yield* Safety.mounted([ref.directory]))
    if (objection !== undefined) return failed(objection)
    yield* files.rename(ref.tree, goneOf(ref))
  } else if (isMade && entry === "ours" && !(yield* isThere(savedMark(ref)))) {
    return failed(missing(ref))
  }
  yield* remove(ref)
  const branch = yield* Branch.release(ref, subject)
  if (branch !== undefined) notes.push(branch)

  const rest = (yield* files.list(ref.directory)).filter((name) => name !== owner)
  const known = (name: string) =>
    name === "made" || name === "saved" || name.startsWith("saved.") || name.startsWith("index-") ||
    name.startsWith(checkPrefix)
  const strange = rest.filter((name) => !known(name))
  if (strange.length > 0) return failed(`${ref.directory} holds what is not Slipway's: ${strange.join(", ")}`)
  for (const name of rest) yield* files.removeTree(Path.join(ref.directory, name))
  yield* files.removeFile(Path.join(ref.directory, owner))
  yield* files.removeDirectory(ref.directory)
  return { _tag: "Released", ...(notes.length === 0 ? {} : { note: notes.join("; ") }) }
})
