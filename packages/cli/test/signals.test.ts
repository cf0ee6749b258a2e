import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import { catches, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const tally = (codes: ReadonlyArray<number>): Record<number, number> => {
  const counts: Record<number, number> = {}
  for (const code of codes) counts[code] = (counts[code] ?? 0) + 1
  return counts
}

describe("signals", () => {
  it.live("INT, TERM and HUP during readiness roll everything back, and the code is 128 and the signal", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]] as const) {
        const deploying = yield* box.start(
          [
            "deploy",
            "--json",
            "--prompt",
            "x",
            "--ready-within",
            "60s",
            "--",
            "sh",
            "-c",
            `setsid sleep 300 & touch ${signal}; sleep 300`
          ]
        )
        yield* until("the agent", () => Fs.existsSync(box.path(signal)))
        yield* deploying.signal(signal)
        const result = yield* deploying.result
        assert.strictEqual(result.code, code, result.stderr)
        const value = JSON.parse(result.stdout)
        assert.deepStrictEqual([value.success, value.error_tag], [false, "Interrupted"])
        assert.include(["session", "readiness"], value.step)
        assert.deepStrictEqual(value.resources_cleaned, {
          tmux_session: "released",
          prompt_file: "released",
          task_registry: null,
          global_registry: "released"
        })
        assert.match(result.stderr, /interrupted; everything was rolled back/)
        yield* box.assertNothingLeft
      }
    }))

  it.live("at whatever moment a signal comes, the answer is true: deployed and running, or nothing is left", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.run(["task", "list"])
      const deployed: Array<string> = []
      const codes: Array<number> = []
      // Node catches no HUP by itself, and the command listens to all of its signals at once.
      const listening = Effect.fnUntraced(function*(index: number) {
        const deploying = yield* box.start(
          ["deploy", "--json", "--prompt", "x", "--type", `w${index}`, "--ready", "none", "--", "sleep", "100"]
        )
        yield* until("the command listens", () => catches(deploying.child.pid, 1))
        return deploying
      })
      const undisturbed = yield* listening(0)
      const [whole, first] = yield* Effect.timed(undisturbed.result)
      deployed.push(JSON.parse(first.stdout).tmux_session)
      for (let index = 1; index <= 16; index++) {
        const deploying = yield* listening(index)
        // A sweep over the life of the command, from its start to its end.
        yield* Effect.sleep(Duration.times(whole, (index - 1) / 16))
        yield* deploying.signal("SIGINT")
        const { code, stdout } = yield* deploying.result
        codes.push(code)
        assert.notStrictEqual(stdout, "", `no answer with code ${code}`)
        const answer = JSON.parse(stdout)
        assert.strictEqual(code === 0, answer.success, `${code} ${stdout}`)
        if (answer.success) deployed.push(answer.tmux_session)
        assert.deepStrictEqual(box.sessions().toSorted(), deployed.toSorted(), `${code} ${stdout}`)
        assert.strictEqual(box.directories().length, deployed.length)
      }
      assert.strictEqual((yield* box.json(["ps"])).value.agents.length, deployed.length)
      assert.isTrue(codes.includes(130), codes.join())
    }))

  it.live("a second signal leaves at once with 6, and the next command rolls back", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const deploying = yield* box.start(
        [
          "deploy",
          "--prompt",
          "x",
          "--ready-within",
          "60s",
          "--",
          "sh",
          "-c",
          "trap '' TERM; touch up; while :; do sleep 300; done"
        ]
      )
      yield* until("the agent", () => Fs.existsSync(box.path("up")))
      yield* deploying.signal("SIGINT")
      yield* deploying.signal("SIGTERM")
      const result = yield* deploying.result
      assert.strictEqual(result.code, 6, result.stderr)
      assert.match(result.stderr, /second signal/)
      assert.strictEqual((yield* box.run(["ps"])).code, 0)
      yield* box.assertNothingLeft
    }))

  it.live("end a wait, a follow and a view, and leave the agent running", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* box.deploy("echo up; sleep 100")
      for (
        const [args, signal, code] of [
          [["wait"], "SIGTERM", 143],
          [["logs", "--follow"], "SIGINT", 130],
          [["attach"], "SIGINT", 130]
        ] as const
      ) {
        const running = yield* box.start([...args, agent.agent_id])
        // Its home is open once it holds the registry.
        yield* until("the home is open", () =>
          Fs.existsSync(`/proc/${running.child.pid}/fd`) &&
          Fs.readdirSync(`/proc/${running.child.pid}/fd`).some((fd) => {
            try {
              return Fs.readlinkSync(`/proc/${running.child.pid}/fd/${fd}`).endsWith("/registry.db")
            } catch {
              return false
            }
          }))
        yield* running.signal(signal)
        assert.strictEqual((yield* running.result).code, code, args.join(" "))
      }
      assert.deepStrictEqual(box.sessions(), [agent.tmux_session])
      const waiting = yield* box.start([
        "deploy",
        "--json",
        "--wait",
        "--ready",
        "none",
        "--prompt",
        "x",
        "--type",
        "waited",
        "--",
        "sleep",
        "100"
      ])
      yield* until("the agent", () => box.sessions().length === 2)
      const { value } = yield* box.json(["ps"])
      yield* until("the commit", () => Fs.readdirSync(`${agent.workspace}/agents`).length === 2)
      yield* waiting.signal("SIGTERM")
      const waited = yield* waiting.result
      const answer = JSON.parse(waited.stdout)
      if (answer.success) assert.deepStrictEqual([waited.code, answer.result], [143, null])
      else assert.strictEqual(answer.error_tag, "Interrupted")
      assert.isAtLeast(value.agents.length, 1)
    }))

  it.live("a reader that goes away ends a follow, and cuts nothing else short", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const closed = (args: ReadonlyArray<string>) =>
        Effect.promise(() =>
          new Promise<number | null>((resolve) => {
            const child = spawn(
              "sh",
              ["-c", "\"$@\" | head -c 0; exit 0", "sh", process.execPath, "--", box.bin, ...args],
              {
                cwd: box.project,
                env: { ...box.environment },
                stdio: ["ignore", "ignore", "inherit"]
              }
            )
            child.on("close", resolve)
          })
        )
      const agent = yield* box.deploy("while :; do echo again; sleep 0.1; done", ["--type", "talker"])
      assert.strictEqual(yield* closed(["logs", agent.agent_id, "--follow"]), 0)
      assert.strictEqual(yield* closed(["ps"]), 0)
      assert.strictEqual(
        yield* closed(["deploy", "--prompt", "x", "--type", "failing", "--", "sh", "-c", "sleep 0.3; exit 3"]),
        0
      )
      assert.deepStrictEqual(box.sessions(), [agent.tmux_session])
      assert.deepStrictEqual(box.directories(), [agent.agent_id])
    }))
})

