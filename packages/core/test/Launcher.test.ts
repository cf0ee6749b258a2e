import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Schema, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import { parseExitRecord } from "../src/agent/ExitRecord.ts"
import * as Launcher from "../src/deployment/Launcher.ts"
import * as LauncherPrograms from "../src/deployment/LauncherPrograms.ts"
import { Files, layer as filesLayer } from "../src/machine/Files.ts"
import * as Layout from "../src/machine/Layout.ts"
import * as Attributes from "../src/machine/processes/Attributes.ts"

const shells = [["dash"], ["bash", "--posix"]] as const

const notice = "output is elsewhere: $(echo 'no') `no`"
const programs = await Effect.runPromise(
  Effect.provide(Effect.flatMap(Files, (files) => LauncherPrograms.find(files, process.env.PATH)), filesLayer)
)
const basic = { PATH: process.env.PATH ?? "/usr/bin:/bin" }

interface Setup extends Partial<Launcher.LauncherOptions> {
  readonly argv: readonly [string, ...ReadonlyArray<string>]
  readonly prompt?: string | Uint8Array
  /** What the tmux server would give the launcher. */
  readonly pane?: Record<string, string>
  /** Files made beforehand. */
  readonly files?: ReadonlyArray<string>
  /** Called with the agent's directory before sh starts. */
  readonly before?: (directory: string) => Promise<unknown>
}

const temporary = Effect.acquireRelease(
  Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "slipway-launcher-")).then((path) => Fs.realpath(path))),
  (path) => Effect.promise(() => Fs.rm(path, { recursive: true, force: true }))
)

/** Starts a launcher in a session of its own, as tmux does; whatever is left in its group at the end is killed. */
const launch = Effect.fnUntraced(function*(
  shell: ReadonlyArray<string>,
  setup: Setup
): Effect.fn.Return<Running, never, Scope.Scope> {
  const root = yield* temporary
  const directory = setup.directory ?? Path.join(root, "it's the $(agent)\n\"directory\"")
  const cwd = setup.cwd ?? Path.join(root, "work")
  const path = Path.join(directory, Layout.launcherFile)
  yield* Effect.promise(async () => {
    await Fs.mkdir(directory, { mode: 0o700 })
    if (setup.cwd === undefined) await Fs.mkdir(cwd)
    const options = { environment: basic, umask: 0o022, notice, programs, ...setup, directory, cwd }
    await Fs.writeFile(path, Launcher.render(options))
    const environment = Launcher.environmentText(options)
    if (environment !== undefined) {
      await Fs.writeFile(Path.join(directory, Layout.environmentFile), environment, { mode: 0o600 })
    }
    await Fs.writeFile(Path.join(directory, Layout.promptFile), setup.prompt ?? "the prompt", { mode: 0o600 })
    for (const file of setup.files ?? [Layout.stateFile, Layout.stdoutFile, Layout.stderrFile]) {
      await Fs.writeFile(Path.join(directory, file), "", { mode: 0o600 })
    }
    await setup.before?.(directory)
  })
  const [command, ...args] = shell
  const child = yield* Effect.acquireRelease(
    Effect.sync(() =>
      spawn(command ?? "sh", [...args, path], {
        cwd: "/",
        detached: true,
        env: { PATH: "/usr/bin:/bin", HOME: "/", TERM: "tmux", ...setup.pane },
        stdio: ["ignore", "pipe", "pipe"]
      })
    ),
    (child) =>
      Effect.sync(() => {
        try {
          process.kill(-(child.pid ?? Number.NaN), "SIGKILL")
        } catch {
          // Nothing is left in the group.
        }
      })
  )
  const pane: Array<string> = []
  child.stdout.on("data", (chunk: Buffer) => pane.push(chunk.toString()))
  child.stderr.on("data", (chunk: Buffer) => pane.push(chunk.toString()))
  const closed = new Promise<number | null>((resolve) => child.on("close", (code) => resolve(code)))
  return { child, directory, cwd, pane: () => pane.join(""), closed }
})

