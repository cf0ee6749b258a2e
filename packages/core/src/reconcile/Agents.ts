/**
 * The life of agents after their deployment: read them, wait for them, stop them.
 *
 * Each read of an agent reconciles what it finds, so a slot becomes free without a daemon. A read that can't decide leaves
 * the row as it is. It makes no difference which process deployed an agent. File events drive waiting,
 * with a sparing poll; it can be interrupted at any moment without a trace.
 */
import { Sentence } from "@slipway/tmux"
import { Context, Duration, Effect, Layer, Option, Queue, Schema } from "effect"
import { type Agent, AgentId, isFinal, isLeaked } from "../agent/Agent.ts"
import { durationOf, type InvalidRequest } from "../agent/InvalidRequest.ts"
import { TaskId } from "../agent/Task.ts"
import { CurrentCaller } from "../machine/Caller.ts"
import { Files } from "../machine/Files.ts"
import { type AgentEvent, EventLog } from "../registry/EventLog.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { AgentNotFound } from "../registry/RegistryError.ts"
import { type RegistryError } from "../registry/RegistryError.ts"
import { Reconciler } from "./Reconciler.ts"
import { rowOf } from "./Selection.ts"
import { Stop } from "./Stop.ts"

/** An agent can't stop itself, or an agent above it: it would not live to prove it. */
export class SelfStopRefused extends Schema.TaggedError<SelfStopRefused>()("SelfStopRefused", { agentId: AgentId }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `this runs inside of agent ${this.agentId}, which can't prove its own end; let it exit, or stop it from outside`
  }
}

export interface StopRequest {
  readonly reason?: string | undefined
  /** How long an agent may take to end by itself after TERM, before KILL; 5 seconds by default. */
  readonly grace?: Duration.Input | undefined
}

/** Which agents are meant; by default all on record. */
export interface AgentSelection {
  /** Those of one task; what does not have the form of an id names no task. */
  readonly taskId?: string | undefined
  /** Only those that have not ended, or of which something is left. */
  readonly activeOnly?: boolean | undefined
}

export class Agents extends Context.Service<Agents, {
  /** Newest first, each as it is now. */
  readonly list: (filter: AgentSelection) => Effect.Effect<ReadonlyArray<Agent>, RegistryError>
  /** What does not have the form of an id names no agent. */
  readonly get: (id: string) => Effect.Effect<Agent, AgentNotFound | RegistryError>
  readonly events: (id: string) => Effect.Effect<ReadonlyArray<AgentEvent>, AgentNotFound | RegistryError>
  /** Waits until the agent has ended and all of it is released, or leaked; without a limit of its own. */
  readonly wait: (id: string) => Effect.Effect<Agent, AgentNotFound | RegistryError>
  /** Stops agents with their descendants; answers with all rows that it ended, when everything was tried. */
  readonly stop: (
    ids: ReadonlyArray<string>,
    request?: StopRequest
  ) => Effect.Effect<ReadonlyArray<Agent>, AgentNotFound | InvalidRequest | RegistryError | SelfStopRefused>
}>()("@slipway/core/Agents") {
  /** `insideOf` is the agent that this process belongs to, if any; a call with a `CurrentCaller` belongs to that one's. */
  static readonly layer = (options?: { readonly insideOf?: string | undefined }) => Layer.effect(Agents, make(options))
}

const isAgentId = Schema.is(AgentId)
const isTaskId = Schema.is(TaskId)

/** What an agent gets to save its work, where the caller of a stop says nothing else. */
const defaultGrace = Duration.seconds(5)

/** How often a wait reads again without a file event. */
export const pollInterval = Duration.seconds(1)

const make = Effect.fnUntraced(function*(options?: { readonly insideOf?: string | undefined }) {
  const files = yield* Files
  const ledger = yield* Ledger
  const log = yield* EventLog
  const { reconcile, reconcileAll } = yield* Reconciler
  const stops = yield* Stop

  const find = (id: string) => rowOf(ledger, id)

  const get = Effect.fn("Agents.get")((id: string) => Effect.flatMap(find(id), reconcile))

  const list = Effect.fn("Agents.list")(({ activeOnly, taskId }: AgentSelection) =>
    taskId === undefined || isTaskId(taskId)
      ? Effect.flatMap(ledger.agents({ activeOnly, taskId }), reconcileAll)
      : Effect.succeed([])
  )

  /** Emits whenever the agent's directory changed, and now and then without it. */
  const ticks = (directory: string) =>
    Effect.map(
      files.watch(directory),
      (changes) => Effect.raceFirst(Queue.take(changes), Effect.sleep(pollInterval))
    )

  const wait = Effect.fn("Agents.wait")(function*(id: string) {
    const first = yield* get(id)
    const tick = yield* ticks(first.plan.directory)
    let agent = first
    while (!isFinal(agent.state) && !isLeaked(agent)) {
      yield* tick
      agent = yield* get(id)
    }
    return agent
  }, Effect.scoped)

  const stop = Effect.fn("Agents.stop")(function*(given: ReadonlyArray<string>, request: StopRequest = {}) {
    // All of them are known before the first is stopped, and one that fails keeps no other from being stopped.
    const ids = (yield* Effect.forEach(given, find)).map(({ id }) => id)
    const inside = (yield* CurrentCaller)?.environment["SLIPWAY_AGENT_ID"] ?? options?.insideOf
    for (const id of ids) if (yield* isInside(id, inside)) return yield* new SelfStopRefused({ agentId: id })
    const grace = yield* durationOf("grace", request.grace ?? defaultGrace)
    const reason = request.reason ?? "stopped on request"
    const exits = yield* Effect.forEach(ids, (id) => Effect.exit(stops.family(id, { reason, grace })), {
      concurrency: 8
    })
    const ended: Array<Agent> = []
    for (const exit of exits) ended.push(...(yield* exit))
    return [...new Map(ended.map((agent) => [agent.id, agent])).values()]
  })

  // Whether what is inside of one agent belongs to the other, or to a descendant of it.
  const isInside = Effect.fnUntraced(function*(id: AgentId, inside: string | undefined) {
    let current = inside
    while (current !== undefined) {
      if (current === id) return true
      const row = isAgentId(current) ? yield* ledger.agent(current) : Option.none()
      current = Option.isSome(row) ? row.value.parent ?? undefined : undefined
    }
    return false
  })

  return Agents.of({
    list,
    get,
    events: (id) => Effect.flatMap(find(id), (agent) => log.events(agent.id)),
    wait,
    stop
  })
})
