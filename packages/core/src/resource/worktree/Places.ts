/**
 * Every name that belongs to an agent's own tree: in the home, and in the repository. All follow from the reference, so a
 * release in any process finds them.
 */
import * as Path from "node:path"
import type { Subject } from "../../agent/Agent.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { agentMarker, homeMarker, trashOf } from "../../machine/Layout.ts"

/** The name of the directory of an agent's tree. Git names its own entry after it, so it has to be like no other. */
export const treeName = (agentId: string): string => `t-${agentId}`

/** The repository that the text of a tree's `.git` file leads to, as git writes it; undefined where it says anything else. */
export const commonIn = (link: string, tree: string): string | undefined => {
  const prefix = "gitdir: "
  if (!link.startsWith(prefix)) return undefined
  const entry = Path.resolve(tree, link.slice(prefix.length).trimEnd())
  const isEntry = Path.basename(entry) === Path.basename(tree) && Path.basename(Path.dirname(entry)) === "worktrees"
  return isEntry ? Path.resolve(entry, "..", "..") : undefined
}

/** Git's own directory for the tree: its HEAD, its index, its log. */
export const entryOf = (ref: WorktreeRef): string => Path.join(ref.common, "worktrees", Path.basename(ref.tree))

/** The tree while it is examined for its removal: nobody comes in by its path any more. */
export const asideOf = (ref: WorktreeRef): string => Path.join(ref.directory, "aside")

/** A tree of which it is decided that it goes; nobody looks into it again. */
export const goneOf = (ref: WorktreeRef): string => Path.join(ref.directory, "gone")

/** Git's directory for the tree once it is decided that it goes: no git takes it for one any more. */
export const entryGoneOf = (ref: WorktreeRef): string =>
  Path.join(ref.common, `slipway-gone-${Path.basename(ref.directory)}`)

/** Written when the tree is whole. Where it is missing, no agent has been in the tree. */
export const madeMark = (ref: WorktreeRef): string => Path.join(ref.directory, "made")

/** Written when all that was in the tree is saved; it says what becomes of the files. */
export const savedMark = (ref: WorktreeRef): string => Path.join(ref.directory, "saved")

/** Where the tree waits, if it had files that git ignores. */
export const trashOfTree = (ref: WorktreeRef): string =>
  Path.join(trashOf(Path.resolve(ref.directory, "..", "..")), Path.basename(ref.directory))

/** Begins the names of what a landing checks in. */
export const checkPrefix = "check-"

/** By this git knows who made the tree and the branch: it stands in the lock of one, and in the log of the other. */
export const reasonOf = ({ agentId, homeId }: Pick<Subject, "agentId" | "homeId">): string =>
  `slipway ${homeId} ${agentId}`

/** What was in the tree and on no branch. */
export const workOf = (agentId: string): string => `refs/slipway/${agentId}/work`

/** What a landing is about to put on a branch. */
export const landingOf = (agentId: string): string => `refs/slipway/${agentId}/landing`

/** The name that people use for a branch. */
export const shortOf = (branch: string): string => branch.replace(/^refs\/heads\//, "")

/** By these a process that was started for the agent is ended with it, and before anything of it is released. */
export const marksOf = ({ agentId, homeId }: Pick<Subject, "agentId" | "homeId">) => ({
  [agentMarker]: agentId,
  [homeMarker]: homeId
})

/** Whether a path is another, or below it. */
export const isWithin = (path: string, root: string): boolean => path === root || path.startsWith(`${root}/`)
