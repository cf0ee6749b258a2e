/**
 * Every name that Slipway gives: the files of an agent's directory, the paths of a workspace, and the marks by which
 * sessions and processes bear a home and an agent.
 */
import * as Path from "node:path"

/** The script itself; unlinking it keeps a session that starts later from running anything. */
export const launcherFile = "launcher"
/** All variables of the agent as one JSON object, where sh can't export them all. */
export const environmentFile = "environment.json"
/** What the agent reads from standard input. */
export const promptFile = "prompt.md"
/** What the agent wrote to standard output. */
export const stdoutFile = "stdout.log"
/** What the agent wrote to standard error, and why it could not be started. */
export const stderrFile = "stderr.log"
/** Exists from before the start until the end, and becomes the exit record. */
export const stateFile = "run.state"
/** The exit record is a file of this name with the exit code behind it. */
export const exitPrefix = "exit."

/** The file by which a directory bears its home's id; in an agent's own it holds the manifest. */
export const ownerFile = (homeId: string): string => `owner.${homeId}`

/** In the environment of a session and of every process that inherits it. */
export const agentMarker = "SLIPWAY_AGENT_ID"
export const homeMarker = "SLIPWAY_HOME_ID"

/** The workspace of a task in its project. */
export const directoryOf = (project: string, taskId: string): string => Path.join(project, ".slipway", taskId)

/** The path of an agent's document in a workspace. */
export const entryOf = (workspace: string, agentId: string): string => Path.join(workspace, "agents", `${agentId}.json`)

/** The directory of an agent's own tree of git. */
export const treeDirectoryOf = (home: string, agentId: string): string => Path.join(home, "trees", agentId)

/** Where trees with ignored files wait before they go. */
export const trashOf = (home: string): string => Path.join(home, "trash")
