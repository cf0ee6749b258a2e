import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { installed, type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const cacheOf = (box: Sandbox): string => Path.join(box.directory, ".cache", "slipway")

/** The files of the cache, with what shows that one was written anew. */
const cached = (directory: string): Record<string, string> =>
  Object.fromEntries(
    (Fs.existsSync(directory) ? Fs.readdirSync(directory) : []).map((name) => {
      const { ino, mtimeMs } = Fs.statSync(Path.join(directory, name))
      return [name, `${ino} ${mtimeMs}`]
    })
  )

/** Runs the command as it is installed, with a cache directory of its own. */
const run = (box: Sandbox, args: ReadonlyArray<string>, env: Readonly<Record<string, string | undefined>> = {}) =>
  Effect.flatMap(
    box.startProgram(process.execPath, ["--", installed(), ...args], { env: { XDG_CACHE_HOME: undefined, ...env } }),
    (running) => running.result
  )

const noAgents = {
  code: 0,
  stdout: "{\"agents\":[]}\n",
  stderr: "No agents are live. 'slipway ps --all' shows those that have ended.\n"
}

/** Makes a home, and what a run leaves in the cache when there is nothing more to add. */
const warmed = Effect.fnUntraced(function*(box: Sandbox) {
  for (let index = 0; index < 3; index++) assert.deepStrictEqual(yield* run(box, ["ps", "--json"]), noAgents)
  const [name = ""] = Object.keys(cached(cacheOf(box)))
  return Path.join(cacheOf(box), name)
})

describe("the version", () => {
  it.live("is printed without the program as the program prints it", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const told = { code: 0, stdout: "slipway 0.1.0\n", stderr: "" }
      for (const flag of ["--version", "-v"]) {
        assert.deepStrictEqual(yield* run(box, [flag]), told)
        assert.deepStrictEqual(yield* box.run([flag]), told)
      }
      // What is not exactly this question is answered by the program.
      assert.deepStrictEqual(yield* run(box, ["--json", "--version"]), yield* box.run(["--json", "--version"]))
      assert.deepStrictEqual(yield* run(box, ["ps", "--version"]), yield* box.run(["ps", "--version"]))
      assert.isFalse(Fs.existsSync(box.home))
    }))

  it.live("fails, where standard output takes nothing, with the program's exit code", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (const target of ["/dev/full", "&-"]) {
        const codes = [installed(), box.bin].map((bin) => {
          const line = `"$0" -- "$1" --version >${target}`
          const { status, stderr } = spawnSync("sh", ["-c", line, process.execPath, bin], {
            env: { ...process.env, HOME: box.directory },
            encoding: "utf8"
          })
          return { status, stderr }
        })
        assert.deepStrictEqual(codes[0], codes[1], target)
      }
    }))
})

describe("the Node that runs the command", () => {
  const needed = /^slipway needs Node 24 or newer, or Node 22 from 22\.19 on; \/[^\n]+ is Node (\d+\.\d+\.\d+)\n$/

  it.live("may be 22.19 or a later 22, or 24 or newer; any other is refused in one line with exit code 4", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const on = Effect.fnUntraced(function*(version: string) {
        const preload = box.path(`node-${version}.cjs`)
        const versions = `{ ...process.versions, node: ${JSON.stringify(version)} }`
        Fs.writeFileSync(preload, `Object.defineProperty(process, "versions", { value: ${versions} })\n`)
        return yield* run(box, ["--version"], { NODE_OPTIONS: `--require ${preload}` })
      })
      for (const version of ["22.19.0", "22.23.3", "24.0.0", "26.12.1"]) {
        assert.deepStrictEqual(yield* on(version), { code: 0, stdout: "slipway 0.1.0\n", stderr: "" }, version)
      }
      for (const version of ["18.20.8", "20.20.2", "22.9.0", "22.18.1", "23.11.1"]) {
        const { code, stderr, stdout } = yield* on(version)
        assert.deepStrictEqual([code, stdout, needed.exec(stderr)?.[1]], [4, "", version], stderr)
      }
      assert.isFalse(Fs.existsSync(box.home))
    }))

  it.live("says nothing of its own on standard error", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const running = yield* box.startProgram(process.execPath, ["--", installed(), "reap", "--watch"])
      yield* until("it reaps", () => running.ended || running.stderr.includes("reaping every"))
      yield* running.signal("SIGTERM")
      const { code, stderr } = yield* running.result
      assert.strictEqual(code, 143, stderr)
      assert.deepStrictEqual(stderr.split("\n").filter((line) => line !== "" && !line.startsWith("slipway: ")), [])
    }))
})

