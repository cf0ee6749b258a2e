/**
 * Changes what a home allows.
 *
 * The change is one file put in place by write and rename, under the registry's write lock, in which every admission
 * reads it. Once `set` has answered, nothing is admitted by the former limit. Agents that are active stay, also when
 * they are more than the new limit allows. A failure or an interruption leaves the former limit or the new one, whole.
 * It waits for a registry that is locked and for another change. While a rebuild is under way, which writes the same
 * file, it is refused.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Schedule, Schema } from "effect"
import type { FileError } from "../machine/Files.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { Home, type HomeLimits, type HomeUnusable } from "./Home.ts"
import { holdFile } from "./ReaperLock.ts"

/** A rebuild of the home's registry, or a change of its limits, is under way. */
export class HomeBusy extends Schema.TaggedError<HomeBusy>()("HomeBusy", { path: Schema.String, pid: Schema.Int }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `process ${this.pid} changes the home ${this.path} just now; try again when it is done`
  }
}

/** Another change takes a moment, a rebuild may take long. */
const patience = { times: 40, schedule: Schedule.spaced("50 millis") }

export type SetLimitsError = FileError | HomeBusy | HomeUnusable | RegistryError

/** Stores new limits; answers with all limits as they are then. */
export const set = Effect.fn("HomeLimits.set")(function*(limits: Partial<HomeLimits>) {
  const home = yield* Home
  const ledger = yield* Ledger
  const lock = yield* holdFile("rebuild", ({ holder }) => new HomeBusy({ path: home.directory, pid: holder.pid }))
  yield* Effect.retry(lock.hold, { ...patience, while: (error) => error._tag === "HomeBusy" })
  yield* ledger.exclusively(home.recordLimits(limits))
  return yield* home.limits
}, Effect.scoped)
