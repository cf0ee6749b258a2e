/**
 * `slipway reap`: finds and cleans up what killed deployers, agents that ended unseen and interrupted stops have left.
 *
 * `--dry-run` prints the very plan that would be applied; `--plan` acts only on what is in that plan and in a fresh
 * one. What is unknown is reported and left. What bears an agent's id without a row is removed only when `--stray`
 * names it.
 *
 * `--watch` goes on until a signal. `--metrics-port` serves the registry's totals and the reaper's own meanwhile; a
 * port that can't be had is reported before the first turn.
 */
import {
  currentCaller,
  type Item,
  Metrics,
  type Reaped,
  ReapPlan,
  resolvePath,
  Slipway,
  type Turn
} from "@slipway/core"
import { Clock, Duration, Effect, Option, Result, Schema, Stream } from "effect"
import { Command, count, duration, Flag, text, toggle } from "../Cli.ts"
import { UsageError } from "../Errors.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output, plain } from "../Output.ts"
import * as Readable from "../Readable.ts"
import * as Text from "../Text.ts"

const config = {
  dryRun: toggle("dry-run", "Only print the plan, and change nothing"),
  plan: text("plan", "FILE", "Act only on what is also in this plan, as --dry-run --json printed it").pipe(
    Flag.optional
  ),
  stray: text(
    "stray",
    "ID",
    "Also remove what bears this agent's id and has no row, repeatable; otherwise it is only reported"
  ).pipe(Flag.atLeast(0)),
  watch: toggle("watch", "Reap again and again until a signal ends it; one per home"),
  every: duration("every", "With --watch: how long to pause between two reaps (default: 30s)").pipe(Flag.optional),
  metricsPort: count(
    "metrics-port",
    "PORT",
    "With --watch: serve metrics for Prometheus on this port of 127.0.0.1; 0 for any that is free"
  ).pipe(Flag.optional)
}

type Options = Command.Command.Config.Infer<typeof config>

const decodePlan = Schema.decodeUnknownEffect(Schema.fromJsonString(ReapPlan))
const encodePlan = Schema.encodeEffect(ReapPlan)

/** A reap more often than this would only keep the machine busy. */
const leastPauseMillis = 100

const hint = "make one with 'slipway reap --dry-run --json'"

const readPlan = Effect.fnUntraced(function*(file: string) {
  const path = yield* resolvePath(yield* currentCaller, file)
  const { home } = yield* Slipway
  const name = `the plan ${JSON.stringify(file)}`
  const content = yield* Readable.text(path, name, hint)
  const plan = yield* Effect.mapError(
    decodePlan(content),
    () => new UsageError({ problem: `${JSON.stringify(file)} is not a plan`, hint })
  )
  if (plan.homeId !== home.id) {
    return yield* new UsageError({ problem: `${name} is of another home than ${home.directory}`, hint })
  }
  return plan
})

/** Flags of which one would be without effect. */
const checkFlags = (options: Options, json: boolean): Effect.Effect<void, UsageError> => {
  const { dryRun, every, metricsPort, plan, stray, watch } = options
  const refuse = (problem: string, hint: string) => Effect.fail(new UsageError({ problem, hint }))
  const apart = "leave one of them out"
  if (watch && json) return refuse("--watch goes on, and --json prints one value", apart)
  if (watch && dryRun) return refuse("--watch reaps, and --dry-run changes nothing", apart)
  if (watch && Option.isSome(plan)) return refuse("--watch goes on, and --plan is about one moment", apart)
  if (dryRun && Option.isSome(plan)) return refuse("--dry-run makes a plan, and --plan takes one", apart)
  if (dryRun && stray.length > 0) {
    return refuse("--dry-run changes nothing, and --stray removes", `${apart}; the plan has strays without being asked`)
  }
  if (Option.isSome(every)) {
    if (!watch) return refuse("--every is how long --watch pauses", "give both, or none for one reap")
    if (every.value < leastPauseMillis) return refuse("--every is too short", `give it ${leastPauseMillis}ms or more`)
  }
  if (Option.isSome(metricsPort)) {
    if (!watch) return refuse("--metrics-port is for --watch", "give both, or ask 'slipway metrics' once")
    if (metricsPort.value > 65_535) return refuse("--metrics-port is no port", "give one from 0 to 65535")
  }
  return Effect.void
}

