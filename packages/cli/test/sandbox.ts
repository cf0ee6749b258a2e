/**
 * The real command, bundled, run as a child process on a home, a project and a tmux server of its own, in a temporary
 * directory. When the scope closes everything is stopped, and nothing may be left: no session, no process, no file.
 */
import { afterAll, assert, beforeAll } from "@effect/vitest"
import { Document } from "@slipway/core"
import { Effect, Result, Schedule, Schema } from "effect"
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { rolldown } from "rolldown"
import * as Programs from "../../core/test/programs.ts"
import configs from "../rolldown.config.ts"
import * as Answers from "../src/Answers.ts"

const packageDirectory = Path.join(import.meta.dirname, "..")

/** The command as it is published, `bin` and `dist`, built once for a state of the sources. */
const build = (): Promise<string> =>
  Programs.once("command", async (directory) => {
    for (const { output, ...input } of configs) {
      const bundle = await rolldown(input)
      await bundle.write({ ...output, cleanDir: false, sourcemap: false, dir: Path.join(directory, "dist") })
      await bundle.close()
    }
    Fs.cpSync(Path.join(packageDirectory, "bin"), Path.join(directory, "bin"), { recursive: true })
    Fs.copyFileSync(Path.join(packageDirectory, "package.json"), Path.join(directory, "package.json"))
  })

/**
 * Puts the command where any user may run it, for the tests of a file; answers with how to make a sandbox for one test.
 * `SLIPWAY_BUNDLE` names a finished one to test in its place.
 */
export const useSandbox = () => {
  const directory = Fs.mkdtempSync(Path.join(tmpdir(), "slipway-bundle-"))
  Fs.mkdirSync(Path.join(directory, "cache"), { mode: 0o700 })
  let bin = process.env["SLIPWAY_BUNDLE"]
  beforeAll(async () => {
    if (bin !== undefined) return
    Fs.cpSync(await build(), directory, { recursive: true })
    bin = Path.join(directory, "bin", "slipway.mjs")
  })
  afterAll(() => Fs.rmSync(directory, { recursive: true, force: true }))
  const make = (user?: OrdinaryUser) =>
    Effect.acquireRelease(
      Effect.sync(() => new Sandbox(bin ?? "", Path.join(directory, "cache"), user)),
      (sandbox) => sandbox.close
    )
  return Object.assign(make(), {
    /** One that belongs to an ordinary user, who runs everything in it; this user, unless that is root. */
    ordinary: Effect.suspend(() => make(process.getuid?.() === 0 ? ordinaryUser(directory) : undefined))
  })
}

/** A user of no name and no rights, and the Node that this user runs. */
export interface OrdinaryUser {
  readonly id: number
  readonly node: string
}

const asUser = (id: number): ReadonlyArray<string> => [
  "setpriv",
  `--reuid=${id}`,
  `--regid=${id}`,
  "--clear-groups",
  "--"
]

// What this user may not reach is copied to where both the bundle and Node can be read.
const ordinaryUser = (directory: string): OrdinaryUser => {
  const id = 54321
  Fs.chmodSync(directory, 0o755)
  const [program = "", ...args] = asUser(id)
  if (spawnSync(program, [...args, process.execPath, "--version"]).status === 0) return { id, node: process.execPath }
  const node = Path.join(directory, "node")
  if (!Fs.existsSync(node)) Fs.copyFileSync(process.execPath, node)
  return { id, node }
}

const modifiedMillis = (path: string): number => Fs.existsSync(path) ? Fs.statSync(path).mtimeMs : 0

/**
 * The command as it is installed, for the tests that are about its first lines. What it runs, `dist`, is bundled here only
 * when a source is newer, so that a checkout that was built is tested as it is.
 */
