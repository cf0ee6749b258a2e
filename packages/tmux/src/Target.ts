/**
 * What an operation on tmux is aimed at: a socket by absolute path, and on it one session, exactly.
 *
 * tmux matches a bare name by prefix and pattern, and an empty one matches any session; such targets cannot be written
 * here. A name always stands for itself alone (`=name`). An id is only meant for the server that gave it, since ids
 * restart at `$0` with each server. So an `Id` carries the server's pid and never reaches a session of a successor.
 */
import { Schema } from "effect"

/** The longest path of a socket, in bytes: the system's limit is 104 to 108, and tmux appends `.lock`. */
export const maxSocketPathBytes = 100

const utf8 = new TextEncoder()

/** Why tmux would not read a text as just that text, or undefined when it would. */
export const unsafe = (text: string): string | undefined => {
  if (text.includes("#")) return "it contains #, which tmux may expand"
  if (text.includes("$")) return "it contains $, which tmux may expand"
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u001f\u007f]/.test(text)) return "it contains a newline or another control character"
  if (text.endsWith(";")) return "it ends with ;, which ends a tmux command"
  return undefined
}

/** The absolute path of a tmux socket, free of what tmux would interpret. */
export const SocketPath = Schema.String.check(
  Schema.makeFilter((path) => path.startsWith("/") || "a socket's path must be absolute"),
  Schema.makeFilter((path) =>
    utf8.encode(path).length <= maxSocketPathBytes || `a socket's path has at most ${maxSocketPathBytes} bytes`
  ),
  Schema.makeFilter((path) => unsafe(path) ?? true)
).pipe(Schema.brand("SocketPath"))
export type SocketPath = typeof SocketPath.Type

/** The name of a session as this package gives it: what tmux neither rewrites (`.` and `:`) nor expands. */
export const SessionName = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9_-]{1,128}$/u)).pipe(
  Schema.brand("SessionName")
)
export type SessionName = typeof SessionName.Type

/** The id that a server gave to a session: `$` and digits, unique during that server's life. */
export const SessionId = Schema.String.check(Schema.isPattern(/^\$(0|[1-9][0-9]{0,9})$/u)).pipe(
  Schema.brand("SessionId")
)
export type SessionId = typeof SessionId.Type

/** The pid of a tmux server. */
export const ServerPid = Schema.Int.check(Schema.isGreaterThan(0))

/** One session: by its exact name, or by the id that one server gave it. */
export const Target = Schema.TaggedUnion({
  Name: { name: SessionName },
  Id: { id: SessionId, serverPid: ServerPid }
})
export type Target = typeof Target.Type

/** The target of an exact name. */
export const name = (name: SessionName): Target => ({ _tag: "Name", name })

/** The target of an id, valid for the server with this pid alone. */
export const id = (id: SessionId, serverPid: number): Target => ({ _tag: "Id", id, serverPid })

/** The target as tmux takes it after `-t`: `=name`, or the id. An id's server has to be checked beside it. */
export const render = (target: Target): string => target._tag === "Name" ? `=${target.name}` : target.id

/** The target for a person to read. */
export const describe = (target: Target): string =>
  target._tag === "Name" ? target.name : `${target.id} of the server with pid ${target.serverPid}`
