/**
 * Stands around every call of a service: what is put there sees each call by name, before it happens and after.
 */
// A call is seen here whatever it answers and fails with; the service that comes out has the types of the one that went in.
// @effect-diagnostics anyUnknownInErrorContext:off
import { Tmux, TmuxCommandFailed } from "@slipway/tmux"
import { Effect } from "effect"
import { FileError } from "../machine/Files.ts"
import { TerminateResult } from "../machine/ProcessTree.ts"
import { RegistryUnavailable } from "../registry/RegistryError.ts"

export interface Call {
  /** The service's name and the operation's, as `Files.list`. */
  readonly name: string
  readonly args: ReadonlyArray<unknown>
}

/** What is done with a call; the answer takes its place. */
export type Around = (call: Call, effect: Effect.Effect<unknown, unknown>) => Effect.Effect<unknown, unknown>

// The services' effects need nothing, except `watch`, which takes its scope from wherever it runs.
const isPlain = (value: unknown): value is Effect.Effect<unknown, unknown> => Effect.isEffect(value)

/** The service with something around each of its methods and effects. */
export const around = <S extends object>(name: string, service: S, by: Around): S =>
  new Proxy(service, {
    get: (target, key, receiver) => {
      const member: unknown = Reflect.get(target, key, receiver)
      const label = `${name}.${String(key)}`
      if (isPlain(member)) return by({ name: label, args: [] }, member)
      if (typeof member !== "function") return member
      return (...args: ReadonlyArray<unknown>) => {
        const answer: unknown = Reflect.apply(member, target, args)
        return isPlain(answer) ? by({ name: label, args }, answer) : answer
      }
    }
  })

/** The same for tmux, whose operations are those of a server. */
export const aroundTmux = (tmux: Tmux["Service"], by: Around): Tmux["Service"] =>
  around("Tmux", Tmux.of({ version: tmux.version, server: (socket) => around("Tmux", tmux.server(socket), by) }), by)

/** The error of each service, for a call that fails. */
const failureOf = ({ args: [first], name }: Call): Effect.Effect<unknown, unknown> => {
  const [service = ""] = name.split(".")
  switch (service) {
    case "Files":
      return Effect.fail(new FileError({ operation: "reach", path: String(first), code: "EIO" }))
    case "Counters":
    case "EventLog":
    case "Ledger":
      return Effect.fail(
        new RegistryUnavailable({ operation: name, because: "input-output", reason: "the test has it fail" })
      )
    case "Tmux":
      return Effect.fail(new TmuxCommandFailed({ operation: name, exitCode: 1, stderr: "the test has it fail" }))
    default:
      return Effect.succeed(TerminateResult.cases.Unknown.make({ reason: "the test has it fail" }))
  }
}

/** Stands around a call that is typed; `failure` is how it fails. */
export type Gate = <A, E>(
  call: Call,
  effect: Effect.Effect<A, E>,
  failure: Effect.Effect<A, E>
) => Effect.Effect<A, E>

/** A gate around calls of any service, each of which fails as its service does. */
export const aroundAll = (gate: Gate): Around => (call, effect) => gate(call, effect, failureOf(call))