type PaintCell = (text: string, row: number) => string

const plannedText = (items: ReadonlyArray<Item>, paint: PaintCell): string =>
  items.length === 0
    ? "There is nothing to reap."
    : Text.table(
      ["AGENT", "STATUS", "VERDICT", "ACTION", "EVIDENCE"],
      items.map((
        { action, evidence, status, subject, verdict }
      ) => [subject, status ?? "-", verdict, action, plain(evidence)]),
      paint
    )

const why = ({ item, problems }: Reaped): string => problems.join("; ") || item.evidence

const reapedText = (reaped: ReadonlyArray<Reaped>, ofPlan: boolean, paint: PaintCell): string =>
  reaped.length === 0
    ? ofPlan
      ? "Nothing of this plan is still as it says; 'slipway reap --dry-run' shows what there is now."
      : "There was nothing to reap."
    : Text.table(
      ["AGENT", "VERDICT", "OUTCOME", "STATUS", "WHY"],
      reaped.map((each) => [each.item.subject, each.item.verdict, each.outcome, each.status ?? "-", plain(why(each))]),
      paint
    )

const describe = (reaped: Reaped): string => `${reaped.item.subject} could not be reaped: ${why(reaped)}`

const toJson = (reaped: ReadonlyArray<Reaped>, missing: ReadonlyArray<string>) => {
  const left = reaped.filter(({ outcome }) => outcome === "left")
  const failure = left.length > 0
    ? { error: left.map(describe).join("; "), error_tag: "Leaked" }
    : missing.length > 0
    ? { error: missing.map(noStray).join("; "), error_tag: "NoSuchStray" }
    : {}
  return {
    success: left.length === 0 && missing.length === 0,
    ...failure,
    items: reaped.map(({ item, outcome, problems, status }) => ({ ...item, outcome, status_after: status, problems })),
    not_found: missing
  }
}

const noStray = (id: string): string =>
  `there is no stray ${JSON.stringify(id)} to reap; 'slipway reap --dry-run' shows those there are`

/** Keeps what a standing reaper reports of its turns. */
const turnsOf = Effect.sync(() => {
  const turns = { done: 0, failed: 0 }
  let last: { readonly endedAt: bigint; readonly seconds: number } | undefined
  const add = Effect.fnUntraced(function*({ result, took }: Turn) {
    turns[Result.isSuccess(result) ? "done" : "failed"]++
    last = { endedAt: yield* Clock.monotonicTimeNanos, seconds: Duration.toSeconds(took) }
  })
  const told = Effect.map(Clock.monotonicTimeNanos, (now): Metrics.Watch => ({
    turns: { ...turns },
    lastTurnSeconds: last?.seconds ?? null,
    sinceTurnSeconds: last === undefined ? null : Number(now - last.endedAt) / 1e9
  }))
  return { add, told }
})

/** Serves metrics for as long as the scope. Only a command that asks for it loads an HTTP server. */
const serveMetrics = Effect.fnUntraced(function*(port: number, watch: Effect.Effect<Metrics.Watch>) {
  const output = yield* Output
  const slipway = yield* Slipway
  const server = yield* Effect.promise(() => import("../MetricsServer.ts"))
  const metrics = Effect.gen(function*() {
    return Metrics.prometheus(yield* slipway.totals) + Metrics.prometheusWatch(yield* watch)
  })
  const bound = yield* server.serve({ port, metrics })
  yield* output.note(`slipway: metrics are served on http://127.0.0.1:${bound}/metrics`)
})

