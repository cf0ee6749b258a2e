/**
 * Homes, projects and tmux sockets of a bench's own; when the scope closes, everything in them is ended and removed.
 */
import { Slipway, type SlipwayOptions } from "@slipway/core"
import { Context, Effect, Layer, type Scope } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

export interface Place {
  readonly root: string
  readonly project: string
  /** A home of this name in the place. */
  readonly home: (name: string) => string
  /** Runs tmux on the bare socket, as a person would. */
  readonly tmux: (...args: ReadonlyArray<string>) => string
  readonly bareSocket: string
}

const serverOptions = ["-f", "/dev/null"]

export const make: Effect.Effect<Place, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync((): Place => {
    const root = Fs.mkdtempSync(join(tmpdir(), "slipway-bench-"))
    const project = join(root, "project")
    Fs.mkdirSync(project)
    const bareSocket = join(root, "bare.sock")
    const tmux = (...args: ReadonlyArray<string>) =>
      spawnSync("tmux", ["-S", bareSocket, ...serverOptions, ...args], { encoding: "utf8", cwd: "/" }).stdout
    // As Slipway's own servers: the end of a session should not end the server that the next one needs.
    tmux("set-option", "-s", "exit-empty", "off", ";", "new-session", "-d", "-s", "first", "--", "sleep", "100000")
    return { root, project, bareSocket, tmux, home: (name) => join(root, name) }
  }),
  ({ bareSocket, root }) =>
    Effect.sync(() => {
      const sockets = Fs.readdirSync(root).map((name) => join(root, name, "tmux.sock")).filter((path) =>
        Fs.existsSync(path)
      )
      for (const socket of [bareSocket, ...sockets]) spawnSync("tmux", ["-S", socket, "kill-server"])
      Fs.rmSync(root, { recursive: true, force: true })
    })
)

export interface Opened {
  readonly slipway: Slipway["Service"]
  readonly taskId: string
  readonly directory: string
}

/** A home, open until the scope closes, with a task that has room for everything. */
export const open = Effect.fnUntraced(function*(place: Place, name: string, options: SlipwayOptions = {}) {
  const directory = place.home(name)
  const context = yield* Layer.build(Slipway.layer({ directory, maxActive: 100_000, ...options }))
  const slipway = Context.get(context, Slipway)
  const task = yield* slipway.createTask({
    project: place.project,
    description: `the bench ${name}`,
    maxAgents: 1_000_000,
    maxConcurrent: 100_000
  })
  const opened: Opened = { slipway, taskId: task.id, directory }
  return opened
})

/** A deployment that waits for nothing, of an agent that sleeps. */
export const sleeper = ({ taskId }: Opened) => ({
  task: taskId,
  prompt: "the bench",
  type: "worker",
  agent: { kind: "command", argv: ["sleep", "100000"] },
  ready: "none",
  allowDuplicate: true
} as const)

/** Fills the registry with copies of an ended agent's row, as if so many had been deployed before. */
export const fill = Effect.fnUntraced(function*(opened: Opened, rows: number) {
  const { slipway, directory } = opened
  const { agent } = yield* slipway.deploy({ ...sleeper(opened), agent: { kind: "command", argv: ["true"] } })
  yield* slipway.wait(agent.id)
  const db = new DatabaseSync(join(directory, "registry.db"))
  db.exec("BEGIN IMMEDIATE")
  const columns = db.prepare("SELECT name FROM pragma_table_info('agents')").all().map(({ name }) => String(name))
  const values = columns.map((name) =>
    name === "id" ? "@id" : name === "document" ? `replace(document, '${agent.id}', @id)` : name
  )
  const insert = db.prepare(
    `INSERT INTO agents (${columns.join(", ")}) SELECT ${values.join(", ")} FROM agents WHERE id = '${agent.id}'`
  )
  const event = db.prepare(
    "INSERT INTO events (agent_id, at, status, detail) SELECT @id, at, status, detail FROM events WHERE agent_id = " +
      `'${agent.id}'`
  )
  for (let index = 1; index < rows; index++) {
    const id = agent.id.slice(0, -6) + index.toString(16).padStart(6, "0")
    if (id === agent.id) continue
    insert.run({ id })
    event.run({ id })
  }
  db.exec("COMMIT")
  db.close()
})

/** Brings up so many agents, eight at once. */
export const populate = (opened: Opened, agents: number) =>
  Effect.forEach(
    Array.from({ length: agents }),
    () => Effect.map(opened.slipway.deploy(sleeper(opened)), ({ agent }) => agent.id),
    { concurrency: 8 }
  )
