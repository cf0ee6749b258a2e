/**
 * Looks at what one agent left on the machine: its exit record, its launcher, its session and processes, its output, and
 * the processes that answer for it. Changes nothing and never fails; what can't be read is answered as such.
 */
import { Clock, Context, DateTime, Effect, Layer, Option } from "effect"
import * as Path from "node:path"
import { type Agent, subjectOf } from "../agent/Agent.ts"
import { verdict } from "../agent/AgentOutput.ts"
import { type ExitRecord, parseExitRecord } from "../agent/ExitRecord.ts"
import * as LogEnd from "../agent/LogEnd.ts"
import { tailBytes } from "../agent/LogEnd.ts"
import { Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { exitPrefix, launcherFile, stderrFile, stdoutFile } from "../machine/Layout.ts"
import * as Lease from "../machine/Lease.ts"
import { AgentSession } from "../resource/AgentSession.ts"
import type { Presence } from "../resource/Resource.ts"
import type { Activity, Exit, Facts, Question } from "./Verdict.ts"

const nothing: Lease.Standing = { _tag: "unknown", evidence: "nobody is recorded" }

export class Observation extends Context.Service<Observation, {
  /** What needs no look at the agent. */
  readonly here: Effect.Effect<Facts>
  /** The answer to a question of `Verdict.assess`; `presence` answers whether the session or processes are there. */
  readonly answer: (
    agent: Agent,
    question: Question,
    presence?: Effect.Effect<Presence>
  ) => Effect.Effect<Partial<Facts>>
  /** Records that the deployer of this token, in this process, has given up: its lease no longer counts. */
  readonly abandon: (token: string) => Effect.Effect<void>
  /** Whether the deployer of an agent may still be at work. */
  readonly deployerOf: (agent: Agent) => Effect.Effect<"gone" | "expired" | "at-work">
  /** The last lines of both outputs; empty where they can't be read. */
  readonly tails: (agent: Agent) => Effect.Effect<NonNullable<Agent["tail"]>>
  /** What a known agent said of its own run; null for any other. */
  readonly summary: (agent: Agent) => Effect.Effect<Agent["summary"]>
}>()("@slipway/core/reconcile/Observation") {
  static readonly layer = Layer.effect(Observation, Effect.suspend(() => make))
}

const make = Effect.gen(function*() {
  const files = yield* Files
  const host = yield* Host
  const session = yield* AgentSession
  const abandoned = new Set<string>()

  const pathOf = (agent: Agent, name: string) => Path.join(agent.plan.directory, name)
  const logOf = (agent: Agent): LogEnd.Source => ({ files, path: pathOf(agent, stdoutFile) })

  const tail = (agent: Agent, name: string) =>
    Effect.orElseSucceed(files.readTail(pathOf(agent, name), tailBytes), () => "")
  const tails = Effect.fnUntraced(function*(agent: Agent) {
    return { stdout: yield* tail(agent, stdoutFile), stderr: yield* tail(agent, stderrFile) }
  })

  /** When the launcher renamed its state file to the exit record, on the wall clock as it was then. */
  const recordedAt = Effect.fnUntraced(function*(agent: Agent, { code }: ExitRecord) {
    const info = yield* Effect.orElseSucceed(files.inspect(pathOf(agent, `${exitPrefix}${code}`)), () => undefined)
    const now = yield* Clock.currentTimeMillis
    const begun = (agent.startedAt ?? agent.createdAt).epochMilliseconds
    // Where the file system does not record a rename, the file is as old as the agent.
    if (info === undefined || (info.changedMillis <= begun && info.changedMillis === info.modifiedMillis)) {
      return undefined
    }
    return DateTime.makeUnsafe(Math.min(Math.max(info.changedMillis, begun), Math.max(now, begun)))
  })

  const readExit = Effect.fnUntraced(function*(agent: Agent, record: ExitRecord) {
    const { isCut, lines: lastLines } = agent.spec.kind === "command"
      ? { isCut: false, lines: [] }
      : yield* LogEnd.read(logOf(agent))
    const exit: Exit = {
      ...record,
      outcome: verdict(agent.spec.kind, { ...record, lastLines, isCut }),
      endedAt: yield* recordedAt(agent, record)
    }
    return exit
  })

  const exitOf = (agent: Agent): Effect.Effect<Exit | { readonly unreadable: string } | null> =>
    files.list(agent.plan.directory).pipe(
      Effect.map(parseExitRecord),
      Effect.catchIf((error) => error.code === "ENOENT", () => Effect.succeedNone),
      Effect.flatMap((record) => Option.isSome(record) ? readExit(agent, record.value) : Effect.succeed(null)),
      Effect.catch((error) => Effect.succeed({ unreadable: error.message }))
    )

  const assessLease = (agent: Agent): Effect.Effect<Lease.Standing> =>
    agent.lease === null
      ? Effect.succeed(nothing)
      : abandoned.has(agent.token)
      ? Effect.succeed({ _tag: "dead", evidence: "the deployer could not record its own failure" })
      : Lease.assess(host, agent.lease)

  const assessHolder = (holder: Agent["owner"] | undefined): Effect.Effect<Lease.Standing> =>
    holder === null || holder === undefined
      ? Effect.succeed(nothing)
      : Lease.assessHolder(host, holder)

  const size = (agent: Agent, name: string) =>
    files.inspect(pathOf(agent, name)).pipe(
      Effect.map((info) => ({ bytes: info?.size ?? 0, at: info?.modifiedMillis ?? 0 }))
    )

  const activityOf = Effect.fnUntraced(function*(agent: Agent) {
    const stdout = yield* size(agent, stdoutFile)
    const stderr = yield* size(agent, stderrFile)
    const launcher = yield* size(agent, launcherFile)
    const activity: Activity = {
      now: yield* Clock.currentTimeMillis,
      stdoutBytes: stdout.bytes,
      stdoutAt: stdout.at,
      stderrAt: stderr.at,
      launcherAt: launcher.at
    }
    return activity
  })

  const answer = Effect.fnUntraced(function*(
    agent: Agent,
    question: Question,
    presence?: Effect.Effect<Presence>
  ): Effect.fn.Return<Partial<Facts>> {
    switch (question) {
      case "deployer":
        return { deployer: yield* assessLease(agent) }
      case "owner":
        return { owner: yield* assessHolder(agent.owner) }
      case "carrier":
        return { carrier: yield* assessHolder(agent.state._tag === "ending" ? agent.state.carrier : null) }
      case "exit":
        return { exit: yield* exitOf(agent) }
      case "lateExit":
        return { lateExit: yield* exitOf(agent) }
      case "launcher":
        return { launcher: agent.running?.launcher ? yield* host.probe(agent.running.launcher) : "unknown" }
      case "presence":
        return { presence: yield* presence ?? session.probe(agent.plan, subjectOf(agent)) }
      case "activity":
        return {
          activity: yield* Effect.catch(activityOf(agent), (error) => Effect.succeed({ unreadable: error.message }))
        }
    }
  })

  const deployerOf = (agent: Agent) =>
    agent.lease === null
      ? Effect.succeed("gone" as const)
      : Effect.map(
        assessLease(agent),
        ({ _tag }) => _tag === "dead" ? "gone" as const : _tag === "expired" ? "expired" as const : "at-work" as const
      )

  return Observation.of({
    here: Effect.map(host.bootClock, (bootClock): Facts => ({ here: host.identity, bootClock })),
    answer,
    abandon: (token) => Effect.sync(() => void abandoned.add(token)),
    deployerOf,
    tails,
    summary: (agent) =>
      agent.spec.kind === "command" ? Effect.succeed(null) : LogEnd.readSummary(agent.spec.kind, logOf(agent))
  })
})
