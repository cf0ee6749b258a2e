/**
 * Ends the members of an agent in rounds of scan, signal and wait, and proves the end.
 *
 * First every member but the spared ones gets TERM, once, and has the grace to end. A member that appears after those
 * have ended gets its own. Then comes KILL: for all but the spared, so that a launcher can still record the exit, and
 * after a moment for them too. A group that is known to be the agent's gets KILL as a whole, which no chain of forks
 * outruns.
 *
 * `Dead` needs clean scans in a row: two when they are complete, a dozen when births went unread. A chain that leaves
 * its group at every step can slip through a single one. For each group of the agent it also needs the answer ESRCH, or
 * a row for each of its processes that says zombie. Every round is synchronous from scan to signal. Between rounds the
 * fiber sleeps and can be interrupted, which leaves the agent as it then is. Past its limit it scans once more and
 * answers. It never fails.
 */
import { Clock, Duration, Effect, Schema } from "effect"
import { ProcessIdentity } from "../Host.ts"
import {
  earliestOf,
  type Entry,
  keyOf,
  type Member,
  type MembershipOptions,
  resolve,
  type Resolved,
  scan
} from "./Membership.ts"
import type { System } from "./System.ts"

/** Nothing of the agent is left: how many got a KILL, and how many any signal at all. */
export const Dead = Schema.TaggedStruct("Dead", { killed: Schema.Int, signalled: Schema.Int })
/** How many got a KILL, where the end is not proven; absent where none did. */
const killed = { killed: Schema.optionalKey(Schema.Int) }
/** These still lived when the limit was reached. */
export const Survivors = Schema.TaggedStruct("Survivors", { processes: Schema.Array(ProcessIdentity), ...killed })
/** Whether anything is left could not be determined; ask again later. */
export const Unknown = Schema.TaggedStruct("Unknown", { reason: Schema.String, ...killed })

/** The answer of `terminate`, as it is also stored. */
export const TerminateResult = Schema.Union([Dead, Survivors, Unknown]).pipe(Schema.toTaggedUnion("_tag"))
export type TerminateResult = typeof TerminateResult.Type

/** Why it can't be said that nothing of an agent is left. */
export const doubtOf = (pids: ReadonlyArray<number>, agentId: string): string =>
  pids.length === 1
    ? `process ${pids[0]} of this user may belong to ${agentId} and does not show whether it does`
    : `processes ${pids.join(", ")} of this user may belong to ${agentId} and do not show whether they do`

/** What to end, and how much time that may take. */
export interface TerminateOptions extends MembershipOptions {
  /** Processes that get no TERM, and KILL only in the last rounds: the launcher, which records the exit. */
  readonly spare?: ReadonlyArray<ProcessIdentity> | undefined
  /** How long members may take to end after TERM. */
  readonly grace: Duration.Input
  /** The bound of the whole call; the last part of it (a second, at most half) belongs to KILL whatever the grace is. */
  readonly limit: Duration.Input
}

/**
 * How many clean scans in a row prove the end. A scan that has read all births gets a second one, because a pid is
 * counted a moment before its process can be seen. Where births went unread a chain may have slipped through, and where
 * a process was unreadable it may show itself yet. Without environments more scans would show no more.
 */
const cleanLooks = (system: System, sight: Sight): number =>
  sight.doubtful.length > 0 ? 12 : sight.complete ? 2 : system.environments ? 12 : 3

/** How many times in a row the table may be unreadable before nothing more is tried. */
const mostBlindLooks = 10

/** How long the spared live on after KILL went to the others. */
const spareMillis = 250

/** How long a round waits for what it killed before it scans and kills again. */
const roundMillis = 100

/** How long a round waits for the spared alone, which record an exit in a moment, before it scans again. */
const sparedMillis = 20

/** The pauses between two polls, which cost one read per process; without a /proc a read costs a child process. */
const pauses = (system: System) => system.environments ? { first: 1, longest: 20 } : { first: 50, longest: 200 }

/** A scan with what it takes to prove a group dead. */
interface Sight extends Resolved {
  readonly entries: ReadonlyMap<number, Entry>
  readonly complete: boolean
}

