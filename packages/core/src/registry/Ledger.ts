/**
 * The ledger of tasks and agents: who may be deployed, which state each agent is in, and the references that were planned
 * for it.
 *
 * A transition reads the row, applies a pure function, and writes the result with its event and its counts, under one
 * lock. So two processes never both leave a state. What the ledger promises of every write stands in `Registry`.
 */
import { Context, type Effect, type Option, type Result } from "effect"
import type { Agent, AgentId, AgentType, State } from "../agent/Agent.ts"
import type { Task, TaskCounts, TaskId } from "../agent/Task.ts"
import type { AdmissionRefused, Decision, HomeLimit, TaskKeyTaken } from "./Admission.ts"
import type { TransitionEvent } from "./EventLog.ts"
import type { AgentNotFound, RegistryError } from "./RegistryError.ts"

export interface AgentFilter {
  readonly taskId?: TaskId | undefined
  /** Only rows that are not final. */
  readonly activeOnly?: boolean | undefined
}

export class Ledger extends Context.Service<Ledger, {
  /**
   * Stores a task, and answers it. Under a key that another task has, it stores nothing: it answers that one when both were
   * asked for alike, and fails otherwise.
   */
  readonly addTask: (task: Task) => Effect.Effect<Task, RegistryError | TaskKeyTaken>
  /** The project's default task; inserts `candidate` when there is none yet. */
  readonly defaultTask: (candidate: Task) => Effect.Effect<Task, RegistryError>
  readonly task: (id: TaskId) => Effect.Effect<Option.Option<Task>, RegistryError>
  readonly tasks: Effect.Effect<ReadonlyArray<Task>, RegistryError>
  readonly taskCounts: (id: TaskId) => Effect.Effect<TaskCounts, RegistryError>
  /**
   * Decides and, when the decision is to admit, inserts the candidate with its depth, in one transaction. It reads the
   * home's limit too, so a change counts from the next admission on.
   */
  readonly admit: <E = never>(
    candidate: Agent,
    options: { readonly allowDuplicate: boolean; readonly homeLimit: Effect.Effect<HomeLimit, E> }
  ) => Effect.Effect<Decision, AdmissionRefused | RegistryError | E>
  /**
   * Runs an effect while no other process writes: nothing is admitted, and no agent changes its state. All other
   * writers wait for it, so it has to be short.
   */
  readonly exclusively: <A, E>(effect: Effect.Effect<A, E>) => Effect.Effect<A, E | RegistryError>
  readonly agent: (id: AgentId) => Effect.Effect<Option.Option<Agent>, RegistryError>
  /** Newest first. */
  readonly agents: (filter: AgentFilter) => Effect.Effect<ReadonlyArray<Agent>, RegistryError>
  /** Those whose id begins with this text, newest first; goes through all ids, and reads no document. */
  readonly agentsNamed: (
    beginning: string
  ) => Effect.Effect<
    ReadonlyArray<{ readonly id: AgentId; readonly type: AgentType; readonly isActive: boolean }>,
    RegistryError
  >
  /** Applies a pure transition to one row; answers the row as it is stored after it. */
  readonly transition: <E>(
    id: AgentId,
    f: (agent: Agent) => Result.Result<Agent, E>,
    event: TransitionEvent
  ) => Effect.Effect<Agent, E | AgentNotFound | RegistryError>
  /** Applies a transition to an agent and all its active descendants in one transaction, children first. */
  readonly transitionFamily: <E>(
    id: AgentId,
    f: (agent: Agent, role: "self" | "descendant") => Result.Result<Agent, E>,
    event: TransitionEvent
  ) => Effect.Effect<ReadonlyArray<Agent>, E | AgentNotFound | RegistryError>
  /** The state's name of every row, by id, without reading the documents. */
  readonly statuses: Effect.Effect<ReadonlyMap<string, State["_tag"]>, RegistryError>
  /** Asks the database to check itself; answers with its complaints. */
  readonly integrity: Effect.Effect<ReadonlyArray<string>, RegistryError>
  /** Forgets ended agents with their events; active ones stay. Answers how many it forgot. */
  readonly forget: (ids: ReadonlyArray<AgentId>) => Effect.Effect<number, RegistryError>
}>()("@slipway/core/Ledger") {}
