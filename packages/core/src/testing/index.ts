/**
 * `@slipway/core/testing`: Slipway in memory, for the tests of programs that use it.
 *
 * `Slipway.layerMemory({ agents })` has no tmux, no disk and no process. Everything above these, from the transaction to the
 * reaper, is what runs in production. See docs/TESTING.md.
 */
export { elapse, type ElapseOptions, StillRunning } from "./Elapse.ts"
export {
  dieAt,
  dieRelease,
  failAt,
  failRelease,
  type Fault,
  type FaultStep,
  hangAt,
  hangRelease,
  type Moment
} from "./Fault.ts"
export { Leftover, SomethingLeft } from "./Leftovers.ts"
export { type Deployed, Machine, type MemoryOptions, NotKilled, project } from "./Machine.ts"
export { Injected } from "./Program.ts"
export {
  type Act,
  after,
  complains,
  type DeathSignal,
  dies,
  exits,
  hangs,
  ignoresTerm,
  says,
  type Script,
  starts
} from "./Script.ts"
export { Slipway } from "./Slipway.ts"
export { deployed, expectNothingLeft, expectOnly, heal, killAgent, killedAt, leftovers, strike } from "./Testing.ts"