/** All state of one call; its methods are synchronous, so a signal goes out in the turn of its confirmation. */
const hunt = (system: System, options: TerminateOptions) => {
  const { agentId, exclude, homeId, roots, since, spare = [] } = options
  const spared = new Set(spare.map(keyOf))
  const known = new Map<string, ProcessIdentity>(roots.map((root) => [keyOf(root), root]))
  const living = new Set<string>()
  const confirmed = new Set<number>()
  // Members that are found later stand among the roots, and what is older than they are may be the agent's all the same.
  const begun = since ?? earliestOf(system, roots)
  const shared = new Set<number>()
  const doubted = new Set<string>()
  const groups = new Set<number>()
  const signalled = new Set<string>()
  const killed = new Set<string>()
  let looks = 0
  let rootSeen = false
  let earlier: ReadonlyMap<number, Entry> = new Map()

  const look = (): Sight | { readonly blind: string } => {
    const seen = scan(system, earlier)
    if ("blind" in seen) return seen
    earlier = seen.entries
    const { entries } = seen
    // A member stays one by its identity, whatever it does to its environment and whichever process becomes its parent.
    const resolved = resolve(
      system,
      entries,
      { agentId, homeId, exclude, since: begun, roots: Array.from(known.values()) },
      { confirmed, shared, doubted }
    )
    looks++
    living.clear()
    for (const member of resolved.members) {
      const key = keyOf(member)
      if (looks === 1 && known.has(key)) rootSeen = true
      known.set(key, { pid: member.pid, start: member.start })
      living.add(key)
      confirmed.add(member.pid)
      shared.add(member.sid).add(member.pgid)
    }
    for (const pid of resolved.doubtful) {
      const entry = entries.get(pid)
      if (entry !== undefined) doubted.add(keyOf(entry))
    }
    for (const group of resolved.groups) groups.add(group)
    // A pid that neither lives nor leads anything may be given out anew, and then proves nothing.
    const held = new Set(Array.from(entries.values(), (entry) => [entry.pgid, entry.sid]).flat())
    for (const pid of confirmed) {
      const entry = entries.get(pid)
      if (entry === undefined ? !held.has(pid) : !known.has(keyOf(entry))) confirmed.delete(pid)
    }
    return { ...resolved, entries, complete: seen.complete }
  }

  /** Scans, and sends the signal to every member that is confirmed again right before. */
  const strike = (signal: "SIGTERM" | "SIGKILL", reach: "all" | "others"): Sight | { readonly blind: string } => {
    const sight = look()
    if ("blind" in sight) return sight
    const isSpared = (member: Member) => reach === "others" && spared.has(keyOf(member))
    const confirm = (member: Member) => {
      const now = system.stat(member.pid)
      return typeof now !== "string" && now.start === member.start ? now : undefined
    }
    const note = (member: Member) => {
      signalled.add(keyOf(member))
      if (signal === "SIGKILL") killed.add(keyOf(member))
    }
    for (const group of signal === "SIGKILL" ? sight.groups : []) {
      const inside = sight.members.filter((member) => member.pgid === group)
      // While one confirmed process is in the group, its id cannot belong to another one.
      if (inside.some(isSpared) || !inside.some((member) => confirm(member)?.pgid === group)) continue
      if (system.kill(-group, signal) === "sent") inside.forEach(note)
    }
    for (const member of sight.members) {
      if (isSpared(member) || (signal === "SIGTERM" && signalled.has(keyOf(member)))) continue
      const now = confirm(member)
      if (now === undefined || now.zombie) continue
      if (system.kill(member.pid, signal) !== "sent") continue
      note(member)
      // A stopped process takes a TERM only once it goes on.
      if (signal === "SIGTERM" && now.state === "T") system.kill(member.pid, "SIGCONT")
    }
    return sight
  }

  /** Reads again which processes of the last scan live. */
  const poll = (): "all-gone" | "spared-only" | "others" => {
    for (const key of living) {
      const identity = known.get(key)
      const now = identity === undefined ? "gone" : system.stat(identity.pid)
      if (now === "gone" || (now !== "unreadable" && (now.zombie || now.start !== identity?.start))) living.delete(key)
    }
    return living.size === 0
      ? "all-gone"
      : Array.from(living).every((key) => spared.has(key))
      ? "spared-only"
      : "others"
  }

  /**
   * Whether no process lives in any group that was the agent's, by the kernel's own word or by the rows of what is left
   * in it.
   */
  const groupsAreDead = (sight: Sight): boolean => {
    const rows = Array.from(sight.entries.values())
    for (const group of groups) {
      if (system.kill(-group, 0) === "gone") groups.delete(group)
      // This scan has no members in it, so rows mean zombies, or strangers to whom the id was given out anew.
      else if (!rows.some((row) => row.pgid === group)) return false
    }
    return true
  }

  const soFar = () => killed.size === 0 ? {} : { killed: killed.size }

  const verdict = (sight: Sight): TerminateResult => {
    if (sight.doubtful.length > 0) {
      return Unknown.make({ ...soFar(), reason: doubtOf(sight.doubtful, agentId) })
    }
    if (!system.environments && roots.length > 0 && !rootSeen) {
      return Unknown.make({
        ...soFar(),
        reason: `the launcher of ${agentId} had ended before, and this system does not show what else it started`
      })
    }
    return Dead.make({ killed: killed.size, signalled: signalled.size })
  }

  return { strike, poll, groupsAreDead, verdict, soFar }
}

