/**
 * `slipway show`: everything that is known of one agent, with its resources and what happened to it. A file that is no longer
 * there is not named.
 */
import { Agent, type AgentEvent, Document, Slipway } from "@slipway/core"
import { DateTime, Effect, FileSystem } from "effect"
import { Argument, Command } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output, plain, plainLines } from "../Output.ts"
import * as Text from "../Text.ts"

/** The agent, naming no file that is not there. */
const viewOf = Effect.fnUntraced(function*(agent: Agent.Agent) {
  const files = yield* FileSystem.FileSystem
  // A path that can't be checked is named: the file may be there.
  const present = (path: string | null) =>
    path === null ? Effect.succeed(null) : Effect.map(
      Effect.orElseSucceed(files.exists(path), () => true),
      (exists) => exists ? path : null
    )
  const view = Document.agent(agent)
  return {
    ...view,
    prompt_file: yield* present(view.prompt_file),
    log_file: yield* present(view.log_file),
    stderr_file: yield* present(view.stderr_file),
    entry: yield* present(agent.plan.entry)
  }
})
type Seen = Effect.Success<ReturnType<typeof viewOf>>

const lines = (
  agent: Agent.Agent,
  view: Seen,
  events: ReadonlyArray<AgentEvent>,
  now: DateTime.Utc,
  paint: Text.Paint
) => {
  const said = Agent.succeeded(agent) ? "" : plainLines(agent.tail?.stderr ?? "").trimEnd()
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
    ["entry", view.entry]
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
  { agent: Argument.String("agent").pipe(Argument.withDescription("The agent's id, or the beginning of it")) },
  Effect.fnUntraced(function*(given) {
    const output = yield* Output
    const slipway = yield* Slipway
    const agent = yield* slipway.agent(yield* slipway.selectAgent(given.agent))
    const { id } = agent
    const events = yield* slipway.events(id)
    const seen = yield* viewOf(agent)
    const { entry, ...view } = seen
    yield* output.answer(
      {
        ...view,
        resources: {
          tmux_session: view.tmux_session,
          prompt_file: view.prompt_file,
          task_registry: entry,
          global_registry: slipway.home.registry
        },
        events: events.map(({ at, detail, status }) => ({ at: DateTime.formatIso(at), status, detail }))
      },
      lines(agent, seen, events, yield* DateTime.now, output.paint)
    )
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription("Show one agent: its state, where its files and its session are, and what happened to it."),
  Command.withShortDescription("Show one agent")
)
