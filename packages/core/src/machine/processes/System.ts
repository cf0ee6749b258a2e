/**
 * What process proof asks of the operating system, as four synchronous calls.
 *
 * They are synchronous on purpose: a process is confirmed and signalled in one turn of the event loop, so that nothing
 * of this program can run in between. No call throws and none waits; each answers with a value that says what happened.
 * An implementation does not judge to whom a process belongs: that is the work of `Membership`.
 */

/** One row of the process table. */
export interface ProcessStat {
  readonly pid: number
  readonly ppid: number
  readonly pgid: number
  readonly sid: number
  /** The start time as the system writes it; with the pid it identifies the process until the next boot. */
  readonly start: string
  /** The letter of the state, as `R`, `S`, `T` or `Z`. */
  readonly state: string
  /** True when nothing of it runs any more and its parent has yet to reap it. */
  readonly zombie: boolean
  /** True for a thread of the kernel, which is no agent's. */
  readonly kernel: boolean
  /** The device number of its controlling terminal, where it has one and the system shows it. */
  readonly terminal?: number | undefined
  /** Where its environment lies in memory, where the system shows it: another place after each exec. */
  readonly image?: string | undefined
}

/** What the environment of a process says about it. */
export type EnvironRead =
  | {
    readonly _tag: "Read"
    readonly agentId: string | undefined
    readonly homeId: string | undefined
    /** The directory of that home, where it was when the agent was deployed. */
    readonly home?: string | undefined
  }
  /** It is in the midst of an exec and shows nothing yet: ask again. */
  | { readonly _tag: "Execing" }
  /** It runs as the caller's user and does not let itself be read. */
  | { readonly _tag: "Denied" }
  /** It runs as another user, or has no environment. */
  | { readonly _tag: "Foreign" }
  | { readonly _tag: "Gone" }

/** The signals that process proof sends; 0 only asks. */
export type Signal = "SIGTERM" | "SIGCONT" | "SIGKILL" | 0

/** What became of a signal: `denied` means that the process lives. */
export type SignalResult = "sent" | "gone" | "denied"

/** The calls of the operating system that process proof is made of. */
export interface System {
  /** The pid of this program. */
  readonly self: number
  /** Whether the environment of other processes can be read at all. */
  readonly environments: boolean
  /** A start time in seconds; only the difference of two of them means anything. */
  readonly seconds: (start: string) => number
  /** All processes, the newest first where the system shows that, or why they cannot be listed. */
  readonly table: () => ReadonlyArray<ProcessStat> | { readonly blind: string }
  /** The pid that was given out last, where the system shows it; as long as it stays the same nothing was born. */
  readonly newestPid: () => number | undefined
  /** One process now; the id of a mere thread is no process. */
  readonly stat: (pid: number) => ProcessStat | "gone" | "unreadable"
  /** The environment of one process now. */
  readonly environ: (pid: number) => EnvironRead
  /** Sends a signal to a process, or to a group when the id is negative. */
  readonly kill: (pid: number, signal: Signal) => SignalResult
}
