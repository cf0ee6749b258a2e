/**
 * The first lines of the command: prints its version, or runs the program with what an earlier run has compiled of it.
 *
 * Signals that were ignored at the start are ignored again first of all, before the program is loaded.
 *
 * The version alone needs nothing of the program. If it can't be printed here, for any reason, the program is run: it
 * gives the same answer and handles the failure. With source maps enabled, Node loads the program itself, since Node
 * does not read the maps of scripts.
 */
import * as Fs from "node:fs"
import { createRequire, Module } from "node:module"
import * as Path from "node:path"
import { Script } from "node:vm"
import packageJson from "../package.json" with { type: "json" }
import * as AtStart from "./AtStart.ts"
import * as CodeCache from "./CodeCache.ts"

const isVersionTold = (args: ReadonlyArray<string>): boolean => {
  if (args.length !== 1 || (args[0] !== "--version" && args[0] !== "-v")) return false
  try {
    const line = `slipway ${packageJson.version}\n`
    return Fs.writeSync(1, line) === line.length
  } catch {
    return false
  }
}

/** A run that was cut short, by a signal or a mistake, has hardly used what another one will. */
const isWhole = (code: number): boolean => code < 10 && code !== 6

/** Runs the program as `require` would, which its chunks then find it by. */
const runProgram = (path: string, args: ReadonlyArray<string>): void => {
  const source = Fs.readFileSync(path)
  const entry = CodeCache.find(source, args, process.env)
  // The build leaves nothing but ASCII in it, which spares decoding.
  const text = `(function (exports, require, module, __filename, __dirname) {\n${source.toString("latin1")}\n})`
  const script = new Script(text, {
    filename: path,
    lineOffset: -1,
    ...(entry?.code === undefined ? {} : { cachedData: entry.code })
  })
  const found = entry !== undefined && script.cachedDataRejected === true
    ? { ...entry, code: undefined, runs: 0 }
    : entry
  if (found !== undefined && CodeCache.isWanting(found)) {
    process.on("exit", (code) => {
      if (isWhole(code)) CodeCache.keep(found, () => script.createCachedData())
    })
  }
  const require = createRequire(path)
  const module = new Module(path)
  module.filename = path
  require.cache[path] = module
  script.runInThisContext()(module.exports, require, module, path, Path.dirname(path))
  module.loaded = true
}

// Node has set them back to what they do by default. Nothing listens to them later either.
for (const signal of AtStart.ignored) process.on(signal, () => {})

const args = process.argv.slice(2)
if (!isVersionTold(args)) {
  const path = Path.join(import.meta.dirname, "slipway.cjs")
  if (process.sourceMapsEnabled) createRequire(path)(path)
  else runProgram(path, args)
}
