/**
 * Checks that the snippets in README.md and docs/ are true. `ts` blocks compile, and `json` blocks parse. `console`
 * blocks print what they show when they are run. `sh` blocks stand in a file of examples/ word for word.
 *
 * A `console` block has commands behind `$ ` and what they print below. All blocks of one page run in their order, in
 * one shell's directory, with a home and a tmux server of their own. The stand-ins of scripts/docs/ are first on PATH,
 * so that no real agent is called. Ids, times and pids vary from run to run: see `Console.ts`.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import * as Console from "./docs/Console.ts"
import { type Block, blocksOf } from "./docs/Markdown.ts"

const root = Path.join(import.meta.dirname, "..")
const problems: Array<string> = []
const problem = (block: Block, text: string) => problems.push(`${block.file}:${block.line}: ${text}`)

const pages = [
  "README.md",
  ...Fs.globSync("docs/*.md", { cwd: root }).toSorted(),
  ...Fs.globSync("packages/*/README.md", { cwd: root }).toSorted()
]
const blocks = pages.flatMap((file) => blocksOf(file, Fs.readFileSync(Path.join(root, file), "utf8")))

/** All `ts` blocks in one run of the compiler. What a page leaves out stands in a comment of its fence: `ts with NAME`. */
const checkTypes = (): void => {
  const directory = Path.join(root, "node_modules", ".cache", "docs-snippets")
  Fs.rmSync(directory, { recursive: true, force: true })
  Fs.mkdirSync(directory, { recursive: true })
  const written = new Map<string, Block>()
  for (const [index, block] of blocks.filter(({ language }) => language === "ts").entries()) {
    const name = `snippet-${index}.ts`
    const preludes = block.words.slice(1).map((word) =>
      Fs.readFileSync(Path.join(root, "scripts", "docs", `${word}.ts.txt`), "utf8")
    )
    Fs.writeFileSync(Path.join(directory, name), [...preludes, block.text, "export {}", ""].join("\n"))
    written.set(name, block)
  }
  const options = {
    noEmit: true,
    noUnusedLocals: false,
    rewriteRelativeImportExtensions: false,
    allowImportingTsExtensions: true,
    incremental: false
  }
  Fs.writeFileSync(
    Path.join(directory, "tsconfig.json"),
    JSON.stringify({
      extends: "../../../tsconfig.base.json",
      compilerOptions: { ...options, plugins: [] },
      include: ["*.ts"]
    })
  )
  const { status, stdout } = spawnSync("tsc", ["-p", directory], { encoding: "utf8" })
  if (status === 0) return
  for (const line of stdout.split("\n").filter((line) => line !== "")) {
    const block = written.get(/snippet-\d+\.ts/.exec(line)?.[0] ?? "")
    if (block === undefined) problems.push(line)
    else problem(block, line)
  }
}

const checkShell = (block: Block): void => {
  const examples = Fs.globSync("examples/**/*.sh", { cwd: root })
  const stands = examples.some((path) => Fs.readFileSync(Path.join(root, path), "utf8").includes(block.text.trim()))
  if (!stands) problem(block, "no file in examples/ has these lines, so that nothing runs them")
}

const checkJson = (block: Block): void => {
  try {
    JSON.parse(block.text)
  } catch (error) {
    problem(block, String(error))
  }
}

const runPage = (file: string): void => {
  const ofPage = blocks.filter((block) => block.file === file && block.language === "console")
  if (ofPage.length === 0) return
  const directory = Fs.realpathSync(Fs.mkdtempSync(Path.join(tmpdir(), "slipway-docs-")))
  const bin = Path.join(root, "scripts", "docs", "bin")
  try {
    const session = Console.open(directory, [bin, Path.join(root, "node_modules", ".bin")])
    for (const block of ofPage) for (const found of Console.run(session, block.text)) problem(block, found)
    for (const found of Console.close(session)) problems.push(`${file}: ${found}`)
  } finally {
    Fs.rmSync(directory, { recursive: true, force: true })
  }
}

checkTypes()
for (const block of blocks) {
  if (block.language === "sh") checkShell(block)
  if (block.language === "json") checkJson(block)
}
for (const page of pages) runPage(page)
for (const line of problems) console.error(`check-docs: ${line}`)
if (problems.length > 0) process.exit(1)
const count = (language: string) => blocks.filter((block) => block.language === language).length
console.log(
  `check-docs: ${count("ts")} snippets compile, ${count("console")} sessions and ${count("sh")} scripts are true`
)
