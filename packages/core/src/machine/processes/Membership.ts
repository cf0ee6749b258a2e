/**
 * Decides which processes of one scan of the table belong to an agent.
 *
 * A process is a member when
 * - it bears the agent's id in its environment (`marker`), and no other home's id where a home is asked for;
 * - it is a root, confirmed by start time, or a child of a member (`descent`);
 * - the leader of its session (`session`) or of its process group (`group`) is a member.
 *
 * A session or group whose leader is a stranger is never shared: a member that a test runner started without `setsid`
 * does not pull the runner's other programs in. When the leader is dead it can't be confirmed, and the session is
 * shared only if the leader was the agent's. An earlier scan of the same call may have confirmed it. Or it is a stored
 * root, and a process of that session proves that the id was not given out anew since. Such a process bears the marker,
 * or started within a second of the root: pids go round in a ring, which takes longer. Without such proof, a session
 * that a dead stored root may have led makes its processes `doubtful`: neither the agent's nor certainly not.
 *
 * A process of this user that hides its environment is in doubt only with a tie to the agent. Such a process shares a
 * leaderless session or group, or a terminal, with what is or was a member, or descends from one that is in doubt.
 * Without a tie, or older than the agent, it is a stranger: ssh-agent and gpg-agent hide theirs, and lead sessions of
 * their own. Where no process at all shows its environment, the system hides it and not the process: then each one that
 * is not older than the agent is in doubt. What was once in doubt stays so for the whole call. So an agent's own process counts as a stranger too
 * when it hides its environment, leads a session and has lost its parents; nothing distinguishes it from a neighbour's.
 *
 * This program, its ancestors and excluded pids are no members whatever they bear, and nothing is inherited through
 * them. A group that holds one of them gets no signal as a whole. A zombie is no member, but its session, group and
 * children count while its row stands.
 *
 * A scan is not atomic, and a chain of processes that fork and exit can slip through it. A scan that is `complete` has
 * also read all that was born meanwhile, so nothing slipped. Within one scan a pid does not come back, for the same
 * reason as above.
 */
import type { ProcessIdentity } from "../Host.ts"
import type { EnvironRead, ProcessStat, System } from "./System.ts"

/** Why a process is taken for a member; the first of these that holds. */
export type Evidence = "marker" | "descent" | "session" | "group"

/** A living process of an agent. */
export interface Member extends ProcessIdentity {
  readonly ppid: number
  readonly pgid: number
  readonly sid: number
  readonly state: string
  readonly evidence: Evidence
}

/** What one scan says about one agent. */
export interface Membership {
  readonly members: ReadonlyArray<Member>
  /** The pids of processes of this user that may be members, and that do not show whether they are. */
  readonly doubtful: ReadonlyArray<number>
}

/** The agent whose members are asked for. */
export interface MembershipOptions {
  readonly agentId: string
  /** A process that bears another home's id is then no member by its marker. */
  readonly homeId?: string | undefined
  /** The launcher, and whatever else was recorded of the agent; each counts only if its start time is the same. */
  readonly roots: ReadonlyArray<ProcessIdentity>
  /** Pids that are never members: the tmux server's. */
  readonly exclude?: ReadonlyArray<number> | undefined
  /** When nothing of the agent was there yet, as `System.seconds`; by default when the first of the roots was started. */
  readonly since?: number | undefined
}

/** What earlier scans of the same call have shown. */
export interface Memory {
  /** The pids of processes that were members. */
  readonly confirmed: ReadonlySet<number>
  /** The sessions and groups in which members were. */
  readonly shared: ReadonlySet<number>
  /** The identities of processes that were in doubt. */
  readonly doubted: ReadonlySet<string>
}

const nothingBefore: Memory = { confirmed: new Set(), shared: new Set(), doubted: new Set() }

/** A row of the table with what the environment says. */
export interface Entry extends ProcessStat {
  readonly environ: EnvironRead
}

/** One scan of the table. */
export interface Look {
  readonly entries: ReadonlyMap<number, Entry>
  /** How many processes were in the midst of an exec. */
  readonly execing: number
  /** Whether nothing was born that this scan did not read: then a process that is not in it does not live. */
  readonly complete: boolean
}