interface Running {
  readonly child: ChildProcess
  readonly directory: string
  readonly cwd: string
  readonly pane: () => string
  readonly closed: Promise<number | null>
}

const text = (running: Running, file: string) =>
  Effect.promise(() => Fs.readFile(Path.join(running.directory, file), "utf8"))

const record = (running: Running) => Effect.map(Effect.promise(() => Fs.readdir(running.directory)), parseExitRecord)

const ended = Effect.fnUntraced(function*(running: Running) {
  yield* Effect.promise(() => running.closed).pipe(Effect.timeoutOrElse({
    duration: "10 seconds",
    orElse: () => Effect.die("the launcher did not end")
  }))
  return Option.getOrNull(yield* record(running))
})

const until = Effect.fnUntraced(function*(what: string, check: Effect.Effect<boolean>) {
  const look: Effect.Effect<void> = Effect.flatMap(
    check,
    (ok) => ok ? Effect.void : Effect.andThen(Effect.sleep("3 millis"), Effect.suspend(() => look))
  )
  yield* look.pipe(Effect.timeoutOrElse({
    duration: "10 seconds",
    orElse: () => Effect.die(`waited in vain for ${what}`)
  }))
})

const says = (running: Running, word: string) =>
  until(`"${word}"`, Effect.map(text(running, Layout.stdoutFile), (out) => out.includes(word)))

// The agent leads a session of its own: where a test fails, its launcher is ended, and it has to see that by itself.
const waiting = "while [ ! -e go ] && kill -0 $PPID; do sleep 0.01; done"

/** An agent that speaks, and ends with the given code once the file `go` is in its working directory. */
const untilGo = (traps: string, code: number): readonly [string, ...Array<string>] => [
  "/bin/sh",
  "-c",
  `${traps}; echo ready; ${waiting}; exit ${code}`
]

const go = (running: Running) => Effect.promise(() => Fs.writeFile(Path.join(running.cwd, "go"), ""))

const printer = (directory: string) => Path.join(directory, "printer.cjs")
const writePrinter = (directory: string) =>
  Fs.writeFile(
    printer(directory),
    "process.stdout.write(JSON.stringify({ argv: process.argv.slice(2), env: process.env, cwd: process.cwd() }))"
  )
const Printed = Schema.fromJsonString(Schema.Struct({
  argv: Schema.Array(Schema.String),
  env: Schema.Record(Schema.String, Schema.String),
  cwd: Schema.String
}))

const hostile = Schema.Array(Schema.Literals([
  "'",
  "\"",
  "$(touch owned)",
  "`touch owned`",
  "${HOME}",
  "$",
  "\\",
  "\\\\",
  "\n",
  "\r",
  "\t",
  " ",
  "  ",
  "*",
  "?",
  "~",
  "#",
  ";",
  "&",
  "|",
  ">",
  "<",
  "!",
  "-",
  "--",
  "=",
  "%s",
  "\\n",
  "\\'",
  "'\\''",
  "é",
  "日本",
  "🚢",
  "\u0001",
  "\u001b[0m",
  "\u007f",
  "a"
]))

