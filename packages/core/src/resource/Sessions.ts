/**
 * The sessions on a socket, and whose they are by the marks that their environments bear. A release, a reap and a rebuild
 * all ask here.
 *
 * `list` is one question to tmux, as long as its transport lets it take. It changes nothing and never fails: that tmux
 * did not answer is an answer of its own, and nobody can take it for "none" by mistake. What a session is called says
 * nothing, since a person can rename it.
 */
import type { Session, TmuxServer } from "@slipway/tmux"
import { Effect } from "effect"
import { agentMarker, homeMarker } from "../machine/Layout.ts"

/** A session with the marks that it bears. */
export interface Marked {
  readonly session: Session
  readonly agentId: string | undefined
  readonly homeId: string | undefined
}

export type Listing =
  /** tmux's own answer: no server listens there, so no session is there either. */
  | { readonly _tag: "NoServer" }
  /** What is there is unknown. */
  | { readonly _tag: "NoAnswer"; readonly reason: string }
  | { readonly _tag: "Listed"; readonly sessions: ReadonlyArray<Marked> }

/** Whether an agent's session is there. */
export type Sight =
  | { readonly _tag: "Present"; readonly session: Session }
  | { readonly _tag: "Absent" }
  | { readonly _tag: "Unknown"; readonly reason: string }

/** All sessions of a server; those of its own control clients are never among them. */
export const list = (server: TmuxServer): Effect.Effect<Listing> =>
  server.environments.pipe(
    Effect.map((all): Listing => ({
      _tag: "Listed",
      sessions: all.map(({ environment, session }) => ({
        session,
        agentId: environment[agentMarker],
        homeId: environment[homeMarker]
      }))
    })),
    Effect.catchTag("TmuxNoServer", () => Effect.succeed<Listing>({ _tag: "NoServer" })),
    Effect.catch((error) => Effect.succeed<Listing>({ _tag: "NoAnswer", reason: error.message }))
  )

/** The session that bears this home's mark and the agent's. */
export const find = (
  listing: Listing,
  { agentId, homeId }: { readonly agentId: string; readonly homeId: string }
): Sight => {
  switch (listing._tag) {
    case "NoServer":
      return { _tag: "Absent" }
    case "NoAnswer":
      return { _tag: "Unknown", reason: listing.reason }
    case "Listed": {
      const ours = listing.sessions.find((marked) => marked.agentId === agentId && marked.homeId === homeId)
      return ours === undefined ? { _tag: "Absent" } : { _tag: "Present", session: ours.session }
    }
  }
}

/**
 * The sessions that are seen to be a home's, with the agent that each bears. Where tmux did not answer none is seen: it is
 * for callers that act on what they see, and conclude nothing from what they don't.
 */
export const seenOf = (
  listing: Listing,
  homeId: string
): ReadonlyArray<{ readonly session: Session; readonly agentId: string }> =>
  listing._tag !== "Listed" ?
    [] :
    listing.sessions.flatMap(({ agentId, homeId: borne, session }) =>
      borne === homeId && agentId !== undefined ? [{ session, agentId }] : []
    )
