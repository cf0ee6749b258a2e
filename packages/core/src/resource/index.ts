/**
 * `@slipway/core/resource`: what a kind of resource is, for programs that bring their own along.
 *
 * `own` makes one that `Slipway.layer({ resources: [Mine] })` takes. `define`, `release` and the walk are what Slipway
 * itself does with it, and need not be called.
 */
export { type Subject } from "../agent/Agent.ts"
export { type Planned, Until } from "../agent/Plan.ts"
export { AlreadyGone, failed, isClean, kept, Released, ReleaseOutcome, ReleaseRecord } from "../agent/Release.ts"
export {
  type Draft,
  InvalidResources,
  type Own,
  own,
  type OwnError,
  type OwnKind,
  ResourceFailed,
  ResourceRefused
} from "./Own.ts"
export { type Kind, type Presence, type Resource, type Rules } from "./Resource.ts"
