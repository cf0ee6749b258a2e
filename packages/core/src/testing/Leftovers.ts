/**
 * What is left on a machine in memory, looked at from outside and not through what Slipway says.
 */
import { Sentence } from "@slipway/tmux"
import { Effect, Schema } from "effect"
import * as Path from "node:path"
import { type Agent, isActive, isFinal, subjectOf } from "../agent/Agent.ts"
import { directoryOf } from "../machine/Layout.ts"
import type { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import type { Kind } from "../resource/Resource.ts"
import type { Disk } from "./Disk.ts"
import type { MemoryMachine } from "./MemoryMachine.ts"

/** Something that is there, and whose it is; null where it bears no agent's id. */
export const Leftover = Schema.Struct({
  what: Schema.Literals(["session", "process", "file", "row", "resource"]),
  agentId: Schema.NullOr(Schema.String),
  /** For people: a name, a path, a state. */
  which: Schema.String
})
export type Leftover = typeof Leftover.Type

/** Something is left that should not be. */
export class SomethingLeft extends Schema.TaggedError<SomethingLeft>()("SomethingLeft", {
  left: Schema.Array(Leftover)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const lines = this.left.map(({ agentId, what, which }) =>
      `${what} ${which}${agentId === null ? "" : ` of ${agentId}`}`
    )
    return `this is left and should not be: ${lines.join("; ")}`
  }
}

export interface Look {
  readonly disk: Disk
  readonly machine: MemoryMachine
  readonly ledger: Ledger["Service"]
  /** The directory of the agents' directories. */
  readonly agents: string
  readonly kinds: ReadonlyArray<Kind>
}

/** Whether the agent's files may stay: it has committed, and no prune has forgotten it. */
const keepsFiles = (row: Agent | undefined): boolean => row !== undefined && row.state._tag !== "rolled-back"

/**
 * Sessions and processes of agents, rows that are not over, files of agents that never committed, drafts of files, and
 * own resources that should have gone with their agent.
 */
export const look = Effect.fnUntraced(function*(
  { agents, disk, kinds, ledger, machine }: Look
): Effect.fn.Return<ReadonlyArray<Leftover>, RegistryError> {
  const left: Array<Leftover> = []
  const add = (what: Leftover["what"], agentId: string | null | undefined, which: string) =>
    void left.push({ what, agentId: agentId ?? null, which })
  const rows = yield* ledger.agents({})
  const known = new Map<string, Agent>(rows.map((row) => [row.id, row]))

  for (const { agentId, name } of machine.sessions()) add("session", agentId, name)
  for (const { agentId, pid, role } of machine.processes.values()) {
    if (agentId !== undefined) add("process", agentId, `${pid} (${role})`)
  }
  for (const row of rows) if (isActive(row.state)) add("row", row.id, row.state._tag)

  for (const name of disk.names(agents)) if (!keepsFiles(known.get(name))) add("file", name, Path.join(agents, name))
  const workspaces = (yield* ledger.tasks).map(({ id, project }) => directoryOf(project, id))
  for (const entries of workspaces.map((workspace) => Path.join(workspace, "agents"))) {
    for (const name of disk.names(entries)) {
      const id = Path.basename(name, ".json")
      if (name.endsWith(".json") && !keepsFiles(known.get(id))) add("file", id, Path.join(entries, name))
    }
  }
  for (
    const directory of [
      Path.dirname(agents),
      ...workspaces,
      ...workspaces.map((each) => Path.join(each, "agents"))
    ]
  ) {
    for (const name of disk.names(directory)) if (name.endsWith(".tmp")) add("file", null, Path.join(directory, name))
  }

  for (const row of rows) {
    for (const { kind, reference } of row.plan.resources) {
      const own = kinds.find((each) => each.kind === kind)
      const isDue = row.state._tag === "rolled-back" || (own?.until === "end" && isFinal(row.state))
      if (own === undefined || !isDue) continue
      const subject = subjectOf(row)
      const presence = yield* own.probe(reference, subject)
      if (presence._tag !== "Absent") add("resource", row.id, `${kind} ${own.release(reference, subject).reference}`)
    }
  }
  return left
})
