import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import { processesOf, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const idsOf = (value: { readonly agents: ReadonlyArray<{ readonly agent_id: string }> }) =>
  value.agents.map((agent) => agent.agent_id)

describe("tasks", () => {
  it.live("are made with limits, listed with counts, and shown with the tree of their agents", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const made = yield* box.json([
        "task",
        "create",
        "upgrade \u001b[31mthe parser",
        "--max-agents",
        "9",
        "--max-depth",
        "3",
        "--priority",
        "P1"
      ])
      assert.strictEqual(made.code, 0)
      const { task_id: task } = made.value
      assert.match(task, /^TASK-\d{8}-\d{6}-[0-9a-f]{8}$/)
      assert.deepStrictEqual(
        [
          made.value.max_agents,
          made.value.max_concurrent,
          made.value.max_depth,
          made.value.priority,
          made.value.project
        ],
        [9, 20, 3, "P1", box.project]
      )
      const root = yield* box.deploy("sleep 100", ["--task", task, "--type", "root"])
      const child = yield* box.deploy("sleep 100", ["--task", task, "--type", "child", "--parent", root.agent_id])
      assert.deepStrictEqual([child.parent, child.depth], [root.agent_id, 2])
      const { value: shown } = yield* box.json(["task", "show", task])
      assert.deepStrictEqual([shown.agents_active, shown.agents_total], [2, 2])
      assert.deepStrictEqual(idsOf(shown), [root.agent_id])
      assert.deepStrictEqual(idsOf({ agents: shown.agents[0].children }), [child.agent_id])
      const { value: list } = yield* box.json(["task", "list"])
      assert.deepStrictEqual(list.tasks.map((each: { readonly task_id: string }) => each.task_id), [task])
      assert.strictEqual(list.tasks[0].agents_active, 2)
      const human = yield* box.run(["task", "show", task])
      assert.match(human.stdout, new RegExp(`  ${root.agent_id} +running .*\n  └─ ${child.agent_id} +running`))
      const table = yield* box.run(["task", "list"])
      assert.match(table.stdout, new RegExp(`^TASK .*\n${task}  2/20    2/9     P1    upgrade`))
      assert.notInclude(table.stdout + human.stdout, "\u001b", "a description can't drive the terminal")
    }))

  it.live("and agents are named by the beginnings of their ids, and none is touched where several begin so", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const one = yield* box.deploy("sleep 100", ["--type", "reviewer"])
      const other = yield* box.deploy("sleep 100", ["--type", "reviser"])
      const part = one.agent_id.slice(0, -2)
      assert.strictEqual((yield* box.json(["show", part])).value.agent_id, one.agent_id)
      assert.strictEqual((yield* box.json(["task", "show", one.task_id.slice(0, -2)])).value.task_id, one.task_id)
      for (
        const args of [["stop", "reviewer", "rev"], ["show", "rev"], ["logs", "rev"], ["wait", "rev"], [
          "land",
          "rev",
          "--onto",
          "main"
        ]]
      ) {
        const { code, value } = yield* box.json(args)
        assert.deepStrictEqual([code, value.error_tag], [2, "AgentAmbiguous"], args.join(" "))
        assert.include(value.error, one.agent_id)
        assert.include(value.error, other.agent_id)
      }
      assert.lengthOf((yield* box.json(["ps"])).value.agents, 2)
      const { value: stopped } = yield* box.json(["stop", "reviewer", part])
      assert.deepStrictEqual(idsOf(stopped), [one.agent_id])
      yield* box.json(["stop", "revi"]).pipe(Effect.map(({ code }) => assert.strictEqual(code, 2)))
      assert.strictEqual((yield* box.json(["stop", "reviser"])).code, 0)
    }))

  it.live("are made once under a key", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const args = ["task", "create", "nightly", "--key", "nightly-1"]
      const { value: made } = yield* box.json(args)
      assert.strictEqual(made.key, "nightly-1")
      const { code, value: again } = yield* box.json(args)
      assert.deepStrictEqual([code, again], [0, made])
      const other = yield* box.json([...args, "--max-agents", "2"])
      assert.deepStrictEqual([other.code, other.value.error_tag], [3, "TaskKeyTaken"])
      assert.include(other.value.error, made.task_id)
    }))

  it.live("that do not exist, or can't, are reported with the right code", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (const id of ["TASK-20260102-030405-0a1b2c3d", "nonsense", ""]) {
        for (const args of [["task", "show", id], ["ps", `--task=${id}`], ["stop", `--task=${id}`]]) {
          const { code, value } = yield* box.json(args)
          assert.strictEqual(code, 7, args.join(" "))
          assert.match(value.error, /there is no task/)
        }
      }
      assert.strictEqual((yield* box.run(["task", "create", ""])).code, 2)
      assert.strictEqual((yield* box.run(["task", "create", "x", "--max-agents", "0"])).code, 2)
      assert.strictEqual((yield* box.run(["task", "create", "x", "--project", "nowhere"])).code, 2)
      assert.strictEqual((yield* box.run(["task", "list"])).stdout, "")
    }))
})

