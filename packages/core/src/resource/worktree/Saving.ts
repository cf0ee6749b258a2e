/**
 * Saves everything of a tree that no branch, tag or remote holds: staged, changed and untracked files, commits on no branch,
 * commits that were reset away. It all becomes one commit at `refs/slipway/<agent>/work`:
 *
 * - its files are those of the tree, without those that git ignores;
 * - its first parent is the tree's HEAD, and what was staged is a parent where it is neither;
 * - each line of commits that only the tree's log knew is a parent.
 *
 * The tree's own index is read and never written, and no hook is run. It may be done any number of times: what is saved
 * already is not saved again, and what was saved before stays reachable.
 */
import { Effect } from "effect"
import * as Path from "node:path"
import type { Subject } from "../../agent/Agent.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { type FileError, Files } from "../../machine/Files.ts"
import { randomHex } from "../../machine/Random.ts"
import { Git, GitFailed, type RunOptions } from "./Git.ts"
import { entryOf, workOf } from "./Places.ts"

/** What stands in a tree, as git sees it. */
export interface Inventory {
  readonly changed: number
  readonly untracked: number
  readonly ignored: number
  readonly unmerged: number
}

/** How git is told which tree is meant, whatever its `.git` says. */
export const treeArgs = (ref: WorktreeRef, at: string): ReadonlyArray<string> => [
  `--git-dir=${entryOf(ref)}`,
  `--work-tree=${at}`
]

export const inventory = Effect.fnUntraced(function*(
  ref: WorktreeRef,
  at: string
): Effect.fn.Return<Inventory, GitFailed, Git> {
  const git = yield* Git
  const status = yield* git.read([
    ...treeArgs(ref, at),
    "status",
    "--porcelain=v2",
    "-z",
    "--no-renames",
    "--untracked-files=all",
    "--ignored=matching",
    "--ignore-submodules=none"
  ], { cwd: at })
  const count = (mark: string) => status.split("\0").filter((line) => line.startsWith(`${mark} `)).length
  return { changed: count("1"), untracked: count("?"), ignored: count("!"), unmerged: count("u") }
})

/** The tree's index under another name, as old as it is: git compares contents where a file may be as new as its index. */
export const copyIndex = Effect.fnUntraced(function*(
  ref: WorktreeRef
): Effect.fn.Return<string, FileError | GitFailed, Files | Git> {
  const git = yield* Git
  const files = yield* Files
  const copy = Path.join(ref.directory, `index-${yield* randomHex(6)}`)
  const index = Path.join(entryOf(ref), "index")
  if ((yield* files.inspect(index)) === undefined) return copy
  const { exitCode, stderr } = yield* git.run("cp", ["-p", "--", index, copy], { cwd: ref.directory })
  return exitCode === 0 ? copy : yield* new GitFailed({ command: "cp", exitCode, problem: stderr.trim() })
})

/** Takes away what tells git to look past a file, where the file is there all the same. */
const unhide = Effect.fnUntraced(function*(ref: WorktreeRef, at: string, within: RunOptions) {
  const git = yield* Git
  const files = yield* Files
  const listed = yield* git.read([...treeArgs(ref, at), "ls-files", "-v", "-z"], within)
  const flagged = listed.split("\0").filter((line) => /^[a-zS] /.test(line)).map((line) => line.slice(2))
  const hidden = yield* Effect.filter(
    flagged,
    (name) =>
      Effect.map(
        Effect.orElseSucceed(files.inspect(Path.join(at, name)), () => undefined),
        (info) => info !== undefined
      )
  )
  if (hidden.length === 0) return
  const input = hidden.map((name) => `${name}\0`).join("")
  for (const flag of ["--no-assume-unchanged", "--no-skip-worktree"]) {
    yield* git.read([...treeArgs(ref, at), "update-index", flag, "-z", "--stdin"], { ...within, input })
  }
})

const lines = (text: string): ReadonlyArray<string> => text.split("\n").filter((line) => line !== "")