for (const shell of shells) {
  describe(`under ${shell.join(" ")}`, () => {
    for (const code of [0, 1, 7, 126, 127, 255]) {
      it.live(`exit code ${code} of the agent is recorded, and the state file is gone`, () =>
        Effect.gen(function*() {
          const running = yield* launch(shell, { argv: ["/bin/sh", "-c", `exit ${code}`] })
          assert.deepStrictEqual(yield* ended(running), { code, signal: null })
          assert.notInclude(yield* Effect.promise(() => Fs.readdir(running.directory)), Layout.stateFile)
        }))
    }

    it.live("a program that is missing is recorded as 127, with a line in the error output", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, { argv: ["/nowhere/agent"] })
        assert.deepStrictEqual(yield* ended(running), { code: 127, signal: null })
        assert.include(yield* text(running, Layout.stderrFile), "/nowhere/agent")
      }))

    it.live("a program that can't be run is recorded as 126", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, { argv: ["/etc/passwd"] })
        assert.deepStrictEqual(yield* ended(running), { code: 126, signal: null })
        assert.notStrictEqual(yield* text(running, Layout.stderrFile), "")
      }))

    it.live("a working directory that can't be entered is recorded as 126, named, and the agent is not run", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, { argv: ["/bin/echo", "ran"], cwd: "/nowhere/it's" })
        assert.deepStrictEqual(yield* ended(running), { code: Launcher.cannotStartCode, signal: null })
        assert.include(yield* text(running, Layout.stderrFile), "/nowhere/it's")
        assert.strictEqual(yield* text(running, Layout.stdoutFile), "")
      }))

    it.live("without the prompt file the agent is not run, and that is recorded", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, {
          argv: ["/bin/echo", "ran"],
          before: (directory) => Fs.rm(Path.join(directory, Layout.promptFile))
        })
        assert.notStrictEqual((yield* ended(running))?.code, 0)
        assert.strictEqual(yield* text(running, Layout.stdoutFile), "")
        assert.include(yield* text(running, Layout.stderrFile), Layout.promptFile)
      }))

    for (
      const [sent, code, signal] of [
        ["SIGTERM", 143, "SIGTERM"],
        ["SIGINT", 143, "SIGTERM"],
        ["SIGQUIT", 143, "SIGTERM"],
        ["SIGHUP", 129, "SIGHUP"]
      ] as const
    ) {
      it.live(`${sent} reaches the agent as ${signal}, and is recorded as ${code}`, () =>
        Effect.gen(function*() {
          const running = yield* launch(shell, { argv: ["/bin/sh", "-c", "echo ready; exec sleep 1000"] })
          yield* says(running, "ready")
          running.child.kill(sent)
          assert.deepStrictEqual(yield* ended(running), { code, signal })
        }))
    }

    for (const signal of ["SIGXCPU", "SIGXFSZ", "SIGSYS", "SIGVTALRM", "SIGPROF", "SIGBUS", "SIGTRAP"] as const) {
      it.live(`an agent that ${signal} ended says so`, () =>
        Effect.gen(function*() {
          const end = `ulimit -c 0; kill -s ${signal.slice(3)} $$; exec sleep 1000`
          const running = yield* launch(shell, { argv: ["/bin/sh", "-c", end] })
          assert.deepStrictEqual(yield* ended(running), { code: 128 + Os.constants.signals[signal], signal })
        }))
    }

    it.live("an agent that outlives HUP keeps running, and is recorded only once it has ended", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, { argv: untilGo("trap 'echo heard' HUP", 3) })
        yield* says(running, "ready")
        running.child.kill("SIGHUP")
        yield* says(running, "heard")
        assert.isTrue(Option.isNone(yield* record(running)))
        assert.isNull(running.child.exitCode)
        yield* go(running)
        assert.deepStrictEqual(yield* ended(running), { code: 3, signal: null })
      }))

    it.live("a storm of TERM up to the very end changes nothing about the record", () =>
      Effect.gen(function*() {
        for (let round = 0; round < 3; round++) {
          const running = yield* launch(shell, { argv: untilGo("trap 'echo heard' TERM", 9) })
          yield* says(running, "ready")
          yield* Effect.sync(() => running.child.kill("SIGTERM")).pipe(
            Effect.andThen(Effect.sleep("1 millis")),
            Effect.forever,
            Effect.forkScoped
          )
          yield* says(running, "heard")
          yield* go(running)
          assert.deepStrictEqual(yield* ended(running), { code: 9, signal: null })
        }
      }))

    it.live("an agent that answers TERM with exit 127 is recorded as 127", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, { argv: untilGo("trap 'sleep 0.05; exit 127' TERM", 1) })
        yield* says(running, "ready")
        running.child.kill("SIGTERM")
        assert.deepStrictEqual(yield* ended(running), { code: 127, signal: null })
      }))

    it.live("an agent that is killed is recorded as 137, and the pane shows the notice alone", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, {
          argv: ["/bin/sh", "-c", "kill -KILL $$", "argument-secret"],
          environment: { ...basic, SECRET: "variable-secret" }
        })
        assert.deepStrictEqual(yield* ended(running), { code: 137, signal: "SIGKILL" })
        assert.strictEqual(running.pane(), `${notice}\n`)
        assert.strictEqual(yield* text(running, Layout.stderrFile), "")
      }))

    it.effect.prop(
      "arguments, variables and the working directory reach the agent byte for byte, and are never run",
      [Schema.Array(hostile), Schema.Array(hostile), hostile],
      ([args, values, folder]) =>
        Effect.gen(function*() {
          const root = yield* temporary
          // No file name is longer than 255 bytes.
          const cwd = Path.join(root, `in ${folder.slice(0, 12).join("")}`)
          yield* Effect.promise(() => Fs.mkdir(cwd))
          yield* Effect.promise(() => writePrinter(root))
          const argv = args.map((parts) => parts.join(""))
          const variables = Object.fromEntries(values.map((parts, index) => [`V_${index}`, parts.join("")]))
          const running = yield* launch(shell, {
            argv: [process.execPath, printer(root), ...argv],
            environment: { ...basic, ...variables },
            cwd
          })
          assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
          const printed = yield* Schema.decodeEffect(Printed)(yield* text(running, Layout.stdoutFile))
          assert.deepStrictEqual(printed.argv, argv)
          assert.deepStrictEqual(
            Object.fromEntries(Object.entries(printed.env).filter(([n]) => n.startsWith("V_"))),
            variables
          )
          assert.strictEqual(printed.cwd, cwd)
          assert.strictEqual(printed.env["PWD"], cwd)
          assert.deepStrictEqual(yield* Effect.promise(() => Fs.readdir(cwd)), [])
        }).pipe(Effect.scoped),
      { arbitrary: { runs: 12 }, timeout: 60_000 }
    )

    it.live("the agent sees what it was given and nothing of the pane's tmux", () =>
      Effect.gen(function*() {
        const root = yield* temporary
        yield* Effect.promise(() => writePrinter(root))
        const environment = { ...basic, HOME: "/somewhere", EMPTY: "", LANG: "C", TERM: "dumb" }
        const running = yield* launch(shell, {
          argv: [process.execPath, printer(root)],
          environment,
          pane: { TMUX: "/a,1,2", TMUX_PANE: "%0", TERM_PROGRAM: "tmux", COLORTERM: "truecolor", OLDPWD: "/" }
        })
        assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
        const { env } = yield* Schema.decodeEffect(Printed)(yield* text(running, Layout.stdoutFile))
        const { PWD, SHLVL: _level, _: _last, ...rest } = env
        assert.deepStrictEqual(rest, environment)
        assert.strictEqual(PWD, running.cwd)
      }))

    it.live("variables that sh can't export arrive byte for byte, beside all others, and none stops the launcher or is run", () =>
      Effect.gen(function*() {
        const root = yield* temporary
        yield* Effect.promise(() => writePrinter(root))
        const kept = ["PPID", "UID", "EUID", "GID", "SHELLOPTS", "BASHOPTS", "BASH_VERSINFO", "IFS", "OPTIND", "LINENO"]
        const names = [...kept, "RANDOM", "SECONDS", "POSIXLY_CORRECT", "_"]
        const environment = {
          ...basic,
          ...Object.fromEntries(names.map((name) => [name, "a[$(touch owned)]"])),
          "spring.profiles.active": "it's",
          "not-a-name": "a\nb",
          "BAD;touch owned;": "x",
          "BASH_FUNC_which%%": "() {  touch owned\n}",
          "NODE_OPTIONS": "--no-deprecation",
          PATH: "",
          LAST: "reached"
        }
        const running = yield* launch(shell, { argv: [process.execPath, printer(root)], environment })
        assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
        const { env } = yield* Schema.decodeEffect(Printed)(yield* text(running, Layout.stdoutFile))
        assert.deepStrictEqual(env, { ...environment, PWD: running.cwd })
        assert.deepStrictEqual(yield* Effect.promise(() => Fs.readdir(running.cwd)), [])
        const file = yield* Effect.promise(() => Fs.stat(Path.join(running.directory, Layout.environmentFile)))
        assert.strictEqual(file.mode & 0o777, 0o600)
      }))

    for (const how of ["exported", "handed over"] as const) {
      it.live(`the agent starts with the default for every signal, in a session of its own, without a terminal: ${how}`, () =>
        Effect.gen(function*() {
          const environment = { ...basic, ...(how === "exported" ? {} : { "a.b": "c" }) }
          const script = "grep -E '^Sig(Ign|Blk)' /proc/self/status; ps -o sid=,tty= -p $$; echo $$"
          const running = yield* launch(shell, { argv: ["/bin/sh", "-c", script], environment })
          assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
          const [blocked, ignored, session, pid] = (yield* text(running, Layout.stdoutFile)).trim().split("\n")
          assert.deepStrictEqual([blocked, ignored], [`SigBlk:\t${"0".repeat(16)}`, `SigIgn:\t${"0".repeat(16)}`])
          assert.deepStrictEqual(session?.trim().split(/\s+/), [pid, "?"])
        }))
    }

    it.live("an agent is started all the same where the programs for that are missing", () =>
      Effect.gen(function*() {
        const bare = { ...programs, setsid: undefined, env: undefined }
        const running = yield* launch(shell, { argv: ["/bin/echo", "ran"], programs: bare })
        assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
        const old = yield* launch(shell, { argv: ["/bin/echo", "ran"], programs: { ...programs, env: "/bin/false" } })
        assert.deepStrictEqual(yield* ended(old), { code: 0, signal: null })
        assert.strictEqual(yield* text(old, Layout.stdoutFile), "ran\n")
      }))

    it.live("a program with an equals sign in its path is run, and no variable is made of it", () =>
      Effect.gen(function*() {
        const root = yield* temporary
        const program = Path.join(root, "a=b")
        yield* Effect.promise(() => Fs.writeFile(program, "#!/bin/sh\necho \"$0 $#\"\n", { mode: 0o755 }))
        const running = yield* launch(shell, { argv: [program, "--", "x y"] })
        assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
        assert.strictEqual(yield* text(running, Layout.stdoutFile), `${program} 2\n`)
      }))

    it.live("limits, nice value, OOM score and CPUs that are carried hold for the agent, and not for the launcher", () =>
      Effect.gen(function*() {
        const script =
          "ulimit -Sn; ulimit -Hn; ulimit -Sc; nice; cat /proc/self/oom_score_adj; taskset -cp $$; echo ready; "
        const running = yield* launch(shell, {
          argv: ["/bin/sh", "-c", `${script} ${waiting}`],
          carried: {
            limits: [["nofile", { soft: 200n, hard: 300n }], ["core", { soft: 0n, hard: 0n }]],
            openFiles: undefined,
            niceBy: 5,
            oomScoreAdj: 500,
            cpus: "0"
          }
        })
        yield* says(running, "ready")
        const [soft, hard, core, nice, oom, cpus] = (yield* text(running, Layout.stdoutFile)).trim().split("\n")
        assert.deepStrictEqual([soft, hard, core, oom], ["200", "300", "0", "500"])
        assert.strictEqual(Number(nice), Math.min(19, Os.getPriority() + 5))
        assert.match(cpus ?? "", /: 0$/)
        const launcher = Attributes.read(running.child.pid ?? 0)
        assert.notStrictEqual(launcher?.limits.nofile?.hard, 300n)
        assert.strictEqual(launcher?.nice, Os.getPriority())
        yield* go(running)
        assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
      }))

    it.live("what the kernel refuses keeps the agent from being started, and is named", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, {
          argv: ["/bin/echo", "ran"],
          carried: { ...Attributes.nothing, oomScoreAdj: 5000 }
        })
        assert.deepStrictEqual(yield* ended(running), { code: Launcher.cannotStartCode, signal: null })
        assert.include(yield* text(running, Layout.stderrFile), "OOM score")
        assert.strictEqual(yield* text(running, Layout.stdoutFile), "")
      }))

    it.live("an environment of one megabyte arrives, and a string the system refuses is recorded as a failure", () =>
      Effect.gen(function*() {
        const environment = {
          ...basic,
          ...Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`LARGE_${i}`, "'$x\n".repeat(25_000)]))
        }
        const count = ["/bin/sh", "-c", "printf %s \"$LARGE_9\" | wc -c"] as const
        const large = yield* launch(shell, { argv: count, environment })
        assert.deepStrictEqual(yield* ended(large), { code: 0, signal: null })
        assert.strictEqual((yield* text(large, Layout.stdoutFile)).trim(), "100000")
        const refused = yield* launch(shell, { argv: count, environment: { ...basic, HUGE: "x".repeat(200_000) } })
        assert.notStrictEqual((yield* ended(refused))?.code ?? 0, 0)
        assert.notStrictEqual(yield* text(refused, Layout.stderrFile), "")
      }))

    it.live("a prompt of ten megabytes arrives on standard input byte for byte", () =>
      Effect.gen(function*() {
        const prompt = Buffer.alloc(10_000_000, "$(touch owned) 'quote' \\ é\r\n")
        const running = yield* launch(shell, { argv: ["cat"], prompt })
        assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
        const output = yield* Effect.promise(() => Fs.readFile(Path.join(running.directory, Layout.stdoutFile)))
        assert.isTrue(prompt.equals(output))
      }))

    for (const [umask, shown] of [[0o022, "0022"], [0o007, "0007"], [0, "0000"]] as const) {
      it.live(`the agent has the mask ${shown}, and the launcher's own files are for the owner alone`, () =>
        Effect.gen(function*() {
          const running = yield* launch(shell, { argv: ["/bin/sh", "-c", "umask; echo error >&2"], umask, files: [] })
          assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
          assert.strictEqual(yield* text(running, Layout.stdoutFile), `${shown}\n`)
          assert.strictEqual(yield* text(running, Layout.stderrFile), "error\n")
          for (const file of [Layout.stdoutFile, Layout.stderrFile, `${Layout.exitPrefix}0`]) {
            const info = yield* Effect.promise(() => Fs.stat(Path.join(running.directory, file)))
            assert.strictEqual(info.mode & 0o777, 0o600)
          }
        }))
    }

    it.live("output is appended, so that a restart of the launcher loses none", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, {
          argv: ["/bin/echo", "new"],
          before: (directory) => Fs.writeFile(Path.join(directory, Layout.stdoutFile), "old\n")
        })
        yield* ended(running)
        assert.strictEqual(yield* text(running, Layout.stdoutFile), "old\nnew\n")
      }))

    it.live("one process runs beside the launcher, and no secret is in an argument list or the launcher's environment", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, {
          argv: untilGo(":", 0),
          environment: { ...basic, API_KEY: "variable-secret" },
          prompt: "prompt-secret"
        })
        yield* says(running, "ready")
        const launcher = String(running.child.pid)
        const children = (yield* Effect.promise(() =>
          Fs.readFile(`/proc/${launcher}/task/${launcher}/children`, "utf8")
        ))
          .trim().split(" ")
        assert.lengthOf(children, 1)
        const read = (path: string) => Effect.promise(() => Fs.readFile(path, "utf8"))
        for (const pid of [launcher, ...children]) assert.notInclude(yield* read(`/proc/${pid}/cmdline`), "secret")
        assert.notInclude(yield* read(`/proc/${launcher}/environ`), "secret")
        assert.include(yield* read(`/proc/${children[0]}/environ`), "variable-secret")
        yield* go(running)
        assert.deepStrictEqual(yield* ended(running), { code: 0, signal: null })
      }))

    it.live("a launcher that was unlinked before sh opens it runs nothing", () =>
      Effect.gen(function*() {
        const running = yield* launch(shell, {
          argv: ["/bin/sh", "-c", "touch ran"],
          before: (directory) => Fs.rm(Path.join(directory, Layout.launcherFile))
        })
        assert.isNull(yield* ended(running))
        assert.notStrictEqual(yield* Effect.promise(() => running.closed), 0)
        assert.deepStrictEqual(yield* Effect.promise(() => Fs.readdir(running.cwd)), [])
      }))

    it.live("a launcher whose agent's directory is gone runs nothing and makes nothing", () =>
      Effect.gen(function*() {
        const root = yield* temporary
        const moved = Path.join(root, "moved")
        const directory = Path.join(root, "directory")
        // sh has the script open already when the directory goes away, as if a release came in between.
        yield* Effect.promise(() => Fs.mkdir(moved))
        const script = Launcher.render({
          argv: ["/bin/sh", "-c", "touch ran"],
          environment: basic,
          cwd: moved,
          directory,
          umask: 0o022,
          notice,
          programs
        })
        yield* Effect.promise(() => Fs.writeFile(Path.join(root, "launcher"), script))
        const [command, ...args] = shell
        const child = spawn(command, [...args, Path.join(root, "launcher")], { stdio: "ignore" })
        assert.strictEqual(yield* Effect.promise(() => new Promise((resolve) => child.on("close", resolve))), 126)
        assert.deepStrictEqual((yield* Effect.promise(() => Fs.readdir(root))).toSorted(), ["launcher", "moved"])
        assert.deepStrictEqual(yield* Effect.promise(() => Fs.readdir(moved)), [])
      }))
  })
}

