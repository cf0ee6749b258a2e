/**
 * What other programs of the user do not keep Slipway from: ssh-agent and gpg-agent hide their environment from everybody but
 * root and lead sessions of their own. All is done as an ordinary user, since root can read them.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const hasAgent = spawnSync("sh", ["-c", "command -v ssh-agent"]).status === 0

let sockets = 0

/** An ssh-agent of the sandbox's user; ends with the scope. */
const sshAgent = (box: Sandbox) =>
  Effect.acquireRelease(
    Effect.gen(function*() {
      const socket = Path.join(box.directory, `ssh-${sockets++}.sock`)
      const { code, stdout } = yield* Effect.flatMap(
        box.startProgram("ssh-agent", ["-a", socket, "-s"]),
        (running) => running.result
      )
      assert.strictEqual(code, 0)
      return pidIn(stdout)
    }),
    (pid) => Effect.sync(() => void process.kill(pid, "SIGTERM"))
  )

const pidIn = (text: string): number => Number(/SSH_AGENT_PID=(\d+)/.exec(text)?.[1])

/** A tmux that answers every question, and can start no session. */
const brokenTmux = (box: Sandbox): string => {
  const directory = Path.join(box.directory, "broken")
  const real = spawnSync("sh", ["-c", "command -v tmux"], { encoding: "utf8" }).stdout.trim()
  Fs.mkdirSync(directory)
  const script =
    `#!/bin/sh\ncase " $* " in *" new-session "*) echo "no space for it" >&2; exit 1;; esac\nexec ${real} "$@"\n`
  Fs.writeFileSync(Path.join(directory, "tmux"), script, { mode: 0o755 })
  return `${directory}:${process.env["PATH"] ?? ""}`
}

// `SLIPWAY_ROUNDS` asks for more of them.
const rounds = Number(process.env["SLIPWAY_ROUNDS"] ?? 4)

describe.skipIf(!hasAgent)("beside an ssh-agent of the same user", () => {
  it.live(
    "every stop, end, failed start and failed tmux has its exact exit code, and no agent is leaked",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox.ordinary
        yield* sshAgent(box)
        const { value: task } = yield* box.json(["task", "create", "rounds", "--max-agents", "1000"])
        const PATH = brokenTmux(box)
        const deploy = (type: string, ...flags: ReadonlyArray<string>) => [
          "deploy",
          "--task",
          task.task_id,
          "--type",
          type,
          "--prompt",
          "x",
          ...flags
        ]
        const codes: Array<readonly [string, number]> = []
        const expect = (what: string, args: ReadonlyArray<string>, wanted: number, env = {}) =>
          Effect.map(box.run(args, { env }), ({ code, stderr }) => {
            codes.push([what, code])
            assert.strictEqual(code, wanted, `${what}: ${stderr}`)
          })
        yield* Effect.forEach(
          Array.from({ length: rounds }, (_, round) => round),
          (round) =>
            Effect.scoped(Effect.gen(function*() {
              const { agent_id: id } = yield* box.deploy("exec sleep 300", [
                "--task",
                task.task_id,
                "--type",
                `long${round}`
              ])
              // One that is younger than the agent is as much a stranger as the one before.
              yield* sshAgent(box)
              yield* expect("stop", ["stop", id], 0)
              yield* expect("end", [...deploy(`quick${round}`, "--wait"), "--", "true"], 0)
              yield* expect("failure", [...deploy(`bad${round}`, "--wait", "--ready", "none"), "--", "false"], 8)
              yield* expect("start", [...deploy(`early${round}`), "--", "false"], 5)
              yield* expect("tmux", [...deploy(`tmux${round}`), "--", "true"], 5, { PATH })
            })),
          { concurrency: 4 }
        )
        assert.lengthOf(codes, 5 * rounds)
        const { value } = yield* box.json(["ps"])
        assert.deepStrictEqual(value.agents, [])
        const { code, stdout } = yield* box.run(["doctor"])
        assert.strictEqual(code, 0, stdout)
      }),
    300_000
  )

  it.live("an agent that leaves an ssh-agent behind, as a signed commit leaves gpg-agent, ends as it ended", () =>
    Effect.gen(function*() {
      const box = yield* sandbox.ordinary
      const file = box.path("agent")
      const leave = "ssh-agent -a \"$PWD/own.sock\" -s >agent.part && mv agent.part agent"
      yield* Effect.addFinalizer(() =>
        Effect.sync(() => {
          for (const name of ["agent", "stopped"]) {
            if (Fs.existsSync(box.path(name))) process.kill(pidIn(Fs.readFileSync(box.path(name), "utf8")), "SIGKILL")
          }
        })
      )
      const ended = yield* box.run(["deploy", "--type", "signer", "--prompt", "x", "--wait", "--", "sh", "-c", leave])
      assert.strictEqual(ended.code, 0, ended.stderr)
      assert.isTrue(Fs.existsSync(file))
      const staying = "ssh-agent -a \"$PWD/second.sock\" -s >part && mv part stopped; exec sleep 300"
      const { agent_id: id } = yield* box.deploy(staying, ["--type", "second"])
      yield* until("its own agent is there", () => Fs.existsSync(box.path("stopped")))
      const stopped = yield* box.run(["stop", id])
      assert.strictEqual(stopped.code, 0, stopped.stderr)
      assert.deepStrictEqual(box.rows().map(({ status }) => status), ["exited", "stopped"])
    }))
})
