/**
 * What is expected of every real agent, one case per promise. A case runs in directories of its own, makes one agent,
 * and answers with findings. It checks what is left of the agent without Slipway's own code.
 */
import { type Agent, CleanupReport, type DeployInput, Slipway } from "@slipway/core"
import { Anchor } from "@slipway/tmux"
import { Cause, Deferred, Effect, Exit, Fiber, Option, Result, Schedule, Schema, type Scope, Stream } from "effect"
import { spawnSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import * as Fs from "node:fs"
import { dirname, join } from "node:path"
import { type RealAgent, stubKey } from "./RealAgent.ts"
import * as Stub from "./Stub.ts"
import * as Watch from "./Watch.ts"

/** One thing that was expected, and whether it was found so. */
export interface Finding {
  readonly what: string
  readonly ok: boolean
  readonly detail: string
}

/** Where one agent's cases run. */
export interface Ground {
  readonly agent: RealAgent
  /** Everything of this agent is below it. */
  readonly directory: string
  /** The directory with the agent's executable. */
  readonly bin: string
}

/** How long a case may take: the end of one whose agent never asks its stub, say. */
const limit = "2 minutes"

const check = (what: string, ok: boolean, detail: unknown = ""): Finding => ({
  what,
  ok,
  detail: typeof detail === "string" ? detail : JSON.stringify(detail)
})

/** Longer than one argument can be, and full of what a shell, tmux or a template would read as code. */
const makePrompt = (length: number) => {
  const canary = `canary-${randomBytes(8).toString("hex")}`
  const tricky = `Greet "${canary}" and 'nobody' else; $(touch executed) \`touch executed\` #{pid} %s \\n é ✓ ;`
  const filler = "The same sentence stands here again and again. "
  return { canary, prompt: `${tricky}\n${filler.repeat(Math.ceil(length / filler.length))}\nThat is all of ${canary}.` }
}

/** Sets the scene of one case: its directories, its stub, its watch, and a request that ties them together. */
const stage = Effect.fnUntraced(function*(
  { agent, bin, directory: ground }: Ground,
  name: string,
  behaviour: (directory: string) => Stub.Behaviour,
  promptLength = 0
) {
  const directory = join(ground, name)
  const [project, home, temporary] = [join(directory, "project"), join(directory, "home"), join(directory, "tmp")]
  for (const path of [project, home, temporary]) Fs.mkdirSync(path, { recursive: true })

  const slipway = yield* Slipway
  const deployer = { pid: process.pid, socket: slipway.home.socket }
  const { canary, prompt } = makePrompt(promptLength)
  const watch = yield* Effect.acquireRelease(
    Effect.sync(() => Watch.make(ground, { deployer, forbidden: [canary, stubKey] })),
    ({ end }) => Effect.sync(end)
  )
  const stub = yield* Stub.serve(agent, behaviour(directory), watch.look)
  yield* Effect.sync(watch.look).pipe(Effect.repeat(Schedule.spaced("50 millis")), Effect.forkScoped)

  const { args, environment, files, model } = agent.setup(stub.url)
  for (const [path, content] of Object.entries(files)) {
    Fs.mkdirSync(dirname(join(home, path)), { recursive: true })
    Fs.writeFileSync(join(home, path), content)
  }
  const deploy: DeployInput = {
    project,
    prompt,
    agent: { kind: agent.kind, model, args },
    environment: {
      ...environment,
      HOME: home,
      TMPDIR: temporary,
      PATH: [bin, dirname(process.execPath), process.env["PATH"]].join(":")
    },
    ready: "none"
  }

  const deliveredUnseen = () => [
    check("the prompt reached the model whole", stub.wasAsked(prompt), `${stub.questions().length} questions`),
    check("prompt and key never stood in an argument list", watch.exposed().length === 0, watch.exposed()),
    check("nothing in the prompt was executed", !Fs.existsSync(join(project, "executed")))
  ]

  const nothingLeft = Effect.gen(function*() {
    const alive = watch.alive()
    const sessions = spawnSync("tmux", ["-S", slipway.home.socket, "list-sessions", "-F", "#{session_name}"], {
      encoding: "utf8"
    })
    // The session that this program's own tmux client is attached to goes with the program.
    const left = sessions.stdout.split("\n").filter((name) => name !== "" && !Anchor.isName(name))
    const active = yield* slipway.agents({ activeOnly: true })
    return [
      check("the agent's processes were seen", watch.seen() > 0),
      check(
        "no process is left",
        alive.length === 0,
        alive.map(({ argv, pid, session }) => `${pid} (session ${session}) ${argv.slice(0, 120)}`)
      ),
      check("no session is left", left.length === 0, left),
      check("no row is active", active.length === 0, active.map(({ id, state }) => [id, state]))
    ]
  })

  return { directory, slipway, stub, watch, deploy, deliveredUnseen, nothingLeft }
})

const endedAs = (state: Agent.State, expected: string, fits: boolean) => check(`it is ${expected}`, fits, state)

/** It answers: success, by its exit code and its own words. */
const succeeds = (ground: Ground) =>
  Effect.gen(function*() {
    const scene = yield* stage(ground, "success", () => ({ _tag: "answers" }), 150_000)
    const { agent } = yield* scene.slipway.deploy({ ...scene.deploy, ready: "output", readyWithin: 60_000 })
    const ended = yield* scene.slipway.wait(agent.id)
    const said = yield* scene.slipway.output(agent.id).pipe(Stream.decodeText, Stream.mkString)
    const { state } = ended
    return [
      endedAs(state, "a success", state._tag === "exited" && state.code === 0 && state.outcome === "success"),
      check("its output has the model's answer", said.includes(Stub.answer), said.slice(-500)),
      ...scene.deliveredUnseen(),
      ...yield* scene.nothingLeft
    ]
  })

/** Its provider refuses after the deployment committed. */
const fails = (ground: Ground) =>
  Effect.gen(function*() {
    const scene = yield* stage(ground, "failure", () => ({ _tag: "refuses" }))
    const { agent } = yield* scene.slipway.deploy(scene.deploy)
    const { state } = yield* scene.slipway.wait(agent.id)
    return [
      endedAs(state, "a failure", state._tag === "exited" && state.outcome === "failure"),
      ...scene.deliveredUnseen(),
      ...yield* scene.nothingLeft
    ]
  })

/** Its provider refuses while the deployment waits for it. */
const rollsBack = (ground: Ground) =>
  Effect.gen(function*() {
    const scene = yield* stage(ground, "rollback", () => ({ _tag: "refuses" }))
    const deployed = yield* Effect.result(
      scene.slipway.deploy({ ...scene.deploy, ready: "survive", readyWithin: 100_000 })
    )
    if (Result.isSuccess(deployed)) return [check("the deployment fails", false, deployed.success.agent.state)]
    const { agentId, cleanup, isClean, message, step } = deployed.failure
    return [
      check("the deployment fails at readiness", step === "readiness", `${step}: ${message}`),
      check("its rollback is clean", isClean, CleanupReport.problems(cleanup)),
      check("its files are removed", agentId !== null && !Fs.existsSync(scene.slipway.home.agentDirectory(agentId))),
      ...yield* scene.nothingLeft
    ]
  })

/** The deployer is interrupted while the agent waits for its provider. */
const isInterrupted = (ground: Ground) =>
  Effect.gen(function*() {
    const scene = yield* stage(ground, "interruption", () => ({ _tag: "hangs" }))
    const rolledBack = yield* Deferred.make<readonly [CleanupReport.CleanupReport, Agent.AgentId]>()
    const deploying = yield* Effect.forkChild(
      scene.slipway.deploy({ ...scene.deploy, ready: "survive", readyWithin: 100_000 }, {
        onRolledBack: (report, id) => Deferred.succeed(rolledBack, [report, id])
      })
    )
    yield* scene.stub.asked
    yield* Fiber.interrupt(deploying)
    const exit = yield* Fiber.await(deploying)
    if (!(yield* Deferred.isDone(rolledBack))) return [check("the deployment is rolled back", false, exit)]
    const [report, id] = yield* Deferred.await(rolledBack)
    return [
      check("the deployment is interrupted", Exit.hasInterrupts(exit), exit),
      check("its rollback is clean", CleanupReport.leftovers(report).length === 0, CleanupReport.problems(report)),
      check("its files are removed", !Fs.existsSync(scene.slipway.home.agentDirectory(id))),
      ...yield* scene.nothingLeft
    ]
  })

/** It is stopped while its provider keeps the answer open. */
const isStopped = (ground: Ground) =>
  Effect.gen(function*() {
    const scene = yield* stage(ground, "stop", () => ({ _tag: "hangs" }))
    const { agent } = yield* scene.slipway.deploy(scene.deploy)
    yield* scene.stub.asked
    const [stopped] = yield* scene.slipway.stop([agent.id], { reason: "the proof stops it" })
    return [
      check("it is stopped", stopped?.state._tag === "stopped", stopped?.state),
      ...scene.deliveredUnseen(),
      ...yield* scene.nothingLeft
    ]
  })

// The agent puts its shell into a session of its own; the command starts a child in one more, which reports both pids.
const toolCommand = (directory: string) =>
  `setsid sh -c "echo $$ \\$\\$ > '${directory}/tool.new' && mv '${directory}/tool.new' '${directory}/tool'; ` +
  `exec sleep 3600" & while :; do sleep 1; done`

const awaitTool = (directory: string) =>
  Effect.sync(() => Fs.existsSync(join(directory, "tool"))).pipe(
    Effect.repeat({ until: (exists) => exists, schedule: Schedule.spaced("50 millis") }),
    Effect.map(() =>
      Fs.readFileSync(join(directory, "tool"), "utf8").trim().split(" ").flatMap((pid) =>
        Watch.inspect(Number(pid)) ?? []
      )
    )
  )

const toolRan = (tools: ReadonlyArray<Watch.Process>, launcher: Watch.Process | undefined) =>
  check(
    "its tool ran, in sessions of its own",
    tools.length === 2 && launcher !== undefined &&
      new Set([...tools, launcher].map(({ session }) => session)).size === 3,
    [launcher, ...tools]
  )

const launcherOf = ({ running }: Agent.Agent) =>
  running?.launcher === null || running === null ? undefined : Watch.inspect(running.launcher.pid)

/** It is stopped while it runs a command that starts more and never ends. */
const isStoppedAtWork = (ground: Ground) =>
  Effect.gen(function*() {
    const scene = yield* stage(ground, "stop-tool", (directory) => ({ _tag: "runs", command: toolCommand(directory) }))
    const { agent } = yield* scene.slipway.deploy(scene.deploy)
    const tools = yield* awaitTool(scene.directory)
    const ran = toolRan(tools, launcherOf(agent))
    const [stopped] = yield* scene.slipway.stop([agent.id], { reason: "the proof stops it" })
    return [ran, check("it is stopped", stopped?.state._tag === "stopped", stopped?.state), ...yield* scene.nothingLeft]
  })

/** It is killed while it runs such a command, so that it ends nothing itself. */
const isKilledAtWork = (ground: Ground) =>
  Effect.gen(function*() {
    const scene = yield* stage(ground, "kill-tool", (directory) => ({ _tag: "runs", command: toolCommand(directory) }))
    const { agent } = yield* scene.slipway.deploy(scene.deploy)
    const tools = yield* awaitTool(scene.directory)
    const launcher = launcherOf(agent)
    const ran = toolRan(tools, launcher)
    if (launcher === undefined) return [ran]
    for (const child of scene.watch.children(launcher.pid)) process.kill(child.pid, "SIGKILL")
    const { state } = yield* scene.slipway.wait(agent.id)
    return [
      ran,
      endedAs(
        state,
        "a failure by SIGKILL",
        state._tag === "exited" && state.signal === "SIGKILL" && state.outcome === "failure"
      ),
      ...yield* scene.nothingLeft
    ]
  })

const hasType = Schema.is(Schema.Struct({ type: Schema.Literal("result") }))
const decodeLine = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Unknown))