export const installed = (): string => {
  const packages = Path.join(packageDirectory, "..")
  const sources = Fs.globSync(["*/src/**/*.ts", "cli/rolldown.config.ts", "cli/package.json"], { cwd: packages })
  const newest = Math.max(...sources.map((path) => modifiedMillis(Path.join(packages, path))))
  if (modifiedMillis(Path.join(packageDirectory, "dist", "bin.mjs")) < newest) {
    const rolldownBin = Path.join(packages, "..", "node_modules", ".bin", "rolldown")
    execFileSync(rolldownBin, ["-c", "rolldown.config.ts"], { cwd: packageDirectory, stdio: "pipe" })
  }
  return Path.join(packageDirectory, "bin", "slipway.mjs")
}

export interface Result {
  /** The exit code; 128+n for a process that a signal ended by itself. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export interface Options {
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  readonly stdin?: string | Uint8Array
}

/** Answers when the condition holds; fails when it does not for half a minute, however busy the machine is. */
export const until = (what: string, condition: () => boolean) =>
  Effect.sync(condition).pipe(
    Effect.repeat({ until: (holds: boolean) => holds, schedule: Schedule.spaced("10 millis") }),
    Effect.timeoutOrElse({ duration: "30 seconds", orElse: () => Effect.die(new Error(`never happened: ${what}`)) })
  )

/** What /proc reports of a process in one of its files; nothing for one that has ended. */
export const procFile = (pid: number | string, name: string): string => {
  try {
    return Fs.readFileSync(`/proc/${pid}/${name}`, "utf8")
  } catch {
    return ""
  }
}

/** Whether a process listens to the signal with this number; Node listens to INT and TERM by itself. */
export const catches = (pid: number | undefined, signal: number): boolean => {
  const mask = /SigCgt:\s*(\w+)/.exec(procFile(pid ?? 0, "status"))?.[1] ?? "0"
  return ((BigInt(`0x${mask}`) >> BigInt(signal - 1)) & 1n) === 1n
}

/** The processes that bear a home's id. */
export const processesOf = (homeId: string): ReadonlyArray<number> =>
  Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number)
    .filter((pid) => procFile(pid, "environ").includes(`SLIPWAY_HOME_ID=${homeId}`))

export class Running {
  stdout = ""
  stderr = ""
  readonly child: ChildProcess
  readonly result: Effect.Effect<Result>

  constructor(child: ChildProcess) {
    this.child = child
    child.stdout?.setEncoding("utf8").on("data", (text: string) => (this.stdout += text))
    child.stderr?.setEncoding("utf8").on("data", (text: string) => (this.stderr += text))
    const ended = new Promise<number>((resolve) =>
      child.on("close", (code, signal) => resolve(code ?? 128 + (signal === "SIGKILL" ? 9 : 15)))
    )
    this.result = Effect.map(
      Effect.promise(() => ended),
      (code) => ({ code, stdout: this.stdout, stderr: this.stderr })
    )
  }

  get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null
  }

  signal(signal: NodeJS.Signals): Effect.Effect<void> {
    return Effect.sync(() => void this.child.kill(signal))
  }
}

const isFailure = Schema.is(Schema.Struct(Document.FailureDocument.fields))

/** Fails where an answer is not as docs/CLI.md says that this command answers, field by field. */
const assertDocumented = (args: ReadonlyArray<string>, value: unknown): void => {
  const words = args.slice(0, args.includes("--") ? args.indexOf("--") : undefined).filter((word) =>
    /^[a-z]+$/.test(word)
  )
  const documented = Object.entries(Answers.ofCommand).find(([command]) =>
    command.split(" ").every((word, index) => words[index] === word)
  )
  if (documented === undefined || isFailure(value) && Object.keys(value).length === 3) return
  const [command, schema] = documented
  const decoded = Schema.decodeUnknownResult(Schema.Union([schema]))(value, {
    onExcessProperty: "error",
    errors: "all"
  })
  if (Result.isFailure(decoded)) {
    assert.fail(`the answer of ${command} is not as documented: ${decoded.failure.message}`)
  }
}

export class Sandbox {
  readonly directory: string
  readonly project: string
  readonly home: string
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly bin: string
  readonly user: OrdinaryUser | undefined
  readonly #started: Array<Running> = []

