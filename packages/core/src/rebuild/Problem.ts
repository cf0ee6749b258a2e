/** What a rebuild could not restore, or not whole: it is told, and what it is about is left where it is. */

export interface Problem {
  /** An agent's id, a task's, or a path. */
  readonly subject: string
  readonly reason: string
}

/** How a part of the survey tells of a problem. */
export type Complain = (subject: string, reason: string) => void