describe("the compiled code", () => {
  it.live("is kept for its user alone, and written no more when two runs have added to it", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const file = yield* warmed(box)
      assert.strictEqual(Fs.statSync(cacheOf(box)).mode & 0o777, 0o700)
      assert.strictEqual(Fs.statSync(file).mode & 0o777, 0o600)
      const before = cached(cacheOf(box))
      assert.lengthOf(Object.keys(before), 1)
      assert.deepStrictEqual(yield* run(box, ["ps", "--json"]), noAgents)
      assert.deepStrictEqual(cached(cacheOf(box)), before)
      yield* run(box, ["task", "list"])
      assert.lengthOf(Object.keys(cached(cacheOf(box))), 2)
    }))

  it.live("is replaced when it is damaged or of another program, and never run", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const file = yield* warmed(box)
      const whole = Fs.readFileSync(file)
      const damages: Record<string, (bytes: Buffer) => Buffer> = {
        "another program": (bytes) => Buffer.concat([Buffer.from([bytes.readUInt8(0) ^ 1]), bytes.subarray(1)]),
        "a flipped bit": (bytes) => Buffer.from(bytes.map((byte, at) => at === 300_000 ? byte ^ 1 : byte)),
        "cut off": (bytes) => bytes.subarray(0, 300_000),
        "with zeros at its end": (bytes) =>
          Buffer.concat([bytes.subarray(0, 300_000), Buffer.alloc(bytes.length - 300_000)]),
        "empty": () => Buffer.alloc(0),
        "text": () => Buffer.from("nothing that was compiled")
      }
      for (const [what, damage] of Object.entries(damages)) {
        Fs.writeFileSync(file, damage(whole))
        assert.deepStrictEqual(yield* run(box, ["ps", "--json"]), noAgents, what)
        assert.isAbove(Fs.statSync(file).size, whole.length / 2, what)
      }
      // Well-formed, and refused by V8.
      assert.deepStrictEqual(yield* run(box, ["ps", "--json"], { NODE_OPTIONS: "--stack-trace-limit=20" }), noAgents)
      assert.deepStrictEqual(yield* run(box, ["ps", "--json"]), noAgents)
    }))

  it.live("is not kept where it can't be, and the command is none the worse", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* run(box, ["ps", "--json"], { NODE_DISABLE_COMPILE_CACHE: "1" })
      const entries = Fs.readdirSync(box.directory).toSorted()
      const file = box.path("file")
      Fs.writeFileSync(file, "")
      const places: ReadonlyArray<Readonly<Record<string, string | undefined>>> = [
        { NODE_DISABLE_COMPILE_CACHE: "1" },
        { NODE_V8_COVERAGE: Path.join(box.project, "coverage") },
        { HOME: undefined },
        { HOME: "relative" },
        { HOME: Path.join(box.directory, "missing") },
        { XDG_CACHE_HOME: file },
        { XDG_CACHE_HOME: "/proc/self" },
        { XDG_CACHE_HOME: Path.join(box.directory, "missing", "cache") }
      ]
      for (const env of places) {
        assert.deepStrictEqual(yield* run(box, ["ps", "--json"], env), noAgents, JSON.stringify(env))
        assert.deepStrictEqual(Fs.readdirSync(box.directory).toSorted(), entries, JSON.stringify(env))
      }
      assert.strictEqual(Fs.readFileSync(file, "utf8"), "")
    }))

  it.live("is neither read nor written in a directory that others may write to", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const file = yield* warmed(box)
      Fs.writeFileSync(file, "planted")
      for (const mode of [0o770, 0o707]) {
        Fs.chmodSync(cacheOf(box), mode)
        const before = cached(cacheOf(box))
        assert.deepStrictEqual(yield* run(box, ["ps", "--json"]), noAgents)
        assert.strictEqual((yield* run(box, ["task", "list", "--json"])).stdout, "{\"tasks\":[]}\n")
        assert.deepStrictEqual(cached(cacheOf(box)), before)
      }
      // A link stands for a directory that another user has chosen.
      const other = box.path("other")
      Fs.rmSync(cacheOf(box), { recursive: true })
      Fs.mkdirSync(other, { mode: 0o700 })
      Fs.symlinkSync(other, cacheOf(box))
      assert.deepStrictEqual(yield* run(box, ["ps", "--json"]), noAgents)
      assert.deepStrictEqual(Fs.readdirSync(other), [])
    }))

  it.live("of many commands at once is whole, and of one that was killed does not keep the next from writing", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* run(box, ["ps", "--json"], { NODE_DISABLE_COMPILE_CACHE: "1" })
      yield* Effect.all(Array.from({ length: 4 }, () => run(box, ["ps", "--json"])), { concurrency: "unbounded" })
      assert.lengthOf(Object.keys(cached(cacheOf(box))), 1)
      const file = yield* warmed(box)
      Fs.renameSync(file, `${file}.new`)
      Fs.utimesSync(`${file}.new`, 0, 0)
      assert.deepStrictEqual(yield* run(box, ["ps", "--json"]), noAgents)
      assert.deepStrictEqual(yield* run(box, ["ps", "--json"]), noAgents)
      assert.deepStrictEqual(Object.keys(cached(cacheOf(box))), [Path.basename(file)])
    }))
})

