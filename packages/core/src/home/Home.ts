/**
 * The home: the private directory that holds one registry, one tmux socket, and a directory per agent.
 *
 * `open` makes what is missing, in an order that any number of processes can run at once. The registry's file is
 * created empty; then a link that only one of them wins puts `home.json` (the home's id, and which file the registry
 * is) in place. After that a registry that is not that file is refused: a copied or restored one does not know what
 * runs now.
 *
 * `reopen` opens an existing home and does not check its registry: it is for the rebuild of one that is refused.
 *
 * What the home allows stands in `home.json` too, from the moment in which the home is made. So it is the same for
 * every deployer, and a rebuild of the registry keeps it. A caller can ask for less, for its own deployments; more
 * takes `HomeLimits.set`.
 *
 * Modes are tightened to 0700 and 0600 where they are wider. A home on a network file system is refused, since locks
 * and crash safety rest on the local disk; so is a path that tmux would read as code.
 */
import { Sentence } from "@slipway/tmux"
import { Target } from "@slipway/tmux"
import { Context, Effect, Layer, Schema } from "effect"
import * as Path from "node:path"
import { AgentId } from "../agent/Agent.ts"
import { type FileError, type FileInfo, Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { randomHex } from "../machine/Random.ts"
import type { HomeLimit } from "../registry/Admission.ts"
import { RegistryReplaced } from "../registry/RegistryError.ts"

/** The home can't be used as it is. */
export class HomeUnusable extends Schema.TaggedError<HomeUnusable>()("HomeUnusable", {
  path: Schema.String,
  reason: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the home ${this.path} can't be used: ${this.reason}; mend that, or choose another home with --home or SLIPWAY_HOME`
  }
}

/** Free disk that a deployment asks for: 100 MB. */
export const requiredBytes = 100_000_000

/** How many agents a home, or a caller, may allow to be active. */
export const MaxActive = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 1_000_000 }))

/** What a home allows to all its deployers. */
export const HomeLimits = Schema.Struct({
  /** How many agents may be active at once. */
  maxActive: MaxActive
})
export type HomeLimits = typeof HomeLimits.Type

/** `home.json`. */
const Identity = Schema.Struct({
  version: Schema.Literal(1),
  homeId: Schema.String.check(Schema.isPattern(/^[0-9a-f]{12}$/)),
  /** A home of 0.1.0 has none: then it allows what a new home allows. */
  limits: Schema.optionalKey(HomeLimits),
  registry: Schema.Struct({
    inode: Schema.Int,
    device: Schema.Int,
    /** Device numbers may change with a restart, so that they are compared on the same boot alone. */
    boot: Schema.String
  })
})
type Identity = typeof Identity.Type
const decodeIdentity = Schema.decodeUnknownEffect(Schema.fromJsonString(Identity))
const encodeIdentity = Schema.encodeEffect(Schema.fromJsonString(Identity))

export interface HomeOptions {
  /** The directory; it is made when it is missing. */
  readonly directory: string
  /** The tmux socket; by default it is in the home, or in the runtime directory when that path would be too long. */
  readonly socket?: string | undefined
  /**
   * How many agents may be active at once. A home that is made by this stores it as its limit. In an existing home it
   * can only lower the stored limit, for what this caller deploys.
   */
  readonly maxActive?: number | undefined
}

export const defaultMaxActive = 1000

/** A limit that a caller gave is no number of agents. */
export class InvalidLimit extends Schema.TaggedError<InvalidLimit>()("InvalidLimit", {
  /** What named it: an option, a variable, an argument. */
  name: Schema.String,
  value: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `${this.name} is ${JSON.stringify(this.value)}; it should be a number of agents, from 1 to 1000000`
  }
}

const isMaxActive = Schema.is(MaxActive)

/** A number of agents as it was written down. */
export const parseMaxActive = (name: string, value: string): Effect.Effect<number, InvalidLimit> =>
  /^\d{1,7}$/.test(value) && isMaxActive(Number(value))
    ? Effect.succeed(Number(value))
    : Effect.fail(new InvalidLimit({ name, value }))

