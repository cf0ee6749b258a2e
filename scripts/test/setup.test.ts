/**
 * `scripts/setup` on a checkout made for each test, with stand-ins for what it finds on a machine: npm, tmux, sudo and
 * apt-get write down how they were called. PATH has nothing else but the system's basic tools.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"

const scripts = Path.join(import.meta.dirname, "..")
const basics = ["cat", "dirname", "env", "ln", "mktemp", "rm", "sh"]

const manifest = { name: "project", dependencies: { a: "1.0.0" } }

/** What npm would have installed: one package, and the pinned Node. */
const installed = (node: string) => ({
  "node_modules/a": { version: "1.0.0" },
  [`node_modules/${node}`]: { version: "1.0.0", optional: true, os: process.platform, cpu: process.arch }
})
const node = `node-${process.platform}-${process.arch}`

const checkout = Effect.gen(function*() {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "slipway set-up-"))),
    (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
  )
  const at = (...path: ReadonlyArray<string>): string => Path.join(directory, ...path)
  const write = (path: string, content: string, mode = 0o644): void => {
    Fs.mkdirSync(Path.dirname(at(path)), { recursive: true })
    Fs.writeFileSync(at(path), content, { mode })
  }
  const calls = at("calls")
  /** A stand-in that writes down its call, and then does this. */
  const program = (name: string, body = ""): void =>
    write(`bin/${name}`, `#!/bin/sh\necho "${name} $*" >>"${calls}"\n${body}\n`, 0o755)

  write("calls", "")
  write("clone/package.json", JSON.stringify(manifest))
  write("clone/package-lock.json", JSON.stringify({ packages: { "": manifest, ...installed(node) } }))
  for (const name of ["setup", "installed.mjs"]) {
    Fs.mkdirSync(at("clone/scripts"), { recursive: true })
    Fs.copyFileSync(Path.join(scripts, name), at("clone/scripts", name))
  }
  Fs.mkdirSync(at("bin"))
  for (const name of basics) {
    Fs.symlinkSync(execFileSync("sh", ["-c", `command -v ${name}`]).toString().trim(), at("bin", name))
  }
  Fs.symlinkSync(process.execPath, at("bin/node"))
  program("id", "echo 1000")
  program("tmux", "echo tmux 3.5a")

  /** Puts these packages where npm would put them; as the text of a program, for the stand-in of npm. */
  const packages = (entries: Readonly<Record<string, object>>): string => {
    const place = (path: string, content: object) =>
      `mkdir -p "$(dirname "${path}")"\nprintf '%s' '${JSON.stringify(content)}' >'${path}'`
    const all = Object.entries(entries).map(([path, entry]) => place(`${path}/package.json`, entry))
    return [...all, place("node_modules/.package-lock.json", { packages: entries })].join("\n")
  }
  /** npm, as npm before 11 is: it leaves no link to the Node of a platform's package. */
  const npm = (entries: Readonly<Record<string, object>>): void => {
    Fs.symlinkSync(execFileSync("sh", ["-c", "command -v mkdir"]).toString().trim(), at("bin/mkdir"))
    const pinnedNode = `mkdir -p node_modules/.bin node_modules/${node}/bin
ln -sf "${process.execPath}" node_modules/${node}/bin/node`
    program("npm", `case $1 in install)\n${packages(entries)}\n${pinnedNode};; esac`)
  }

  const run = (env: Readonly<Record<string, string>> = {}) => {
    Fs.writeFileSync(calls, "")
    const { status, stderr, stdout } = spawnSync(Path.join("clone", "scripts", "setup"), [], {
      cwd: directory,
      encoding: "utf8",
      env: { HOME: directory, PATH: at("bin"), ...env }
    })
    const called = Fs.readFileSync(calls, "utf8").split("\n").filter((line) => line !== "")
    return { status, said: stdout + stderr, called: called.filter((line) => !line.startsWith("id ")) }
  }
  return { at, npm, program, run }
})

const installs = (called: ReadonlyArray<string>) => called.filter((line) => line.startsWith("npm install"))

