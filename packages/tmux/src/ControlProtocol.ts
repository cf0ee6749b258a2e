/**
 * What a tmux in control mode writes, as messages: blocks (the output of one command) and notifications.
 *
 * A block stands between `%begin TIME NUMBER FLAGS` and a line with the same three numbers, `%end` or `%error`. All
 * lines between them are output, whatever they contain; tmux writes no notification there. Bytes may come in pieces of
 * any size, cut within a line or a character. Time and memory are linear in the bytes. A line that can be none of all
 * this is reported as `Unexpected`: its reader knows that it lost its place and must believe nothing that follows.
 *
 * A program may set a variable of its session to the text of an end. It would have to guess the number, which counts
 * all commands of the server. So an accident is excluded, and an intent ends in `Unexpected`.
 */

/** The output of one command. */
export interface Block {
  readonly _tag: "Block"
  /** Counts the commands of the server. */
  readonly number: number
  /** Whether the command came as a line of this client, and not from a hook or from the client's arguments. */
  readonly isOwn: boolean
  readonly isError: boolean
  /** The lines, each with its newline. */
  readonly text: string
}

/** What tmux reports without being asked: `%name argument`. */
export interface Notification {
  readonly _tag: "Notification"
  readonly name: string
  readonly argument: string
}

/** A line that has no place where it stands. */
export interface Unexpected {
  readonly _tag: "Unexpected"
  readonly line: string
}

export type Message = Block | Notification | Unexpected

/** Reads one client's output from its start. */
export interface Parser {
  /** The messages that these bytes complete. */
  readonly feed: (bytes: Uint8Array) => ReadonlyArray<Message>
}

const begin = /^%begin ([0-9]{1,15} ([0-9]{1,15}) ([0-9]{1,9}))$/
const notification = /^%([a-z][a-z-]*)(?: ([^]*))?$/

/** A parser at the start of a client's output. */
export const make = (): Parser => {
  // Decoding as a stream keeps a character together that is cut by the end of a piece.
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true })
  let unfinished: Array<string> = []
  let open: { readonly numbers: string; readonly number: number; readonly flags: number } | undefined
  let lines: Array<string> = []

  const read = (line: string): Message | undefined => {
    if (open !== undefined) {
      const isError = line === `%error ${open.numbers}`
      if (!isError && line !== `%end ${open.numbers}`) {
        lines.push(line, "\n")
        return undefined
      }
      const block: Block = {
        _tag: "Block",
        number: open.number,
        isOwn: (open.flags & 1) === 1,
        isError,
        text: lines.join("")
      }
      open = undefined
      lines = []
      return block
    }
    const begins = begin.exec(line)
    if (begins !== null) {
      open = { numbers: begins[1] ?? "", number: Number(begins[2]), flags: Number(begins[3]) }
      return undefined
    }
    const notifies = notification.exec(line)
    const [, name, argument = ""] = notifies ?? []
    return name === undefined || name === "begin" || name === "end" || name === "error"
      ? { _tag: "Unexpected", line }
      : { _tag: "Notification", name, argument }
  }

  return {
    feed: (bytes) => {
      const pieces = decoder.decode(bytes, { stream: true }).split("\n")
      const rest = pieces.pop() ?? ""
      const messages: Array<Message> = []
      for (const piece of pieces) {
        unfinished.push(piece)
        const message = read(unfinished.join(""))
        unfinished = []
        if (message !== undefined) messages.push(message)
      }
      if (rest !== "") unfinished.push(rest)
      return messages
    }
  }
}
