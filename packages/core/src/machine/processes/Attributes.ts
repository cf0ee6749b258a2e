/**
 * What a process hands on to its children beside its environment: resource limits, nice value, OOM score adjustment,
 * CPU affinity, and namespaces.
 *
 * An agent is a child of the home's tmux server, which has the attributes of the process that started it. So the
 * caller's attributes are compared with the server's. What differs travels with the launcher (`carry`), or the
 * deployment is refused with the reason. Locks are left out on purpose: that limit has had no effect since Linux
 * 2.4.25.
 *
 * `read` takes about 0.1 ms, never fails, and answers nothing where /proc does not show a process. `carry` is pure.
 */
import { Result } from "effect"
import * as Proc from "./Proc.ts"

/** Resource limits as /proc/PID/limits names them, and as prlimit(1) does. */
const resources = {
  cpu: "Max cpu time",
  fsize: "Max file size",
  data: "Max data size",
  stack: "Max stack size",
  core: "Max core file size",
  rss: "Max resident set",
  nproc: "Max processes",
  nofile: "Max open files",
  memlock: "Max locked memory",
  as: "Max address space",
  sigpending: "Max pending signals",
  msgqueue: "Max msgqueue size",
  nice: "Max nice priority",
  rtprio: "Max realtime priority",
  rttime: "Max realtime timeout"
} as const
export type ResourceName = keyof typeof resources

const resourceNames = Object.keys(resources).filter((name): name is ResourceName => name in resources)

/** What stands for no limit, as in the kernel. */
export const unlimited = 2n ** 64n - 1n

export interface ResourceLimit {
  readonly soft: bigint
  readonly hard: bigint
}

/** The namespaces that a child of the tmux server is in, whichever process asked for it. */
export const namespaceNames = ["net", "mnt", "user", "ipc", "uts", "pid"] as const
export type NamespaceName = (typeof namespaceNames)[number]

export interface Attributes {
  readonly limits: Readonly<Partial<Record<ResourceName, ResourceLimit>>>
  readonly nice: number
  readonly oomScoreAdj: number
  /** As in `0-3,8`. */
  readonly cpus: string
  /** The effective capabilities, as a bit mask. */
  readonly capabilities: bigint
  /** Those that this user may see. */
  readonly namespaces: Readonly<Partial<Record<NamespaceName, string>>>
}

const amount = (text: string): bigint => text === "unlimited" ? unlimited : BigInt(text)

/** Reads the text of /proc/PID/limits; a line that is not understood is passed over. */
export const parseLimits = (text: string): Attributes["limits"] =>
  Object.fromEntries(
    text.split("\n").flatMap((line) => {
      const name = resourceNames.find((name) => line.startsWith(`${resources[name]} `))
      const match = /^\s+(\d+|unlimited)\s+(\d+|unlimited)(?:\s|$)/.exec(line.slice(resources[name ?? "cpu"].length))
      return name === undefined || match === null
        ? []
        : [[name, { soft: amount(match[1] ?? "0"), hard: amount(match[2] ?? "0") }]]
    })
  )

