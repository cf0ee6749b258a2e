/** What `scripts/setup` takes for installed: `scripts/installed.mjs` on a project made for each test. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"

type Entry = Readonly<Record<string, unknown>>
type Entries = Readonly<Record<string, Entry>>

const script = Path.join(import.meta.dirname, "..", "installed.mjs")
const here = { os: [process.platform], cpu: process.arch, optional: true }
const elsewhere = { os: ["aix"], cpu: ["ppc64"], optional: true }
const otherLibc = { ...here, libc: ["none"] }

const manifest = { name: "project", dependencies: { a: "1.0.0" }, devDependencies: { b: "2.0.0" } }
const member = { name: "@project/member", version: "0.1.0", peerDependencies: { a: "~1.0.0" } }

const pinned: Entries = {
  "": manifest,
  "packages/member": member,
  "node_modules/@project/member": { resolved: "packages/member", link: true },
  "node_modules/a": { version: "1.0.0", optionalDependencies: { "a-aix": "1.0.0", "a-new": "1.0.0" } },
  "node_modules/a-aix": { version: "1.0.0", ...elsewhere },
  "node_modules/a-here": { version: "1.0.0", ...here },
  "node_modules/a-libc": { version: "1.0.0", ...otherLibc },
  "node_modules/a-any": { version: "1.0.0", optional: true },
  "node_modules/a/node_modules/b": { version: "1.5.0" },
  "node_modules/b": { version: "2.0.0", dev: true }
}

/** What npm makes of the lock file on a platform that has no use for `a-aix`, `a-libc` and `a-any`. */
const usual: Entries = {
  "node_modules/@project/member": { resolved: "packages/member", link: true },
  "node_modules/a": { version: "1.0.0" },
  "node_modules/a-here": { version: "1.0.0", ...here },
  "node_modules/a/node_modules/b": { version: "1.5.0" },
  "node_modules/b": { version: "2.0.0", dev: true }
}

interface Comparison {
  readonly status: number | null
  readonly differences: ReadonlyArray<string>
  readonly stderr: string
}

/** A project with this installed, in a directory whose name has a space; answers with how to compare. */
const project = Effect.fnUntraced(function*(installed: Entries) {
  const directory = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(Path.join(tmpdir(), "slipway installed-"))),
    (directory) => Effect.sync(() => Fs.rmSync(directory, { recursive: true }))
  )
  const write = (path: string, content: object): void => {
    Fs.mkdirSync(Path.join(directory, Path.dirname(path)), { recursive: true })
    Fs.writeFileSync(Path.join(directory, path), JSON.stringify(content))
  }
  write("package.json", manifest)
  write("packages/member/package.json", member)
  write("package-lock.json", { lockfileVersion: 3, packages: pinned })
  write("node_modules/.package-lock.json", { lockfileVersion: 3, packages: installed })
  for (const [place, { version }] of Object.entries(installed)) write(`${place}/package.json`, { version })
  Fs.mkdirSync(Path.join(directory, "scripts"))
  Fs.copyFileSync(script, Path.join(directory, "scripts", "installed.mjs"))
  const compare = (...args: ReadonlyArray<string>): Comparison => {
    const { status, stderr, stdout } = spawnSync(process.execPath, ["scripts/installed.mjs", ...args], {
      cwd: directory,
      encoding: "utf8"
    })
    return { status, differences: stdout.split("\n").filter((line) => line !== ""), stderr }
  }
  return { directory, write, compare }
})

const same: Comparison = { status: 0, differences: [], stderr: "" }
const differs = (...differences: ReadonlyArray<string>): Comparison => ({ status: 1, differences, stderr: "" })

const without = (entries: Entries, ...places: ReadonlyArray<string>): Entries =>
  Object.fromEntries(Object.entries(entries).filter(([place]) => !places.includes(place)))

describe("what is installed is what is pinned", () => {
  it.live("where every package has its pinned version, with or without those of other platforms", () =>
    Effect.gen(function*() {
      const { compare } = yield* project(usual)
      assert.deepStrictEqual([compare(), compare("--whole")], [same, same])
      const all = yield* project(without(pinned, "", "packages/member"))
      assert.deepStrictEqual([all.compare(), all.compare("--whole")], [same, same])
    }))

  it.live("also without an optional package of this platform, but then there is something to install", () =>
    Effect.gen(function*() {
      const { compare } = yield* project(without(usual, "node_modules/a-here"))
      assert.deepStrictEqual(compare(), same)
      assert.deepStrictEqual(compare("--whole"), differs("node_modules/a-here is missing: 1.0.0 is pinned"))
    }))

  it.live("also with an optional package that the lock file lacks, at the version that a pinned one asks for", () =>
    Effect.gen(function*() {
      const { compare } = yield* project({ ...usual, "node_modules/a-new": { version: "1.0.0", ...here } })
      assert.deepStrictEqual([compare(), compare("--whole")], [same, same])
    }))
})

describe("what is installed is not what is pinned", () => {
  it.live("where nothing is installed", () =>
    Effect.gen(function*() {
      const { compare, directory } = yield* project(usual)
      Fs.rmSync(Path.join(directory, "node_modules"), { recursive: true })
      assert.deepStrictEqual(compare(), differs("nothing is installed"))
    }))

  it.live("where a package, at whatever depth, optional or not, has another version", () =>
    Effect.gen(function*() {
      const { compare } = yield* project({
        ...usual,
        "node_modules/a-here": { version: "1.0.1", ...here },
        "node_modules/a/node_modules/b": { version: "2.0.0" }
      })
      assert.deepStrictEqual(
        compare(),
        differs(
          "node_modules/a-here is 1.0.1: 1.0.0 is pinned",
          "node_modules/a/node_modules/b is 2.0.0: 1.5.0 is pinned"
        )
      )
    }))

  it.live("where a package that is needed is missing, whatever npm's own record says", () =>
    Effect.gen(function*() {
      const { compare, directory } = yield* project(usual)
      for (const place of ["node_modules/b", "node_modules/@project"]) {
        Fs.rmSync(Path.join(directory, place), { recursive: true })
      }
      assert.deepStrictEqual(
        compare(),
        differs("node_modules/@project/member is missing", "node_modules/b is missing: 2.0.0 is pinned")
      )
    }))

  it.live("where a package is not pinned: one that is needed, or an optional one at another version", () =>
    Effect.gen(function*() {
      const { compare } = yield* project({
        ...usual,
        "node_modules/a-new": { version: "1.0.1", ...here },
        "node_modules/c": { version: "3.0.0" }
      })
      assert.deepStrictEqual(
        compare(),
        differs("node_modules/a-new is 1.0.1: it is not pinned", "node_modules/c is 3.0.0: it is not pinned")
      )
    }))

  it.live("where a package.json asks for what the lock file has otherwise, or not at all", () =>
    Effect.gen(function*() {
      const { compare, write } = yield* project(usual)
      const said = (file: string, name: string) =>
        `${file} and package-lock.json disagree about ${name}: run npm install, and commit both`
      write("package.json", { ...manifest, dependencies: { a: "1.0.1" }, devDependencies: {} })
      write("packages/member/package.json", { ...member, dependencies: { c: "3.0.0" } })
      assert.deepStrictEqual(
        compare(),
        differs(
          said("package.json", "a"),
          said("package.json", "b"),
          said(Path.join("packages", "member", "package.json"), "c")
        )
      )
    }))
})
