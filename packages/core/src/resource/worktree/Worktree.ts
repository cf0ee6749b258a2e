/**
 * A working tree of git that an agent has for itself, as a kind of the house.
 *
 * The plan holds its reference: the repository, the tree's path in the home, its branch and the commit that this begins
 * at. A rollback releases it with everything else, after every process of the agent, git's own included, has ended. What
 * committed keeps it until a prune, since the tree is what the agent was for. What speaks against a removal is `Failed`
 * with the reason, the tree then stands as it did, and the next walk tries again.
 */
import { Context, Duration, Effect, Layer } from "effect"
import type { AgentId, Subject } from "../../agent/Agent.ts"
import { houseKinds, worktreeKind, WorktreeRef } from "../../agent/Plan.ts"
import { failed } from "../../agent/Release.ts"
import { Files } from "../../machine/Files.ts"
import type { Ledger } from "../../registry/Ledger.ts"
import type { PlannedOwn } from "../Own.ts"
import { planned, type Presence, type Resource } from "../Resource.ts"
import * as Diff from "./Diff.ts"
import type { Git, GitFailed } from "./Git.ts"
import * as Land from "./Land.ts"
import * as Making from "./Making.ts"
import { entryOf } from "./Places.ts"
import * as Planning from "./Planning.ts"
import * as Removal from "./Removal.ts"
import * as Trash from "./Trash.ts"

type Draft = Parameters<typeof Planning.plan>[1]

export class Worktree extends Context.Service<
  Worktree,
  Resource<WorktreeRef, void, void, Making.WorktreeFailed> & {
    /** Decides the reference, and where in the tree the agent works; makes nothing. */
    readonly plan: (
      request: Planning.WorktreeRequest,
      draft: Draft
    ) => Effect.Effect<
      { readonly own: PlannedOwn; readonly cwd: string },
      GitFailed | Planning.BranchTaken | Planning.WorktreeRefused
    >
    /** Whether a prune could remove the tree now, and why; changes nothing. */
    readonly assess: (ref: WorktreeRef, subject: Subject) => Effect.Effect<{
      readonly safe: boolean
      readonly why: string
    }>
    readonly diff: (
      ref: WorktreeRef,
      agentId: AgentId,
      options: Diff.DiffOptions
    ) => Effect.Effect<Diff.Diff, Diff.DiffError>
    readonly land: (
      ref: WorktreeRef,
      agentId: AgentId,
      request: Land.LandRequest
    ) => Effect.Effect<Land.Landed, Land.LandError>
    /** Removes what has waited its days in the trash of this home; what can't be removed is logged, and tried again. */
    readonly emptyTrash: (home: string) => Effect.Effect<void>
  }
>()("@slipway/core/resource/worktree/Worktree") {
  static readonly layer = Layer.effect(
    Worktree,
    Effect.gen(function*() {
      const provided = yield* Effect.context<Files | Git | Ledger>()
      const files = yield* Files

      const make = (ref: WorktreeRef, subject: Subject) =>
        Making.make(ref, subject).pipe(
          Effect.mapError((error) => new Making.WorktreeFailed({ tree: ref.tree, error })),
          Effect.provideContext(provided)
        )

      const rules = { kind: worktreeKind, Reference: WorktreeRef, until: "prune" } as const

      const plan = Effect.fnUntraced(function*(request: Planning.WorktreeRequest, draft: Draft) {
        const { cwd, ref } = yield* Effect.provideContext(Planning.plan(request, draft), provided)
        const own: PlannedOwn = {
          planned: yield* Effect.mapError(
            planned(rules, ref),
            (error) => new Planning.WorktreeRefused({ problem: error.message })
          ),
          environment: {},
          make: (subject) => make(ref, subject),
          limit: Making.makeLimit
        }
        return { own, cwd }
      })

      return Worktree.of({
        ...rules,
        after: [houseKinds.session],
        keptBy: [houseKinds.session],
        limit: () => Duration.seconds(60),
        describe: ({ tree }) => tree,
        plan,
        make: (ref, _input, subject) => make(ref, subject),
        release: (ref, subject) =>
          Removal.release(ref, subject).pipe(
            Effect.provideContext(provided),
            Effect.catch((error) => Effect.succeed(failed(error.message)))
          ),
        assess: (ref, subject) =>
          Removal.assess(ref, subject).pipe(
            Effect.provideContext(provided),
            Effect.catch((error) => Effect.succeed({ safe: false, why: error.message }))
          ),
        diff: (ref, agentId, options) => Effect.provideContext(Diff.diff(ref, agentId, options), provided),
        land: (ref, agentId, request) => Effect.provideContext(Land.land(ref, agentId, request), provided),
        emptyTrash: (home) =>
          Trash.empty(home).pipe(
            Effect.provideContext(provided),
            Effect.catch((error) => Effect.logWarning(`the trash could not be emptied: ${error.message}`))
          ),
        probe: (ref) =>
          Effect.all([files.inspect(ref.directory), files.inspect(entryOf(ref))]).pipe(
            Effect.map((found): Presence => ({
              _tag: found.every((info) => info === undefined) ? "Absent" : "Present"
            })),
            Effect.catch((error) => Effect.succeed<Presence>({ _tag: "Unknown", reason: error.message }))
          )
      })
    })
  )
}
