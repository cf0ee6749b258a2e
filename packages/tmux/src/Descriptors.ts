/**
 * Keeps descriptors of the caller from the tmux server, which would hold them as long as it lives: a lock by flock(1) that the
 * caller was started under stays taken, a pipe stays open.
 *
 * Node closes what it opened itself when it starts a process, and at its own start it marks the first inherited
 * descriptors, but not all. So where one above 2 would be inherited, the program is started through a Node that closes them
 * all and then becomes the program: 25 to 40 ms, once for each server, and nothing elsewhere. Linux alone shows which they are.
 */
import * as Fs from "node:fs"

const closeOnExec = 0o2000000

/** Whether a process that is started now would inherit a descriptor above 2. */
export const areInherited = (): boolean => {
  try {
    return Fs.readdirSync("/proc/self/fdinfo").some((name) => Number(name) > 2 && isInherited(name))
  } catch {
    return false
  }
}

const isInherited = (name: string): boolean => {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(Fs.readFileSync(`/proc/self/fdinfo/${name}`, "utf8"))?.[1]
    return flags !== undefined && (Number.parseInt(flags, 8) & closeOnExec) === 0
  } catch {
    // It was the one of the listing itself.
    return false
  }
}

// What it opened itself is closed by becoming the program; a descriptor that is no more can't be closed.
const closeAll = `const fs = require("node:fs")
for (const name of fs.readdirSync("/proc/self/fd")) {
  if (Number(name) < 3) continue
  try {
    const flags = /^flags:\\s*([0-7]+)$/m.exec(fs.readFileSync("/proc/self/fdinfo/" + name, "utf8"))[1]
    if ((parseInt(flags, 8) & ${closeOnExec}) === 0) fs.closeSync(Number(name))
  } catch {}
}
const [, program, ...args] = process.argv
const { delimiter, join } = require("node:path")
const isProgram = (path) => { try { fs.accessSync(path, fs.constants.X_OK); return true } catch { return false } }
const candidates = program.includes("/")
  ? [program]
  : (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory || ".", program))
const path = candidates.find(isProgram)
if (path === undefined) { process.stderr.write(program + ": not found\\n"); process.exit(127) }
process.execve(path, [program, ...args], process.env)`

/** The command line that runs a program with descriptors 0 to 2 alone. */
export const without = (program: string, args: ReadonlyArray<string>): readonly [string, ReadonlyArray<string>] => [
  process.execPath,
  ["--no-warnings", "-e", closeAll, program, ...args]
]
