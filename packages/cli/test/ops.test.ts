import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { installed, processesOf, type Running, type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const realTmux = execFileSync("sh", ["-c", "command -v tmux"], { encoding: "utf8" }).trim()

interface Item {
  readonly subject: string
  readonly verdict: string
  readonly action: string
  readonly outcome?: string
}

const verdicts = (items: ReadonlyArray<Item>) => items.map(({ action, verdict }) => [verdict, action])
const outcomes = (items: ReadonlyArray<Item>) => items.map(({ outcome, verdict }) => [verdict, outcome])

/** A deployment whose deployer was killed while it waited for the agent; answers with the agent's id. */
const deadDeployment = Effect.fnUntraced(function*(box: Sandbox, type: string) {
  const up = box.path(`${type}.up`)
  // Touched when all of the agent's processes are there.
  const script = `setsid sleep 300 & touch '${up}'; exec sleep 301`
  const deployer = yield* box.start(
    ["deploy", "--prompt", "x", "--type", type, "--ready-within", "60s", "--", "sh", "-c", script]
  )
  yield* until("the agent", () => Fs.existsSync(up))
  // Before it is killed: a standing reaper acts at once.
  const row = box.rows().find(({ id }) => id.startsWith(`${type}-`))
  assert.strictEqual(row?.status, "deploying")
  yield* deployer.signal("SIGKILL")
  assert.strictEqual((yield* deployer.result).code, 137)
  return row?.id ?? ""
})

const deadDeployer = /^process \d+ has ended$/

/** Everything of the home and its sessions that a query could change. */
const state = (box: Sandbox) => ({
  rows: box.rows(),
  sessions: box.sessions(),
  directories: box.directories(),
  files: box.directories().flatMap((id) => Fs.readdirSync(Path.join(box.home, "agents", id)).toSorted()),
  processes: processesOf(box.homeId ?? "")
})

/** Neither the reaper nor the doctor finds anything. */
const assertClean = Effect.fnUntraced(function*(box: Sandbox) {
  assert.deepStrictEqual((yield* box.json(["reap", "--dry-run"])).value.items, [])
  const { code, value } = yield* box.json(["doctor"])
  assert.deepStrictEqual([code, value.healthy], [0, true], JSON.stringify(value))
})

/** A tmux that stops to answer as long as a file stands; answers with the file and the PATH that has it. */
const brokenTmux = (box: Sandbox) => {
  const tools = Path.join(box.directory, "tools")
  const broken = Path.join(box.directory, "broken")
  Fs.mkdirSync(tools)
  const script = `#!/bin/sh\n[ ! -e '${broken}' ] || { echo 'no answer' >&2; exit 1; }\nexec '${realTmux}' "$@"\n`
  Fs.writeFileSync(Path.join(tools, "tmux"), script, { mode: 0o755 })
  return { broken, env: { PATH: `${tools}:${process.env["PATH"]}` } }
}

describe("reap", () => {
  it.live("--dry-run shows what a killed deployer left and changes nothing; reap cleans up all of it", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const id = yield* deadDeployment(box, "killed")
      const before = state(box)
      assert.deepStrictEqual([before.sessions, before.directories], [[`agent_${id}`], [id]])
      const looked = yield* box.json(["reap", "--dry-run"])
      assert.deepStrictEqual([looked.code, looked.stderr], [0, ""])
      assert.lengthOf(looked.value.items, 1)
      assert.deepInclude(looked.value.items[0], {
        subject: id,
        verdict: "dead-deployment",
        status: "deploying",
        action: "roll-back"
      })
      assert.match(looked.value.items[0].evidence, deadDeployer)
      const human = yield* box.run(["reap", "--dry-run"])
      assert.match(
        human.stdout,
        new RegExp(
          `^AGENT +STATUS +VERDICT +ACTION +EVIDENCE\n${id}  deploying  dead-deployment  roll-back  process \\d+ has ended\n$`
        )
      )
      assert.deepStrictEqual(state(box), before)

      const reaped = yield* box.json(["reap"])
      assert.deepStrictEqual([reaped.code, reaped.value.success, reaped.stderr], [0, true, ""])
      const [item] = reaped.value.items
      assert.deepStrictEqual(
        [item.subject, item.verdict, item.outcome, item.status_after, item.problems],
        [id, "dead-deployment", "done", "rolled-back", []]
      )
      yield* box.assertNothingLeft
      yield* assertClean(box)
      const again = yield* box.run(["reap"])
      assert.deepStrictEqual([again.code, again.stdout], [0, "There was nothing to reap.\n"])
    }))

  it.live("--plan acts only on what is in the plan, and refuses what is no plan of this home", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.run(["task", "list"])
      const save = (name: string, value: unknown) => Fs.writeFileSync(box.path(name), JSON.stringify(value))
      save("empty", (yield* box.json(["reap", "--dry-run"])).value)
      yield* deadDeployment(box, "first")
      const { value: plan } = yield* box.json(["reap", "--dry-run"])
      save("first", plan)
      yield* deadDeployment(box, "second")
      const before = state(box)

      const nothing = yield* box.json(["reap", "--plan", "empty"])
      assert.deepStrictEqual([nothing.code, nothing.value], [0, { success: true, items: [], not_found: [] }])
      const told = yield* box.run(["reap", "--plan", "empty"])
      assert.match(told.stdout, /^Nothing of this plan/)
      save("strange", { ...plan, home_id: "0123456789ab" })
      Fs.writeFileSync(box.path("nonsense"), "{\"items\": 1}")
      for (
        const [file, problem] of [
          ["strange", /another home/],
          ["nonsense", /not a plan/],
          ["missing", /"missing" can't be read: no such file/],
          [".", /"\." can't be read: it is a directory/]
        ] as const
      ) {
        const { code, stderr, value } = yield* box.json(["reap", "--plan", file])
        assert.deepStrictEqual([code, value.error_tag], [2, "UsageError"])
        assert.match(value.error, problem)
        assert.match(stderr, /slipway reap --dry-run --json/)
      }
      assert.deepStrictEqual(state(box), before)

      const some = yield* box.json(["reap", "--plan", "first"])
      assert.deepStrictEqual([some.code, outcomes(some.value.items)], [0, [["dead-deployment", "done"]]])
      assert.deepStrictEqual(box.rows().map(({ status }) => status), ["rolled-back", "deploying"])
      assert.strictEqual((yield* box.run(["reap"])).code, 0)
      yield* box.assertNothingLeft
      yield* assertClean(box)
    }))

  it.live("--stray removes what bears this home's id without a row, and only when it is named", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.run(["task", "list"])
      const id = "worker-260102-030405-0a1b2c"
      const session = (name: string, homeId: string | undefined) =>
        box.tmux(
          "-f",
          "/dev/null",
          "new-session",
          "-d",
          "-s",
          name,
          ...(homeId === undefined ? [] : ["-e", `SLIPWAY_AGENT_ID=${id}`, "-e", `SLIPWAY_HOME_ID=${homeId}`]),
          "sleep 1000"
        )
      session("stray", box.homeId)
      session("foreign", "0123456789ab")
      session("mine", undefined)
      const { value: plan } = yield* box.json(["reap", "--dry-run"])
      assert.deepStrictEqual(verdicts(plan.items), [["stray", "remove-when-asked"]])
      const only = yield* box.run(["reap"])
      assert.strictEqual(only.code, 0)
      assert.match(only.stdout, new RegExp(`${id}  stray +skipped .*slipway reap --stray ${id}`))
      const sick = yield* box.json(["doctor"])
      assert.deepStrictEqual([sick.code, sick.value.findings[0].kind], [1, "stray"])

      const other = yield* box.json(["reap", "--stray", "worker-260102-030405-ffffff"])
      assert.deepStrictEqual([other.code, other.value.not_found], [7, ["worker-260102-030405-ffffff"]])
      assert.match(other.stderr, /"worker-260102-030405-ffffff"/)
      assert.deepStrictEqual(box.sessions().toSorted(), ["foreign", "mine", "stray"])
      const named = yield* box.json(["reap", "--stray", id])
      assert.deepStrictEqual([named.code, outcomes(named.value.items)], [0, [["stray", "done"]]], named.stderr)
      assert.deepStrictEqual(box.sessions().toSorted(), ["foreign", "mine"])
      yield* assertClean(box)
      box.tmux("kill-server")
    }))

  it.live("what can't be released is named with exit code 6, stays on record, and goes at the next reap", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const id = yield* deadDeployment(box, "held")
      const { broken, env } = brokenTmux(box)
      Fs.writeFileSync(broken, "")
      const held = yield* box.json(["reap"], { env })
      assert.strictEqual(held.code, 6, held.stderr)
      const [item] = held.value.items
      assert.deepStrictEqual(
        [held.value.success, held.value.error_tag, item.subject, item.outcome, item.status_after],
        [false, "Leaked", id, "left", "leaked"]
      )
      assert.match(item.problems.join(), new RegExp(`tmux_session agent_${id} could not be released: .*no answer`))
      const human = yield* box.run(["reap"], { env })
      assert.strictEqual(human.code, 6)
      assert.match(
        human.stdout,
        new RegExp(`${id} +unfinished-ending +left +leaked +tmux_session agent_${id} could not`)
      )
      assert.match(human.stderr, /tries again/)
      assert.deepStrictEqual(box.directories(), [id], "the files say what it is, while a process may live")
      assert.deepStrictEqual(verdicts((yield* box.json(["reap", "--dry-run"])).value.items), [
        ["unfinished-ending", "finish"]
      ])
      Fs.rmSync(broken)
      assert.strictEqual((yield* box.run(["reap"], { env })).code, 0)
      yield* box.assertNothingLeft
      yield* assertClean(box)
    }))

  it.live("refuses flags that do not go together, instead of leaving one of them out", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (
        const [flags, problem] of [
          [["--watch", "--json"], /--json/],
          [["--watch", "--dry-run"], /--dry-run/],
          [["--watch", "--plan", "plan"], /--plan/],
          [["--dry-run", "--plan", "plan"], /--plan/],
          [["--dry-run", "--stray", "x"], /--stray/],
          [["--every", "5s"], /--watch/],
          [["--watch", "--every", "0s"], /100ms/],
          [["--watch", "--every", "5"], /"5" is not a duration/]
        ] as const
      ) {
        const { code, stderr } = yield* box.run(["reap", ...flags])
        assert.strictEqual(code, 2, `${flags.join(" ")}: ${stderr}`)
        assert.match(stderr, problem)
      }
    }))
})

