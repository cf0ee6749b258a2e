/**
 * The tmux session that runs an agent's launcher, with every process of the agent.
 *
 * A killed deployer may leave a tmux client behind that makes the session after all checks. The launcher is the fence
 * against it: the release unlinks it first, so a session made later finds nothing to run and ends. Then the processes
 * are ended with proof (TERM, a wait, KILL, another scan), the session is killed, and tmux is asked again. `Released`
 * means that tmux answered and has no such session, and that no member process lives. What can't be decided is
 * `Failed`, never `Released`.
 *
 * A session is ours only if its environment bears our home's id and the agent's id; another session of the same name is
 * `Kept`. A session that was renamed is found by the same marks.
 */
import { Sentence } from "@slipway/tmux"
import { Target, Tmux, TmuxCommandFailed, TmuxError } from "@slipway/tmux"
import type { TmuxServer } from "@slipway/tmux"
import { Context, Duration, Effect, Layer, Result, Schema } from "effect"
import * as Path from "node:path"
import type { Running, Subject } from "../agent/Agent.ts"
import { AgentSessionRef, houseKinds } from "../agent/Plan.ts"
import { AlreadyGone, failed, kept, Released, type ReleaseOutcome, withKilled } from "../agent/Release.ts"
import { Home } from "../home/Home.ts"
import { checkOwned, Files } from "../machine/Files.ts"
import { Host, type HostIdentity, sameHost } from "../machine/Host.ts"
import { agentMarker, homeMarker, launcherFile } from "../machine/Layout.ts"
import { doubtOf } from "../machine/processes/Terminate.ts"
import { type ProcessSnapshot, type ProcessTableUnreadable, ProcessTree } from "../machine/ProcessTree.ts"
import { bounded, type Presence, type Resource } from "./Resource.ts"
import * as Sessions from "./Sessions.ts"

/** What the session's environment bears beside the agent's own id: nothing secret, since others can see it. */
export type Markers = Readonly<Record<string, string>>

