/**
 * Run by a test as a process of its own: deploys, stops, reaps and looks at one home, at random, until it is told to end.
 *
 * It says each step of a deployment as it begins, each id that was admitted as soon as it is told of it, and each operation with
 * its outcome. What breaks a promise that only the caller can see is said as a violation.
 */
import { type DeployError, type Deployment, type Observer, Slipway } from "@slipway/core"
import { Cause, Duration, Effect, Exit, Logger, Option } from "effect"
import { type AgentId, isFinal } from "../../src/agent/Agent.ts"
import * as Contention from "./Contention.ts"
import * as World from "./World.ts"

const [root = "", seed = "0", transport = "control", maxActive = "1", ...tasks] = process.argv.slice(2)

const world = Contention.worldAt(root)
const random = Contention.random(Number(seed))
const below = (limit: number): number => Math.floor(random() * limit)
const chance = (share: number): boolean => random() < share
const oneOf = <A>(...[first, ...rest]: readonly [A, ...ReadonlyArray<A>]): A =>
  [first, ...rest][below(rest.length + 1)] ?? first

// A pipe is written synchronously, so that what was said before a kill was said.
const say = (line: string): void => void process.stdout.write(`${line.replaceAll("\n", " ")}\n`)
const told = (line: string) => Effect.sync(() => say(line))

const observer: Observer = {
  onStep: (step) => told(`step ${step}`),
  onCommitted: ({ agent, reused }) => told(`${reused ? "reused" : "committed"} ${agent.id}`),
  onRolledBack: (_, id) => told(`rolled-back ${id}`)
}

const request = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    const parents = (yield* slipway.agents({ activeOnly: true })).filter(({ state }) => state._tag === "running")
    const parent = chance(0.2) ? parents[below(parents.length)] : undefined
    return {
      ...Contention.request({
        task: parent?.taskId ?? oneOf(tasks[0] ?? "", ...tasks),
        type: oneOf("plan", "build", "test", "review"),
        life: oneOf("stays", "stays", "stays", "brief", "fails", "stubborn", "escapes"),
        ready: oneOf("none", "survive", "output"),
        allowDuplicate: chance(0.3)
      }),
      ...(parent === undefined ? {} : { parent: parent.id })
    }
  })

/** Callers that come at about the same moment draw the same keys; a key always stands for one request. */
const keyed = () => {
  const number = Math.floor(Date.now() / 500) * 2 + below(2)
  const draw = Contention.random(number)
  const key = `key-${number}`
  const input = Contention.request({
    task: tasks[Math.floor(draw() * tasks.length)] ?? "",
    type: "keyed",
    life: draw() < 0.8 ? "stays" : "brief",
    ready: draw() < 0.5 ? "none" : "survive",
    allowDuplicate: true
  })
  return { ...input, key, ...(chance(0.05) ? { prompt: "other work" } : {}) }
}

const outcomeOf = ({ reused }: Deployment): string => reused ? "reused" : "committed"

const failed = (error: DeployError): string => {
  if (!error.isClean) say(`left ${error.agentId ?? "-"} ${error.message}`)
  say(`refused ${error.step}/${error.reason._tag} ${error.message}`)
  return "refused"
}

const deploy = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    const input = yield* request(slipway)
    return yield* Effect.match(slipway.deploy(input, observer), { onSuccess: outcomeOf, onFailure: failed })
  })

const deployKeyed = (slipway: Slipway["Service"]) =>
  Effect.suspend(() => {
    const input = keyed()
    return Effect.match(slipway.deploy(input, observer), {
      onSuccess: (deployment) => {
        say(`key ${input.key} ${deployment.agent.id} ${input.prompt === "work" ? "same" : "other"}`)
        return outcomeOf(deployment)
      },
      onFailure: failed
    })
  })

const deployScoped = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    const input = yield* request(slipway)
    const held = Effect.tap(slipway.deployScoped(input, observer), Effect.sleep(below(300)))
    const deployed = yield* Effect.result(Effect.scoped(held))
    if (deployed._tag === "Failure") return failed(deployed.failure)
    const { id } = deployed.success.agent
    const { state } = yield* slipway.agent(id)
    if (state._tag === "running") say(`violation ${id} outlived the scope that it belonged to`)
    if (isFinal(state)) gone(id)
    return "committed"
  })