/** How many processes may be born during a scan before it gives up on reading them all. */
const mostBirths = 512

/**
 * Reads the table and all environments in one turn, and then whatever was born meanwhile, until nothing more is. Pids
 * are given out in order, so the system's count of them shows each birth, even of a process that has ended by then.
 *
 * An environment that an earlier scan has read is not read again while the process is the same and has not exec'd
 * since.
 */
export const scan = (
  system: System,
  earlier: ReadonlyMap<number, Entry> = new Map()
): Look | { readonly blind: string } => {
  const entries = new Map<number, Entry>()
  const environOf = (stat: ProcessStat): EnvironRead => {
    if (stat.kernel || stat.zombie) return { _tag: "Foreign" }
    const known = earlier.get(stat.pid)
    return known !== undefined && known.environ._tag === "Read" && known.start === stat.start &&
        known.image !== undefined && known.image === stat.image
      ? known.environ
      : system.environ(stat.pid)
  }
  const add = (stat: ProcessStat) => {
    const environ = environOf(stat)
    if (environ._tag !== "Gone") entries.set(stat.pid, { ...stat, environ })
  }
  const before = system.newestPid()
  const table = system.table()
  if ("blind" in table) return table
  table.forEach(add)

  let complete = before !== undefined
  for (let seen = before ?? 0; complete;) {
    const newest = system.newestPid()
    if (newest === seen) break
    if (newest === undefined || newest < seen || newest - (before ?? 0) > mostBirths) {
      complete = false
      break
    }
    for (let pid = newest; pid > seen; pid--) {
      const stat = system.stat(pid)
      if (typeof stat !== "string") add(stat)
    }
    seen = newest
  }
  const execing = Array.from(entries.values()).filter((entry) => entry.environ._tag === "Execing").length
  return { entries, execing, complete }
}

/** Members with what `terminate` needs beside them. */
export interface Resolved extends Membership {
  /** Groups of which every process is a member, and whose leader is or was one: a signal may go to the whole group. */
  readonly groups: ReadonlySet<number>
}

/** An identity as one word, for sets and maps. */
export const keyOf = ({ pid, start }: ProcessIdentity): string => `${pid}:${start}`

/** What a start time and a reading of the boot clock may differ by: both count hundredths. */
export const tickSeconds = 0.02

/** How long after a root a process may have started that proves the root's session to be the same one still. */
const proofWindowSeconds = 1

const ancestors = (entries: ReadonlyMap<number, Entry>, pid: number): ReadonlyArray<number> => {
  const found: Array<number> = []
  for (let at = entries.get(pid); at !== undefined && !found.includes(at.pid); at = entries.get(at.ppid)) {
    found.push(at.pid)
  }
  return found
}

/** When the first of the roots was started; what is older is none of the agent's. */
export const earliestOf = (system: System, roots: ReadonlyArray<ProcessIdentity>): number =>
  roots.length === 0 ? -Infinity : Math.min(...roots.map(({ start }) => system.seconds(start)))

