/**
 * Standard output and standard error, written whole: what was accepted here has left the process when `drained` answers.
 *
 * A reader that goes away (a closed pipe, a terminal that hung up) closes the stream: what comes later is dropped, and nothing
 * else changes. Whatever else a write meets (a full disk, a quota, a broken device) closes it too, is said on standard error, and
 * is kept as `lost` where it concerned an answer, since a command whose answer is lost has not succeeded.
 *
 * Pipes, sockets and terminals are Node's own streams, which queue what their reader has not taken yet. Files and devices are
 * written here, since Node's stream for them takes a write of a part for a whole one. Nothing here waits, throws or ends
 * the process; a reader that never reads keeps `drained` from answering, and it is for the caller to bound that.
 */
import * as Fs from "node:fs"

export type Name = "stdout" | "stderr"

const descriptors = { stdout: 1, stderr: 2 } as const satisfies Record<Name, number>

interface State {
  readonly stream: NodeJS.WriteStream
  readonly isFile: boolean
  isOpen: boolean
}

const found: { [key in Name]?: State } = {}

const isFile = (descriptor: number, stream: NodeJS.WriteStream): boolean => {
  try {
    const stat = Fs.fstatSync(descriptor)
    return stat.isFile() || (stat.isCharacterDevice() && !stream.isTTY)
  } catch {
    return false
  }
}

// Node opens its streams when they are first asked for, which takes its time.
const stateOf = (name: Name): State => {
  const known = found[name]
  if (known !== undefined) return known
  const stream = process[name]
  const state = { stream, isFile: isFile(descriptors[name], stream), isOpen: true }
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

const writeFile = (name: Name, bytes: Uint8Array, isAnswer: boolean): void => {
  try {
    for (let written = 0; written < bytes.length;) {
      written += Fs.writeSync(descriptors[name], bytes, written, bytes.length - written)
    }
  } catch (error) {
    failed(name, error, isAnswer)
  }
}

/** Writes, or drops what nobody can read any more; `taken` is called when it has left the process, or can't any more. */
export const write = (
  name: Name,
  data: string | Uint8Array,
  options: { readonly isAnswer?: boolean; readonly taken?: () => void } = {}
): void => {
  const { isAnswer = name === "stdout", taken = () => {} } = options
  const state = stateOf(name)
  if (!state.isOpen) return taken()
  if (state.isFile) {
    writeFile(name, typeof data === "string" ? Buffer.from(data) : data, isAnswer)
    return taken()
  }
  state.stream.write(data, (error) => {
    if (error !== undefined && error !== null) failed(name, error, isAnswer)
    taken()
  })
}

/** Calls back when nobody can read standard output any more. */
export const whenClosed = (listener: () => void): void => {
  closedListeners.push(listener)
}

/** The code of the error that an answer was lost by, if one was. */
export const lost = (): string | undefined => lostCode

/** Calls back when everything that was written has left the process, or can't any more. */
export const drained = (done: () => void): void => {
  const waiting = (["stdout", "stderr"] as const).filter((name) => {
    const state = found[name]
    return state !== undefined && state.isOpen && !state.isFile && state.stream.writableLength > 0
  })
  if (waiting.length === 0) return done()
  let left = waiting.length
  const taken = () => {
    left -= 1
    if (left === 0) drained(done)
  }
  for (const name of waiting) write(name, "", { taken })
}
