/**
 * Finds the processes that have one of some files open, this one included.
 *
 * A file is known by device and inode, so one that was renamed or removed is found as well; and by its path, where the
 * file itself can no longer be inspected. It scans once, changes nothing, and answers `undefined` where the system does
 * not show open files. Not promised: to find a process of another pid namespace, or of another user whose files can't
 * be seen.
 */
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import type { FileInfo } from "../machine/Files.ts"

/** The files to search for. */
export interface Wanted {
  readonly paths: ReadonlyArray<string>
  readonly files: ReadonlyArray<Pick<FileInfo, "device" | "inode">>
}

const attempt = <A>(f: () => A): A | undefined => {
  try {
    return f()
  } catch {
    return undefined
  }
}

const hasOpen = (pid: string, wanted: Wanted): boolean =>
  (attempt(() => Fs.readdirSync(`/proc/${pid}/fd`)) ?? []).some((descriptor) => {
    const at = `/proc/${pid}/fd/${descriptor}`
    const path = attempt(() => Fs.readlinkSync(at))?.replace(/ \(deleted\)$/, "")
    // Sockets, pipes and the like are recognized by their links alone.
    if (path === undefined || !path.startsWith("/")) return false
    if (wanted.paths.includes(path)) return true
    const file = attempt(() => Fs.statSync(at))
    return file !== undefined && wanted.files.some(({ device, inode }) => file.dev === device && file.ino === inode)
  })

const byProc = (wanted: Wanted): ReadonlyArray<number> | undefined =>
  attempt(() => Fs.readdirSync("/proc"))?.filter((name) => /^\d+$/.test(name) && hasOpen(name, wanted)).map(Number)

const byLsof = ({ paths }: Wanted): ReadonlyArray<number> | undefined => {
  const present = paths.filter((path) => Fs.existsSync(path))
  if (present.length === 0) return []
  const child = spawnSync("lsof", ["-t", "--", ...present], {
    encoding: "utf8",
    timeout: 10_000,
    killSignal: "SIGKILL",
    env: { PATH: "/usr/sbin:/sbin:/usr/bin:/bin" },
    stdio: ["ignore", "pipe", "ignore"]
  })
  // Exit code 1 without output means that no process has them open.
  if (child.error !== undefined || child.status === null || child.status > 1) return undefined
  return [...new Set(child.stdout.split("\n").filter((line) => line !== "").map(Number))]
}

/** The processes that have one of the files open. */
export const openers = (wanted: Wanted): Effect.Effect<ReadonlyArray<number> | undefined> =>
  Effect.sync(() => process.platform === "linux" ? byProc(wanted) : byLsof(wanted))
