/**
 * How a deployment failed, as its row records it: the last line of the rollback.
 *
 * By then all releases have answered. The row says what they could not release, and stays as the record of the
 * deployment. A row of another deployment that drew the same id is not touched. It takes at most fifteen seconds,
 * retries included, and never fails: what could not be recorded stands in the report, and the row keeps its lease, by
 * which the next command that reads it finds out that the deployer has failed.
 */
import { DateTime, Duration, Effect, Option, Result, Schedule } from "effect"
import { type Agent, type AgentId, isFinal, rollBack, TransitionRefused } from "../agent/Agent.ts"
import { rowKind } from "../agent/Plan.ts"
import { AlreadyGone, failed, Released, type ReleaseOutcome, type ReleaseRecord } from "../agent/Release.ts"
import type { Ledger } from "../registry/Ledger.ts"
import { release } from "../resource/Resource.ts"

/** A registry that is busy fails within ten seconds by itself; three such tries would be too long. */
const attemptLimit = Duration.seconds(4)
const limit = Duration.seconds(15)

export interface Failure {
  readonly agentId: AgentId
  readonly token: string
  readonly step: string
  readonly error: { readonly tag: string; readonly message: string }
  readonly left: ReadonlyArray<ReleaseRecord>
  readonly releases: ReadonlyArray<ReleaseRecord>
  readonly tail: Agent["tail"]
}

const store = Effect.fnUntraced(function*(ledger: Ledger["Service"], failure: Failure) {
  const { agentId, error, left, releases, step, tail, token } = failure
  const before = yield* ledger.agent(agentId)
  if (Option.isNone(before) || before.value.token !== token) return AlreadyGone
  // The process that took the row over has proven that nothing is left, and recorded it.
  if (isFinal(before.value.state)) return AlreadyGone
  const at = yield* DateTime.now
  yield* ledger.transition(
    agentId,
    (agent) =>
      agent.token === token
        ? rollBack(agent, { step, error, left, at, tail })
        : Result.fail(new TransitionRefused({ agentId: agent.id, wanted: "rolled-back", found: "another deployment" })),
    { at, detail: `failed at ${step}: ${error.tag}: ${error.message}`, releases }
  )
  return Released
})

/** Records the failure; `admitted` says whether the row is known to be there. */
export const record = (
  ledger: Ledger["Service"],
  failure: Failure,
  admitted: boolean
): Effect.Effect<ReleaseRecord> => {
  const once: Effect.Effect<ReleaseOutcome> = Effect.catch(
    Effect.retry(Effect.timeout(store(ledger, failure), attemptLimit), {
      times: 2,
      schedule: Schedule.spaced("200 millis")
    }),
    (error) => Effect.succeed(failed(error.message))
  )
  return release({ kind: rowKind }, { reference: failure.agentId, limit, once }, { made: admitted })
}
