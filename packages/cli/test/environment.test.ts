import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as AtStart from "../src/AtStart.ts"
import { catches, installed, procFile, type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

/** Runs a shell script in which `slipway` is the command. */
const shell = (box: Sandbox, script: string) =>
  box.startProgram("bash", ["-c", `slipway() { '${process.execPath}' -- '${box.bin}' "$@"; }\n${script}`])

/** Whether a process has a file open. */
const isOpen = (pid: number | undefined, path: string): boolean => {
  const directory = `/proc/${pid}/fd`
  return Fs.existsSync(directory) && Fs.readdirSync(directory).some((descriptor) => {
    try {
      return Fs.readlinkSync(`${directory}/${descriptor}`) === path
    } catch {
      return false
    }
  })
}

describe("in a working directory that was removed", () => {
  const script = "mkdir gone && cd gone && rmdir ../gone && exec \"$@\""
  const there = (box: Sandbox, args: ReadonlyArray<string>) =>
    Effect.map(
      Effect.flatMap(
        box.startProgram("sh", ["-c", script, "sh", process.execPath, "--", box.bin, "--json", ...args]),
        (running) => running.result
      ),
      ({ code, stdout }) => ({ code, value: JSON.parse(stdout) })
    )

  it.live("what needs none works", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const created = yield* there(box, ["task", "create", "elsewhere", "--project", box.project])
      assert.strictEqual(created.code, 0)
      const task = created.value.task_id
      const deployed = yield* there(box, ["deploy", "--task", task, "--prompt", "x", "--wait", "--", "true"])
      assert.deepStrictEqual([deployed.code, deployed.value.success], [0, true])
      for (const args of [["ps"], ["task", "list"], ["doctor"], ["reap"], ["show", deployed.value.agent_id]]) {
        assert.strictEqual((yield* there(box, args)).code, 0, args.join(" "))
      }
    }))

  it.live("what needs one says so with exit code 4, and makes nothing", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { value: task } = yield* box.json(["task", "create", "here"])
      for (
        const args of [
          ["deploy", "--prompt", "x", "--", "true"],
          ["deploy", "--prompt", "x", "--task", task.task_id, "--cwd", "below", "--", "true"],
          ["task", "create", "nowhere"],
          ["task", "create", "nowhere", "--project", "below"],
          ["reap", "--plan", "plan.json"],
          ["ps", "--home", "below"],
          ["rebuild", "--project", "below"]
        ]
      ) {
        const { code, value } = yield* there(box, args)
        assert.deepStrictEqual([code, value.error_tag], [4, "WorkingDirectoryUnusable"], args.join(" "))
        assert.match(value.error, /^the working directory.* can't be used: .*; change to another one/)
      }
      assert.lengthOf((yield* box.json(["task", "list"])).value.tasks, 1)
      yield* box.assertNothingLeft
    }))
})

describe("a user without a home directory", () => {
  it.live("hears what to set, with exit code 4, and gets no registry where the command happens to run", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const preload = Path.join(box.directory, "preload.cjs")
      Fs.writeFileSync(
        preload,
        `const os = require("node:os")
const none = () => { throw Object.assign(new Error("uv_os_get_passwd returned ENOENT (no such file or directory)"), { code: "ERR_SYSTEM_ERROR" }) }
os.userInfo = none
os.homedir = () => process.env.HOME ?? none()
require("node:module").syncBuiltinESMExports()
`
      )
      for (const home of [undefined, "", "relative"]) {
        const env = {
          HOME: home,
          SLIPWAY_HOME: undefined,
          XDG_STATE_HOME: "relative",
          NODE_OPTIONS: `--require ${preload}`
        }
        for (const args of [["ps"], ["deploy", "--prompt", "x", "--", "true"]]) {
          const { code, value } = yield* box.json(args, { env })
          assert.deepStrictEqual([code, value.error_tag], [4, "HomeUnknown"], `${home} ${args.join(" ")}`)
          assert.match(value.error, /^HOME is .*; set HOME, or name Slipway's home with --home or SLIPWAY_HOME$/)
        }
      }
      assert.deepStrictEqual(Fs.readdirSync(box.project), [])
      const named = yield* box.run(["ps"], { env: { HOME: undefined, NODE_OPTIONS: `--require ${preload}` } })
      assert.strictEqual(named.code, 0, named.stderr)
    }))
})

