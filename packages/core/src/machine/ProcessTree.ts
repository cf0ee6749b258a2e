/**
 * Finds the processes of an agent and ends them, and answers `Dead` only with proof.
 *
 * A member of an agent bears its id in the environment, descends from a member (the launcher is one), or is in a
 * session or process group that a member leads. `processes/Membership` gives the exact rule. Neither this program nor
 * its ancestors nor an excluded pid is ever a member.
 *
 * Guarantees: a signal is sent in the same synchronous turn in which pid and start time were confirmed; a process that
 * took over a pid is left alone. `terminate` never fails, ends within its limit (plus one scan of the table), and can
 * be interrupted between its rounds. It answers `Dead` only after clean scans and a proof for each group. EPERM means
 * alive, a zombie is dead, and what cannot be decided is `Unknown`.
 *
 * Not promised: to find a program that leaves its session, and also wipes or hides its environment after its parents
 * have ended; or one of another user that descends from no process of the agent. macOS shows no foreign environment.
 * There only the stored identities and what is tied to them are found, and more answers are `Unknown`.
 */
import { Context, Duration, Effect, Layer, Schema } from "effect"
import type { ProcessIdentity } from "./Host.ts"
import { members, type Membership, type MembershipOptions, scan, tickSeconds } from "./processes/Membership.ts"
import * as ProcFs from "./processes/ProcFs.ts"
import * as PsTable from "./processes/PsTable.ts"
import type { ProcessStat, System } from "./processes/System.ts"
import { terminate, type TerminateOptions, type TerminateResult } from "./processes/Terminate.ts"

export type { Membership, MembershipOptions } from "./processes/Membership.ts"
export { type TerminateOptions, TerminateResult } from "./processes/Terminate.ts"

/** The process table cannot be listed, so nothing can be said about any process. */
export class ProcessTableUnreadable extends Schema.TaggedError<ProcessTableUnreadable>()("ProcessTableUnreadable", {
  reason: Schema.String
}) {
  override get message(): string {
    return `The process table cannot be read (${this.reason}). Mount /proc, or allow this user to run ps, and try again.`
  }
}

/** A process whose environment names an agent. */
export interface Bearer extends ProcessIdentity {
  readonly agentId: string
  readonly homeId: string | undefined
  /** The directory of that home; an agent's launcher does not have it. */
  readonly home?: string | undefined
}

/** One scan of the process table, which serves any number of agents. */
export interface ProcessSnapshot {
  /** The living members of an agent, and the processes that may be members and can't be read. */
  readonly members: (options: MembershipOptions) => Membership
  /**
   * Whether the scan also read all processes born meanwhile; if not, a chain of short-lived processes may be missing.
   */
  readonly complete: boolean
  /** Every living process that bears an agent's id, of any home; a reaper finds strays by it. */
  readonly bearers: ReadonlyArray<Bearer>
}

/** Whether a pid belongs to an agent, by the mark in its environment. */
export type Bearing =
  | { readonly _tag: "Ours"; readonly identity: ProcessIdentity }
  | { readonly _tag: "Gone" }
  | { readonly _tag: "Stranger" }

/** A process that was made for the agent: by whom, and since when, in seconds on the boot clock. */
export interface Birth {
  readonly parent: number
  readonly since: number
}

/** Process proof as a service: finding the processes of agents, and ending them. */
export class ProcessTree extends Context.Service<ProcessTree, {
  /**
   * Says whether the process with this pid is the agent's. A process that was only just forked has its mark after its
   * exec, which may take a while on a busy machine. Unless it is known by its birth, `patience` bounds the wait for
   * that. Where no environment can be read, a living process is taken for the agent's.
   */
  readonly identify: (
    pid: number,
    agentId: string,
    patience: Duration.Duration,
    birth?: Birth
  ) => Effect.Effect<Bearing>
  /** Scans the process table once. */
  readonly snapshot: Effect.Effect<ProcessSnapshot, ProcessTableUnreadable>
  /** Ends all members of an agent and proves it, or names the processes that live. */
  readonly terminate: (options: TerminateOptions) => Effect.Effect<TerminateResult>
}>()("@slipway/core/ProcessTree") {
  /** The service over a given operating system; tests hand in one of their own. */
  static readonly make = (system: System): ProcessTree["Service"] =>
    ProcessTree.of({
      identify: (pid, agentId, patience, birth) => identify(system, pid, agentId, Duration.toMillis(patience), birth),
      snapshot: snapshot(system),
      terminate: (options) => terminate(system, options)
    })

  /** The service over this machine: /proc where there is one, else ps. */
  static readonly layer = Layer.sync(
    ProcessTree,
    () => ProcessTree.make(process.platform === "linux" ? ProcFs.system() : PsTable.system())
  )
}

const mostRetries = 10

// In another pid namespace the same pid is another process, with another parent or an older one.
const isBornSo = (system: System, now: ProcessStat, { parent, since }: Birth): boolean =>
  now.ppid === parent && system.seconds(now.start) >= since - tickSeconds

const identify = Effect.fnUntraced(function*(
  system: System,
  pid: number,
  agentId: string,
  patienceMillis: number,
  birth: Birth | undefined
): Effect.fn.Return<Bearing> {
  for (let waited = 0, pause = 1; waited <= patienceMillis; waited += pause, pause = Math.min(pause * 2, 20)) {
    const now = system.stat(pid)
    if (now === "gone" || (now !== "unreadable" && now.zombie)) return { _tag: "Gone" }
    if (now !== "unreadable") {
      if (birth !== undefined && isBornSo(system, now, birth)) {
        return { _tag: "Ours", identity: { pid, start: now.start } }
      }
      const environ = system.environ(pid)
      const marked = environ._tag === "Read" && environ.agentId === agentId
      if (marked || !system.environments) return { _tag: "Ours", identity: { pid, start: now.start } }
    }
    yield* Effect.sleep(pause)
  }
  return { _tag: "Stranger" }
})

const snapshot = Effect.fnUntraced(
  function*(system: System): Effect.fn.Return<ProcessSnapshot, ProcessTableUnreadable> {
    let look = scan(system)
    // An exec shows an empty environment for a moment, and among many births some stay unread: that is no answer yet.
    for (
      let attempt = 0;
      attempt < mostRetries && "entries" in look && (look.execing > 0 || !look.complete);
      attempt++
    ) {
      yield* Effect.sleep("1 millis")
      look = scan(system)
    }
    if ("blind" in look) return yield* new ProcessTableUnreadable({ reason: look.blind })
    const { complete, entries } = look
    return {
      complete,
      members: (options) => members(system, entries, options),
      bearers: Array.from(entries.values()).flatMap(({ environ, pid, start, zombie }) =>
        zombie || environ._tag !== "Read" || environ.agentId === undefined
          ? []
          : [{
            pid,
            start,
            agentId: environ.agentId,
            homeId: environ.homeId,
            ...(environ.home === undefined ? {} : { home: environ.home })
          }]
      )
    }
  }
)
