/**
 * `slipway deploy`: brings one agent up, or leaves nothing behind.
 *
 * The success is printed where the library commits, in its uninterruptible region: a signal that comes later finds it printed,
 * and the command ends with 0. A failure and an interruption are printed when the rollback is over, and say what it did.
 */
import {
  Agent,
  AgentCommand,
  CleanupReport,
  currentCaller,
  DeployDocument,
  type DeployInput,
  type Deployment,
  DeployRequest,
  descriptionOf,
  Document,
  type Observer,
  resolvePath,
  Slipway,
  type Step
} from "@slipway/core"
import { Cause, Effect, Exit, Option, Stdio } from "effect"
import { Argument, choice, Command, duration, Flag, text, toggle } from "../Cli.ts"
import { type Failure, UsageError } from "../Errors.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"
import * as Prompt from "../Prompt.ts"
import * as Report from "../Report.ts"
import * as Text from "../Text.ts"
import * as Variables from "../Variables.ts"

const known = AgentCommand.AgentKind.literals.filter((kind) => kind !== "command")

const said = (field: keyof typeof DeployRequest.fields): string => descriptionOf(DeployRequest.fields[field])

const config = {
  task: text("task", "TASK", said("task")).pipe(Flag.optional),
  type: text("type", "TYPE", said("type")).pipe(Flag.optional),
  prompt: text("prompt", "TEXT", "The prompt; other users of this machine can see it while the command runs").pipe(
    Flag.optional
  ),
  promptFile: text("prompt-file", "FILE", "The file with the prompt, byte for byte; '-' is standard input").pipe(
    Flag.optional
  ),
  agent: choice("agent", "AGENT", known, "The agent to run, with what is behind '--' as extra arguments").pipe(
    Flag.optional
  ),
  parent: text("parent", "AGENT", said("parent")).pipe(Flag.optional),
  allowDuplicate: toggle("allow-duplicate", said("allowDuplicate")),
  cwd: text("cwd", "DIR", said("cwd")).pipe(Flag.optional),
  worktree: toggle("worktree", said("worktree")),
  base: text("base", "REF", "The commit that the tree's branch begins at (default: HEAD)").pipe(Flag.optional),
  branch: text("branch", "NAME", "The name of the tree's branch (default: slipway/ and the agent's id)").pipe(
    Flag.optional
  ),
  env: text(
    "env",
    "NAME[=VALUE]",
    "A variable for it, repeatable; NAME alone takes the value from here, NAME=VALUE can be seen by other users"
  ).pipe(Flag.atLeast(0)),
  envFile: text("env-file", "FILE", "A file with one NAME=VALUE per line; --env goes before it").pipe(Flag.optional),
  key: text("key", "KEY", said("key")).pipe(Flag.optional),
  ready: choice("ready", "WHEN", Agent.ReadinessKind.literals, said("ready")).pipe(Flag.optional),
  mergeStderr: toggle("merge-stderr", "Put standard error into the file of standard output, in the order written"),
  readyWithin: duration("ready-within", said("readyWithin")).pipe(Flag.optional),
  maxRun: duration("max-run", said("maxRun")).pipe(Flag.optional),
  firstOutput: duration("first-output-within", said("firstOutputWithin")).pipe(Flag.optional),
  stallAfter: duration("stall-after", said("stallAfter")).pipe(Flag.optional),
  wait: toggle("wait", "Wait until it has ended"),
  command: Argument.String("command").pipe(
    Argument.withDescription("Behind '--': the command to run and its arguments, or extra arguments for --agent"),
    Argument.variadic()
  )
}

type Options = Command.Command.Config.Infer<typeof config>

const spec = Effect.fnUntraced(
  function*(options: Options): Effect.fn.Return<DeployInput["agent"], UsageError, Stdio.Stdio> {
    const [program, ...args] = options.command
    const line = yield* (yield* Stdio.Stdio).args
    if (options.command.length > (line.includes("--") ? line.length - line.indexOf("--") - 1 : 0)) {
      return yield* new UsageError({
        problem: `${JSON.stringify(program)} is not expected there`,
        hint: "the prompt goes into --prompt, and a command with its arguments behind '--'"
      })
    }
    if (Option.isSome(options.agent)) return { kind: options.agent.value, args: options.command }
    if (program === undefined) {
      return yield* new UsageError({
        problem: "there is nothing to run",
        hint: `name an agent (--agent ${known.join("|")}), or a command behind '--'`
      })
    }
    return { kind: "command", argv: [program, ...args] }
  }
)

