/**
 * What a failed tmux command means, read from its standard error.
 *
 * Only texts by which tmux says that there is no server or no session are taken as such. Everything else, a refused
 * permission above all, stays `TmuxCommandFailed`: not known. tmux does not translate its messages.
 */
import {
  TmuxCommandFailed,
  TmuxDuplicateSession,
  type TmuxError,
  TmuxNoServer,
  TmuxNoSuchSession
} from "./TmuxError.ts"

/** A command that failed, with what it was aimed at. */
export interface FailedCommand {
  readonly operation: string
  readonly socket: string
  /** The session that it was aimed at, for a person to read. */
  readonly target: string
  readonly exitCode: number | null
  readonly stderr: string
}

// ECONNREFUSED is what a socket gives whose server was killed, and tmux words it as "no server running".
const noServer = /^no server running on |^error connecting to .* \((?:No such file or directory|Connection refused)\)$/m
const noSession = /^(?:can't find session|no such session|session not found): |^no current (?:target|session)$/m
const duplicate = /^duplicate session: /m
const lostServer = /^\[?(?:lost server|server exited)/m

/** Whether the server ended while it was asked, so that asking again shows what is true now. */
export const isLostServer = (error: TmuxError): boolean =>
  error._tag === "TmuxCommandFailed" && lostServer.test(error.stderr)

/** The meaning of a failed command. */
export const classify = ({ exitCode, operation, socket, stderr, target }: FailedCommand): TmuxError => {
  const text = stderr.trim()
  if (noServer.test(text)) return new TmuxNoServer({ socket })
  if (duplicate.test(text)) return new TmuxDuplicateSession({ name: target })
  if (noSession.test(text)) return new TmuxNoSuchSession({ target })
  return new TmuxCommandFailed({ operation, exitCode, stderr: text.slice(0, 2_000) })
}
