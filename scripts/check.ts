/**
 * Type checks everything, then runs every example. An unpatched compiler knows none of the Effect rules and passes
 * silently, so the patch is asserted first.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")

const run = (command: string, args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = process.env): boolean =>
  spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"], env, timeout: 120_000 }).status === 0

const fail = (message: string): never => {
  console.error(`check: ${message}`)
  process.exit(1)
}

const compiler = execFileSync("tsc", ["--version"], { cwd: root, encoding: "utf8" }).trim()
if (!compiler.includes("effect-tsgo")) {
  fail(`tsc is "${compiler}", without the Effect rules. Run "npx effect-tsgo patch" and try again.`)
}
if (!run("tsc", ["-b"])) fail("the type check failed")

const examples = join(root, "examples")
const files = existsSync(examples) ? readdirSync(examples).filter((name) => name.endsWith(".ts")).toSorted() : []
for (const file of files) {
  const home = mkdtempSync(join(tmpdir(), "slipway-example-"))
  console.log(`example ${file}`)
  const passed = run(process.execPath, ["--conditions=source", join(examples, file)], {
    ...process.env,
    SLIPWAY_HOME: home
  })
  rmSync(home, { recursive: true, force: true })
  if (!passed) fail(`example ${file} failed`)
}
console.log(`check: types ok with ${compiler}, ${files.length} examples ran`)
