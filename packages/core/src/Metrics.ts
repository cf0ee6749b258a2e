/**
 * Totals of a registry as Prometheus text (exposition format 0.0.4). Pure.
 *
 * Counters come from the registry and not from a process, so that deployments by short-lived commands count, and a restart
 * loses none. `prune` forgets agents, so that the number of agents can fall; what releases did is kept.
 */
import type { Totals } from "./Registry.ts"

const escape = (value: string): string =>
  value.replaceAll("\\", "\\\\").replaceAll("\"", "\\\"").replaceAll("\n", "\\n")

const labels = (pairs: Readonly<Record<string, string>>): string =>
  Object.entries(pairs).map(([name, value]) => `${name}="${escape(value)}"`).join(",")

const family = (
  name: string,
  type: "counter" | "gauge",
  help: string,
  samples: ReadonlyArray<readonly [Readonly<Record<string, string>>, number]>
): string =>
  [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} ${type}`,
    ...samples.map(([pairs, value]) => `${name}{${labels(pairs)}} ${value}`)
  ]
    .join("\n")

export const prometheus = ({ agents, releases }: Totals): string =>
  [
    family(
      "slipway_agents",
      "gauge",
      "Agents on record by status; detail is the step of a rollback, who stopped it, or the outcome of an exit.",
      agents.map(({ count, detail, status }) => [{ status, detail: detail ?? "" }, count])
    ),
    family(
      "slipway_releases_total",
      "counter",
      "Releases of resources by outcome.",
      releases.map(({ count, outcome, resource }) => [{ resource, outcome }, count])
    ),
    family(
      "slipway_release_seconds_total",
      "counter",
      "Time that releases took.",
      releases.map(({ millis, outcome, resource }) => [{ resource, outcome }, millis / 1000])
    )
  ].join("\n") + "\n"
