/**
 * Decides the reference of a tree before anything is made: the repository, the commit, the branch. It only reads.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import * as Path from "node:path"
import type { AgentId } from "../../agent/AgentId.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { treeDirectoryOf } from "../../machine/Layout.ts"
import { Git, type GitFailed, lastLines } from "./Git.ts"
import { treeName } from "./Places.ts"

/** What a request may say of the tree. */
export const WorktreeRequest = Schema.Struct({
  /** Where the branch begins: any name of a commit; by default the HEAD of the directory that the agent would work in. */
  base: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^[^-\s][^\s]*$/))),
  /** The name of the branch, which must not exist; by default `slipway/` and the agent's id. */
  branch: Schema.optionalKey(Schema.String.check(Schema.isPattern(/^[^-\s][^\s]*$/)))
})
export type WorktreeRequest = typeof WorktreeRequest.Type

/** The request can't have a tree as it asks for; nothing was made. */
export class WorktreeRefused extends Schema.TaggedError<WorktreeRefused>()("WorktreeRefused", {
  problem: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the agent can't have a working tree of its own: ${this.problem}`
  }
}

/** The branch exists already, or another one is in the way of its name; nothing was made. */
export class BranchTaken extends Schema.TaggedError<BranchTaken>()("BranchTaken", {
  branch: Schema.String,
  by: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return this.branch === this.by
      ? `there is a branch ${this.branch} already; name another one with --branch, or remove it with 'git branch -d ${this.branch}'`
      : `the branch ${this.by} is in the way of a branch ${this.branch}; name another one with --branch`
  }
}

/** `worktree list -z` and paths without links. */
const required: readonly [major: number, minor: number] = [2, 36]

export const isAtLeast = (version: string, [major, minor]: readonly [number, number]): boolean => {
  const [, a = "0", b = "0"] = /(\d+)\.(\d+)/.exec(version) ?? []
  return Number(a) > major || (Number(a) === major && Number(b) >= minor)
}

export interface PlannedTree {
  readonly ref: WorktreeRef
  /** Where the agent works: in the tree, as deep as the directory that it was meant for is in its own tree. */
  readonly cwd: string
}

/** Decides everything; fails where the tree could not be made as it is asked for. */
export const plan = Effect.fn("Worktree.plan")(function*(
  request: WorktreeRequest,
  draft: { readonly home: string; readonly agentId: AgentId; readonly cwd: string }
): Effect.fn.Return<PlannedTree, BranchTaken | GitFailed | WorktreeRefused, Git> {
  const git = yield* Git
  const here = { cwd: draft.cwd }
  const refuse = (problem: string) => Effect.fail(new WorktreeRefused({ problem }))

  const version = yield* git.read(["version"], here)
  if (!isAtLeast(version, required)) {
    return yield* refuse(`it needs git ${required.join(".")} or newer, and this is ${version}`)
  }
  const places = yield* git.ask(["rev-parse", "--path-format=absolute", "--git-common-dir"], here)
  if (places.exitCode !== 0) {
    return yield* refuse(`${draft.cwd} is in no repository that git can use: ${lastLines(places.stderr)}`)
  }
  const common = places.stdout.replace(/\n$/, "")
  const prefix = (yield* git.read(["rev-parse", "--show-prefix"], here)).replace(/\/$/, "")

  const base = request.base ?? "HEAD"
  const commit = yield* git.ask(["rev-parse", "--verify", "--quiet", `${base}^{commit}`], here)
  if (commit.exitCode !== 0) {
    return yield* refuse(`${base} is no commit in ${common}; name one with --base, or make a first commit`)
  }
  const oid = commit.stdout.trim()
  if (prefix !== "") {
    const kind = yield* git.ask(["cat-file", "-t", `${oid}:${prefix}`], here)
    if (kind.stdout.trim() !== "tree") {
      return yield* refuse(
        `${base} has no directory ${prefix}, in which the agent would work; name one that it has with --cwd`
      )
    }
  }

  const name = request.branch ?? `slipway/${draft.agentId}`
  const branch = `refs/heads/${name}`
  if ((yield* git.ask(["check-ref-format", branch], here)).exitCode !== 0 || name === "HEAD") {
    return yield* refuse(`${JSON.stringify(name)} is no name that a branch may have`)
  }
  const parts = name.split("/")
  const above = parts.slice(1).map((_, depth) => `refs/heads/${parts.slice(0, depth + 1).join("/")}`)
  const found = yield* git.read(["for-each-ref", "--format=%(refname)", branch, ...above], here)
  const taken = found.split("\n").find((ref) => ref === branch || ref.startsWith(`${branch}/`) || above.includes(ref))
  if (taken !== undefined) return yield* new BranchTaken({ branch: name, by: taken.replace(/^refs\/heads\//, "") })

  // A home names itself without links, as git and /proc name every place.
  const directory = treeDirectoryOf(draft.home, draft.agentId)
  const tree = Path.join(directory, treeName(draft.agentId))
  return { ref: { common, directory, tree, branch, base: oid }, cwd: Path.join(tree, prefix) }
})