describe("the set-up", () => {
  it.live("installs without saving, runs no dependency's script, and links the pinned Node", () =>
    Effect.gen(function*() {
      const { at, npm, run } = yield* checkout
      npm(installed(node))
      const lock = Fs.readFileSync(at("clone/package-lock.json"), "utf8")
      const { called, said, status } = run({ CDPATH: "/", NODE_ENV: "production" })
      assert.strictEqual(status, 0, said)
      assert.lengthOf(installs(called), 1)
      for (const option of ["--no-save", "--package-lock", "--ignore-scripts", "--include=dev"]) {
        assert.include((installs(called)[0] ?? "").split(" "), option)
      }
      assert.strictEqual(Fs.readFileSync(at("clone/package-lock.json"), "utf8"), lock)
      assert.strictEqual(Fs.realpathSync(at("clone/node_modules/.bin/node")), Fs.realpathSync(process.execPath))
      assert.deepStrictEqual(called.slice(-2), ["npm run --silent prepare", "npm run --silent build"])
    }))

  it.live("asks npm for nothing when what is pinned is installed", () =>
    Effect.gen(function*() {
      const { npm, run } = yield* checkout
      npm(installed(node))
      assert.strictEqual(run().status, 0)
      const { called, said, status } = run()
      assert.strictEqual(status, 0, said)
      assert.deepStrictEqual(installs(called), [])
    }))

  it.live("succeeds where a registry has more optional packages than the lock file, or fewer", () =>
    Effect.gen(function*() {
      const { at, npm, run } = yield* checkout
      Fs.writeFileSync(
        at("clone/package-lock.json"),
        JSON.stringify({
          packages: {
            "": manifest,
            ...installed(node),
            "node_modules/a": { version: "1.0.0", optionalDependencies: { "a-new": "1.0.0", "a-old": "1.0.0" } },
            "node_modules/a-old": { version: "1.0.0", optional: true, os: process.platform }
          }
        })
      )
      npm({ ...installed(node), "node_modules/a-new": { version: "1.0.0", optional: true } })
      const { called, said, status } = run()
      assert.strictEqual(status, 0, said)
      // The second time on the pinned Node, which may be what a package of this platform asks for.
      assert.lengthOf(installs(called), 2)
    }))

  it.live("fails, naming the package, where npm installed something else than what is pinned", () =>
    Effect.gen(function*() {
      const { npm, run } = yield* checkout
      npm({ ...installed(node), "node_modules/a": { version: "1.0.1" } })
      const { called, said, status } = run()
      assert.strictEqual(status, 1)
      assert.include(said, "node_modules/a is 1.0.1: 1.0.0 is pinned")
      assert.notInclude(called, "npm run --silent build")
    }))

  it.live("has tmux installed through sudo for an ordinary user, and needs no sudo where tmux is there", () =>
    Effect.gen(function*() {
      const { at, npm, program, run } = yield* checkout
      npm(installed(node))
      const there = run()
      assert.strictEqual(there.status, 0, there.said)
      program("sudo", `exec "$@"`)
      program("apt-get", `mv "${at("tmux")}" "${at("bin/tmux")}"`)
      Fs.symlinkSync(execFileSync("sh", ["-c", "command -v mv"]).toString().trim(), at("bin/mv"))
      Fs.renameSync(at("bin/tmux"), at("tmux"))
      const { called, said, status } = run()
      assert.strictEqual(status, 0, said)
      assert.match(called[0] ?? "", /^sudo env .*apt-get install .*tmux$/)
      assert.match(called[1] ?? "", /^apt-get install .*tmux$/)
    }))

  it.live("says what to do, and installs nothing, where tmux can't be had", () =>
    Effect.gen(function*() {
      const { at, npm, run } = yield* checkout
      npm(installed(node))
      Fs.rmSync(at("bin/tmux"))
      const { called, said, status } = run()
      assert.strictEqual(status, 1)
      assert.include(said, "install tmux 3.2 or newer yourself and run this again")
      assert.deepStrictEqual(called, [])
    }))
})
