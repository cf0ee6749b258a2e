/**
 * `@slipway/core/promise`: Slipway for programs that do not use Effect.
 *
 * `open` gives one client on a home. Each method does what the member of `Slipway` with its name does, and its promise is
 * rejected with the very error of that member, which has a `_tag` and a sentence. A `signal` interrupts the call: a
 * deployment is then rolled back whole, and its promise is rejected when that is done. `close` gives the home back; agents
 * go on. Streams are async iterables; leaving the loop ends them.
 */
import { Effect, ManagedRuntime, Stream } from "effect"
import type { AgentId } from "./agent/Agent.ts"
import type { CleanupReport } from "./agent/CleanupReport.ts"
import type { Deployment, Observer } from "./deployment/Deployer.ts"
import type { Step } from "./deployment/DeployError.ts"
import type { DeployInput } from "./deployment/DeployRequest.ts"
import { Slipway, type SlipwayOptions } from "./Slipway.ts"

type Facade = Slipway["Service"]

/** Interrupts a call. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined
}

/** What a deployment tells while it goes on; what a function throws is logged and changes nothing. */
export interface DeployOptions extends CallOptions {
  readonly onStep?: ((step: Step) => void) | undefined
  readonly onCommitted?: ((deployment: Deployment) => void) | undefined
  readonly onRolledBack?: ((report: CleanupReport, agentId: AgentId) => void) | undefined
}

type Success<F> = F extends (...args: never) => Effect.Effect<infer A, unknown, unknown> ? A
  : F extends Effect.Effect<infer A, unknown, unknown> ? A
  : never
type Element<F> = F extends (...args: never) => Stream.Stream<infer A, unknown, unknown> ? A : never

export interface Client {
  readonly home: Facade["home"]
  readonly deploy: (input: DeployInput, options?: DeployOptions) => Promise<Deployment>
  readonly createTask: (
    input: Parameters<Facade["createTask"]>[0],
    options?: CallOptions
  ) => Promise<Success<Facade["createTask"]>>
  readonly tasks: (options?: CallOptions) => Promise<Success<Facade["tasks"]>>
  readonly task: (id: string, options?: CallOptions) => Promise<Success<Facade["task"]>>
  readonly selectAgent: (text: string, options?: CallOptions) => Promise<Success<Facade["selectAgent"]>>
  readonly selectTask: (text: string, options?: CallOptions) => Promise<Success<Facade["selectTask"]>>
  readonly agents: (
    filter?: Parameters<Facade["agents"]>[0],
    options?: CallOptions
  ) => Promise<Success<Facade["agents"]>>
  readonly agent: (id: string, options?: CallOptions) => Promise<Success<Facade["agent"]>>
  readonly events: (id: string, options?: CallOptions) => Promise<Success<Facade["events"]>>
  readonly wait: (id: string, options?: CallOptions) => Promise<Success<Facade["wait"]>>
  readonly stop: (
    ids: ReadonlyArray<string>,
    request?: Parameters<Facade["stop"]>[1],
    options?: CallOptions
  ) => Promise<Success<Facade["stop"]>>
  readonly outputs: (
    id: string,
    options?: Parameters<Facade["outputs"]>[1]
  ) => AsyncIterable<Element<Facade["outputs"]>>
  readonly output: (id: string, options?: Parameters<Facade["output"]>[1]) => AsyncIterable<Uint8Array>
  readonly readOutput: (
    id: string,
    request?: Parameters<Facade["readOutput"]>[1],
    options?: CallOptions
  ) => Promise<Success<Facade["readOutput"]>>
  readonly follow: (options?: Parameters<Facade["follow"]>[0]) => AsyncIterable<Element<Facade["follow"]>>
  readonly reapPlan: (options?: CallOptions) => Promise<Success<Facade["reapPlan"]>>
  readonly reap: (
    plan: Parameters<Facade["reap"]>[0],
    request?: Parameters<Facade["reap"]>[1],
    options?: CallOptions
  ) => Promise<Success<Facade["reap"]>>
  readonly watch: (options?: Parameters<Facade["watch"]>[0]) => AsyncIterable<Element<Facade["watch"]>>
  readonly doctor: (options?: CallOptions) => Promise<Success<Facade["doctor"]>>
  readonly prune: (request?: Parameters<Facade["prune"]>[0], options?: CallOptions) => Promise<Success<Facade["prune"]>>
  readonly diff: (
    id: string,
    request?: Parameters<Facade["diff"]>[1],
    options?: CallOptions
  ) => Promise<Success<Facade["diff"]>>
  readonly land: (
    id: string,
    request: Parameters<Facade["land"]>[1],
    options?: CallOptions
  ) => Promise<Success<Facade["land"]>>
  /** Ends what the client still does, and gives the home back. It may be called again. */
  readonly close: () => Promise<void>
  readonly [Symbol.asyncDispose]: () => Promise<void>
}

const observerOf = ({ onCommitted, onRolledBack, onStep }: DeployOptions): Observer => ({
  onStep: onStep && ((step) => Effect.sync(() => onStep(step))),
  onCommitted: onCommitted && ((deployment) => Effect.sync(() => onCommitted(deployment))),
  onRolledBack: onRolledBack && ((report, agentId) => Effect.sync(() => onRolledBack(report, agentId)))
})

/** Opens a home, which is made at first use; rejected with the error of `Slipway.layer`. */
export const open = (options: SlipwayOptions = {}): Promise<Client> => {
  const runtime = ManagedRuntime.make(Slipway.layer(options))
  const run = <A, E>(effect: Effect.Effect<A, E>, call: CallOptions | undefined) =>
    runtime.runPromise(effect, call?.signal === undefined ? {} : { signal: call.signal })
  const close = () => runtime.dispose()
  return runtime.runPromise(Effect.map(Slipway, (slipway): Client => ({
    home: slipway.home,
    deploy: (input, deploying = {}) => run(slipway.deploy(input, observerOf(deploying)), deploying),
    createTask: (input, call) => run(slipway.createTask(input), call),
    tasks: (call) => run(slipway.tasks, call),
    task: (id, call) => run(slipway.task(id), call),
    selectAgent: (text, call) => run(slipway.selectAgent(text), call),
    selectTask: (text, call) => run(slipway.selectTask(text), call),
    agents: (filter, call) => run(slipway.agents(filter), call),
    agent: (id, call) => run(slipway.agent(id), call),
    events: (id, call) => run(slipway.events(id), call),
    wait: (id, call) => run(slipway.wait(id), call),
    stop: (ids, request, call) => run(slipway.stop(ids, request), call),
    outputs: (id, reading) => Stream.toAsyncIterable(slipway.outputs(id, reading)),
    output: (id, reading) => Stream.toAsyncIterable(slipway.output(id, reading)),
    readOutput: (id, request, call) => run(slipway.readOutput(id, request), call),
    follow: (following) => Stream.toAsyncIterable(slipway.follow(following)),
    reapPlan: (call) => run(slipway.reapPlan, call),
    reap: (plan, request, call) => run(slipway.reap(plan, request), call),
    watch: (watching) => Stream.toAsyncIterable(slipway.watch(watching)),
    doctor: (call) => run(slipway.doctor, call),
    prune: (request, call) => run(slipway.prune(request), call),
    diff: (id, request, call) => run(slipway.diff(id, request), call),
    land: (id, request, call) => run(slipway.land(id, request), call),
    close,
    [Symbol.asyncDispose]: close
  })))
}