describe("many at once", () => {
  const deployers = 24

  it.live("24 deployers against a limit of 5: five are up, nineteen are refused, nothing else is left", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { value: task } = yield* box.json(["task", "create", "many", "--max-concurrent", "5"])
      const results = yield* Effect.all(
        Array.from(
          { length: deployers },
          (_, index) =>
            box.json([
              "deploy",
              "--task",
              task.task_id,
              "--type",
              `w${index}`,
              "--ready",
              "none",
              "--prompt",
              "x",
              "--",
              "sleep",
              "100"
            ])
        ),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(tally(results.map(({ code }) => code)), { 0: 5, 3: 19 })
      assert.isTrue(results.every(({ code, value }) => code === 0 || value.error_tag === "TooManyActive"))
      assert.strictEqual(box.sessions().length, 5)
      assert.strictEqual(box.directories().length, 5)
      assert.strictEqual((yield* box.json(["ps"])).value.agents.length, 5)
    }))

  it.live("24 deployers of one type: one is up, the others are refused", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { value: task } = yield* box.json(["task", "create", "many"])
      const results = yield* Effect.all(
        Array.from({ length: deployers }, () =>
          box.json([
            "deploy",
            "--task",
            task.task_id,
            "--type",
            "same",
            "--ready",
            "none",
            "--prompt",
            "x",
            "--",
            "sleep",
            "100"
          ])),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        tally(results.map(({ code }) => code)),
        { 0: 1, 3: 23 }
      )
      assert.isTrue(results.every(({ code, value }) => code === 0 || value.error_tag === "DuplicateType"))
      assert.strictEqual(box.sessions().length, 1)
      assert.strictEqual(box.directories().length, 1)
    }))

  it.live("24 deployers under one key share one agent; the key refuses another request", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { value: task } = yield* box.json(["task", "create", "many"])
      const request = [
        "deploy",
        "--task",
        task.task_id,
        "--key",
        "once",
        "--ready-within",
        "500ms",
        "--",
        "sleep",
        "100"
      ]
      const results = yield* Effect.all(
        Array.from({ length: deployers }, () => box.json(request, { stdin: "x" })),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        tally(results.map(({ code }) => code)),
        { 0: 24 },
        JSON.stringify(results.find(({ code }) => code !== 0))
      )
      assert.strictEqual(new Set(results.map(({ value }) => value.agent_id)).size, 1)
      assert.strictEqual(box.sessions().length, 1)
      const other = yield* box.json(request, { stdin: "y" })
      assert.deepStrictEqual([other.code, other.value.error_tag], [3, "KeyConflict"])
      const human = yield* box.run(request, { stdin: "x" })
      assert.strictEqual(human.code, 0)
      assert.match(human.stdout, /deployed under this key already/)
    }))

  it.live("agents that ended on their own never make the next one be refused", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { value: task } = yield* box.json(["task", "create", "many", "--max-concurrent", "5"])
      for (let index = 0; index < 5; index++) {
        yield* box.deploy("while [ ! -e go ]; do sleep 0.02; done; touch gone.$$", [
          "--task",
          task.task_id,
          "--type",
          `w${index}`
        ])
      }
      const full = yield* box.json([
        "deploy",
        "--task",
        task.task_id,
        "--type",
        "w5",
        "--prompt",
        "x",
        "--",
        "sleep",
        "100"
      ])
      assert.deepStrictEqual([full.code, full.value.error_tag], [3, "TooManyActive"])
      Fs.writeFileSync(box.path("go"), "")
      yield* until("all have ended", () => box.sessions().length === 0)
      yield* box.deploy("sleep 100", ["--task", task.task_id, "--type", "w6"])
    }))
})