describe("reap --watch", () => {
  const watcher = Effect.fnUntraced(function*(box: Sandbox) {
    const watching = yield* box.start(["reap", "--watch", "--every", "200ms"])
    yield* until("it watches", () => watching.stderr.includes("reaping every 200ms"))
    return watching
  })
  const lock = (box: Sandbox) => Path.join(box.home, "reaper.json")
  const ends = Effect.fnUntraced(function*(watching: Running, signal: NodeJS.Signals) {
    yield* watching.signal(signal)
    return yield* watching.result
  })

  it.live("cleans what appears, lets no second one in, and ends clean with 143 on TERM", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const live = yield* box.deploy("sleep 100", ["--type", "live"])
      const watching = yield* watcher(box)
      assert.strictEqual(JSON.parse(Fs.readFileSync(lock(box), "utf8")).holder.pid, watching.child.pid)
      for (const type of ["first", "second"]) {
        const id = yield* deadDeployment(box, type)
        yield* until("it is reaped", () => watching.stdout.includes(`${id} dead-deployment: done (process `))
        assert.strictEqual(box.rows().find((row) => row.id === id)?.status, "rolled-back")
      }
      const ended = yield* box.deploy("exit 4", ["--type", "ended"])
      yield* until("its end is recorded", () =>
        box.rows().some((row) => row.id === ended.agent_id && row.status === "exited"))

      const second = yield* box.run(["reap", "--watch", "--every", "200ms"])
      assert.deepStrictEqual([second.code, second.stdout], [3, ""])
      assert.match(second.stderr, new RegExp(`process ${watching.child.pid} already watches this home`))
      assert.strictEqual((yield* box.run(["reap"])).code, 0, "one reap beside it does no harm")

      const { code, stderr } = yield* ends(watching, "SIGTERM")
      assert.strictEqual(code, 143)
      assert.match(stderr, /^slipway: reaping every 200ms[^\n]*\n$/)
      assert.isFalse(Fs.existsSync(lock(box)))
      assert.deepStrictEqual(box.sessions(), [live.tmux_session])
      yield* assertClean(box)
    }))

  it.live("that was killed does not keep the next one out", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const first = yield* watcher(box)
      assert.strictEqual((yield* ends(first, "SIGKILL")).code, 137)
      assert.isTrue(Fs.existsSync(lock(box)))
      const second = yield* watcher(box)
      assert.strictEqual(JSON.parse(Fs.readFileSync(lock(box), "utf8")).holder.pid, second.child.pid)
      const { code } = yield* ends(second, "SIGINT")
      assert.strictEqual(code, 130)
      assert.isFalse(Fs.existsSync(lock(box)))
    }))

  it.live("goes on after a reap that failed, and says so", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { broken, env } = brokenTmux(box)
      const id = yield* deadDeployment(box, "held")
      Fs.writeFileSync(broken, "")
      const watching = yield* box.start(["reap", "--watch", "--every", "200ms"], { env })
      yield* until("it is reported", () => watching.stdout.includes(`${id} dead-deployment: left (tmux_session`))
      Fs.rmSync(broken)
      yield* until("it is reaped", () => watching.stdout.includes(`${id} unfinished-ending: done`))
      assert.strictEqual((yield* ends(watching, "SIGTERM")).code, 143)
      yield* box.assertNothingLeft
    }))
})

