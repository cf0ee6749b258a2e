/**
 * What the registry counts, and what a program measures about itself, as Prometheus text (exposition format 0.0.4).
 * Pure.
 *
 * Counters come from the registry and not from a process: deployments by short-lived commands count, a restart loses
 * none, and forgetting agents lowers none. A counter whose labels are known beforehand is shown from 0 on, so that its
 * first increase is visible.
 */
import type { Histogram, Totals } from "../registry/Counters.ts"
import * as Findings from "./Findings.ts"

const escapeLabel = (value: string): string =>
  value.replaceAll("\\", "\\\\").replaceAll("\"", "\\\"").replaceAll("\n", "\\n")

const escapeHelp = (text: string): string => text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")

type Labels = Readonly<Record<string, string>>

const sample = (name: string, labels: Labels, value: number): string => {
  const pairs = Object.entries(labels).map(([label, value]) => `${label}="${escapeLabel(value)}"`)
  return `${name}${pairs.length === 0 ? "" : `{${pairs.join(",")}}`} ${value}`
}

const family = (
  name: string,
  type: "counter" | "gauge" | "histogram",
  help: string,
  samples: ReadonlyArray<string>
): string => [`# HELP ${name} ${escapeHelp(help)}`, `# TYPE ${name} ${type}`, ...samples].join("\n")

const values = (
  name: string,
  type: "counter" | "gauge",
  help: string,
  samples: ReadonlyArray<readonly [Labels, number]>
): string => family(name, type, help, samples.map(([labels, value]) => sample(name, labels, value)))

const histogram = (
  name: string,
  help: string,
  series: ReadonlyArray<readonly [Labels, Histogram]>
): string =>
  family(
    name,
    "histogram",
    help,
    series.flatMap(([labels, { buckets, count, seconds }]) => [
      ...buckets.map((bucket) => sample(`${name}_bucket`, { ...labels, le: bucket.le }, bucket.count)),
      sample(`${name}_sum`, labels, seconds),
      sample(`${name}_count`, labels, count)
    ])
  )

/** The counts under all known names, and under any further ones. */
const fromZero = (
  known: ReadonlyArray<string>,
  label: string,
  counted: ReadonlyArray<readonly [name: string, count: number]>
): ReadonlyArray<readonly [Labels, number]> =>
  Array.from(
    new Map([...known.map((name) => [name, 0] as const), ...counted]),
    ([name, count]) => [{ [label]: name }, count]
  )

/** The totals as text. */
export const prometheus = (totals: Totals): string => {
  const { agents, deployDuration, deployments, escalations, findings, releaseDurations, releases, rollbacks } = totals
  const verdicts = findings.map(({ count, verdict }) => [verdict, count] as const)
  return [
    values(
      "slipway_agents",
      "gauge",
      "Agents on record by status; detail is the step of a rollback, who stopped it, or the outcome of an exit.",
      agents.map(({ count, detail, status }) => [{ status, detail: detail ?? "" }, count])
    ),
    values("slipway_agents_leaked", "gauge", "Agents whose end could not release everything.", [[{}, totals.leaked]]),
    values(
      "slipway_deployments_total",
      "counter",
      "Deployments that were admitted, by outcome.",
      fromZero(["committed", "rolled-back"], "outcome", deployments.map(({ count, outcome }) => [outcome, count]))
    ),
    values(
      "slipway_rollbacks_total",
      "counter",
      "Deployments that were rolled back, by the step that failed.",
      rollbacks.map(({ count, step }) => [{ step }, count])
    ),
    histogram(
      "slipway_deploy_duration_seconds",
      "Time from the request to the commit, of deployments that committed.",
      [[{}, deployDuration]]
    ),
    values(
      "slipway_releases_total",
      "counter",
      "Releases of resources by outcome.",
      releases.map(({ count, outcome, resource }) => [{ resource, outcome }, count])
    ),
    values(
      "slipway_release_seconds_total",
      "counter",
      "Time that releases took.",
      releases.map(({ millis, outcome, resource }) => [{ resource, outcome }, millis / 1000])
    ),
    histogram(
      "slipway_release_duration_seconds",
      "Time that a release took.",
      releaseDurations.map(({ resource, ...durations }) => [{ resource }, durations])
    ),
    values(
      "slipway_escalations_total",
      "counter",
      "Releases that had to send KILL.",
      fromZero(["tmux_session"], "resource", escalations.map(({ count, resource }) => [resource, count]))
    ),
    values("slipway_survivors_total", "counter", "Processes that outlived KILL.", [[{}, totals.survivors]]),
    values(
      "slipway_orphans_total",
      "counter",
      "Agents that a reap found not yet reconciled, by verdict.",
      fromZero(Findings.orphans, "verdict", verdicts.filter(([verdict]) => verdict !== Findings.stray))
    ),
    values("slipway_strays_total", "counter", "Things of this home without a row that a reap found.", [[
      {},
      new Map(verdicts).get(Findings.stray) ?? 0
    ]])
  ].join("\n") + "\n"
}

/** The part of the admitted deployments that committed; null where there was none. */
export const successRate = ({ deployments }: Totals): number | null => {
  const all = deployments.reduce((sum, { count }) => sum + count, 0)
  return all === 0 ? null : (deployments.find(({ outcome }) => outcome === "committed")?.count ?? 0) / all
}

/** What a standing reaper reports about itself. */
export interface Watch {
  /** Since the last turn ended; null before the first has. */
  readonly sinceTurnSeconds: number | null
  readonly lastTurnSeconds: number | null
  readonly turns: { readonly done: number; readonly failed: number }
}

/** The gauges of a standing reaper as text. */
export const prometheusWatch = ({ lastTurnSeconds, sinceTurnSeconds, turns }: Watch): string =>
  [
    values(
      "slipway_reap_turns_total",
      "counter",
      "Turns of this reaper by outcome.",
      [[{ outcome: "done" }, turns.done], [{ outcome: "failed" }, turns.failed]]
    ),
    values(
      "slipway_reap_last_turn_age_seconds",
      "gauge",
      "Time since the last turn of this reaper ended.",
      sinceTurnSeconds === null ? [] : [[{}, sinceTurnSeconds]]
    ),
    values(
      "slipway_reap_last_turn_duration_seconds",
      "gauge",
      "Time that the last turn of this reaper took.",
      lastTurnSeconds === null ? [] : [[{}, lastTurnSeconds]]
    )
  ].join("\n") + "\n"
