/** The machine in memory that histories run on keeps the contract of the real one. */
import { Target } from "@slipway/tmux"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import * as ProcFs from "../src/machine/processes/ProcFs.ts"
import { Disk } from "../src/testing/Disk.ts"
import { MemoryMachine } from "../src/testing/MemoryMachine.ts"
import { eventually } from "./processes.ts"
import { MemoryTime } from "./support/MemoryTime.ts"
import { type Subject, suite } from "./SystemContract.ts"

const real: Subject = {
  system: ProcFs.system(),
  start: ({ agentId, deaf, homeId }) =>
    Effect.map(
      Effect.acquireRelease(
        Effect.callback<ReturnType<typeof spawn>>((resume) => {
          const environment = {
            PATH: process.env["PATH"],
            ...(agentId === undefined ? {} : { SLIPWAY_AGENT_ID: agentId }),
            ...(homeId === undefined ? {} : { SLIPWAY_HOME_ID: homeId })
          }
          const script = `${deaf === true ? "trap '' TERM; " : ""}echo ready; while :; do sleep 0.1; done`
          const child = spawn("sh", ["-c", script], {
            detached: true,
            stdio: ["ignore", "pipe", "ignore"],
            env: environment
          })
          child.stdout.once("data", () => resume(Effect.succeed(child)))
        }),
        (child) =>
          Effect.callback<void>((resume) => {
            if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
            child.once("exit", () => resume(Effect.void))
            child.kill("SIGKILL")
          })
      ),
      (child) => child.pid ?? 0
    ),
  eventually
}

suite("the real system", Effect.succeed(real))

suite(
  "the system in memory",
  Effect.sync((): Subject => {
    const machine = new MemoryMachine({
      timer: new MemoryTime(0),
      disk: new Disk(() => 0),
      socket: Target.SocketPath.make("/nowhere"),
      scriptOf: () => []
    })
    return {
      system: machine.systemOf(machine.add("program", {})),
      start: ({ agentId, deaf, homeId }) =>
        Effect.sync(() =>
          machine.add("agent", { agentId, homeId, deaf: deaf ?? false, environ: { _tag: "Read", agentId, homeId } }).pid
        ),
      eventually
    }
  })
)
