/**
 * A home, a project and a tmux socket for one crash, and an audit of them. The audit reads the machine itself (the
 * registry's file, tmux, /proc and the directories) and uses none of the code that is being assessed.
 */
import { Anchor } from "@slipway/tmux"
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

export const worldAt = (root: string): World => {
  const home = Path.join(root, "home")
  return { root, home, project: Path.join(root, "project"), socket: Path.join(home, "tmux.sock") }
}

const open = new Set<World>()

export const make = (): World => {
  const world = worldAt(Fs.mkdtempSync(Path.join(Os.tmpdir(), "slipway-crash-")))
  open.add(world)
  Fs.mkdirSync(world.project)
  return world
}

/** Ends and removes all of a world, by pid. */
export const remove = (world: World): void => {
  // A server that ends waits for its clients; one that stands still, or a program that hung, ends for nothing else.
  const programs = pids().filter((pid) => wordsOf(pid).includes(world.root))
  signalAll([...clients(world), ...programs], "SIGKILL")
  spawnSync("tmux", ["-S", world.socket, "kill-server"], { stdio: "ignore", timeout: 5000 })
  signalServer(world, "SIGKILL")
  signalAll(members(world).map(({ pid }) => pid), "SIGKILL")
  Fs.rmSync(world.root, { recursive: true, force: true, maxRetries: 5, retryDelay: 20 })
  open.delete(world)
}

/** For a sweep that is cut short. */
export const removeAll = (): void => open.forEach(remove)

/** The caller of everything that is deployed here, with an ordinary environment, whatever runs the sweep. */
export const caller = (world: World) => ({
  environment: { PATH: process.env["PATH"], HOME: world.root, LANG: "C.UTF-8" },
  cwd: world.project,
  umask: 0o022,
  isRoot: process.getuid?.() === 0
})

const read = (path: string): string | undefined => {
  try {
    return Fs.readFileSync(path, "utf8")
  } catch {
    return undefined
  }
}

const list = (path: string): ReadonlyArray<string> => {
  try {
    return Fs.readdirSync(path)
  } catch {
    return []
  }
}

const homeIdOf = (world: World): string | undefined => {
  const text = read(Path.join(world.home, "home.json"))
  return text === undefined ? undefined : /"homeId":"([0-9a-f]+)"/.exec(text)?.[1]
}