const toInput = Effect.fnUntraced(function*(options: Options, agent: DeployInput["agent"], prompt: string) {
  const caller = yield* currentCaller
  const cwd = Option.isSome(options.cwd) ? yield* resolvePath(caller, options.cwd.value) : undefined
  const environment = yield* Variables.read({ env: options.env, file: options.envFile })
  const tree = {
    ...(Option.isSome(options.base) ? { base: options.base.value } : {}),
    ...(Option.isSome(options.branch) ? { branch: options.branch.value } : {})
  }
  if (!options.worktree && Object.keys(tree).length > 0) {
    return yield* new UsageError({ problem: "--base and --branch are about a tree", hint: "add --worktree" })
  }
  const input: DeployInput = {
    prompt,
    agent,
    environment,
    allowDuplicate: options.allowDuplicate,
    ...(Option.isSome(options.task) ? { task: options.task.value } : {}),
    ...(Option.isSome(options.parent) ? { parent: options.parent.value } : {}),
    ...(Option.isSome(options.type) ? { type: options.type.value } : {}),
    ...(cwd === undefined ? {} : { cwd }),
    ...(options.worktree ? { worktree: tree } : {}),
    ...(Option.isSome(options.key) ? { key: options.key.value } : {}),
    ...(Option.isSome(options.ready) ? { ready: options.ready.value } : {}),
    ...(options.mergeStderr ? { stderr: "merged" as const } : {}),
    ...(Option.isSome(options.readyWithin) ? { readyWithin: options.readyWithin.value } : {}),
    ...(Option.isSome(options.maxRun) ? { maxRun: options.maxRun.value } : {}),
    ...(Option.isSome(options.firstOutput) ? { firstOutputWithin: options.firstOutput.value } : {}),
    ...(Option.isSome(options.stallAfter) ? { stallAfter: options.stallAfter.value } : {})
  }
  return input
})

const doing: Record<Step, string> = {
  request: "reading the request",
  preflight: "checking the machine",
  admission: "asking the registry for a place",
  "agent-directory": "writing the agent's files",
  resources: "making its resources",
  session: "starting its tmux session",
  readiness: "waiting until it is up",
  "task-entry": "writing its task entry",
  commit: "committing"
}

const announce = Effect.fnUntraced(function*({ agent, reused }: Deployment) {
  const output = yield* Output
  const view = Document.agent(agent)
  const first = reused
    ? `${output.paint("bold", agent.id)} was deployed under this key already, for ${agent.taskId}; it ${
      Text.ending(agent)
    }`
    : `${output.paint("green", "deployed")} ${output.paint("bold", agent.id)} for ${agent.taskId}`
  yield* output.answer(
    DeployDocument.deployed(agent),
    [
      first,
      `  output   slipway logs ${agent.id} --follow`,
      `  log      ${view.log_file}`,
      ...(view.worktree === null ? [] : [`  tree     ${view.worktree.path} (${view.worktree.branch})`])
    ].join("\n")
  )
  if (yield* output.isLost) {
    yield* output.note(`slipway: ${agent.id} ${reused ? Text.ending(agent) : "is deployed and goes on"}`)
  }
})

const run = Effect.fnUntraced(function*(options: Options) {
  const output = yield* Output
  const status = yield* ExitCode.ExitStatus
  let rolledBack: { readonly report: CleanupReport.CleanupReport; readonly agentId: string } | undefined
  let reached: Step = "request"
  let committed: Deployment | undefined

  const provided = yield* Effect.context<Output>()
  const observer: Observer = {
    onStep: (step) => Effect.andThen(Effect.sync(() => void (reached = step)), output.progress(`${doing[step]} …`)),
    // What a key stands for may still be in flight here, and fail.
    onCommitted: (deployment) =>
      deployment.reused ? Effect.void : Effect.provideContext(
        Effect.gen(function*() {
          committed = deployment
          if (options.wait && output.json) return
          yield* announce(deployment)
          if (!options.wait) yield* status.conclude(ExitCode.done)
        }),
        provided
      ),
    onRolledBack: (report, agentId) => Effect.sync(() => void (rolledBack = { report, agentId }))
  }

  const deployed = Effect.gen(function*() {
    const agent = yield* spec(options)
    const prompt = yield* Prompt.read({ text: options.prompt, file: options.promptFile })
    return yield* Effect.provide(
      Effect.gen(function*() {
        const slipway = yield* Slipway
        const deployment = yield* slipway.deploy(yield* toInput(options, agent, prompt), observer)
        yield* output.progress(undefined)
        if (deployment.reused && !(options.wait && output.json)) yield* announce(deployment)
        committed = deployment
        if (!options.wait) return deployment.agent
        return yield* slipway.wait(deployment.agent.id)
      }),
      Open.layer
    )
  })

  return yield* Effect.uninterruptibleMask((restore) =>
    Effect.gen(function*() {
      const exit = yield* Effect.exit(restore(deployed))
      yield* output.progress(undefined)
      if (Exit.isSuccess(exit)) return yield* ended(options, exit.value)
      if (committed !== undefined) return yield* outlived(options, committed, exit.cause)
      return yield* failed(exit.cause, { reached, ...rolledBack })
    })
  )
})