/** Reaps until it is interrupted. A reap that fails is reported, and tried again at its next turn. */
const watch = Effect.fnUntraced(function*(options: Options) {
  const output = yield* Output
  const slipway = yield* Slipway
  const every = Duration.millis(Option.getOrElse(options.every, () => 30_000))
  const turns = yield* turnsOf
  const begin = Effect.gen(function*() {
    if (Option.isSome(options.metricsPort)) yield* serveMetrics(options.metricsPort.value, turns.told)
    yield* output.note(`slipway: reaping every ${Duration.format(every)} until a signal ends it`)
  })
  const report = ({ result }: Turn) =>
    Result.isFailure(result)
      ? output.note(`slipway: this reap failed, and the next one tries again: ${result.failure.message}`)
      : Effect.forEach(
        result.success.filter(({ outcome }) => outcome !== "skipped"),
        (each) => output.line(plain(`${each.item.subject} ${each.item.verdict}: ${each.outcome} (${why(each)})`)),
        { discard: true }
      )
  return yield* Stream.runForEach(
    slipway.watch({ every, strays: options.stray }),
    (watched) => watched._tag === "Began" ? begin : Effect.andThen(turns.add(watched), report(watched))
  )
}, Effect.scoped)

const run = Effect.fnUntraced(function*(options: Options) {
  const output = yield* Output
  yield* checkFlags(options, output.json)
  yield* Effect.provide(reapHome(options), Open.layer)
})

const reapHome = Effect.fnUntraced(function*(options: Options) {
  const output = yield* Output
  const status = yield* ExitCode.ExitStatus
  const slipway = yield* Slipway
  const paint: PaintCell = (text, row) => row === -1 ? output.paint("dim", text) : text
  if (options.watch) return yield* watch(options)
  const within = Option.isSome(options.plan) ? yield* readPlan(options.plan.value) : undefined
  const plan = yield* slipway.reapPlan
  if (options.dryRun) {
    const json = yield* Effect.orElseSucceed(encodePlan(plan), () => ({ home_id: plan.homeId, items: plan.items }))
    return yield* output.answer(json, plannedText(plan.items, paint))
  }
  const reaped = yield* slipway.reap(plan, { within, strays: options.stray })
  const strays = new Set(reaped.flatMap(({ item }) => item.verdict === "stray" ? [item.subject] : []))
  const missing = [...new Set(options.stray)].filter((id) => !strays.has(id))
  const left = reaped.filter(({ outcome }) => outcome === "left")
  for (const id of missing) yield* output.note(`slipway: ${plain(noStray(id))}`)
  yield* output.answer(toJson(reaped, missing), reapedText(reaped, within !== undefined, paint))
  if (left.length > 0) {
    yield* output.note(
      `slipway: ${left.length} of ${reaped.length} could not be reaped; ${
        left.length === 1 ? "it stays" : "they stay"
      } on record, and the next 'slipway reap' tries again`
    )
  }
  yield* status.conclude(left.length > 0 ? ExitCode.leftBehind : missing.length > 0 ? ExitCode.notFound : ExitCode.done)
})

export const reap = Command.make("reap", config, run).pipe(
  Command.withDescription(
    "Find and clean up what killed deployers, agents that ended unseen and interrupted stops have left behind. " +
      "It assesses each item again before it acts, and leaves alone what it can't judge.\n" +
      "The exit code is 6 when something could not be released; it is named, and tried again by the next reap."
  ),
  Command.withShortDescription("Clean up what was left behind"),
  Command.withExamples([
    { command: "slipway reap --dry-run", description: "See what would be done, and why" },
    {
      command: "slipway reap --dry-run --json > plan.json; slipway reap --plan plan.json",
      description: "Do what that plan says, and nothing else"
    },
    {
      command: "slipway reap --watch --every 30s",
      description: "Keep a home clean, and enforce limits of time, until a signal ends it"
    },
    {
      command: "slipway reap --watch --metrics-port 9464",
      description: "The same, and let Prometheus scrape http://127.0.0.1:9464/metrics"
    }
  ])
)