describe("prune", () => {
  it.live("forgets agents that ended long ago with their files, and neither the live nor the young", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const old = yield* box.deploy("printf 'ten bytes.'", ["--type", "old", "--wait"])
      const young = yield* box.deploy("true", ["--type", "young", "--wait"])
      const live = yield* box.deploy("sleep 100", ["--type", "live"])
      box.age(old.agent_id, 8)
      box.age(young.agent_id, 6)
      const before = state(box)

      const dry = yield* box.json(["prune", "--dry-run"])
      assert.deepStrictEqual([dry.code, dry.value.success, dry.value.dry_run, dry.value.agents.length], [
        0,
        true,
        true,
        1
      ])
      const [would] = dry.value.agents
      assert.deepStrictEqual([would.agent_id, would.problems], [old.agent_id, []])
      assert.isAtLeast(would.bytes, 10)
      const human = yield* box.run(["prune", "--dry-run"])
      assert.match(
        human.stdout,
        new RegExp(
          `^AGENT +ENDED +FILES\n${old.agent_id}  8d ago  \\d+ B\nWould forget 1 agent, with \\d+ B of files.\n$`
        )
      )
      const none = yield* box.run(["prune", "--older-than", "9d"])
      assert.deepStrictEqual([none.code, none.stdout], [0, "No agent ended longer than 9d ago.\n"])
      assert.deepStrictEqual(state(box), before)

      const pruned = yield* box.run(["prune"])
      assert.strictEqual(pruned.code, 0, pruned.stderr)
      assert.match(pruned.stdout, /^Forgot 1 agent, with \d+ B of files.\n$/)
      assert.deepStrictEqual(box.rows().map(({ id }) => id), [young.agent_id, live.agent_id])
      assert.strictEqual((yield* box.run(["show", old.agent_id])).code, 7)
      const rest = yield* box.json(["prune", "--older-than", "0s"])
      assert.deepStrictEqual(
        [rest.code, rest.value.dry_run, rest.value.agents.map((agent: typeof would) => agent.agent_id)],
        [0, false, [young.agent_id]]
      )
      assert.deepStrictEqual([box.directories(), box.sessions()], [[live.agent_id], [live.tmux_session]])
      assert.deepStrictEqual(Fs.readdirSync(`${live.workspace}/agents`), [`${live.agent_id}.json`])
      yield* assertClean(box)
      assert.strictEqual((yield* box.run(["prune", "--older-than", "7"])).code, 2)
    }))

  it.live("keeps the row of an agent whose files are not its own any more, and names it with exit code 6", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* box.deploy("true", ["--wait"])
      box.age(agent.agent_id, 8)
      const directory = Path.join(box.home, "agents", agent.agent_id)
      Fs.rmSync(Path.join(directory, `owner.${box.homeId}`))
      const human = yield* box.run(["prune"])
      assert.strictEqual(human.code, 6)
      assert.match(human.stderr, new RegExp(`${agent.agent_id} was kept: .*does not bear this home's id`))
      assert.match(human.stdout, /^Forgot no agent/)
      const { code, value } = yield* box.json(["prune"])
      assert.deepStrictEqual([code, value.success, value.error_tag], [6, false, "NotForgotten"])
      assert.isTrue(Fs.existsSync(Path.join(directory, "prompt.md")))
      assert.deepStrictEqual(box.rows().map(({ id }) => id), [agent.agent_id])
    }))
})

