/**
 * `@slipway/core/resource`: what a kind of resource is, for programs that bring their own along.
 *
 * `own` makes one that `Slipway.layer({ resources: [Mine] })` takes. `define`, `release` and the walk are what Slipway
 * itself does with it, and need not be called.
 */
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
export {
  AlreadyGone,
  failed,
  isClean,
  kept,
  type Kind,
  type Planned,
  type Presence,
  Released,
  ReleaseOutcome,
  ReleaseRecord,
  type Resource,
  type Rules,
  type Subject,
  Until
} from "./Resource.ts"
