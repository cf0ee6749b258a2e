/**
 * A home, a project and a tmux socket of a test's own, and an audit that looks at the machine itself and not through the
 * code under test. When the scope closes, everything that a test left is ended by pid and removed.
 */
import { Slipway, type SlipwayOptions } from "@slipway/core"
import { Anchor } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"

export interface World {
  readonly root: string
  readonly home: string
  readonly project: string
  readonly socket: string
}

export const make = Effect.acquireRelease(
  Effect.sync((): World => {
    const root = Fs.mkdtempSync(Path.join(Os.tmpdir(), "slipway-"))
    const project = Path.join(root, "project")
    Fs.mkdirSync(project)
    const home = Path.join(root, "home")
    return { root, home, project, socket: Path.join(home, "tmux.sock") }
  }),
  (world) =>
    Effect.sync(() => {
      spawnSync("tmux", ["-S", world.socket, "kill-server"])
      // A launcher that is just ended may still be at its record of the exit, in a directory that is being removed.
      for (let tries = 0; tries < 80 && Fs.existsSync(world.root); tries++) {
        if (tries > 0) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 25)
        for (const pid of members(world)) {
          try {
            process.kill(pid, "SIGKILL")
          } catch {
            // It ended by itself.
          }
        }
        try {
          Fs.rmSync(world.root, { recursive: true, force: true })
        } catch {
          // Node 22 fails where something was written meanwhile; Node 24 leaves it without a word.
        }
      }
      if (Fs.existsSync(world.root)) throw new Error(`${world.root} can't be removed`)
    })
)

/** The facade on this world. */
export const layer = (world: World, options: SlipwayOptions = {}) =>
  Slipway.layer({ directory: world.home, caller: caller(world), ...transportFor(options), ...options })

/** An executable that a test puts before tmux sees each call, so that each call has to be a process. */
export const transportFor = ({ tmux }: SlipwayOptions): SlipwayOptions =>
  tmux === undefined ? {} : { transport: "process" }

/** A caller with an ordinary environment, whatever runs the tests. */
export const caller = (world: World, environment: Record<string, string> = {}) => ({
  environment: { PATH: process.env["PATH"], HOME: world.root, LANG: "C.UTF-8", ...environment },
  cwd: world.project,
  umask: 0o022,
  isRoot: process.getuid?.() === 0
})

const Identity = Schema.fromJsonString(Schema.Struct({ homeId: Schema.String }))

export const homeId = (world: World): string | undefined => {
  const path = Path.join(world.home, "home.json")
  return Fs.existsSync(path) ? Schema.decodeUnknownSync(Identity)(Fs.readFileSync(path, "utf8")).homeId : undefined
}

/** The names of the sessions on the world's socket. */
export const sessions = (world: World): ReadonlyArray<string> => {
  const answer = spawnSync("tmux", ["-S", world.socket, "list-sessions", "-F", "#{session_name}"], { encoding: "utf8" })
  const names = answer.status === 0 ? answer.stdout.split("\n").filter((line) => line !== "") : []
  // The session that a control client is attached to goes with the client.
  return names.filter((name) => !Anchor.isName(name))
}

const isZombie = (pid: string): boolean => {
  try {
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "utf8")
    return stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z")
  } catch {
    return true
  }
}

/** Living processes that bear the world's home, or work in its directories. */
export const members = (world: World): ReadonlyArray<number> =>
  Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).filter((pid) => {
    try {
      const environ = Fs.readFileSync(`/proc/${pid}/environ`, "utf8").split("\0")
      const marked = environ.includes(`SLIPWAY_HOME_ID=${homeId(world)}`)
      return (marked || Fs.readlinkSync(`/proc/${pid}/cwd`).startsWith(world.root)) && !isZombie(pid)
    } catch {
      return false
    }
  }).map(Number)

const listed = (directory: string): ReadonlyArray<string> => Fs.existsSync(directory) ? Fs.readdirSync(directory) : []

/** The agents' directories in the home. */
export const directories = (world: World): ReadonlyArray<string> => listed(Path.join(world.home, "agents"))

/** The agents' documents in all workspaces of the project. */
export const entries = (world: World): ReadonlyArray<string> =>
  listed(Path.join(world.project, ".slipway"))
    .filter((name) => name.startsWith("TASK-"))
    .flatMap((task) => listed(Path.join(world.project, ".slipway", task, "agents")))

export interface Row {
  readonly id: string
  readonly status: string
  readonly isActive: boolean
  readonly holdsSlot: boolean
}

const Rows = Schema.Array(
  Schema.Struct({ id: Schema.String, status: Schema.String, is_active: Schema.Int, holds_slot: Schema.Int })
)

export const rows = (world: World): ReadonlyArray<Row> => {
  const path = Path.join(world.home, "registry.db")
  if (!Fs.existsSync(path) || Fs.statSync(path).size === 0) return []
  const db = new DatabaseSync(path, { readOnly: true })
  try {
    const found = db.prepare("SELECT id, status, is_active, holds_slot FROM agents ORDER BY created_at, id").all()
    return Schema.decodeUnknownSync(Rows)(found).map((row) => ({
      id: row.id,
      status: row.status,
      isActive: row.is_active === 1,
      holdsSlot: row.holds_slot === 1
    }))
  } finally {
    db.close()
  }
}

/** Everything that a failed deployment must not leave; empty when nothing is left. */
export const leftovers = (world: World): ReadonlyArray<string> => [
  ...sessions(world).map((name) => `session ${name}`),
  ...members(world).map((pid) => `process ${pid}: ${commandOf(pid)}`),
  ...directories(world).map((name) => `directory ${name}`),
  ...entries(world).map((name) => `entry ${name}`),
  ...rows(world).filter((row) => row.isActive).map((row) => `row ${row.id} is ${row.status}`),
  ...listed(world.home).filter((name) => name.endsWith(".tmp")).map((name) => `file ${name}`)
]

/** What stays of agents that committed: their directories and their entries. */
export const kept = (ids: ReadonlyArray<string>): ReadonlyArray<string> =>
  ids.flatMap((id) => [`directory ${id}`, `entry ${id}.json`])

const commandOf = (pid: number): string => {
  try {
    return Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")
  } catch {
    return "gone"
  }
}

/** A shell command as an agent. */
export const shell = (script: string) => ({ kind: "command", argv: ["sh", "-c", script] }) as const
