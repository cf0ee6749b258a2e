/**
 * Standard output and standard error, written whole: what was accepted here has left the process when `drained`
 * answers.
 *
 * A reader that closes its end (a closed pipe, a terminal that hung up) closes the stream: later writes are dropped,
 * and nothing else changes. Any other failure of a write (a full disk, a quota, a broken device) closes it too, and
 * standard error reports it. Where it concerned an answer, it is kept as `lost`, since a command whose answer is lost
 * has not succeeded.
 *
 * Pipes and sockets are Node's own streams, which queue what their reader has not taken yet. Files, devices and
 * terminals are written here, for two reasons. Node's stream for files takes a write of a part for a whole one. Its
 * stream for terminals blocks the whole process while a terminal is stopped.
 *
 * Nothing here waits, throws or ends the process. A reader that never reads keeps `drained` from answering; the caller
 * has to bound that.
 */
import * as Fs from "node:fs"

export type Name = "stdout" | "stderr"

const descriptors = { stdout: 1, stderr: 2 } as const satisfies Record<Name, number>

/** What is still to be written here. */
interface Part {
  readonly bytes: Uint8Array
  readonly isAnswer: boolean
  readonly taken: () => void
  written: number
}

interface State {
  readonly stream: NodeJS.WriteStream
  /** What is written to here; none where Node's stream is. */
  readonly descriptor: number | undefined
  readonly parts: Array<Part>
  isOpen: boolean
}

const found: { [key in Name]?: State } = {}

const ownDescriptor = (descriptor: number, stream: NodeJS.WriteStream): number | undefined => {
  const { O_NOCTTY, O_NONBLOCK, O_WRONLY } = Fs.constants
  try {
    const stat = Fs.fstatSync(descriptor)
    if (stat.isFIFO() || stat.isSocket()) return undefined
    // Opened anew, since not to block is a property that all processes would share otherwise.
    return stream.isTTY ? Fs.openSync(`/proc/self/fd/${descriptor}`, O_WRONLY | O_NOCTTY | O_NONBLOCK) : descriptor
  } catch {
    return undefined
  }
}

// Node opens its streams when they are first asked for, which takes its time.
const stateOf = (name: Name): State => {
  const known = found[name]
  if (known !== undefined) return known
  const stream = process[name]
  const descriptor = ownDescriptor(descriptors[name], stream)
  const state: State = { stream, descriptor, parts: [], isOpen: true }
  found[name] = state
  stream.on("error", (error) => failed(name, error, name === "stdout"))
  return state
}

let lostCode: string | undefined
const closedListeners: Array<() => void> = []

const whys: Readonly<Record<string, string>> = {
  EDQUOT: "the quota of this user is used up",
  EFBIG: "the file may not become so large",
  EIO: "the device has failed",
  ENOSPC: "no space is left on the device"
}

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "an unknown error"

const isReaderGone = ({ stream }: State, code: string): boolean =>
  code === "EPIPE" || code === "ECONNRESET" || (code === "EIO" && stream.isTTY)

const failed = (name: Name, error: unknown, isAnswer: boolean): void => {
  const state = stateOf(name)
  if (!state.isOpen) return
  state.isOpen = false
  const code = codeOf(error)
  if (isAnswer && !isReaderGone(state, code)) {
    lostCode = code
    const why = whys[code]
    write(
      "stderr",
      `slipway: standard ${name === "stdout" ? "output" : "error"} can't be written: ${
        why === undefined ? code : `${why} (${code})`
      }; what this command did stands\n`
    )
  }
  if (name === "stdout") { for (const listener of closedListeners) listener() }
}

/** How long to wait until a terminal that takes nothing is tried again. */
const retryMillis = 10

const flush = (name: Name, state: State, descriptor: number): void => {
  for (let part = state.parts[0]; part !== undefined; part = state.parts[0]) {
    const { bytes, isAnswer, taken, written } = part
    if (state.isOpen && written < bytes.length) {
      try {
        part.written += Fs.writeSync(descriptor, bytes, written, bytes.length - written)
      } catch (error) {
        if (codeOf(error) === "EAGAIN") return void setTimeout(flush, retryMillis, name, state, descriptor)
        failed(name, error, isAnswer)
      }
    } else {
      state.parts.shift()
      taken()
    }
  }
}

/** Writes, or drops what has no reader any more; `taken` is called when it has left the process, or can't any more. */
export const write = (
  name: Name,
  data: string | Uint8Array,
  options: { readonly isAnswer?: boolean; readonly taken?: () => void } = {}
): void => {
  const { isAnswer = name === "stdout", taken = () => {} } = options
  const state = stateOf(name)
  if (!state.isOpen) return taken()
  if (state.descriptor !== undefined) {
    const bytes = typeof data === "string" ? Buffer.from(data) : data
    if (state.parts.push({ bytes, isAnswer, taken, written: 0 }) === 1) flush(name, state, state.descriptor)
    return
  }
  state.stream.write(data, (error) => {
    if (error !== undefined && error !== null) failed(name, error, isAnswer)
    taken()
  })
}

/** Calls back when standard output has no reader any more. */
export const whenClosed = (listener: () => void): void => {
  closedListeners.push(listener)
}

/** The code of the error that an answer was lost by, if one was. */
export const lost = (): string | undefined => lostCode

/** Calls back when everything that was written has left the process, or can't any more. */
export const drained = (done: () => void): void => {
  const waiting = (["stdout", "stderr"] as const).filter((name) => {
    const state = found[name]
    return state !== undefined && state.isOpen && (state.parts.length > 0 || state.stream.writableLength > 0)
  })
  if (waiting.length === 0) return done()
  let left = waiting.length
  const taken = () => {
    left -= 1
    if (left === 0) drained(done)
  }
  for (const name of waiting) write(name, "", { taken })
}
