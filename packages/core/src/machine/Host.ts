/**
 * Says which machine, boot and pid namespace this program runs in, who it is, and whether a process that was recorded
 * earlier still lives.
 *
 * A pid alone identifies no process: it comes with its start time, and where it is stored also with boot and pid
 * namespace. The probe reads once, never waits, never fails, and answers `unknown` where it cannot read. It assesses only
 * processes of this host identity: compare `HostIdentity` before asking about a stored one.
 */
import { Context, Effect, Layer, Option, Schema } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Attributes from "./processes/Attributes.ts"
import * as ProcFs from "./processes/ProcFs.ts"
import * as PsTable from "./processes/PsTable.ts"
import type { SignalResult, System } from "./processes/System.ts"
import * as TmuxServers from "./processes/TmuxServers.ts"

/** Where a pid means something: a machine, one boot of it, and one pid namespace. */
export const HostIdentity = Schema.Struct({
  machine: Schema.String,
  boot: Schema.String,
  pidNamespace: Schema.String
})
export type HostIdentity = typeof HostIdentity.Type

/** A process for as long as its host is up: the pid, and the start time as the system writes it. */
export const ProcessIdentity = Schema.Struct({
  pid: Schema.Int,
  start: Schema.String
})
export type ProcessIdentity = typeof ProcessIdentity.Type

/** Whether two records name the same boot and pid namespace of the same machine. */
export const sameHost = (a: HostIdentity, b: HostIdentity): boolean =>
  a.machine === b.machine && a.boot === b.boot && a.pidNamespace === b.pidNamespace

/** What a probe of a process answers. */
export type Liveness = "alive" | "dead" | "unknown"

const readLine = (path: string): string | undefined => {
  try {
    return Fs.readFileSync(path, "utf8").trim() || undefined
  } catch {
    return undefined
  }
}

const readLink = (path: string): string | undefined => {
  try {
    return Fs.readlinkSync(path)
  } catch {
    return undefined
  }
}

const askSysctl = (name: string): string | undefined => {
  const child = spawnSync("sysctl", ["-n", name], {
    encoding: "utf8",
    timeout: 2000,
    killSignal: "SIGKILL",
    env: { PATH: "/usr/sbin:/sbin:/usr/bin:/bin" },
    stdio: ["ignore", "pipe", "ignore"]
  })
  return child.error === undefined && child.status === 0 ? child.stdout.trim() || undefined : undefined
}

/**
 * Stands in for a boot id where the system has none to show: the start of process 1, which is the same for everyone who
 * asks during one boot. The time of boot derived from a clock would drift with the clock.
 */
const derivedBoot = (system: System): string => {
  const first = system.stat(1)
  return typeof first === "string" ? "boot-unknown" : `init-${first.start.replaceAll(" ", "_")}`
}

const linuxIdentity = (system: System): HostIdentity => ({
  machine: readLine("/etc/machine-id") ?? Os.hostname(),
  boot: readLine("/proc/sys/kernel/random/boot_id") ?? derivedBoot(system),
  pidNamespace: readLink("/proc/self/ns/pid") ?? "unknown"
})

const darwinIdentity = (system: System): HostIdentity => ({
  machine: readLine("/etc/machine-id") ?? askSysctl("kern.uuid") ?? Os.hostname(),
  boot: askSysctl("kern.bootsessionuuid") ?? derivedBoot(system),
  pidNamespace: "host"
})

/**
 * /proc/uptime has hundredths and, unlike the wall clock, can't be set; `os.uptime` is the same where there is none.
 */
const bootClock = Effect.sync(() => {
  const uptime = Number(readLine("/proc/uptime")?.split(" ")[0])
  return Number.isFinite(uptime) ? uptime : Os.uptime()
})

const probe = (system: System, process: ProcessIdentity): Liveness => {
  // 0 and negative numbers are groups to kill(2), and a record without a start time identifies no process.
  if (process.pid < 1 || process.start === "") return "unknown"
  const now = system.stat(process.pid)
  // A row may be hidden from this user (hidepid) while the process lives; then the kernel says so, but not who it is.
  if (typeof now === "string") return system.kill(process.pid, 0) === "gone" ? "dead" : "unknown"
  return now.start === process.start && !now.zombie ? "alive" : "dead"
}

/** What a host is made of beside its processes; by default this machine's, without the attributes of processes. */
export interface HostParts {
  readonly attributes?: ((pid: number) => Attributes.Attributes | undefined) | undefined
  /** Seconds since the machine started. */
  readonly bootClock?: Effect.Effect<number> | undefined
  readonly servers?: TmuxServers.TmuxServers | undefined
}

/** This machine, this program, and the life of other programs on it. */
export class Host extends Context.Service<Host, {
  readonly identity: HostIdentity
  readonly self: ProcessIdentity
  /** Seconds since this machine started, on a clock that can't be set. */
  readonly bootClock: Effect.Effect<number>
  /** Whether the recorded process lives: another start time is another process, and a zombie is dead. */
  readonly probe: (process: ProcessIdentity) => Effect.Effect<Liveness>
  /** The identity of the process that has this pid now; none when it has ended or can't be read. */
  readonly identify: (pid: number) => Effect.Effect<Option.Option<ProcessIdentity>>
  /** What the process with this pid hands on to its children; none where the system does not show it. */
  readonly attributes: (pid: number) => Effect.Effect<Option.Option<Attributes.Attributes>>
  /** Whether the process with this pid is a tmux server, by its name. */
  readonly isTmuxServer: (pid: number) => Effect.Effect<boolean>
  /** The tmux servers that were started on a socket, also one that no client reaches any more. */
  readonly tmuxServersOn: (socket: string) => Effect.Effect<ReadonlyArray<TmuxServers.ServerProcess>>
  /** Ends such a server by TERM, unless it is another process by now or has become busy; confirmed in the same turn. */
  readonly endTmuxServer: (server: TmuxServers.ServerProcess, socket: string) => Effect.Effect<SignalResult>
}>()("@slipway/core/Host") {
  /** The service over a given operating system and identity; tests hand in their own, and a clock. */
  static readonly make = (system: System, identity: HostIdentity, parts: HostParts = {}): Host["Service"] => {
    const { attributes = () => undefined, servers = TmuxServers.ofThisMachine } = parts
    const own = system.stat(system.self)
    return Host.of({
      identity,
      self: { pid: system.self, start: typeof own === "string" ? "" : own.start },
      bootClock: parts.bootClock ?? bootClock,
      probe: (process) => Effect.sync(() => probe(system, process)),
      identify: (pid) =>
        Effect.sync(() => {
          const now = system.stat(pid)
          return typeof now === "string" || now.zombie ? Option.none() : Option.some({ pid, start: now.start })
        }),
      attributes: (pid) => Effect.sync(() => Option.fromUndefinedOr(attributes(pid))),
      isTmuxServer: (pid) => Effect.sync(() => servers.isTmux(pid)),
      tmuxServersOn: (socket) => Effect.sync(() => servers.startedOn(socket)),
      endTmuxServer: (server, socket) => Effect.sync(() => servers.end(server, socket))
    })
  }

  /** The service over this machine. */
  static readonly layer = Layer.sync(Host, () => {
    const linux = process.platform === "linux"
    const system = linux ? ProcFs.system() : PsTable.system()
    return linux
      ? Host.make(system, linuxIdentity(system), { attributes: Attributes.read })
      : Host.make(system, darwinIdentity(system))
  })
}
