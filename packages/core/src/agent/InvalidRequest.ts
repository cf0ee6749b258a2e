/**
 * Why input from outside can't be used, field by field.
 *
 * An issue names its place and what is expected there, and never the value: a prompt or a variable may be a secret.
 */
import { Sentence } from "@slipway/tmux"
import { Array as Arr, Duration, Effect, Predicate, Schema, type SchemaAST, type SchemaIssue } from "effect"
import { durationWithin, longest } from "../machine/Durations.ts"

/** One thing that is wrong with a request. */
export const RequestIssue = Schema.Struct({
  /** The field, from the outermost name inwards; empty for the request itself. */
  path: Schema.Array(Schema.String),
  /** What is expected there, without the value that was given. */
  expected: Schema.String
})
export type RequestIssue = typeof RequestIssue.Type

/** The issues as one sentence, each with the place that `nameOf` gives it. */
export const requestSentence = (
  issues: ReadonlyArray<RequestIssue>,
  nameOf: (path: ReadonlyArray<string>) => string = (path) => path.join(".")
): string =>
  issues.map(({ expected, path }) => `${path.length === 0 ? "" : `${nameOf(path)}: `}expected ${expected}`).join("; ")

/** The request is not one that can be carried out; nothing was made. */
export class InvalidRequest extends Schema.TaggedError<InvalidRequest>()("InvalidRequest", {
  issues: Schema.NonEmptyArray(RequestIssue)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the request is not valid: ${requestSentence(this.issues)}`
  }
}

const annotated = (annotations: Schema.Annotations.Annotations | undefined): string | undefined => {
  const { expected, message } = annotations ?? {}
  return Predicate.isString(message) ? message : Predicate.isString(expected) ? expected : undefined
}

const kinds: Partial<Record<SchemaAST.AST["_tag"], string>> = {
  Arrays: "a list",
  Boolean: "true or false",
  Number: "a number",
  Objects: "an object",
  String: "text"
}

const described = (ast: SchemaAST.AST): string => {
  const known = annotated(ast.annotations) ?? kinds[ast._tag]
  if (known !== undefined) return known
  if (ast._tag === "Literal") return JSON.stringify(String(ast.literal))
  return ast._tag === "Union" ? [...new Set(ast.types.map(described))].join(" or ") : "another value"
}

const walk = (
  issue: SchemaIssue.Issue,
  path: ReadonlyArray<string>,
  outer?: string
): ReadonlyArray<RequestIssue> => {
  const leaf = (expected: string) => [{ path, expected: outer ?? expected }]
  switch (issue._tag) {
    case "Filter":
      return walk(issue.issue, path, outer ?? annotated(issue.filter.annotations))
    case "Encoding":
      return walk(issue.issue, path, outer)
    case "Pointer":
      return walk(issue.issue, [...path, ...issue.path.map(String)], outer)
    case "Composite":
      return issue.issues.flatMap((inner) => walk(inner, path, outer))
    case "AnyOf":
      return issue.issues.length === 0
        ? leaf(described(issue.ast))
        : issue.issues.flatMap((inner) => walk(inner, path, outer))
    case "InvalidType":
      return leaf(described(issue.ast))
    case "InvalidValue":
      return leaf(annotated(issue.annotations) ?? "another value")
    case "MissingKey":
      return leaf("a value")
    case "UnexpectedKey":
      return leaf("no such field")
    case "Forbidden":
    case "OneOf":
      return leaf("another value")
  }
}

/** The issues of input that did not decode. */
export const requestIssues = ({ issue }: Schema.SchemaError): Arr.NonEmptyReadonlyArray<RequestIssue> => {
  const issues = walk(issue, [])
  return Arr.isReadonlyArrayNonEmpty(issues) ? issues : [{ path: [], expected: "another request" }]
}

/** The failure of input that did not decode. */
export const invalid = (error: Schema.SchemaError): InvalidRequest =>
  new InvalidRequest({ issues: requestIssues(error) })

/** A duration that a caller gave for a field, in whatever form, of at most a year. */
export const durationOf = Effect.fnUntraced(function*(field: string, input: Duration.Input) {
  const decode = Schema.decodeUnknownEffect(
    Schema.Struct({ [field]: durationWithin({ minimum: Duration.zero, maximum: longest }) })
  )
  const { [field]: duration = Duration.zero } = yield* Effect.mapError(decode({ [field]: input }), invalid)
  return duration
})