describe("agents", () => {
  it.live("are listed live first, and those that ended only with --all", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const first = yield* box.deploy("sleep 100", ["--type", "first"])
      const over = yield* box.deploy("exit 3", ["--type", "over"])
      assert.strictEqual((yield* box.run(["wait", over.agent_id])).code, 8)
      const { value: live } = yield* box.json(["ps"])
      assert.deepStrictEqual(idsOf(live), [first.agent_id])
      assert.strictEqual(live.agents[0].status, "running")
      const { value: all } = yield* box.json(["ps", "--all"])
      assert.deepStrictEqual(idsOf(all), [first.agent_id, over.agent_id])
      assert.deepStrictEqual(all.agents[1].exit, { code: 3, signal: null, outcome: "failure" })
      const table = yield* box.run(["ps", "--all"])
      assert.match(
        table.stdout,
        new RegExp(
          `^AGENT +STATUS +RUNS +AGE +TASK\n${first.agent_id} +running +command .*\n${over.agent_id} +exited 3 `
        )
      )
      const { value: shown } = yield* box.json(["show", over.agent_id])
      assert.deepStrictEqual(shown.resources, {
        tmux_session: over.tmux_session,
        prompt_file: over.prompt_file,
        task_registry: `${over.workspace}/agents/${over.agent_id}.json`,
        global_registry: `${box.home}/registry.db`
      })
      assert.deepStrictEqual(shown.events.at(-1).status, "exited")
      const human = yield* box.run(["show", over.agent_id])
      assert.match(human.stdout, new RegExp(`^${over.agent_id}  exited 3\n`))
    }))

  it.live("that do not exist are reported with exit code 7", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (const id of ["worker-260102-030405-0a1b2c", "nonsense", "*", "../x"]) {
        for (const command of ["show", "logs", "wait", "stop"]) {
          const { code, stderr, value } = yield* box.json([command, id])
          assert.strictEqual(code, 7, command)
          assert.strictEqual(value.success, false)
          assert.match(stderr, /there is no agent/)
        }
      }
      assert.strictEqual((yield* box.run(["attach", "nonsense"])).code, 7)
    }))

  it.live("show what they wrote: whole, its end, standard error, and as it grows", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* box.deploy(
        "printf 'one\\ntwo\\nthr\\303\\251e'; echo bad >&2; while [ ! -e go ]; do sleep 0.05; done; echo; echo end"
      )
      yield* until("output", () => Fs.existsSync(agent.log_file) && Fs.statSync(agent.log_file).size > 8)
      assert.strictEqual((yield* box.run(["logs", agent.agent_id])).stdout, "one\ntwo\nthrée")
      assert.strictEqual((yield* box.run(["logs", agent.agent_id, "--tail", "1"])).stdout, "thrée")
      assert.strictEqual((yield* box.run(["logs", agent.agent_id, "--stderr"])).stdout, "bad\n")
      const { value } = yield* box.json(["logs", agent.agent_id])
      assert.deepStrictEqual(value, { agent_id: agent.agent_id, stream: "stdout", content: "one\ntwo\nthrée" })
      assert.strictEqual((yield* box.json(["logs", agent.agent_id, "--follow"])).code, 2)
      const following = yield* box.start(["logs", agent.agent_id, "--follow"])
      const attached = yield* box.start(["attach", agent.agent_id])
      yield* until("the first lines", () =>
        following.stdout.includes("thrée") && attached.stdout.includes("two") && attached.stderr.includes("bad"))
      Fs.writeFileSync(box.path("go"), "")
      const [followed, seen] = yield* Effect.all([following.result, attached.result])
      assert.deepStrictEqual([followed.code, followed.stdout], [0, "one\ntwo\nthrée\nend\n"])
      assert.deepStrictEqual([seen.code, seen.stdout], [0, "one\ntwo\nthrée\nend\n"])
      assert.match(seen.stderr, /Ctrl-C leaves it running\nbad\n.* ended with exit code 0\n$/s)
    }))

  it.live("are waited for: 0 for success, 8 for anything else, 124 when the time is over, or the agent's own code", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const good = yield* box.deploy("exit 0", ["--type", "good"])
      const bad = yield* box.deploy("exit 7", ["--type", "bad"])
      const slow = yield* box.deploy("sleep 100", ["--type", "slow"])
      assert.strictEqual((yield* box.run(["wait", good.agent_id])).code, 0)
      const both = yield* box.json(["wait", good.agent_id, bad.agent_id])
      assert.deepStrictEqual([both.code, both.value.success, both.value.timed_out], [8, false, false])
      assert.strictEqual((yield* box.run(["wait", good.agent_id, bad.agent_id, "--exit-code"])).code, 7)
      const late = yield* box.json(["wait", bad.agent_id, slow.agent_id, "--timeout", "300ms"])
      assert.deepStrictEqual([late.code, late.value.success, late.value.timed_out], [124, false, true])
      assert.deepStrictEqual(idsOf(late.value), [bad.agent_id, slow.agent_id])
      const waiting = yield* box.start(["wait", slow.agent_id, "--timeout", "60d"])
      assert.strictEqual((yield* box.run(["stop", slow.agent_id])).code, 0)
      const waited = yield* waiting.result
      assert.deepStrictEqual([waited.code, waited.stderr], [8, ""])
      assert.match(waited.stdout, /was stopped \(stopped on request\)/)
    }))

  it.live("are stopped with all that they started, and what has ended is left as it is", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const script = "setsid sleep 300 & (trap '' TERM; exec sleep 301) & sleep 302"
      const parent = yield* box.deploy(script, ["--type", "parent"])
      const child = yield* box.deploy(script, ["--type", "child", "--parent", parent.agent_id])
      const other = yield* box.deploy(script, ["--type", "other"])
      const stopped = yield* box.json(["stop", parent.agent_id, "--grace", "300ms", "--reason", "no longer needed"])
      assert.strictEqual(stopped.code, 0, stopped.stderr)
      assert.deepStrictEqual(idsOf(stopped.value), [child.agent_id, parent.agent_id], "children first")
      assert.deepStrictEqual(box.sessions(), [other.tmux_session])
      const again = yield* box.run(["stop", parent.agent_id])
      assert.deepStrictEqual([again.code, again.stdout], [0, `${parent.agent_id} had ended already: stopped\n`])
      const mixed = yield* box.run(["stop", "nonsense", other.agent_id, "--grace", "300ms"])
      assert.deepStrictEqual([mixed.code, mixed.stdout], [7, `stopped ${other.agent_id}\n`])
      assert.deepStrictEqual(processesOf(box.homeId ?? ""), [])
      assert.deepStrictEqual(box.sessions(), [])
      const { value } = yield* box.json(["show", parent.agent_id])
      assert.deepStrictEqual([value.status, value.reason], ["stopped", "no longer needed"])
      const none = yield* box.run(["stop", "--all"])
      assert.deepStrictEqual([none.code, none.stdout], [0, ""])
      for (const args of [["stop"], ["stop", "--all", "x"], ["stop", "--all", "--task", "x"], ["wait"]]) {
        assert.strictEqual((yield* box.run(args)).code, 2, args.join(" "))
      }
    }))

  it.live("deploy children with one short line, and can't stop themselves", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const made = yield* box.json(["task", "create", "nest", "--max-depth", "2"])
      const slipway = `'${process.execPath}' -- '${box.bin}'`
      const parent = yield* box.deploy(
        `cd / && echo go | ${slipway} deploy --type child --ready none --json -- sleep 100 > '${box.path("child")}'
         echo go | SLIPWAY_AGENT_ID= ${slipway} deploy --parent "$(sed 's/.*agent_id":"//;s/".*//' '${
          box.path("child")
        }')" -- sleep 100 2> '${box.path("deep")}'; echo $? >> '${box.path("deep")}'
         ${slipway} stop "$SLIPWAY_AGENT_ID" --json > '${box.path("self")}'; echo $? >> '${box.path("self")}'
         cd '${box.project}'
         echo go | ${slipway} --home '${box.path("other")}' deploy --wait --json --ready none -- true > '${
          box.path("strange")
        }'
         touch '${box.path("ready")}'; sleep 100`,
        ["--task", made.value.task_id, "--type", "parent"]
      )
      yield* until("what the agent does", () => Fs.existsSync(box.path("ready")))
      const child = JSON.parse(Fs.readFileSync(box.path("child"), "utf8"))
      assert.deepStrictEqual([child.task_id, child.parent, child.depth], [parent.task_id, parent.agent_id, 2])
      assert.match(Fs.readFileSync(box.path("deep"), "utf8"), /depth 3.*\n3\n$/s)
      assert.match(Fs.readFileSync(box.path("self"), "utf8"), /"error_tag":"SelfStopRefused"\}\n3\n$/)
      const strange = JSON.parse(Fs.readFileSync(box.path("strange"), "utf8"))
      assert.strictEqual(strange.parent, null, "an agent of another home is no parent here")
      assert.strictEqual(strange.result.tmux_socket, box.path("other/tmux.sock"))
      box.tmux("-S", box.path("other/tmux.sock"), "kill-server")
      assert.deepStrictEqual(idsOf((yield* box.json(["ps"])).value), [child.agent_id, parent.agent_id])
    }))
})