/** The agent's session could not be started. */
export class AgentSessionFailed extends Schema.TaggedError<AgentSessionFailed>()("AgentSessionFailed", {
  session: Schema.String,
  error: TmuxError
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the tmux session ${this.session} could not be started: ${this.error.message}`
  }
}

/** How long an agent may take to end by itself, where the caller gives no grace. */
export const defaultGrace = Duration.seconds(1)
// What KILL and the proof may take after the grace, and each of three calls of tmux: five seconds in all by default.
const killReserve = Duration.millis(1000)
// tmux answers before the launcher's exec, which a busy machine may delay; a session that was found has had its time.
const execPatience = Duration.seconds(10)
const lookPatience = Duration.millis(100)
// A caller that gives a grace asks for a stop, and waits for the proof: an agent may have many processes on a busy
// machine.
const stopReserve = Duration.seconds(4)
const tmuxLimit = Duration.millis(1000)

/** `Foreign`: another session has the name. */
type Sight = Sessions.Sight | { readonly _tag: "Foreign" }

const sightIn = (listing: Sessions.Listing, ref: AgentSessionRef, subject: Subject): Sight => {
  const sight = Sessions.find(listing, subject)
  const isTaken = listing._tag === "Listed" && listing.sessions.some(({ session }) => session.name === ref.session)
  return sight._tag === "Absent" && isTaken ? { _tag: "Foreign" } : sight
}

const timesOf = ({ grace }: Subject): readonly [grace: Duration.Duration, reserve: Duration.Duration] =>
  grace === undefined ? [defaultGrace, killReserve] : [grace, stopReserve]

/** Whether pids that were recorded on `then` mean something here. */
const reachOf = (then: HostIdentity | null, now: HostIdentity): "here" | "earlier-boot" | "elsewhere" => {
  if (then === null || sameHost(then, now)) return "here"
  if (then.machine !== now.machine) return "elsewhere"
  return then.boot === now.boot ? "elsewhere" : "earlier-boot"
}

const sinceOf = (subject: Subject, reach: ReturnType<typeof reachOf>): number | undefined =>
  // Elsewhere than on Linux start times are not on the boot clock.
  reach === "here" && process.platform === "linux" ? subject.since ?? undefined : undefined

/** Whether an agent is there, from tmux's answer about its session and from one scan of the process table. */
export const presenceIn = (
  subject: Subject,
  here: HostIdentity,
  sight: Presence,
  looked: Result.Result<ProcessSnapshot, ProcessTableUnreadable>
): Presence => {
  if (sight._tag === "Present") return sight
  const reach = reachOf(subject.host, here)
  if (reach === "elsewhere") return { _tag: "Unknown", reason: "it runs on another machine or pid namespace" }
  if (Result.isFailure(looked)) return { _tag: "Unknown", reason: looked.failure.message }
  const found = looked.success.members({
    agentId: subject.agentId,
    homeId: subject.homeId,
    since: sinceOf(subject, reach),
    // After a restart of the machine the recorded launcher's pid is another process.
    roots: subject.launcher === null || reach === "earlier-boot" ? [] : [subject.launcher]
  })
  if (found.members.length > 0) return { _tag: "Present" }
  if (sight._tag === "Unknown") return sight
  if (found.doubtful.length > 0) return { _tag: "Unknown", reason: doubtOf(found.doubtful, subject.agentId) }
  return looked.success.complete
    ? { _tag: "Absent" }
    : { _tag: "Unknown", reason: "processes came up faster than they could be listed" }
}

export class AgentSession extends Context.Service<
  AgentSession,
  Resource<AgentSessionRef, Markers, Running, AgentSessionFailed>
>()("@slipway/core/resource/AgentSession") {
  static readonly layer = Layer.effect(
    AgentSession,
    Effect.gen(function*() {
      const tmux = yield* Tmux
      const files = yield* Files
      const home = yield* Home
      const host = yield* Host
      const processes = yield* ProcessTree

      const make = Effect.fn("AgentSession.make")(function*(
        ref: AgentSessionRef,
        markers: Markers,
        subject: Subject
      ): Effect.fn.Return<Running, TmuxError> {
        const since = yield* host.bootClock
        const session = yield* tmux.server(ref.socket).newSession({
          name: ref.session,
          environment: { ...markers, [agentMarker]: subject.agentId, [homeMarker]: subject.homeId },
          script: Path.join(ref.directory, launcherFile)
        })
        const birth = { parent: session.serverPid, since }
        const pane = yield* processes.identify(session.panePid, subject.agentId, execPatience, birth)
        if (pane._tag === "Stranger") {
          return yield* new TmuxCommandFailed({
            operation: "new-session",
            exitCode: null,
            stderr:
              `process ${session.panePid} is not the launcher: the tmux server on ${ref.socket} runs in another pid namespace`
          })
        }
        return {
          host: host.identity,
          since,
          sessionId: session.id,
          serverPid: session.serverPid,
          launcher: pane._tag === "Ours" ? pane.identity : null
        }
      })

      const fence = (ref: AgentSessionRef) =>
        Effect.andThen(
          checkOwned(files, home.directory, ref.directory),
          files.removeFile(Path.join(ref.directory, launcherFile))
        )

      // A tmux that hangs must not keep the processes from being ended.
      const ask = (server: TmuxServer, ref: AgentSessionRef, subject: Subject) =>
        bounded(
          Sessions.list(server),
          tmuxLimit,
          (): Sessions.Listing => ({ _tag: "NoAnswer", reason: "tmux does not answer" })
        ).pipe(Effect.map((listing) => sightIn(listing, ref, subject)))

      const release = Effect.fn("AgentSession.release")(function*(
        ref: AgentSessionRef,
        subject: Subject
      ): Effect.fn.Return<ReleaseOutcome> {
        const fenced = yield* Effect.result(fence(ref))
        const reach = reachOf(subject.host, host.identity)
        if (reach === "elsewhere") {
          return failed("it runs on another machine or in another pid namespace; stop it from there")
        }
        const server = tmux.server(ref.socket)
        const sight = yield* ask(server, ref, subject)
        const pane = sight._tag === "Present"
          ? yield* processes.identify(sight.session.panePid, subject.agentId, lookPatience)
          : undefined
        const launchers = [
          ...(pane?._tag === "Ours" ? [pane.identity] : []),
          // After a restart of the machine the recorded launcher's pid is another process.
          ...(subject.launcher === null || reach === "earlier-boot" ? [] : [subject.launcher])
        ]
        const [grace, reserve] = timesOf(subject)
        const ended = yield* processes.terminate({
          agentId: subject.agentId,
          homeId: subject.homeId,
          roots: launchers,
          spare: launchers,
          since: sinceOf(subject, reach),
          exclude: sight._tag === "Present" ? [sight.session.serverPid] : [],
          grace,
          limit: Duration.sum(grace, reserve)
        })
        if (sight._tag === "Present") {
          const kill = server.killSession(Target.id(sight.session.id, sight.session.serverPid))
          yield* bounded(Effect.ignore(kill), tmuxLimit, () => undefined)
        }
        const after = sight._tag === "Absent" ? sight : yield* ask(server, ref, subject)

        // From here on nothing is changed: the worst finding is the answer.
        const answer = (): ReleaseOutcome => {
          if (ended._tag === "Survivors") return { _tag: "Survivors", processes: ended.processes }
          if (ended._tag === "Unknown") return failed(ended.reason)
          if (after._tag === "Unknown") return failed(`tmux could not be asked: ${after.reason}`)
          if (after._tag === "Present") return failed("the session is still there after it was killed")
          // A tmux client that outlived its deployer may still run a launcher that can't be removed.
          if (fenced._tag === "Failure") return failed(fenced.failure.message)
          if (after._tag === "Foreign") return kept("the session of this name does not bear this agent's marks")
          return sight._tag === "Absent" && ended.signalled === 0 ? AlreadyGone : Released
        }
        return withKilled(answer(), ended.killed ?? 0)
      })

      const probe = Effect.fn("AgentSession.probe")(function*(
        ref: AgentSessionRef,
        subject: Subject
      ): Effect.fn.Return<Presence> {
        const sight = yield* ask(tmux.server(ref.socket), ref, subject)
        const seen: Presence = sight._tag === "Foreign" ? { _tag: "Absent" } : sight
        // A session that is there needs no scan of the processes.
        if (seen._tag === "Present") return { _tag: "Present" }
        return presenceIn(subject, host.identity, seen, yield* Effect.result(processes.snapshot))
      })

      return AgentSession.of({
        kind: houseKinds.session,
        Reference: AgentSessionRef,
        occupies: true,
        until: "end",
        limit: (_ref, { grace }) =>
          [grace ?? defaultGrace, killReserve, tmuxLimit, tmuxLimit, tmuxLimit].reduce(Duration.sum),
        describe: (ref) => ref.session,
        make: (ref, markers, subject) =>
          Effect.mapError(
            make(ref, markers, subject),
            (error) => new AgentSessionFailed({ session: ref.session, error })
          ),
        release,
        probe
      })
    })
  )
}
