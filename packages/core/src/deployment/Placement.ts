/**
 * Where an agent will run: under the home's tmux server, and with which attributes of its caller.
 *
 * Agents are children of the tmux server. So its first deployer decides their namespaces, limits, nice value, OOM score
 * and CPUs, unless the launcher sets others. `place` finds the server (by the record in the home, else by asking tmux).
 * It refuses a deployment whose agent would get other namespaces than the caller's, or that asks for what the kernel
 * does not allow. It answers with what the launcher has to set. It makes nothing but the record, and takes well under a
 * millisecond where the record is true. Where /proc does not show processes (macOS), nothing is carried over.
 *
 * `confirm` compares again once the session is there: a caller with other attributes may have started the server anew.
 */
import { Sentence } from "@slipway/tmux"
import { Tmux, type TmuxError, TmuxNoServer } from "@slipway/tmux"
import { Effect, Option, Schema } from "effect"
import * as Path from "node:path"
import { Home } from "../home/Home.ts"
import { Files } from "../machine/Files.ts"
import { Host, ProcessIdentity } from "../machine/Host.ts"
import * as Attributes from "../machine/processes/Attributes.ts"
import type { Programs } from "./Launcher.ts"

const remedy = "deploy from where that server runs, or give another home with --home or SLIPWAY_HOME; " +
  "or stop the agents of this home, end the server, and deploy again"

/** The home's tmux server runs in other namespaces, so that an agent would have another network, other files, or other pids. */
export class OtherNamespace extends Schema.TaggedError<OtherNamespace>()("OtherNamespace", {
  socket: Schema.String,
  serverPid: Schema.Int,
  /** As in /proc/PID/ns. */
  namespaces: Schema.Array(Schema.String)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const what = this.namespaces.join(", ")
    return `the tmux server on ${this.socket} (process ${this.serverPid}) runs in another namespace than this caller ` +
      `(${what}), and the agent would run there; ${remedy}`
  }
}

/** The tmux server answers, and no process here is that server. */
export class ServerNotVisible extends Schema.TaggedError<ServerNotVisible>()("ServerNotVisible", {
  socket: Schema.String,
  serverPid: Schema.Int
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the tmux server on ${this.socket} says that it is process ${this.serverPid}, which is no tmux server here: ` +
      `it runs in another pid namespace or container, where its agents can't be seen; ${remedy}`
  }
}

/** The kernel does not let a child of the home's tmux server have an attribute of the caller. */
export class AttributeRefused extends Schema.TaggedError<AttributeRefused>()("AttributeRefused", {
  /** The name of a resource limit as in prlimit(1), or the nice value. */
  attribute: Schema.String,
  wanted: Schema.String,
  allowed: Schema.String,
  serverPid: Schema.Int
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the caller's ${this.attribute} is ${this.wanted}, and the kernel allows a child of this home's tmux server ` +
      `(process ${this.serverPid}) ${this.allowed}: the process that started that server had less; lower it here, or ` +
      "stop the agents of this home, end the server, and deploy again"
  }
}

/** A program that the launcher needs in order to set an attribute of the caller is missing. */
export class ProgramMissing extends Schema.TaggedError<ProgramMissing>()("ProgramMissing", {
  program: Schema.String,
  purpose: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the program ${this.program} is missing, which is needed to ${this.purpose}; install util-linux and coreutils`
  }
}

