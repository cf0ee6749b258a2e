/**
 * The bytes of anything that a path names and can be read: a file, a named pipe, `<(…)`, `/dev/stdin`, a device, a
 * terminal.
 *
 * Effect's file system reads at positions, which a pipe has none of. Nothing here blocks: a pipe without a writer is
 * opened at once, and the event loop waits for it. So an interruption ends the wait and closes what was opened. A
 * thread that blocked in a read would keep the process from ending.
 */
import { NodeStream } from "@effect/platform-node"
import { Effect, Stream } from "effect"
import * as Fs from "node:fs"
import * as Net from "node:net"
import type { Readable } from "node:stream"
import * as Tty from "node:tty"
import { codeOf, unreadableBy, type UsageError } from "./Errors.ts"

/** The descriptor of this process that a path is another name of. */
const descriptorOf = (path: string): number | undefined => {
  if (path === "/dev/stdin") return 0
  const match = /^\/(?:dev|proc\/self)\/fd\/(\d{1,9})$/.exec(path)
  return match === null ? undefined : Number(match[1])
}

const open = (path: string): number => {
  const { O_NOCTTY, O_NONBLOCK, O_RDONLY } = Fs.constants
  try {
    return Fs.openSync(path, O_RDONLY | O_NOCTTY | O_NONBLOCK)
  } catch (error) {
    const own = descriptorOf(path)
    // A socket can't be opened again, and neither can another user's pipe; the descriptor itself is there.
    if (own !== undefined && ["EACCES", "ENXIO"].includes(codeOf(error) ?? "")) return own
    throw error
  }
}

const readableOf = (descriptor: number): Readable => {
  const stat = Fs.fstatSync(descriptor)
  if (stat.isFIFO() || stat.isSocket()) return new Net.Socket({ fd: descriptor, readable: true, writable: false })
  if (Tty.isatty(descriptor)) return new Tty.ReadStream(descriptor)
  return Fs.createReadStream("", { fd: descriptor })
}

/** The bytes, to their end; `what` names them in an error. */
export const bytes = (path: string, what: string, hint?: string): Stream.Stream<Uint8Array, UsageError> => {
  const unreadable = (error: unknown) => unreadableBy(what, codeOf(error) ?? "it can't be opened", hint)
  return Stream.unwrap(Effect.map(
    Effect.try({ try: () => readableOf(open(path)), catch: unreadable }),
    (readable) => NodeStream.fromReadable<Uint8Array, UsageError>({ evaluate: () => readable, onError: unreadable })
  ))
}

/** The same as text. */
export const text = (path: string, what: string, hint?: string): Effect.Effect<string, UsageError> =>
  Stream.mkString(Stream.decodeText(bytes(path, what, hint)))