/** The agent is up, or with `--wait` has ended. */
const ended = Effect.fnUntraced(function*(options: Options, agent: Agent.Agent) {
  const output = yield* Output
  const status = yield* ExitCode.ExitStatus
  const view = Document.agent(agent)
  if (!options.wait) {
    if (Agent.isFinal(agent.state)) yield* output.line(`  it ${Text.ending(agent)} already`)
    return yield* status.conclude(ExitCode.done)
  }
  yield* output.answer({ ...DeployDocument.deployed(agent), result: view }, Text.story(agent))
  yield* status.conclude(Agent.succeeded(agent) ? ExitCode.done : ExitCode.unsuccessful)
})

/** The agent is up, and something else went wrong after that. */
const outlived = Effect.fnUntraced(function*(options: Options, { agent }: Deployment, cause: Cause.Cause<Failure>) {
  const output = yield* Output
  if (options.wait) {
    yield* output.answer({ ...DeployDocument.deployed(agent), result: null }, "")
    yield* output.note(`slipway: no longer waiting; ${agent.id} is deployed and goes on`)
  }
  return yield* Effect.failCause(cause)
})

const failed = Effect.fnUntraced(function*(
  cause: Cause.Cause<Failure>,
  facts: { readonly reached: Step; readonly report?: CleanupReport.CleanupReport; readonly agentId?: string }
) {
  const output = yield* Output
  const status = yield* ExitCode.ExitStatus
  const failure = Option.getOrUndefined(Cause.findErrorOption(cause))
  const shape = (error: string, tag: string) =>
    DeployDocument.notDeployed({ ...facts, error, tag, step: facts.reached })
  if (Cause.hasInterruptsOnly(cause)) {
    const report = facts.report ?? CleanupReport.empty
    const problems = CleanupReport.problems(report)
    yield* output.note(
      CleanupReport.leftovers(report).length > 0
        ? `slipway: interrupted, and the rollback left something: ${
          problems.join("; ")
        }\n  it stays on record; 'slipway reap' tries again, and so does every 'slipway ps'`
        : `slipway: interrupted; ${
          CleanupReport.performed(report) ? "everything was rolled back, and nothing" : "nothing was made, so nothing"
        } is left behind`
    )
    yield* output.answer(shape("the deployment was interrupted", "Interrupted"), "")
    if (CleanupReport.leftovers(report).length > 0) yield* status.conclude(ExitCode.leftBehind)
  } else if (failure !== undefined && failure._tag !== "DeployError" && !Cause.hasDies(cause)) {
    yield* output.note(Report.describe(failure))
    yield* output.answer(shape(Report.messageOf(failure), failure._tag), "")
    yield* status.conclude(ExitCode.ofFailure(failure))
    return
  } else if (failure === undefined) {
    yield* output.answer(shape("a defect in Slipway", "Defect"), "")
  }
  return yield* Effect.failCause(cause)
})

export const deploy = Command.make("deploy", config, run).pipe(
  Command.withDescription(
    "Deploy an agent into a detached tmux session: it comes up whole, or nothing of it is left behind.\nThe agent reads the prompt from standard input. It outlives this command."
  ),
  Command.withShortDescription("Deploy an agent, whole or not at all"),
  Command.withExamples([
    {
      command: "slipway deploy --agent claude --prompt-file task.md",
      description: "A known agent, for the default task of this directory"
    },
    {
      command: "git diff | slipway deploy --agent codex --type reviewer --ready output --ready-within 30s",
      description: "The prompt from a pipe; up when it has written something"
    },
    {
      command: "slipway deploy --agent claude --prompt 'fix the tests' --env ANTHROPIC_API_KEY -- --model opus",
      description: "A variable from here, and extra arguments for the agent"
    },
    {
      command: "echo hello | slipway deploy --json --wait -- sh -c 'cat > greeting'",
      description: "Any command; one JSON value, when it has ended"
    }
  ])
)
