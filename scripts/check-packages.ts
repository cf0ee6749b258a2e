/**
 * Installs the packed packages into an empty project, as a stranger would: the types of the library must hold under
 * NodeNext, the library must load, and the command must tell its version.
 */
import { execFileSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const root = join(import.meta.dirname, "..")
const names = ["tmux", "core", "cli"]

const run = (cwd: string, command: string, ...args: ReadonlyArray<string>): string =>
  execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], timeout: 120_000 })

const check = (holds: boolean, message: string): void => {
  if (!holds) throw new Error(message)
}

type Manifest = {
  readonly version: string
  readonly dependencies?: Record<string, string>
  readonly devDependencies: Record<string, string>
}
const manifest = (path: string): Manifest => JSON.parse(readFileSync(join(root, path, "package.json"), "utf8"))

const directory = mkdtempSync(join(tmpdir(), "slipway-packages-"))
try {
  const { version } = manifest(".")
  const pinned = manifest(".").devDependencies
  for (const name of names) {
    const own = manifest(`packages/${name}`)
    check(own.version === version, `packages/${name} is at ${own.version} and the project at ${version}`)
    for (const [dependency, range] of Object.entries(own.dependencies ?? {})) {
      if (!dependency.startsWith("@slipway/")) continue
      check(range === version, `packages/${name} depends on ${dependency} ${range}; it must be exactly ${version}`)
    }
  }

  run(
    root,
    "npm",
    "pack",
    "--silent",
    "--pack-destination",
    directory,
    ...names.map((name) => `--workspace=packages/${name}`)
  )
  const tarballs = Object.fromEntries(names.map((name) => [name, `file:./slipway-${name}-${version}.tgz`]))
  for (const name of names) {
    const tarball = join(directory, `slipway-${name}-${version}.tgz`)
    check(existsSync(tarball), `npm pack made no ${tarball}`)
    const listed = run(root, "tar", "-tzf", tarball)
    const wanted = name === "cli" ? ["bin/slipway.mjs", "dist/bin.mjs"] : ["dist/index.js", "dist/index.d.ts"]
    for (const file of wanted) check(listed.includes(`package/${file}\n`), `@slipway/${name} is packed without ${file}`)
    check(!/\/test\/|tsbuildinfo/.test(listed), `@slipway/${name} is packed with tests or build state:\n${listed}`)
  }

  const project = join(directory, "project")
  mkdirSync(project)
  for (const file of readdirSync(directory)) {
    if (file.endsWith(".tgz")) run(directory, "mv", file, project)
  }
  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({
      private: true,
      type: "module",
      dependencies: {
        "@slipway/tmux": tarballs["tmux"],
        "@slipway/core": tarballs["core"],
        "@slipway/cli": tarballs["cli"],
        "@effect/platform-node": pinned["@effect/platform-node"],
        "@types/node": pinned["@types/node"],
        effect: pinned["effect"]
      }
    })
  )
  writeFileSync(
    join(project, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        strict: true,
        exactOptionalPropertyTypes: true,
        module: "nodenext",
        target: "es2024",
        types: ["node"],
        skipLibCheck: true,
        noEmit: true
      },
      files: ["use.ts"]
    })
  )
  writeFileSync(
    join(project, "use.ts"),
    `import * as Core from "@slipway/core"
import * as Tmux from "@slipway/tmux"

// With a missing declaration file both would be any, and so would pass as a number.
type IsAny<A> = 0 extends 1 & A ? true : false
const typed: [IsAny<typeof Core>, IsAny<typeof Tmux>] = [false, false]
console.log(typed.length, Object.keys(Core).length > 0, Object.keys(Tmux).length > 0)
`
  )
  run(project, "npm", "install", "--silent", "--prefer-offline", "--no-audit", "--no-fund", "--no-package-lock")
  run(project, "tsc", "-p", "tsconfig.json")
  const loaded = run(project, "node", "use.ts").trim()
  check(loaded === "2 true true", `the packed libraries load without exports: ${loaded}`)
  const told = run(project, join("node_modules", ".bin", "slipway"), "--version").trim()
  check(told.includes(version), `the packed command tells "${told}" as its version, not ${version}`)
  console.log(`check-packages: ${names.length} packages install, type check and run (${told})`)
} finally {
  rmSync(directory, { recursive: true, force: true })
}