  /** What the runs of a file have compiled is kept in `cache`, as it is kept for a user. */
  constructor(bin: string, cache: string, user?: OrdinaryUser) {
    this.bin = bin
    this.user = user
    this.directory = Fs.realpathSync(Fs.mkdtempSync(Path.join(tmpdir(), "slipway-cli-")))
    this.project = Path.join(this.directory, "project")
    this.home = Path.join(this.directory, "home")
    Fs.mkdirSync(this.project)
    if (user !== undefined) { for (const path of [this.directory, this.project]) Fs.chownSync(path, user.id, user.id) }
    const inherited = Object.entries(process.env).filter(([name]) => !/^(SLIPWAY_|TMUX|VITEST|NODE_)/.test(name))
    this.environment = {
      ...Object.fromEntries(inherited),
      HOME: this.directory,
      XDG_CACHE_HOME: cache,
      SLIPWAY_HOME: this.home,
      NO_COLOR: "1"
    }
  }

  /** Starts `slipway` with these arguments. */
  readonly start = (args: ReadonlyArray<string>, options: Options = {}): Effect.Effect<Running> =>
    // Without the dashes Node takes an `--env-file` behind the program's name for its own.
    this.startProgram(this.user?.node ?? process.execPath, ["--", this.bin, ...args], options)

  /** Starts a program where and as `slipway` is started. */
  readonly startProgram = (
    program: string,
    args: ReadonlyArray<string>,
    options: Options = {}
  ): Effect.Effect<Running> =>
    Effect.sync(() => {
      const [first = program, ...rest] = [...(this.user === undefined ? [] : asUser(this.user.id)), program, ...args]
      const child = spawn(first, rest, {
        cwd: options.cwd ?? this.project,
        env: { ...this.environment, ...options.env },
        stdio: [options.stdin === undefined ? "ignore" : "pipe", "pipe", "pipe"]
      })
      child.stdin?.on("error", () => {})
      if (options.stdin !== undefined) child.stdin?.end(options.stdin)
      const running = new Running(child)
      this.#started.push(running)
      return running
    })

  /** Runs `slipway` to its end. */
  readonly run = (args: ReadonlyArray<string>, options: Options = {}): Effect.Effect<Result> =>
    Effect.flatMap(this.start(args, options), (running) => running.result)

  /** The same with `--json`: the one value on standard output, and the exit code. */
  readonly json = (args: ReadonlyArray<string>, options: Options = {}) =>
    Effect.map(this.run(["--json", ...args], options), ({ code, stderr, stdout }) => {
      assert.match(
        stdout,
        /^[^\n]+\n$/,
        `one line of JSON on standard output, not ${JSON.stringify(stdout)}; ${stderr}`
      )
      const value = JSON.parse(stdout)
      assertDocumented(args, value)
      return { code, stderr, value }
    })

  /** Deploys a command that is expected to come up; answers with the success. */
  readonly deploy = (script: string, flags: ReadonlyArray<string> = [], options: Options = {}) =>
    Effect.map(
      this.json(["deploy", "--ready", "none", ...flags, "--", "sh", "-c", script], { stdin: "prompt", ...options }),
      ({ code, stderr, value }) => {
        assert.strictEqual(code, 0, stderr)
        return value
      }
    )

  /** The path of a file in the project. */
  readonly path = (name: string): string => Path.join(this.project, name)

  get homeId(): string | undefined {
    const file = Path.join(this.home, "home.json")
    return Fs.existsSync(file) ? JSON.parse(Fs.readFileSync(file, "utf8")).homeId : undefined
  }

  /** The rows of the registry, oldest first, as they are: every command that shows them settles them first. */
  readonly rows = (): ReadonlyArray<{ readonly id: string; readonly status: string }> => {
    const registry = new DatabaseSync(Path.join(this.home, "registry.db"), { readOnly: true })
    try {
      return registry.prepare("SELECT id, status FROM agents ORDER BY created_at, id").all()
        .map(({ id, status }) => ({ id: String(id), status: String(status) }))
    } finally {
      registry.close()
    }
  }

