/**
 * What Slipway stands on, as layers: the machine (files, processes, tmux), the home, and its registry.
 */
import { NodeChildProcessSpawner, NodeFileSystem, NodePath } from "@effect/platform-node"
import { TmuxControl, TmuxProcess } from "@slipway/tmux"
import { Effect, Layer } from "effect"
import { Home, type HomeOptions, maxActiveOf } from "./home/Home.ts"
import { choose } from "./home/HomeChoice.ts"
import { type Caller, currentCaller } from "./machine/Caller.ts"
import * as Files from "./machine/Files.ts"
import { Host } from "./machine/Host.ts"
import { ProcessTree } from "./machine/ProcessTree.ts"
import * as SqliteRegistry from "./registry/sqlite/SqliteRegistry.ts"

export interface ServicesOptions extends Partial<HomeOptions> {
  /** The process whose environment agents inherit; by default this one. */
  readonly caller?: Caller | undefined
  /** The tmux executable; by default `tmux` on the caller's PATH. */
  readonly tmux?: string | undefined
  /**
   * How tmux is asked. `control`, the default, is for a process that deploys more than once: one long-lived client in
   * control mode, where that endangers no session. `process` is for one that does little and ends: a process per call.
   */
  readonly transport?: "control" | "process" | undefined
}

export const callerOf = (options: ServicesOptions): Effect.Effect<Caller> =>
  options.caller === undefined ? currentCaller : Effect.succeed(options.caller)

/** What `Slipway.layerNoDeps` needs: the home, its registry, files, processes, and tmux. */
export const services = (options: ServicesOptions) => {
  const home = Layer.unwrap(Effect.gen(function*() {
    const caller = yield* callerOf(options)
    const chosen = yield* choose(options, caller)
    return Home.layer({ ...options, ...chosen, maxActive: yield* maxActiveOf(options.maxActive, caller.environment) })
  }))
  return SqliteRegistry.ofHome().pipe(Layer.provideMerge(home), Layer.provideMerge(machine(options)))
}

/** Files, processes and tmux of this machine. */
export const machine = (options: ServicesOptions) => {
  const spawner = NodeChildProcessSpawner.layer.pipe(Layer.provide([NodeFileSystem.layer, NodePath.layer]))
  const transport: typeof TmuxProcess.layer = options.transport === "process" ? TmuxProcess.layer : TmuxControl.layer
  const tmux = Layer.unwrap(
    Effect.map(callerOf(options), ({ environment }) => transport({ executable: options.tmux, environment }))
  ).pipe(Layer.provide(spawner))
  return Layer.mergeAll(Files.layer, Host.layer, ProcessTree.layer, tmux)
}
