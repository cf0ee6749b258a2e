/**
 * What the proof has to know of one real agent: how it is pointed at a stub of its provider's API, and how that API
 * answers. One module per agent fulfils this; none of them runs anything.
 */
import type { AgentCommand } from "@slipway/core"

/** The real agents that the proof can run. */
export type Kind = Exclude<AgentCommand.AgentKind, "command">

/** One request that a stub was sent. */
export interface Question {
  readonly method: string
  /** Without the query. */
  readonly path: string
  /** The body as JSON without white space, or as it came. */
  readonly body: string
}

/** One whole response. */
export interface Reply {
  readonly status: number
  readonly contentType: "application/json" | "text/event-stream"
  readonly body: string
}

/** How an agent is pointed at a stub, unattended and quiet. */
export interface Setup {
  readonly model: string
  readonly args: ReadonlyArray<string>
  readonly environment: Readonly<Record<string, string>>
  /** Files in its HOME, by relative path. */
  readonly files: Readonly<Record<string, string>>
}

export interface RealAgent {
  readonly kind: Kind
  readonly setup: (url: string) => Setup
  /** Whether a question is one to the model, and not for a list of models or the like. */
  readonly asksModel: (question: Question) => boolean
  /** The model says something and is done. */
  readonly say: (question: Question, text: string) => Reply
  /** The model runs a shell command; undefined when this question offers no shell, or brings a command's result. */
  readonly run: (question: Question, command: string) => Reply | undefined
  /** The same, and the agent is not to wait for the command; undefined where its shell has no such option. */
  readonly runInBackground?: (question: Question, command: string) => Reply | undefined
  /** The provider refuses for good, in the way after which this agent gives up soonest. */
  readonly refuse: Reply
}

/** The credential that agents are given; it must not be seen in an argument list either. */
export const stubKey = "stub-key-7d1f0c"

export const json = (status: number, value: unknown): Reply => ({
  status,
  contentType: "application/json",
  body: JSON.stringify(value)
})

/** Server-sent events; those that bear a type are named by it where the API does so. */
export const events = (
  values: ReadonlyArray<Readonly<Record<string, unknown>>>,
  options: { readonly named: boolean; readonly last?: string } = { named: false }
): Reply => ({
  status: 200,
  contentType: "text/event-stream",
  body:
    values.map((value) =>
      `${options.named ? `event: ${String(value["type"])}\n` : ""}data: ${JSON.stringify(value)}\n\n`
    ).join("") + (options.last === undefined ? "" : `data: ${options.last}\n\n`)
})
