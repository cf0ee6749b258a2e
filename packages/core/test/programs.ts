/**
 * Programs of the tests as single files: a module with all that it imports, bundled once for a state of the sources.
 *
 * A child that loads Slipway and Effect module by module needs two seconds of a slow processor before its first line,
 * and the suite starts hundreds. The code that runs is the same.
 */
import { createHash, randomUUID } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { rolldown } from "rolldown"

const root = Path.join(import.meta.dirname, "..", "..", "..")
const cache = Path.join(root, "node_modules", ".cache", "slipway-tests")

/** A name for the sources as they are now: what was bundled of others is not used. */
const stateOf = (directories: ReadonlyArray<string>): string => {
  const hash = createHash("sha256")
  for (const path of Fs.globSync(directories.map((directory) => `${directory}/**/*.ts`), { cwd: root }).toSorted()) {
    const { mtimeMs, size } = Fs.statSync(Path.join(root, path))
    hash.update(`${path} ${mtimeMs} ${size}\n`)
  }
  return hash.digest("hex").slice(0, 16)
}

let state: string | undefined
const found = new Map<string, Promise<string>>()

const build = async (name: string, make: (directory: string) => Promise<void>): Promise<string> => {
  state ??= stateOf(["packages/*/src", "packages/*/test"])
  const directory = Path.join(cache, state, name)
  if (Fs.existsSync(directory)) return directory
  // Under its name it is whole, though two workers may make it at once.
  const draft = `${directory}.${randomUUID()}`
  Fs.mkdirSync(draft, { recursive: true })
  await make(draft)
  try {
    Fs.renameSync(draft, directory)
  } catch (error) {
    if (!Fs.existsSync(directory)) throw error
    Fs.rmSync(draft, { recursive: true })
  }
  return directory
}

/** A directory that `make` fills once for a state of the sources. */
export const once = (name: string, make: (directory: string) => Promise<void>): Promise<string> => {
  const directory = found.get(name) ?? build(name, make)
  found.set(name, directory)
  return directory
}

const bundle = async (entry: string, directory: string, banner: string): Promise<void> => {
  const made = await rolldown({
    cwd: root,
    input: entry,
    platform: "node",
    resolve: { conditionNames: ["source", "import", "node", "default"] }
  })
  const { output: [{ code }] } = await made.generate({ format: "esm", codeSplitting: false })
  await made.close()
  Fs.writeFileSync(Path.join(directory, "program.mjs"), `${banner}${code}`)
}

const program = async (directory: Promise<string>): Promise<string> => Path.join(await directory, "program.mjs")

/** The bundle of a module, by its path. */
export const ofModule = (path: string): Promise<string> =>
  program(once(Path.basename(path, ".ts"), (directory) => bundle(path, directory, "")))

/** The bundle of a program that is given as text, with its arguments where `node -e` has them. */
export const ofText = (text: string): Promise<string> =>
  program(once(createHash("sha256").update(text).digest("hex").slice(0, 16), (directory) => {
    const entry = Path.join(directory, "text.ts")
    Fs.writeFileSync(entry, text)
    return bundle(entry, directory, "process.argv.splice(1, 1);\n")
  }))
