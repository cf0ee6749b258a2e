/**
 * What a caller asks for when it deploys an agent, decoded once at the edge.
 *
 * After decoding nothing has to be checked again. Ids and types have their form; a prompt is 1 byte to 10 MB of text
 * without NUL; durations are sane; names of variables are what the system takes for one. Messages about a request that
 * does not decode never repeat its values, since a prompt or a variable may be a secret.
 */
import { Effect, Schema } from "effect"
import { createHash } from "node:crypto"
import * as Path from "node:path"
import { AgentId, AgentType, ReadinessKind } from "../agent/Agent.ts"
import { AgentSpec } from "../agent/AgentCommand.ts"
import { VariableName } from "../agent/AgentEnvironment.ts"
import { ProjectPath, TaskId } from "../agent/Task.ts"

/** The most that a prompt may have, in bytes of UTF-8. */
export const maxPromptBytes = 10_000_000

/** The longest wait or run that can be asked for: a year. */
const maxMillis = 366 * 24 * 3600 * 1000

const Prompt = Schema.String.check(
  Schema.makeFilter((prompt) => {
    const bytes = Buffer.byteLength(prompt)
    if (bytes === 0) return "the prompt is empty"
    if (bytes > maxPromptBytes) return `the prompt has ${bytes} bytes, and at most ${maxPromptBytes} are allowed`
    if (prompt.includes("\0")) return "the prompt has a NUL character"
    return prompt.isWellFormed() || "the prompt is not valid Unicode text"
  })
)

const isVariableName = Schema.is(VariableName)

// A record whose keys have a schema drops those that don't match, and a variable must not get lost unseen.
const Environment = Schema.Record(
  Schema.String,
  Schema.String.check(Schema.makeFilter((value) => !value.includes("\0") || "a variable's value has a NUL character"))
).check(
  Schema.makeFilter((environment) => {
    const bad = Object.keys(environment).find((name) => !isVariableName(name))
    return bad === undefined ||
      `${JSON.stringify(bad)} is no name of a variable: a name is not empty, and has neither '=' nor NUL in it`
  })
)

const Millis = Schema.Finite.check(Schema.isBetween({ minimum: 0, maximum: maxMillis }))

const Limit = Schema.Finite.check(Schema.isBetween({ minimum: 1, maximum: maxMillis }))

export const DeployRequest = Schema.Struct({
  /** Without it, the default task of `project`, which is made at first use. */
  task: Schema.optionalKey(TaskId),
  /** Only used without `task`; by default the working directory of this process. */
  project: Schema.optionalKey(ProjectPath),
  /** By default the name of the agent or of the command. */
  type: Schema.optionalKey(AgentType),
  prompt: Prompt,
  agent: AgentSpec,
  parent: Schema.optionalKey(AgentId),
  allowDuplicate: Schema.optionalKey(Schema.Boolean),
  /** Where the agent works; by default the task's project directory. */
  cwd: Schema.optionalKey(ProjectPath),
  /** Set over the caller's environment. */
  environment: Schema.optionalKey(Environment),
  /** Resources that the program brings along, by their kind; each says what it takes. */
  resources: Schema.optionalKey(Schema.Record(Schema.String, Schema.Json)),
  /** One deployment per key: a second request under it gets the first one's agent. */
  key: Schema.optionalKey(Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(200))),
  ready: Schema.optionalKey(ReadinessKind),
  readyWithinMillis: Schema.optionalKey(Millis),
  /** Limits of time for the running agent. */
  maxRunMillis: Schema.optionalKey(Limit),
  firstOutputMillis: Schema.optionalKey(Limit),
  stallMillis: Schema.optionalKey(Limit)
})
export type DeployRequest = typeof DeployRequest.Type

/** What `deploy` takes: the request with plain strings for ids. */
export type DeployInput = typeof DeployRequest.Encoded

/** The request is not one that can be deployed; nothing was made. */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>()("InvalidRequest", { problem: Schema.String }) {
  override get message() {
    return `the request is not valid: ${this.problem}`
  }
}

/** The problem of input that did not decode, on one line. */
export const invalid = (error: Schema.SchemaError): InvalidRequest =>
  new InvalidRequest({ problem: error.message.replaceAll(/\s*\n\s*/g, " ") })

const decodeRequest = Schema.decodeUnknownEffect(DeployRequest, { errors: "all", onExcessProperty: "error" })

export const decode = (input: DeployInput): Effect.Effect<DeployRequest, InvalidRequest> =>
  Effect.mapError(decodeRequest(input), invalid)

/** The type of an agent that was given none: what runs, reduced to the characters that a type may have. */
export const defaultType = (spec: AgentSpec): AgentType => {
  const name = spec.kind === "command" ? Path.basename(spec.argv[0]).toLowerCase() : spec.kind
  const type = name.replaceAll(/[^a-z0-9_-]+/g, "-").replace(/^[^a-z0-9]+/, "").slice(0, 40)
  return AgentType.make(type === "" ? "command" : type)
}

const sorted = (resources: Readonly<Record<string, Schema.Json>>) =>
  Object.entries(resources).toSorted(([a], [b]) => a < b ? -1 : 1)

/**
 * Distinguishes two requests under one key. Values of variables are left out: a token that was renewed between two
 * tries is not another request, and a digest of a short secret would give it away.
 */
export const digest = (request: DeployRequest, context: { readonly taskId: TaskId; readonly cwd: string }): string =>
  createHash("sha256").update(JSON.stringify([
    context.taskId,
    request.type ?? null,
    createHash("sha256").update(request.prompt).digest("hex"),
    request.agent,
    request.parent ?? null,
    request.allowDuplicate ?? false,
    context.cwd,
    Object.keys(request.environment ?? {}).toSorted(),
    request.ready ?? null,
    request.readyWithinMillis ?? null,
    request.maxRunMillis ?? null,
    request.firstOutputMillis ?? null,
    request.stallMillis ?? null,
    ...(request.resources === undefined ? [] : [sorted(request.resources)])
  ])).digest("hex")
