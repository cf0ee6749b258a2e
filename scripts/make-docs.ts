/**
 * Puts what is made from the code into README.md and docs/ (`npm run docs`); with `--check` it only says what is not as it
 * would be made. See `docs/Reference.ts`.
 */
import * as Fs from "node:fs"
import * as Path from "node:path"
import { filled, parts } from "./docs/Reference.ts"

const root = Path.join(import.meta.dirname, "..")
const isCheck = process.argv.includes("--check")
const made = parts()
const problems: Array<string> = []
const used = new Set<string>()

for (const page of ["README.md", ...Fs.globSync("docs/*.md", { cwd: root }).toSorted()]) {
  const path = Path.join(root, page)
  const before = Fs.readFileSync(path, "utf8")
  const { names, text, unknown } = filled(before, made)
  for (const name of names) used.add(name)
  for (const name of unknown) problems.push(`${page}: nothing is made for ${JSON.stringify(name)}`)
  if (text === before) continue
  if (isCheck) problems.push(`${page} is not as it would be made; run 'npm run docs'`)
  else Fs.writeFileSync(path, text)
}
for (const name of made.keys()) if (!used.has(name)) problems.push(`no page has a place for ${JSON.stringify(name)}`)
for (const problem of problems) console.error(`make-docs: ${problem}`)
if (problems.length > 0) process.exit(1)
console.log(`make-docs: ${used.size} parts of the docs are as the code makes them`)
