/**
 * A program on a machine in memory: what stands around each call that it makes, so that it can be cut off at one, or
 * struck by a fault.
 */
import { Sentence } from "@slipway/tmux"
import type { NewSession } from "@slipway/tmux"
import { Deferred, Effect, Schema } from "effect"
import { failed } from "../agent/Release.ts"
import { type OwnKind, ResourceFailed } from "../resource/Own.ts"
import { type Fault, isAt, type Moment, type Place } from "./Fault.ts"
import type { Call, Gate } from "./Gate.ts"
import type { MemoryMachine, Process } from "./MemoryMachine.ts"
import type { Timer } from "./Timer.ts"

/** What a fault of the test fails with, where a service has no error of its own, and what it dies of. */
export class Injected extends Schema.TaggedError<Injected>()("Injected", { at: Schema.String }) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the test has this fail: ${this.at}`
  }
}

/** Where a program is to be killed, and who is told of it. */
export interface Killing {
  readonly place: Place
  readonly moment: Moment
  readonly died: Deferred.Deferred<void>
}

/** What a program runs on. */
export interface Surroundings {
  readonly machine: MemoryMachine
  readonly timer: Timer
  readonly locate: (call: Call) => Place | undefined
  readonly faults: () => ReadonlyArray<Fault>
}

/** How late the tmux client of a program that was killed comes. */
const lateMillis = 500

const isNewSession = (value: unknown): value is NewSession =>
  typeof value === "object" && value !== null && "script" in value && "name" in value

/** What stands before and behind each call of a program. */
export const gateOf = (
  { faults, locate, machine, timer }: Surroundings,
  process: Process,
  killing: Killing | undefined
): Gate => {
  const isAlive = () => machine.processes.get(process.pid) === process
  /** A tmux client outlives the program that started it, and does its work later. */
  const comesLate = ({ args: [asked], name }: Call) => {
    if (name !== "Tmux.newSession" || !isNewSession(asked)) return
    timer.after(lateMillis, () => machine.newSession(asked))
  }
  const die = (call: Call, moment: Moment) =>
    Effect.suspend(() => {
      machine.end(process, "KILL")
      if (moment === "before") comesLate(call)
      if (killing !== undefined) Deferred.doneUnsafe(killing.died, Effect.void)
      return Effect.never
    })
  const ifAlive = <A>(answer: A): Effect.Effect<A> => isAlive() ? Effect.succeed(answer) : Effect.never

  return <A, E>(call: Call, effect: Effect.Effect<A, E>, failure: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      if (!isAlive()) return Effect.never
      const place = locate(call)
      const reached = Effect.flatMap(effect, ifAlive)
      if (place === undefined) return reached
      if (killing !== undefined && isAt(killing.place, place)) {
        const dead = die(call, killing.moment)
        return killing.moment === "before" ? dead : Effect.andThen(reached, dead)
      }
      const fault = faults().find((each) => isAt(each.place, place))
      if (fault === undefined) return reached
      const struck = fault.does === "fail"
        ? failure
        : fault.does === "die"
        ? Effect.die(new Injected({ at: call.name }))
        : Effect.never
      return fault.moment === "before" ? struck : Effect.andThen(reached, struck)
    })
}

/** A kind of the program's own, whose making and releases are calls too. */
export const kindOf = (gate: Gate) => (kind: OwnKind): OwnKind => ({
  ...kind,
  release: (reference, subject) => {
    const release = kind.release(reference, subject)
    const call = { name: "Resource.release", args: [kind.kind] }
    return { ...release, once: gate(call, release.once, Effect.succeed(failed("the test has it fail"))) }
  },
  plan: (input, draft) =>
    Effect.map(kind.plan(input, draft), (planned) => ({
      ...planned,
      make: (subject) => {
        const call = { name: "Resource.make", args: [subject.agentId] }
        const { message } = new Injected({ at: kind.kind })
        const failure = new ResourceFailed({
          resource: kind.kind,
          reference: null,
          doing: "make",
          error: { tag: "Injected", message }
        })
        return gate(call, planned.make(subject), Effect.fail(failure))
      }
    }))
})
