/**
 * Type checks everything, then runs every example. An unpatched compiler knows none of the Effect rules and passes
 * silently, so the patch is asserted first.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, readdirSync, rmSync } from "node:fs"
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
const files = readdirSync(examples).filter((name) => /\.(ts|sh)$/.test(name)).toSorted()
// `slipway` is the command as it was built last.
const path = [join(root, "node_modules", ".bin"), process.env["PATH"]].join(":")
for (const file of files) {
  const directory = mkdtempSync(join(tmpdir(), "slipway-example-"))
  const home = join(directory, "home")
  console.log(`example ${file}`)
  const [command, args] = file.endsWith(".ts") ? [process.execPath, ["--conditions=source"]] : ["sh", []]
  const passed = run(command, [...args, join(examples, file)], {
    ...process.env,
    PATH: path,
    TMPDIR: directory,
    TMUX_TMPDIR: directory,
    SLIPWAY_HOME: home
  })
  spawnSync("tmux", ["-S", join(home, "tmux.sock"), "kill-server"])
  rmSync(directory, { recursive: true, force: true })
  if (!passed) fail(`example ${file} failed`)
}
console.log(`check: types ok with ${compiler}, ${files.length} examples ran`)
