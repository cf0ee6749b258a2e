/**
 * The plan of a deployment: the list of all things that it will make, each by its reference, in the order of their
 * making. The transaction that admits the deployment stores it, so it is the journal that a crash is undone by.
 *
 * The references of the house's own kinds are known here by name too, since a row is read by them: where its output is,
 * which session it has. They are read from the list, and only the list is stored.
 */
import { Target } from "@slipway/tmux"
import { Option, Schema, SchemaTransformation } from "effect"

/**
 * When a thing is released at the latest, the rollback of its deployment apart, which releases everything: never, with
 * the end of the agent, or when a prune forgets the agent.
 */
export const Until = Schema.Literals(["rollback", "end", "prune"])
export type Until = typeof Until.Type

/** A thing of a plan: its kind, and its reference as the registry keeps it. */
export const Planned = Schema.Struct({
  kind: Schema.String,
  reference: Schema.Json,
  /** What a program has to know of a kind that it does not provide: when the thing goes, and whether it holds the slot. */
  until: Schema.optionalKey(Until),
  occupies: Schema.optionalKey(Schema.Literal(true))
})
export type Planned = typeof Planned.Type

/** The kinds of the house, as the command's JSON names them. */
export const houseKinds = { directory: "prompt_file", session: "tmux_session", entry: "task_registry" } as const

/** The row's name beside them in a cleanup report: it is no resource, since it stays as the record of all others. */
export const rowKind = "global_registry"

const Place = Schema.String.check(Schema.isMinLength(1))

/** The agent's directory in the home. */
export const AgentDirectoryRef = Schema.Struct({ directory: Place })
export type AgentDirectoryRef = typeof AgentDirectoryRef.Type

/** The session on the server of a socket; releases use this one, whatever the options say by then. */
export const AgentSessionRef = Schema.Struct({
  /** Where the launcher is. */
  directory: Place,
  socket: Target.SocketPath,
  session: Target.SessionName
})
export type AgentSessionRef = typeof AgentSessionRef.Type

/** The agent's document, in the workspace of its task in the project. */
export const TaskEntryRef = Schema.Struct({ workspace: Place, entry: Place })
export type TaskEntryRef = typeof TaskEntryRef.Type

/** The kind of a tree of git that an agent has for itself. It is in a plan only where the request asks for one. */
export const worktreeKind = "git_worktree"

/** An agent's own working tree, and the branch that is checked out in it. */
export const WorktreeRef = Schema.Struct({
  /** The repository: the directory that all its trees share, as an absolute path. */
  common: Place,
  /** In the home; the tree is in it, and what a removal needs. */
  directory: Place,
  tree: Place,
  /** The whole name of the branch: `refs/heads/...`. */
  branch: Place,
  /** The commit that the branch was made at. */
  base: Place
})
export type WorktreeRef = typeof WorktreeRef.Type

/** The tree as a plan has it. */
export const plannedWorktree = (ref: WorktreeRef): Planned => ({ kind: worktreeKind, reference: ref, until: "prune" })

const Stored = Schema.Struct({ homeId: Schema.String, resources: Schema.Array(Planned) })

const Read = Schema.Struct({
  ...Stored.fields,
  ...AgentDirectoryRef.fields,
  ...AgentSessionRef.fields,
  ...TaskEntryRef.fields
})

const isRecord = (json: Schema.Json | undefined): json is Schema.JsonObject =>
  typeof json === "object" && json !== null && !Array.isArray(json)

/** A text in the reference of a kind; empty where there is none, which no place may be. */
const textIn = ({ resources }: typeof Stored.Type, kind: string, name: string): string => {
  const reference = resources.find((planned) => planned.kind === kind)?.reference
  const text = isRecord(reference) ? reference[name] : undefined
  return typeof text === "string" ? text : ""
}

export const Plan = Stored.pipe(Schema.decodeTo(
  Read,
  SchemaTransformation.transform({
    decode: (stored): typeof Read.Encoded => ({
      ...stored,
      directory: textIn(stored, houseKinds.directory, "directory"),
      socket: textIn(stored, houseKinds.session, "socket"),
      session: textIn(stored, houseKinds.session, "session"),
      workspace: textIn(stored, houseKinds.entry, "workspace"),
      entry: textIn(stored, houseKinds.entry, "entry")
    }),
    encode: ({ homeId, resources }) => ({ homeId, resources })
  })
))
export type Plan = typeof Plan.Type

const decodeWorktree = Schema.decodeUnknownOption(WorktreeRef)

/** The agent's own tree, where its plan has one. */
export const worktreeOf = ({ resources }: Pick<Plan, "resources">): WorktreeRef | null =>
  Option.getOrNull(decodeWorktree(resources.find(({ kind }) => kind === worktreeKind)?.reference))

/** Where an agent's own things are. */
export type Places = Omit<Plan, "homeId" | "resources">

/**
 * The list of the house's own things, with those of other kinds in between: they are made before the session, which may
 * need them, and after the directory.
 */
export const resourcesOf = (
  { directory, entry, session, socket, workspace }: { readonly [Name in keyof Places]: string },
  others: ReadonlyArray<Planned> = []
): ReadonlyArray<Planned> => [
  { kind: houseKinds.directory, reference: { directory } },
  ...others,
  { kind: houseKinds.session, reference: { directory, socket, session } },
  { kind: houseKinds.entry, reference: { workspace, entry } }
]

export const make = (homeId: string, places: Places, others: ReadonlyArray<Planned> = []): Plan => ({
  directory: places.directory,
  socket: places.socket,
  session: places.session,
  workspace: places.workspace,
  entry: places.entry,
  homeId,
  resources: resourcesOf(places, others)
})

/** The things of a plan that are not the house's own. */
export const othersOf = ({ resources }: Plan): ReadonlyArray<Planned> => {
  const own: ReadonlyArray<string> = Object.values(houseKinds)
  return resources.filter(({ kind }) => !own.includes(kind))
}
