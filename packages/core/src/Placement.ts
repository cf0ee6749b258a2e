/**
 * Where an agent will run: under the home's tmux server, and with what of its caller.
 *
 * Agents are children of the tmux server, so whoever deployed first decides their namespaces, limits, nice value, OOM score and
 * CPUs, unless the launcher is told. `place` finds the server (by the record in the home, else by asking tmux), refuses a
 * deployment that would put its agent into other namespaces than the caller's, or that asks for what the kernel does not
 * allow, and answers with what the launcher has to set. It makes nothing, and takes well under a millisecond where
 * the record is true. Where no process can be read as /proc shows it (macOS), nothing is carried.
 *
 * `confirm` looks at the server again once the session is there: it may have been started anew meanwhile by a caller
 * with other attributes.
 */
import { Tmux, type TmuxError, TmuxNoServer } from "@slipway/tmux"
import { Effect, Option, Schema } from "effect"
import * as Path from "node:path"
import { Files } from "./Files.ts"
import { Home } from "./Home.ts"
import { Host, ProcessIdentity } from "./Host.ts"
import type { Programs } from "./Launcher.ts"
import * as Attributes from "./processes/Attributes.ts"

const remedy = "deploy from where that server runs, or give another home with --home or SLIPWAY_HOME; " +
  "or stop the agents of this home, end the server, and deploy again"

/** The home's tmux server runs in other namespaces, so that an agent would have another network, other files, or other pids. */
export class OtherNamespace extends Schema.TaggedError<OtherNamespace>()("OtherNamespace", {
  socket: Schema.String,
  serverPid: Schema.Int,
  /** As in /proc/PID/ns. */
  namespaces: Schema.Array(Schema.String)
}) {
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
  override get message() {
    return `the caller's ${this.attribute} is ${this.wanted}, and the kernel allows a child of this home's tmux server ` +
      `(process ${this.serverPid}) ${this.allowed}: whoever started that server had less; lower it here, or stop the agents ` +
      "of this home, end the server, and deploy again"
  }
}

/** A program that the launcher needs in order to set an attribute of the caller is missing. */
export class ProgramMissing extends Schema.TaggedError<ProgramMissing>()("ProgramMissing", {
  program: Schema.String,
  purpose: Schema.String
}) {
  override get message() {
    return `the program ${this.program} is missing, which is needed to ${this.purpose}; install util-linux and coreutils`
  }
}

/** The tmux server was started anew, by a caller with other attributes, while the deployment was under way. */
export class ServerReplaced extends Schema.TaggedError<ServerReplaced>()("ServerReplaced", {
  serverPid: Schema.Int
}) {
  override get message() {
    return `the tmux server of this home was started anew (process ${this.serverPid}) while the agent was being deployed, ` +
      "by a caller with other limits or namespaces; try again"
  }
}

export const PlacementError = Schema.Union([OtherNamespace, ServerNotVisible, AttributeRefused, ProgramMissing])
export type PlacementError = typeof PlacementError.Type

export interface Placement {
  readonly carried: Attributes.Carried
  /** The attributes that the launcher starts with, if they can be known. */
  readonly base: Attributes.Attributes | undefined
}

const Record = Schema.Struct({ socket: Schema.String, server: ProcessIdentity })
const decodeRecord = Schema.decodeUnknownOption(Schema.fromJsonString(Record))
const encodeRecord = Schema.encodeEffect(Schema.fromJsonString(Record))

const recordOf = (home: Home["Service"]): string => Path.join(home.directory, "tmux-server.json")

const recorded = Effect.fnUntraced(function*() {
  const files = yield* Files
  const home = yield* Home
  const host = yield* Host
  const found = Option.flatMap(yield* Effect.option(files.readText(recordOf(home))), decodeRecord)
  if (Option.isNone(found) || found.value.socket !== home.socket) return Option.none()
  return (yield* host.probe(found.value.server)) === "alive" ? Option.some(found.value.server.pid) : Option.none()
})

/** The pid that the home's server has in its own pid namespace; none where there is no server. */
const serverPid = Effect.fnUntraced(function*(): Effect.fn.Return<
  Option.Option<number>,
  TmuxError,
  Files | Home | Host | Tmux
> {
  const files = yield* Files
  const home = yield* Home
  const socket = yield* Effect.option(files.inspect(home.socket))
  if (Option.isSome(socket) && socket.value === undefined) return Option.none()
  const known = yield* recorded()
  if (Option.isSome(known)) return known
  const tmux = yield* Tmux
  return yield* tmux.server(home.socket).pid.pipe(
    Effect.map(Option.some),
    Effect.catchIf((error) => error instanceof TmuxNoServer, () => Effect.succeedNone)
  )
})

/**
 * Where an agent of this process will run. `openFiles` is the soft limit of open files that this process had before Node
 * raised it at its start, where that is known.
 */
export const place = Effect.fn("Placement.place")(function*(
  openFiles: number | undefined,
  programs: Programs
): Effect.fn.Return<Placement, PlacementError | TmuxError, Files | Home | Host | Tmux> {
  const home = yield* Home
  const host = yield* Host
  const own = yield* host.attributes(host.self.pid)
  if (Option.isNone(own)) return { carried: Attributes.nothing, base: undefined }
  const caller = Attributes.withOpenFiles(own.value, openFiles)
  const pid = yield* serverPid()
  // A server that this process starts has the attributes of this process.
  if (Option.isNone(pid)) {
    return { carried: yield* carried(caller, own.value, host.self.pid, programs), base: own.value }
  }
  const server = yield* host.attributes(pid.value)
  if (Option.isNone(server) || !(yield* host.isTmuxServer(pid.value))) {
    return yield* new ServerNotVisible({ socket: home.socket, serverPid: pid.value })
  }
  const namespaces = Attributes.otherNamespaces(own.value, server.value)
  if (namespaces.length > 0) {
    return yield* new OtherNamespace({ socket: home.socket, serverPid: pid.value, namespaces })
  }
  return { carried: yield* carried(caller, server.value, pid.value, programs), base: server.value }
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

/** Fails when the server is another one than the deployment was placed on; records it where it is not on record. */
export const confirm = Effect.fn("Placement.confirm")(function*(
  { base }: Placement,
  serverPid: number
): Effect.fn.Return<void, ServerReplaced, Files | Home | Host> {
  const host = yield* Host
  const found = yield* host.attributes(serverPid)
  if (base === undefined || Option.isNone(found)) return
  if (!Attributes.isSame(base, found.value)) return yield* new ServerReplaced({ serverPid })
  const known = yield* recorded()
  if (Option.isSome(known) && known.value === serverPid) return
  const server = yield* host.identify(serverPid)
  if (Option.isSome(server)) yield* Effect.ignore(record(server.value))
})

/** A record that can't be written costs the next deployment a question to tmux, and nothing else. */
const record = Effect.fnUntraced(function*(server: ProcessIdentity) {
  const files = yield* Files
  const home = yield* Home
  yield* files.replaceFile(recordOf(home), yield* encodeRecord({ socket: home.socket, server }), 0o600)
})