describe("doctor", () => {
  it.live("is content with a home at work, names what is wrong with what to do, and is content again after that", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const live = yield* box.deploy("sleep 100", ["--type", "live"])
      const well = yield* box.run(["doctor"])
      assert.deepStrictEqual([well.code, well.stdout, well.stderr], [0, "This home is healthy.\n", ""])
      assert.deepStrictEqual((yield* box.json(["doctor"])).value, { healthy: true, findings: [] })

      const id = yield* deadDeployment(box, "killed")
      const entry = Path.join(live.workspace, "agents", `${live.agent_id}.json`)
      Fs.writeFileSync(entry, "{}")
      const look = () => ({ rows: box.rows(), sessions: box.sessions(), entry: Fs.readFileSync(entry, "utf8") })
      const before = look()
      const sick = yield* box.json(["doctor"])
      assert.deepStrictEqual([sick.code, sick.value.healthy], [1, false])
      const found: ReadonlyArray<
        { readonly kind: string; readonly evidence: string; readonly recommendation: string }
      > = sick.value.findings
      const told = (kind: string) => found.find((finding) => finding.kind === kind) ?? assert.fail(`no ${kind}`)
      assert.deepStrictEqual(found.map(({ kind }) => kind).toSorted(), ["dead-deployment", "stale-entry"])
      assert.match(told("dead-deployment").evidence, new RegExp(`^${id} \\(deploying\\): process \\d+ has ended$`))
      assert.match(told("dead-deployment").recommendation, /^run 'slipway reap': /)
      assert.include(told("stale-entry").evidence, entry)
      assert.strictEqual(told("stale-entry").recommendation, "run 'slipway reap': it writes the entry again")
      const human = yield* box.run(["doctor"])
      assert.strictEqual(human.code, 1)
      assert.match(human.stdout, new RegExp(`dead-deployment: ${id} .*\n    run 'slipway reap': .*\n`))
      assert.match(human.stdout, /\nThis home is not healthy: 2 findings.\n$/)
      assert.deepStrictEqual(look(), before)

      assert.strictEqual((yield* box.run(["reap"])).code, 0)
      yield* assertClean(box)
      assert.deepStrictEqual(box.sessions(), [live.tmux_session])
    }))

  it.live("finds no file of the home open to others, since every command that opens the home closes them", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.run(["task", "list"])
      const paths = [box.home, ...["agents", "registry.db", "home.json"].map((name) => Path.join(box.home, name))]
      for (const path of paths) Fs.chmodSync(path, 0o755)
      assert.strictEqual((yield* box.run(["doctor"])).code, 0)
      const modes = paths.map((path) => (Fs.statSync(path).mode & 0o777).toString(8))
      assert.deepStrictEqual(modes, ["700", "700", "600", "600"])
    }))
})

