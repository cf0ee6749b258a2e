/**
 * Why a rebuild does not begin. Each leaves everything as it is, and says what to do.
 */
import { Sentence } from "@slipway/tmux"
import { Schema } from "effect"

/** There is nothing to rebuild. */
export class RegistryHealthy extends Schema.TaggedError<RegistryHealthy>()("RegistryHealthy", { path: Schema.String }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry ${this.path} is healthy and was left as it is; 'slipway doctor' shows what does not agree with it, and 'slipway reap' cleans it up`
  }
}

/** Processes have the registry open, and would go on writing to the file that is set aside. */
export class RegistryInUse extends Schema.TaggedError<RegistryInUse>()("RegistryInUse", {
  path: Schema.String,
  /** None where the system does not show which processes have a file open. */
  pids: Schema.Array(Schema.Int)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return this.pids.length === 0
      ? `this system does not show which processes have the registry ${this.path} open; install lsof, and run 'slipway rebuild' again`
      : `the registry ${this.path} is open in process ${
        this.pids.join(", ")
      }; end it, or wait for it, and run 'slipway rebuild' again`
  }
}

/** Another rebuild of this home is under way. */
export class RebuildRunning extends Schema.TaggedError<RebuildRunning>()("RebuildRunning", { pid: Schema.Int }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `process ${this.pid} already rebuilds the registry of this home, or changes its limits; try again when it is done`
  }
}

/** The home is a copy of one that still stands: what runs belongs to that one. */
export class HomeCopied extends Schema.TaggedError<HomeCopied>()("HomeCopied", {
  path: Schema.String,
  original: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the home ${this.path} is a copy of ${this.original}, which still stands and answers for its agents; use that one, or make a new home`
  }
}
