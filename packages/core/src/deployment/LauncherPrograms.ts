/**
 * Finds the programs that a launcher starts an agent through: `setsid`, `prlimit` and `taskset` of util-linux, `env` and
 * `nice` of coreutils, and the Node that this runs on.
 *
 * The system's own directories go before the caller's PATH, in which another program may have one of these names. It makes
 * nothing, and what is missing is undefined: the launcher says what then holds.
 */
import { Effect } from "effect"
import * as Path from "node:path"
import type { Files } from "../machine/Files.ts"
import type { Programs } from "./Launcher.ts"

const systemDirectories = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"]

/** The programs as they are installed now, with a caller's PATH. */
export const find = Effect.fnUntraced(function*(
  { findProgram }: Pick<Files["Service"], "findProgram">,
  path: string | undefined
): Effect.fn.Return<Programs> {
  const directories = [
    ...systemDirectories,
    ...(path ?? "").split(":").filter((directory) => Path.isAbsolute(directory))
  ]
  const program = (name: string) => findProgram(directories.map((directory) => Path.join(directory, name)))
  // Only Linux has sessions, limits and CPUs that these programs handle as the launcher expects.
  const ofLinux = (name: string) => process.platform === "linux" ? program(name) : Effect.succeed(undefined)
  return {
    setsid: yield* ofLinux("setsid"),
    env: yield* program("env"),
    nice: yield* program("nice"),
    prlimit: yield* ofLinux("prlimit"),
    taskset: yield* ofLinux("taskset"),
    node: process.execPath
  }
})
