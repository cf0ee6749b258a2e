/**
 * The agent's row in the registry: the first thing that a deployment makes, and the last that it releases.
 *
 * Making it is the admission: limits, plan and lease in one durable transaction. Releasing it records how the
 * deployment ended and what the earlier releases could not release; the row itself stays, as the record of it. A row of
 * another deployment that drew the same id is not touched.
 */
import { DateTime, Duration, Effect, Result, Schedule } from "effect"
import type { AdmissionRefused, Decision, HomeLimit } from "../Admission.ts"
import { type Agent, type AgentId, isFinal, rollBack, TransitionRefused } from "../Agent.ts"
import type { HomeUnusable } from "../Home.ts"
import type { Registry, RegistryError } from "../Registry.ts"
import {
  AlreadyGone,
  failed,
  type Presence,
  Released,
  type ReleaseOutcome,
  type ReleaseRecord,
  type Resource
} from "../Resource.ts"

/** A registry that is busy fails within ten seconds by itself; three such tries would be too long. */
const attemptLimit = Duration.seconds(4)

export interface RegistryEntryRef {
  readonly agentId: AgentId
  readonly token: string
}

/** How the deployment failed, and what its other releases answered; asked for when the row is released. */
export interface Story {
  readonly step: string
  readonly error: { readonly tag: string; readonly message: string }
  readonly left: ReadonlyArray<ReleaseRecord>
  readonly releases: ReadonlyArray<ReleaseRecord>
  readonly tail: Agent["tail"]
}

export interface AdmissionRequest {
  readonly candidate: Agent
  readonly allowDuplicate: boolean
  readonly homeLimit: Effect.Effect<HomeLimit, HomeUnusable>
}

export type RegistryEntry = Resource<
  RegistryEntryRef,
  AdmissionRequest,
  Decision,
  AdmissionRefused | HomeUnusable | RegistryError
>

export const make = (registry: Registry["Service"], story: Effect.Effect<Story>): RegistryEntry => {
  const release = Effect.fn("RegistryEntry.release")(function*(ref: RegistryEntryRef) {
    const { error, left, releases, step, tail } = yield* story
    const at = yield* DateTime.now
    const before = yield* registry.agent(ref.agentId)
    if (before._tag === "None" || before.value.token !== ref.token) return AlreadyGone
    // The process that took the row over has proven that nothing is left, and recorded it.
    if (isFinal(before.value.state)) return AlreadyGone
    yield* registry.transition(
      ref.agentId,
      (agent) =>
        agent.token === ref.token
          ? rollBack(agent, { step, error, left, at, tail })
          : Result.fail(
            new TransitionRefused({ agentId: agent.id, wanted: "rolled-back", found: "another deployment" })
          ),
      { at, detail: `failed at ${step}: ${error.tag}: ${error.message}`, releases }
    )
    return Released
  })

  const probe = (ref: RegistryEntryRef): Effect.Effect<Presence> =>
    registry.agent(ref.agentId).pipe(
      Effect.map((row): Presence => ({
        _tag: row._tag === "Some" && row.value.token === ref.token && !isFinal(row.value.state) ? "Present" : "Absent"
      })),
      Effect.catch((error) => Effect.succeed<Presence>({ _tag: "Unknown", reason: error.message }))
    )

  return {
    kind: "global_registry",
    limit: () => Duration.seconds(15),
    describe: (ref) => ref.agentId,
    make: (_ref, { allowDuplicate, candidate, homeLimit }) => registry.admit(candidate, { allowDuplicate, homeLimit }),
    release: (ref): Effect.Effect<ReleaseOutcome> =>
      Effect.catch(
        Effect.retry(Effect.timeout(release(ref), attemptLimit), { times: 2, schedule: Schedule.spaced("200 millis") }),
        (error) => Effect.succeed(failed(error.message))
      ),
    probe
  }
}
