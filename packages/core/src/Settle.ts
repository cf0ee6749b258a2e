/**
 * Settling: bringing an agent's row to what is true now, by the next command that reads it.
 *
 * `judge` changes nothing. What it can't decide stays as it is. An end that it finds, and every stop, is first claimed
 * in the registry (`ending`, the durable intent). Only then do the resources' own releases carry it out. What could not
 * be released stays in the row, and the next settle tries it again. Two settles at once do no harm: the claim is
 * decided once, and releases may be run any number of times. An ending that a living process carries out is left to
 * that process: a stop may have given the agent time to save its work.
 *
 * A stop takes an agent's active descendants with it, children first. An agent that ended by itself does not: its
 * children have rows of their own and go on.
 */
import { Clock, Context, DateTime, Deferred, Duration, Effect, Exit, Layer, Option, Result } from "effect"
import * as Path from "node:path"
import {
  type Agent,
  type AgentId,
  beginEnding,
  type Carrier,
  type Final,
  finishEnding,
  hasCommitted,
  type Running,
  type State,
  status,
  type StoppedBy
} from "./Agent.ts"
import { verdict } from "./AgentOutput.ts"
import * as CleanupReport from "./CleanupReport.ts"
import { Files } from "./Files.ts"
import { Host } from "./Host.ts"
import { exitPrefix, type ExitRecord, launcherFile, parseExitRecord, stderrFile, stdoutFile } from "./Launcher.ts"
import * as Lease from "./Lease.ts"
import * as LogEnd from "./LogEnd.ts"
import { tailBytes } from "./Readiness.ts"
import { AgentNotFound, Registry, type RegistryError } from "./Registry.ts"
import { type Presence, release } from "./Resource.ts"
import { AgentDirectory } from "./resources/AgentDirectory.ts"
import { AgentSession, type AgentSessionRef, defaultGrace } from "./resources/AgentSession.ts"
import { TaskEntry, type TaskEntryRef } from "./resources/TaskEntry.ts"

/** What `judge` finds of an agent. */
export type Verdict =
  /** The row is true. */
  | { readonly _tag: "Stands" }
  /** The row's state is over; `expected` is the state that this was judged on. */
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

const stands: Verdict = { _tag: "Stands" }
const unknown = (evidence: string): Verdict => ({ _tag: "Unknown", evidence })

export const sessionRef = (agent: Agent, grace?: Duration.Duration): AgentSessionRef => ({
  ...agent.plan,
  agentId: agent.id,
  host: agent.running?.host ?? agent.lease?.host ?? null,
  launcher: agent.running?.launcher ?? null,
  since: agent.running?.since ?? null,
  grace
})

export const entryRef = (agent: Agent): TaskEntryRef => ({ ...agent.plan, agentId: agent.id })

/** The time for all releases of an ending beside the grace, and how many generations of agents it may wait for. */
const releasesLimit = Duration.seconds(60)
const generations = 5

export interface StopOptions {
  readonly reason: string
  readonly by?: StoppedBy | undefined
  /** How long each agent may take to end by itself. */
  readonly grace?: Duration.Duration | undefined
}