describe("the program behind the first lines", () => {
  it.live("finds its lazy parts, with the compiled code and without", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (const env of [{}, { NODE_DISABLE_COMPILE_CACHE: "1" }, { NODE_OPTIONS: "--enable-source-maps" }]) {
        const running = yield* box.startProgram(
          process.execPath,
          ["--", installed(), "reap", "--watch", "--metrics-port", "0"],
          { env }
        )
        yield* until("it serves", () =>
          running.ended || /http:\/\/127\.0\.0\.1:\d+\/metrics/.test(running.stdout + running.stderr))
        yield* running.signal("SIGTERM")
        const { code, stderr } = yield* running.result
        assert.strictEqual(code, 143, stderr)
        assert.match(running.stdout + stderr, /http:\/\/127\.0\.0\.1:\d+\/metrics/)
      }
    }))

  it.live("names its functions in the trace of a defect, and its sources where Node is asked for them", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const preload = box.path("preload.cjs")
      Fs.writeFileSync(preload, "Date.prototype.toISOString = () => { throw new RangeError('the clock is broken') }\n")
      const args = ["task", "create", "x", "--log-level", "debug"]
      for (let index = 0; index < 3; index++) {
        const { code, stderr } = yield* run(box, args, { NODE_OPTIONS: `--require ${preload}` })
        assert.strictEqual(code, 70, stderr)
        assert.match(stderr, /defect in Slipway: the clock is broken/)
        assert.match(stderr, /at \w.*\(.*\/dist\/slipway\.cjs:\d+:\d+\)/)
      }
      const { code, stderr } = yield* run(box, args, { NODE_OPTIONS: `--require ${preload} --enable-source-maps` })
      assert.strictEqual(code, 70, stderr)
      assert.match(stderr, /\/src\/\w+\.ts:\d+:\d+/)
    }))
})
