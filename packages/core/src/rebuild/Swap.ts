/**
 * Puts a rebuilt registry in the place of the refused one, which is set aside and never overwritten or removed.
 *
 * The draft is complete and durable before anything else is touched. Then, in this order: the home records the draft as
 * its registry; the old file, and after it its log, get their new names; the draft gets the registry's name. A rebuild
 * that is killed in between leaves either the old registry in place, refused as before, or a home that recorded the
 * draft and refuses everything until it is in its place. `pending` finds that draft and `place` finishes it. Each step
 * may be done again, whatever was put in the registry's place meanwhile: a name that is taken is left as it is, and
 * another is found.
 *
 * A file is moved by a second name and the removal of the first, since a rename would overwrite what already has the
 * name.
 */
import { Context, DateTime, Effect, Layer } from "effect"
import * as NodeFs from "node:fs"
import * as Path from "node:path"
import { Home, type HomeUnusable } from "../home/Home.ts"
import { FileError, Files } from "../machine/Files.ts"
import { randomHex } from "../machine/Random.ts"

/** What SQLite keeps beside a database. */
export const besides = ["", "-wal", "-shm"] as const

/** A complete draft, and the name of the old registry that goes with it. */
export interface Draft {
  readonly draft: string
  readonly setAside: string
}

export class Swap extends Context.Service<Swap, {
  /** The names of a complete draft and of the old registry; the first determines the second. */
  readonly names: Effect.Effect<Draft>
  /**
   * Makes an empty file to write the draft in. A file system may give the inode number of a removed registry to the next
   * new file, and an unfinished draft would then be the registry that the home recorded. Such a file is not used, and no
   * file is named as a draft before it is complete.
   */
  readonly makeFile: Effect.Effect<string, FileError | HomeUnusable>
  /** The name of a copy to read. */
  readonly copyName: Effect.Effect<string>
  /** The draft that the home recorded as its registry and that is not in its place yet. */
  readonly pending: Effect.Effect<Draft | undefined, FileError | HomeUnusable>
  /** Removes drafts and copies that a killed rebuild left, except the one to keep. */
  readonly sweep: (keep: string | undefined) => Effect.Effect<void, FileError>
  /** Where the old registry would be when the draft had been placed. */
  readonly wouldBe: (named: string) => Effect.Effect<string | null, FileError>
  /**
   * Puts the draft in place; answers where the old registry is, or null when there was none. `check` runs once no process
   * that opens the old registry can take it for the home's. When it fails, the record is put back and nothing has been
   * moved. It is not interruptible.
   */
  readonly place: <E>(
    draft: Draft,
    check: Effect.Effect<void, E>
  ) => Effect.Effect<string | null, E | FileError | HomeUnusable>
}>()("@slipway/core/rebuild/Swap") {
  static readonly layer = Layer.effect(Swap, Effect.suspend(() => make))
}

const draftName = /^registry\.db\.(\d{8}T\d{6}Z(?:-[0-9a-f]+)?)\.[0-9a-f]{12}\.tmp$/
const leftoverName =
  /^registry\.db\.(?:copy|new|\d{8}T\d{6}Z(?:-[0-9a-f]+)?)\.[0-9a-f]{12}\.tmp(?:-wal|-shm|-journal)?$/

const asideName = (registry: string, stamp: string): string => `${registry}.corrupt-${stamp}`

