/**
 * What agents wrote: as a stream, or by bytes from an offset for a caller that polls.
 *
 * Offsets count bytes of one stream's file from its beginning. Of a rolled-back agent the files are removed, and the
 * tail in its row is what there is; offsets then count in that tail. A pruned agent is not found. Reading writes nothing
 * but what a reconciliation writes, and can be interrupted at any moment without a trace. Each read is one synchronous
 * call of at most 1 MiB.
 *
 * An agent that was deployed with both streams merged has one file with two names: either stream is all that it wrote, in
 * the order in which it wrote it. The files of two streams do not tell their order; `both` has parts as they were seen.
 *
 * Not promised: an agent that truncates its own output loses what nobody had read. A stream then goes on from the new
 * beginning; a caller that polls sees a size below its offset.
 */
import { Cause, Context, Effect, Layer, Queue, Schema, Stream } from "effect"
import * as Path from "node:path"
import { type Agent, isFinal } from "../agent/Agent.ts"
import { invalid, InvalidRequest } from "../agent/InvalidRequest.ts"
import { type FileError, Files } from "../machine/Files.ts"
import { stderrFile, stdoutFile } from "../machine/Layout.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { AgentNotFound } from "../registry/RegistryError.ts"
import { type RegistryError } from "../registry/RegistryError.ts"
import { pollInterval } from "./Agents.ts"
import { Reconciler } from "./Reconciler.ts"
import { rowOf } from "./Selection.ts"

export interface OutputOptions {
  /** Standard output by default. */
  readonly stream?: "stdout" | "stderr" | undefined
  /** Go on until the agent has ended. */
  readonly follow?: boolean | undefined
  /** Begin with the last so many lines; without it, with the first byte. Not beside an offset. */
  readonly tailLines?: number | undefined
  /** Begin with this byte, counted from 0. Behind the end there is nothing yet; with `follow` it is waited for. */
  readonly offset?: number | undefined
}

/** A part of one of both streams. */
export interface OutputChunk {
  readonly stream: "stdout" | "stderr"
  /** Of its first byte, in its stream. */
  readonly offset: number
  readonly bytes: Uint8Array
}

export interface ReadOptions {
  /** Standard output by default. */
  readonly stream?: "stdout" | "stderr" | undefined
  /** The first byte to read, counted from 0, which it is by default. */
  readonly offset?: number | undefined
  /** How many bytes to read at most, from 1 to 1048576; 65536 by default. */
  readonly maxBytes?: number | undefined
}

/** A part of an output, and where the reader stands after it. */
export interface OutputPart {
  /** Empty where nothing is there yet at the offset. */
  readonly bytes: Uint8Array
  readonly offset: number
  /** Where to read next: behind the last byte of this part; the offset itself where nothing was read. */
  readonly nextOffset: number
  /** How many bytes there are so far. */
  readonly size: number
  /** The agent has ended, and nothing comes behind this part. */
  readonly isComplete: boolean
  /** The agent was rolled back: this is of the tail that its row keeps, and offsets count in that. */
  readonly isTail: boolean
}

export class Output extends Context.Service<Output, {
  readonly stream: (
    id: string,
    options?: OutputOptions
  ) => Stream.Stream<Uint8Array, AgentNotFound | FileError | InvalidRequest | RegistryError>
  /**
   * Both streams, in parts as they were seen, each in its order; merged ones as standard output alone. Of an agent that
   * ended, standard output comes first.
   */
  readonly both: (
    id: string,
    options?: Pick<OutputOptions, "follow" | "tailLines">
  ) => Stream.Stream<OutputChunk, AgentNotFound | FileError | InvalidRequest | RegistryError>
  readonly read: (
    id: string,
    options?: ReadOptions
  ) => Effect.Effect<OutputPart, AgentNotFound | FileError | InvalidRequest | RegistryError>
}>()("@slipway/core/Output") {
  static readonly layer = Layer.effect(Output, Effect.suspend(() => make))
}

const chunkBytes = 64 * 1024
const mostBytes = 1024 * 1024

const within = (minimum: number, maximum: number, expected: string) =>
  Schema.Number.check(
    Schema.makeFilter((value) => Number.isSafeInteger(value) && value >= minimum && value <= maximum || expected)
  )

const Offset = within(0, Number.MAX_SAFE_INTEGER, "a whole number of bytes, zero or more")
const Reading = Schema.Struct({
  offset: Offset,
  maxBytes: within(1, mostBytes, `a whole number of bytes from 1 to ${mostBytes}`)
})
const decodeReading = Schema.decodeUnknownEffect(Reading, { errors: "all" })
const decodeOffset = Schema.decodeUnknownEffect(Schema.Struct({ offset: Offset }))

/** Where the bytes of one stream are. */
interface Source {
  readonly size: Effect.Effect<number, FileError>
  readonly at: (offset: number, bytes: number) => Effect.Effect<Uint8Array, FileError>
}

