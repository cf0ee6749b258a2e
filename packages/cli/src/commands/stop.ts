/**
 * `slipway stop`: ends agents with all that they started, children first, and answers when their end is proven.
 *
 * An id that names nothing does not keep the others from being stopped. It is reported, and shows in the exit code.
 */
import { Agent, Document, Slipway } from "@slipway/core"
import { Duration, Effect, Option } from "effect"
import { Argument, Command, duration, Flag, text, toggle } from "../Cli.ts"
import { UsageError } from "../Errors.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"
import * as Text from "../Text.ts"

const config = {
  agents: Argument.String("agent").pipe(
    Argument.withDescription("The agents' ids, or their beginnings"),
    Argument.variadic()
  ),
  task: text("task", "TASK", "Stop all agents of this task").pipe(Flag.optional),
  all: toggle("all", "Stop all agents of this home"),
  grace: duration("grace", "How long an agent may take to end by itself before it is killed (default: 5s)").pipe(
    Flag.withDefault(5000)
  ),
  reason: text("reason", "TEXT", "Why; it is kept with the agent").pipe(Flag.optional)
}

type Options = Command.Command.Config.Infer<typeof config>

/** The agents that are meant, as they are before the stop, and the ids that name none. */
const meant = Effect.fnUntraced(function*({ agents, all, task }: Options) {
  const slipway = yield* Slipway
  const given = [agents.length > 0, all, Option.isSome(task)].filter((is) => is).length
  if (given !== 1) {
    return yield* new UsageError({
      problem: given === 0 ? "nothing is named to be stopped" : "agents, --task and --all exclude each other",
      hint: "name agents, or give either --task TASK or --all"
    })
  }
  if (agents.length === 0) {
    const taskId = Option.isSome(task) ? (yield* slipway.selectTask(task.value)).id : undefined
    const found = yield* slipway.agents({ taskId, activeOnly: true })
    return { found: found.filter((agent) => Agent.isActive(agent.state)), missing: [] }
  }
  const missing = new Set<string>()
  const found = new Map<string, Agent.Agent>()
  for (const name of agents) {
    yield* Effect.flatMap(slipway.selectAgent(name), slipway.agent).pipe(
      Effect.map((agent) => void found.set(agent.id, agent)),
      Effect.catchTag("AgentNotFound", () => Effect.sync(() => void missing.add(name)))
    )
  }
  return { found: [...found.values()], missing: [...missing] }
})

const run = Effect.fnUntraced(function*(options: Options) {
  const output = yield* Output
  const status = yield* ExitCode.ExitStatus
  const slipway = yield* Slipway
  const { found, missing } = yield* meant(options)
  const before = new Map(found.map((agent) => [agent.id, agent]))
  const wasOver = (id: Agent.AgentId) => {
    const agent = before.get(id)
    return agent !== undefined && Agent.isFinal(agent.state)
  }
  yield* output.progress(
    found.length === 0 ? undefined : `stopping ${found.length === 1 ? found[0]?.id : `${found.length} agents`} …`
  )
  const rows = yield* slipway.stop(found.map((agent) => agent.id), {
    grace: Duration.millis(options.grace),
    reason: Option.getOrUndefined(options.reason)
  })
  yield* output.progress(undefined)
  const left = rows.filter((agent) => !Agent.isFinal(agent.state))

  for (const id of missing) yield* output.note(`slipway: there is no agent ${JSON.stringify(id)} in this home`)
  for (const agent of left) {
    yield* output.note(
      `slipway: ${Text.story(agent)}; it stays on record, and 'slipway reap' tries again`
    )
  }
  if (rows.length === 0 && missing.length === 0) yield* output.note("No agents are live, so there is nothing to stop.")
  yield* output.answer(
    {
      success: left.length === 0 && missing.length === 0,
      ...(missing.length === 0
        ? {}
        : { error: `there is no agent ${missing.join(", ")} in this home`, error_tag: "AgentNotFound" }),
      ...(left.length === 0
        ? {}
        : { error: left.map((agent) => Text.story(agent)).join("; "), error_tag: "Leaked" }),
      agents: rows.map(Document.agent),
      not_found: missing
    },
    rows.filter((agent) => Agent.isFinal(agent.state)).map((agent) =>
      wasOver(agent.id)
        ? `${agent.id} had ended already: ${Text.state(agent)}`
        : agent.state._tag === "stopped"
        ? `stopped ${agent.id}`
        : Text.story(agent)
    ).join("\n")
  )
  yield* status.conclude(
    left.length > 0 ? ExitCode.leftBehind : missing.length > 0 ? ExitCode.notFound : ExitCode.done
  )
}, Effect.provide(Open.layer))

export const stop = Command.make("stop", config, run).pipe(
  Command.withDescription(
    "Stop agents with everything that they started and deployed, children first. It answers when their end is proven."
  ),
  Command.withShortDescription("Stop agents, with proof"),
  Command.withExamples([
    { command: "slipway stop reviewer-260102-030405-0a1b2c" },
    { command: "slipway stop --task TASK-20260102-030405-0a1b2c3d --reason 'no longer needed'" }
  ])
)
