/**
 * Faults as data: where one strikes, and what it does.
 *
 * A fault at a step strikes the call that the step is about, once in each deployment. A fault of a release strikes each
 * time that a thing of this kind is released. Both stand until `Machine.heal`.
 */
import { houseKinds } from "../agent/Plan.ts"
import type { Step } from "../deployment/DeployError.ts"
import type { Call } from "./Gate.ts"

/** A step of a deployment that makes or asks for something. */
export type FaultStep = Exclude<Step, "request">

/** Where a fault strikes. */
export type Place =
  | { readonly _tag: "Step"; readonly step: FaultStep }
  | { readonly _tag: "Release"; readonly kind: string }

/** `before` it has happened, or `after`: then it has happened all the same. */
export type Moment = "before" | "after"

export interface Fault {
  readonly place: Place
  /** `fail`: with the typed error of what is asked. `die`: by a defect. `hang`: no answer ever comes. */
  readonly does: "fail" | "die" | "hang"
  readonly moment: Moment
}

const at = (does: Fault["does"]) => (step: FaultStep, moment: Moment = "before"): Fault => ({
  place: { _tag: "Step", step },
  does,
  moment
})

const ofRelease = (does: Fault["does"]) => (kind: string, moment: Moment = "before"): Fault => ({
  place: { _tag: "Release", kind },
  does,
  moment
})

/** What a step asks of the machine fails: the disk, tmux, the registry, or the resource. */
export const failAt = at("fail")
/** A defect at a step. */
export const dieAt = at("die")
/** What a step asks for is never answered, so that the time of the step runs out. */
export const hangAt = at("hang")
/** No thing of this kind can be released. */
export const failRelease = ofRelease("fail")
/** A release of this kind breaks with a defect. */
export const dieRelease = ofRelease("die")
/** No release of this kind ever ends by itself. */
export const hangRelease = ofRelease("hang")

/** Says at which place of which deployment a call is. It remembers how far each deployment has come. */
export const makeLocator = (agents: string) => {
  const reached = new Map<string, Set<FaultStep>>()

  /** The step, if the deployment has been at the earlier one and not yet at this one. */
  const once = (id: string, step: FaultStep, behind?: FaultStep): Place | undefined => {
    const steps = reached.get(id) ?? new Set<FaultStep>()
    reached.set(id, steps)
    if (steps.has(step) || (behind !== undefined && !steps.has(behind))) return undefined
    steps.add(step)
    return { _tag: "Step", step }
  }

  const inAgents = (path: unknown): string | undefined =>
    typeof path === "string" && path.startsWith(`${agents}/`) ? path.slice(agents.length + 1).split("/")[0] : undefined

  const ofEntry = (path: unknown): string | undefined =>
    typeof path === "string" ? /\/\.slipway\/[^/]+\/agents\/([^/]+)\.json$/.exec(path)?.[1] : undefined

  const idIn = (value: unknown): string | undefined =>
    typeof value === "object" && value !== null && "id" in value && typeof value.id === "string" ? value.id : undefined

  const nameIn = (value: unknown): string | undefined =>
    typeof value === "object" && value !== null && "script" in value && typeof value.script === "string"
      ? inAgents(value.script)
      : undefined

  return ({ args: [first], name }: Call): Place | undefined => {
    const directory = inAgents(first)
    const entry = ofEntry(first)
    switch (name) {
      case "Tmux.version":
        return { _tag: "Step", step: "preflight" }
      case "Ledger.admit": {
        const id = idIn(first)
        return id === undefined ? undefined : once(id, "admission")
      }
      case "Files.makeDirectory":
        return directory === undefined ? undefined : once(directory, "agent-directory")
      case "Resource.make":
        return typeof first === "string" ? once(first, "resources") : undefined
      case "Tmux.newSession": {
        const id = nameIn(first)
        return id === undefined ? undefined : once(id, "session")
      }
      case "Files.list":
        return directory === undefined ? undefined : once(directory, "readiness", "session")
      case "Files.replaceFile":
        return entry === undefined ? undefined : once(entry, "task-entry", "session")
      case "Ledger.transition":
        return typeof first === "string" ? once(first, "commit", "task-entry") : undefined
      case "ProcessTree.terminate":
        return { _tag: "Release", kind: houseKinds.session }
      case "Files.removeTree":
      case "Files.removeDirectory":
        return directory === undefined ? undefined : { _tag: "Release", kind: houseKinds.directory }
      case "Files.removeFile":
        return entry === undefined ? undefined : { _tag: "Release", kind: houseKinds.entry }
      case "Resource.release":
        return typeof first === "string" ? { _tag: "Release", kind: first } : undefined
      default:
        return undefined
    }
  }
}

/** Whether a fault, or a kill, is meant for this place. */
export const isAt = (wanted: Place, place: Place): boolean =>
  wanted._tag === "Step"
    ? place._tag === "Step" && place.step === wanted.step
    : place._tag === "Release" && place.kind === wanted.kind