/** The ends of all lines of commits that start at these and that no branch, tag or remote holds. */
const unheld = Effect.fnUntraced(function*(ref: WorktreeRef, at: string, tips: ReadonlyArray<string>) {
  if (tips.length === 0) return []
  const git = yield* Git
  const input = [...new Set(tips)].map((line) => `${line}\n`).join("")
  const words = ["rev-list", "--parents", "--stdin", "--not", "--branches", "--tags", "--remotes"]
  const graph = yield* git.read([...treeArgs(ref, at), ...words], { cwd: at, input })
  const commits = lines(graph).map((line) => line.split(" "))
  const parents = new Set(commits.flatMap(([, ...rest]) => rest))
  return commits.flatMap(([commit = ""]) => parents.has(commit) ? [] : [commit])
})

/** Saves what has to be saved; answers with what that was, for people, or with nothing. */
export const save = Effect.fn("Worktree.save")(function*(
  ref: WorktreeRef,
  at: string,
  { agentId }: Subject
): Effect.fn.Return<string | undefined, FileError | GitFailed, Files | Git> {
  const git = yield* Git
  const files = yield* Files
  const here: RunOptions = { cwd: at }
  const args = treeArgs(ref, at)
  const counts = yield* inventory(ref, at)

  const index = yield* copyIndex(ref)
  return yield* Effect.gen(function*() {
    const within = { ...here, index }
    const head = (yield* git.ask([...args, "rev-parse", "--verify", "--quiet", "HEAD^{commit}"], here)).stdout.trim()
    const staged = yield* git.read([...args, "write-tree"], within)
    yield* unhide(ref, at, within)
    yield* git.read([...args, "add", "--all", "--sparse"], within)
    const tree = yield* git.read([...args, "write-tree"], within)
    const before = head === "" ? "" : yield* git.read([...args, "rev-parse", `${head}^{tree}`], here)

    const logs = yield* git.ask([...args, "log", "--walk-reflogs", "--format=%H", "HEAD"], here)
    const branchLog = yield* git.ask([...args, "log", "--walk-reflogs", "--format=%H", ref.branch], here)
    const own = yield* git.read(
      [...args, "for-each-ref", "--format=%(objectname)", "refs/worktree", "refs/bisect", "refs/rewritten"],
      here
    )
    const known = [logs.stdout, branchLog.stdout, own].flatMap(lines)
    const loose = yield* unheld(ref, at, head === "" ? known : [head, ...known])
    if (tree === before && staged === before && loose.length === 0) return undefined

    const first = head === "" ? [] : [head]
    const commit = (of: string, parents: ReadonlyArray<string>, message: string) =>
      git.read([...args, "commit-tree", of, ...parents.flatMap((parent) => ["-p", parent]), "-m", message], here)
    const index1 = staged === before || staged === tree
      ? []
      : [yield* commit(staged, first, `slipway: what ${agentId} had staged`)]
    const parents = [...first, ...index1, ...loose.filter((oid) => oid !== head)]

    const work = workOf(agentId)
    const old = (yield* git.ask([...args, "rev-parse", "--verify", "--quiet", `${work}^{commit}`], here)).stdout.trim()
    if (old !== "") {
      const is = lines(yield* git.read([...args, "rev-parse", `${old}^{tree}`, `${old}^@`], here))
      // A staged tree makes another commit each time; the rest tells.
      const same = is[0] === tree && parents.every((parent) => is.includes(parent) || index1.includes(parent))
      if (same) return describe(counts, loose, work)
    }
    const saved = yield* commit(
      tree,
      old === "" ? parents : [...parents, old],
      `slipway: what ${agentId} left in its working tree`
    )
    yield* git.read(
      [
        ...args,
        "update-ref",
        "--create-reflog",
        "-m",
        "slipway",
        work,
        saved,
        old === "" ? "0".repeat(saved.length) : old
      ],
      here
    )
    return describe(counts, loose, work)
  }).pipe(
    Effect.ensuring(Effect.ignore(Effect.andThen(files.removeFile(index), files.removeFile(`${index}.lock`))))
  )
})

const describe = ({ changed, untracked }: Inventory, loose: ReadonlyArray<string>, work: string): string => {
  const found = [
    ...(changed === 0 ? [] : [`${changed} changed`]),
    ...(untracked === 0 ? [] : [`${untracked} untracked`]),
    ...(loose.length === 0 ? [] : [`${loose.length} ${loose.length === 1 ? "line" : "lines"} of commits on no branch`])
  ]
  return `${found.length === 0 ? "what differed" : found.join(", ")} saved as ${work}`
}
