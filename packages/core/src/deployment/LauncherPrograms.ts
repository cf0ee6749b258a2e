/**
 * Finds the programs that a launcher starts an agent through: `setsid`, `prlimit` and `taskset` of util-linux, `env` and
 * `nice` of coreutils, and the Node that this runs on.
 *
 * The system's own directories go before the caller's PATH, in which another program may have one of these names. It makes
 * nothing, and what is missing is undefined: the launcher says what then holds.
 */
import { accessSync, constants } from "node:fs"
import * as Path from "node:path"
import type { Programs } from "./Launcher.ts"

const systemDirectories = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"]

const isExecutable = (path: string): boolean => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** The programs as they are installed now. */
export const find = (path: string | undefined): Programs => {
  const directories = [
    ...systemDirectories,
    ...(path ?? "").split(":").filter((directory) => Path.isAbsolute(directory))
  ]
  const program = (name: string) => directories.map((directory) => Path.join(directory, name)).find(isExecutable)
  // Only Linux has sessions, limits and CPUs that these programs handle as the launcher expects.
  const ofLinux = (name: string) => process.platform === "linux" ? program(name) : undefined
  return {
    setsid: ofLinux("setsid"),
    env: program("env"),
    nice: program("nice"),
    prlimit: ofLinux("prlimit"),
    taskset: ofLinux("taskset"),
    node: process.execPath
  }
}
