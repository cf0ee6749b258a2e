/**
 * The command as a whole: its commands, its services, and how every ending becomes an exit code.
 *
 * What the program made is released before the ending is reported, whatever ended it.
 */
import { NodeChildProcessSpawner, NodeFileSystem, NodePath, NodeStdio, NodeTerminal } from "@effect/platform-node"
import { Effect, Exit, Layer, Option, References, Scope, Terminal } from "effect"
import packageJson from "../package.json" with { type: "json" }
import * as Cli from "./Cli.ts"
import { Command } from "./Cli.ts"
import { attach } from "./commands/attach.ts"
import { deploy } from "./commands/deploy.ts"
import { diff } from "./commands/diff.ts"
import { doctor } from "./commands/doctor.ts"
import { home } from "./commands/home.ts"
import { land } from "./commands/land.ts"
import { logs } from "./commands/logs.ts"
import { metrics } from "./commands/metrics.ts"
import { prune } from "./commands/prune.ts"
import { ps } from "./commands/ps.ts"
import { reap } from "./commands/reap.ts"
import { rebuild } from "./commands/rebuild.ts"
import { show } from "./commands/show.ts"
import { stop } from "./commands/stop.ts"
import { task } from "./commands/task.ts"
import { wait } from "./commands/wait.ts"
import type { Failure } from "./Errors.ts"
import * as ExitCode from "./ExitCode.ts"
import { layerConsole, layerLogger, Output } from "./Output.ts"
import * as Report from "./Report.ts"
import type { Process } from "./RunMain.ts"

const slipway = Command.make("slipway").pipe(
  Command.withDescription(
    "Deploy headless coding agents into detached tmux sessions: each comes up whole, or nothing of it is left behind."
  ),
  Command.withSubcommands([
    deploy,
    ps,
    show,
    logs,
    diff,
    land,
    attach,
    wait,
    stop,
    task,
    home,
    reap,
    prune,
    doctor,
    rebuild,
    metrics
  ]),
  Command.withGlobalFlags(Cli.globalFlags),
  Command.withExamples([
    {
      command: "slipway deploy --agent claude --prompt-file task.md",
      description: "Deploy an agent for this directory"
    },
    { command: "slipway ps", description: "See what runs" },
    { command: "source <(slipway --completions bash)", description: "Complete commands and flags in this shell" }
  ])
)

/** A terminal that is opened when it is first used: no command asks a person, and to open standard input takes its time. */
const layerTerminal = Layer.effect(
  Terminal.Terminal,
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const opened = yield* Effect.cached(Scope.provide(NodeTerminal.make(), scope))
    return Terminal.make({
      columns: Effect.flatMap(opened, ({ columns }) => columns),
      rows: Effect.flatMap(opened, ({ rows }) => rows),
      size: Effect.flatMap(opened, ({ size }) => size),
      readInput: Effect.flatMap(opened, ({ readInput }) => readInput),
      readLine: Effect.flatMap(opened, ({ readLine }) => readLine),
      display: (text) => Effect.flatMap(opened, ({ display }) => display(text))
    })
  })
)

const layerNode = NodeChildProcessSpawner.layer.pipe(
  Layer.provideMerge(Layer.mergeAll(NodeFileSystem.layer, NodePath.layer, NodeStdio.layer, layerTerminal))
)

/** Runs one command line to its exit code. */
export const main = (args: ReadonlyArray<string>) => ({ exitWith, received }: Process) => {
  const program = Command.runWith(slipway, { version: packageJson.version })(Cli.joinValues(args)).pipe(
    // These have been shown, by the presenter.
    Effect.catchIf(Cli.isShown, () => Effect.flatMap(ExitCode.ExitStatus, ({ conclude }) => conclude(ExitCode.usage)))
  )
  const services = Layer.mergeAll(Cli.layer, layerConsole, layerLogger, layerNode, ExitCode.ExitStatus.layer).pipe(
    Layer.provideMerge(Output.layer({ json: Cli.wantsJson(args) }))
  )
  const codeOf = Effect.fnUntraced(function*(exit: Exit.Exit<void, Failure>) {
    const status = yield* ExitCode.ExitStatus
    const concluded = yield* status.concluded
    if (Option.isSome(concluded)) return concluded.value
    if (Exit.isSuccess(exit)) return ExitCode.done
    return yield* Report.cause(exit.cause, { signal: received(), trace: Cli.wantsTrace(args) })
  })
  // Built inside of the mask too, so that no signal finds the command without a way to report how it ended.
  return Effect.uninterruptibleMask((restore) =>
    Effect.exit(restore(program)).pipe(
      Effect.flatMap(codeOf),
      Effect.map(exitWith),
      Effect.provide(services),
      Effect.provideService(References.MinimumLogLevel, "Warn")
    )
  )
}
