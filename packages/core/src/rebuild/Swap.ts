/**
 * Puts a rebuilt registry in the place of the one that is refused, which is set aside and never overwritten or removed.
 *
 * The draft is complete and durable before anything else is touched. Then, in this order: the home records the draft as its registry;
 * the old file, and after it its log, get their new names; the draft gets the registry's. Whoever is killed in between leaves
 * either the old registry in place, refused as before, or a home that refuses everything until the draft that it recorded is in its place,
 * which `pending` finds and `place` finishes. Each step may be done again.
 *
 * A file is moved by a second name and the removal of the first, since a rename would overwrite what has the name already.
 */
import { DateTime, Effect } from "effect"
import * as NodeFs from "node:fs"
import * as Path from "node:path"
import { FileError, Files } from "../Files.ts"
import { Home, recordedRegistry, recordRegistry } from "../Home.ts"
import { randomHex } from "../Task.ts"

/** What SQLite keeps beside a database. */
export const besides = ["", "-wal", "-shm"] as const

const draftName = /^registry\.db\.(\d{8}T\d{6}Z(?:-\d+)?)\.[0-9a-f]{12}\.tmp$/
const leftoverName = /^registry\.db\.(?:copy|\d{8}T\d{6}Z(?:-\d+)?)\.[0-9a-f]{12}\.tmp(?:-wal|-shm|-journal)?$/

const asideName = (registry: string, stamp: string): string => `${registry}.corrupt-${stamp}`

/** Makes an empty file for the draft; its name tells the one that the old registry will have. */
export const makeDraft = Effect.fnUntraced(function*() {
  const files = yield* Files
  const home = yield* Home
  const now = DateTime.formatIso(yield* DateTime.now).slice(0, 19).replaceAll(/[-:]/g, "")
  const taken = yield* files.list(home.directory)
  const isFree = (stamp: string) =>
    !taken.some((name) => name.startsWith(Path.basename(asideName(home.registry, stamp))))
  let stamp = `${now}Z`
  for (let count = 2; !isFree(stamp); count++) stamp = `${now}Z-${count}`
  const draft = `${home.registry}.${stamp}.${yield* randomHex(12)}.tmp`
  yield* files.createFile(draft, "", 0o600)
  return { draft, setAside: asideName(home.registry, stamp) }
})

/** The name of a copy to look at. */
export const copyName = Effect.gen(function*() {
  const home = yield* Home
  return `${home.registry}.copy.${yield* randomHex(12)}.tmp`
})

/** The draft that the home recorded as its registry and that is not in its place yet. */
export const pending = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const isRecorded = yield* recordedRegistry(home)
  const inPlace = yield* files.inspect(home.registry)
  if (inPlace !== undefined && isRecorded(inPlace)) return undefined
  for (const name of yield* files.list(home.directory)) {
    const stamp = draftName.exec(name)?.[1]
    if (stamp === undefined) continue
    const draft = Path.join(home.directory, name)
    const file = yield* files.inspect(draft)
    if (file !== undefined && isRecorded(file)) return { draft, setAside: asideName(home.registry, stamp) }
  }
  return undefined
})

/** Removes drafts and copies that a rebuild left when it was killed, but for the one to keep. */
export const sweep = Effect.fnUntraced(function*(keep: string | undefined) {
  const files = yield* Files
  const home = yield* Home
  const kept = keep === undefined ? [] : besides.map((suffix) => `${Path.basename(keep)}${suffix}`)
  for (const name of yield* files.list(home.directory)) {
    if (leftoverName.test(name) && !kept.includes(name)) yield* files.removeFile(Path.join(home.directory, name))
  }
})

/** Waits until a file, or the names in a directory, are on the disk. */
const sync = (path: string): Effect.Effect<void, FileError> =>
  Effect.try({
    try: () => {
      const file = NodeFs.openSync(path, NodeFs.constants.O_RDONLY | NodeFs.constants.O_NOFOLLOW)
      try {
        NodeFs.fsyncSync(file)
      } finally {
        NodeFs.closeSync(file)
      }
    },
    catch: () => new FileError({ operation: "flush", path, code: "EIO" })
  })

/** Puts the draft in place; answers where the old registry is, or null when there was none. */
export const place = Effect.fnUntraced(function*({ draft, setAside }: {
  readonly draft: string
  readonly setAside: string
}) {
  const files = yield* Files
  const home = yield* Home
  const file = yield* files.inspect(draft)
  if (file === undefined) return yield* new FileError({ operation: "look at", path: draft, code: "ENOENT" })
  yield* sync(draft)
  yield* recordRegistry(home, file)
  yield* sync(Path.join(home.directory, "home.json"))
  yield* sync(home.directory)
  // The registry before its log: with a log of the old one beside it, the draft would be read as something else.
  for (const suffix of besides) yield* moveAside(`${home.registry}${suffix}`, `${setAside}${suffix}`)
  yield* sync(home.directory)
  yield* files.link(draft, home.registry)
  yield* files.removeFile(draft)
  yield* sync(home.directory)
  return (yield* files.inspect(setAside)) === undefined ? null : setAside
}, Effect.uninterruptible)

const moveAside = Effect.fnUntraced(function*(from: string, to: string) {
  const files = yield* Files
  const file = yield* files.inspect(from)
  if (file === undefined) return
  yield* files.link(from, to).pipe(
    Effect.catchIf((error) => error.code === "EEXIST", (error) =>
      Effect.flatMap(files.inspect(to), (there) =>
        // One that was killed right here has given it its second name already.
        there?.inode === file.inode && there.device === file.device ? Effect.void : Effect.fail(error)))
  )
  yield* files.removeFile(from)
})
