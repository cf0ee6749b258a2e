/**
 * How the benches measure: subjects take turns in one run, so that a busy moment of the machine meets all of them
 * alike. Reported are medians with their spread, and ratios of medians of the same run.
 */
import { Effect } from "effect"

/** A measured subject, with its ratio to another of the same bench. */
export interface Line {
  readonly bench: string
  readonly subject: string
  readonly unit: string
  readonly samples: number
  readonly median: number
  readonly p10: number
  readonly p90: number
  readonly ratio: { readonly to: string; readonly value: number; readonly target: Target | null } | null
}

/** What a ratio should be. */
export interface Target {
  readonly is: "at-most" | "at-least"
  readonly value: number
}

export const atMost = (value: number): Target => ({ is: "at-most", value })
export const atLeast = (value: number): Target => ({ is: "at-least", value })

const rounded = (value: number): number => Number(value.toPrecision(4))

const quantile = (sorted: ReadonlyArray<number>, share: number): number => {
  const place = (sorted.length - 1) * share
  const below = sorted[Math.floor(place)] ?? Number.NaN
  const above = sorted[Math.ceil(place)] ?? Number.NaN
  return below + (above - below) * (place - Math.floor(place))
}

/** One line of samples; the ratio is added by `compare`. */
export const line = (bench: string, subject: string, samples: ReadonlyArray<number>, unit = "ms"): Line => {
  const sorted = samples.toSorted((a, b) => a - b)
  return {
    bench,
    subject,
    unit,
    samples: sorted.length,
    median: rounded(quantile(sorted, 0.5)),
    p10: rounded(quantile(sorted, 0.1)),
    p90: rounded(quantile(sorted, 0.9)),
    ratio: null
  }
}

/** The line with the ratio of its median to that of another. */
export const compare = (self: Line, to: Line, target: Target | null = null): Line => ({
  ...self,
  ratio: { to: to.subject, value: rounded(self.median / to.median), target }
})

export const isMet = ({ ratio }: Line): boolean | null =>
  ratio === null || ratio.target === null
    ? null
    : ratio.target.is === "at-most"
    ? ratio.value <= ratio.target.value
    : ratio.value >= ratio.target.value

/** Milliseconds that an effect took, on the clock that can't be set. */
export const timed = <A, E, R>(
  effect: Effect.Effect<A, E, R>
): Effect.Effect<readonly [millis: number, value: A], E, R> =>
  Effect.suspend(() => {
    const begin = performance.now()
    return Effect.map(effect, (value) => [performance.now() - begin, value] as const)
  })

/** One turn of a subject: answers the milliseconds that count, whatever else it does. */
export type Turn<E, R> = (round: number) => Effect.Effect<number, E, R>

/** Runs all subjects by turns; each round begins with another one. */
export const interleave = Effect.fnUntraced(function*<K extends string, E, R>(
  subjects: Readonly<Record<K, Turn<E, R>>>,
  { rounds, warmUps }: { readonly rounds: number; readonly warmUps: number }
) {
  const names = Object.keys(subjects).filter((name): name is K => name in subjects)
  const samples = new Map<K, Array<number>>(names.map((name) => [name, []]))
  for (let round = 0; round < warmUps + rounds; round++) {
    for (let index = 0; index < names.length; index++) {
      const name = names[(index + round) % names.length]
      if (name === undefined) continue
      const millis = yield* subjects[name](round)
      if (round >= warmUps) samples.get(name)?.push(millis)
    }
  }
  return (name: K): ReadonlyArray<number> => samples.get(name) ?? []
})

const text = ({ median, p10, p90, ratio, samples, subject, unit }: Line, met: boolean | null): string =>
  [
    `  ${subject}`.padEnd(58),
    `${median} ${unit}`.padStart(14),
    `${p10}–${p90}`.padStart(18),
    `n=${samples}`.padStart(7),
    ratio === null ? "" : `   ${ratio.value} × ${ratio.to}`,
    ratio === null || ratio.target === null
      ? ""
      : ` (${ratio.target.is === "at-most" ? "at most" : "at least"} ${ratio.target.value}: ${
        met === true ? "met" : "NOT MET"
      })`
  ].join("")

/** The lines as a table for a person. */
export const table = (lines: ReadonlyArray<Line>): string =>
  lines.map((line, index) => {
    const heading = lines[index - 1]?.bench === line.bench ? "" : `\n${line.bench}\n`
    return heading + text(line, isMet(line))
  }).join("\n")
