/**
 * One standing reaper per home: a file that names its holder, put in place whole by a link that only one process wins.
 *
 * The lock is only a courtesy (two reapers at once do no harm). A holder that is dead by pid, start time and boot loses it; one
 * that can't be judged keeps it. Released when the scope closes.
 */
import { Context, Effect, Layer, Option, Schema, type Scope } from "effect"
import * as Path from "node:path"
import { FileError, Files } from "./Files.ts"
import { Home } from "./Home.ts"
import { Host, HostIdentity, ProcessIdentity } from "./Host.ts"
import * as Lease from "./Lease.ts"
import { randomHex } from "./Task.ts"

/** Another reaper watches this home. */
export class ReaperRunning extends Schema.TaggedError<ReaperRunning>()("ReaperRunning", {
  pid: Schema.Int,
  machine: Schema.String
}) {
  override get message() {
    return `process ${this.pid} already watches this home; one is enough`
  }
}

const Holder = Schema.Struct({ host: HostIdentity, holder: ProcessIdentity })
type Holder = typeof Holder.Type
const decodeHolder = Schema.decodeUnknownOption(Schema.fromJsonString(Holder))
const encodeHolder = Schema.encodeEffect(Schema.fromJsonString(Holder))

/**
 * How the file `<name>.json` in the home is held as long as a scope; `running` makes the refusal from who holds it. Two at once
 * may both take over from a dead one, so that what is done under it must bear that.
 */
export const holdFile = Effect.fnUntraced(function*<E>(name: string, running: (holder: Holder) => E) {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const path = Path.join(home.directory, `${name}.json`)
  const own = { host: host.identity, holder: host.self }

  const holder = Effect.map(Effect.option(files.readText(path)), (text) => Option.flatMap(text, decodeHolder))

  const take = Effect.gen(function*() {
    const draft = Path.join(home.directory, `${name}.${yield* randomHex(12)}.tmp`)
    const content = yield* Effect.mapError(
      encodeHolder(own),
      () => new FileError({ operation: "write", path, code: "EINVAL" })
    )
    yield* files.createFile(draft, content, 0o600)
    yield* Effect.ensuring(files.link(draft, path), Effect.ignore(files.removeFile(draft)))
  })

  const removeDead = Effect.gen(function*() {
    const found = yield* holder
    if (Option.isNone(found)) return yield* Effect.asVoid(files.removeFile(path))
    const standing = yield* Effect.provideService(Lease.judgeHolder(found.value), Host, host)
    if (standing._tag !== "dead") return yield* Effect.fail(running(found.value))
    yield* files.removeFile(path)
  })

  const isTaken = (error: unknown): error is FileError => error instanceof FileError && error.code === "EEXIST"
  const acquire = Effect.catchIf(take, isTaken, () => Effect.andThen(removeDead, take)).pipe(
    // Somebody else was quicker to replace a dead one.
    Effect.catchIf(isTaken, () => Effect.andThen(removeDead, take))
  )
  const release = Effect.gen(function*() {
    const found = yield* holder
    const isOwn = Option.isSome(found) && found.value.holder.pid === own.holder.pid &&
      found.value.holder.start === own.holder.start
    if (isOwn) yield* files.removeFile(path)
  }).pipe(Effect.ignoreCause)

  const hold: Effect.Effect<void, E | FileError, Scope.Scope> = Effect.asVoid(
    Effect.acquireRelease(acquire, () => release)
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
