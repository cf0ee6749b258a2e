/**
 * Why a question to the registry failed: it can't be used now, is damaged, is of a newer Slipway, or is another home's; and
 * the id that it does not know.
 */
import { Sentence } from "@slipway/tmux"
import { Schema } from "effect"

/**
 * Why a registry can't be used just now: what passes by itself or by mending the machine, or `content` for a value that
 * can't be stored, or `other`.
 */
export const UnavailableBecause = Schema.Literals([
  "locked",
  "disk-full",
  "read-only",
  "cannot-open",
  "input-output",
  "content",
  "other"
])
export type UnavailableBecause = typeof UnavailableBecause.Type

/** The registry could not be read or written; nothing of the operation was stored. */
export class RegistryUnavailable extends Schema.TaggedError<RegistryUnavailable>()("RegistryUnavailable", {
  operation: Schema.String,
  because: UnavailableBecause,
  /** The same in the words of the database or of the system. */
  reason: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry could not ${this.operation}: ${this.reason}; check the disk and the permissions of the home, then try again`
  }
}

/** The registry's file is damaged, or is no registry; it was left as it is. */
export class RegistryCorrupt extends Schema.TaggedError<RegistryCorrupt>()("RegistryCorrupt", {
  path: Schema.String,
  reason: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry ${this.path} is damaged (${this.reason}) and was left as it is; 'slipway rebuild' sets it aside and makes a new one from what tasks and agents left`
  }
}

/** The registry was written by a newer Slipway; it was left as it is. */
export class RegistryTooNew extends Schema.TaggedError<RegistryTooNew>()("RegistryTooNew", {
  path: Schema.String,
  found: Schema.Int,
  supported: Schema.Int
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry ${this.path} has schema ${this.found}, and this Slipway knows ${this.supported}; update Slipway, or use another home`
  }
}

/** The file is not the registry that this home recorded: a copy or a restored one. */
export class RegistryReplaced extends Schema.TaggedError<RegistryReplaced>()("RegistryReplaced", {
  path: Schema.String,
  reason: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the registry ${this.path} is not the one this home recorded (${this.reason}); a copied or restored registry does not know what runs now, so it is refused; 'slipway rebuild' sets it aside and makes one from what tasks and agents left`
  }
}

/** No agent of this home has this id; it may not even have the form of one. */
export class AgentNotFound extends Schema.TaggedError<AgentNotFound>()("AgentNotFound", { agentId: Schema.String }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `there is no agent ${JSON.stringify(this.agentId)} in this home; 'slipway ps --all' shows those there are`
  }
}

export const RegistryError = Schema.Union([RegistryUnavailable, RegistryCorrupt, RegistryTooNew, RegistryReplaced])
export type RegistryError = typeof RegistryError.Type
