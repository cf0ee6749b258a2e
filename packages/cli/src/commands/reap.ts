/**
 * `slipway reap`: finds what killed deployers, agents that ended unseen and cut-off stops have left, and makes it go away.
 *
 * `--dry-run` prints the very plan that would be applied; `--plan` acts only on what is in that plan and in a fresh one. What
 * is unknown is told and left, and what bears our id without a row only goes when it is named by `--stray`.
 */
import { currentCaller, type Item, type Reaped, ReapPlan, Slipway } from "@slipway/core"
import { Duration, Effect, FileSystem, Option, Schema } from "effect"
import * as Path from "node:path"
import { Command, duration, Flag, text, toggle } from "../Cli.ts"
import { UsageError } from "../Errors.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output, plain } from "../Output.ts"
import * as Text from "../Text.ts"

const config = {
  dryRun: toggle("dry-run", "Only print the plan"),
  plan: text("plan", "FILE", "Act only on what is also in this plan, as --dry-run --json printed it").pipe(
    Flag.optional
  ),
  stray: text("stray", "ID", "Remove what bears this id and has no row, repeatable; otherwise it is only reported")
    .pipe(
      Flag.atLeast(0)
    ),
  watch: toggle("watch", "Go on until a signal ends it, and reap again and again"),
  every: duration("every", "With --watch: how long to pause between two reaps (default: 30s)").pipe(
    Flag.withDefault(30_000)
  )
}

type Options = Command.Command.Config.Infer<typeof config>

const decodePlan = Schema.decodeUnknownEffect(Schema.fromJsonString(ReapPlan))
const encodePlan = Schema.encodeEffect(ReapPlan)

const readPlan = Effect.fnUntraced(function*(file: string) {
  const { cwd } = yield* currentCaller
  const fileSystem = yield* FileSystem.FileSystem
  const unusable = () =>
    new UsageError({
      problem: `${JSON.stringify(file)} is not a plan that can be read`,
      hint: "make one with 'slipway reap --dry-run --json'"
    })
  const content = yield* Effect.mapError(fileSystem.readFileString(Path.resolve(cwd, file)), unusable)
  return yield* Effect.mapError(decodePlan(content), unusable)
})

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

const reapedText = (reaped: ReadonlyArray<Reaped>, paint: PaintCell): string =>
  reaped.length === 0
    ? "There was nothing to reap."
    : Text.table(
      ["AGENT", "VERDICT", "OUTCOME", "STATUS", ""],
      reaped.map(({ item, outcome, problems, status }) => [
        item.subject,
        item.verdict,
        outcome,
        status ?? "-",
        outcome === "done" ? "" : plain(problems.join("; ") || item.evidence)
      ]),
      paint
    )

const toJson = (reaped: ReadonlyArray<Reaped>) => ({
  success: reaped.every(({ outcome }) => outcome !== "left"),
  items: reaped.map(({ item, outcome, problems, status }) => ({ ...item, outcome, status_after: status, problems }))
})

const once = Effect.fnUntraced(function*(options: Options) {
  const slipway = yield* Slipway
  const within = Option.isSome(options.plan) ? yield* readPlan(options.plan.value) : undefined
  return yield* slipway.reap(yield* slipway.reapPlan, { within, strays: options.stray })
})

/** Reaps until it is interrupted; a reap that fails is told, and tried again at its next turn. */
const watch = Effect.fnUntraced(function*(options: Options) {
  const output = yield* Output
  const every = Duration.millis(options.every)
  yield* output.note(`slipway: reaping every ${Duration.format(every)} until a signal ends it`)
  const turn = Effect.flatMap(once(options), (reaped) =>
    Effect.forEach(
      reaped.filter(({ outcome }) => outcome !== "skipped"),
      ({ item, outcome, problems }) =>
        output.line(
          `${item.subject} ${item.verdict}: ${outcome}${problems.length === 0 ? "" : `, ${problems.join("; ")}`}`
        )
    )).pipe(
      Effect.catch((error) => output.note(`slipway: this reap failed, and the next one tries again: ${error.message}`))
    )
  return yield* Effect.forever(Effect.andThen(turn, Effect.sleep(every)))
})

const run = Effect.fnUntraced(function*(options: Options) {
  const output = yield* Output
  const status = yield* ExitCode.ExitStatus
  const slipway = yield* Slipway
  const paint: PaintCell = (text, row) => row === -1 ? output.paint("dim", text) : text
  if (options.watch && (output.json || options.dryRun)) {
    return yield* new UsageError({
      problem: `--watch goes on, and ${output.json ? "--json is one value" : "--dry-run does nothing"}`,
      hint: "leave one of them out"
    })
  }
  if (options.dryRun) {
    const plan = yield* slipway.reapPlan
    const json = yield* Effect.orElseSucceed(encodePlan(plan), () => ({ homeId: plan.homeId, items: plan.items }))
    return yield* output.answer(json, plannedText(plan.items, paint))
  }
  if (options.watch) return yield* slipway.whileReaping(watch(options))
  const reaped = yield* once(options)
  yield* output.answer(toJson(reaped), reapedText(reaped, paint))
  yield* status.conclude(reaped.some(({ outcome }) => outcome === "left") ? ExitCode.leftBehind : ExitCode.done)
}, Effect.provide(Open.layer))

export const reap = Command.make("reap", config, run).pipe(
  Command.withDescription(
    "Find what killed deployers, agents that ended unseen and cut-off stops have left behind, and make it go away. " +
      "Each item is judged again when it is acted on, and what can't be told is left alone."
  ),
  Command.withShortDescription("Make what was left behind go away"),
  Command.withExamples([
    { command: "slipway reap --dry-run", description: "See what would be done, and why" },
    {
      command: "slipway reap --dry-run --json > plan.json; slipway reap --plan plan.json",
      description: "Look before it acts"
    },
    { command: "slipway reap --watch --every 30s", description: "Keep a machine clean" }
  ])
)