/** The attributes of a process; undefined when it is not there, or when this is no Linux. */
export const read = (pid: number | "self"): Attributes | undefined => {
  const text = (name: string) => Proc.text(`/proc/${pid}/${name}`)
  const [limits, stat, oom, status] = [text("limits"), text("stat"), text("oom_score_adj"), text("status")]
  if (limits === undefined || stat === undefined || oom === undefined || status === undefined) return undefined
  return {
    limits: parseLimits(limits),
    // Field 19; the fields are counted from the end of the name, which may itself hold spaces and parentheses.
    nice: Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[16] ?? 0),
    oomScoreAdj: Number(oom),
    cpus: /^Cpus_allowed_list:\s*(\S+)$/m.exec(status)?.[1] ?? "",
    capabilities: BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? "0"}`),
    namespaces: Object.fromEntries(namespaceNames.flatMap((name) => {
      const link = Proc.link(`/proc/${pid}/ns/${name}`)
      return link === undefined ? [] : [[name, link]]
    }))
  }
}

/** The same, with another soft limit of open files. */
export const withOpenFiles = (attributes: Attributes, soft: number | undefined): Attributes => {
  const { nofile } = attributes.limits
  return soft === undefined || nofile === undefined || BigInt(soft) > nofile.hard
    ? attributes
    : { ...attributes, limits: { ...attributes.limits, nofile: { ...nofile, soft: BigInt(soft) } } }
}

// The kernel's fixed name for the user namespace that a machine starts with.
const initialUserNamespace = "user:[4026531837]"

/**
 * The namespaces of the two that differ. A caller in a user namespace of its own sees those of a process in the same one, so
 * that a process which hides them from it is in another.
 */
export const otherNamespaces = (caller: Attributes, server: Attributes): ReadonlyArray<NamespaceName> =>
  namespaceNames.filter((name) => {
    const [own, other] = [caller.namespaces[name], server.namespaces[name]]
    if (own === undefined) return false
    return other === undefined ? name === "user" && own !== initialUserNamespace : own !== other
  })

/** Whether a child of either process would be the same. */
export const isSame = (a: Attributes, b: Attributes): boolean =>
  otherNamespaces(a, b).length === 0 && a.nice === b.nice && a.oomScoreAdj === b.oomScoreAdj && a.cpus === b.cpus &&
  resourceNames.every((name) =>
    a.limits[name]?.soft === b.limits[name]?.soft && a.limits[name]?.hard === b.limits[name]?.hard
  )

/** What an agent's launcher sets before it starts the agent; all of it is absent where the server has the same. */
export interface Carried {
  /** Limits that differ, but for a soft limit of open files alone. */
  readonly limits: ReadonlyArray<readonly [name: ResourceName, limit: ResourceLimit]>
  /** The soft limit of open files, where nothing else of that limit differs: Node raises its own at its start. */
  readonly openFiles: bigint | undefined
  /** How much higher the nice value is than the server's. */
  readonly niceBy: number
  readonly oomScoreAdj: number | undefined
  readonly cpus: string | undefined
}

export const nothing: Carried = { limits: [], openFiles: undefined, niceBy: 0, oomScoreAdj: undefined, cpus: undefined }

/** An attribute that the kernel does not let a child of the server have. */
export interface Refused {
  readonly attribute: ResourceName | "nice value"
  readonly wanted: string
  readonly allowed: string
}

/** The number of a capability, as in capabilities(7). */
const capSysNice = 23n
const capSysResource = 24n

const has = (attributes: Attributes, capability: bigint): boolean =>
  ((attributes.capabilities >> capability) & 1n) === 1n

export const describeAmount = (value: bigint): string => value === unlimited ? "unlimited" : value.toString()

/** The lowest nice value that a process may give itself: RLIMIT_NICE counts from 20 downwards. */
const lowestNice = ({ limits, nice }: Attributes): number =>
  Math.min(nice, 20 - Number(limits.nice?.soft === unlimited ? 40n : limits.nice?.soft ?? 0n))

/**
 * What has to be set so that a child of the server has the caller's attributes. A hard limit can't be raised without a
 * capability, so it stays as low as the server's is. The deployment is refused only where the soft limit, which is what
 * binds, lies above it.
 */
export const carry = (caller: Attributes, server: Attributes): Result.Result<Carried, Refused> => {
  const mayRaise = has(server, capSysResource)
  const limits: Array<readonly [ResourceName, ResourceLimit]> = []
  let openFiles: bigint | undefined
  for (const name of resourceNames) {
    const [wanted, base] = [caller.limits[name], server.limits[name]]
    if (wanted === undefined || base === undefined) continue
    const hard = mayRaise || wanted.hard < base.hard ? wanted.hard : base.hard
    if (wanted.soft > hard) {
      return Result.fail({
        attribute: name,
        wanted: describeAmount(wanted.soft),
        allowed: describeAmount(hard)
      })
    }
    if (wanted.soft === base.soft && hard === base.hard) continue
    if (name === "nofile" && hard === base.hard) openFiles = wanted.soft
    else limits.push([name, { soft: wanted.soft, hard }])
  }
  if (caller.nice < server.nice && !has(server, capSysNice) && caller.nice < lowestNice(server)) {
    return Result.fail({
      attribute: "nice value",
      wanted: `${caller.nice}`,
      allowed: `${lowestNice(server)} and higher`
    })
  }
  return Result.succeed({
    limits,
    openFiles,
    niceBy: caller.nice - server.nice,
    oomScoreAdj: caller.oomScoreAdj === server.oomScoreAdj ? undefined : caller.oomScoreAdj,
    cpus: caller.cpus === server.cpus ? undefined : caller.cpus
  })
}
