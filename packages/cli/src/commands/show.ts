/**
 * `slipway show`: everything that is known of one agent, with its resources and what happened to it.
 */
import { type Agent, type AgentEvent, Slipway, View } from "@slipway/core"
import { DateTime, Effect } from "effect"
import { Argument, Command } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output, plain, plainLines } from "../Output.ts"
import * as Text from "../Text.ts"

const resources = (agent: Agent.Agent, registry: string) => {
  const view = View.agent(agent)
  return {
    tmux_session: view.tmux_session,
    prompt_file: view.prompt_file,
    task_registry: agent.plan.entry,
    global_registry: registry
  }
}

const lines = (agent: Agent.Agent, events: ReadonlyArray<AgentEvent>, now: DateTime.Utc, paint: Text.Paint) => {
  const view = View.agent(agent)
  const said = Text.succeeded(agent) ? "" : plainLines(agent.tail?.stderr ?? "").trimEnd()
  const found = agent.endedAtFrom === "found" ? ", when it was found to have ended" : ""
  const pairs: ReadonlyArray<readonly [string, string | null]> = [
    ["type", `${agent.type}, runs ${agent.spec.kind}`],
    ["task", `${agent.taskId}, depth ${agent.depth}`],
    ["parent", agent.parent],
    ["works in", agent.cwd],
    ["started", agent.startedAt === null ? null : `${view.started_at} (${Text.ago(agent.startedAt, now)} ago)`],
    ["ended", agent.endedAt === null ? null : `${view.ended_at} (${Text.ago(agent.endedAt, now)} ago${found})`],
    [
      "ran",
      agent.startedAt === null || agent.endedAt === null || found !== ""
        ? null
        : Text.ago(agent.startedAt, agent.endedAt)
    ],
    ["reason", view.reason],
    ["said", view.last_message === null ? null : Text.brief(view.last_message, 200)],
    ["cost", view.cost_usd === null ? null : `${view.cost_usd} US dollars`],
    ["its own id", view.session_id],
    ["left", view.left.length === 0 ? null : view.left.join("; ")],
    ["session", `${view.tmux_session} on ${view.tmux_socket}`],
    ["prompt", view.prompt_file],
    ["output", view.log_file],
    ["errors", view.stderr_file],
    ["entry", agent.plan.entry]
  ]
  return [
    `${paint("bold", agent.id)}  ${Text.paintedState(agent, paint)}`,
    ...pairs.flatMap(([name, value]) => value === null ? [] : [`  ${name.padEnd(10)} ${plain(value)}`]),
    ...(said === ""
      ? []
      : ["", "the end of its standard error", ...said.split("\n").slice(-10).map((line) => `  ${line}`)]),
    "",
    ...events.map((event) =>
      `  ${paint("dim", DateTime.formatIso(event.at))}  ${event.status.padEnd(11)}  ${plain(event.detail)}`
    )
  ].join("\n")
}

export const show = Command.make(
  "show",
  { agent: Argument.String("agent").pipe(Argument.withDescription("The agent's id")) },
  Effect.fnUntraced(function*(given) {
    const output = yield* Output
    const slipway = yield* Slipway
    const id = yield* Open.agentId(given.agent)
    const agent = yield* slipway.agent(id)
    const events = yield* slipway.events(id)
    yield* output.answer(
      {
        ...View.agent(agent),
        resources: resources(agent, slipway.home.registry),
        events: events.map(({ at, detail, status }) => ({ at: DateTime.formatIso(at), status, detail }))
      },
      lines(agent, events, yield* DateTime.now, output.paint)
    )
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription("Show one agent: its state, where its files and its session are, and what happened to it."),
  Command.withShortDescription("Show one agent")
)