  /** Makes an agent that has ended one that ended so many days ago. */
  readonly age = (agentId: string, days: number): void => {
    const registry = new DatabaseSync(Path.join(this.home, "registry.db"))
    try {
      const endedAt = new Date(Date.now() - days * 24 * 3600 * 1000).toISOString()
      registry.prepare("UPDATE agents SET document = json_set(document, '$.endedAt', ?) WHERE id = ?")
        .run(endedAt, agentId)
    } finally {
      registry.close()
    }
  }

  readonly tmux = (...args: ReadonlyArray<string>): string => {
    try {
      return execFileSync("tmux", ["-S", Path.join(this.home, "tmux.sock"), ...args], {
        encoding: "utf8",
        stdio: "pipe"
      })
    } catch {
      return ""
    }
  }

  /** The sessions on the home's tmux server. */
  readonly sessions = (): ReadonlyArray<string> =>
    this.tmux("list-sessions", "-F", "#{session_name}").split("\n").filter((name) => name !== "")

  /** The directories of agents in the home. */
  readonly directories = (): ReadonlyArray<string> => {
    const agents = Path.join(this.home, "agents")
    return Fs.existsSync(agents) ? Fs.readdirSync(agents) : []
  }

  /** Nothing of any deployment may stand: no session, no process, no directory, no entry, no active row. */
  readonly assertNothingLeft = Effect.gen({ self: this }, function*() {
    assert.deepStrictEqual(this.sessions(), [])
    assert.deepStrictEqual(this.directories(), [])
    const { value } = yield* this.json(["ps"])
    assert.deepStrictEqual(value.agents, [])
    if (this.homeId !== undefined) assert.deepStrictEqual(processesOf(this.homeId), [])
    const entries = Fs.readdirSync(this.project, { recursive: true, encoding: "utf8" })
      .filter((path) => path.startsWith(".slipway") && path.includes("/agents/"))
    assert.deepStrictEqual(entries, [])
  })

  readonly close = Effect.gen({ self: this }, function*() {
    // What a test that was cut short has started would go on without an owner.
    for (const running of this.#started) if (!running.ended) yield* running.signal("SIGKILL")
    if (this.homeId !== undefined && Fs.existsSync(Path.join(this.home, "tmux.sock"))) {
      yield* this.run(["stop", "--all", "--grace", "200ms"])
    }
    const left = { sessions: this.sessions(), processes: this.homeId === undefined ? [] : processesOf(this.homeId) }
    this.tmux("kill-server")
    // A launcher that was just ended may still be at its record of the exit: then the removal fails, or leaves it.
    yield* until("its directory is removed", () => {
      try {
        Fs.rmSync(this.directory, { recursive: true, force: true })
      } catch {
        return false
      }
      return !Fs.existsSync(this.directory)
    })
    assert.deepStrictEqual(left, { sessions: [], processes: [] })
  })
}

/** Mounts, and answers whether it could. */
export const mount = (...args: ReadonlyArray<string>): boolean => spawnSync("mount", args).status === 0

/** Whether this user may mount: a disk of a size of its own needs that. */
export const canMount = process.platform === "linux" && process.getuid?.() === 0 && (() => {
  const directory = Fs.mkdtempSync("/tmp/slipway-mount-")
  const can = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", directory)
  if (can) spawnSync("umount", [directory])
  Fs.rmdirSync(directory)
  return can
})()

/** Gives the sandbox's home a disk of its own. */
export const disk = (box: Sandbox, size: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      Fs.mkdirSync(box.home)
      assert.isTrue(mount("-t", "tmpfs", "-o", `size=${size},mode=0700`, "tmpfs", box.home))
    }),
    () =>
      Effect.sync(() => {
        spawnSync("tmux", ["-S", Path.join(box.home, "tmux.sock"), "kill-server"])
        spawnSync("umount", ["-l", box.home])
      })
  )
