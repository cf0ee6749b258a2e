/**
 * What a test says of the machine that its program runs on.
 */
import { Effect } from "effect"
import type { Fault, FaultStep, Moment } from "./Fault.ts"
import { type Leftover, SomethingLeft } from "./Leftovers.ts"
import { type Deployed, Machine } from "./Machine.ts"

/** What is left on the machine that is no file of an agent that has committed. */
export const leftovers: Effect.Effect<ReadonlyArray<Leftover>, never, Machine> = Effect.flatMap(
  Machine,
  (machine) => machine.leftovers
)

/** Fails unless nothing is left but what belongs to these agents. */
export const expectOnly = (agentIds: ReadonlyArray<string>): Effect.Effect<void, SomethingLeft, Machine> =>
  Effect.flatMap(leftovers, (all) => {
    const left = all.filter(({ agentId }) => agentId === null || !agentIds.includes(agentId))
    return left.length === 0 ? Effect.void : Effect.fail(new SomethingLeft({ left }))
  })

/**
 * Fails unless nothing is left: no session, no process, no row of an agent that is not over, no file of an agent that never
 * committed, no draft, and no resource of one's own that should have gone with its agent.
 */
export const expectNothingLeft: Effect.Effect<void, SomethingLeft, Machine> = expectOnly([])

/** Puts a fault in place; it stands until `heal`. */
export const strike = (fault: Fault): Effect.Effect<void, never, Machine> =>
  Effect.flatMap(Machine, (machine) => machine.strike(fault))

/** Takes all faults away. */
export const heal: Effect.Effect<void, never, Machine> = Effect.flatMap(Machine, (machine) => machine.heal)

/** All agents that were ever admitted, in that order. */
export const deployed: Effect.Effect<ReadonlyArray<Deployed>, never, Machine> = Effect.flatMap(
  Machine,
  (machine) => machine.deployed
)

/** Somebody else ends all of the agent's processes, as `kill -9` does. */
export const killAgent = (agentId: string): Effect.Effect<void, never, Machine> =>
  Effect.flatMap(Machine, (machine) => machine.killAgent(agentId))

/**
 * Runs an effect as a program of its own on the machine, and kills it as by `kill -9` when a deployment of it comes to the
 * step. Answers when it is dead; fails with `NotKilled` when it ended before.
 */
export const killedAt = <A, E, R>(step: FaultStep, effect: Effect.Effect<A, E, R>, moment?: Moment) =>
  Effect.flatMap(Machine, (machine) => machine.killedAt(step, effect, moment))