describe("a prompt file", () => {
  const deploy = (type: string, file: string) =>
    `slipway deploy --type ${type} --ready none --wait --prompt-file ${file} -- sh -c 'test "$(cat)" = hello'`

  it.live(
    "may be whatever can be read: a named pipe, a substitution, a descriptor, a socket",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        execFileSync("mkfifo", [box.path("fifo")])
        Fs.writeFileSync(box.path("file"), "hello")
        const scripts = [
          deploy("file", "file"),
          deploy("substitution", "<(echo hello)"),
          `(echo hello >fifo) & ${deploy("fifo", "fifo")}`,
          `echo hello | ${deploy("pipe", "/dev/stdin")}`,
          `${deploy("stdin-file", "/dev/stdin")} <file`,
          `${deploy("descriptor", "/dev/fd/7")} 7<file`,
          `${deploy("pipe-descriptor", "/proc/self/fd/7")} 7< <(echo hello)`,
          `echo hello | ${deploy("dash", "-")}`
        ]
        for (const script of scripts) {
          const { code, stderr } = yield* Effect.flatMap(shell(box, script), (running) => running.result)
          assert.deepStrictEqual([code, stderr], [0, ""], script)
        }
        // Node's own pipes are sockets.
        for (const file of ["/dev/stdin", "/proc/self/fd/0", "-"]) {
          const args = ["deploy", "--ready", "none", "--wait", "--prompt-file", file, "--", "grep", "-q", "hello"]
          const { code, stderr } = yield* box.run(args, { stdin: "hello" })
          assert.deepStrictEqual([code, stderr], [0, ""], file)
        }
      }),
    120_000
  )

  it.live("that can't be read, or has no end or no content, is refused with exit code 2", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (
        const [file, why] of [
          ["missing", /can't be read: no such file$/],
          [".", /can't be read: it is a directory$/],
          ["/proc/self/fd/99", /can't be read: no such file$/],
          ["/dev/null", /is empty$/],
          ["/dev/zero", /has more than \d+ bytes; no prompt may be longer$/]
        ] as const
      ) {
        const { code, value } = yield* box.json(["deploy", "--prompt-file", file, "--", "true"])
        assert.deepStrictEqual([code, value.error_tag, value.step], [2, "UsageError", "request"], file)
        assert.match(value.error, why)
      }
      yield* box.assertNothingLeft
    }))

  it.live("that has no writer is said to be waited for, and a signal ends the wait", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      execFileSync("mkfifo", [box.path("fifo")])
      for (
        const [redirection, file, name] of [
          ["", "fifo", "the prompt file fifo"],
          ["<>fifo", "-", "standard input"],
          ["<>fifo", "/dev/stdin", "the prompt file /dev/stdin"]
        ]
      ) {
        const script = `exec "$@" ${redirection}`
        const args = ["deploy", "--json", "--prompt-file", file ?? "", "--", "true"]
        const waiting = yield* box.startProgram("sh", ["-c", script, "sh", process.execPath, "--", box.bin, ...args])
        yield* until("it says so", () => waiting.stderr !== "")
        assert.strictEqual(waiting.stderr, `slipway: waiting for the end of ${name}, which is the prompt\n`)
        yield* waiting.signal("SIGINT")
        const { code, stdout } = yield* Effect.timeout(waiting.result, "5 seconds")
        assert.deepStrictEqual([code, JSON.parse(stdout).error_tag], [130, "Interrupted"])
      }
      yield* box.assertNothingLeft
    }))
})

describe("any other file that a command names", () => {
  it.live("may be whatever can be read, and a signal ends the wait for one that nobody writes", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      execFileSync("mkfifo", [box.path("fifo")])
      const deployed = yield* Effect.flatMap(
        shell(box, `slipway deploy --prompt x --wait --env-file <(echo A=hello) -- sh -c 'test "$A" = hello'`),
        (running) => running.result
      )
      assert.strictEqual(deployed.code, 0, deployed.stderr)
      const reaped = yield* Effect.flatMap(
        shell(box, "slipway reap --plan <(slipway reap --dry-run --json)"),
        (running) => running.result
      )
      assert.strictEqual(reaped.code, 0, reaped.stderr)
      for (
        const args of [["deploy", "--prompt", "x", "--env-file", "fifo", "--", "true"], ["reap", "--plan", "fifo"]]
      ) {
        const waiting = yield* box.start(["--json", ...args])
        yield* until("it waits", () => isOpen(waiting.child.pid, box.path("fifo")))
        yield* waiting.signal("SIGINT")
        const { code, stdout } = yield* Effect.timeout(waiting.result, "5 seconds")
        assert.deepStrictEqual([code, JSON.parse(stdout).error_tag], [130, "Interrupted"], args.join(" "))
      }
    }))
})

