/**
 * `slipway home`: shows the home with what it allows, and changes that for everybody who deploys in it.
 */
import { type HomeLimits, parseMaxActive, Slipway } from "@slipway/core"
import { Effect } from "effect"
import { Argument, Command } from "../Cli.ts"
import * as Open from "../Open.ts"
import { Output, plain } from "../Output.ts"

/** What stands in JSON of a home. */
const view = Effect.gen(function*() {
  const { home } = yield* Slipway
  const { maxActive } = yield* home.limits
  return {
    home_id: home.id,
    directory: home.directory,
    registry: home.registry,
    tmux_socket: home.socket,
    limits: { max_active: maxActive }
  }
})

const tell = Effect.gen(function*() {
  const output = yield* Output
  const { home } = yield* Slipway
  const shown = yield* view
  const { maxActive, ofCaller } = yield* home.limit
  yield* output.answer(
    { success: true, ...shown },
    [
      output.paint("bold", plain(shown.directory)),
      `  id          ${shown.home_id}`,
      `  registry    ${plain(shown.registry)}`,
      `  tmux        ${plain(shown.tmux_socket)}`,
      `  max-active  ${shown.limits.max_active}${
        ofCaller ? ` (${maxActive} for what is deployed from here, by SLIPWAY_MAX_ACTIVE)` : ""
      }`
    ].join("\n")
  )
})

const showing = "Show the home's directory, id, registry, tmux socket and limits."

const show = Command.make("show", {}, () => Effect.provide(tell, Open.layer)).pipe(
  Command.withDescription(showing),
  Command.withShortDescription("Show the home and its limits")
)

const change = Effect.fnUntraced(function*(limits: HomeLimits) {
  const output = yield* Output
  const slipway = yield* Slipway
  const { maxActive } = yield* slipway.setLimits(limits)
  yield* output.answer(
    { success: true, ...yield* view },
    `This home allows ${maxActive} active agent${maxActive === 1 ? "" : "s"} at once.`
  )
})

const maxActive = Command.make(
  "max-active",
  {
    n: Argument.String("n").pipe(
      Argument.withDescription("How many agents may be active in the home at once, from 1 to 1000000")
    )
  },
  Effect.fnUntraced(function*({ n }) {
    const limits = { maxActive: yield* parseMaxActive("max-active", n) }
    yield* Effect.provide(change(limits), Open.layer)
  })
).pipe(
  Command.withDescription(
    "Set how many agents may be active in the home at once, for everybody who deploys in it, from the next deployment on. Agents that " +
      "are active stay. SLIPWAY_MAX_ACTIVE can only lower this limit, for what its caller deploys; when the home is made by " +
      "that caller, the limit begins with it."
  ),
  Command.withShortDescription("Set how many agents may be active at once"),
  Command.withExamples([{ command: "slipway home set max-active 20" }])
)

const set = Command.make("set").pipe(
  Command.withDescription("Change what the home allows."),
  Command.withShortDescription("Change a limit of the home"),
  Command.withSubcommands([maxActive])
)

export const home = Command.make("home", {}, () => Effect.provide(tell, Open.layer)).pipe(
  Command.withDescription(`${showing} 'slipway home set' changes a limit.`),
  Command.withShortDescription("Show the home, and change its limits"),
  Command.withSubcommands([show, set]),
  Command.withExamples([
    { command: "slipway home" },
    { command: "slipway home set max-active 20", description: "At most 20 active agents, whoever deploys them" }
  ])
)
