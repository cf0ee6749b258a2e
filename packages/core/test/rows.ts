/** What the tests of the registry's rows share: tasks, agents, and directories that no test leaves behind. */
import { Target } from "@slipway/tmux"
import { DateTime, Effect, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { type Agent, AgentId, AgentType, type Subject } from "../src/agent/Agent.ts"
import * as Plan from "../src/agent/Plan.ts"
import { isClean, type ReleaseOutcome, type ReleaseRecord } from "../src/agent/Release.ts"
import { type Limits, type Task, TaskId } from "../src/agent/Task.ts"

export const moment = (seconds: number): DateTime.Utc =>
  DateTime.makeUnsafe(Date.UTC(2026, 0, 2, 3, 4, 5) + seconds * 1000)

let serial = 0
const hex = (digits: number) => (serial++).toString(16).padStart(digits, "0")

export const newTaskId = () => TaskId.make(`TASK-20260102-030405-${hex(8)}`)

export const makeTask = (
  options: Partial<Omit<Task, "limits">> & { readonly limits?: Partial<Limits> } = {}
): Task => ({
  id: newTaskId(),
  description: "a task",
  project: "/project",
  priority: "P2",
  isDefault: false,
  createdAt: moment(0),
  ...options,
  limits: { maxAgents: 45, maxConcurrent: 20, maxDepth: 5, ...options.limits }
})

export const host = { machine: "machine", boot: "boot", pidNamespace: "namespace" }

/** A deployment that has just begun, with a type of its own unless one is given. */
export const makeAgent = (
  taskId: TaskId,
  { type, ...options }: Partial<Omit<Agent, "type">> & { readonly type?: string } = {}
): Agent => {
  const random = hex(6)
  const agentType = AgentType.make(type ?? `type-${random}`)
  const id = AgentId.make(`${agentType}-260102-030405-${random}`)
  return {
    id,
    type: agentType,
    taskId,
    parent: null,
    depth: 1,
    spec: { kind: "command", argv: ["true"] },
    cwd: "/project",
    readiness: { kind: "survive", withinMillis: 2000 },
    limits: { maxRunMillis: null, firstOutputMillis: null, stallMillis: null },
    key: null,
    requestDigest: "digest",
    plan: Plan.make("0123456789ab", {
      directory: `/home/agents/${id}`,
      socket: Target.SocketPath.make("/home/tmux.sock"),
      session: Target.SessionName.make(`agent_${id}`),
      workspace: "/project/.slipway/task",
      entry: `/project/.slipway/task/agents/${id}.json`
    }),
    token: `token-${random}`,
    state: { _tag: "deploying" },
    lease: { host, holder: { pid: 4711, start: "100" }, expiresAt: 60 },
    owner: null,
    running: null,
    createdAt: moment(0),
    startedAt: null,
    endedAt: null,
    tail: null,
    summary: null,
    ...options
  }
}

export const running = { host, since: 40, sessionId: "$0", serverPid: 4712, launcher: { pid: 4713, start: "101" } }

/** An agent of which nothing is recorded but its id. */
export const subject: Subject = {
  homeId: "0123456789ab",
  agentId: AgentId.make("worker-260102-030405-0a1b2c"),
  host: null,
  launcher: null,
  since: null
}

export const record = (
  resource: string,
  outcome: ReleaseOutcome = { _tag: "Failed", reason: "it would not go" }
): ReleaseRecord => ({
  resource,
  reference: `the ${resource}`,
  made: true,
  outcome,
  millis: 1,
  // As the walk records what is left of a session.
  ...(resource === "tmux_session" && !isClean(outcome) ? { occupies: true as const } : {})
})

/** Directories of one test file: made anew for each test, removed with it, and counted at the end. */
export const scratch = (
  name: string
): { readonly make: Effect.Effect<string, never, Scope.Scope>; readonly left: () => ReadonlyArray<string> } => {
  const prefix = `slipway-${name}-${process.pid}-`
  return {
    make: Effect.acquireRelease(
      Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), prefix)))),
      (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
    ),
    left: () => Fs.readdirSync(Os.tmpdir()).filter((entry) => entry.startsWith(prefix))
  }
}