/** What a caller asks for: its option, else its `SLIPWAY_MAX_ACTIVE`, else nothing. */
export const maxActiveOf = (
  option: number | undefined,
  environment: Readonly<Record<string, string | undefined>>
): Effect.Effect<number | undefined, InvalidLimit> => {
  if (option !== undefined) return parseMaxActive("maxActive", String(option))
  const given = environment["SLIPWAY_MAX_ACTIVE"]
  return given === undefined || given === "" ? Effect.succeed(undefined) : parseMaxActive("SLIPWAY_MAX_ACTIVE", given)
}

// NFS, SMB, CIFS, AFS, Ceph, FUSE-less cluster file systems: the magic numbers of statfs(2).
const networkFileSystems = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42, 0x5346414f, 0x00c36400, 0x01021997])

export class Home extends Context.Service<Home, {
  readonly id: string
  readonly directory: string
  readonly registry: string
  readonly socket: Target.SocketPath
  /** Whether the socket is where this home has it by itself; others may use one that a caller named. */
  readonly hasOwnSocket: boolean
  readonly agents: string
  /** What the home allows; read anew each time. */
  readonly limits: Effect.Effect<HomeLimits, HomeUnusable>
  /** What its present caller may have of that; read anew each time. */
  readonly limit: Effect.Effect<HomeLimit, HomeUnusable>
  /** Tells the file that the home recorded as its registry from every other; the record is read anew each time. */
  readonly recorded: Effect.Effect<(file: FileIdentity) => boolean, HomeUnusable>
  /**
   * Records another file as the home's registry; from then on every other one is refused. Whoever changes the record holds
   * `rebuild.json` (`ReaperLock.holdFile`), so that no change undoes another.
   */
  readonly record: (file: FileIdentity) => Effect.Effect<void, FileError | HomeUnusable>
  /** Records what the home allows; what was allowed before and is not named stays. Under the same lock. */
  readonly recordLimits: (limits: Partial<HomeLimits>) => Effect.Effect<void, FileError | HomeUnusable>
  readonly agentDirectory: (agentId: string) => string
}>()("@slipway/core/Home") {
  static readonly layer = (options: HomeOptions) => Layer.effect(Home, open(options))
  /** A home that was made before, whatever its registry is. */
  static readonly reopen = (options: HomeOptions) => Layer.effect(Home, reopen(options))
}

const isAgentId = Schema.is(AgentId)
const maxSocketBytes = Target.maxSocketPathBytes
const decodeSocket = Schema.decodeUnknownEffect(Target.SocketPath)

type Opened<R> = Effect.fn.Return<Home["Service"], HomeUnusable | RegistryReplaced, Files | Host | R>

const open = (
  options: HomeOptions
): Effect.Effect<Home["Service"], HomeUnusable | RegistryReplaced, Files | Host> =>
  openWith(
    options,
    (directory, registry, unusable) =>
      identify(directory, registry, { maxActive: options.maxActive ?? defaultMaxActive }, unusable)
  )

const reopen = Effect.fnUntraced(function*(options: HomeOptions): Opened<never> {
  const files = yield* Files
  const given = Path.resolve(options.directory)
  const unusable = (reason: string) => new HomeUnusable({ path: given, reason })
  const recorded = yield* Effect.mapError(
    files.inspect(identityFile(given)),
    (error) => unusable(error.message)
  )
  if (recorded === undefined) return yield* unusable("it has no home.json, which alone holds the home's id")
  return yield* openWith(options, (directory, _registry, unusable) => readIdentity(files, directory, unusable))
})

