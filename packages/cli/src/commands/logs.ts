/**
 * `slipway logs`: what an agent wrote, byte for byte. Following ends when the agent has ended or the reader has closed
 * its end.
 */
import { Slipway } from "@slipway/core"
import { Effect, Option, Stream } from "effect"
import { Argument, Command, count, Flag, toggle } from "../Cli.ts"
import { UsageError } from "../Errors.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"

export const logs = Command.make(
  "logs",
  {
    agent: Argument.String("agent").pipe(Argument.withDescription("The agent's id, or the beginning of it")),
    follow: toggle("follow", "Go on until the agent has ended").pipe(Flag.withAlias("f")),
    stderr: toggle("stderr", "Show standard error in place of standard output"),
    tail: count("tail", "N", "Begin with the last N lines").pipe(Flag.withAlias("n"), Flag.optional)
  },
  Effect.fnUntraced(function*({ follow, stderr, tail, ...given }) {
    const output = yield* Output
    const slipway = yield* Slipway
    if (output.json && follow) {
      return yield* new UsageError({
        problem: "--follow passes on a stream, and --json prints one value",
        hint: "leave one of them out"
      })
    }
    const agent = yield* slipway.agent(yield* slipway.selectAgent(given.agent))
    const { id } = agent
    const stream = stderr ? "stderr" : "stdout"
    const bytes = agent.state._tag === "rolled-back"
      // Its files were removed; the end of them is in its row.
      ? Stream.make(new TextEncoder().encode(agent.tail?.[stream] ?? ""))
      : slipway.output(id, { stream, follow, tailLines: Option.getOrUndefined(tail) })
    if (output.json) {
      const text = yield* Stream.mkString(Stream.decodeText(bytes))
      return yield* output.answer({ agent_id: id, stream, content: text }, "")
    }
    yield* Effect.raceFirst(Stream.runForEach(bytes, (chunk) => output.bytes("stdout", chunk)), output.closed)
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription("Print what an agent wrote to standard output, or with --stderr to standard error."),
  Command.withShortDescription("Print what an agent wrote"),
  Command.withExamples([
    { command: "slipway logs reviewer-260102-030405-0a1b2c --follow" },
    { command: "slipway logs reviewer-260102-030405-0a1b2c --stderr --tail 20" }
  ])
)