describe("the command", () => {
  it.live("prints its version and its help without opening a home", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const version = yield* box.run(["--version"])
      assert.match(version.stdout, /^slipway \d+\.\d+\.\d+\n$/)
      for (
        const command of [[], ["deploy"], ["ps"], ["show"], ["logs"], ["attach"], ["wait"], ["stop"], ["task"], [
          "task",
          "create"
        ]]
      ) {
        const { code, stderr, stdout } = yield* box.run([...command, "--help"])
        assert.deepStrictEqual([code, stderr], [0, ""])
        assert.match(stdout, new RegExp(`^Usage: ${["slipway", ...command].join(" ")} `))
        assert.isTrue(stdout.split("\n").every((line) => line.length <= 100), stdout)
      }
      for (const shell of ["bash", "zsh", "fish"]) {
        const { code, stdout } = yield* box.run(["--completions", shell])
        assert.strictEqual(code, 0)
        assert.match(stdout, /deploy[^]*ready-within/)
      }
      const bare = yield* box.run([])
      assert.deepStrictEqual([bare.code, bare.stdout], [2, ""])
      assert.match(bare.stderr, /^Usage: slipway COMMAND/)
      assert.isFalse(Fs.existsSync(box.home))
    }))

  it.live("a home or socket named by a flag goes before the environment", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      assert.strictEqual((yield* box.run(["--home", "flagged", "task", "create", "x"])).code, 0)
      assert.isTrue(Fs.existsSync(box.path("flagged/registry.db")))
      assert.isFalse(Fs.existsSync(box.home))
      for (const home of ["#(touch x)", "a$b", "semi;"]) {
        assert.strictEqual((yield* box.run([`--home=${home}`, "ps"])).code, 4)
      }
    }))
})
