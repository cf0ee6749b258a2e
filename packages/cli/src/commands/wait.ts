/**
 * `slipway wait`: waits until agents have ended and everything of them is released.
 */
import { Agent, Document, Slipway } from "@slipway/core"
import { Duration, Effect, Fiber, Option } from "effect"
import { Argument, Command, duration, Flag, toggle } from "../Cli.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output } from "../Output.ts"
import * as Text from "../Text.ts"

/** The agent's own code; one that ended without any counts as unsuccessful. */
const ownCode = (agent: Agent.Agent): number => agent.state._tag === "exited" ? agent.state.code : ExitCode.unsuccessful

export const wait = Command.make(
  "wait",
  {
    agents: Argument.String("agent").pipe(
      Argument.withDescription("The agents' ids, or their beginnings"),
      Argument.variadic({ min: 1 })
    ),
    timeout: duration("timeout", "How long to wait at most; then the exit code is 124").pipe(Flag.optional),
    exitCode: toggle(
      "exit-code",
      "Exit with the agent's own exit code; of several agents, with the first that is not 0"
    )
  },
  Effect.fnUntraced(function*({ agents, exitCode, timeout }) {
    const output = yield* Output
    const status = yield* ExitCode.ExitStatus
    const slipway = yield* Slipway
    const ids = [...new Set(yield* Effect.forEach(agents, slipway.selectAgent))]
    const told = (id: Agent.AgentId) => Effect.tap(slipway.wait(id), (agent) => output.line(Text.story(agent)))
    const waiting = yield* Effect.forkChild(Effect.forEach(ids, told, { concurrency: "unbounded" }))
    const ended = Option.isSome(timeout)
      ? yield* Effect.timeoutOption(Fiber.join(waiting), Duration.millis(timeout.value))
      : Option.some(yield* Fiber.join(waiting))
    yield* Fiber.interrupt(waiting)

    const found = Option.isSome(ended) ? ended.value : yield* Effect.forEach(ids, slipway.agent)
    const failed = found.filter((agent) => !Agent.succeeded(agent))
    const error = Option.isSome(timeout) && Option.isNone(ended)
      ? `not all of them have ended within ${Duration.format(Duration.millis(timeout.value))}`
      : undefined
    if (error !== undefined) {
      const live = found.filter((agent) => agent.endedAt === null).map((agent) => agent.id)
      yield* output.note(`slipway: ${error}: ${live.join(", ")} ${live.length === 1 ? "goes" : "go"} on`)
    }
    yield* output.answer({
      success: error === undefined && failed.length === 0,
      ...(error === undefined ? {} : { error, error_tag: "WaitTimedOut" }),
      timed_out: error !== undefined,
      agents: found.map(Document.agent)
    }, "")
    yield* status.conclude(
      error !== undefined
        ? ExitCode.timedOut
        : exitCode
        ? found.map(ownCode).find((code) => code !== 0) ?? ExitCode.done
        : failed.length === 0
        ? ExitCode.done
        : ExitCode.unsuccessful
    )
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Wait until agents have ended. The exit code is 0 when all of them ended with success, else 8."
  ),
  Command.withShortDescription("Wait until agents have ended"),
  Command.withExamples([
    { command: "slipway wait reviewer-260102-030405-0a1b2c --timeout 30m" },
    { command: "slipway wait builder-260102-030405-0a1b2c --exit-code", description: "As if the agent had run here" }
  ])
)
