/**
 * Reads of /proc that answer nothing where it does not show a thing: a process that ended meanwhile, one of another
 * user, or no Linux. Synchronous, so that several of them see one moment.
 */
import * as Fs from "node:fs"

/** What a call of `node:fs` answers; undefined when it throws. */
export const attempt = <A>(f: () => A): A | undefined => {
  try {
    return f()
  } catch {
    return undefined
  }
}

export const text = (path: string): string | undefined => attempt(() => Fs.readFileSync(path, "utf8"))

/** The target of a symbolic link, as it is written. */
export const link = (path: string): string | undefined => attempt(() => Fs.readlinkSync(path))

export const names = (path: string): ReadonlyArray<string> | undefined => attempt(() => Fs.readdirSync(path))
