/**
 * A lease: who answers for a deployment in flight, and until when.
 *
 * The holder is known by host, pid and start time, so a recycled pid is never taken for it. The expiry is on the boot
 * clock, so a wall clock that is set back or forward changes nothing. A lease is dead when its holder is proven dead,
 * when it has expired, or when the machine was restarted. A holder on another host or in another pid namespace is not
 * assessed: there only the expiry counts, and it is trusted only on the same boot clock.
 */
import { Effect, Schema } from "effect"
import { type Host, HostIdentity, ProcessIdentity } from "./Host.ts"

export const Lease = Schema.Struct({
  host: HostIdentity,
  holder: ProcessIdentity,
  /** Seconds on the holder's boot clock. */
  expiresAt: Schema.Finite
})
export type Lease = typeof Lease.Type

/** `held`: leave it alone. `dead` and `expired`: any process may take over. `unknown`: no process may act. */
export type Standing =
  | { readonly _tag: "held" }
  | { readonly _tag: "dead"; readonly evidence: string }
  | { readonly _tag: "expired"; readonly evidence: string }
  | { readonly _tag: "unknown"; readonly evidence: string }

/** Makes a lease for this process that expires `seconds` from now. */
export const grant = Effect.fnUntraced(function*(
  host: Pick<Host["Service"], "bootClock" | "identity" | "self">,
  seconds: number
) {
  const lease: Lease = {
    host: host.identity,
    holder: host.self,
    expiresAt: (yield* host.bootClock) + seconds
  }
  return lease
})

/** Assesses a holder: a process of another machine or namespace is never assessed, one of an earlier boot is dead. */
export const assessHolder = Effect.fnUntraced(function*(
  host: Host["Service"],
  holder: { readonly host: HostIdentity; readonly holder: ProcessIdentity }
): Effect.fn.Return<Standing> {
  if (holder.host.machine !== host.identity.machine) {
    return { _tag: "unknown", evidence: `held on another machine (${holder.host.machine})` }
  }
  if (holder.host.boot !== host.identity.boot) {
    return { _tag: "dead", evidence: "the machine was restarted since" }
  }
  if (holder.host.pidNamespace !== host.identity.pidNamespace) {
    return { _tag: "unknown", evidence: "held in another pid namespace" }
  }
  switch (yield* host.probe(holder.holder)) {
    case "alive":
      return { _tag: "held" }
    case "dead":
      return { _tag: "dead", evidence: `process ${holder.holder.pid} has ended` }
    case "unknown":
      return { _tag: "unknown", evidence: `process ${holder.holder.pid} could not be read` }
  }
})

/** Assesses a lease: as its holder, except that the expiry also ends it. */
export const assess = Effect.fnUntraced(function*(
  host: Host["Service"],
  lease: Lease
): Effect.fn.Return<Standing> {
  const standing = yield* assessHolder(host, lease)
  if (standing._tag === "dead") return standing
  const now = yield* host.bootClock
  const sameClock = lease.host.boot === host.identity.boot
  return sameClock && now > lease.expiresAt
    ? { _tag: "expired", evidence: `the lease ran out ${Math.round(now - lease.expiresAt)} s ago` }
    : standing
})
