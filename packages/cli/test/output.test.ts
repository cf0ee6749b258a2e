import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { canMount, catches, mount, procFile, type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

/** What a pipe holds while it is not read, less room for the first bytes of an answer. */
const filling = 65_000

/** A pipe that the test itself reads, when it wants to, and that has room for little. */
const slowPipe = (box: Sandbox) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const path = box.path("pipe")
      execFileSync("mkfifo", [path])
      const reader = Fs.openSync(path, Fs.constants.O_RDONLY | Fs.constants.O_NONBLOCK)
      // Of its own, since any process that inherits it decides whether it blocks.
      const writer = Fs.openSync(path, "w")
      Fs.rmSync(path)
      Fs.writeSync(writer, Buffer.alloc(filling))
      return { reader, writer }
    }),
    ({ reader, writer }) =>
      Effect.sync(() => {
        Fs.closeSync(reader)
        Fs.closeSync(writer)
      })
  )

/** What is in the pipe now. */
const taken = (descriptor: number): string => {
  const buffer = Buffer.alloc(1 << 20)
  let text = ""
  for (;;) {
    try {
      text += buffer.toString("latin1", 0, Fs.readSync(descriptor, buffer))
    } catch {
      return text
    }
  }
}

interface Running {
  readonly child: ChildProcess
  code: number | undefined
  stderr: string
}

type Stdio = ReadonlyArray<"ignore" | "pipe" | number>

/** Starts the command with its standard streams as they are given. */
const start = (box: Sandbox, args: ReadonlyArray<string>, stdio: Stdio) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, ["--", box.bin, ...args], {
        cwd: box.project,
        env: { ...box.environment },
        stdio: [...stdio]
      })
      const running: Running = { child, code: undefined, stderr: "" }
      child.stderr?.setEncoding("utf8").on("data", (text: string) => (running.stderr += text))
      child.on("close", (code, signal) => (running.code = code ?? (signal === null ? -1 : -2)))
      return running
    }),
    ({ child }) => Effect.sync(() => void child.kill("SIGKILL"))
  )

/** What prints something, in a home with one agent that has ended. */
const commands = (agent: string): ReadonlyArray<ReadonlyArray<string>> => [
  ["ps", "--all"],
  ["show", agent, "--json"],
  ["logs", agent],
  ["logs", agent, "--json"],
  ["attach", agent],
  ["doctor"],
  ["metrics"],
  ["--help"],
  ["--completions", "bash"],
  ["deploy", "--prompt", "x", "--json", "--", "sh", "-c", "exit 3"],
  ["ps", "--nonsense", "--json"]
]

const ended = (box: Sandbox) =>
  box.deploy("head -c 300000 /dev/zero | tr '\\0' x; echo; echo end", ["--wait", "--type", "writer"])

/** Ends or has nothing to do: on a machine that is busy it may only have to wait, which proves less and fails nothing. */
const rests = (
  running: { readonly child: { readonly pid?: number | undefined }; readonly code: number | undefined }
) => {
  let before = ""
  const time = Effect.sync(() => {
    const fields = procFile(running.child.pid ?? 0, "stat").split(" ")
    const now = fields.slice(13, 15).join(" ")
    const isSame = now === before && catches(running.child.pid, 1)
    before = now
    return running.code !== undefined || isSame
  })
  return Effect.repeat(time, { until: (is: boolean) => is, schedule: Schedule.spaced("300 millis") })
}

const over = (running: Running) => until("it has ended", () => running.code !== undefined)

