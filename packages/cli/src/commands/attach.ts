/**
 * `slipway attach`: a live view of an agent, read only: both of its outputs as they grow, until it has ended or the viewer leaves.
 *
 * Lines are never mixed. Standard output goes to standard output and standard error to standard error. Leaving does nothing to the
 * agent.
 */
import { Agent, Slipway } from "@slipway/core"
import { Effect, Ref, Stream } from "effect"
import { Argument, Command } from "../Cli.ts"
import { UsageError } from "../Errors.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"
import * as Text from "../Text.ts"

const tailLines = 20

const lineFeed = 10

/** Chunks that end at the end of a line, but for the last one. */
const wholeLines = <E>(bytes: Stream.Stream<Uint8Array, E>): Stream.Stream<Uint8Array, E> =>
  Stream.unwrap(Effect.map(Ref.make(new Uint8Array()), (rest) =>
    Stream.concat(
      Stream.mapEffect(bytes, (chunk) =>
        Ref.modify(rest, (kept) => {
          const all = Buffer.concat([kept, chunk])
          const end = all.lastIndexOf(lineFeed) + 1
          return [all.subarray(0, end), all.subarray(end)]
        })),
      Stream.fromEffect(Ref.get(rest))
    )))

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
    const follow = (stream: "stdout" | "stderr") =>
      Stream.runForEach(
        wholeLines(slipway.output(id, { stream, follow: true, tailLines })),
        (chunk) => output.bytes(stream, chunk)
      )
    yield* Effect.raceFirst(
      Effect.all([follow("stdout"), follow("stderr")], { concurrency: "unbounded", discard: true }),
      output.closed
    )
    const now = yield* slipway.agent(id)
    yield* output.note(Text.story(now))
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Watch an agent live: its last lines and all that follow, until it has ended. Ctrl-C leaves it running."
  ),
  Command.withShortDescription("Watch an agent live")
)