/** Its model wants a command that outlives the answer: the agent refuses that, and its run ends with one result. */
const endsWithItsResult = (ground: Ground) =>
  Effect.gen(function*() {
    const scene = yield* stage(ground, "background", (directory) => ({
      _tag: "runs",
      command: `touch '${directory}/started'; exec sleep 3600`,
      inBackground: true
    }))
    const { agent } = yield* scene.slipway.deploy(scene.deploy)
    const { state } = yield* scene.slipway.wait(agent.id)
    const said = yield* scene.slipway.output(agent.id).pipe(Stream.decodeText, Stream.mkString)
    const results = said.split("\n").filter((line) => Option.exists(decodeLine(line), hasType))
    return [
      endedAs(state, "a success", state._tag === "exited" && state.code === 0 && state.outcome === "success"),
      check("it gave one result", results.length === 1, results),
      check("the command did not run", !Fs.existsSync(join(scene.directory, "started"))),
      ...scene.deliveredUnseen(),
      ...yield* scene.nothingLeft
    ]
  })

/** One promise, tried on one agent. It never fails: what goes wrong is a finding. */
export interface Case {
  readonly name: string
  readonly appliesTo: (agent: RealAgent) => boolean
  readonly run: (ground: Ground) => Effect.Effect<ReadonlyArray<Finding>, never, Slipway>
}

const define = <E>(
  name: string,
  body: (ground: Ground) => Effect.Effect<ReadonlyArray<Finding>, E, Scope.Scope | Slipway>,
  appliesTo: Case["appliesTo"] = () => true
): Case => ({
  name,
  appliesTo,
  run: (ground) =>
    Effect.scoped(body(ground)).pipe(
      Effect.timeout(limit),
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.interrupt
          : Effect.succeed([check("the case runs to its end", false, Cause.pretty(cause))])
      )
    )
})

/** The cases, in the order in which they run. */
export const cases: ReadonlyArray<Case> = [
  define("answers", succeeds),
  define("is refused", fails),
  define("is refused during deployment", rollsBack),
  define("hangs, deployer is interrupted", isInterrupted),
  define("hangs, is stopped", isStopped),
  define("runs a tool, is stopped", isStoppedAtWork),
  define("runs a tool, is killed", isKilledAtWork),
  define("wants a command to outlive it", endsWithItsResult, (agent) => agent.runInBackground !== undefined)
]
