/**
 * The session that a control client is attached to: tmux has no client without one.
 *
 * It costs the server nothing, since its one pane runs no program. It ends with its client, and no transport lists it.
 * A hook of its own ends it. tmux's option for that purpose is not used: with it, the server of tmux 3.3a was seen to
 * crash.
 *
 * It is known by all of: a name that no other session of Slipway has, an option that is only set here, and a single
 * pane without a process. So a session in which anything runs is never hidden, whatever its name is and whatever is set
 * on it.
 */

const prefix = "slipway+control+"
const mark = "@slipway-control"

/** The name of an anchor, which `SessionName` cannot express, so that no target reaches one by name. */
export const nameOf = (unique: string): string => `${prefix}${unique}`

/** Whether a session's name is an anchor's, for programs that list sessions without this package. */
export const isName = (session: string): boolean => session.startsWith(prefix)

const conditions = [
  `#{m:${prefix}*,#{session_name}}`,
  `#{==:#{${mark}},1}`,
  "#{==:#{session_windows},1}",
  "#{==:#{window_panes},1}",
  "#{==:#{pane_pid},0}"
]

/** A format that is 1 for an anchor and 0 for all other sessions. */
export const isAnchor = conditions.slice(1).reduce(
  (all, condition) => `#{&&:${all},${condition}}`,
  conditions[0] ?? ""
)

/** A filter for listings. */
export const notAnAnchor = `#{?${isAnchor},0,1}`

/**
 * Makes the anchor and attaches the client that asks. tmux runs them in one turn. In that turn no other client sees the
 * program that the pane is made with, and the client can't end.
 */
export const commands = (name: string): ReadonlyArray<ReadonlyArray<string>> => [
  ["new-session", "-s", name, "-f", "no-output,ignore-size", "--", "cat"],
  ["set-hook", "client-detached", `kill-session -t '=${name}'`],
  ["set-option", "detach-on-destroy", "on"],
  ["set-option", "status", "off"],
  ["set-option", mark, "1"],
  ["split-window", ""],
  ["kill-pane", "-t", "{top}"]
]
