/**
 * Which home a caller means, and which tmux socket goes with it: one rule for the library and for the command.
 *
 * What is named goes before `SLIPWAY_HOME` and `SLIPWAY_TMUX_SOCKET`, and these before the user's state directory per
 * XDG. A home has to be found again from every directory, so a `HOME` that is empty or relative is passed over for what
 * the user database says. Nothing is made here. What can't be known is a typed error, also where the working directory
 * was removed.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import * as Os from "node:os"
import * as Path from "node:path"
import { type Caller, WorkingDirectoryUnusable } from "../machine/Caller.ts"

/** There is no directory of the user to keep a home in. */
export class HomeUnknown extends Schema.TaggedError<HomeUnknown>()("HomeUnknown", {
  /** `HOME` as it is set. */
  home: Schema.NullOr(Schema.String),
  uid: Schema.NullOr(Schema.Int)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const home = this.home === null ? "HOME is not set" : `HOME is ${JSON.stringify(this.home)}, no absolute path`
    const user = this.uid === null ? "this user" : `the user ${this.uid}`
    return `${home}, and ${user} has no home directory in the user database; set HOME, or name Slipway's home with --home or SLIPWAY_HOME`
  }
}

/** A path as the caller means it: from its working directory, where it is relative. */
export const resolvePath = (
  caller: Pick<Caller, "cwd">,
  path: string
): Effect.Effect<string, WorkingDirectoryUnusable> =>
  Path.isAbsolute(path)
    ? Effect.succeed(Path.resolve(path))
    : caller.cwd === undefined
    ? Effect.fail(new WorkingDirectoryUnusable({ path }))
    : Effect.succeed(Path.resolve(caller.cwd, path))

const absolute = (path: string | undefined): string | undefined =>
  path !== undefined && Path.isAbsolute(path) ? path : undefined

const nonEmpty = (value: string | undefined): string | undefined => value === "" ? undefined : value

/** The directory that the user database has for this user. */
const ofUserDatabase = Effect.sync(() => {
  try {
    return absolute(Os.userInfo().homedir)
  } catch {
    return undefined
  }
})

/** The home of a caller that names none: `SLIPWAY_HOME`, else `slipway` in the user's state directory. */
export const defaultDirectory = Effect.fnUntraced(function*(caller: Pick<Caller, "cwd" | "environment">) {
  const { HOME, SLIPWAY_HOME, XDG_STATE_HOME } = caller.environment
  const named = nonEmpty(SLIPWAY_HOME)
  if (named !== undefined) return yield* resolvePath(caller, named)
  const state = absolute(XDG_STATE_HOME)
  if (state !== undefined) return Path.resolve(state, "slipway")
  const home = absolute(HOME) ?? (yield* ofUserDatabase)
  if (home === undefined) {
    return yield* new HomeUnknown({ home: HOME ?? null, uid: globalThis.process.getuid?.() ?? null })
  }
  return Path.resolve(home, ".local", "state", "slipway")
})

/** The directory, and the socket where another than the home's own is meant. */
export interface Choice {
  readonly directory: string
  readonly socket: string | undefined
}

/**
 * The home and the socket of a caller. Inside of an agent the variables name that agent's home and socket: a caller
 * that names another home there does not mean this home's socket.
 */
export const choose = Effect.fnUntraced(function*(
  given: { readonly directory?: string | undefined; readonly socket?: string | undefined },
  caller: Pick<Caller, "cwd" | "environment">
): Effect.fn.Return<Choice, HomeUnknown | WorkingDirectoryUnusable> {
  const { SLIPWAY_HOME, SLIPWAY_TMUX_SOCKET } = caller.environment
  const directory = given.directory === undefined
    ? yield* defaultDirectory(caller)
    : yield* resolvePath(caller, given.directory)
  const named = nonEmpty(SLIPWAY_HOME)
  const isOther = named !== undefined && given.directory !== undefined &&
    (yield* Effect.orElseSucceed(resolvePath(caller, named), () => undefined)) !== directory
  return { directory, socket: given.socket ?? (isOther ? undefined : nonEmpty(SLIPWAY_TMUX_SOCKET)) }
})
