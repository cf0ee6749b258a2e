/**
 * What agents are named by: their type, their id, and the tmux session that the id gives.
 */
import { Target } from "@slipway/tmux"
import { type DateTime, Schema } from "effect"
import { stamp } from "./Task.ts"

/** What kind of work an agent does, in its task's words. */
export const AgentType = Schema.String.check(
  Schema.isPattern(/^[a-z0-9][a-z0-9_-]*$/, {
    expected: "a type of lower-case letters, digits, '_' and '-' that starts with a letter or digit"
  }),
  Schema.isMaxLength(40)
).pipe(Schema.brand("AgentType"))
export type AgentType = typeof AgentType.Type

/** `<type>-YYMMDD-HHMMSS-xxxxxx`: the time is UTC, the tail is random. */
export const AgentId = Schema.String.check(
  Schema.isPattern(/^[a-z0-9][a-z0-9_-]{0,39}-\d{6}-\d{6}-[0-9a-f]{6}$/, {
    expected: "an agent id such as worker-260102-030405-0a1b2c"
  })
).pipe(Schema.brand("AgentId"))
export type AgentId = typeof AgentId.Type

export const makeAgentId = (type: AgentType, moment: DateTime.Utc, random: string): AgentId => {
  const { date, time } = stamp(moment)
  return AgentId.make(`${type}-${date.slice(2)}-${time}-${random}`)
}

/** The session of an agent; an agent's id has no character that tmux would change. */
export const sessionName = (id: AgentId): Target.SessionName => Target.SessionName.make(`agent_${id}`)