/** Ends all members of an agent; the contract stands in `ProcessTree`. */
export const terminate = Effect.fn("ProcessTree.terminate")(
  function*(system: System, options: TerminateOptions): Effect.fn.Return<TerminateResult> {
    const prey = hunt(system, options)
    const { first, longest } = pauses(system)
    const begin = yield* Clock.monotonicTimeNanos
    const elapsed = Effect.map(Clock.monotonicTimeNanos, (now) => Number(now - begin) / 1e6)
    const limit = Duration.toMillis(options.limit)
    const reserve = Math.min(1000, limit / 2)
    const graceEnds = Math.min(Duration.toMillis(options.grace), limit - reserve)
    const spareEnds = Math.min(graceEnds + spareMillis, limit - reserve / 2)

    let pause = first
    const rest = Effect.suspend(() => {
      const sleep = Effect.sleep(pause)
      // Slowly: what ends at TERM does so within milliseconds, most of which a pause that doubles would sleep through.
      pause = Math.min(pause * 1.25, longest)
      return sleep
    })

    let clean = 0
    let blindLooks = 0
    while (true) {
      const at = yield* elapsed
      const over = at >= limit
      const sight = at < graceEnds
        ? prey.strike("SIGTERM", "others")
        : prey.strike("SIGKILL", at < spareEnds ? "others" : "all")

      if ("blind" in sight) {
        clean = 0
        if (over || ++blindLooks >= mostBlindLooks) {
          return Unknown.make({ ...prey.soFar(), reason: `the process table cannot be read (${sight.blind})` })
        }
        yield* rest
        continue
      }
      blindLooks = 0

      if (sight.members.length === 0) {
        clean = prey.groupsAreDead(sight) ? clean + 1 : 0
        if (clean >= cleanLooks(system, sight)) return prey.verdict(sight)
        if (over) {
          return Unknown.make({
            ...prey.soFar(),
            reason: `the time was over before the end of all processes of ${options.agentId} was proven`
          })
        }
        yield* Effect.sleep(first)
        continue
      }

      clean = 0
      if (over) {
        return Survivors.make({ ...prey.soFar(), processes: sight.members.map(({ pid, start }) => ({ pid, start })) })
      }
      const until = at < graceEnds ? graceEnds : Math.min(at + roundMillis, limit)
      pause = first
      for (let left = prey.poll(), aloneUntil = Infinity; left !== "all-gone"; left = prey.poll()) {
        const now = yield* elapsed
        // Others may have left heirs, and a launcher may be starting what no scan has shown yet: the next scan is soon.
        if (left === "spared-only") aloneUntil = Math.min(aloneUntil, now + sparedMillis)
        if (now >= Math.min(until, aloneUntil)) break
        yield* rest
      }
    }
  }
)
