/**
 * How agents and tasks read: states in words, tables with aligned columns, trees. Pure; nothing here prints.
 */
import { Agent, Document, type Family } from "@slipway/core"
import { DateTime } from "effect"
import * as Durations from "./Durations.ts"
import { plain, type Style } from "./Output.ts"

export type Paint = (style: Style, text: string) => string

/** A state with what a person wants to know of it: `exited 3`, `stopped`. */
export const state = (agent: Agent.Agent): string => {
  const status = Agent.status(agent)
  if (agent.state._tag !== "exited") return status
  const { code, outcome, signal } = agent.state
  const doubt = code === 0 && outcome === "failure"
    ? " (failed)"
    : code === 0 && outcome === "unknown"
    ? " (unknown)"
    : ""
  return `exited ${signal ?? code}${doubt}`
}

const style = (agent: Agent.Agent): Style => {
  switch (Agent.status(agent)) {
    case "running":
      return "green"
    case "exited":
      return Agent.succeeded(agent) ? "dim" : "red"
    case "leaked":
    case "lost":
      return "red"
    case "deploying":
    case "ending":
      return "yellow"
    case "rolled-back":
    case "stopped":
      return "dim"
  }
}

export const paintedState = (agent: Agent.Agent, paint: Paint, width = 0): string =>
  paint(style(agent), state(agent).padEnd(width))

const resultOf = ({ code, outcome, signal }: Extract<Agent.State, { readonly _tag: "exited" }>): string => {
  if (signal !== null) return `ended with ${signal}`
  const told = code !== 0 || outcome === "success"
    ? ""
    : outcome === "failure"
    ? ", but its output reports a failure"
    : ", and its output does not say whether it succeeded"
  return `ended with exit code ${code}${told}`
}

/** How an agent ended, or what it does, to be said of it. */
export const ending = (agent: Agent.Agent): string => {
  const { state } = agent
  const view = Document.agent(agent)
  switch (state._tag) {
    case "exited":
      return resultOf(state)
    case "stopped":
      return `was stopped (${plain(state.reason)})`
    case "lost":
      return `was lost: ${plain(state.why)}`
    case "rolled-back":
      return `was rolled back: it ${plain(view.reason ?? "failed")}`
    case "ending":
      return view.left.length === 0 ? "is ending" : `is leaked: ${plain(view.left.join("; "))}`
    default:
      return `is ${state._tag}`
  }
}

/** The same as a sentence with the agent's id. */
export const story = (agent: Agent.Agent): string => `${agent.id} ${ending(agent)}`

/** How long ago something was. */
export const ago = (moment: DateTime.Utc, now: DateTime.Utc): string =>
  Durations.short(DateTime.toEpochMillis(now) - DateTime.toEpochMillis(moment))

/** Text on one line and of a bounded length. */
export const brief = (text: string, width: number): string => {
  const line = plain(text).trim()
  return line.length <= width ? line : `${line.slice(0, width - 1)}…`
}

/** Rows under their titles, in columns as wide as their widest cell; the last column is as it is. */
export const table = (
  titles: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
  paintCell: (text: string, row: number, column: number) => string
): string => {
  const widths = titles.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)))
  const render = (cells: ReadonlyArray<string>, row: number) =>
    cells.map((cell, column) => {
      const isLast = column === titles.length - 1
      return paintCell(isLast ? cell : cell.padEnd(widths[column] ?? 0), row, column)
    }).join("  ").trimEnd()
  return [render(titles, -1), ...rows.map(render)].join("\n")
}

/** The widest that the last column of a table may be, so that no line is longer; at least a few characters. */
const roomBeside = (rows: ReadonlyArray<ReadonlyArray<string>>, columns: number | undefined): number => {
  if (columns === undefined) return Number.POSITIVE_INFINITY
  const others = rows[0]?.slice(0, -1) ?? []
  const widths = others.map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return Math.max(8, columns - widths.reduce((sum, width) => sum + width + 2, 0))
}

/** Agents in a table; in a terminal, what would make its lines wrap is cut off the ids of the tasks. */
export const agents = (
  list: ReadonlyArray<Agent.Agent>,
  options: {
    readonly now: DateTime.Utc
    readonly paint: Paint
    readonly showTask: boolean
    readonly columns: number | undefined
  }
): string => {
  const titles = ["AGENT", "STATUS", "RUNS", "AGE", ...(options.showTask ? ["TASK"] : [])]
  const rows = list.map((agent) => [
    agent.id,
    state(agent),
    agent.spec.kind,
    ago(agent.startedAt ?? agent.createdAt, options.now),
    ...(options.showTask ? [agent.taskId] : [])
  ])
  const room = roomBeside([titles, ...rows], options.columns)
  return table(
    titles,
    rows.map((row) => row.map((cell, column) => column === 4 ? brief(cell, room) : cell)),
    (text, row, column) => {
      const agent = list[row]
      if (agent === undefined) return options.paint("dim", text)
      return column === 1 ? options.paint(style(agent), text) : text
    }
  )
}

/** A tree of agents, one line each: the ids as branches, and behind them, in a column, what is said of each. */
export const treeLines = (
  nodes: ReadonlyArray<Family.Node>,
  render: (agent: Agent.Agent) => string
): ReadonlyArray<string> => {
  const walk = (
    nodes: ReadonlyArray<Family.Node>,
    indent: string,
    top: boolean
  ): ReadonlyArray<readonly [head: string, agent: Agent.Agent]> =>
    nodes.flatMap((node, index) => {
      const isLast = index === nodes.length - 1
      const [branch, below] = top ? ["", ""] : isLast ? ["└─ ", "   "] : ["├─ ", "│  "]
      return [
        [`${indent}${branch}${node.agent.id}`, node.agent] as const,
        ...walk(node.children, indent + below, false)
      ]
    })
  const lines = walk(nodes, "  ", true)
  const width = Math.max(0, ...lines.map(([head]) => head.length)) + 2
  return lines.map(([head, agent]) => `${head.padEnd(width)}${render(agent)}`)
}
