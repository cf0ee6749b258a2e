/**
 * Node's own `node:sqlite`, loaded when a registry is first opened and not before. Node 22 prints an
 * `ExperimentalWarning` when the module is loaded; that one is suppressed. Every other warning, also of the program
 * that uses this library, is printed as usual: `process.emitWarning` is replaced only while the module loads, which is
 * one synchronous call.
 */
import type * as Sqlite from "node:sqlite"

const isExperimental = (type: unknown): boolean =>
  typeof type === "string"
    ? type === "ExperimentalWarning"
    : typeof type === "object" && type !== null && "type" in type && type.type === "ExperimentalWarning"

const load = (): typeof Sqlite => {
  const { emitWarning } = process
  const others = (...args: ReadonlyArray<unknown>): void => {
    if (!isExperimental(args[1])) Reflect.apply(emitWarning, process, args)
  }
  process.emitWarning = others
  try {
    return process.getBuiltinModule("node:sqlite")
  } finally {
    process.emitWarning = emitWarning
  }
}

let loaded: typeof Sqlite | undefined

/** The module; may throw where this Node was built without it. */
export const sqlite = (): typeof Sqlite => loaded ??= load()
