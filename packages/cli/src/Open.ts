/**
 * Opens the home that the global flags and the environment name, for as long as one command runs.
 *
 * Flags go before variables; which socket goes with which home is the library's rule (`choose`).
 */
import { choose, currentCaller, Slipway } from "@slipway/core"
import { Effect, Layer, Option } from "effect"
import * as Path from "node:path"
import * as AtStart from "./AtStart.ts"
import { HomeFlag, SocketFlag } from "./Cli.ts"
import { UsageError } from "./Errors.ts"

/** A command asks tmux a few times and ends, which is not worth a client of its own. */
const transport = "process" as const

/** The home that was asked for. */
export const options = Effect.gen(function*() {
  const caller = { ...(yield* currentCaller), openFiles: AtStart.softOpenFiles }
  const home = Option.getOrUndefined(yield* HomeFlag)
  if (home === "") return yield* new UsageError({ problem: "--home is empty", hint: "name a directory" })
  const { directory, socket } = yield* choose(
    { directory: home, socket: Option.getOrUndefined(yield* SocketFlag) },
    caller
  )
  if (socket !== undefined && !Path.isAbsolute(socket)) {
    return yield* new UsageError({
      problem: `the tmux socket ${JSON.stringify(socket)} is not an absolute path`,
      hint: "give --socket or SLIPWAY_TMUX_SOCKET a path that begins with /"
    })
  }
  return { directory, socket, transport, caller }
})

/** Slipway on the home that was asked for. */
export const layer = Layer.unwrap(Effect.map(options, Slipway.layer))
