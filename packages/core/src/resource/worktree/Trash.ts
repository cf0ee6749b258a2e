/**
 * The home's trash: trees that had files which git ignores, whole, for some days. What else was in them is saved in the
 * repository as well; the trash is for what git can't save.
 */
import { DateTime, Duration, Effect } from "effect"
import * as Path from "node:path"
import { type FileError, Files } from "../../machine/Files.ts"
import { trashOf } from "../../machine/Layout.ts"
import { Git, type GitFailed } from "./Git.ts"
import { trashDays } from "./Removal.ts"

/** Removes what has waited its days; a rename into the trash begins them. */
export const empty = Effect.fn("Worktree.emptyTrash")(function*(
  home: string
): Effect.fn.Return<void, FileError | GitFailed, Files | Git> {
  const files = yield* Files
  const git = yield* Git
  const trash = trashOf(home)
  if ((yield* files.inspect(trash)) === undefined) return
  const before = (yield* DateTime.now).epochMilliseconds - Duration.toMillis(Duration.days(trashDays))
  for (const name of yield* files.list(trash)) {
    const path = Path.join(trash, name)
    const info = yield* files.inspect(path)
    if (info === undefined || info.changedMillis > before) continue
    yield* git.run("rm", ["-rf", "--one-file-system", "--", path], { cwd: "/" })
  }
})