describe("what the command was started with", () => {
  const path = `${Path.dirname(process.execPath)}:${process.env["PATH"]}`

  it.live("signals that were ignored stay ignored, and the others end it", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* box.deploy("until [ -e go ]; do sleep 0.02; done")
      const waiting = yield* box.startProgram(
        "sh",
        ["-c", "trap '' HUP INT QUIT; exec \"$@\"", "sh", installed(), "wait", agent.agent_id],
        { env: { PATH: path } }
      )
      yield* until("it has met what was ignored", () => catches(waiting.child.pid, 3))
      for (const signal of ["SIGHUP", "SIGINT", "SIGQUIT", "SIGHUP"] as const) yield* waiting.signal(signal)
      const ended = yield* box.startProgram(installed(), ["wait", agent.agent_id], { env: { PATH: path } })
      yield* until("it listens to HUP", () => catches(ended.child.pid, 1))
      yield* ended.signal("SIGHUP")
      assert.strictEqual((yield* ended.result).code, 129)
      Fs.writeFileSync(box.path("go"), "")
      const { code, stderr } = yield* waiting.result
      assert.strictEqual(code, 0, stderr)
    }))

  it.live("a deployment goes on when the terminal of its nohup is closed", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const args = ["deploy", "--prompt", "x", "--ready-within", "500ms", "--", "sh", "-c", "touch up; sleep 100"]
      const deploying = yield* box.startProgram("nohup", [installed(), ...args], { env: { PATH: path } })
      yield* until("the agent", () => Fs.existsSync(box.path("up")))
      yield* deploying.signal("SIGHUP")
      const { code, stderr } = yield* deploying.result
      assert.strictEqual(code, 0, stderr)
      assert.lengthOf(box.sessions(), 1)
    }))

  it.live("its soft limit of open files is its agent's", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const args = ["deploy", "--prompt", "x", "--wait", "--", "sh", "-c", "ulimit -Sn >limit"]
      const running = yield* box.startProgram(
        "sh",
        ["-c", "ulimit -Sn 777; exec \"$@\"", "sh", installed(), ...args],
        { env: { PATH: path } }
      )
      assert.strictEqual((yield* running.result).code, 0)
      assert.strictEqual(Fs.readFileSync(box.path("limit"), "utf8"), "777\n")
    }))

  it.live("is handed on to neither the tmux server nor the agent", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const args = ["deploy", "--prompt", "x", "--wait", "--", "sh", "-c", "env >variables"]
      const running = yield* box.startProgram(installed(), args, { env: { PATH: path } })
      assert.strictEqual((yield* running.result).code, 0)
      assert.notInclude(Fs.readFileSync(box.path("variables"), "utf8"), AtStart.variable)
      const server = box.tmux("display-message", "-p", "#{pid}").trim()
      assert.match(server, /^\d+$/)
      assert.notInclude(procFile(server, "environ"), AtStart.variable)
    }))

  it("is read from the shell's line alone, and only by the process that it is about", () => {
    const line = (pid: number, limit: string, mask: number) =>
      `${limit} ${pid} ${pid} (a) S (b c) S 1 2 3 0 -1 4194304 143 0 0 0 0 0 0 0 20 0 1 0 230384 2654208 406 ` +
      `18446744073709551615 1 2 3 0 0 0 0 ${mask} 65538 0 0 0 17 0 0`
    assert.deepStrictEqual(AtStart.parse(line(7, "1024", 0b111), 7), {
      ignored: new Set<NodeJS.Signals>(["SIGHUP", "SIGINT", "SIGQUIT"]),
      softOpenFiles: 1024
    })
    assert.deepStrictEqual(AtStart.parse(line(7, "unlimited", 1 << 14), 7), {
      ignored: new Set<NodeJS.Signals>(["SIGTERM"]),
      softOpenFiles: undefined
    })
    const nothing: AtStart.AtStart = { ignored: new Set(), softOpenFiles: undefined }
    assert.deepStrictEqual(AtStart.parse(line(8, "1024", 7), 7), nothing)
    assert.deepStrictEqual(AtStart.parse(undefined, 7), nothing)
    assert.deepStrictEqual(AtStart.parse("nonsense", 7), nothing)
    assert.deepStrictEqual(AtStart.parse(" 7 ", 7), nothing)
  })
})

describe("show", () => {
  it.live("names no file that is no longer there", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const failed = yield* box.json(["deploy", "--prompt", "x", "--", "sh", "-c", "exit 3"])
      const { value } = yield* box.json(["show", failed.value.agent_id])
      assert.strictEqual(value.status, "rolled-back")
      assert.deepStrictEqual([value.prompt_file, value.log_file, value.stderr_file], [null, null, null])
      assert.deepStrictEqual([value.resources.prompt_file, value.resources.task_registry], [null, null])
      const text = (yield* box.run(["show", failed.value.agent_id])).stdout
      assert.notInclude(text, "prompt.md")
      assert.notInclude(text, "stdout.log")
      const agent = yield* box.deploy("true", ["--wait"])
      Fs.rmSync(agent.prompt_file)
      const shown = (yield* box.json(["show", agent.agent_id])).value
      assert.deepStrictEqual([shown.prompt_file, shown.log_file], [null, agent.log_file])
    }))
})