const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home

  const names = Effect.gen(function*() {
    const now = DateTime.formatIso(yield* DateTime.now).slice(0, 19).replaceAll(/[-:]/g, "")
    const stamp = `${now}Z-${yield* randomHex(6)}`
    const made: Draft = {
      draft: `${home.registry}.${stamp}.${yield* randomHex(12)}.tmp`,
      setAside: asideName(home.registry, stamp)
    }
    return made
  })

  const makeFile = Effect.gen(function*() {
    const isRecorded = yield* home.recorded
    const create = Effect.gen(function*() {
      const path = `${home.registry}.new.${yield* randomHex(12)}.tmp`
      yield* files.createFile(path, "", 0o600)
      return path
    })
    const first = yield* create
    const file = yield* files.inspect(first)
    if (file === undefined || !isRecorded(file)) return first
    return yield* Effect.ensuring(create, Effect.ignore(files.removeFile(first)))
  })

  const pending = Effect.gen(function*() {
    const isRecorded = yield* home.recorded
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

  const sweep = Effect.fnUntraced(function*(keep: string | undefined) {
    const kept = keep === undefined ? [] : besides.map((suffix) => `${Path.basename(keep)}${suffix}`)
    for (const name of yield* files.list(home.directory)) {
      if (leftoverName.test(name) && !kept.includes(name)) yield* files.removeFile(Path.join(home.directory, name))
    }
  })

  /** Where the registry can be set aside: under this name or, where that is already taken, under a further one. */
  const freeAside = Effect.fnUntraced(function*(named: string) {
    const isFree = Effect.fnUntraced(function*(from: string, to: string) {
      const there = yield* files.inspect(to)
      if (there === undefined) return true
      const file = yield* files.inspect(from)
      // A rebuild that was killed while it moved the file has already given it this name.
      return file === undefined || (there.inode === file.inode && there.device === file.device)
    })
    let name = named
    for (let count = 2;; count++) {
      const free = yield* Effect.forEach(besides, (suffix) => isFree(`${home.registry}${suffix}`, `${name}${suffix}`))
      if (!free.includes(false)) return name
      name = `${named}-again-${count}`
    }
  })

  /** Where the old registry is: the first of these names that exists; null when there was none. */
  const isAside = Effect.fnUntraced(function*(names: ReadonlyArray<string>) {
    for (const name of names) if ((yield* files.inspect(name)) !== undefined) return name
    return null
  })

  const wouldBe = Effect.fnUntraced(function*(named: string) {
    const isThere = (yield* files.inspect(home.registry)) !== undefined
    return isThere ? yield* freeAside(named) : yield* isAside([named])
  })

  const moveAside = Effect.fnUntraced(function*(from: string, to: string) {
    const file = yield* files.inspect(from)
    if (file === undefined) return
    yield* files.link(from, to).pipe(
      Effect.catchIf((error) => error.code === "EEXIST", (error) =>
        Effect.flatMap(files.inspect(to), (there) =>
          // A rebuild that was killed right here has already given it its second name.
          there?.inode === file.inode && there.device === file.device ? Effect.void : Effect.fail(error)))
    )
    yield* files.removeFile(from)
  })

  const place = Effect.fnUntraced(function*<E>({ draft, setAside: named }: Draft, check: Effect.Effect<void, E>) {
    const file = yield* files.inspect(draft)
    if (file === undefined) return yield* new FileError({ operation: "inspect", path: draft, code: "ENOENT" })
    yield* sync(draft)
    const identity = Path.join(home.directory, "home.json")
    const before = yield* files.readText(identity)
    yield* home.record(file)
    yield* Effect.tapError(check, () => files.replaceFile(identity, before, 0o600))
    yield* sync(identity)
    yield* sync(home.directory)
    // The registry before its log: with the old log beside it, the draft would be read wrongly.
    const setAside = yield* freeAside(named)
    for (const suffix of besides) yield* moveAside(`${home.registry}${suffix}`, `${setAside}${suffix}`)
    yield* sync(home.directory)
    yield* files.link(draft, home.registry)
    yield* files.removeFile(draft)
    yield* sync(home.directory)
    return yield* isAside([setAside, named])
  }, Effect.uninterruptible)

  return Swap.of({
    names,
    makeFile,
    copyName: Effect.map(randomHex(12), (hex) => `${home.registry}.copy.${hex}.tmp`),
    pending,
    sweep,
    wouldBe,
    place
  })
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
