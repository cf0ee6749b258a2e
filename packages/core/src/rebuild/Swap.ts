/**
 * Puts a rebuilt registry in the place of the one that is refused, which is set aside and never overwritten or removed.
 *
 * The draft is complete and durable before anything else is touched. Then, in this order: the home records the draft as its registry;
 * the old file, and after it its log, get their new names; the draft gets the registry's. Whoever is killed in between leaves
 * either the old registry in place, refused as before, or a home that refuses everything until the draft that it recorded is in its place,
 * which `pending` finds and `place` finishes. Each step may be done again, whatever was put in the registry's place meanwhile: a name
 * that is taken is left to what has it, and another is found.
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

const draftName = /^registry\.db\.(\d{8}T\d{6}Z(?:-[0-9a-f]+)?)\.[0-9a-f]{12}\.tmp$/
const leftoverName =
  /^registry\.db\.(?:copy|new|\d{8}T\d{6}Z(?:-[0-9a-f]+)?)\.[0-9a-f]{12}\.tmp(?:-wal|-shm|-journal)?$/

const asideName = (registry: string, stamp: string): string => `${registry}.corrupt-${stamp}`

/** The names of a draft that is complete and of the old registry, which the first tells. */
export const names = Effect.gen(function*() {
  const home = yield* Home
  const now = DateTime.formatIso(yield* DateTime.now).slice(0, 19).replaceAll(/[-:]/g, "")
  const stamp = `${now}Z-${yield* randomHex(6)}`
  return {
    draft: `${home.registry}.${stamp}.${yield* randomHex(12)}.tmp`,
    setAside: asideName(home.registry, stamp)
  }
})

/**
 * Makes an empty file to write the draft in. A file system gives the number of a registry that is gone to the next file that is made, by which
 * an unfinished draft would be the registry that the home recorded: such a one is not used, and none is named as a draft before it is complete.
 */
export const makeFile = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const isRecorded = yield* recordedRegistry(home)
  const make = Effect.gen(function*() {
    const path = `${home.registry}.new.${yield* randomHex(12)}.tmp`
    yield* files.createFile(path, "", 0o600)
    return path
  })
  const first = yield* make
  const file = yield* files.inspect(first)
  if (file === undefined || !isRecorded(file)) return first
  return yield* Effect.ensuring(make, Effect.ignore(files.removeFile(first)))
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

/** Where the registry can be set aside: under this name or, where something else has that already, a further one. */
export const freeAside = Effect.fnUntraced(function*(named: string) {
  const files = yield* Files
  const home = yield* Home
  const isFree = Effect.fnUntraced(function*(from: string, to: string) {
    const there = yield* files.inspect(to)
    if (there === undefined) return true
    const file = yield* files.inspect(from)
    // One that was killed while it moved the file has given it this name already.
    return file === undefined || (there.inode === file.inode && there.device === file.device)
  })
  let name = named
  for (let count = 2;; count++) {
    const free = yield* Effect.forEach(besides, (suffix) => isFree(`${home.registry}${suffix}`, `${name}${suffix}`))
    if (!free.includes(false)) return name
    name = `${named}-again-${count}`
  }
})

/** Where the old registry is, or would be: of the names that it may have, the first that it has; null when there was none. */
export const isAside = Effect.fnUntraced(function*(names: ReadonlyArray<string>) {
  const files = yield* Files
  for (const name of names) if ((yield* files.inspect(name)) !== undefined) return name
  return null
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

/**
 * Puts the draft in place; answers where the old registry is, or null when there was none. `check` is asked once nobody who opens the
 * old registry can take it for the home's any more; when it fails, the record is put back and nothing has been moved.
 */
export const place = Effect.fnUntraced(function*<E, R>({ draft, setAside: named }: {
  readonly draft: string
  readonly setAside: string
}, check: Effect.Effect<void, E, R>) {
  const files = yield* Files
  const home = yield* Home
  const file = yield* files.inspect(draft)
  if (file === undefined) return yield* new FileError({ operation: "look at", path: draft, code: "ENOENT" })
  yield* sync(draft)
  const identity = Path.join(home.directory, "home.json")
  const before = yield* files.readText(identity)
  yield* recordRegistry(home, file)
  yield* Effect.tapError(check, () => files.replaceFile(identity, before, 0o600))
  yield* sync(identity)
  yield* sync(home.directory)
  // The registry before its log: with a log of the old one beside it, the draft would be read as something else.
  const setAside = yield* freeAside(named)
  for (const suffix of besides) yield* moveAside(`${home.registry}${suffix}`, `${setAside}${suffix}`)
  yield* sync(home.directory)
  yield* files.link(draft, home.registry)
  yield* files.removeFile(draft)
  yield* sync(home.directory)
  return yield* isAside([setAside, named])
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
