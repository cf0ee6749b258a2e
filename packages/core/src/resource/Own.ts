/**
 * Kinds of resources that a program brings along: a port that an agent gets, a database of its own, a branch.
 *
 * `own` makes one of a `Resource` and two things more: how the reference follows from a request, and which variables
 * tell the agent of it. `Slipway.layer({ resources: [Mine] })` makes it known, and `deploy({ resources: { mine: input } })`
 * asks for it. The thing is then in the plan that the admission stores. So it is released when its deployment fails or
 * is killed at any step, with the end of the agent, or by a prune, as its `until` says.
 *
 * It is made after the agent's directory and before the session, those of one request in the order of their names.
 */
import { Sentence } from "@slipway/tmux"
import { type Duration, Effect, Schema } from "effect"
import { type Subject } from "../agent/Agent.ts"
import { VariableName } from "../agent/AgentEnvironment.ts"
import type { AgentId } from "../agent/AgentId.ts"
import { requestIssues, requestSentence } from "../agent/InvalidRequest.ts"
import { type Planned } from "../agent/Plan.ts"
import type { TaskId } from "../agent/Task.ts"
import { define, type Kind, planned, type Resource } from "./Resource.ts"
import * as Rollback from "./Rollback.ts"
import type { WorktreeFailed } from "./worktree/Making.ts"

/** What is known of a deployment before anything is made. */
export interface Draft {
  readonly homeId: string
  /** The home's directory. */
  readonly home: string
  readonly agentId: AgentId
  readonly taskId: TaskId
  /** The task's project directory. */
  readonly project: string
  /** Where the agent will work. */
  readonly cwd: string
}

/** An own resource could not be planned or made. */
export class ResourceFailed extends Schema.TaggedError<ResourceFailed>()("ResourceFailed", {
  resource: Schema.String,
  /** Null where it has not come to a reference. */
  reference: Schema.NullOr(Schema.String),
  doing: Schema.Literals(["plan", "make"]),
  error: Schema.Struct({ tag: Schema.String, message: Schema.String }),
  cause: Schema.optional(Schema.Defect())
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the resource ${this.resource} could not be ${
      this.doing === "plan" ? "planned" : "made"
    }: ${this.error.message}`
  }
}

/** The request names a resource that the program does not provide, or gives it what it does not take. */
export class ResourceRefused extends Schema.TaggedError<ResourceRefused>()("ResourceRefused", {
  resource: Schema.String,
  problem: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the resource ${this.resource} can't be had: ${this.problem}`
  }
}

/** Kinds of resources that don't go together; nothing was opened. */
export class InvalidResources extends Schema.TaggedError<InvalidResources>()("InvalidResources", {
  issues: Schema.Array(Schema.Struct({ resource: Schema.String, problem: Schema.String }))
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the resources that this program brings along don't go together: ${
      this.issues.map(({ problem, resource }) => `${resource} ${problem}`).join("; ")
    }`
  }
}

/** What an own kind's errors need to have. */
export interface OwnError {
  readonly _tag: string
  readonly message: string
}

export interface Own<Ref, Input, Made, E extends OwnError> extends Resource<Ref, Input, Made, E> {
  /** What a request may say of it; a request comes from outside, so it is decoded. */
  readonly Input: Schema.Codec<Input, unknown>
  /**
   * Decides the reference. It may read, and must make nothing: it runs before the admission, and is not released. The
   * reference has to be of this agent alone, for instance by having the agent's id in it.
   */
  readonly plan: (input: Input, draft: Draft) => Effect.Effect<Ref, E>
  /** The variables that the agent gets. */
  readonly environment?: ((ref: Ref) => Readonly<Record<string, string>>) | undefined
}

/** A thing of an own kind, decided and not made. */
export interface PlannedOwn {
  readonly planned: Planned
  readonly environment: Readonly<Record<string, string>>
  readonly make: (subject: Subject) => Effect.Effect<void, ResourceFailed | WorktreeFailed>
  /** How long the making may take, where that is not as long as any step. */
  readonly limit?: Duration.Duration | undefined
}

/** A kind that a program brings along, without its types. */
export interface OwnKind extends Kind {
  readonly plan: (input: unknown, draft: Draft) => Effect.Effect<PlannedOwn, ResourceFailed | ResourceRefused>
}

const isVariableName = Schema.is(VariableName)

/** A variable that the agent can't have would get lost unseen. */
const checkVariables = (resource: string, variables: Readonly<Record<string, string>>) => {
  const bad = Object.entries(variables).find(([name, value]) =>
    !isVariableName(name) || name.startsWith("SLIPWAY_") || value.includes("\0")
  )
  return bad === undefined
    ? Effect.succeed(variables)
    : Effect.fail(
      new ResourceRefused({
        resource,
        problem: `its variable ${JSON.stringify(bad[0])} is none that an agent can have, or is one of Slipway's own`
      })
    )
}

/** Makes a kind that `Slipway.layer` takes. */
export const own = <Ref, Input, Made, E extends OwnError>(resource: Own<Ref, Input, Made, E>): OwnKind => {
  const decodeInput = Schema.decodeUnknownEffect(resource.Input)
  const failedBy = (doing: "plan" | "make", reference: string | null) => (error: E) =>
    new ResourceFailed({
      resource: resource.kind,
      reference,
      doing,
      error: { tag: error._tag, message: error.message },
      cause: error
    })
  const refuse = (error: Schema.SchemaError) =>
    new ResourceRefused({ resource: resource.kind, problem: requestSentence(requestIssues(error)) })
  return {
    ...define(resource),
    plan: Effect.fnUntraced(function*(raw, draft) {
      const input = yield* Effect.mapError(decodeInput(raw), refuse)
      const ref = yield* Effect.mapError(resource.plan(input, draft), failedBy("plan", null))
      const environment = yield* checkVariables(resource.kind, resource.environment?.(ref) ?? {})
      return {
        planned: yield* Effect.mapError(planned(resource, ref), refuse),
        environment,
        // Suspended: what a kind does before it has given an effect belongs to the making too.
        make: (subject) =>
          Effect.suspend(() =>
            Effect.asVoid(Effect.mapError(resource.make(ref, input, subject), failedBy("make", resource.describe(ref))))
          )
      }
    })
  }
}

const isName = (kind: string): boolean => /^[a-z][a-z0-9_]{0,39}$/.test(kind)

/** What is wrong with kinds that are brought along beside those of the house; empty where nothing is. */
export const issuesOf = (
  own: ReadonlyArray<Kind>,
  house: ReadonlyArray<Kind>,
  taken: ReadonlyArray<string>
): InvalidResources["issues"] => {
  const names = own.map(({ kind }) => kind)
  const circle = Rollback.circle([...house, ...own])
  return own.flatMap(({ kind }, index) => {
    const problems = [
      ...(isName(kind)
        ? []
        : ["has no name of at most 40 lower-case letters, digits and '_' that starts with a letter"]),
      ...(house.some((other) => other.kind === kind) || taken.includes(kind)
        ? ["is the name of one of Slipway's own"]
        : []),
      ...(names.indexOf(kind) < index ? ["is there twice"] : []),
      ...(circle.includes(kind) ? ["has an 'after' that goes in a circle"] : [])
    ]
    return problems.map((problem) => ({ resource: kind, problem }))
  })
}
