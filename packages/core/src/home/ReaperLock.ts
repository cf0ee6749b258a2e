/**
 * One standing reaper per home: a file that names its holder, put in place whole by a link that only one process wins.
 *
 * A holder that is dead by pid, start time and boot loses it, to one alone of all processes that find it dead. A holder
 * that can't be assessed keeps it. It is released when the scope closes. Not promised: to hold where a person removes the
 * files by hand. So what is done under it must do no harm twice at once.
 */
import { Sentence } from "@slipway/tmux"
import { Context, Effect, Layer, Option, Schema, type Scope } from "effect"
import * as Path from "node:path"
import { FileError, Files } from "../machine/Files.ts"
import { Host, HostIdentity, ProcessIdentity } from "../machine/Host.ts"
import * as Lease from "../machine/Lease.ts"
import { randomHex } from "../machine/Random.ts"
import { Home } from "./Home.ts"

/** Another reaper watches this home. */
export class ReaperRunning extends Schema.TaggedError<ReaperRunning>()("ReaperRunning", {
  pid: Schema.Int,
  machine: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `process ${this.pid} already watches this home; one is enough`
  }
}

const Holder = Schema.Struct({ host: HostIdentity, holder: ProcessIdentity })
type Holder = typeof Holder.Type
const decodeHolder = Schema.decodeUnknownOption(Schema.fromJsonString(Holder))
const encodeHolder = Schema.encodeEffect(Schema.fromJsonString(Holder))

/**
 * How the file `<name>.json` in the home is held as long as a scope; `running` makes the refusal that names its holder.
 */
export const holdFile = Effect.fnUntraced(function*<E>(name: string, running: (holder: Holder) => E) {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const lock = Path.join(home.directory, `${name}.json`)
  const own = { host: host.identity, holder: host.self }

  const holderOf = (path: string) =>
    Effect.map(Effect.option(files.readText(path)), (text) => Option.flatMap(text, decodeHolder))

  const take = Effect.fnUntraced(function*(path: string) {
    const draft = Path.join(home.directory, `${name}.${yield* randomHex(12)}.tmp`)
    const content = yield* Effect.mapError(
      encodeHolder(own),
      () => new FileError({ operation: "write", path, code: "EINVAL" })
    )
    yield* files.createFile(draft, content, 0o600)
    yield* Effect.ensuring(files.link(draft, path), Effect.ignore(files.removeFile(draft)))
  })

  /** Fails unless the holder is dead; a file that can't be read has no holder. */
  const checkDead = Effect.fnUntraced(function*(path: string) {
    const found = yield* holderOf(path)
    if (Option.isNone(found)) return
    const standing = yield* Lease.assessHolder(host, found.value)
    if (standing._tag !== "dead") return yield* Effect.fail(running(found.value))
  })

  const release = (path: string) =>
    Effect.gen(function*() {
      const found = yield* holderOf(path)
      const isOwn = Option.isSome(found) && found.value.holder.pid === own.holder.pid &&
        found.value.holder.start === own.holder.start
      if (isOwn) yield* files.removeFile(path)
    }).pipe(Effect.ignoreCause)

  const isTaken = (error: unknown): error is FileError => error instanceof FileError && error.code === "EEXIST"
  const acquire = (path: string): Effect.Effect<void, E | FileError> =>
    Effect.catchIf(take(path), isTaken, () => Effect.andThen(checkDead(path), takeOver(path)))

  /**
   * Takes the place of a dead holder. Removing its file by name might remove the file of a quicker process. So a
   * process that takes over holds a lock for that, and checks again under it. That lock may have a dead holder as well.
   */
  const takeOver = (path: string): Effect.Effect<void, E | FileError> => {
    const right = `${path}.takeover`
    const replace = Effect.gen(function*() {
      yield* checkDead(path)
      yield* files.removeFile(path)
      // A process that found no file may have been quicker still.
      yield* Effect.catchIf(take(path), isTaken, (error) => Effect.andThen(checkDead(path), Effect.fail(error)))
    })
    return Effect.acquireUseRelease(acquire(right), () => replace, () => release(right))
  }

  const hold: Effect.Effect<void, E | FileError, Scope.Scope> = Effect.acquireRelease(
    acquire(lock),
    () => release(lock)
  )
  return { hold }
})

export class ReaperLock extends Context.Service<ReaperLock, {
  /** Holds the lock as long as the scope. */
  readonly hold: Effect.Effect<void, ReaperRunning | FileError, Scope.Scope>
}>()("@slipway/core/ReaperLock") {
  static readonly layer = Layer.effect(
    ReaperLock,
    Effect.map(
      holdFile("reaper", ({ holder, host }) => new ReaperRunning({ pid: holder.pid, machine: host.machine })),
      ReaperLock.of
    )
  )
}
