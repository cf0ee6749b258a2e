/**
 * What tests of an agent's life are made of: programs that tell their pids and go on beating, strangers that must live,
 * changes to stored rows, and a look at what a process costs.
 */
import { assert } from "@effect/vitest"
import type { Slipway } from "@slipway/core"
import { Effect, Schema } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { Agent, type AgentId } from "../../src/agent/Agent.ts"
import type { ProcessIdentity } from "../../src/machine/Host.ts"
import { eventually, identify, lives } from "../processes.ts"
import { agreed } from "./Scenario.ts"
import * as World from "./World.ts"

/** Puts a program into the project: `./name`. */
export const program = (world: World.World, name: string, script: string) =>
  Fs.writeFileSync(Path.join(world.project, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 })

/** Puts `./beat` into the project: it tells its pid, and writes to a file as long as it lives. */
export const beat = (world: World.World) =>
  program(world, "beat", "echo $$ >>pids\nwhile :; do echo >>beats; sleep 0.02; done")

const linesOf = (path: string): ReadonlyArray<string> =>
  Fs.existsSync(path) ? Fs.readFileSync(path, "utf8").split("\n").slice(0, -1) : []

/** How often the programs of the world have beaten. */
export const beats = (world: World.World): number => linesOf(Path.join(world.project, "beats")).length

/** Waits until so many programs have told their pids and beat, and answers with who they are. */
export const beating = Effect.fnUntraced(function*(world: World.World, count: number) {
  yield* eventually(() => linesOf(Path.join(world.project, "pids")).length >= count && beats(world) > 0)
  return linesOf(Path.join(world.project, "pids")).map((pid) => identify(Number(pid)))
})

/** Nothing beats any more; a pause is the only way to see that nothing happens. */
export const silent = Effect.fnUntraced(function*(world: World.World) {
  const before = beats(world)
  yield* Effect.sleep("120 millis")
  assert.strictEqual(beats(world), before, "something of the agent goes on")
})

/** No session, no process that bears the home or works in the project, and none of those that were known. */
export const isGone = (world: World.World, known: ReadonlyArray<ProcessIdentity> = []) => {
  assert.deepStrictEqual(World.sessions(world), [])
  assert.deepStrictEqual(World.members(world), [])
  assert.deepStrictEqual(known.filter(lives), [])
}

/** The agent's state, as the row and the task entry say alike. */
export const stateOf = (slipway: Slipway["Service"], id: AgentId) =>
  Effect.map(agreed(slipway, id), ({ state }) => state)

/** A program that is none of ours, in a session of its own. */
export const stranger = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => spawn("sleep", ["1000"], { cwd: "/", detached: true, stdio: "ignore", env: {} })),
    (child) => Effect.sync(() => void child.kill("SIGKILL"))
  ),
  (child) => identify(child.pid ?? assert.fail("no stranger"))
)

const AgentJson = Schema.fromJsonString(Agent)
const Documents = Schema.Array(Schema.Struct({ document: Schema.String }))

/** Changes a stored row behind Slipway's back. */
export const editRow = (world: World.World, id: AgentId, change: (agent: Agent) => Agent) => {
  const db = new DatabaseSync(Path.join(world.home, "registry.db"))
  try {
    const [row] = Schema.decodeUnknownSync(Documents)(db.prepare("SELECT document FROM agents WHERE id = ?").all(id))
    const agent = Schema.decodeUnknownSync(AgentJson)(row?.document)
    db.prepare("UPDATE agents SET document = ? WHERE id = ?").run(Schema.encodeSync(AgentJson)(change(agent)), id)
  } finally {
    db.close()
  }
}

/** Signals a process that is surely the one that is meant. */
export const signal = (identity: ProcessIdentity | null | undefined, name: NodeJS.Signals) => {
  if (identity === null || identity === undefined || !lives(identity)) return assert.fail("it does not live")
  process.kill(identity.pid, name)
}

/** Ticks of the CPU that a process and its children that ended have used. */
export const ticks = (pid: number): number => {
  const stat = Fs.readFileSync(`/proc/${pid}/stat`, "latin1")
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ").slice(11, 15).map(Number).reduce((a, b) => a + b, 0)
}
