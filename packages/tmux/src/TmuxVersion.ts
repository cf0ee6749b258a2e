/**
 * The version that `tmux -V` reports, and whether it is new enough.
 *
 * Releases print `tmux 3.3a`, snapshots `tmux next-3.5` or `tmux master`, OpenBSD its own release (`tmux openbsd-7.4`).
 * The last two have no release number here and are taken as new enough.
 */
import { Schema } from "effect"

/** A version of tmux: its text, and the release where the text names one. */
export const TmuxVersion = Schema.Struct({
  text: Schema.String,
  release: Schema.NullOr(Schema.Struct({ major: Schema.Int, minor: Schema.Int }))
})
export type TmuxVersion = typeof TmuxVersion.Type

/** What is needed: 3.2 brought `new-session -e` and `run-shell -C`. */
export const required = { major: 3, minor: 2 }

/** The needed version for a person to read. */
export const requiredText = `${required.major}.${required.minor}`

/** The version in the output of `tmux -V`, or undefined when this is no such output. */
export const parse = (output: string): TmuxVersion | undefined => {
  const text = output.trim()
  const release = /^tmux (?:next-)?([0-9]{1,4})\.([0-9]{1,4})[a-z]?(?:-rc[0-9]*)?$/.exec(text)
  if (release !== null) return { text, release: { major: Number(release[1]), minor: Number(release[2]) } }
  return /^tmux (?:master|openbsd-[0-9.]+)$/.test(text) ? { text, release: null } : undefined
}

/** Whether a version has all that this package uses. */
export const isSupported = ({ release }: TmuxVersion): boolean =>
  release === null || release.major > required.major ||
  (release.major === required.major && release.minor >= required.minor)
