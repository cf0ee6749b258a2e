/**
 * Durations at the door of the library: every form that Effect takes (`Duration.Input`), decoded once.
 */
import { Duration, Option, Schema, SchemaGetter } from "effect"

/** The longest wait or run that can be asked for, and the longest time ago. */
export const longest = Duration.days(366)

const units = ["nano", "micro", "milli", "second", "minute", "hour", "day", "week"] as const

// Effect takes what is not a number for a duration of nothing.
const Amount = Schema.Number.check(Schema.makeFilter((amount) => !Number.isNaN(amount)))

const hasForm = Schema.is(Schema.Union([
  Schema.Duration,
  Amount,
  Schema.BigInt,
  Schema.Tuple([Amount, Amount]),
  Schema.TemplateLiteral([Amount, " ", Schema.Literals(units), Schema.Literals(["", "s"])]),
  Schema.Literals(["Infinity", "-Infinity"]),
  Schema.Struct({
    weeks: Schema.optional(Amount),
    days: Schema.optional(Amount),
    hours: Schema.optional(Amount),
    minutes: Schema.optional(Amount),
    seconds: Schema.optional(Amount),
    milliseconds: Schema.optional(Amount),
    microseconds: Schema.optional(Amount),
    nanoseconds: Schema.optional(Amount)
  })
]))

const isInput = (input: unknown): input is Duration.Input => hasForm(input) && Option.isSome(Duration.fromInput(input))

const Input = Schema.declare(isInput, { expected: "a duration, such as \"30 seconds\" or a number of milliseconds" })

/** A duration within bounds, from any form that Effect takes. */
export const durationWithin = (bounds: { readonly minimum: Duration.Duration; readonly maximum: Duration.Duration }) =>
  Input.pipe(
    Schema.decodeTo(Schema.Duration, {
      decode: SchemaGetter.transform(Duration.fromInputUnsafe),
      encode: SchemaGetter.passthroughSubtype()
    })
  ).check(Schema.makeFilter((duration) =>
    Duration.between(duration, bounds) ||
    `a duration between ${Duration.format(bounds.minimum)} and ${Duration.format(bounds.maximum)}`
  ))