describe("parseExitRecord", () => {
  it("finds the record among other files", () => {
    const files = [Layout.launcherFile, Layout.promptFile, Layout.stdoutFile, Layout.stderrFile]
    assert.deepStrictEqual(parseExitRecord([...files, "exit.7"]), Option.some({ code: 7, signal: null }))
    assert.deepStrictEqual(parseExitRecord([...files, Layout.stateFile]), Option.none())
  })

  it("names the signal of a code above 128, and leaves a code that no ending signal has as it is", () => {
    const signal = (code: number) => Option.map(parseExitRecord([`exit.${code}`]), (found) => found.signal)
    assert.deepStrictEqual(signal(129), Option.some("SIGHUP"))
    assert.deepStrictEqual(signal(130), Option.some("SIGINT"))
    assert.deepStrictEqual(signal(137), Option.some("SIGKILL"))
    assert.deepStrictEqual(signal(143), Option.some("SIGTERM"))
    for (const code of [0, 1, 127, 128, 145, 244, 255]) assert.deepStrictEqual(signal(code), Option.some(null))
  })

  it("takes no HTTP status that a model's service answers with, cut to a byte, for a signal", () => {
    for (const status of [400, 401, 402, 403, 404, 405, 413, 422, 424, 429, 500, 501, 502, 503, 504, 529]) {
      const found = Option.map(parseExitRecord([`exit.${status % 256}`]), ({ signal }) => signal)
      assert.deepStrictEqual(found, Option.some(null), String(status))
    }
  })

  it("takes no other name for a record", () => {
    assert.deepStrictEqual(
      parseExitRecord(["exit.", "exit.x", "exit.-1", "exit.256", "exit.07", "exit.1.tmp", "xexit.1"]),
      Option.none()
    )
  })
})
