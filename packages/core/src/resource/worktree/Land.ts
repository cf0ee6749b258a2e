/**
 * Puts an agent's work on a branch: what is committed in its tree, as a fast-forward or a merge.
 *
 * All is decided beside the trees: the merge is made in the repository alone, checked, and anchored at
 * `refs/slipway/<agent>/landing`. Only then does the branch move, from the very commit that was merged with, or not at all. A
 * conflict, a check that fails and a branch that moved are refusals: nothing is changed, and the agent's tree stays as it is.
 *
 * Where the branch is checked out in a tree without changes, git's own fast-forward moves branch and files together. It is
 * not interruptible, and goes on when this process is killed. What is not promised: that nothing of git's is left in that tree
 * when the machine stops in its middle; git itself then says what to remove, and no commit is lost.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import * as Path from "node:path"
import type { AgentId } from "../../agent/AgentId.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { FileError, Files } from "../../machine/Files.ts"
import { randomHex } from "../../machine/Random.ts"
import { type Answer, Git, GitFailed, lastLines } from "./Git.ts"
import { checkPrefix, landingOf, shortOf } from "./Places.ts"
import { isAtLeast } from "./Planning.ts"
import { inventory, treeArgs } from "./Saving.ts"

export interface LandRequest {
  /** The branch that gets the work. */
  readonly onto: string
  /** A shell command that has to succeed on the result, in a checkout of its own, before the branch moves. */
  readonly check?: string | undefined
}

export interface Landed {
  readonly onto: string
  /** What the branch is at. */
  readonly commit: string
  readonly how: "already" | "fast-forward" | "merge"
  /** The tree whose files moved along; null where the branch is checked out nowhere. */
  readonly tree: string | null
}

const whys = {
  conflict: "the two change the same lines; merge the branch into the agent's, in its tree, and land again",
  "check-failed": "the check failed on the result",
  dirty: "its tree has changes that are in no commit; commit them there, or take them back",
  "head-elsewhere": "its tree is not on its branch; check the branch out there, with what is to land",
  "no-branch": "its branch is gone",
  "no-target": "there is no such branch",
  "own-branch": "that is the agent's own branch",
  "target-moved": "the branch moved meanwhile; land again",
  "target-tree":
    "the branch is checked out in a tree where it can't be moved; commit or take back what is changed there"
} as const

/** The work was not landed; the branch, the trees and their files are as they were. */
export class LandRefused extends Schema.TaggedError<LandRefused>()("LandRefused", {
  agentId: Schema.String,
  onto: Schema.String,
  why: Schema.Literals([
    "conflict",
    "check-failed",
    "dirty",
    "head-elsewhere",
    "no-branch",
    "no-target",
    "own-branch",
    "target-moved",
    "target-tree"
  ]),
  /** Files of a conflict, the end of what a check wrote, where a branch is checked out. */
  detail: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const about = this.detail === "" ? "" : ` (${this.detail})`
    return `the work of ${this.agentId} was not landed on ${this.onto}: ${whys[this.why]}${about}`
  }
}

export const LandError = Schema.Union([FileError, GitFailed, LandRefused])
export type LandError = typeof LandError.Type

/** `merge-tree --write-tree`. */
const required: readonly [number, number] = [2, 38]

export const land = Effect.fn("Worktree.land")(function*(
  ref: WorktreeRef,
  agentId: AgentId,
  request: LandRequest
): Effect.fn.Return<Landed, LandError, Files | Git> {
  const git = yield* Git
  const files = yield* Files
  const repository = [`--git-dir=${ref.common}`]
  const here = { cwd: ref.common }
  const onto = shortOf(request.onto)
  const target = `refs/heads/${onto}`
  const refuse = (why: keyof typeof whys, detail = "") => Effect.fail(new LandRefused({ agentId, onto, why, detail }))
  const commitOf = (name: string) =>
    Effect.map(
      git.ask([...repository, "rev-parse", "--verify", "--quiet", "--end-of-options", `${name}^{commit}`], here),
      ({ stdout }) => stdout.trim().split("\n").at(-1) ?? ""
    )
  const isAncestor = (a: string, b: string) =>
    Effect.map(git.ask([...repository, "merge-base", "--is-ancestor", a, b], here), ({ exitCode }) => exitCode === 0)

  const version = yield* git.read(["version"], here)
  if (!isAtLeast(version, required)) {
    const problem = `landing needs git ${required.join(".")} or newer, and this is ${version}`
    return yield* new GitFailed({ command: "git merge-tree", exitCode: null, problem })
  }
  if (target === ref.branch) return yield* refuse("own-branch")
  const tip = yield* commitOf(ref.branch)
  if (tip === "") return yield* refuse("no-branch", shortOf(ref.branch))
  const old = yield* commitOf(target)
  if (old === "") return yield* refuse("no-target")
  if ((yield* files.inspect(ref.tree)) !== undefined) {
    const { changed, unmerged, untracked } = yield* inventory(ref, ref.tree)
    const dirty = changed + unmerged + untracked
    if (dirty > 0) return yield* refuse("dirty", `${dirty} files in ${ref.tree}`)
    const head = yield* git.read([...treeArgs(ref, ref.tree), "rev-parse", "HEAD"], { cwd: ref.tree })
    if (head !== tip) return yield* refuse("head-elsewhere", ref.tree)
  }
  if (yield* isAncestor(tip, old)) return { onto, commit: old, how: "already", tree: null }

  const how = (yield* isAncestor(old, tip)) ? "fast-forward" : "merge"
  const result = how === "fast-forward" ? tip : yield* merged(ref, agentId, { onto, old, tip })

  const anchor = landingOf(agentId)
  const drop = Effect.ignore(git.ask([...repository, "update-ref", "-d", anchor], here))
  yield* git.read([...repository, "update-ref", anchor, result], here)
  return yield* Effect.gen(function*() {
    if (request.check !== undefined) {
      const answer = yield* check(ref, anchor, request.check)
      if (answer.exitCode !== 0) {
        const said = lastLines(answer.stderr.trim() === "" ? answer.stdout : answer.stderr)
        return yield* refuse("check-failed", `exit code ${answer.exitCode}${said === "" ? "" : `: ${said}`}`)
      }
    }
    const tree = yield* treeWith(ref, target)
    yield* move({ agentId, onto, old, ref, result, target, tree })
    return { onto, commit: result, how, tree } as const
  }).pipe(Effect.ensuring(drop))
})

