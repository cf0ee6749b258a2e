/**
 * What an agent changed in its tree, as a patch: everything since the commit that its branch began at, with what is not
 * committed and what is untracked. It changes nothing: the tree's own index is read and never written.
 *
 * Of a tree that is gone it is what was saved of it, else what is on its branch.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import type { AgentId } from "../../agent/AgentId.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { FileError, Files } from "../../machine/Files.ts"
import { Git, GitFailed } from "./Git.ts"
import { workOf } from "./Places.ts"
import { copyIndex, treeArgs } from "./Saving.ts"

export interface DiffOptions {
  /** Only which files changed, and by how much. */
  readonly stat?: boolean | undefined
}

export interface Diff {
  readonly base: string
  /** Where the changes are: the tree, or the reference that has them. */
  readonly from: string
  readonly patch: string
}

/** The agent has no tree of its own, or nothing of it is left. */
export class NoWorktree extends Schema.TaggedError<NoWorktree>()("NoWorktree", {
  agentId: Schema.String,
  wasThere: Schema.Boolean
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return this.wasThere
      ? `the tree of ${this.agentId} is gone, and so is its branch`
      : `${this.agentId} was deployed without a tree of its own (--worktree)`
  }
}

export const DiffError = Schema.Union([FileError, GitFailed, NoWorktree])
export type DiffError = typeof DiffError.Type

export const diff = Effect.fn("Worktree.diff")(function*(
  ref: WorktreeRef,
  agentId: AgentId,
  options: DiffOptions
): Effect.fn.Return<Diff, DiffError, Files | Git> {
  const git = yield* Git
  const files = yield* Files
  const words = ["diff", "--no-ext-diff", "--no-color", ...(options.stat === true ? ["--stat=100"] : []), ref.base]
  if ((yield* files.inspect(ref.tree)) !== undefined) {
    const index = yield* copyIndex(ref)
    const within = { cwd: ref.tree, index }
    return yield* Effect.gen(function*() {
      // Untracked files stand in the copied index by name alone, so that they are in the patch.
      yield* git.read([...treeArgs(ref, ref.tree), "add", "--intent-to-add", "--sparse", "--", "."], within)
      const { stdout } = yield* checked(git.ask([...treeArgs(ref, ref.tree), ...words], within))
      return { base: ref.base, from: ref.tree, patch: stdout }
    }).pipe(Effect.ensuring(Effect.ignore(files.removeFile(index))))
  }
  for (const name of [workOf(agentId), ref.branch]) {
    const repository = [`--git-dir=${ref.common}`]
    const here = { cwd: ref.common }
    if ((yield* git.ask([...repository, "rev-parse", "--verify", "--quiet", name], here)).exitCode !== 0) continue
    const { stdout } = yield* checked(git.ask([...repository, ...words, name], here))
    return { base: ref.base, from: name, patch: stdout }
  }
  return yield* new NoWorktree({ agentId, wasThere: true })
})

/** Byte for byte: a patch ends with a newline. */
const checked = <R>(ask: Effect.Effect<{ exitCode: number; stdout: string; stderr: string }, GitFailed, R>) =>
  Effect.flatMap(ask, (answer) =>
    answer.exitCode === 0
      ? Effect.succeed(answer)
      : Effect.fail(
        new GitFailed({ command: "git diff", exitCode: answer.exitCode, problem: answer.stderr.trim() })
      ))
