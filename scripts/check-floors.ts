/**
 * Compares the imports of each package with the floors that docs/ARCHITECTURE.md draws: an arrow only ever points down,
 * or to the same floor, and no files import each other in a circle.
 *
 * A block of that document whose first line is "packages/NAME/src" holds one floor per line, the highest first. A line
 * begins with the floor's files and folders; what comes behind two spaces is for people. A file belongs to the longest
 * name that fits it.
 */
import { globSync, readFileSync } from "node:fs"
import { dirname, join, normalize } from "node:path"

const root = join(import.meta.dirname, "..")
const document = join("docs", "ARCHITECTURE.md")

interface Floors {
  readonly source: string
  readonly floors: ReadonlyArray<ReadonlyArray<string>>
}

/** The floors in a document. */
export const parse = (text: string): ReadonlyArray<Floors> =>
  [...text.matchAll(/^```\n(packages\/\S+)\n([\s\S]*?)^```$/gm)].map(([, source = "", body = ""]) => ({
    source,
    floors: body.trimEnd().split("\n").map((line) => (line.split(/ {2,}/)[0] ?? "").split(" "))
  }))

/** The number of a file's floor, the highest being 0. */
const floorOf = (floors: Floors["floors"], file: string): number | undefined => {
  const fitting = floors.flatMap((names, floor) =>
    names.filter((name) => name === file || (name.endsWith("/") && file.startsWith(name))).map((name) => ({
      floor,
      name
    }))
  )
  return fitting.toSorted((a, b) => b.name.length - a.name.length)[0]?.floor
}

/** The files of its own package that a module imports, from the folder that the names in `files` begin at. */
const importsOf = (file: string, text: string): ReadonlyArray<string> =>
  [...text.matchAll(/(?:from|import\() ?"(\.[^"]+\.ts)"/g)].map(([, path = ""]) => normalize(join(dirname(file), path)))

/** What is wrong with the modules of a package; each by its path and its text. */
export const problemsOf = (floors: Floors["floors"], modules: ReadonlyMap<string, string>): ReadonlyArray<string> => {
  const problems: Array<string> = []
  const arrows = new Map([...modules].map(([file, text]) => [file, importsOf(file, text)]))
  for (const [file, imports] of arrows) {
    const own = floorOf(floors, file)
    if (own === undefined) problems.push(`${file} is on no floor`)
    for (const target of imports) {
      const other = floorOf(floors, target)
      if (own !== undefined && other !== undefined && other < own) {
        problems.push(`${file} imports ${target}, which is above it`)
      }
    }
  }
  // What no import of the rest leads to can't be in a circle; what stays, stays since it is in one, or leads to one.
  let rest = [...arrows.keys()]
  for (let before = -1; before !== rest.length;) {
    before = rest.length
    const names = new Set(rest)
    rest = rest.filter((file) => arrows.get(file)?.some((target) => names.has(target)) === true)
  }
  if (rest.length > 0) problems.push(`${rest.join(", ")} import each other in a circle`)
  for (const name of floors.flat()) {
    const isThere = [...modules.keys()].some((file) => file === name || (name.endsWith("/") && file.startsWith(name)))
    if (!isThere) problems.push(`${name} stands on a floor and is no file or folder`)
  }
  return problems
}

if (import.meta.main) {
  const drawn = parse(readFileSync(join(root, document), "utf8"))
  const packages = globSync("packages/*/src", { cwd: root })
  const problems = packages.flatMap((source) => {
    const own = drawn.find((floors) => floors.source === source)
    if (own === undefined) return [`${document} draws no floors of ${source}`]
    const files = globSync("**/*.ts", { cwd: join(root, source) })
    const modules = new Map(files.map((file) => [file, readFileSync(join(root, source, file), "utf8")]))
    return problemsOf(own.floors, modules).map((problem) => `${source}: ${problem}`)
  })
  for (const problem of problems) console.error(`check-floors: ${problem}`)
  if (problems.length > 0) process.exit(1)
  console.log(`check-floors: the imports of ${packages.length} packages point down`)
}
