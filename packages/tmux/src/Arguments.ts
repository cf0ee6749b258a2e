/**
 * What may be handed to tmux: checked at run time, before anything runs, in the same way by every transport.
 *
 * Types alone do not protect here, since tmux executes parts of what it is given: `#(command)` in a directory or a
 * name, a trailing `;` that starts another command, `$` in control mode. A refusal names the argument and the reason.
 * It never repeats the text.
 */
import { Option, Schema } from "effect"
import { SessionName, SocketPath, Target, unsafe } from "./Target.ts"
import type { NewSession } from "./Tmux.ts"
import { type ArgumentKind, TmuxRefusedArgument } from "./TmuxError.ts"

/** The most that a session's environment and script may take: tmux refuses calls above 16 KB as a whole. */
export const maxArgumentBytes = 8_192

const utf8 = new TextEncoder()

const isSocketPath = Schema.is(SocketPath)
const isSessionName = Schema.is(SessionName)
const isTarget = Schema.is(Target)

const refused = (argument: ArgumentKind, reason: string) => Option.some(new TmuxRefusedArgument({ argument, reason }))

/** Why a socket is refused, if it is. */
export const refuseSocket = (socket: string): Option.Option<TmuxRefusedArgument> =>
  isSocketPath(socket)
    ? Option.none()
    : refused("socket", unsafe(socket) ?? "it must be an absolute path of at most 100 bytes")

/** Why a target is refused, if it is. */
export const refuseTarget = (target: Target): Option.Option<TmuxRefusedArgument> =>
  isTarget(target)
    ? Option.none()
    : refused("target", "it must be the exact name or the id of one session")

/** Why a session is refused, if it is. */
export const refuseNewSession = (options: NewSession): Option.Option<TmuxRefusedArgument> => {
  if (!isSessionName(options.name)) {
    return refused("name", "it must be 1 to 128 of the characters A-Z, a-z, 0-9, _ and -")
  }
  if (!options.script.startsWith("/")) return refused("script", "it must be an absolute path")
  const script = unsafe(options.script)
  if (script !== undefined) return refused("script", script)
  let bytes = utf8.encode(options.script).length
  for (const [name, value] of Object.entries(options.environment)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) return refused("environment", "a variable has a name sh cannot export")
    const reason = unsafe(value)
    if (reason !== undefined) return refused("environment", `the value of ${name}: ${reason}`)
    bytes += name.length + utf8.encode(value).length
  }
  return bytes > maxArgumentBytes
    ? refused("environment", `with the script's path it takes more than ${maxArgumentBytes} bytes`)
    : Option.none()
}
