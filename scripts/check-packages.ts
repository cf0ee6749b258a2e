/**
 * Checks the packed packages, and uses them as a stranger would, who has nothing of this project.
 *
 * Each package must have its README, the licence and keywords, and satisfy publint and attw. In an empty project the types
 * of the libraries and the code in their READMEs must hold under `nodenext` and under `bundler`, and the libraries must
 * load. There, without tmux, the tests of the example's orchestrator must pass on the test kit. The command must run when it is installed in a project or globally, and through npx.
 */
import { execFileSync } from "node:child_process"
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { publint } from "publint"
import { formatMessage } from "publint/utils"
import { blocksOf } from "./docs/Markdown.ts"

const root = join(import.meta.dirname, "..")
const names = ["tmux", "core", "cli"]
const libraries = ["tmux", "core"]

const runWith = (env: NodeJS.ProcessEnv) => (cwd: string, command: string, ...args: ReadonlyArray<string>): string =>
  execFileSync(command, args, { cwd, env, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], timeout: 180_000 })
const run = runWith(process.env)

const check = (holds: boolean, message: string): void => {
  if (!holds) throw new Error(message)
}

type Manifest = {
  readonly version: string
  readonly engines: { readonly node: string }
  readonly keywords?: ReadonlyArray<string>
  readonly dependencies?: Record<string, string>
  readonly devDependencies: Record<string, string>
}
const manifest = (path: string): Manifest => JSON.parse(readFileSync(join(root, path, "package.json"), "utf8"))

const { devDependencies: pinned, engines, version } = manifest(".")

const checkManifest = (name: string): void => {
  const own = manifest(`packages/${name}`)
  check(own.version === version, `packages/${name} is at ${own.version} and the project at ${version}`)
  check(own.engines.node === engines.node, `packages/${name} asks for Node ${own.engines.node}, not ${engines.node}`)
  check((own.keywords ?? []).length > 0, `packages/${name} has no keywords`)
  for (const [dependency, range] of Object.entries(own.dependencies ?? {})) {
    if (!dependency.startsWith("@slipway/")) continue
    check(range === version, `packages/${name} depends on ${dependency} ${range}; it must be exactly ${version}`)
  }
}

const checkTarball = async (name: string, tarball: string): Promise<void> => {
  check(existsSync(tarball), `npm pack made no ${tarball}`)
  const listed = run(root, "tar", "-tzf", tarball)
  const wanted = name === "cli" ? ["bin/slipway.mjs", "dist/bin.mjs"] : ["dist/index.js", "dist/index.d.ts"]
  for (const file of ["README.md", "LICENSE", ...wanted]) {
    check(listed.includes(`package/${file}\n`), `@slipway/${name} is packed without ${file}`)
  }
  check(!/\/test\/|tsbuildinfo/.test(listed), `@slipway/${name} is packed with tests or build state:\n${listed}`)
  const licence = run(root, "tar", "-xzOf", tarball, "package/LICENSE")
  check(
    licence === readFileSync(join(root, "LICENSE"), "utf8"),
    `@slipway/${name} has another LICENSE than the project`
  )

  const packed = new Uint8Array(readFileSync(tarball)).buffer
  const { messages, pkg } = await publint({ strict: true, pack: { tarball: packed } })
  // The command starts in sh, which hands on to Node what Node would take for its own: publint only knows Node's line.
  const told = messages.filter(({ code }) => !(name === "cli" && code === "BIN_FILE_NOT_EXECUTABLE"))
  check(
    told.length === 0,
    `publint on @slipway/${name}:\n${told.map((message) => formatMessage(message, pkg)).join("\n")}`
  )
  if (libraries.includes(name)) run(root, "attw", "--profile", "esm-only", tarball)
}

/** The blocks of TypeScript in a package's README. */
const snippets = (name: string): ReadonlyArray<string> => {
  const path = join("packages", name, "README.md")
  return blocksOf(path, readFileSync(join(root, path), "utf8")).filter(({ language }) => language === "ts")
    .map(({ text }) => text)
}