describe("limits of time", () => {
  it.live("stop an agent when it is read; wait answers 8, and show names the limit", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const trap = "trap '' TERM; setsid sleep 300 &"
      const cases = [
        ["--max-run", `${trap} while :; do echo on; sleep 0.1; done`, "max-run", "it ran longer than 600ms"],
        [
          "--first-output-within",
          "while :; do echo on >&2; sleep 0.1; done",
          "first-output",
          "it wrote nothing to standard output within 600ms"
        ],
        ["--stall-after", "echo once; sleep 100", "stall", "it wrote nothing for 600ms"]
      ] as const
      const check = Effect.fnUntraced(function*([flag, script, stoppedBy, reason]: typeof cases[number]) {
        const agent = yield* box.deploy(script, [flag, "600ms", "--type", stoppedBy])
        const waited = yield* box.json(["wait", agent.agent_id, "--timeout", "20s"])
        assert.deepStrictEqual([waited.code, waited.value.timed_out], [8, false], waited.stderr)
        const { value } = yield* box.json(["show", agent.agent_id])
        assert.deepStrictEqual([value.status, value.stopped_by, value.reason], ["stopped", stoppedBy, reason])
        const human = yield* box.run(["show", agent.agent_id])
        assert.match(human.stdout, new RegExp(`^${agent.agent_id}  stopped\n[^]*\n  reason     ${reason}\n`))
      })
      yield* Effect.forEach(cases, check, { concurrency: "unbounded" })
      assert.deepStrictEqual([box.sessions(), processesOf(box.homeId ?? "")], [[], []])
      yield* assertClean(box)
    }))

  it.live("do not touch an agent that keeps to them, and are refused where they mean nothing", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const agent = yield* box.deploy("while [ ! -e go ]; do echo on; sleep 0.1; done", [
        "--max-run",
        "1h",
        "--first-output-within",
        "2s",
        "--stall-after",
        "2s"
      ])
      yield* until("its third line", () => Fs.readFileSync(agent.log_file, "utf8").length >= 9)
      assert.strictEqual((yield* box.json(["ps"])).value.agents[0].status, "running")
      Fs.writeFileSync(box.path("go"), "")
      assert.strictEqual((yield* box.run(["wait", agent.agent_id])).code, 0)
      for (const flag of ["--max-run", "--first-output-within", "--stall-after"]) {
        const { code, stderr } = yield* box.run(["deploy", "--prompt", "x", flag, "0s", "--", "true"])
        assert.strictEqual(code, 2)
        assert.strictEqual(stderr, `slipway: ${flag}: expected a duration between 1ms and 366d\n`)
      }
    }))
})