const deployCut = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    const input = yield* request(slipway)
    const cut = Effect.timeoutOption(slipway.deploy(input, observer), below(400))
    const deployed = yield* Effect.result(cut)
    if (deployed._tag === "Failure") return failed(deployed.failure)
    return Option.match(deployed.success, { onNone: () => "interrupted", onSome: outcomeOf })
  })

/** What is said to have ended has no process. */
const gone = (id: AgentId): void => {
  const living = Contention.bearers(world, id)
  if (living.length > 0) say(`violation ${id} has ended, and processes ${living.join(", ")} of it live`)
}

let known: ReadonlyArray<AgentId> = []

const list = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    known = (yield* slipway.agents({ activeOnly: chance(0.5) })).slice(0, 20).map(({ id }) => id)
    return "done"
  })

const target = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    // Sometimes what was active a while ago, and may be gone or in somebody else's hands by now.
    if (chance(0.6) || known.length === 0) yield* list(slipway)
    return known[below(known.length)]
  })

const stop = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    const id = yield* target(slipway)
    if (id === undefined) return "idle"
    const ended = yield* slipway.stop([id], { grace: Duration.millis(below(300)) })
    for (const agent of ended) if (isFinal(agent.state)) gone(agent.id)
    return ended.every(({ state }) => isFinal(state)) ? "done" : "left"
  })

const wait = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    const id = yield* target(slipway)
    if (id === undefined) return "idle"
    const waited = yield* Effect.timeoutOption(slipway.wait(id), below(500))
    return Option.isSome(waited) ? "done" : "interrupted"
  })

const reap = (slipway: Slipway["Service"]) =>
  Effect.gen(function*() {
    const reaped = yield* slipway.reap(yield* slipway.reapPlan)
    const strays = reaped.filter(({ item }) => item.verdict === "stray")
    for (const { item } of strays) say(`violation ${item.subject} is a stray: ${item.evidence}`)
    return reaped.length === 0 ? "idle" : reaped.some(({ outcome }) => outcome === "left") ? "left" : "done"
  })

const operations = { deploy, deployKeyed, deployScoped, deployCut, stop, reap, wait, list }

const next = (): keyof typeof operations => {
  const drawn = random()
  if (drawn < 0.22) return "deploy"
  if (drawn < 0.36) return "deployKeyed"
  if (drawn < 0.44) return "deployScoped"
  if (drawn < 0.52) return "deployCut"
  if (drawn < 0.8) return "stop"
  if (drawn < 0.9) return "reap"
  return drawn < 0.95 ? "wait" : "list"
}

const order = { isOver: false }

const program = Effect.gen(function*() {
  const slipway = yield* Slipway
  while (!order.isOver) {
    const name = next()
    const exit = yield* Effect.exit(operations[name](slipway))
    const error = Exit.isFailure(exit) ? Cause.findErrorOption(exit.cause) : Option.none()
    if (Exit.isSuccess(exit)) say(`operation ${name}/${exit.value}`)
    else if (Option.isSome(error)) say(`operation ${name}/${error.value._tag} ${error.value.message}`)
    else say(`violation ${name} broke: ${Cause.pretty(exit.cause)}`)
    yield* Effect.sleep(below(30))
  }
}).pipe(
  Effect.provide([
    World.layer(world, {
      transport: transport === "process" ? "process" : "control",
      maxActive: Number(maxActive)
    }),
    Logger.layer([
      Logger.make(({ logLevel, message }) =>
        logLevel === "Info" || logLevel === "Debug" ? undefined : say(`log ${logLevel} ${String(message)}`)
      )
    ])
  ])
)

process.stdin.on("data", (chunk: Buffer) => {
  if (chunk.includes("go")) {
    Effect.runFork(program).addObserver((exit) => {
      if (Exit.isFailure(exit)) say(`violation the program broke: ${Cause.pretty(exit.cause)}`)
      say("over")
      process.stdin.destroy()
    })
  }
  if (chunk.includes("end")) order.isOver = true
})
say("ready")