const startOfTail = Effect.fnUntraced(function*(source: Source, lines: number) {
  const size = yield* source.size
  if (lines <= 0) return size
  let found = 0
  for (let end = size; end > 0; end -= chunkBytes) {
    const start = Math.max(0, end - chunkBytes)
    const chunk = yield* source.at(start, end - start)
    for (let index = chunk.length - 1; index >= 0; index--) {
      const isLastByte = start + index === size - 1
      if (chunk[index] === 10 && !isLastByte && ++found >= lines) return start + index + 1
    }
  }
  return 0
})

const make = Effect.gen(function*() {
  const files = yield* Files
  const ledger = yield* Ledger
  const { reconcile } = yield* Reconciler

  const find = (id: string) => rowOf(ledger, id)

  const sourceOf = (agent: Agent, stream: "stdout" | "stderr"): Source => {
    if (agent.state._tag === "rolled-back") {
      const tail = new TextEncoder().encode(agent.tail?.[stream] ?? "")
      return {
        size: Effect.succeed(tail.length),
        at: (offset, bytes) => Effect.succeed(tail.subarray(offset, offset + bytes))
      }
    }
    const path = Path.join(agent.plan.directory, stream === "stderr" ? stderrFile : stdoutFile)
    return {
      size: Effect.map(files.inspect(path), (info) => info?.size ?? 0),
      // The files of a rolled-back or pruned agent are removed: there is nothing more to read.
      at: (offset, bytes) =>
        Effect.catchIf(
          files.readChunk(path, offset, bytes),
          (error) => error.code === "ENOENT",
          () => Effect.succeed(new Uint8Array(0))
        )
    }
  }

  const read = Effect.fn("Output.read")(function*(id: string, options: ReadOptions = {}) {
    const { maxBytes, offset } = yield* Effect.mapError(
      decodeReading({ offset: options.offset ?? 0, maxBytes: options.maxBytes ?? chunkBytes }),
      invalid
    )
    // The state comes first: what is read after the end was seen is all that will ever be there.
    const agent = yield* Effect.flatMap(find(id), reconcile)
    const source = sourceOf(agent, options.stream ?? "stdout")
    const bytes = yield* source.at(offset, maxBytes)
    const nextOffset = offset + bytes.length
    const size = yield* source.size
    return {
      bytes,
      offset,
      nextOffset,
      size,
      isComplete: isFinal(agent.state) && nextOffset >= size,
      isTail: agent.state._tag === "rolled-back"
    }
  })

  const chunks = (id: string, options: OutputOptions) =>
    Stream.unwrap(Effect.gen(function*() {
      if (options.offset !== undefined && options.tailLines !== undefined) {
        return yield* new InvalidRequest({ issues: [{ path: ["tailLines"], expected: "no value beside an offset" }] })
      }
      const { offset: given } = yield* Effect.mapError(decodeOffset({ offset: options.offset ?? 0 }), invalid)
      const agent = yield* find(id)
      const stream = options.stream ?? "stdout"
      const source = sourceOf(agent, stream)
      const changes = yield* files.watch(agent.plan.directory)
      const tick = Effect.raceFirst(Queue.take(changes), Effect.sleep(pollInterval))
      let offset = options.tailLines === undefined ? given : yield* startOfTail(source, options.tailLines)
      let known = yield* source.size

      const isOver = Effect.flatMap(find(id), reconcile).pipe(
        Effect.map(({ state }) => isFinal(state)),
        // It was pruned meanwhile.
        Effect.catchTag("AgentNotFound", () => Effect.succeed(true))
      )
      const next = Effect.gen(function*() {
        let ended = false
        while (true) {
          const bytes = yield* source.at(offset, chunkBytes)
          if (bytes.length > 0) {
            const chunk: OutputChunk = { stream, offset, bytes }
            offset += bytes.length
            known = Math.max(known, offset)
            return chunk
          }
          if (!ended) {
            // Read once more after the end was seen: what was written until then comes with it.
            ended = options.follow !== true || (yield* isOver)
            if (ended) continue
          }
          const size = yield* source.size
          // The file was cut. An offset that was given behind the end is not that: it is still to be reached.
          const isCut = size < known && size < offset
          known = size
          if (isCut) {
            offset = 0
            continue
          }
          if (ended) return yield* Cause.done()
          yield* tick
        }
      })
      return Stream.fromPull(Effect.succeed(Effect.map(next, (chunk) => [chunk] as const)))
    }))

  /** Whether both names are of one file. */
  const isMerged = Effect.fnUntraced(function*({ plan }: Agent) {
    const stdout = yield* files.inspect(Path.join(plan.directory, stdoutFile))
    const stderr = yield* files.inspect(Path.join(plan.directory, stderrFile))
    return stdout !== undefined && stdout.inode === stderr?.inode && stdout.device === stderr.device
  })

  return Output.of({
    read,
    stream: (id, options = {}) => Stream.map(chunks(id, options), ({ bytes }) => bytes),
    both: (id, options = {}) =>
      Stream.unwrap(Effect.gen(function*() {
        const stdout = chunks(id, { ...options, stream: "stdout" })
        if (yield* isMerged(yield* find(id))) return stdout
        const stderr = chunks(id, { ...options, stream: "stderr" })
        return options.follow === true ? Stream.merge(stdout, stderr) : Stream.concat(stdout, stderr)
      }))
  })
})