const oldNode = "/usr/bin/node"
const oldVersion = Fs.existsSync(oldNode)
  ? execFileSync(oldNode, ["--version"], { encoding: "utf8" }).trim()
  : undefined
const isOld = oldVersion !== undefined && Number(/\d+/.exec(oldVersion)?.[0]) < 22

describe("the installed command", () => {
  it.live("takes --env-file for its own flag, which Node has too", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const bin = installed()
      const env = { PATH: `${Path.dirname(process.execPath)}:${process.env["PATH"]}` }
      const deploy = ["deploy", "--json", "--wait", "--ready", "none", "--prompt", "x"]
      const runBin = (args: ReadonlyArray<string>) =>
        Effect.flatMap(box.startProgram(bin, args, { env }), (running) => running.result)
      Fs.writeFileSync(box.path("vars"), "# two\nexport GREETING='hello world'\nPLAIN=a=b\n")
      for (const flag of [["--env-file", "vars"], ["--env-file=vars"]]) {
        const { code, stderr, stdout } = yield* runBin([
          ...deploy,
          ...flag,
          "--",
          "sh",
          "-c",
          "printf '%s|%s' \"$GREETING\" \"$PLAIN\""
        ])
        assert.strictEqual(code, 0, stderr)
        assert.strictEqual(Fs.readFileSync(JSON.parse(stdout).log_file, "utf8"), "hello world|a=b")
      }
      const missing = yield* runBin([...deploy, "--env-file", "missing", "--", "true"])
      assert.deepStrictEqual(
        [missing.code, missing.stderr],
        [2, "slipway: the --env-file \"missing\" can't be read: no such file\n"]
      )
      assert.strictEqual(JSON.parse(missing.stdout).error_tag, "UsageError")
      assert.deepStrictEqual(yield* runBin(["--version"]), { code: 0, stdout: "slipway 0.1.0\n", stderr: "" })
    }))

  it.live.skipIf(!isOld)(
    `on a Node that is too old (${oldVersion ?? "there is none"}) says so in one line, with exit code 4`,
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        const tools = Path.join(box.directory, "tools")
        Fs.mkdirSync(tools)
        Fs.symlinkSync(oldNode, Path.join(tools, "node"))
        for (const args of [["ps"], ["--help"], ["deploy", "--env-file", "missing", "--json", "--", "true"]]) {
          const running = yield* box.startProgram(installed(), args, { env: { PATH: tools } })
          const { code, stderr, stdout } = yield* running.result
          assert.deepStrictEqual([code, stdout], [4, ""])
          assert.match(
            stderr,
            /^slipway needs Node 24 or newer, or Node 22 from 22\.19 on; [^\n]+ is Node \d+\.\d+\.\d+\n$/
          )
          assert.include(stderr, (oldVersion ?? "").slice(1))
        }
        assert.isFalse(Fs.existsSync(box.home))
      })
  )
})
