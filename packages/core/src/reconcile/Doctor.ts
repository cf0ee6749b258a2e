/**
 * The doctor: audits the home against what must always hold, inspects the machine, and says what to do about each
 * finding.
 *
 * It changes nothing. The audit is the reaper's plan, and more that only concerns a person: entries of ended agents,
 * the registry's own check, modes, free disk, unknown files, and patterns in releases that failed. A home without a
 * finding is healthy.
 */
import { Tmux } from "@slipway/tmux"
import { Context, Duration, Effect, Layer, Schema } from "effect"
import * as Path from "node:path"
import { AgentId, hasCommitted, isFinal } from "../agent/Agent.ts"
import type { ReleaseOutcome } from "../agent/Release.ts"
import { Home, requiredBytes } from "../home/Home.ts"
import { unreachable } from "../home/IdleServer.ts"
import { Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { ProcessTree } from "../machine/ProcessTree.ts"
import { Counters, type ReleaseTotal } from "../registry/Counters.ts"
import { Ledger } from "../registry/Ledger.ts"
import type { RegistryError } from "../registry/RegistryError.ts"
import { isCurrent } from "../resource/TaskEntry.ts"
import { Reaper } from "./Reaper.ts"
import type { Item } from "./ReapPlan.ts"

export interface Finding {
  readonly kind: string
  readonly evidence: string
  readonly recommendation: string
}

/** What the doctor says. A pattern in the past is reported, and does not make a home unhealthy. */
export interface Diagnosis {
  readonly healthy: boolean
  readonly findings: ReadonlyArray<Finding>
}

export class Doctor extends Context.Service<Doctor, {
  readonly examine: Effect.Effect<Diagnosis, RegistryError>
}>()("@slipway/core/Doctor") {
  static readonly layer = Layer.effect(Doctor, Effect.suspend(() => make))
}

const pattern = "release-failures"

/** How long a tmux server may take to make its socket, or to end. */
const betweenLooks = Duration.seconds(1)

const reap = "run 'slipway reap'"

const recommendations: Record<Item["verdict"], string> = {
  "dead-deployment": `${reap}: it rolls the deployment back`,
  "ended-agent": `${reap}: it records the end and frees the slot`,
  "unfinished-ending": `${reap}: it tries the releases again`,
  leftover: `${reap}: it ends what is left of the agent`,
  "stale-entry": `${reap}: it writes the entry again`,
  stray:
    "it has no row, as after a restore of an old registry: inspect it, then remove it with 'slipway reap --stray ID'",
  draft: `${reap}: it removes the file`,
  "session-gone":
    "the agent works on without its session, and its output goes on; stop it with 'slipway stop' if that is not wanted",
  unknown: "Slipway does nothing about what it can't prove; mend the cause that the evidence names, and ask again"
}

const whenIdle = "'slipway reap' ends it when nothing runs in it and no agent has been active for ten minutes"

const make = Effect.gen(function*() {
  const files = yield* Files
  const home = yield* Home
  const processes = yield* ProcessTree
  const reaper = yield* Reaper
  const ledger = yield* Ledger
  const counters = yield* Counters
  const tmux = yield* Tmux
  const lost = unreachable({ files, home, host: yield* Host, tmux })

  const audit = Effect.map(reaper.plan, ({ items }) =>
    items.map(({ evidence, status, subject, verdict }): Finding => ({
      kind: verdict,
      evidence: `${subject}${status === null ? "" : ` (${status})`}: ${evidence}`,
      recommendation: recommendations[verdict]
    })))

  // The reaper reads the entries of running agents; these are of agents that have ended.
  const entries = Effect.gen(function*() {
    const ended = (yield* ledger.agents({})).filter((agent) =>
      isFinal(agent.state) && agent.state._tag !== "rolled-back" && hasCommitted(agent)
    )
    const stale = yield* Effect.filter(ended, (agent) => Effect.map(isCurrent(files, agent), (current) => !current))
    return stale.map((agent): Finding => ({
      kind: "stale-entry",
      evidence: `${agent.plan.entry} is not what the row of ${agent.id} says`,
      recommendation:
        "a person or another program changed or removed it; the row is the truth ('slipway show'), and 'slipway prune' forgets both"
    }))
  })

  const machine = Effect.gen(function*() {
    const found: Array<Finding> = []
    const version = yield* Effect.result(tmux.version)
    if (version._tag === "Failure") {
      found.push({
        kind: "tmux",
        evidence: version.failure.message,
        recommendation: "nothing can be deployed until that is mended"
      })
    }
    const space = yield* Effect.result(files.space(home.directory))
    if (space._tag === "Success" && space.success.freeBytes < requiredBytes) {
      found.push({
        kind: "disk",
        evidence: `${Math.floor(space.success.freeBytes / 1_000_000)} MB are free on the disk of ${home.directory}`,
        recommendation: `free some: a deployment asks for ${
          requiredBytes / 1_000_000
        } MB; 'slipway prune' removes old output`
      })
    }
    for (const path of [home.registry, Path.join(home.directory, "home.json"), home.agents, home.directory]) {
      const info = yield* Effect.orElseSucceed(files.inspect(path), () => undefined)
      if (info !== undefined && (info.mode & 0o077) !== 0) {
        const mode = info.mode.toString(8).padStart(4, "0")
        found.push({
          kind: "permissions",
          evidence: `${path} has mode ${mode}`,
          recommendation: `others could read prompts and output: chmod ${
            info.kind === "directory" ? "0700" : "0600"
          } ${path}`
        })
      }
    }
    return found
  })

  // A server that just starts, or ends, has no socket for a moment either: lost is what is so at two looks.
  const lostServers = Effect.gen(function*() {
    const first = yield* lost
    if (first.length === 0) return first
    yield* Effect.sleep(betweenLooks)
    const again = yield* lost
    return again.filter(({ pid, start }) => first.some((seen) => seen.pid === pid && seen.start === start))
  })

  const servers = Effect.gen(function*() {
    const found = yield* lostServers
    const isFree = (yield* Effect.orElseSucceed(files.inspect(home.socket), () => undefined)) === undefined
    return found.map(({ pid }): Finding => ({
      kind: "tmux-server",
      evidence: `process ${pid} is a tmux server of this home that has lost its socket ${home.socket}`,
      recommendation: isFree
        ? `no client reaches it; 'kill -USR1 ${pid}' lets it make its socket again, and ${whenIdle}`
        : `another server has the socket by now; ${whenIdle}`
    }))
  })

  const strangeFiles = Effect.gen(function*() {
    const names = yield* Effect.orElseSucceed(files.list(home.agents), () => [])
    const unknown = names.filter((name) => !Schema.is(AgentId)(name)).map((name) => Path.join(home.agents, name))
    return unknown.map((path): Finding => ({
      kind: "stale-file",
      evidence: `${path} is not of Slipway's making`,
      recommendation: "remove it if you know what it is"
    }))
  })

  // A registry that was rebuilt may have lost the row of an agent with a tree.
  const strangeTrees = Effect.gen(function*() {
    const trees = Path.join(home.directory, "trees")
    const names = yield* Effect.orElseSucceed(files.list(trees), () => [])
    if (names.length === 0) return []
    const known = new Set<string>((yield* ledger.agents({})).map(({ id }) => id))
    return names.filter((name) => !known.has(name)).map((name): Finding => ({
      kind: "stale-file",
      evidence: `${Path.join(trees, name)} is the working tree of no agent on record`,
      recommendation:
        "take what you need; then 'git worktree unlock' and 'git worktree remove' the tree, and remove the directory"
    }))
  })

  // Agents of a home that was removed under them: a new home at the same place has no rows of them.
  const formerAgents = Effect.gen(function*() {
    const looked = yield* Effect.result(processes.snapshot)
    const bearers = looked._tag === "Success" ? looked.success.bearers : []
    const former = Map.groupBy(
      bearers.filter((bearer) => bearer.homeId !== home.id),
      ({ agentId, homeId }) => `${agentId} ${homeId}`
    )
    return Array.from(former.values()).flatMap((found): ReadonlyArray<Finding> => {
      const first = found.find((bearer) => bearer.home === home.directory)
      return first === undefined ? [] : [{
        kind: "former-home",
        evidence: `${first.agentId} lives (process ${
          found.map(({ pid }) => pid).join(", ")
        }) and is an agent of the home ${
          first.homeId ?? "without an id"
        }, which stood at ${home.directory} before this one`,
        recommendation: "Slipway does not touch what another home started: end these processes yourself, or leave them"
      }]
    })
  })

  const integrity = Effect.map(ledger.integrity, (complaints) =>
    complaints.map((complaint): Finding => ({
      kind: "registry",
      evidence: complaint,
      recommendation: `the database ${home.registry} is damaged: stop deploying, and run 'slipway rebuild'`
    })))

  const patterns = Effect.map(
    counters.totals,
    ({ releases }) =>
      releases.filter(isFailure).toSorted((a, b) => b.count - a.count).slice(0, 3).map((total) =>
        patternOf(total, releases)
      )
  )

  return Doctor.of({
    examine: Effect.map(
      Effect.all([integrity, audit, entries, machine, servers, strangeFiles, strangeTrees, formerAgents, patterns]),
      (groups): Diagnosis => {
        const findings = groups.flat()
        return { healthy: findings.every(({ kind }) => kind === pattern), findings }
      }
    )
  })
})

const failures = ["Failed", "Survivors"] satisfies ReadonlyArray<ReleaseOutcome["_tag"]>

const isFailure = (total: ReleaseTotal): boolean => failures.some((outcome) => outcome === total.outcome)

const patternOf = (total: ReleaseTotal, all: ReadonlyArray<ReleaseTotal>): Finding => {
  const tried = all.filter(({ resource }) => resource === total.resource).reduce((sum, { count }) => sum + count, 0)
  const reason = total.lastReason === null ? "" : `, last because ${total.lastReason}`
  return {
    kind: pattern,
    evidence:
      `${total.count} of ${tried} releases of ${total.resource} ended in ${total.outcome}, from ${total.firstAt} to ${total.lastAt}${reason}`,
    recommendation: "what was left was tried again since; mend the cause if it goes on, so that rollbacks stay clean"
  }
}
