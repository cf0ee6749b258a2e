/**
 * Keeps descriptors of the caller from the tmux server, which would hold them as long as it lives. A lock by flock(1)
 * that the caller was started under would stay taken, and a pipe would stay open.
 *
 * Node closes what it opened itself when it starts a process. At its own start it marks the first inherited
 * descriptors, but not all; a channel to a parent that forked it is one of those left out. So where a process would
 * inherit one above 2, it is started through a program that closes these and then becomes it. That program is sh, whose
 * redirections reach up to 9, and Node for others, which takes 25 to 40 ms. Linux alone shows which they are.
 */
import * as Fs from "node:fs"

const closeOnExec = 0o2000000

const isInherited = (name: string): boolean => {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(Fs.readFileSync(`/proc/self/fdinfo/${name}`, "utf8"))?.[1]
    return flags !== undefined && (Number.parseInt(flags, 8) & closeOnExec) === 0
  } catch {
    // It was the one of the listing itself.
    return false
  }
}

/** The descriptors above 2 that a process that is started now would inherit. */
export const inherited = (): ReadonlyArray<number> => {
  try {
    return Fs.readdirSync("/proc/self/fdinfo").filter((name) => Number(name) > 2 && isInherited(name)).map(Number)
  } catch {
    return []
  }
}

/** The highest descriptor that every sh can redirect. */
const highestOfShell = 9

// A descriptor that is no more can't be closed. `execve` does not search PATH for programs.
const byNode = `const fs = require("node:fs")
const [, descriptors, program, ...args] = process.argv
for (const descriptor of descriptors.split(",")) {
  try { fs.closeSync(Number(descriptor)) } catch {}
}
const { delimiter, join } = require("node:path")
const isProgram = (path) => { try { fs.accessSync(path, fs.constants.X_OK); return true } catch { return false } }
const path = program.includes("/")
  ? program
  : (process.env.PATH ?? "").split(delimiter).map((directory) => join(directory || ".", program)).find(isProgram)
if (path === undefined) { process.stderr.write(program + ": not found\\n"); process.exit(127) }
process.execve(path, [program, ...args], process.env)`

/** The command line that runs a program without these descriptors. */
export const without = (
  descriptors: ReadonlyArray<number>,
  program: string,
  args: ReadonlyArray<string>
): readonly [program: string, args: ReadonlyArray<string>] => {
  if (descriptors.length === 0) return [program, args]
  return descriptors.every((descriptor) => descriptor <= highestOfShell)
    ? ["/bin/sh", [
      "-c",
      `exec ${descriptors.map((descriptor) => `${descriptor}>&-`).join(" ")}; exec "$@"`,
      "sh",
      program,
      ...args
    ]]
    : [process.execPath, ["--no-warnings", "-e", byNode, descriptors.join(","), program, ...args]]
}
