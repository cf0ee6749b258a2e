/**
 * What the tests of guarantees share: a test that runs in a world of its own and ends with the audit of it, services with
 * one operation changed, and what tests say about requests, errors, logs and entries.
 */
import { assert, it } from "@effect/vitest"
import { type DeployError, type DeployInput, Document, Slipway, type SlipwayOptions } from "@slipway/core"
import { Tmux } from "@slipway/tmux"
import { Context, Effect, Layer, Logger, References, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Agent, AgentId } from "../../src/agent/Agent.ts"
import type { Reason } from "../../src/deployment/DeployError.ts"
import { Files } from "../../src/machine/Files.ts"
import { Host } from "../../src/machine/Host.ts"
import { ProcessTree } from "../../src/machine/ProcessTree.ts"
import { Ledger } from "../../src/registry/Ledger.ts"
import { services } from "../../src/Services.ts"
import { eventually } from "../processes.ts"
import * as World from "./World.ts"

/**
 * A test in a world of its own, without logs. The body answers with the agents that committed, whose directories and
 * entries stay; anything else that is left fails the test.
 */
export const guarantee = <E>(
  name: string,
  body: (world: World.World) => Effect.Effect<ReadonlyArray<string> | void, E, Scope.Scope>,
  timeout = 90_000
) =>
  it.live(name, () =>
    Effect.gen(function*() {
      const world = yield* World.make
      const kept = (yield* body(world)) ?? []
      assert.sameMembers([...World.leftovers(world)], [...World.kept(kept)])
    }).pipe(Effect.provide(Logger.layer([]))), timeout)

/** The facade on a world, for as long as the test. */
export const open = (world: World.World, options: SlipwayOptions = {}) =>
  Effect.map(Layer.build(World.layer(world, options)), Context.get(Slipway))

export interface Around {
  readonly host?: (service: Host["Service"]) => Host["Service"]
  readonly ledger?: (service: Ledger["Service"]) => Ledger["Service"]
  readonly files?: (service: Files["Service"]) => Files["Service"]
  readonly tmux?: (service: Tmux["Service"]) => Tmux["Service"]
  readonly processes?: (service: ProcessTree["Service"]) => ProcessTree["Service"]
}

const same = <A>(service: A): A => service

/** The facade on services that are the real ones, but for what is put around them. */
export const openAround = (world: World.World, around: Around, more: SlipwayOptions = {}) => {
  const options = { directory: world.home, caller: World.caller(world), ...World.transportFor(more), ...more }
  const changed = Layer.mergeAll(
    Layer.effect(Host, Effect.map(Host, around.host ?? same)),
    Layer.effect(Ledger, Effect.map(Ledger, around.ledger ?? same)),
    Layer.effect(Files, Effect.map(Files, around.files ?? same)),
    Layer.effect(Tmux, Effect.map(Tmux, around.tmux ?? same)),
    Layer.effect(ProcessTree, Effect.map(ProcessTree, around.processes ?? same))
  )
  const layer = Slipway.layerNoDeps(options).pipe(Layer.provide(changed), Layer.provide(services(options)))
  return Effect.map(Layer.build(layer), Context.get(Slipway))
}

/** A request for a shell command as an agent. */
export const request = (world: World.World, script: string, more: Partial<DeployInput> = {}): DeployInput => ({
  project: world.project,
  prompt: "work",
  type: "worker",
  agent: World.shell(script),
  ...more
})

/** An agent that says that it is up, and stays. */
export const staying = "echo up; exec sleep 1000"

/** A request for an agent that is up with its first output, and stays. */
export const lasting = (world: World.World, more: Partial<DeployInput> = {}): DeployInput =>
  request(world, staying, { ready: "output", readyWithin: 20_000, ...more })

const has = <T extends Reason["_tag"]>(reason: Reason, tag: T): reason is Extract<Reason, { readonly _tag: T }> =>
  reason._tag === tag

/** The error's reason, which must be the one of this tag. */
export const reasonOf = <T extends Reason["_tag"]>(error: DeployError, tag: T): Extract<Reason, { readonly _tag: T }> =>
  has(error.reason, tag)
    ? error.reason
    : assert.fail(`expected ${tag}, got ${error.reason._tag} at ${error.step}: ${error.message}`)

export interface LogLine {
  readonly level: string
  readonly text: string
  readonly resource: unknown
}

/** A layer that gathers what is logged, in place of printing it. */
export const capture = () => {
  const lines: Array<LogLine> = []
  const logger = Logger.make<unknown, void>(({ fiber, logLevel, message }) => {
    const annotations = fiber.getRef(References.CurrentLogAnnotations)
    lines.push({
      level: logLevel,
      text: `${JSON.stringify(message)} ${JSON.stringify(annotations)}`,
      resource: annotations["resource"]
    })
  })
  return { lines, layer: Logger.layer([logger]) }
}

/** The agent as it is now; its entry in the workspace must say the same. */
export const agreed = Effect.fnUntraced(function*(slipway: Slipway["Service"], id: AgentId) {
  const agent = yield* slipway.agent(id)
  const entry: unknown = JSON.parse(Fs.readFileSync(agent.plan.entry, "utf8"))
  assert.deepStrictEqual(entry, JSON.parse(Document.entryText(agent)))
  return agent
})

/** Waits until the agent has written this file, and answers with its content. */
export const written = (path: string) =>
  Effect.map(
    eventually(() => Fs.existsSync(path) && Fs.statSync(path).size > 0),
    () => Fs.readFileSync(path, "utf8")
  )

/** Waits until the file has a whole line, and answers with it as a number. */
export const numberIn = (path: string) =>
  Effect.map(
    eventually(() => Fs.existsSync(path) && Fs.readFileSync(path, "utf8").endsWith("\n")),
    () => Number(Fs.readFileSync(path, "utf8"))
  )

const realTmux = (process.env["PATH"] ?? "").split(":").map((directory) => Path.join(directory, "tmux"))
  .find((path) => Fs.existsSync(path)) ?? "tmux"

/**
 * An executable that stands before tmux. In its script `$real` is tmux itself, `$here` a directory of the test's own, and
 * `$new` is set when a session is to be made; without an exit of its own it ends as tmux.
 */
export const fakeTmux = (world: World.World, script: string): string => {
  const path = Path.join(world.root, `tmux-${Fs.readdirSync(world.root).length}`)
  const prelude = `real='${realTmux}'\nhere='${world.root}'\nnew=\nfor a; do [ "$a" = new-session ] && new=1; done\n`
  Fs.writeFileSync(path, `#!/bin/sh\n${prelude}${script}\nexec "$real" "$@"\n`, { mode: 0o755 })
  return path
}

/** Stops agents and waits until they are through: on a busy machine that may take another look. */
export const finished = (slipway: Slipway["Service"], ids: ReadonlyArray<AgentId>) =>
  Effect.andThen(slipway.stop(ids), Effect.forEach(ids, slipway.wait))

/** The one row that is not over. */
export const only = (agents: ReadonlyArray<Agent>): Agent => {
  assert.lengthOf(agents, 1)
  return agents[0] ?? assert.fail("there is no agent")
}
