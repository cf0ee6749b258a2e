/**
 * The agents' directories in the home, and what each says of its agent. Changes nothing.
 *
 * Only a directory that bears the home's id is read. Its manifest tells the whole plan. A directory that an earlier version
 * made has none: then the launcher tells what it does, and the place of the workspace stands where the manifest would.
 */
import { Target } from "@slipway/tmux"
import { Effect, Option, Schema } from "effect"
import * as Path from "node:path"
import { AgentId } from "../agent/Agent.ts"
import type { AgentSpec } from "../agent/AgentCommand.ts"
import * as Manifest from "../agent/Manifest.ts"
import * as Plan from "../agent/Plan.ts"
import { TaskId } from "../agent/Task.ts"
import type { Home } from "../home/Home.ts"
import type { Files } from "../machine/Files.ts"
import { launcherFile, ownerFile } from "../machine/Layout.ts"
import * as LegacyLauncher from "./LegacyLauncher.ts"
import type { Complain } from "./Problem.ts"
import * as Reading from "./Reading.ts"

/** What an agent's directory says of it. */
export interface Told {
  readonly taskId: TaskId | undefined
  readonly workspace: string | undefined
  /** The home's path when the agent was deployed. */
  readonly home: string | undefined
  readonly socket: Plan.Plan["socket"] | undefined
  readonly spec: AgentSpec | undefined
  /** The things of its plan that are not the house's own; only a manifest tells them. */
  readonly others: ReadonlyArray<Plan.Planned> | undefined
}

export interface Directory {
  readonly id: AgentId
  readonly workspace: string | undefined
  /** Nothing where neither a manifest nor a launcher of this agent is there. */
  readonly told: Told | undefined
  /** Gone once anything of the agent was released: every end and every rollback unlinks it first. */
  readonly hasLauncher: boolean
}

const isAgentId = Schema.is(AgentId)
const decodeTaskId = Schema.decodeUnknownOption(TaskId)
const decodeSocket = Schema.decodeUnknownOption(Target.SocketPath)

const ofManifest = ({ plan, spec, taskId }: Manifest.Manifest): Told => ({
  taskId,
  workspace: plan.workspace,
  home: Path.resolve(plan.directory, "../.."),
  socket: plan.socket,
  spec,
  others: Plan.othersOf(plan)
})

const ofLauncher = ({ argv, home, socket, taskId, workspace }: LegacyLauncher.LauncherFacts): Told => ({
  taskId: Option.getOrUndefined(decodeTaskId(taskId)),
  workspace,
  home,
  socket: Option.getOrUndefined(decodeSocket(socket)),
  spec: argv === undefined ? undefined : { kind: "command", argv },
  others: undefined
})

/** The place of the workspace, which earlier versions wrote in place of a manifest; the first wrote nothing. */
const isLegacy = (text: string): boolean => text === "" || Path.isAbsolute(text)

/** Reads all of them; what should be an agent's and can't be read is complained of. */
export const read = Effect.fnUntraced(function*(files: Files["Service"], home: Home["Service"], complain: Complain) {
  const legacy = Effect.fnUntraced(function*(id: AgentId, workspace: string) {
    const script = yield* Reading.text(files, Path.join(home.agentDirectory(id), launcherFile))
    const facts = script === undefined ? undefined : LegacyLauncher.read(script)
    const isOwn = facts?.agentId === id && facts.homeId === home.id
    const told = isOwn ? ofLauncher(facts) : undefined
    const directory: Directory = { id, told, workspace: told?.workspace ?? workspace, hasLauncher: isOwn }
    return directory
  })

  const one = Effect.fnUntraced(function*(id: AgentId) {
    const path = home.agentDirectory(id)
    const names = yield* Reading.names(files, path)
    if (!names.includes(ownerFile(home.id))) {
      complain(id, `${path} does not bear this home's id`)
      return []
    }
    const text = (yield* Reading.text(files, Path.join(path, ownerFile(home.id)))) ?? ""
    if (isLegacy(text)) return [yield* legacy(id, text)]
    const manifest = Option.getOrUndefined(Manifest.decode(text))
    const isOwn = manifest?.agentId === id && manifest.plan.homeId === home.id
    if (!isOwn) complain(id, `${Path.join(path, ownerFile(home.id))} is not its manifest`)
    const told = isOwn ? ofManifest(manifest) : undefined
    const directory: Directory = { id, told, workspace: told?.workspace, hasLauncher: names.includes(launcherFile) }
    return [directory]
  })

  const ids = (yield* Reading.names(files, home.agents)).filter(isAgentId)
  return (yield* Effect.forEach(ids, one)).flat()
})
