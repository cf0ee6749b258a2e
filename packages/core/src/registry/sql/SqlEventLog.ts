/**
 * The log of events on SQL. A transition's event is stored by the ledger, in its own transaction.
 */
import { DateTime, Effect, Schema } from "effect"
import { type Agent, status } from "../../agent/Agent.ts"
import * as CleanupReport from "../../agent/CleanupReport.ts"
import { ReleaseRecord } from "../../agent/Release.ts"
import { AgentEvent, EventLog, HomeEvent, type TransitionEvent } from "../EventLog.ts"
import type { Database } from "./Database.ts"
import { unwritable } from "./Rows.ts"

const EventRows = Schema.Array(AgentEvent)
const Releases = Schema.fromJsonString(Schema.Array(ReleaseRecord))
const HomeEventRows = Schema.Array(Schema.Struct({ ...HomeEvent.fields, cleanup: Schema.NullOr(Releases) }))
const ActivityRows = Schema.Array(
  Schema.Struct({ active: Schema.NullOr(Schema.Int), last: Schema.NullOr(Schema.DateTimeUtcFromString) })
)
const encodeReleases = Schema.encodeEffect(Releases)

/** Stores what happened to an agent that is stored in the same transaction. */
export const append = Effect.fnUntraced(function*(
  { sql }: Pick<Database, "sql">,
  agent: Agent,
  { at, detail, releases = [] }: TransitionEvent
) {
  const cleanup = releases.length === 0 ? null : yield* Effect.mapError(encodeReleases(releases), unwritable)
  yield* sql`INSERT INTO events ${
    sql.insert({ agent_id: agent.id, at: DateTime.formatIso(at), status: status(agent), detail, cleanup })
  }`
})

export const make = ({ asNumber, count, decode, guarded, sql }: Database): EventLog["Service"] => {
  const decodeEvents = decode(EventRows)
  const decodeHomeEvents = decode(HomeEventRows)
  const decodeActivity = decode(ActivityRows)

  return EventLog.of({
    events: (id) =>
      guarded(
        "read the agent's events",
        Effect.flatMap(
          sql`SELECT agent_id AS "agentId", at, status, detail FROM events WHERE agent_id = ${id} ORDER BY id`,
          decodeEvents
        )
      ),

    // Ids are given out under the write lock, so that their order is the order of the commits, and none is given out twice.
    eventsAfter: (cursor, limit) =>
      guarded(
        "read the events",
        Effect.map(
          Effect.flatMap(
            sql`SELECT ${asNumber("events.id")} AS "cursor", events.agent_id AS "agentId", agents.task_id AS "taskId",
                  events.at, events.status AS "to", events.detail, events.cleanup,
                  (SELECT earlier.status FROM events earlier
                    WHERE earlier.agent_id = events.agent_id AND earlier.id < events.id
                    ORDER BY earlier.id DESC LIMIT 1) AS "from"
                FROM events JOIN agents ON agents.id = events.agent_id
                WHERE events.id > ${cursor} ORDER BY events.id LIMIT ${limit}`,
            decodeHomeEvents
          ),
          (rows) => rows.map((row) => ({ ...row, cleanup: row.cleanup === null ? null : cleanupOf(row.cleanup) }))
        )
      ),

    activity: guarded(
      "query the active agents",
      Effect.map(
        Effect.flatMap(
          sql`SELECT (SELECT 1 FROM agents WHERE is_active = 1 LIMIT 1) AS active,
                (SELECT at FROM events ORDER BY id DESC LIMIT 1) AS last`,
          decodeActivity
        ),
        ([row]) => ({ isActive: row?.active === 1, lastEventAt: row?.last ?? null })
      )
    ),

    lastEvent: guarded("read the last event", count(sql`SELECT ${asNumber("max(id)")} AS n FROM events`))
  })
}

const cleanupOf = (releases: ReadonlyArray<ReleaseRecord>) => {
  const report = { releases }
  return {
    releases,
    survivors: CleanupReport.survivors(report),
    escalated: CleanupReport.escalated(report),
    millis: CleanupReport.millis(report)
  }
}