export class Settle extends Context.Service<Settle, {
  /** Judges the row, and changes nothing; `presence` answers whether the agent's session or processes are there. */
  readonly judge: (agent: Agent, presence?: Effect.Effect<Presence>) => Effect.Effect<Verdict>
  /** Brings one row to what is true now; answers with the row as it is then. */
  readonly settle: (agent: Agent) => Effect.Effect<Agent, RegistryError>
  /** Records that the deployer of this token, in this process, has given up: its lease no longer counts. */
  readonly abandon: (token: string) => Effect.Effect<void>
  /** Settles rows, eight at once; the answer keeps their order. */
  readonly settleAll: (agents: ReadonlyArray<Agent>) => Effect.Effect<ReadonlyArray<Agent>, RegistryError>
  /**
   * Ends an agent and its active descendants, children first. It answers with their rows when everything was tried. A
   * row that is not final then is leaked, or its deployer still holds it.
   */
  readonly stop: (
    id: AgentId,
    options: StopOptions
  ) => Effect.Effect<ReadonlyArray<Agent>, AgentNotFound | RegistryError>
  /** Releases what may be left of an agent whose row is final; the row stays as it is. */
  readonly release: (agent: Agent) => Effect.Effect<CleanupReport.CleanupReport>
}>()("@slipway/core/Settle") {
  static readonly layer = Layer.effect(
    Settle,
    Effect.gen(function*() {
      const files = yield* Files
      const host = yield* Host
      const registry = yield* Registry
      const directory = yield* AgentDirectory
      const session = yield* AgentSession
      const entry = yield* TaskEntry

      const tail = (agent: Agent, name: string, bytes: number) =>
        files.readTail(Path.join(agent.plan.directory, name), bytes).pipe(Effect.orElseSucceed(() => ""))
      const tails = Effect.fnUntraced(function*(agent: Agent) {
        return { stdout: yield* tail(agent, stdoutFile, tailBytes), stderr: yield* tail(agent, stderrFile, tailBytes) }
      })

      const logOf = (agent: Agent): LogEnd.Source => ({ files, path: Path.join(agent.plan.directory, stdoutFile) })

      const exitRecord = (agent: Agent) =>
        files.list(agent.plan.directory).pipe(
          Effect.map(parseExitRecord),
          Effect.catchIf((error) => error.code === "ENOENT", () => Effect.succeedNone)
        )

      /** When the launcher renamed its state file to the exit record, on the wall clock as it was then. */
      const recordedAt = Effect.fnUntraced(function*(agent: Agent, { code }: ExitRecord) {
        const path = Path.join(agent.plan.directory, `${exitPrefix}${code}`)
        const info = yield* Effect.orElseSucceed(files.inspect(path), () => undefined)
        const now = yield* Clock.currentTimeMillis
        const begun = (agent.startedAt ?? agent.createdAt).epochMilliseconds
        // Where the file system does not record a rename, the file is as old as the agent.
        if (info === undefined || (info.changedMillis <= begun && info.changedMillis === info.modifiedMillis)) {
          return undefined
        }
        return DateTime.makeUnsafe(Math.min(Math.max(info.changedMillis, begun), Math.max(now, begun)))
      })

      const exited = Effect.fnUntraced(function*(agent: Agent, record: ExitRecord) {
        const { isCut, lines: lastLines } = agent.spec.kind === "command"
          ? { isCut: false, lines: [] }
          : yield* LogEnd.read(logOf(agent))
        const as: Final = {
          _tag: "exited",
          ...record,
          outcome: verdict(agent.spec.kind, { ...record, lastLines, isCut })
        }
        const found: Verdict = {
          _tag: "Ended",
          as,
          expected: "running",
          evidence: `exit record ${record.code}`,
          endedAt: yield* recordedAt(agent, record)
        }
        return found
      })

      const lost = (why: string): Verdict => ({
        _tag: "Ended",
        as: { _tag: "lost", why },
        expected: "running",
        evidence: why
      })

      const abandoned = new Set<string>()

      const judgeLease = (agent: Agent, lease: Lease.Lease): Effect.Effect<Lease.Standing> =>
        abandoned.has(agent.token)
          ? Effect.succeed({ _tag: "dead", evidence: "the deployer could not record its own failure" })
          : Effect.provideService(Lease.judge(lease), Host, host)

      const stopped = (by: StoppedBy, reason: string): Verdict => ({
        _tag: "Ended",
        as: { _tag: "stopped", reason, by },
        expected: "running",
        evidence: reason
      })

      const judgeDeploying = Effect.fnUntraced(function*(agent: Agent) {
        if (agent.lease === null) return unknown("a deployment without a lease")
        const standing = yield* judgeLease(agent, agent.lease)
        switch (standing._tag) {
          case "held":
            return stands
          case "unknown":
            return unknown(standing.evidence)
          default: {
            const error = { tag: "DeployerGone", message: `the deployer did not finish: ${standing.evidence}` }
            const as: Final = { _tag: "rolled-back", step: "deployment", error }
            const found: Verdict = { _tag: "Ended", as, expected: "deploying", evidence: standing.evidence }
            return found
          }
        }
      })

      const judgeOwner = Effect.fnUntraced(function*(agent: Agent) {
        if (agent.owner === null) return stands
        const standing = yield* Effect.provideService(Lease.judgeHolder(agent.owner), Host, host)
        return standing._tag === "dead"
          ? stopped("owner-gone", `its owner has ended: ${standing.evidence}`)
          : stands
      })

      const size = (agent: Agent, name: string) =>
        Effect.map(files.inspect(Path.join(agent.plan.directory, name)), (info) => ({
          bytes: info?.size ?? 0,
          modifiedMillis: info?.modifiedMillis ?? 0
        }))

      /** Whether a living agent is past one of its limits of time. */
      const judgeLimits = Effect.fnUntraced(function*(agent: Agent, running: Running) {
        const { firstOutputMillis, maxRunMillis, stallMillis } = agent.limits
        const ranMillis = ((yield* host.bootClock) - running.since) * 1000
        if (maxRunMillis !== null && ranMillis > maxRunMillis) {
          return stopped("max-run", `it ran longer than ${readable(maxRunMillis)}`)
        }
        if (firstOutputMillis === null && stallMillis === null) return stands
        const stdout = yield* size(agent, stdoutFile)
        // A truncated log is empty too, but it was changed after the launcher was written.
        const silent = stdout.bytes === 0 && stdout.modifiedMillis <= (yield* size(agent, launcherFile)).modifiedMillis
        if (firstOutputMillis !== null && silent && ranMillis > firstOutputMillis) {
          return stopped("first-output", `it wrote nothing to standard output within ${readable(firstOutputMillis)}`)
        }
        const stderr = yield* size(agent, stderrFile)
        const quietMillis = (yield* Clock.currentTimeMillis) - Math.max(stdout.modifiedMillis, stderr.modifiedMillis)
        return stallMillis !== null && ranMillis > stallMillis && quietMillis > stallMillis
          ? stopped("stall", `it wrote nothing for ${readable(stallMillis)}`)
          : stands
      })

      /** A living agent stands unless its owner has ended or a limit of time is over. */
      const judgeAlive = Effect.fnUntraced(function*(agent: Agent, running: Running) {
        const byOwner = yield* judgeOwner(agent)
        return byOwner._tag === "Stands" ? yield* judgeLimits(agent, running) : byOwner
      })

      const judgeRunning = Effect.fnUntraced(function*(agent: Agent, presence?: Effect.Effect<Presence>) {
        const { running } = agent
        if (running === null) return unknown("a running agent without a session")
        const early = yield* exitRecord(agent)
        if (Option.isSome(early)) return yield* exited(agent, early.value)
        if (running.host.machine !== host.identity.machine) return unknown(`it runs on ${running.host.machine}`)
        if (running.host.boot !== host.identity.boot) return lost("the machine was restarted")
        if (running.host.pidNamespace !== host.identity.pidNamespace) return unknown("it runs in another pid namespace")
        if (running.launcher !== null) {
          const liveness = yield* host.probe(running.launcher)
          if (liveness === "alive") return yield* judgeAlive(agent, running)
          if (liveness === "unknown") return unknown("its launcher can't be inspected")
        }
        const present = yield* presence ?? session.probe(sessionRef(agent))
        if (present._tag === "Unknown") return unknown(present.reason)
        if (present._tag === "Present") return yield* judgeAlive(agent, running)
        // Read after everything was found absent: a record that was written by then is seen.
        const late = yield* exitRecord(agent)
        return Option.isSome(late)
          ? yield* exited(agent, late.value)
          : lost("its launcher was killed and left no exit record")
      })

      /** An ending that a living process carries out is left to it until its time is over. */
      const judgeEnding = Effect.fnUntraced(function*(carrier: Carrier | undefined): Effect.fn.Return<Verdict> {
        if (carrier === undefined) return { _tag: "Unfinished" }
        const standing = yield* Effect.provideService(Lease.judgeHolder(carrier), Host, host)
        const hasTime = carrier.host.boot === host.identity.boot && (yield* host.bootClock) <= carrier.until
        return standing._tag !== "dead" && hasTime ? stands : { _tag: "Unfinished" }
      })

      const carrierFor = (grace: Duration.Duration) =>
        Effect.map(host.bootClock, (now): Carrier => ({
          host: host.identity,
          holder: host.self,
          until: now + generations * Duration.toSeconds(grace) + Duration.toSeconds(releasesLimit)
        }))

      const judge = Effect.fn("Settle.judge")(function*(
        agent: Agent,
        presence?: Effect.Effect<Presence>
      ): Effect.fn.Return<Verdict> {
        switch (agent.state._tag) {
          case "deploying":
            return yield* judgeDeploying(agent)
          case "running":
            return yield* Effect.catch(judgeRunning(agent, presence), (error) => Effect.succeed(unknown(error.message)))
          case "ending":
            return yield* judgeEnding(agent.state.carrier)
          default:
            return stands
        }
      })

      const deployerOf = Effect.fnUntraced(function*(agent: Agent) {
        if (agent.lease === null || abandoned.has(agent.token)) return "gone"
        const standing = yield* judgeLease(agent, agent.lease)
        return standing._tag === "dead" ? "gone" : standing._tag === "expired" ? "expired" : "at-work"
      })

      // Files are removed last: while a process may live, the directory says what it is.
      const releaseFiles = Effect.fnUntraced(function*(agent: Agent, before: CleanupReport.CleanupReport) {
        const report = CleanupReport.add(before, yield* release(entry, entryRef(agent)))
        return CleanupReport.leftovers(report).length > 0
          ? report
          : CleanupReport.add(report, yield* release(directory, agent.plan))
      }, (released, agent) => Effect.annotateLogs(released, { agent: agent.id }))

      const releaseSession = (agent: Agent, grace?: Duration.Duration) =>
        Effect.map(
          release(session, sessionRef(agent, grace)),
          (record) => CleanupReport.add(CleanupReport.empty, record)
        ).pipe(Effect.annotateLogs({ agent: agent.id }))

      /** Carries out an ending that has been claimed; answers with the row after it. */
      const carryOut = Effect.fn("Settle.finish")(function*(agent: Agent, grace?: Duration.Duration) {
        if (agent.state._tag !== "ending") return agent
        const rolledBack = agent.state.as._tag === "rolled-back"
        const deployer = yield* deployerOf(agent)
        let report = yield* releaseSession(agent, grace)
        const kept = yield* tails(agent)
        const told = yield* summaryOf(agent)
        if (rolledBack) report = yield* releaseFiles(agent, report)
        const left = CleanupReport.leftovers(report)
        const at = yield* DateTime.now
        const facts = { left, deployer, at, tail: agent.tail ?? kept, summary: agent.summary ?? told } as const
        // Before the row: if this process is killed in between, the next settle of the row writes the entry again.
        const wanted = Result.getOrElse(finishEnding(agent, facts), () => agent)
        if (!rolledBack) yield* project(wanted)
        const detail = left.length > 0
          ? CleanupReport.problems(report).join("; ")
          : deployer === "gone"
          ? "settled"
          : "released; its deployer may still be at work"
        const settled = yield* registry.transition(agent.id, (row) => finishEnding(row, facts), {
          at,
          detail,
          releases: report.releases
        }).pipe(
          Effect.catchTag(["AgentNotFound", "TransitionRefused"], () => Effect.succeed(agent))
        )
        // Another process may have finished first. Then its row is the truth, and no command settles a final row again.
        const isOurs = settled === agent || (status(settled) === status(wanted) &&
          settled.endedAt?.epochMilliseconds === wanted.endedAt?.epochMilliseconds)
        if (!rolledBack && !isOurs) yield* project(settled)
        return settled
      })

      const underway = new Map<AgentId, Deferred.Deferred<Option.Option<Agent>, RegistryError>>()

      /**
       * Once at a time for one agent: all fibers that see an end at the same moment share the releases of the first.
       * Otherwise they would delay each other; on a busy machine none would be done in time, again and again.
       */
      const finish = (agent: Agent, grace?: Duration.Duration): Effect.Effect<Agent, RegistryError> =>
        Effect.uninterruptibleMask((restore) => {
          const other = underway.get(agent.id)
          if (other !== undefined) {
            return Effect.flatMap(restore(Deferred.await(other)), (answer) =>
              Option.isSome(answer)
                ? Effect.succeed(answer.value)
                // The fiber that carried it out was interrupted.
                : Effect.flatMap(reread(agent), (now) => restore(finish(now, grace))))
          }
          const own = Deferred.makeUnsafe<Option.Option<Agent>, RegistryError>()
          underway.set(agent.id, own)
          return Effect.onExit(restore(carryOut(agent, grace)), (exit) => {
            underway.delete(agent.id)
            return Exit.hasInterrupts(exit)
              ? Deferred.succeed(own, Option.none())
              : Deferred.done(own, Exit.map(exit, Option.some))
          })
        })

      const summaryOf = (agent: Agent) =>
        agent.spec.kind === "command" ? Effect.succeed(null) : LogEnd.readSummary(agent.spec.kind, logOf(agent))

      // The entry is a projection: a write that fails is made good by the next settle of this row.
      const project = (agent: Agent) =>
        hasCommitted(agent)
          ? Effect.catch(entry.make(entryRef(agent), agent), (error) => Effect.logWarning(error.message))
          : Effect.void

      const claim = Effect.fnUntraced(function*(agent: Agent, found: Verdict & { readonly _tag: "Ended" }) {
        const at = yield* DateTime.now
        const carrier = yield* carrierFor(defaultGrace)
        const { as, expected } = found
        const endedAt = found.endedAt ?? (as._tag === "lost" ? at : undefined)
        return yield* registry.transition(agent.id, (row) => beginEnding(row, as, { expected, carrier, endedAt }), {
          at,
          detail: found.evidence
        }).pipe(
          // Another process was first: its row is the answer.
          Effect.catchTag("TransitionRefused", () => reread(agent)),
          Effect.catchTag("AgentNotFound", () => Effect.succeed(agent))
        )
      })

      const reread = (agent: Agent) => Effect.map(registry.agent(agent.id), Option.getOrElse(() => agent))

      const settle = Effect.fn("Settle.settle")(function*(agent: Agent): Effect.fn.Return<Agent, RegistryError> {
        const found = yield* judge(agent)
        switch (found._tag) {
          case "Stands":
          case "Unknown":
            return agent
          case "Ended":
            return yield* finish(yield* claim(agent, found))
          case "Unfinished":
            return yield* finish(agent)
        }
      })

      const settleAll = (agents: ReadonlyArray<Agent>) => Effect.forEach(agents, settle, { concurrency: 8 })

      const stop = Effect.fn("Settle.stop")(function*(id: AgentId, options: StopOptions) {
        const found = yield* registry.agent(id)
        if (Option.isNone(found)) return yield* new AgentNotFound({ agentId: id })
        // What has already ended by itself is recorded so, and not as stopped.
        yield* settle(found.value)
        const at = yield* DateTime.now
        const grace = options.grace ?? defaultGrace
        const carrier = yield* carrierFor(grace)
        const family = yield* registry.transitionFamily(
          id,
          (agent) => beginEnding(agent, endOf(agent, id, options), { carrier }),
          { at, detail: options.reason }
        ).pipe(Effect.catchTag("TransitionRefused", () => Effect.map(reread(found.value), (agent) => [agent])))
        const depths = [...new Set(family.map((agent) => agent.depth))].toSorted((a, b) => b - a)
        const ended: Array<Agent> = []
        for (const depth of depths) {
          const level = family.filter((agent) => agent.depth === depth)
          ended.push(...(yield* Effect.forEach(level, (agent) => finish(agent, grace), { concurrency: 8 })))
        }
        return yield* Effect.forEach(ended, awaitDeployer, { concurrency: "unbounded" })
      })

      // A deployer soon finds that its row was taken over, and rolls back.
      const awaitDeployer = Effect.fnUntraced(function*(agent: Agent) {
        let now = agent
        for (let look = 0; look < 100 && isHeldByDeployer(now); look++) {
          yield* Effect.sleep("50 millis")
          now = yield* reread(now)
        }
        return now
      })

      const abandon = (token: string) => Effect.sync(() => void abandoned.add(token))

      const releaseLeft = Effect.fn("Settle.release")(function*(agent: Agent) {
        const report = yield* releaseSession(agent)
        return agent.state._tag === "rolled-back" ? yield* releaseFiles(agent, report) : report
      })

      return Settle.of({ judge, settle, settleAll, stop, abandon, release: releaseLeft })
    })
  )
}

const isHeldByDeployer = (agent: Agent): boolean =>
  agent.state._tag === "ending" && agent.lease !== null && agent.state.left === null

const readable = (millis: number): string => Duration.format(Duration.millis(millis))

// What never committed is rolled back, whatever asks for its end: its files are removed too.
const endOf = (agent: Agent, root: AgentId, options: StopOptions): Final => {
  const isRoot = agent.id === root
  const reason = isRoot ? options.reason : `its ancestor ${root} was stopped: ${options.reason}`
  return agent.state._tag === "deploying"
    ? { _tag: "rolled-back", step: "deployment", error: { tag: "Stopped", message: reason } }
    : { _tag: "stopped", reason, by: isRoot ? options.by ?? "request" : "ancestor" }
}
