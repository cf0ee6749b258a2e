/**
 * The steps that histories are drawn from, as plain data, and how they read when a history fails.
 *
 * Numbers stand for choices: of an agent among those there are, of a call at which something happens. They shrink towards
 * the first agent, and towards a program that runs undisturbed to its end.
 */
import { Schema } from "effect"
import type { Sense } from "../../src/testing/MemoryMachine.ts"
import { after, exits, hangs, ignoresTerm, says, type Script, starts } from "../../src/testing/Script.ts"

/** What agents do; the names stand in their scripts. */
const behaviours = ["stay", "late0", "quick0", "quick1", "deaf", "forks", "orphans"] as const
type Behaviour = (typeof behaviours)[number]

const upTo = (maximum: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum }))

/** The first or the second home of the one socket. */
const Home = Schema.Literals([0, 1])

/** What becomes of the program that carries a step out, and at which of its calls. */
const Fate = Schema.Struct({ chance: upTo(9), at: upTo(149) })
type Fate = typeof Fate.Type

export type Course = "whole" | "killed" | "frozen" | "interrupted"
export const courseOf = ({ chance }: Fate): Course =>
  chance < 4 ? "whole" : chance < 7 ? "killed" : chance < 9 ? "frozen" : "interrupted"

/** The fate of a program that takes this course at that call. */
export const coursed = (course: Course, at: number): Fate => ({
  chance: { whole: 0, killed: 4, frozen: 7, interrupted: 9 }[course],
  at
})

const senses = ["tmux", "table", "environ", "stat"] as const satisfies ReadonlyArray<Sense>

const steps = Schema.TaggedUnion({
  Deploy: {
    home: Home,
    task: Schema.Literals([0, 1]),
    behaviour: upTo(behaviours.length - 1),
    type: upTo(2),
    parent: upTo(3),
    key: upTo(5),
    allowDuplicate: Schema.Boolean,
    ready: Schema.Literals(["survive", "output", "none"]),
    scoped: upTo(4),
    fate: Fate
  },
  Stop: { home: Home, agent: upTo(7), fate: Fate },
  Reap: { home: Home, strays: upTo(3), fate: Fate },
  /** Makes a plan, and keeps it. */
  Plan: { home: Home },
  /** Applies the plan that was kept, as old as it is. */
  ApplyOld: { home: Home, fate: Fate },
  Look: { home: Home, fate: Fate },
  /** An agent, or its launcher, or a child of it ends. */
  End: { process: upTo(7), code: Schema.Literals([0, 1, "KILL"]) },
  KillServer: {},
  /** A frozen program goes on; one that holds an agent in its scope closes it. */
  Thaw: { program: upTo(3) },
  Kill: { program: upTo(3) },
  Restart: {},
  Save: { home: Home },
  Restore: { home: Home },
  SetClockBack: { seconds: Schema.Literals([1, 100, 10_000]) },
  Wait: { seconds: Schema.Literals([1, 12, 300]) },
  Blind: { sense: upTo(senses.length - 1) },
  See: {}
})
export type Step = typeof steps.Type

const { ApplyOld, Blind, Deploy, End, Kill, KillServer, Look, Plan, Reap, Restart, Restore, Save, See } = steps.cases
const { SetClockBack, Stop, Thaw, Wait } = steps.cases
// What stands here more often is drawn more often.
const Step = Schema.Union([
  Schema.Union([Deploy, Deploy, Deploy, Deploy]),
  Schema.Union([Deploy, Reap, Reap, Reap]),
  Schema.Union([Stop, End, Wait, Look]),
  Schema.Union([Thaw, Kill, Plan, ApplyOld, Save, Restore, KillServer, Restart, SetClockBack, Blind, See])
])

export const History = Schema.Array(Step).check(Schema.isMinLength(1), Schema.isMaxLength(30))

/** On the real machine nobody is blind, nobody waits, and no clock is set. */
const LiveStep = Schema.Union([
  Schema.Union([Deploy, Deploy, Deploy]),
  Schema.Union([Deploy, Reap]),
  Schema.Union([Stop, End, Look]),
  Schema.Union([Plan, ApplyOld, Save, Restore, KillServer, Restart])
])

