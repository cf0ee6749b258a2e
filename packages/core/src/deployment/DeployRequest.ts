/**
 * What a caller asks for when it deploys an agent, decoded once at the edge.
 *
 * After decoding nothing has to be checked again. Ids and types have their form; a prompt is 1 byte to 10 MB of text
 * without NUL; durations are of at most a year; names of variables are what the system takes for one. Messages about a request that
 * does not decode never repeat its values, since a prompt or a variable may be a secret.
 */
import { Duration, Effect, Schema } from "effect"
import { createHash } from "node:crypto"
import * as Path from "node:path"
import { AgentId, AgentType, ReadinessKind } from "../agent/Agent.ts"
import { AgentSpec } from "../agent/AgentCommand.ts"
import { VariableName } from "../agent/AgentEnvironment.ts"
import { described } from "../agent/Described.ts"
import { invalid, type InvalidRequest } from "../agent/InvalidRequest.ts"
import { ProjectPath, TaskId } from "../agent/Task.ts"
import { durationWithin, longest } from "../machine/Durations.ts"
import { WorktreeRequest } from "../resource/worktree/Planning.ts"

/** The most that a prompt may have, in bytes of UTF-8. */
export const maxPromptBytes = 10_000_000

const Prompt = Schema.String.check(
  Schema.makeFilter((prompt) => {
    const bytes = Buffer.byteLength(prompt)
    if (bytes === 0) return "a prompt that is not empty"
    if (bytes > maxPromptBytes) return `a prompt of at most ${maxPromptBytes} bytes, and it has ${bytes}`
    if (prompt.includes("\0")) return "a prompt without a NUL character"
    return prompt.isWellFormed() || "a prompt of valid Unicode text"
  })
)

const isVariableName = Schema.is(VariableName)

// A record whose keys have a schema drops those that don't match, and a variable must not get lost unseen.
const Environment = Schema.Record(
  Schema.String,
  Schema.String.check(Schema.makeFilter((value) => !value.includes("\0") || "a value without a NUL character"))
).check(
  Schema.makeFilter((environment) => {
    const bad = Object.keys(environment).find((name) => !isVariableName(name))
    return bad === undefined ||
      `names of variables, not empty and with neither '=' nor NUL in them, and ${JSON.stringify(bad)} is none`
  })
)

const Wait = durationWithin({ minimum: Duration.zero, maximum: longest })

const Limit = durationWithin({ minimum: Duration.millis(1), maximum: longest })

const optional = <S extends Schema.Top>(schema: S, description: string) =>
  Schema.optionalKey(described(schema, description))

/** What a deployment may be asked for; a field that is left out has the default that its description names. */
export const DeployRequest = Schema.Struct({
  task: optional(
    TaskId,
    "The task to deploy for (default: the task of the agent that this runs in, else the default task of this directory)"
  ),
  project: optional(ProjectPath, "Without a task: the project whose default task is meant (default: this directory)"),
  type: optional(
    AgentType,
    "What kind of work it is, such as reviewer; one live agent per type and task (default: the name of the agent or command)"
  ),
  prompt: described(Prompt, "What the agent reads from standard input: 1 byte to 10 MB of text"),
  agent: described(AgentSpec, "What to run: a known agent, or a command with its arguments"),
  parent: optional(AgentId, "The agent that it is deployed by (default: the agent that this runs in)"),
  allowDuplicate: optional(Schema.Boolean, "Deploy it also when an agent of this type is live in the task"),
  cwd: optional(ProjectPath, "The directory that it works in (default: the project of the task)"),
  environment: optional(Environment, "Variables for it, over the caller's environment"),
  resources: optional(
    Schema.Record(Schema.String, Schema.Json),
    "Resources that the program brings along, by their kind; each says what it takes"
  ),
  worktree: optional(
    WorktreeRequest,
    "Give it a git working tree of its own, on a new branch, from the repository of its directory"
  ),
  key: optional(
    Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(200)),
    "Deploy once per key: the same request again answers with the first agent"
  ),
  stderr: optional(
    Schema.Literals(["separate", "merged"]),
    "Where its standard error goes: to a file of its own (the default), or into that of standard output, in the order written"
  ),
  ready: optional(
    ReadinessKind,
    "When it counts as up: 'survive' when it has lived for a while (the default), 'output' at its first output, 'none' at once"
  ),
  readyWithin: optional(Wait, "How long it has to survive, or may take for its first output (default: 2s)"),
  maxRun: optional(Limit, "How long it may run; after that, whatever reads it next stops it"),
  firstOutputWithin: optional(Limit, "How long it may take to its first output; after that, it is stopped likewise"),
  stallAfter: optional(Limit, "How long it may write nothing; after that, it is stopped likewise")
})
export type DeployRequest = typeof DeployRequest.Type

/** What `deploy` takes: the request with plain strings for ids. */
export type DeployInput = typeof DeployRequest.Encoded

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

/** The milliseconds of a duration that may be left out. */
export const millisOf = (duration: Duration.Duration | undefined): number | null =>
  duration === undefined ? null : Duration.toMillis(duration)

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
    millisOf(request.readyWithin),
    millisOf(request.maxRun),
    millisOf(request.firstOutputWithin),
    millisOf(request.stallAfter),
    ...(request.resources === undefined ? [] : [sorted(request.resources)]),
    ...(request.stderr === undefined ? [] : [{ stderr: request.stderr }]),
    ...(request.worktree === undefined
      ? []
      : [{ worktree: [request.worktree.base ?? null, request.worktree.branch ?? null] }])
  ])).digest("hex")
