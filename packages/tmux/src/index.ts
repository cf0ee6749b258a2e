/**
 * tmux as an Effect service: typed errors, exact targets, and several transports behind one contract.
 */
export * as Anchor from "./Anchor.ts"
export * as Sentence from "./Sentence.ts"
export * as Target from "./Target.ts"
export { type Idle, type NewSession, type Session, type SessionEnvironment, Tmux, type TmuxServer } from "./Tmux.ts"
export * as TmuxControl from "./TmuxControl.ts"
export * from "./TmuxError.ts"
export * as TmuxMemory from "./TmuxMemory.ts"
export * as TmuxProcess from "./TmuxProcess.ts"
export * as TmuxVersion from "./TmuxVersion.ts"
