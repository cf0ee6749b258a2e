/**
 * Who is alive, who has ended, and what can't be known: decided from an agent's row and from what was observed. Pure.
 *
 * `assess` answers with a verdict, or with the next question, so that nothing is looked at which the verdict does not
 * need: a living agent costs one listing of its directory and one probe of its launcher. An answer that would end an
 * agent rests on facts alone. Whatever can't be read leads to `Unknown`, on which nobody acts.
 */
import { type DateTime, Duration } from "effect"
import type { Agent, Final, Outcome, Running, State, StoppedBy } from "../agent/Agent.ts"
import type { ExitRecord } from "../agent/ExitRecord.ts"
import type { HostIdentity, Liveness } from "../machine/Host.ts"
import type { Standing } from "../machine/Lease.ts"
import type { Presence } from "../resource/Resource.ts"

/** What is found of an agent. */
export type Verdict =
  /** The row is true. */
  | { readonly _tag: "Stands" }
  /** The row's state is over; `expected` is the state that this was assessed on. */
  | {
    readonly _tag: "Ended"
    readonly as: Final
    readonly expected: State["_tag"]
    readonly evidence: string
    /** When it ended, where that is recorded. */
    readonly endedAt?: DateTime.Utc | undefined
  }
  /** An ending that one process began and none has finished. */
  | { readonly _tag: "Unfinished" }
  /** The state can't be decided; nothing is done. */
  | { readonly _tag: "Unknown"; readonly evidence: string }

/** The exit that the launcher recorded. */
export interface Exit extends ExitRecord {
  readonly outcome: Outcome
  readonly endedAt: DateTime.Utc | undefined
}

/** What an agent wrote last, and when, on the wall clock in milliseconds. */
export interface Activity {
  readonly now: number
  readonly stdoutBytes: number
  readonly stdoutAt: number
  readonly stderrAt: number
  /** When its launcher was written, before which nothing ran. */
  readonly launcherAt: number
}

/** The facts, each absent until it was asked for. */
export interface Facts {
  readonly here: HostIdentity
  /** Seconds on the boot clock of this host. */
  readonly bootClock: number
  /** What became of the deployer of a deployment in flight. */
  readonly deployer?: Standing
  /** What became of the process whose scope the agent belongs to. */
  readonly owner?: Standing
  /** What became of the process that carries an ending out. */
  readonly carrier?: Standing
  /** The record in the agent's directory, null where there is none, or why that can't be read. */
  readonly exit?: Exit | { readonly unreadable: string } | null
  readonly launcher?: Liveness
  readonly presence?: Presence
  /** The record once more, read after everything was found absent: one that was written by then is seen. */
  readonly lateExit?: Exit | { readonly unreadable: string } | null
  readonly activity?: Activity | { readonly unreadable: string }
}

/** What has to be looked at next. */
export type Question = Exclude<keyof Facts, "here" | "bootClock">
export type Ask = { readonly _tag: "Ask"; readonly question: Question }

export const stands: Verdict = { _tag: "Stands" }
export const unknown = (evidence: string): Verdict => ({ _tag: "Unknown", evidence })
const ask = (question: Question): Ask => ({ _tag: "Ask", question })

const stopped = (by: StoppedBy, reason: string): Verdict => ({
  _tag: "Ended",
  as: { _tag: "stopped", reason, by },
  expected: "running",
  evidence: reason
})

const lost = (why: string): Verdict => ({
  _tag: "Ended",
  as: { _tag: "lost", why },
  expected: "running",
  evidence: why
})

const exited = ({ code, endedAt, outcome, signal }: Exit): Verdict => ({
  _tag: "Ended",
  as: { _tag: "exited", code, signal, outcome },
  expected: "running",
  evidence: `exit record ${code}`,
  endedAt
})

const assessDeploying = (agent: Agent, { deployer }: Facts): Verdict | Ask => {
  if (agent.lease === null) return unknown("a deployment without a lease")
  if (deployer === undefined) return ask("deployer")
  switch (deployer._tag) {
    case "held":
      return stands
    case "unknown":
      return unknown(deployer.evidence)
    default: {
      const error = { tag: "DeployerGone", message: `the deployer did not finish: ${deployer.evidence}` }
      const as: Final = { _tag: "rolled-back", step: "deployment", error }
      return { _tag: "Ended", as, expected: "deploying", evidence: deployer.evidence }
    }
  }
}

