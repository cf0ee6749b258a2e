/**
 * The kinds of resources that a program knows: the house's own, which the walk calls by this list alone, and those that
 * it brings along.
 */
import { Context, Effect, Layer } from "effect"
import { rowKind } from "../agent/Plan.ts"
import { AgentDirectory } from "./AgentDirectory.ts"
import { AgentSession } from "./AgentSession.ts"
import {
  type Draft,
  InvalidResources,
  issuesOf,
  type OwnKind,
  type PlannedOwn,
  type ResourceFailed,
  ResourceRefused
} from "./Own.ts"
import { define, type Kind } from "./Resource.ts"
import { TaskEntry } from "./TaskEntry.ts"
import { Worktree } from "./worktree/Worktree.ts"

export class Resources extends Context.Service<Resources, {
  readonly kinds: ReadonlyArray<Kind>
  /** Decides the references of the things that a request asks for, in the order of their names; makes nothing. */
  readonly plan: (
    wanted: Readonly<Record<string, unknown>>,
    draft: Draft
  ) => Effect.Effect<ReadonlyArray<PlannedOwn>, ResourceFailed | ResourceRefused>
}>()("@slipway/core/resource/Resources") {
  static readonly layerNoDeps = (own: ReadonlyArray<OwnKind> = []) => Layer.effect(Resources, make(own))
}

const make = Effect.fnUntraced(function*(own: ReadonlyArray<OwnKind>) {
  const house = [
    define(yield* AgentDirectory),
    define(yield* AgentSession),
    define(yield* TaskEntry),
    define(yield* Worktree)
  ]
  const issues = issuesOf(own, house, [rowKind])
  if (issues.length > 0) return yield* new InvalidResources({ issues })
  const known = new Map(own.map((kind) => [kind.kind, kind]))
  const names = own.length === 0 ? "it brings none along" : `it brings along: ${[...known.keys()].join(", ")}`

  const plan = Effect.fn("Resources.plan")((wanted: Readonly<Record<string, unknown>>, draft: Draft) =>
    Effect.forEach(Object.keys(wanted).toSorted(), (name) => {
      const kind = known.get(name)
      return kind === undefined
        ? Effect.fail(new ResourceRefused({ resource: name, problem: `this program does not provide it; ${names}` }))
        : kind.plan(wanted[name], draft)
    })
  )

  return Resources.of({ kinds: [...house, ...own], plan })
})