/** The merge of both, in no tree: a commit by the person who lands. */
const merged = Effect.fnUntraced(function*(
  ref: WorktreeRef,
  agentId: AgentId,
  { old, onto, tip }: { readonly old: string; readonly onto: string; readonly tip: string }
): Effect.fn.Return<string, GitFailed | LandRefused, Git> {
  const git = yield* Git
  const repository = [`--git-dir=${ref.common}`]
  const here = { cwd: ref.common }
  const words = ["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", old, tip]
  const { exitCode, stderr, stdout } = yield* git.ask([...repository, ...words], here)
  const [tree = "", ...names] = stdout.split("\0").filter((part) => part !== "")
  if (exitCode === 1) {
    return yield* new LandRefused({ agentId, onto, why: "conflict", detail: [...new Set(names)].join(", ") })
  }
  if (exitCode !== 0) return yield* new GitFailed({ command: "git merge-tree", exitCode, problem: lastLines(stderr) })
  const message = `Merge branch '${shortOf(ref.branch)}' into ${onto}`
  const commit = [...repository, "commit-tree", tree, "-p", old, "-p", tip, "-m", message]
  const answer = yield* git.ask(commit, { ...here, author: "person" })
  // A person without a name in git's configuration can land all the same.
  return answer.exitCode === 0 ? answer.stdout.trim() : yield* git.read(commit, here)
})

/**
 * Runs the command on the result in a clone that shares the repository's objects and leaves no trace there. One that is
 * left by a kill goes with the tree.
 */
const check = Effect.fnUntraced(function*(
  ref: WorktreeRef,
  anchor: string,
  command: string
): Effect.fn.Return<Answer, FileError | GitFailed, Files | Git> {
  const git = yield* Git
  const files = yield* Files
  yield* files.ensureDirectory(ref.directory, 0o700)
  const directory = Path.join(ref.directory, `${checkPrefix}${yield* randomHex(6)}`)
  return yield* Effect.gen(function*() {
    const clone = ["clone", "--quiet", "--shared", "--no-checkout", "--template=", ref.common, directory]
    yield* git.read(clone, { cwd: ref.directory })
    const commit = yield* git.read([`--git-dir=${ref.common}`, "rev-parse", anchor], { cwd: ref.common })
    yield* git.read(["checkout", "--quiet", "--detach", commit], { cwd: directory })
    return yield* git.run("sh", ["-c", command], { cwd: directory, author: "person", limit: null })
  }).pipe(Effect.ensuring(Effect.ignore(files.removeTree(directory))))
})

/** The tree that has the branch checked out. */
const treeWith = Effect.fnUntraced(function*(ref: WorktreeRef, target: string) {
  const git = yield* Git
  const words = [`--git-dir=${ref.common}`, "worktree", "list", "--porcelain", "-z"]
  const list = yield* git.read(words, { cwd: ref.common })
  const found = list.split("\0\0").find((tree) => tree.split("\0").includes(`branch ${target}`))
  return found?.split("\0").find((line) => line.startsWith("worktree "))?.slice("worktree ".length) ?? null
})

/** Moves the branch from the commit that was merged with, and the files of the tree that has it. */
const move = Effect.fnUntraced(function*(given: {
  readonly agentId: AgentId
  readonly onto: string
  readonly old: string
  readonly ref: WorktreeRef
  readonly result: string
  readonly target: string
  readonly tree: string | null
}): Effect.fn.Return<void, FileError | GitFailed | LandRefused, Files | Git> {
  const { agentId, old, onto, ref, result, target, tree } = given
  const git = yield* Git
  const files = yield* Files
  const refuse = (why: keyof typeof whys, detail: string) =>
    Effect.fail(new LandRefused({ agentId, onto, why, detail }))
  if (tree === null) {
    const words = [`--git-dir=${ref.common}`, "update-ref", "-m", `slipway: land ${agentId}`, target, result, old]
    const { exitCode, stderr } = yield* git.ask(words, { cwd: ref.common, author: "person" })
    return exitCode === 0 ? undefined : yield* refuse("target-moved", lastLines(stderr))
  }
  if ((yield* files.inspect(tree)) === undefined) return yield* refuse("target-tree", `${tree} is missing`)
  const status = yield* git.read(["status", "--porcelain", "--untracked-files=no"], { cwd: tree })
  if (status !== "") return yield* refuse("target-tree", tree)
  const head = yield* git.read(["rev-parse", target], { cwd: tree })
  if (head !== old) return yield* refuse("target-moved", "")
  const merge = git.ask(["merge", "--quiet", "--ff-only", result], { cwd: tree, author: "person" })
  const { exitCode, stderr } = yield* Effect.uninterruptible(merge)
  if (exitCode !== 0) return yield* refuse("target-tree", `${tree}: ${lastLines(stderr)}`)
})
