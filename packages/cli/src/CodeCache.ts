/**
 * Compiled code of the program, kept between runs: V8 then neither parses nor compiles what an earlier run has used.
 *
 * It lives in `slipway` in the user's cache directory (XDG), one file per command, since each uses other functions. V8
 * runs what stands there as code. So only a directory of this user that no other user may write to is used, and none is
 * made in another user's home. A file is taken only with the checksums of the program and of its own content: V8 checks
 * its version and its flags, but neither of these. In all other cases the program runs as if there were no cache:
 * nothing here fails, not even on a disk that is full or read-only.
 *
 * A file is complete under its name or not there. A command writes it when it ends. The next run writes it once more,
 * with what that one has used besides; then it stays. Nothing is promised about its removal: it is a cache.
 *
 * Node's own compile cache holds only what is compiled at load, which is a small part of what a run compiles.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { crc32 } from "node:zlib"

/** What one run has found in the cache. */
export interface Entry {
  /** Where it is kept. */
  readonly path: string
  /** What V8 made of the program, if there is any. */
  readonly code: Buffer | undefined
  /** By how many runs it was made. */
  readonly runs: number
  /** The checksum of the program. */
  readonly program: number
}

const header = 12
const enoughRuns = 2
const abandonedMillis = 60_000

const commands = new Set(
  ["deploy", "ps", "show", "logs", "attach", "wait", "stop", "task", "reap", "prune", "doctor", "metrics", "rebuild"]
)
const help = new Set(["--help", "-h", "--completions"])

// A guess is enough: with a wrong one a run only compiles more.
const nameOf = (args: ReadonlyArray<string>): string => {
  const end = args.indexOf("--")
  const given = end === -1 ? args : args.slice(0, end)
  return given.some((arg) => help.has(arg)) ? "help" : given.find((arg) => commands.has(arg)) ?? "other"
}

const isOurs = (path: string): boolean => {
  const stat = Fs.lstatSync(path, { throwIfNoEntry: false })
  return stat !== undefined && stat.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o022) === 0
}

const directoryOf = (environment: NodeJS.ProcessEnv): string | undefined => {
  // With both, Node forgoes its own compile cache too: compiled code lacks what coverage asks for.
  if (environment["NODE_DISABLE_COMPILE_CACHE"] || environment["NODE_V8_COVERAGE"]) return undefined
  const { HOME: home = "", XDG_CACHE_HOME: named = "" } = environment
  const base = Path.isAbsolute(named) ? named : Path.isAbsolute(home) ? Path.join(home, ".cache") : undefined
  return base === undefined ? undefined : Path.join(base, "slipway")
}

const made = (directory: string): boolean => {
  if (isOurs(directory)) return true
  const base = Path.dirname(directory)
  // With sudo, the home may be another user's.
  if (!isOurs(base)) {
    if (Fs.existsSync(base) || !isOurs(Path.dirname(base))) return false
    Fs.mkdirSync(base, { mode: 0o700 })
  }
  Fs.mkdirSync(directory, { mode: 0o700 })
  return isOurs(directory)
}

/** What the cache has for this command line; nothing where there can be no cache. */
export const find = (
  source: Buffer,
  args: ReadonlyArray<string>,
  environment: NodeJS.ProcessEnv
): Entry | undefined => {
  try {
    const directory = directoryOf(environment)
    if (directory === undefined) return undefined
    const path = Path.join(directory, `${nameOf(args)}-${process.version}-${process.arch}`)
    const none: Entry = { path, code: undefined, runs: 0, program: crc32(source) }
    if (!isOurs(directory) || !Fs.existsSync(path)) return none
    const bytes = Fs.readFileSync(path)
    const code = bytes.subarray(header)
    const holds = bytes.length > header && bytes.readUInt32LE(0) === none.program &&
      bytes.readUInt32LE(4) === crc32(code)
    return holds ? { ...none, code, runs: bytes.readUInt32LE(8) } : none
  } catch {
    return undefined
  }
}

/** Whether another run has something to add. */
export const isWanting = (entry: Entry): boolean => entry.code === undefined || entry.runs < enoughRuns

/** Keeps compiled code, which is asked for only where it can be kept: to collect it takes a while. */
export const keep = (entry: Entry, compiled: () => Buffer): void => {
  const temporary = `${entry.path}.new`
  try {
    if (!made(Path.dirname(entry.path))) return
    const written = Fs.lstatSync(temporary, { throwIfNoEntry: false })
    if (written !== undefined) {
      if (performance.timeOrigin - written.mtimeMs > abandonedMillis) Fs.rmSync(temporary)
      return
    }
    const code = compiled()
    const head = Buffer.alloc(header)
    head.writeUInt32LE(entry.program, 0)
    head.writeUInt32LE(crc32(code), 4)
    head.writeUInt32LE(entry.runs + 1, 8)
    const file = Fs.openSync(temporary, "wx", 0o600)
    try {
      // A disk that fills up takes a part.
      const isWhole = Fs.writevSync(file, [head, code]) === head.length + code.length
      if (isWhole) Fs.renameSync(temporary, entry.path)
      else Fs.rmSync(temporary)
    } catch {
      Fs.rmSync(temporary, { force: true })
    } finally {
      Fs.closeSync(file)
    }
  } catch {
    // The next run compiles, as this one did.
  }
}
