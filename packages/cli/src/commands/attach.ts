/**
 * `slipway attach`: a live view of an agent, read only: both of its outputs as they grow, until it has ended or the viewer leaves.
 *
 * Lines are never mixed. Standard output goes to standard output and standard error to standard error, unless the agent was
 * deployed with both merged. Leaving does nothing to the agent.
 */
import { Agent, Slipway } from "@slipway/core"
import { Effect, Stream } from "effect"
import { Argument, Command } from "../Cli.ts"
import { UsageError } from "../Errors.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"
import * as Text from "../Text.ts"

const tailLines = 20

const lineFeed = 10

export const attach = Command.make(
  "attach",
  { agent: Argument.String("agent").pipe(Argument.withDescription("The agent's id, or the beginning of it")) },
  Effect.fnUntraced(function*(given) {
    const output = yield* Output
    const slipway = yield* Slipway
    if (output.json) {
      return yield* new UsageError({
        problem: "attach is a view for people",
        hint: "use 'logs' or 'wait' with --json"
      })
    }
    const agent = yield* slipway.agent(yield* slipway.selectAgent(given.agent))
    const { id } = agent
    if (Agent.isActive(agent.state)) {
      yield* output.note(`${id} is ${Text.state(agent)}; Ctrl-C leaves it running`)
    }
    const rest = { stdout: new Uint8Array(), stderr: new Uint8Array() }
    const view = Stream.runForEach(slipway.outputs(id, { follow: true, tailLines }), ({ bytes, stream }) => {
      const all = Buffer.concat([rest[stream], bytes])
      const end = all.lastIndexOf(lineFeed) + 1
      rest[stream] = all.subarray(end)
      return output.bytes(stream, all.subarray(0, end))
    }).pipe(
      Effect.andThen(Effect.suspend(() => output.bytes("stdout", rest.stdout))),
      Effect.andThen(Effect.suspend(() => output.bytes("stderr", rest.stderr)))
    )
    yield* Effect.raceFirst(view, output.closed)
    const now = yield* slipway.agent(id)
    yield* output.note(Text.story(now))
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Watch an agent live: its last lines and all that follow, until it has ended. Ctrl-C leaves it running."
  ),
  Command.withShortDescription("Watch an agent live")
)