export const LiveHistory = Schema.Array(LiveStep).check(Schema.isMinLength(6), Schema.isMaxLength(9))

export const behaviourOf = (index: number): Behaviour => behaviours[index] ?? "stay"
export const senseOf = (index: number): Sense => senses[index] ?? "tmux"

const up = [after("10 millis"), says("up")]

/** What an agent does in memory. */
export const performed: Record<Behaviour, Script> = {
  stay: [...up, hangs],
  late0: [...up, after("4990 millis"), exits(0)],
  quick0: [...up, after("40 millis"), exits(0)],
  quick1: [...up, after("40 millis"), exits(1)],
  deaf: [ignoresTerm, ...up, hangs],
  forks: [starts(), ...up, hangs],
  orphans: [starts(), ...up, after("40 millis"), exits(0)]
}

/** The behaviour that a launcher's text tells of. */
export const behaviourIn = (text: string): Behaviour => behaviours.find((each) => text.includes(`# ${each}'`)) ?? "stay"

/** What it does on the machine itself. */
const scripts: Record<Behaviour, string> = {
  stay: "echo up; exec sleep 1000",
  late0: "echo up; sleep 5",
  quick0: "echo up; sleep 0.05",
  quick1: "echo up; sleep 0.05; exit 1",
  deaf: "trap '' TERM HUP; echo up; exec sleep 1000",
  forks: "setsid sleep 1000 & echo up; exec sleep 1000",
  orphans: "setsid sleep 1000 & echo up; sleep 0.05"
}

/** The agent's program, which tells by its last words what it does. */
export const scriptOf = (behaviour: Behaviour): string => `${scripts[behaviour]} # ${behaviour}`

const fate = (step: { readonly fate: Fate }): string => {
  const course = courseOf(step.fate)
  return course === "whole" ? "" : `, ${course} at call ${step.fate.at}`
}

/** One step as a person reads it. */
export const describe = (step: Step): string => {
  switch (step._tag) {
    case "Deploy": {
      const more = [
        behaviourOf(step.behaviour),
        `type-${step.type}`,
        `ready ${step.ready}`,
        ...(step.parent > 0 ? [`child of agent ${step.parent - 1}`] : []),
        ...(step.key > 3 ? [`key-${step.key}`] : []),
        ...(step.allowDuplicate ? ["duplicates allowed"] : []),
        ...(step.scoped === 4 ? ["scoped"] : [])
      ]
      return `deploy in home ${step.home}, task ${step.task} (${more.join(", ")})${fate(step)}`
    }
    case "Stop":
      return `stop agent ${step.agent} of home ${step.home}${fate(step)}`
    case "Reap":
      return `reap home ${step.home}${step.strays === 3 ? " and its strays" : ""}${fate(step)}`
    case "Plan":
      return `plan a reap of home ${step.home}, and keep the plan`
    case "ApplyOld":
      return `apply the plan kept for home ${step.home}${fate(step)}`
    case "Look":
      return `list the agents of home ${step.home}${fate(step)}`
    case "End":
      return step.code === "KILL" ? `kill -9 process ${step.process}` : `process ${step.process} exits ${step.code}`
    case "KillServer":
      return "kill the tmux server"
    case "Thaw":
      return `frozen program ${step.program} goes on`
    case "Kill":
      return `kill -9 frozen program ${step.program}`
    case "Restart":
      return "restart the machine"
    case "Save":
      return `copy the registry of home ${step.home}`
    case "Restore":
      return `restore the copy of the registry of home ${step.home}`
    case "SetClockBack":
      return `set the clock back by ${step.seconds} s`
    case "Wait":
      return `wait ${step.seconds} s`
    case "Blind":
      return `from now on the ${senseOf(step.sense)} can't be looked at`
    case "See":
      return "everything can be looked at again"
  }
}

/** A history as a numbered list. */
export const print = (steps: ReadonlyArray<Step>): string =>
  steps.map((step, index) => `${String(index + 1).padStart(3)}. ${describe(step)}`).join("\n")