const openWith = Effect.fnUntraced(function*<R>(
  options: HomeOptions,
  identify: (
    directory: string,
    registry: string,
    unusable: (reason: string) => HomeUnusable
  ) => Effect.Effect<Identity, HomeUnusable | RegistryReplaced, R>
): Opened<R> {
  const files = yield* Files
  const { boot } = (yield* Host).identity
  const given = Path.resolve(options.directory)
  const unusable = (reason: string) => new HomeUnusable({ path: given, reason })
  const orUnusable = Effect.mapError((error: FileError) => unusable(error.message))

  const code = unusable("its path has a character that tmux reads as code (#, $, a control character, or ; at the end)")
  if (Target.unsafe(given) !== undefined) return yield* code
  yield* orUnusable(files.ensureDirectory(given, 0o700))
  const directory = yield* orUnusable(files.realPath(given))
  if (Target.unsafe(directory) !== undefined) return yield* code
  const info = yield* orUnusable(files.inspect(directory))
  if (info?.kind !== "directory") return yield* unusable("it is not a directory")
  if (info.uid !== (files.user ?? info.uid)) return yield* unusable("it belongs to another user")
  if ((info.mode & 0o077) !== 0) yield* orUnusable(files.setMode(directory, 0o700))
  if (!(yield* files.isWritable(directory))) {
    return yield* unusable("it can't be written; check its mode, and whether its file system is read-only")
  }
  const space = yield* orUnusable(files.space(directory))
  if (networkFileSystems.has(space.type)) {
    return yield* unusable("it is on a network file system, where locks and crash safety can't be relied on")
  }
  const agents = Path.join(directory, "agents")
  yield* orUnusable(files.ensureDirectory(agents, 0o700))
  const inside = yield* orUnusable(files.inspect(agents))
  if (inside?.kind !== "directory") return yield* unusable("its agents directory is not a directory")
  if ((inside.mode & 0o077) !== 0) yield* orUnusable(files.setMode(agents, 0o700))

  const registry = Path.join(directory, "registry.db")
  const identity = yield* identify(directory, registry, unusable)
  const chosen = options.socket ?? (yield* chooseSocket(directory, identity.homeId, unusable))
  const socket = yield* Effect.mapError(
    decodeSocket(chosen),
    () =>
      unusable(`the tmux socket ${chosen} must be an absolute path of at most ${maxSocketBytes} bytes without # and $`)
  )
  // As the home is called from now on, whatever path it was opened by.
  const unusableNow = (reason: string) => new HomeUnusable({ path: directory, reason })
  const read = readIdentity(files, directory, unusableNow)
  const rewrite = Effect.fnUntraced(function*(change: (identity: Identity) => Identity) {
    const content = yield* Effect.mapError(encodeIdentity(change(yield* read)), (error) => unusableNow(error.message))
    yield* files.replaceFile(identityFile(directory), content, 0o600)
  })
  const limits = Effect.map(read, ({ limits }) => limits ?? { maxActive: defaultMaxActive })
  return Home.of({
    id: identity.homeId,
    directory,
    registry,
    socket,
    hasOwnSocket: chosen === ownSocket(directory, identity.homeId, files.user),
    agents,
    limits,
    limit: Effect.map(limits, ({ maxActive }) => lowered(maxActive, options.maxActive)),
    recorded: Effect.map(read, (identity) => (file) => isRecorded(identity, file, boot)),
    record: ({ device, inode }) => rewrite((identity) => ({ ...identity, registry: { inode, device, boot } })),
    recordLimits: (limits) =>
      rewrite((identity) => ({ ...identity, limits: { maxActive: defaultMaxActive, ...identity.limits, ...limits } })),
    agentDirectory: (agentId) => Path.join(agents, agentId)
  })
})

const lowered = (stored: number, asked: number | undefined): HomeLimit =>
  asked !== undefined && asked < stored
    ? { maxActive: asked, ofCaller: true }
    : { maxActive: stored, ofCaller: false }

const identityFile = (directory: string): string => Path.join(directory, "home.json")

const readIdentity = (files: Files["Service"], directory: string, unusable: (reason: string) => HomeUnusable) =>
  files.readText(identityFile(directory)).pipe(
    Effect.mapError((error) => unusable(error.message)),
    Effect.flatMap(decodeIdentity),
    Effect.catchTag("SchemaError", () => Effect.fail(unusable("its home.json can't be read")))
  )

type FileIdentity = Pick<FileInfo, "device" | "inode">

/** Whether a file is the registry that the home recorded. */
const isRecorded = ({ registry }: Identity, file: FileIdentity, boot: string): boolean =>
  file.inode === registry.inode && (registry.boot !== boot || file.device === registry.device)

