/**
 * Faults at every call that a deployment makes to the services below it, on the real ones.
 *
 * The services are wrapped, not replaced: each call is counted and named, and one of them, by its number, can be made to
 * fail with its own typed error, to die, to hang, or to have the caller interrupted, before it has happened or after.
 */
import { Tmux, TmuxCommandFailed, type TmuxServer } from "@slipway/tmux"
import { Deferred, Effect, Layer } from "effect"
import { FileError, Files } from "../../src/machine/Files.ts"
import { ProcessTableUnreadable, ProcessTree } from "../../src/machine/ProcessTree.ts"
import { Counters } from "../../src/registry/Counters.ts"
import { EventLog } from "../../src/registry/EventLog.ts"
import { Ledger } from "../../src/registry/Ledger.ts"
import { RegistryUnavailable } from "../../src/registry/RegistryError.ts"
import * as Gate from "../../src/testing/Gate.ts"

export type Mode = "fail" | "die" | "hang" | "interrupt"
export type Moment = "before" | "after"

export interface Fault {
  /** The call to strike, counted from the first call named `since`, or from the very first. */
  readonly index: number
  /** Where a busy machine changes how many calls come before, as readiness asks again and again. */
  readonly since?: string | undefined
  readonly mode: Mode
  readonly moment: Moment
}

/** Counts calls while it is on, and carries out at most one fault. */
export class Faults {
  readonly calls: Array<string> = []
  readonly fired: Deferred.Deferred<void> = Deferred.makeUnsafe<void>()
  hit: string | undefined
  on = false
  fault: Fault | undefined

  constructor(fault?: Fault) {
    this.fault = fault
  }

  around<A, E, R>(label: string, effect: Effect.Effect<A, E, R>, failure: () => E | undefined): Effect.Effect<A, E, R> {
    return Effect.suspend(() => {
      if (!this.on) return effect
      const place = this.calls.push(label) - 1
      const { fault } = this
      if (fault === undefined || place !== this.placeOf(fault)) return effect
      const strike = this.strike(label, fault.mode, failure)
      return fault.moment === "before" ? Effect.andThen(strike, effect) : Effect.tap(effect, () => strike)
    })
  }

  placeOf({ index, since }: Fault): number | undefined {
    if (since === undefined) return index
    const begin = this.calls.indexOf(since)
    return begin < 0 ? undefined : begin + index
  }

  strike<E>(label: string, mode: Mode, failure: () => E | undefined): Effect.Effect<void, E> {
    return Effect.suspend(() => {
      this.hit = label
      switch (mode) {
        case "fail": {
          const error = failure()
          return error === undefined ? Effect.die(new Error("injected")) : Effect.fail(error)
        }
        case "die":
          return Effect.die(new Error("injected"))
        case "hang":
          return Effect.never
        case "interrupt":
          // Where it can be interrupted it is, within this pause; elsewhere it goes on.
          return Effect.andThen(Deferred.succeed(this.fired, undefined), Effect.sleep("30 millis"))
      }
    })
  }
}

type Failing = (label: string) => unknown

/** Wraps every method and every effect of a service. */
const wrapped = <S extends object>(faults: Faults, name: string, service: S, failing: Failing): S =>
  Gate.around(name, service, ({ name: label }, effect) => faults.around(label, effect, () => failing(label)))

const infallible = new Set(["ProcessTree.terminate", "Files.isWritable", "Files.findProgram", "Files.watch"])
const typed = (error: (label: string) => unknown): Failing => (label) =>
  infallible.has(label) ? undefined : error(label)

const files = typed((operation) => new FileError({ operation, path: "/injected", code: "ENOSPC" }))
const tmux = typed((operation) => new TmuxCommandFailed({ operation, exitCode: 1, stderr: "injected" }))
const registry = typed((operation) => new RegistryUnavailable({ operation, because: "other", reason: "injected" }))
const processes = typed(() => new ProcessTableUnreadable({ reason: "injected" }))

const wrapping = <I, S extends object>(
  tag: { of: (service: S) => S } & Effect.Effect<S, never, I>,
  wrap: (service: S) => S,
  layer: (make: Effect.Effect<S, never, I>) => Layer.Layer<I, never, I>
) => layer(Effect.map(tag, wrap))

/** Lays the faults around the services that are below. */
export const layer = (faults: Faults) =>
  Layer.mergeAll(
    wrapping(Files, (service) => wrapped(faults, "Files", service, files), (make) => Layer.effect(Files, make)),
    wrapping(Ledger, (service) => wrapped(faults, "Ledger", service, registry), (make) => Layer.effect(Ledger, make)),
    wrapping(EventLog, (service) =>
      wrapped(faults, "EventLog", service, registry), (make) =>
      Layer.effect(EventLog, make)),
    wrapping(Counters, (service) =>
      wrapped(faults, "Counters", service, registry), (make) =>
      Layer.effect(Counters, make)),
    wrapping(ProcessTree, (service) =>
      wrapped(faults, "ProcessTree", service, processes), (make) =>
      Layer.effect(ProcessTree, make)),
    wrapping(Tmux, (service) =>
      Tmux.of({
        version: faults.around("Tmux.version", service.version, () =>
          new TmuxCommandFailed({ operation: "version", exitCode: 1, stderr: "injected" })),
        server: (socket): TmuxServer =>
          wrapped(faults, "Tmux", service.server(socket), tmux)
      }), (make) =>
      Layer.effect(Tmux, make))
  )