/** The members in one scan. */
export const resolve = (
  system: System,
  entries: ReadonlyMap<number, Entry>,
  options: MembershipOptions,
  { confirmed, doubted, shared }: Memory = nothingBefore
): Resolved => {
  const { agentId, exclude = [], homeId, roots, since } = options
  const shielded = new Set([system.self, ...ancestors(entries, system.self), ...exclude])
  const candidates = Array.from(entries.values()).filter((entry) => !entry.kernel && !shielded.has(entry.pid))
  const rootKeys = new Set(roots.map(keyOf))
  const found = new Map<number, Evidence>()

  const marked = ({ environ }: Entry) =>
    environ._tag === "Read" && environ.agentId === agentId &&
    (homeId === undefined || environ.homeId === undefined || environ.homeId === homeId)
  const isStranger = ({ environ }: Entry) =>
    environ._tag === "Foreign" ||
    (environ._tag === "Read" && environ.agentId !== undefined && environ.agentId !== agentId)

  for (const entry of candidates) {
    if (marked(entry)) found.set(entry.pid, "marker")
    else if (rootKeys.has(keyOf(entry))) found.set(entry.pid, "descent")
  }

  const leaderless = new Set(candidates.flatMap(({ pgid, sid }) => [pgid, sid]).filter((id) => !entries.has(id)))
  const rootLed = new Map<number, "ours" | "maybe">()
  for (const root of roots) {
    if (!leaderless.has(root.pid) || rootLed.get(root.pid) === "ours") continue
    const proven = candidates.some((entry) => {
      if (entry.sid !== root.pid && entry.pgid !== root.pid) return false
      const later = system.seconds(entry.start) - system.seconds(root.start)
      return marked(entry) || (later >= 0 && later <= proofWindowSeconds)
    })
    rootLed.set(root.pid, proven ? "ours" : "maybe")
  }
  /** Whether the leader of a session or group is or was the agent's. */
  const led = (id: number): "ours" | "maybe" | "no" => {
    if (id < 1) return "no"
    if (entries.has(id)) return found.has(id) ? "ours" : "no"
    return confirmed.has(id) ? "ours" : rootLed.get(id) ?? "no"
  }

  for (let before = -1; before !== found.size;) {
    before = found.size
    for (const { pgid, pid, ppid, sid } of candidates) {
      if (found.has(pid)) continue
      if (found.has(ppid)) found.set(pid, "descent")
      else if (led(sid) === "ours") found.set(pid, "session")
      else if (led(pgid) === "ours") found.set(pid, "group")
    }
  }

  const living = candidates.filter((entry) => !entry.zombie)
  const earliest = since === undefined ? earliestOf(system, roots) : since - tickSeconds
  // Zombies too: what they shared with others they still share.
  const kin = candidates.filter((entry) => found.has(entry.pid))
  const ids = new Set([...shared, ...kin.flatMap(({ pgid, sid }) => [pgid, sid])])
  const terminals = new Set(kin.flatMap(({ terminal }) => terminal === undefined ? [] : [terminal]))
  const doubts = new Set<number>()
  const isBlind = !Array.from(entries.values()).some(({ environ, pid }) =>
    pid !== system.self && environ._tag === "Read"
  )
  const isAlive = (id: number) => entries.get(id)?.zombie === false
  const isTied = (entry: Entry): boolean =>
    doubted.has(keyOf(entry)) || doubts.has(entry.ppid) || doubts.has(entry.sid) || doubts.has(entry.pgid) ||
    [entry.sid, entry.pgid].some((id) => !isAlive(id) && ids.has(id)) ||
    (entry.terminal !== undefined && terminals.has(entry.terminal))
  const isDoubtful = (entry: Entry): boolean => {
    if (found.has(entry.pid) || system.seconds(entry.start) < earliest) return false
    if (led(entry.sid) === "maybe" || led(entry.pgid) === "maybe") return !isStranger(entry)
    if (entry.environ._tag !== "Denied" && entry.environ._tag !== "Execing") return false
    // No process moves into a session that exists, so in a stranger's session there are only strangers.
    const leader = entries.get(entry.sid)
    const isStrangers = leader !== undefined && !leader.zombie && leader.environ._tag !== "Denied"
    if (isStrangers && leader.pid !== entry.pid) return false
    // An exec is over in a moment, and then the environment shows.
    return entry.environ._tag === "Execing" || isBlind || isTied(entry)
  }
  for (let before = -1; before !== doubts.size;) {
    before = doubts.size
    for (const entry of living) if (isDoubtful(entry)) doubts.add(entry.pid)
  }

  const members = living.flatMap(({ pgid, pid, ppid, sid, start, state }): ReadonlyArray<Member> => {
    const evidence = found.get(pid)
    return evidence === undefined ? [] : [{ pid, start, ppid, pgid, sid, state, evidence }]
  })
  const groups = new Set(members.map((member) => member.pgid).filter((pgid) => led(pgid) === "ours"))
  for (const pid of shielded) groups.delete(entries.get(pid)?.pgid ?? 0)
  return { members, doubtful: Array.from(doubts).toSorted((a, b) => a - b), groups }
}

/** The members of an agent in one scan. */
export const members = (
  system: System,
  entries: ReadonlyMap<number, Entry>,
  options: MembershipOptions
): Membership => {
  const { doubtful, members } = resolve(system, entries, options)
  return { members, doubtful }
}