const identify = Effect.fnUntraced(function*(
  directory: string,
  registry: string,
  limits: HomeLimits,
  unusable: (reason: string) => HomeUnusable
) {
  const files = yield* Files
  const host = yield* Host
  const orUnusable = Effect.mapError((error: FileError) => unusable(error.message))
  const path = identityFile(directory)
  // Before the registry is read: one that is empty while agents have directories was not empty when they were made.
  const agents = yield* orUnusable(files.list(Path.join(directory, "agents")))
  if ((yield* orUnusable(files.inspect(path))) === undefined) {
    yield* files.createFile(registry, "", 0o600).pipe(
      Effect.catchIf((error) => error.code === "EEXIST", () => Effect.void),
      orUnusable
    )
    const file = yield* orUnusable(files.inspect(registry))
    if (file === undefined) return yield* unusable("its registry vanished while the home was made; try again")
    // Only an empty registry can have no home.json yet; a process that has filled this one meanwhile had put it in
    // place before.
    if (file.size > 0 && (yield* orUnusable(files.inspect(path))) === undefined) {
      return yield* new RegistryReplaced({ path: registry, reason: "the home.json beside it is missing; put it back" })
    }
    const draft = Path.join(directory, `home.${yield* randomHex(12)}.tmp`)
    const content = yield* encodeIdentity({
      version: 1,
      homeId: yield* randomHex(12),
      limits,
      registry: { inode: file.inode, device: file.device, boot: host.identity.boot }
    }).pipe(Effect.mapError((error) => unusable(error.message)))
    yield* orUnusable(files.createFile(draft, content, 0o600))
    yield* files.link(draft, path).pipe(
      Effect.catchIf((error) => error.code === "EEXIST", () => Effect.void),
      Effect.ensuring(Effect.ignore(files.removeFile(draft))),
      orUnusable
    )
  }
  const identity = yield* readIdentity(files, directory, unusable)
  const found = yield* orUnusable(files.inspect(registry))
  if (found === undefined) return yield* new RegistryReplaced({ path: registry, reason: "the file is missing" })
  if (found.kind !== "file") return yield* new RegistryReplaced({ path: registry, reason: "it is not a plain file" })
  if (!isRecorded(identity, found, host.identity.boot)) {
    return yield* new RegistryReplaced({
      path: registry,
      reason: "it is another file than the one recorded in home.json"
    })
  }
  if (found.size === 0 && agents.some(isAgentId)) {
    return yield* new RegistryReplaced({ path: registry, reason: "it is empty, and agents have directories" })
  }
  if ((found.mode & 0o077) !== 0) yield* orUnusable(files.setMode(registry, 0o600))
  if ((((yield* orUnusable(files.inspect(path)))?.mode ?? 0) & 0o077) !== 0) {
    yield* orUnusable(files.setMode(path, 0o600))
  }
  return identity
})

// The fallback must not depend on the caller's environment: every process of this home has to find the same socket.
const runtimeDirectory = (user: number | undefined) => Path.join("/tmp", `slipway-${user ?? 0}`)

// A socket's path has little room; a home deep in the file system gets its socket in the runtime directory.
const ownSocket = (directory: string, homeId: string, user: number | undefined): string => {
  const inHome = Path.join(directory, "tmux.sock")
  return Buffer.byteLength(inHome) <= maxSocketBytes ? inHome : Path.join(runtimeDirectory(user), `${homeId}.sock`)
}

const chooseSocket = Effect.fnUntraced(function*(
  directory: string,
  homeId: string,
  unusable: (reason: string) => HomeUnusable
) {
  const files = yield* Files
  const socket = ownSocket(directory, homeId, files.user)
  const runtime = runtimeDirectory(files.user)
  if (Path.dirname(socket) !== runtime) return socket
  const made = Effect.catchIf(
    files.makeDirectory(runtime, 0o700),
    (error) => error.code === "EEXIST",
    () => Effect.void
  )
  yield* Effect.mapError(made, (error) => unusable(error.message))
  const info = yield* Effect.mapError(files.inspect(runtime), (error) => unusable(error.message))
  if (info?.kind !== "directory" || info.uid !== (files.user ?? info.uid) || (info.mode & 0o077) !== 0) {
    return yield* unusable(`its path is too long for a socket, and ${runtime} is not a private directory of this user`)
  }
  return socket
})