const pids = (): ReadonlyArray<number> =>
  list("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => pid !== process.pid)

const statOf = (pid: number): ReadonlyArray<string> => {
  const stat = read(`/proc/${pid}/stat`) ?? ""
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")
}

const isDead = (pid: number): boolean => {
  const [state = ""] = statOf(pid)
  return state === "" || state === "Z" || state === "X"
}

const cwdOf = (pid: number): string => {
  try {
    return Fs.readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    return ""
  }
}

interface Process {
  readonly pid: number
  readonly agentId: string
}

/** Living processes that bear the home's id, or work in the world's directories. */
const members = (world: World): ReadonlyArray<Process> => {
  const mark = `SLIPWAY_HOME_ID=${homeIdOf(world) ?? "none"}`
  return pids().flatMap((pid) => {
    const environ = (read(`/proc/${pid}/environ`) ?? "").split("\0")
    const isOurs = environ.includes(mark) || cwdOf(pid).startsWith(`${world.root}/`)
    const agentId = environ.find((line) => line.startsWith("SLIPWAY_AGENT_ID="))?.slice("SLIPWAY_AGENT_ID=".length)
    return isOurs && !isDead(pid) ? [{ pid, agentId: agentId ?? "nobody" }] : []
  })
}

/** The living processes that bear an agent's id. */
export const pidsOf = (world: World, agentId: string): ReadonlyArray<number> =>
  members(world).filter((member) => member.agentId === agentId).map(({ pid }) => pid)

/** Programs of tmux other than the server that have the world's socket in their arguments. */
const clients = (world: World): ReadonlyArray<number> =>
  pids().filter((pid) => {
    const name = read(`/proc/${pid}/comm`) ?? ""
    if (!name.startsWith("tmux") || name.startsWith("tmux: server")) return false
    return wordsOf(pid).includes(world.socket) && !isDead(pid)
  })

const wordsOf = (pid: number): ReadonlyArray<string> => (read(`/proc/${pid}/cmdline`) ?? "").split("\0")

const signalAll = (found: ReadonlyArray<number>, signal: NodeJS.Signals): void => {
  for (const pid of found) {
    try {
      process.kill(pid, signal)
    } catch {
      // It ended by itself.
    }
  }
}

/** Sends a signal to the world's tmux server. */
export const signalServer = (world: World, signal: NodeJS.Signals): void =>
  signalAll(
    pids().filter((pid) =>
      (read(`/proc/${pid}/comm`) ?? "").startsWith("tmux: server") && wordsOf(pid).includes(world.socket)
    ),
    signal
  )

/** Kills the program that works on the world, and not its tracer. */
export const killProgram = (world: World): void =>
  signalAll(
    pids().filter((pid) => wordsOf(pid).includes(world.root) && wordsOf(pid)[0] === process.execPath),
    "SIGKILL"
  )

/** Kills the control clients that live, and answers how many there were. */
export const killControlClients = (world: World): number => {
  const found = controlClients(world)
  signalAll(found, "SIGKILL")
  return found.length
}

/** The living control clients. */
const controlClients = (world: World): ReadonlyArray<number> =>
  clients(world).filter((pid) => wordsOf(pid).includes("-C"))

const told = (world: World, command: string, format: string): ReadonlyArray<string> => {
  const answer = spawnSync("tmux", ["-S", world.socket, command, "-F", format], { encoding: "utf8", timeout: 5000 })
  if (answer.error !== undefined) return [`tmux does not answer: ${answer.error.message}`]
  return answer.status === 0 ? answer.stdout.split("\n").filter((line) => line !== "") : []
}

const agentPrefix = "agent_"
const isAgents = (session: string): boolean => session.startsWith(agentPrefix)
const isAnchor = (session: string): boolean => Anchor.isName(session)

/** All sessions but the anchor of a control client that lives. */
const sessionsOf = (world: World): ReadonlyArray<string> => {
  const sessions = told(world, "list-sessions", "#{session_name}")
  if (!sessions.some(isAnchor)) return sessions
  const attached = told(world, "list-clients", "#{client_pid} #{session_name}").map((line) => line.split(" "))
  const isHeld = (name: string) => attached.some(([pid, session]) => session === name && !isDead(Number(pid)))
  return sessions.filter((name) => !isAnchor(name) || !isHeld(name))
}

/** Waits until no client and no anchor is left of a program that has ended, and says what is still there at the limit. */
export const clientsGone = async (world: World, withinMillis = 5000): Promise<ReadonlyArray<string>> => {
  const until = Date.now() + withinMillis
  while (true) {
    const left = [
      ...clients(world).map((pid) => `the program ended, and its tmux client ${pid} did not`),
      ...told(world, "list-sessions", "#{session_name}").filter(isAnchor)
        .map((name) => `the program ended, and its anchor ${name} did not`)
    ]
    if (left.length === 0 || Date.now() > until) return left
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

interface Row {
  readonly id: string
  readonly status: string
  readonly holdsSlot: boolean
}

const rowsOf = (world: World): ReadonlyArray<Row> => {
  const path = Path.join(world.home, "registry.db")
  if (!Fs.existsSync(path) || Fs.statSync(path).size === 0) return []
  const db = new DatabaseSync(path, { readOnly: true, timeout: 5000 })
  try {
    return db.prepare("SELECT id, status, holds_slot FROM agents").all().map((row) => ({
      id: String(row["id"]),
      status: String(row["status"]),
      holdsSlot: row["holds_slot"] === 1
    }))
  } finally {
    db.close()
  }
}

interface Named {
  readonly id: string
  readonly path: string
}

const entriesOf = (world: World): ReadonlyArray<Named> => {
  const workspaces = Path.join(world.project, ".slipway")
  return list(workspaces).flatMap((task) => {
    const agents = Path.join(workspaces, task, "agents")
    return list(agents).filter((name) => name.endsWith(".json")).map((name) => ({
      id: name.slice(0, -".json".length),
      path: Path.join(agents, name)
    }))
  })
}

const draftsBelow = (directory: string): ReadonlyArray<string> =>
  Fs.existsSync(directory)
    ? Fs.readdirSync(directory, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".tmp"))
    : []

/** Makes drafts old: the reaper leaves those alone that a writer may be at. */
export const ageDrafts = (world: World): void => {
  for (const directory of [world.home, world.project]) {
    for (const draft of draftsBelow(directory)) Fs.utimesSync(Path.join(directory, draft), 0, 0)
  }
}

/** What is true of one agent: all of it is there, it ended and what stays of it agrees, or nothing of it is there. */
export type Condition = "whole" | "ended" | "gone"

export interface Audit {
  readonly agents: ReadonlyMap<string, Condition>
  /** What must not be; empty when all is well. */
  readonly faults: ReadonlyArray<string>
}

const ownFiles = ["prompt.md", "launcher", "stdout.log", "stderr.log", "run.state"]
const final = new Set(["exited", "stopped", "lost"])

/** Audits once. */
export const audit = (world: World): Audit => {
  const rows = new Map(rowsOf(world).map((row) => [row.id, row]))
  const sessions = sessionsOf(world)
  const processes = members(world)
  const directories = list(Path.join(world.home, "agents"))
  const entries = entriesOf(world)
  const ids = new Set([
    ...rows.keys(),
    ...sessions.filter(isAgents).map((name) => name.slice(agentPrefix.length)),
    ...processes.map(({ agentId }) => agentId),
    ...directories,
    ...entries.map(({ id }) => id)
  ])
  const faults: Array<string> = []
  const agents = new Map<string, Condition>()
  for (const id of ids) {
    const row = rows.get(id)
    const own = processes.filter(({ agentId }) => agentId === id)
    const entry = entries.find((entry) => entry.id === id)
    const text = entry === undefined ? undefined : read(entry.path)
    const shown = text === undefined ? undefined : /"status": "([a-z-]+)"/.exec(text)?.[1]
    const files = list(Path.join(world.home, "agents", id))
    const sight = `row ${row?.status ?? "none"}, ${
      sessions.filter((name) => name === `agent_${id}`).length
    } sessions, ` +
      `${own.length} processes, directory ${directories.includes(id) ? files.join(" ") : "none"}, entry ${
        shown ?? "none"
      }`
    const runs = sessions.includes(`agent_${id}`) || own.length > 0
    const isWhole = row?.status === "running" && sessions.includes(`agent_${id}`) && own.length >= 2 &&
      ownFiles.every((name) => files.includes(name)) && shown === "running"
    const isEnded = row !== undefined && final.has(row.status) && !row.holdsSlot && !runs && directories.includes(id) &&
      shown === row.status
    const isGone = (row === undefined || row.status === "rolled-back" && !row.holdsSlot) && !runs &&
      !directories.includes(id) && entry === undefined
    if (isWhole) agents.set(id, "whole")
    else if (isEnded) agents.set(id, "ended")
    else if (isGone) agents.set(id, "gone")
    else faults.push(`${id}: ${sight}`)
  }
  for (const draft of [...draftsBelow(world.home), ...draftsBelow(world.project)]) faults.push(`draft ${draft}`)
  for (const name of sessions) if (!isAgents(name)) faults.push(`session ${name} belongs to no agent`)
  for (const pid of clients(world)) faults.push(`process ${pid} still talks to tmux`)
  return { agents, faults }
}

/**
 * Audits until all is well, for at most so long: what a killed deployer had begun may take a moment to end by itself.
 */
export const settledAudit = async (world: World, withinMillis = 4000): Promise<Audit> => {
  const until = Date.now() + withinMillis
  while (true) {
    const seen = audit(world)
    if (seen.faults.length === 0 || Date.now() > until) return seen
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
