/**
 * What a person means by a part of an id: the one agent, or the one task, whose id begins so. Several are named and never
 * guessed among.
 *
 * An agent's id begins with its type, so a type is the beginning of an id too. Where several ids begin with what was
 * given, those of that very type go before those of a longer one; and where one of these alone is active, it is meant:
 * a task has one live agent of a type. A whole id is looked up by itself and costs one indexed read. Only a part makes the
 * registry go through its ids.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Option, Result, Schema } from "effect"
import { type Agent, AgentId, type AgentType } from "../agent/Agent.ts"
import { type Task, TaskId } from "../agent/Task.ts"
import { Ledger } from "../registry/Ledger.ts"
import { AgentNotFound, type RegistryError } from "../registry/RegistryError.ts"

/** There is no such task in this home. */
export class TaskNotFound extends Schema.TaggedError<TaskNotFound>()("TaskNotFound", { taskId: Schema.String }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `there is no task ${JSON.stringify(this.taskId)} in this home; 'slipway task list' shows those there are`
  }
}

const mostNamed = 5

const ambiguous = (given: string, candidates: ReadonlyArray<string>, what: "agents" | "tasks"): string => {
  const named = candidates.slice(0, mostNamed).join(", ")
  const more = candidates.length <= mostNamed ? "" : ` and ${candidates.length - mostNamed} more`
  return `${JSON.stringify(given)} may be any of ${candidates.length} ${what}: ${named}${more}; give more of the id`
}

/** Several agents have ids that begin so; nothing was done to any. */
export class AgentAmbiguous extends Schema.TaggedError<AgentAmbiguous>()("AgentAmbiguous", {
  given: Schema.String,
  /** All of them, newest first. */
  candidates: Schema.Array(AgentId)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return ambiguous(this.given, this.candidates, "agents")
  }
}

/** Several tasks have ids that begin so; nothing was done about any. */
export class TaskAmbiguous extends Schema.TaggedError<TaskAmbiguous>()("TaskAmbiguous", {
  given: Schema.String,
  /** All of them, newest first. */
  candidates: Schema.Array(TaskId)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return ambiguous(this.given, this.candidates, "tasks")
  }
}

/** An agent whose id begins with what was given. */
export interface Candidate {
  readonly id: AgentId
  readonly type: AgentType
  readonly isActive: boolean
}

/** The agent that is meant; `candidates` are all whose ids begin with what was given, newest first. Pure. */
export const choose = (
  given: string,
  candidates: ReadonlyArray<Candidate>
): Result.Result<AgentId, AgentAmbiguous | AgentNotFound> => {
  const ofType = candidates.filter(({ type }) => type === given)
  const meant = ofType.length > 0 ? ofType : candidates
  const active = meant === ofType ? ofType.filter(({ isActive }) => isActive) : []
  const [first, ...others] = active.length === 1 ? active : meant
  if (first === undefined) return Result.fail(new AgentNotFound({ agentId: given }))
  return others.length === 0
    ? Result.succeed(first.id)
    : Result.fail(new AgentAmbiguous({ given, candidates: meant.map(({ id }) => id) }))
}

const isAgentId = Schema.is(AgentId)
const isTaskId = Schema.is(TaskId)

/** The row of a whole id; what does not have the form of one names no agent. */
export const rowOf = Effect.fnUntraced(function*(
  ledger: Pick<Ledger["Service"], "agent">,
  id: string
): Effect.fn.Return<Agent, AgentNotFound | RegistryError> {
  const row = isAgentId(id) ? yield* ledger.agent(id) : Option.none()
  return Option.isSome(row) ? row.value : yield* new AgentNotFound({ agentId: id })
})

/** The task of a whole id; what does not have the form of one names no task. */
export const taskOf = Effect.fnUntraced(function*(
  ledger: Pick<Ledger["Service"], "task">,
  id: string
): Effect.fn.Return<Task, RegistryError | TaskNotFound> {
  const found = isTaskId(id) ? yield* ledger.task(id) : Option.none()
  return Option.isSome(found) ? found.value : yield* new TaskNotFound({ taskId: id })
})

/** Both selections on the registry that is open. */
export const make = Effect.map(Ledger, (ledger) => {
  const agent = Effect.fn("Selection.agent")(function*(
    given: string
  ): Effect.fn.Return<AgentId, AgentAmbiguous | AgentNotFound | RegistryError> {
    if (isAgentId(given)) return (yield* rowOf(ledger, given)).id
    return yield* Effect.fromResult(choose(given, given === "" ? [] : yield* ledger.agentsNamed(given)))
  })

  const task = Effect.fn("Selection.task")(function*(
    given: string
  ): Effect.fn.Return<Task, RegistryError | TaskAmbiguous | TaskNotFound> {
    if (isTaskId(given)) return yield* taskOf(ledger, given)
    const found = given === "" ? [] : (yield* ledger.tasks).filter(({ id }) => id.startsWith(given))
    const [first, ...others] = found
    if (first === undefined) return yield* new TaskNotFound({ taskId: given })
    return others.length === 0 ? first : yield* new TaskAmbiguous({ given, candidates: found.map(({ id }) => id) })
  })

  return { agent, task }
})
