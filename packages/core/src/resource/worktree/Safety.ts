/**
 * Why a tree may not be removed now. Everything here looks and changes nothing; an answer of `undefined` means that
 * nothing speaks against it. What can't be seen speaks against it.
 *
 * A process uses a tree if its working directory, its root, its program or a file that it has open is in it. Not seen:
 * what another user's process has open, unless this one is root, and what was mapped into memory and closed.
 */
import { Effect } from "effect"
import * as Path from "node:path"
import type { Subject } from "../../agent/Agent.ts"
import type { WorktreeRef } from "../../agent/Plan.ts"
import { type FileError, Files } from "../../machine/Files.ts"
import * as Proc from "../../machine/processes/Proc.ts"
import { Ledger } from "../../registry/Ledger.ts"
import type { RegistryError } from "../../registry/RegistryError.ts"
import type { Git, GitFailed } from "./Git.ts"
import * as Run from "./Git.ts"
import { entryOf, isWithin, reasonOf } from "./Places.ts"

/** What is in the way, for people: what it is, and what to do. */
export type Objection = string | undefined

/** What git's own directory for the tree says of it. */
export type Entry = "absent" | "ours" | { readonly foreign: string }

const read = (files: Files["Service"], path: string) =>
  Effect.map(Effect.orElseSucceed(files.readText(path), () => ""), (text) => text.trim())

/** Whether git's entry is that of this tree. One without a link is half made, and has our lock or an empty one. */
export const entry = Effect.fnUntraced(function*(
  ref: WorktreeRef,
  subject: Subject
): Effect.fn.Return<Entry, FileError, Files> {
  const files = yield* Files
  const at = entryOf(ref)
  if ((yield* files.inspect(at)) === undefined) return "absent"
  const link = yield* read(files, Path.join(at, "gitdir"))
  const lock = yield* read(files, Path.join(at, "locked"))
  const own = reasonOf(subject)
  if (link !== "" && link !== Path.join(ref.tree, ".git")) {
    return { foreign: `git says that it was moved to ${Path.dirname(link)}; it is that directory's owner's now` }
  }
  if (lock !== "" && !own.startsWith(lock) && lock !== "initializing" && lock !== "added with --lock") {
    return { foreign: `somebody has locked it (${lock}); 'git worktree unlock' takes the lock away` }
  }
  return "ours"
})

/** The processes that use something below one of the roots; undefined where processes can't be seen. */
const usersOf = (roots: ReadonlyArray<string>): ReadonlyArray<string> | undefined => {
  const pids = Proc.names("/proc")?.filter((name) => /^\d+$/.test(name))
  return pids?.flatMap((pid) => {
    const at = `/proc/${pid}`
    const links = [
      ...["cwd", "root", "exe"].map((name) => [name, Proc.link(`${at}/${name}`)] as const),
      ...(Proc.names(`${at}/fd`) ?? []).map((fd) => ["a file", Proc.link(`${at}/fd/${fd}`)] as const)
    ]
    const used = links.find(([, target]) => target !== undefined && roots.some((root) => isWithin(target, root)))
    return used === undefined ? [] : [`process ${pid} (${used[0]} ${used[1]})`]
  })
}

/** Whether a process uses the tree, under any of its names. */
export const inUse = (roots: ReadonlyArray<string>): Effect.Effect<Objection> =>
  Effect.sync(() => {
    const users = usersOf(roots)
    if (users === undefined) return "which processes use it can't be seen here, without /proc"
    return users.length === 0 ? undefined : `in use by ${users.slice(0, 3).join(", ")}; end it, or have it leave`
  })

const unescaped = (path: string): string =>
  path.replaceAll(/\\(\d{3})/g, (_, octal: string) => String.fromCodePoint(Number.parseInt(octal, 8)))

/** Whether something is mounted in it. */
export const mounted = (roots: ReadonlyArray<string>): Effect.Effect<Objection> =>
  Effect.sync(() => {
    const points = (Proc.text("/proc/self/mountinfo") ?? "").split("\n").map((line) => line.split(" ")[4] ?? "")
    const point = points.map(unescaped).find((path) => roots.some((root) => isWithin(path, root)))
    return point === undefined ? undefined : `something is mounted at ${point}; unmount it`
  })

/** Whether another agent works in it. */
export const shared = Effect.fnUntraced(function*(
  ref: WorktreeRef,
  subject: Subject
): Effect.fn.Return<Objection, RegistryError, Ledger> {
  const ledger = yield* Ledger
  const others = (yield* ledger.agents({ activeOnly: true })).filter(({ cwd, id }) =>
    id !== subject.agentId && isWithin(cwd, ref.tree)
  )
  return others.length === 0
    ? undefined
    : `agent ${others.map(({ id }) => id).join(", ")} works in it; it can go when that one has ended`
})

const operations: ReadonlyArray<readonly [file: string, name: string]> = [
  ["rebase-merge", "rebase"],
  ["rebase-apply", "rebase"],
  ["MERGE_HEAD", "merge"],
  ["CHERRY_PICK_HEAD", "cherry-pick"],
  ["REVERT_HEAD", "revert"],
  ["BISECT_LOG", "bisect"],
  ["sequencer", "sequence of picks"]
]

/** Whether git is in the middle of something in it, or it holds other repositories. */
export const contents = Effect.fnUntraced(function*(
  ref: WorktreeRef,
  at: string
): Effect.fn.Return<Objection, FileError | GitFailed, Files | Git> {
  const files = yield* Files
  const git = yield* Run.Git
  for (const [file, name] of operations) {
    if ((yield* files.inspect(Path.join(entryOf(ref), file))) !== undefined) {
      return `a ${name} is under way in it; finish or abort it in ${ref.tree}`
    }
  }
  const link = yield* files.inspect(Path.join(at, ".git"))
  if (link !== undefined && link.kind !== "file") {
    return "what stands at its .git is another repository's; move that away"
  }
  const modules = yield* Effect.orElseSucceed(files.list(Path.join(entryOf(ref), "modules")), () => [])
  if (modules.length > 0) return `it holds the repositories of submodules: ${modules.join(", ")}`
  const found = yield* git.run("find", [at, "-mindepth", "2", "-name", ".git", "-print", "-quit"], { cwd: "/" })
  const nested = found.stdout.trim()
  return nested === ""
    ? undefined
    : `it holds another repository, ${Path.relative(at, Path.dirname(nested))}; move that away`
})
