/**
 * Descriptions of fields, for those who read a document or fill in a request: they stand in the docs, in the help of
 * flags, and in the parameters of tools.
 */
import { Schema } from "effect"

/** The schema with a description. */
export const described = <S extends Schema.Top>(schema: S, description: string): S["Rebuild"] =>
  schema.annotate({ description })

/** The description that `described` gave. */
export const descriptionOf = (schema: Schema.Constraint): string => {
  const description = Schema.resolveAnnotations(schema)?.["description"]
  return typeof description === "string" ? description : ""
}
