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
    offset: count("offset", "N", "Begin with byte N, counted from 0").pipe(Flag.optional),
    bytes: count("bytes", "N", "Read at most N bytes, from 1 to 1048576, and end").pipe(Flag.optional),
    tail: count("tail", "N", "Begin with the last N lines").pipe(Flag.withAlias("n"), Flag.optional)
  },
  Effect.fnUntraced(function*({ bytes, follow, offset, stderr, tail, ...given }) {
    const output = yield* Output
    const slipway = yield* Slipway
    if (output.json && follow) {
      return yield* new UsageError({
        problem: "--follow passes on a stream, and --json prints one value",
        hint: "leave one of them out"
      })
    }
    if (Option.isSome(tail) && (Option.isSome(offset) || Option.isSome(bytes))) {
      return yield* new UsageError({ problem: "--tail counts from the end", hint: "leave out --offset and --bytes" })
    }
    if (Option.isSome(bytes) && follow) {
      return yield* new UsageError({
        problem: "--bytes reads once, and --follow goes on",
        hint: "leave one of them out"
      })
    }
    const id = yield* slipway.selectAgent(given.agent)
    const stream = stderr ? "stderr" : "stdout"
    const from = Option.getOrUndefined(offset)
    if (Option.isSome(bytes) || (output.json && from !== undefined)) {
      const part = yield* slipway.readOutput(id, { stream, offset: from, maxBytes: Option.getOrUndefined(bytes) })
      if (!output.json) return yield* output.bytes("stdout", part.bytes)
      return yield* output.answer({
        agent_id: id,
        stream,
        content: new TextDecoder().decode(part.bytes),
        content_base64: Buffer.from(part.bytes).toString("base64"),
        offset: part.offset,
        next_offset: part.nextOffset,
        size: part.size,
        complete: part.isComplete,
        is_tail: part.isTail
      }, "")
    }
    const read = slipway.output(id, { stream, follow, offset: from, tailLines: Option.getOrUndefined(tail) })
    if (output.json) {
      const text = yield* Stream.mkString(Stream.decodeText(read))
      return yield* output.answer({ agent_id: id, stream, content: text }, "")
    }
    yield* Effect.raceFirst(Stream.runForEach(read, (chunk) => output.bytes("stdout", chunk)), output.closed)
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription("Print what an agent wrote to standard output, or with --stderr to standard error."),
  Command.withShortDescription("Print what an agent wrote"),
  Command.withExamples([
    { command: "slipway logs reviewer-260102-030405-0a1b2c --follow" },
    { command: "slipway logs reviewer-260102-030405-0a1b2c --stderr --tail 20" },
    { command: "slipway logs reviewer-260102-030405-0a1b2c --json --offset 4096 --bytes 65536" }
  ])
)
