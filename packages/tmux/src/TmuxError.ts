/**
 * Why an operation on tmux failed: one class per failure, each with its fields and a message that says what to do.
 *
 * The classes separate what a caller must treat differently. `TmuxNoServer` and `TmuxNoSuchSession` are answers: tmux
 * (or the system, for the socket) said that there is nothing. `TmuxTimeout` and `TmuxCommandFailed` are the absence of
 * an answer: what they leave is unknown, and must not be read as "nothing is there". So are `TmuxNotStarted`, where
 * nothing was asked, and `TmuxClientLost`, where what was asked may have been done.
 *
 * No message repeats the text of an argument that was refused, since it may be a secret.
 */
import { Schema } from "effect"
import * as Sentence from "./Sentence.ts"

/** The tmux executable was not found on the PATH. */
export class TmuxNotFound extends Schema.TaggedError<TmuxNotFound>()("TmuxNotFound", {
  executable: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `"${this.executable}" was not found: install tmux, or add the directory that holds it to PATH`
  }
}

/** The tmux that was found lacks what this package needs. */
export class TmuxTooOld extends Schema.TaggedError<TmuxTooOld>()("TmuxTooOld", {
  found: Schema.String,
  required: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `${this.found} is too old: install tmux ${this.required} or newer`
  }
}

/** tmux did not answer within its time limit; what it did is unknown. */
export class TmuxTimeout extends Schema.TaggedError<TmuxTimeout>()("TmuxTimeout", {
  operation: Schema.String,
  millis: Schema.Finite
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `tmux did not answer to ${this.operation} within ${this.millis} ms: ` +
      "the machine may be overloaded or the tmux server stopped; try again"
  }
}

/** The system had no memory, process or file descriptor left for a tmux process: nothing was asked. */
export class TmuxNotStarted extends Schema.TaggedError<TmuxNotStarted>()("TmuxNotStarted", {
  operation: Schema.String,
  code: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `no process could be started to ask tmux for ${this.operation} (${this.code}): free memory, or raise the limits ` +
      "on processes and open files, and try again"
  }
}

/** The control client ended before it gave an answer; what it was asked for may have been done. */
export class TmuxClientLost extends Schema.TaggedError<TmuxClientLost>()("TmuxClientLost", {
  operation: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the control client of tmux ended before it answered to ${this.operation}, which may have been done: try again`
  }
}

/** Nothing listens on the socket: it does not exist, or the server that made it has ended. */
export class TmuxNoServer extends Schema.TaggedError<TmuxNoServer>()("TmuxNoServer", {
  socket: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `no tmux server is running on ${this.socket}: it starts with the first session`
  }
}

/** The server answered that it has no such session. */
export class TmuxNoSuchSession extends Schema.TaggedError<TmuxNoSuchSession>()("TmuxNoSuchSession", {
  target: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `tmux has no session ${this.target}: it has ended, was renamed, or never started`
  }
}

/** The server already has a session of this name. */
export class TmuxDuplicateSession extends Schema.TaggedError<TmuxDuplicateSession>()("TmuxDuplicateSession", {
  name: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `tmux already has a session named ${this.name}: end it first, or choose another name`
  }
}

/** The kinds of arguments that can be refused. */
export const ArgumentKind = Schema.Literals(["socket", "name", "script", "environment", "target"])
export type ArgumentKind = typeof ArgumentKind.Type

/** An argument was refused before anything ran, since tmux would read it as something else than text. */
export class TmuxRefusedArgument extends Schema.TaggedError<TmuxRefusedArgument>()("TmuxRefusedArgument", {
  argument: ArgumentKind,
  reason: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the ${this.argument} given to tmux was refused: ${this.reason}`
  }
}

/**
 * tmux failed in a way that says nothing about sessions, or answered with something that cannot be read.
 *
 * `exitCode` is null when there is none: tmux could not be run, or was ended by a signal.
 */
export class TmuxCommandFailed extends Schema.TaggedError<TmuxCommandFailed>()("TmuxCommandFailed", {
  operation: Schema.String,
  exitCode: Schema.NullOr(Schema.Finite),
  stderr: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const code = this.exitCode === null ? "without an exit code" : `with exit code ${this.exitCode}`
    return `tmux failed at ${this.operation} ${code}: ${this.stderr === "" ? "it gave no reason" : this.stderr}`
  }
}

/** Every failure of an operation on tmux, as a schema for use in other errors. */
export const TmuxError = Schema.Union([
  TmuxNotFound,
  TmuxTooOld,
  TmuxTimeout,
  TmuxNotStarted,
  TmuxClientLost,
  TmuxNoServer,
  TmuxNoSuchSession,
  TmuxDuplicateSession,
  TmuxRefusedArgument,
  TmuxCommandFailed
])
export type TmuxError = typeof TmuxError.Type