describe("what is printed", () => {
  it.live(
    "arrives whole at a reader that is slower than the command, whichever command it is",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        const agent = yield* ended(box)
        const file = box.path("whole")
        for (const args of commands(agent.agent_id)) {
          const whole = yield* start(box, args, ["ignore", Fs.openSync(file, "w"), "pipe"])
          yield* over(whole)
          const pipe = yield* slowPipe(box)
          const slow = yield* start(box, args, ["ignore", pipe.writer, "pipe"])
          // A reader that begins before the command is through proves less, and fails nothing.
          yield* rests(slow)
          let text = ""
          yield* until("all is read", () => {
            const isOver = slow.code !== undefined
            text += taken(pipe.reader)
            return isOver
          })
          const answer = text.slice(filling)
          const expected = Fs.readFileSync(file, "latin1")
          assert.strictEqual(slow.code, whole.code, `${args.join(" ")}: ${slow.stderr}`)
          assert.strictEqual(answer.split("\n").length, expected.split("\n").length, args.join(" "))
          assert.strictEqual(answer.at(-1), "\n", args.join(" "))
          if (args.includes("--json")) JSON.parse(answer)
        }
      }),
    180_000
  )

  it.live("on standard error arrives whole too", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const pipe = yield* slowPipe(box)
      const name = "x".repeat(4000)
      const slow = yield* start(box, ["show", name], ["ignore", "ignore", pipe.writer])
      yield* rests(slow)
      let text = ""
      yield* until("all is read", () => {
        const isOver = slow.code !== undefined
        text += taken(pipe.reader)
        return isOver
      })
      assert.strictEqual(slow.code, 7)
      assert.match(text.slice(filling), new RegExp(`${name}.* in this home; .*\n$`))
    }))

  it.live("arrives whole in a file and on a terminal", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* ended(box)
      const file = box.path("file")
      const toFile = yield* start(box, ["logs", agent.agent_id], ["ignore", Fs.openSync(file, "w"), "pipe"])
      yield* over(toFile)
      assert.strictEqual(Fs.statSync(file).size, 300_005)
      const terminal = yield* box.startProgram("script", [
        "-qefc",
        `'${process.execPath}' -- '${box.bin}' logs ${agent.agent_id}`,
        "/dev/null"
      ])
      const { code, stdout } = yield* terminal.result
      assert.strictEqual(code, 0)
      assert.strictEqual(stdout.replaceAll("\r", "").length, 300_005)
    }))

  it.live("is no success where it can't be written, and what was done stands", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* ended(box)
      const full = Fs.openSync("/dev/full", "w")
      const to = (args: ReadonlyArray<string>) => Effect.tap(start(box, args, ["ignore", full, "pipe"]), over)
      for (const args of commands(agent.agent_id)) {
        const { code, stderr } = yield* to(args)
        const own = args.includes("--nonsense") ? 2 : args[0] === "deploy" ? 5 : 4
        assert.strictEqual(code, own, `${args.join(" ")}: ${stderr}`)
        assert.match(stderr, /standard output can't be written: no space is left on the device \(ENOSPC\)/)
      }
      const deployed = yield* to([
        "deploy",
        "--prompt",
        "x",
        "--type",
        "stays",
        "--ready",
        "none",
        "--",
        "sleep",
        "100"
      ])
      assert.strictEqual(deployed.code, 4)
      assert.match(deployed.stderr, /what this command did stands\nslipway: stays-\S+ is deployed and goes on\n$/)
      assert.lengthOf((yield* box.json(["ps"])).value.agents, 1)
    }), 120_000)

  it.live.skipIf(!canMount)("is no success where a disk takes only a part of it", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* ended(box)
      const directory = box.path("disk")
      Fs.mkdirSync(directory)
      yield* Effect.acquireRelease(
        Effect.sync(() => assert.isTrue(mount("-t", "tmpfs", "-o", "size=16k", "tmpfs", directory))),
        () => Effect.sync(() => void spawnSync("umount", ["-l", directory]))
      )
      for (const args of [["logs", agent.agent_id], ["logs", agent.agent_id, "--json"], ["--completions", "bash"]]) {
        const descriptor = Fs.openSync(`${directory}/answer`, "w")
        Fs.writeSync(descriptor, Buffer.alloc(8192))
        const { code, stderr } = yield* Effect.tap(start(box, args, ["ignore", descriptor, "pipe"]), over)
        Fs.closeSync(descriptor)
        assert.strictEqual(code, 4, args.join(" "))
        assert.match(stderr, /no space is left on the device/)
      }
    }))

  it.live("to a reader that never reads does not keep a signal from ending the command at once", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* ended(box)
      for (
        const [args, signal, code] of [
          [["logs", agent.agent_id, "--json"], "SIGTERM", 143],
          [["logs", agent.agent_id, "--follow"], "SIGINT", 130],
          [["metrics"], "SIGHUP", 129]
        ] as const
      ) {
        const pipe = yield* slowPipe(box)
        const stuck = yield* start(box, args, ["ignore", pipe.writer, "pipe"])
        yield* rests(stuck)
        assert.isUndefined(stuck.code, `${args.join(" ")} waits for its reader`)
        stuck.child.kill(signal)
        yield* Effect.timeout(over(stuck), "5 seconds")
        assert.strictEqual(stuck.code, code, args.join(" "))
      }
    }))

  it.live("to a terminal that is stopped does not keep a signal from ending the command at once", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* ended(box)
      const pipe = yield* slowPipe(box)
      const line = `echo $$ >pid; exec '${process.execPath}' -- '${box.bin}' logs ${agent.agent_id}`
      // What reads the terminal for it has no reader either.
      yield* Effect.acquireRelease(
        Effect.sync(() =>
          spawn("script", ["-qefc", line, "/dev/null"], {
            cwd: box.project,
            env: { ...box.environment },
            stdio: ["ignore", pipe.writer, "ignore"]
          })
        ),
        (child) => Effect.sync(() => void child.kill("SIGKILL"))
      )
      const pid = () => Number(Fs.existsSync(box.path("pid")) ? Fs.readFileSync(box.path("pid"), "utf8") : 0)
      const isOver = () => ["", "Z"].includes(procFile(pid(), "stat").split(") ")[1]?.charAt(0) ?? "")
      yield* until("it has begun", () => pid() > 0)
      yield* rests({ child: { pid: pid() }, code: undefined })
      assert.isFalse(isOver())
      process.kill(pid(), "SIGTERM")
      yield* until("it has ended", isOver)
    }))

  it.live(
    "to a reader that leaves early changes no exit code and leaves nothing, whichever command it is",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        const agent = yield* ended(box)
        for (
          const args of [...commands(agent.agent_id), ["stop", agent.agent_id], ["task", "list"], ["reap"], ["prune"]]
        ) {
          const line = "{ \"$@\"; echo $? >code; } 2>err | head -c 1 >/dev/null"
          const piped = yield* box.startProgram("sh", ["-c", line, "sh", process.execPath, "--", box.bin, ...args])
          yield* piped.result
          const code = Number(Fs.readFileSync(box.path("code"), "utf8"))
          assert.strictEqual(code, args.includes("--nonsense") ? 2 : args[0] === "deploy" ? 5 : 0, args.join(" "))
          assert.notMatch(Fs.readFileSync(box.path("err"), "utf8"), /EPIPE|can't be written|defect/)
        }
        assert.deepStrictEqual(box.sessions(), [])
        assert.deepStrictEqual(box.directories(), [agent.agent_id])
      }),
    120_000
  )
})