const readable = (millis: number): string => Duration.format(Duration.millis(millis))

/** Whether a living agent is past one of its limits of time. */
const assessLimits = (agent: Agent, running: Running, { activity, bootClock }: Facts): Verdict | Ask => {
  const { firstOutputMillis, maxRunMillis, stallMillis } = agent.limits
  const ranMillis = (bootClock - running.since) * 1000
  if (maxRunMillis !== null && ranMillis > maxRunMillis) {
    return stopped("max-run", `it ran longer than ${readable(maxRunMillis)}`)
  }
  if (firstOutputMillis === null && stallMillis === null) return stands
  if (activity === undefined) return ask("activity")
  if ("unreadable" in activity) return unknown(activity.unreadable)
  // A truncated log is empty too, but it was changed after the launcher was written.
  const silent = activity.stdoutBytes === 0 && activity.stdoutAt <= activity.launcherAt
  if (firstOutputMillis !== null && silent && ranMillis > firstOutputMillis) {
    return stopped("first-output", `it wrote nothing to standard output within ${readable(firstOutputMillis)}`)
  }
  const quietMillis = activity.now - Math.max(activity.stdoutAt, activity.stderrAt)
  return stallMillis !== null && ranMillis > stallMillis && quietMillis > stallMillis
    ? stopped("stall", `it wrote nothing for ${readable(stallMillis)}`)
    : stands
}

/** A living agent stands unless its owner has ended or a limit of time is over. */
const assessAlive = (agent: Agent, running: Running, facts: Facts): Verdict | Ask => {
  if (agent.owner !== null) {
    if (facts.owner === undefined) return ask("owner")
    if (facts.owner._tag === "dead") return stopped("owner-gone", `its owner has ended: ${facts.owner.evidence}`)
  }
  return assessLimits(agent, running, facts)
}

const assessRunning = (agent: Agent, facts: Facts): Verdict | Ask => {
  const { running } = agent
  const { exit, here, lateExit, launcher, presence } = facts
  if (running === null) return unknown("a running agent without a session")
  if (exit === undefined) return ask("exit")
  if (exit !== null) return "unreadable" in exit ? unknown(exit.unreadable) : exited(exit)
  if (running.host.machine !== here.machine) return unknown(`it runs on ${running.host.machine}`)
  if (running.host.boot !== here.boot) return lost("the machine was restarted")
  if (running.host.pidNamespace !== here.pidNamespace) return unknown("it runs in another pid namespace")
  if (running.launcher !== null) {
    if (launcher === undefined) return ask("launcher")
    if (launcher === "alive") return assessAlive(agent, running, facts)
    if (launcher === "unknown") return unknown("its launcher can't be inspected")
  }
  if (presence === undefined) return ask("presence")
  if (presence._tag === "Unknown") return unknown(presence.reason)
  if (presence._tag === "Present") return assessAlive(agent, running, facts)
  if (lateExit === undefined) return ask("lateExit")
  if (lateExit === null) return lost("its launcher was killed and left no exit record")
  return "unreadable" in lateExit ? unknown(lateExit.unreadable) : exited(lateExit)
}

/** An ending that a living process carries out is left to it until its time is over. */
const assessEnding = (state: State & { readonly _tag: "ending" }, facts: Facts): Verdict | Ask => {
  if (state.carrier === undefined) return { _tag: "Unfinished" }
  if (facts.carrier === undefined) return ask("carrier")
  const hasTime = state.carrier.host.boot === facts.here.boot && facts.bootClock <= state.carrier.until
  return facts.carrier._tag !== "dead" && hasTime ? stands : { _tag: "Unfinished" }
}

/** The verdict on a row, or what has to be known for it. */
export const assess = (agent: Agent, facts: Facts): Verdict | Ask => {
  switch (agent.state._tag) {
    case "deploying":
      return assessDeploying(agent, facts)
    case "running":
      return assessRunning(agent, facts)
    case "ending":
      return assessEnding(agent.state, facts)
    default:
      return stands
  }
}
