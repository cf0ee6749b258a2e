/**
 * tmux by one process per call: the transport that needs nothing but the `tmux` executable.
 *
 * Time: each call ends within the time limit. A tmux that hangs is then sent SIGTERM, and SIGKILL a quarter of a second
 * later, which takes up to one more second. An interrupted call ends its process in the same way. The tmux server is
 * not affected by either: it leaves the process group when it starts.
 *
 * The server is started without a configuration file, from `/`, and with PATH, HOME, TERM and LANG alone. So it and the
 * sessions of later callers bear nothing of the caller that happened to come first. It stays when its last session
 * ends: otherwise a `newSession` that meets this moment fails.
 *
 * The sessions that control clients are attached to are not listed, whichever process attached them.
 */
import { Effect, Layer } from "effect"
import type { ChildProcessSpawner } from "effect/process"
import * as Executable from "./Executable.ts"
import * as Operations from "./Operations.ts"
import { Tmux } from "./Tmux.ts"

export type { Options } from "./Executable.ts"

const make = Effect.fnUntraced(function*(options: Executable.Options) {
  const { ask, version } = yield* Executable.make(options)
  return Tmux.of({ version, server: Operations.make({ version, ask }) })
})

/** tmux by one process per call. */
export const layer = (
  options: Executable.Options = {}
): Layer.Layer<Tmux, never, ChildProcessSpawner.ChildProcessSpawner> => Layer.effect(Tmux, make(options))