/** Both libraries in a project of their user: types, code of the READMEs, loading, and the command beside them. */
const useLibraries = (project: string, tarballs: Record<string, string>): void => {
  mkdirSync(project)
  const dependencies = {
    ...tarballs,
    "@effect/platform-node": pinned["@effect/platform-node"],
    "@effect/vitest": pinned["@effect/vitest"],
    "@types/node": pinned["@types/node"],
    effect: pinned["effect"],
    vitest: pinned["vitest"]
  }
  writeFileSync(join(project, "package.json"), JSON.stringify({ private: true, type: "module", dependencies }))
  writeFileSync(
    join(project, "use.ts"),
    `import * as Core from "@slipway/core"
import * as Testing from "@slipway/core/testing"
import * as Tmux from "@slipway/tmux"

// With a missing declaration file each would be any, and so would pass as a number.
type IsAny<A> = 0 extends 1 & A ? true : false
const typed: [IsAny<typeof Core>, IsAny<typeof Tmux>, IsAny<typeof Testing>] = [false, false, false]
console.log(typed.length, Object.keys(Core).length > 0, Object.keys(Tmux).length > 0)
`
  )
  const orchestrator = readdirSync(join(root, "examples", "orchestrator"))
  cpSync(join(root, "examples", "orchestrator"), join(project, "orchestrator"), { recursive: true })
  const files = ["use.ts", ...orchestrator.map((name) => join("orchestrator", name))]
  for (const name of libraries) {
    const code = snippets(name)
    check(code.length > 0, `packages/${name}/README.md shows no code`)
    for (const [index, text] of code.entries()) {
      files.push(`readme-${name}-${index}.ts`)
      writeFileSync(join(project, `readme-${name}-${index}.ts`), text)
    }
  }
  run(project, "npm", "install", "--silent", "--prefer-offline", "--no-audit", "--no-fund", "--no-package-lock")
  for (const [module, moduleResolution] of [["nodenext", "nodenext"], ["preserve", "bundler"]]) {
    const compilerOptions = {
      strict: true,
      exactOptionalPropertyTypes: true,
      module,
      moduleResolution,
      target: "es2024",
      types: ["node"],
      skipLibCheck: true,
      allowImportingTsExtensions: true,
      noEmit: true
    }
    writeFileSync(join(project, `${moduleResolution}.json`), JSON.stringify({ compilerOptions, files }))
    run(project, "tsc", "-p", `${moduleResolution}.json`)
  }
  const loaded = run(project, "node", "use.ts").trim()
  check(loaded === "3 true true", `the packed libraries load without exports: ${loaded}`)
  // Only Node is there: whatever the tests of the orchestrator run on, it is not tmux.
  const alone = runWith({ PATH: dirname(process.execPath), NO_COLOR: "1" })
  const tested = alone(project, process.execPath, join("node_modules", "vitest", "vitest.mjs"), "run")
  check(/Tests +[1-9]\d* passed/.test(tested), `the tests of the orchestrator say:\n${tested}`)
  checkCommand("in a project", run(project, join("node_modules", ".bin", "slipway"), "--version"))
}

const checkCommand = (where: string, told: string): void =>
  check(told === `slipway ${version}\n`, `the command ${where} says "${told}" and not "slipway ${version}"`)

/** The command alone, with an npm and a home of its own, so that nothing of this machine can stand in for the tarball. */
const useCommand = (directory: string, tarball: string): void => {
  const prefix = join(directory, "prefix")
  const elsewhere = join(directory, "elsewhere")
  mkdirSync(elsewhere)
  const alone = runWith({
    ...process.env,
    HOME: elsewhere,
    SLIPWAY_HOME: join(directory, "home"),
    npm_config_cache: join(directory, "cache"),
    npm_config_prefix: prefix
  })
  alone(elsewhere, "npm", "install", "--global", "--silent", "--no-audit", "--no-fund", tarball)
  const command = join(prefix, "bin", "slipway")
  checkCommand("installed globally", alone(elsewhere, command, "--version"))
  const agents = JSON.parse(alone(elsewhere, command, "ps", "--json"))
  check(Array.isArray(agents.agents), "the command installed globally can't list agents")
  alone(elsewhere, "npm", "uninstall", "--global", "--silent", "@slipway/cli")

  checkCommand("through npx", alone(elsewhere, "npx", "--yes", "--package", tarball, "--", "slipway", "--version"))
  const found = alone(elsewhere, "npx", "--yes", "--package", tarball, "--", "sh", "-c", "command -v slipway")
  check(found.startsWith(join(directory, "cache")), `npx runs ${found}, which is not of the tarball`)
}

const directory = mkdtempSync(join(tmpdir(), "slipway-packages-"))
try {
  for (const name of names) checkManifest(name)
  const workspaces = names.map((name) => `--workspace=packages/${name}`)
  run(root, "npm", "pack", "--silent", "--pack-destination", directory, ...workspaces)
  const tarball = (name: string): string => join(directory, `slipway-${name}-${version}.tgz`)
  for (const name of names) await checkTarball(name, tarball(name))
  const project = join(directory, "project")
  useLibraries(project, Object.fromEntries(names.map((name) => [`@slipway/${name}`, `file:${tarball(name)}`])))
  useCommand(directory, tarball("cli"))
  console.log(
    `check-packages: ${names.length} packages of ${version} pass publint and attw, install, type check and run, globally and through npx`
  )
} finally {
  rmSync(directory, { recursive: true, force: true })
}
