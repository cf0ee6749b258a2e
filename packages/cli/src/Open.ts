/**
 * Opens the home that the global flags and the environment name, for as long as one command runs.
 *
 * Flags go before variables. Inside of an agent the variables name that agent's home and socket; whoever names another home
 * there does not mean this home's socket, so it is then left out.
 */
import { Agent, currentCaller, defaultDirectory, Slipway, Task } from "@slipway/core"
import { Effect, Layer, Option, Schema } from "effect"
import * as Path from "node:path"
import { HomeFlag, SocketFlag } from "./Cli.ts"
import { NoSuchAgent, NoSuchTask, UsageError } from "./Errors.ts"

/** A command asks tmux a few times and ends, which is not worth a client of its own. */
const transport = "process" as const

const nonEmpty = (value: string | undefined): string | undefined => value === "" ? undefined : value

/** The home that was asked for. */
export const options = Effect.gen(function*() {
  const { cwd, environment } = yield* currentCaller
  const home = Option.getOrUndefined(yield* HomeFlag)
  const socket = Option.getOrUndefined(yield* SocketFlag)
  if (home === "") return yield* new UsageError({ problem: "--home is empty", hint: "name a directory" })
  const directory = home === undefined ? defaultDirectory(environment) : Path.resolve(cwd, home)
  const isOther = nonEmpty(environment["SLIPWAY_HOME"]) !== undefined && directory !== defaultDirectory(environment)
  const chosen = socket ?? (isOther ? undefined : nonEmpty(environment["SLIPWAY_TMUX_SOCKET"]))
  if (chosen !== undefined && !Path.isAbsolute(chosen)) {
    return yield* new UsageError({
      problem: `the tmux socket ${JSON.stringify(chosen)} is not an absolute path`,
      hint: "give --socket or SLIPWAY_TMUX_SOCKET a path that begins with /"
    })
  }
  const limit = nonEmpty(environment["SLIPWAY_MAX_ACTIVE"])
  if (limit !== undefined && !/^[1-9]\d{0,5}$/.test(limit)) {
    return yield* new UsageError({
      problem: `SLIPWAY_MAX_ACTIVE is ${JSON.stringify(limit)}`,
      hint: "it should be a number of agents, at least 1"
    })
  }
  return { directory, socket: chosen, maxActive: limit === undefined ? undefined : Number(limit), transport }
})

/** Slipway on the home that was asked for. */
export const layer = Layer.unwrap(Effect.map(options, Slipway.layer))

/** The id of an agent; what does not have the form of one names none. */
export const agentId = (id: string): Effect.Effect<Agent.AgentId, NoSuchAgent> =>
  Schema.is(Agent.AgentId)(id) ? Effect.succeed(id) : Effect.fail(new NoSuchAgent({ agentId: id }))

/** The id of a task; what does not have the form of one names none. */
export const taskId = (id: string): Effect.Effect<Task.TaskId, NoSuchTask> =>
  Schema.is(Task.TaskId)(id) ? Effect.succeed(id) : Effect.fail(new NoSuchTask({ taskId: id }))