/** The tmux server was started anew, by a caller with other attributes, while the deployment was under way. */
export class ServerReplaced extends Schema.TaggedError<ServerReplaced>()("ServerReplaced", {
  serverPid: Schema.Int
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the tmux server of this home was started anew (process ${this.serverPid}) while the agent was being deployed, ` +
      "by a caller with other limits or namespaces; try again"
  }
}

export const PlacementError = Schema.Union([OtherNamespace, ServerNotVisible, AttributeRefused, ProgramMissing])
export type PlacementError = typeof PlacementError.Type

/** Where an agent will run. */
export interface Placed {
  /** What its launcher has to set. */
  readonly carried: Attributes.Carried
  /**
   * Fails when the session's server is not the one that the agent was placed on, and has other attributes. Keeps the
   * record of the server true.
   */
  readonly confirm: (serverPid: number) => Effect.Effect<void, ServerReplaced>
}

export interface Placement {
  /**
   * Where an agent of this process will run. `openFiles` is the soft limit of open files that this process had before Node
   * raised it at its start, where that is known.
   */
  readonly place: (
    openFiles: number | undefined,
    programs: Programs
  ) => Effect.Effect<Placed, PlacementError | TmuxError>
}

const Record = Schema.Struct({ socket: Schema.String, server: ProcessIdentity })
const decodeRecord = Schema.decodeUnknownOption(Schema.fromJsonString(Record))
const encodeRecord = Schema.encodeEffect(Schema.fromJsonString(Record))

/** A server with what its children inherit. */
interface Server {
  readonly identity: ProcessIdentity
  readonly attributes: Attributes.Attributes
}

/**
 * For as long as the home is open. What this process and a server pass on is read once: neither changes it by itself.
 */
export const make: Effect.Effect<Placement, never, Files | Home | Host | Tmux> = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const tmux = yield* Tmux
  const path = Path.join(home.directory, "tmux-server.json")
  const own = yield* host.attributes(host.self.pid)
  let last: Server | undefined

  const isAlive = (server: ProcessIdentity) => Effect.map(host.probe(server), (liveness) => liveness === "alive")

  const serverAt = Effect.fnUntraced(function*(pid: number) {
    const identity = yield* host.identify(pid)
    const attributes = yield* host.attributes(pid)
    if (Option.isNone(identity) || Option.isNone(attributes) || !(yield* host.isTmuxServer(pid))) return undefined
    return { identity: identity.value, attributes: attributes.value }
  })

  const onRecord = Effect.fnUntraced(function*() {
    const found = Option.flatMap(yield* Effect.option(files.readText(path)), decodeRecord)
    if (Option.isNone(found) || found.value.socket !== home.socket) return undefined
    return (yield* isAlive(found.value.server)) ? yield* serverAt(found.value.server.pid) : undefined
  })

  /** The home's server; undefined where there is none. */
  const find = Effect.fnUntraced(function*(): Effect.fn.Return<
    Server | undefined,
    OtherNamespace | ServerNotVisible | TmuxError
  > {
    const socket = yield* Effect.option(files.inspect(home.socket))
    if (Option.isSome(socket) && socket.value === undefined) return undefined
    if (last !== undefined && (yield* isAlive(last.identity))) return last
    const recorded = yield* onRecord()
    if (recorded !== undefined) return recorded
    const pid = yield* tmux.server(home.socket).pid.pipe(
      Effect.catchIf((error) => error instanceof TmuxNoServer, () => Effect.succeed(undefined))
    )
    if (pid === undefined) return undefined
    return (yield* serverAt(pid)) ?? (yield* new ServerNotVisible({ socket: home.socket, serverPid: pid }))
  })

  /** A record that can't be written costs the next deployment a query of tmux, and nothing else. */
  const record = Effect.fnUntraced(function*(server: ProcessIdentity) {
    const content = yield* encodeRecord({ socket: home.socket, server })
    const before = yield* Effect.option(files.readText(path))
    if (Option.isNone(before) || before.value !== content) yield* files.replaceFile(path, content, 0o600)
  })

  const confirm = (placedOn: Server | undefined, base: Attributes.Attributes) =>
    Effect.fnUntraced(function*(serverPid: number): Effect.fn.Return<void, ServerReplaced> {
      if (placedOn?.identity.pid === serverPid && last === placedOn) return
      const found = yield* serverAt(serverPid)
      // It has ended meanwhile, with the session: the wait for the agent finds out.
      if (found === undefined) return
      if (!Attributes.isSame(base, found.attributes)) return yield* new ServerReplaced({ serverPid })
      last = found
      yield* Effect.ignore(record(found.identity))
    })

  const place = Effect.fn("Placement.place")(function*(
    openFiles: number | undefined,
    programs: Programs
  ): Effect.fn.Return<Placed, PlacementError | TmuxError> {
    if (Option.isNone(own)) return { carried: Attributes.nothing, confirm: () => Effect.void }
    const caller = Attributes.withOpenFiles(own.value, openFiles)
    const server = yield* find()
    if (server !== undefined) {
      const namespaces = Attributes.otherNamespaces(own.value, server.attributes)
      const serverPid = server.identity.pid
      if (namespaces.length > 0) return yield* new OtherNamespace({ socket: home.socket, serverPid, namespaces })
    }
    // A server that this process starts has the attributes of this process.
    const base = server?.attributes ?? own.value
    return {
      carried: yield* carried(caller, base, server?.identity.pid ?? host.self.pid, programs),
      confirm: confirm(server, base)
    }
  })

  return { place }
})

const carried = Effect.fnUntraced(function*(
  caller: Attributes.Attributes,
  server: Attributes.Attributes,
  serverPid: number,
  programs: Programs
) {
  const found = yield* Effect.mapError(
    Effect.fromResult(Attributes.carry(caller, server)),
    (refused) => new AttributeRefused({ ...refused, serverPid })
  )
  for (const { isNeeded, program, purpose } of needs) {
    if (isNeeded(found) && programs[program] === undefined) return yield* new ProgramMissing({ program, purpose })
  }
  return found
})

const needs = [
  { program: "prlimit", purpose: "set the caller's resource limits", isNeeded: ({ limits }) => limits.length > 0 },
  { program: "nice", purpose: "set the caller's nice value", isNeeded: ({ niceBy }) => niceBy !== 0 },
  { program: "taskset", purpose: "set the caller's CPUs", isNeeded: ({ cpus }) => cpus !== undefined }
] as const satisfies ReadonlyArray<{
  readonly program: keyof Programs
  readonly purpose: string
  readonly isNeeded: (carried: Attributes.Carried) => boolean
}>
