import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { procFile, type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const realTmux = execFileSync("sh", ["-c", "command -v tmux"], { encoding: "utf8" }).trim()

const digest = (bytes: string | Uint8Array) => createHash("sha256").update(bytes).digest("hex")

/** Usage is wrong: exit code 2, nothing on standard output, one short message on standard error. */
const refusesUsage = (
  box: Sandbox,
  args: ReadonlyArray<string>,
  problem: RegExp,
  options?: Parameters<Sandbox["run"]>[1]
) =>
  Effect.map(box.run(args, options), ({ code, stderr, stdout }) => {
    assert.strictEqual(code, 2, `${args.join(" ")}: ${stderr}`)
    assert.strictEqual(stdout, "")
    assert.match(stderr, problem)
    assert.isBelow(stderr.length, 400, stderr)
  })

describe("deploy", () => {
  it.live("prints the documented JSON, and the agent gets prompt, directory and markers", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { code, value } = yield* box.json(
        [
          "deploy",
          "--type",
          "writer",
          "--ready",
          "output",
          "--ready-within",
          "10s",
          "--",
          "sh",
          "-c",
          "cat > got; env > env; pwd > cwd; echo up; sleep 100"
        ],
        { stdin: "do it" }
      )
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(Object.keys(value), [
        "success",
        "agent_id",
        "type",
        "task_id",
        "parent",
        "depth",
        "status",
        "tmux_session",
        "workspace",
        "prompt_file",
        "log_file",
        "worktree",
        "started_at",
        "deployment_method"
      ])
      assert.deepStrictEqual(
        [value.success, value.type, value.parent, value.depth, value.status, value.deployment_method],
        [true, "writer", null, 1, "deployed", "tmux session"]
      )
      assert.match(value.agent_id, /^writer-\d{6}-\d{6}-[0-9a-f]{6}$/)
      assert.strictEqual(value.tmux_session, `agent_${value.agent_id}`)
      assert.match(value.started_at, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/)
      assert.strictEqual(Fs.readFileSync(box.path("got"), "utf8"), "do it")
      assert.strictEqual(Fs.readFileSync(box.path("cwd"), "utf8").trim(), box.project)
      assert.strictEqual(Fs.readFileSync(value.prompt_file, "utf8"), "do it")
      assert.strictEqual(Fs.readFileSync(value.log_file, "utf8"), "up\n")
      const environment = Fs.readFileSync(box.path("env"), "utf8")
      for (
        const line of [
          `SLIPWAY_AGENT_ID=${value.agent_id}`,
          `SLIPWAY_TASK_ID=${value.task_id}`,
          `SLIPWAY_HOME=${box.home}`
        ]
      ) {
        assert.include(environment, line)
      }
      assert.deepStrictEqual(box.sessions(), [value.tmux_session])
    }))

  it.live("says to people what was deployed and how to go on", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { code, stderr, stdout } = yield* box.run([
        "deploy",
        "--prompt",
        "x",
        "--ready",
        "none",
        "--",
        "sleep",
        "100"
      ])
      assert.strictEqual(code, 0)
      assert.match(
        stdout,
        /^deployed sleep-[\d-]+[0-9a-f]+ for TASK-\S+\n  output   slipway logs \S+ --follow\n  log      \/\S+\n$/
      )
      assert.strictEqual(stderr, "")
    }))

  it.live("an agent that fails early is rolled back whole, with its exit code and its last words", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { code, value } = yield* box.json([
        "deploy",
        "--prompt",
        "x",
        "--",
        "sh",
        "-c",
        "echo first >&2; echo broken >&2; exit 3"
      ])
      assert.strictEqual(code, 5)
      assert.strictEqual(value.success, false)
      assert.strictEqual(value.error_tag, "AgentExitedEarly")
      assert.strictEqual(value.step, "readiness")
      assert.strictEqual(value.exit_code, 3)
      assert.strictEqual(value.stderr_tail, "first\nbroken\n")
      assert.strictEqual(value.cleanup_performed, true)
      assert.deepStrictEqual(value.cleanup_errors, [])
      assert.deepStrictEqual(Object.keys(value.resources_cleaned), [
        "tmux_session",
        "prompt_file",
        "task_registry",
        "global_registry"
      ])
      assert.strictEqual(value.resources_cleaned.prompt_file, "released")
      assert.strictEqual(value.resources_cleaned.global_registry, "released")
      assert.strictEqual(value.resources_cleaned.task_registry, null)
      assert.include(["released", "already-gone"], value.resources_cleaned.tmux_session)
      const human = yield* box.run([
        "deploy",
        "--prompt",
        "x",
        "--",
        "sh",
        "-c",
        "echo first >&2; echo broken >&2; exit 3"
      ])
      assert.strictEqual(human.code, 5)
      assert.strictEqual(human.stdout, "")
      assert.match(human.stderr, /exit code 3.*broken\n[^]*first\n[^]*nothing is left behind/)
      yield* box.assertNothingLeft
    }))

  it.live("what an agent does within its readiness is a success when it exits with 0", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { code, stdout } = yield* box.run(["deploy", "--prompt", "x", "--", "true"])
      assert.strictEqual(code, 0)
      assert.match(stdout, /ended with exit code 0 already/)
      const silent = yield* box.json([
        "deploy",
        "--prompt",
        "x",
        "--ready",
        "output",
        "--ready-within",
        "100ms",
        "--",
        "sleep",
        "100"
      ])
      assert.strictEqual(silent.code, 5)
      assert.strictEqual(silent.value.error_tag, "NoFirstOutput")
    }))

  it.live("--wait answers with the result, and its exit code is 0 or 8", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const good = yield* box.json(["deploy", "--wait", "--ready", "none", "--prompt", "x", "--", "true"])
      assert.strictEqual(good.code, 0)
      assert.strictEqual(good.value.status, "deployed")
      assert.deepStrictEqual(good.value.result.exit, { code: 0, signal: null, outcome: "success" })
      const bad = yield* box.json(["deploy", "--wait", "--ready", "none", "--prompt", "x", "--", "sh", "-c", "exit 4"])
      assert.strictEqual(bad.code, 8)
      assert.strictEqual(bad.value.success, true)
      assert.strictEqual(bad.value.result.exit.code, 4)
    }))

  it.live("prompts arrive byte for byte, from a file and from standard input, however large", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const small = "'\"`\n\t\r\n $( touch x ) `touch y` ${HOME} #{pane_id} %; \\ ; é 🚢\n"
      const large = "0123456789".repeat(1_000_000)
      const given: ReadonlyArray<readonly [prompt: string, flags: ReadonlyArray<string>]> = [
        [small, []],
        [small, ["--prompt-file", "prompt"]],
        [small, ["--prompt-file", "-"]],
        ["\uFEFFa byte order mark, and no end of line", []],
        ["line\n".repeat(40_000), []],
        [large, []],
        [large, ["--prompt-file", "prompt"]]
      ]
      for (const [index, [prompt, flags]] of given.entries()) {
        Fs.writeFileSync(box.path("prompt"), prompt)
        const { code, stderr } = yield* box.run(
          ["deploy", "--wait", "--ready", "none", ...flags, "--", "sh", "-c", "cat > got"],
          flags.includes("prompt") ? {} : { stdin: prompt }
        )
        assert.strictEqual(code, 0, stderr)
        assert.strictEqual(digest(Fs.readFileSync(box.path("got"))), digest(prompt), `prompt ${index}`)
      }
      const flag = yield* box.run([
        "deploy",
        "--wait",
        "--ready",
        "none",
        "--prompt",
        "- a\n- list $(touch x)",
        "--",
        "sh",
        "-c",
        "cat > got"
      ])
      assert.strictEqual(flag.code, 0, flag.stderr)
      assert.strictEqual(Fs.readFileSync(box.path("got"), "utf8"), "- a\n- list $(touch x)")
      assert.isFalse(Fs.existsSync(box.path("x")))
      assert.isFalse(Fs.existsSync(box.path("y")))
    }))

  it.live("prompts that can't be given to an agent are refused before anything is made", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const command = ["--", "cat"]
      yield* refusesUsage(box, ["deploy", ...command], /standard input is empty/, { stdin: "" })
      yield* refusesUsage(box, ["deploy", ...command], /standard input is empty/)
      yield* refusesUsage(box, ["deploy", ...command], /the prompt: .*NUL/, { stdin: "a\0b" })
      yield* refusesUsage(box, ["deploy", ...command], /not valid UTF-8/, { stdin: new Uint8Array([97, 0xff, 98]) })
      yield* refusesUsage(box, ["deploy", ...command], /more than 10000000 bytes/, { stdin: "x".repeat(10_000_001) })
      yield* refusesUsage(
        box,
        ["deploy", "--prompt", "", ...command],
        /the prompt: expected a prompt that is not empty/
      )
      yield* refusesUsage(box, ["deploy", "--prompt-file", "missing", ...command], /missing can't be read/)
      yield* refusesUsage(box, ["deploy", "--prompt-file", ".", ...command], /can't be read/)
      yield* refusesUsage(box, ["deploy", "--prompt", "a", "--prompt-file", "b", ...command], /both/)
      yield* refusesUsage(box, ["deploy", "--prompt", "a", "--prompt", "b", ...command], /more than once/)
      assert.deepStrictEqual(box.directories(), [])
      assert.isFalse(Fs.existsSync(box.path(".slipway")))
    }))

  it.live("a command line that can't be used is answered on standard error alone, with exit code 2", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const deploy = ["deploy", "--prompt", "s3cret"]
      const hostile = [
        "../../x",
        "a.b",
        "a:b",
        "A",
        "a b",
        "",
        "é",
        "a\nb",
        "x".repeat(300),
        "x".repeat(41),
        "-rf",
        "$(x)",
        "a;b"
      ]
      for (const type of hostile) {
        yield* refusesUsage(box, [...deploy, `--type=${type}`, "--", "cat"], /--type: expected/)
      }
      yield* refusesUsage(box, [...deploy, "--type", "-rf", "--", "cat"], /--type: expected/)
      yield* refusesUsage(box, deploy, /nothing to run/)
      yield* refusesUsage(box, [...deploy, "cat"], /"cat" is not expected/)
      yield* refusesUsage(box, [...deploy, "--agent", "nobody"], /not one of claude/)
      yield* refusesUsage(box, [...deploy, "--promt", "x", "--", "cat"], /no flag --promt; is --prompt meant/)
      yield* refusesUsage(box, ["deploi"], /no command "deploi"/)
      for (const text of ["5", "-5s", "5 parsecs", "400d", "Infinity", "1e3s", ""]) {
        yield* refusesUsage(box, [...deploy, `--ready-within=${text}`, "--", "cat"], /--ready-within/)
      }
      yield* refusesUsage(box, [...deploy, "--ready", "soon", "--", "cat"], /--ready/)
      yield* refusesUsage(box, [...deploy, "--cwd", "/nonexistent", "--", "cat"], /no directory/)
      yield* refusesUsage(box, [...deploy, "--task", "TASK-x", "--", "cat"], /--task: expected/)
      yield* refusesUsage(box, [...deploy, "--parent", "x", "--", "cat"], /--parent: expected/)
      yield* refusesUsage(box, [...deploy, "--env", "UNSET_VARIABLE", "--", "cat"], /UNSET_VARIABLE/)
      yield* refusesUsage(box, [...deploy, "--env", "=s3cret", "--", "cat"], /--env/)
      yield* refusesUsage(box, [...deploy, "--env-file", "missing", "--", "cat"], /missing/)
      yield* refusesUsage(box, ["--socket", "tmux.sock", "ps"], /absolute/)
      const json = yield* box.json([...deploy, "--type", "a.b", "--", "cat"])
      assert.strictEqual(json.code, 2)
      assert.strictEqual(json.value.success, false)
      assert.strictEqual(json.value.step, "request")
      const parse = yield* box.json(["deploy", "--promt", "s3cret"])
      assert.strictEqual(parse.code, 2)
      assert.deepStrictEqual([parse.value.error_tag, parse.value.cleanup_performed], ["UsageError", false])
      assert.notInclude(json.stderr + parse.stderr + JSON.stringify([json.value, parse.value]), "s3cret")
      assert.deepStrictEqual(box.directories(), [])
    }))

  it.live("variables come from the caller, from a file, and from the command line, in that order", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      Fs.writeFileSync(
        box.path("vars"),
        "# a comment\n\nA=file\nB= spaced 'x' \nexport C=\"quoted\"\nD=\nE=a=b\nA=later\nF=from file\n"
      )
      yield* box.deploy(
        "env > env.tmp && mv env.tmp env; sleep 100",
        ["--env", "TOKEN", "--env-file", "vars", "--env", "F=flag"],
        { env: { TOKEN: "t0p s3cret\nline", CLAUDECODE: "1", TMUX: "/nowhere,1,0" } }
      )
      yield* until("the environment", () => Fs.existsSync(box.path("env")))
      const lines = Fs.readFileSync(box.path("env"), "utf8").split("\n")
      for (const line of ["A=later", "B=spaced 'x'", "C=quoted", "D=", "E=a=b", "F=flag", "TOKEN=t0p s3cret", "line"]) {
        assert.include(lines, line)
      }
      assert.isFalse(lines.some((line) => line.startsWith("CLAUDECODE=") || line.startsWith("TMUX=")))
    }))

  it.live("projects of any name work, and nothing in a name is run", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const names = [
        "with space",
        "quo\"te's",
        "#(touch x)",
        "semi;",
        "$(touch x)",
        "#{pane_id}",
        "back\\slash",
        "new\nline",
        "-rf",
        "é🚢"
      ]
      for (const name of names) {
        const project = Path.join(box.directory, name)
        Fs.mkdirSync(project)
        const { code, stderr } = yield* box.run([
          "deploy",
          "--wait",
          "--ready",
          "none",
          "--prompt",
          "x",
          "--",
          "sh",
          "-c",
          "pwd > here"
        ], { cwd: project })
        assert.strictEqual(code, 0, stderr)
        assert.strictEqual(Fs.readFileSync(Path.join(project, "here"), "utf8"), `${project}\n`)
        assert.deepStrictEqual(Fs.readdirSync(project).toSorted(), [".slipway", "here"])
      }
      assert.deepStrictEqual(Fs.readdirSync(box.directory).filter((name) => name === "x"), [])
      assert.isFalse(Fs.existsSync(Path.join(box.home, "x")))
      const task = yield* box.json(["task", "create", "x", "--project", "../#(touch x)"])
      assert.strictEqual(task.code, 0)
      assert.strictEqual(task.value.project, Path.join(box.directory, "#(touch x)"))
    }))

  it.live("what the machine lacks is reported with exit code 4, and nothing is made", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const tools = Path.join(box.directory, "tools")
      Fs.mkdirSync(tools)
      const deploy = ["deploy", "--prompt", "x", "--", "/bin/cat"]
      const missing = yield* box.json(deploy, { env: { PATH: tools } })
      assert.deepStrictEqual([missing.code, missing.value.error_tag, missing.value.step], [
        4,
        "TmuxNotFound",
        "preflight"
      ])
      Fs.writeFileSync(Path.join(tools, "tmux"), "#!/bin/sh\necho tmux 2.9\n", { mode: 0o755 })
      const old = yield* box.json(deploy, { env: { PATH: tools } })
      assert.deepStrictEqual([old.code, old.value.error_tag], [4, "TmuxTooOld"])
      const agent = yield* box.json(["deploy", "--prompt", "x", "--agent", "claude"], {
        env: { PATH: "/usr/bin:/bin" }
      })
      assert.deepStrictEqual([agent.code, agent.value.error_tag], [4, "AgentExecutableMissing"])
      assert.deepStrictEqual(box.directories(), [])
      assert.deepStrictEqual((yield* box.json(["ps", "--all"])).value.agents, [])
    }))

  it.live("what can't be released is named with exit code 6, stays on record, and is released by the next command that reads it", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const tools = Path.join(box.directory, "tools")
      Fs.mkdirSync(tools)
      const broken = Path.join(box.directory, "broken")
      const script = `#!/bin/sh\n[ ! -e '${broken}' ] || { echo 'no answer' >&2; exit 1; }\nexec ${realTmux} "$@"\n`
      Fs.writeFileSync(Path.join(tools, "tmux"), script, { mode: 0o755 })
      const { code, stderr, value } = yield* box.json(
        ["deploy", "--prompt", "x", "--", "sh", "-c", `touch '${broken}'; exit 3`],
        { env: { PATH: `${tools}:${process.env["PATH"]}` } }
      )
      assert.strictEqual(code, 6, stderr)
      assert.strictEqual(value.error_tag, "AgentExitedEarly")
      assert.strictEqual(value.resources_cleaned.tmux_session, "failed")
      assert.match(value.cleanup_errors.join(), /tmux_session .* could not be released: /)
      assert.match(stderr, /slipway reap/)
      Fs.rmSync(broken)
      yield* box.run(["ps"])
      yield* box.assertNothingLeft
    }))

  it.live("a registry that is damaged, newer or replaced is refused, and left as it is", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.deploy("true", ["--wait"])
      const registry = Path.join(box.home, "registry.db")
      const good = Fs.readFileSync(registry)
      const refused = Effect.fnUntraced(function*(tag: string) {
        const before = digest(Fs.readFileSync(registry))
        for (const args of [["ps"], ["task", "list"], ["deploy", "--prompt", "x", "--", "true"]]) {
          const { code, value } = yield* box.json(args)
          assert.deepStrictEqual([args[0], code, value.error_tag, value.success], [args[0], 4, tag, false])
        }
        assert.strictEqual(digest(Fs.readFileSync(registry)), before)
      })
      Fs.writeFileSync(registry, "this is no database, but it is somebody's file\n".repeat(100))
      yield* refused("RegistryCorrupt")
      Fs.writeFileSync(registry, good)
      const { DatabaseSync } = yield* Effect.promise(() => import("node:sqlite"))
      const database = new DatabaseSync(registry)
      database.exec(
        "INSERT INTO slipway_migrations (migration_id, name) VALUES (9999, 'of_the_future'); PRAGMA wal_checkpoint(TRUNCATE)"
      )
      database.close()
      yield* refused("RegistryTooNew")
      Fs.copyFileSync(registry, `${registry}.copy`)
      Fs.renameSync(`${registry}.copy`, registry)
      yield* refused("RegistryReplaced")
    }))

  it.live("no prompt and no value of a variable stands in an argument list, a log line, or an error", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const secret = "s3cret-0123456789"
      Fs.writeFileSync(box.path("prompt"), `${secret}\0`)
      const env = { TOKEN: secret }
      const seen = new Set<string>()
      const watch = Effect.gen(function*() {
        while (true) {
          for (const pid of Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
            const line = procFile(pid, "cmdline")
            if (line.includes(secret)) seen.add(line)
          }
          yield* Effect.sleep("3 millis")
        }
      })
      const work = Effect.gen(function*() {
        const text: Array<string> = []
        const keep = (result: { readonly stdout: string; readonly stderr: string }) =>
          text.push(result.stdout, result.stderr)
        const command = ["--", "sh", "-c", "cat; sleep 0.1; exit 3"]
        for (const flags of [["--json"], ["--log-level=all"]]) {
          keep(yield* box.run(["deploy", "--env", "TOKEN", ...flags, ...command], { stdin: secret, env }))
          keep(yield* box.run(["deploy", "--prompt-file", "prompt", "--env", "TOKEN", ...flags, ...command], { env }))
          keep(
            yield* box.run(["deploy", "--type", "a.b", "--env", "TOKEN", ...flags, ...command], { stdin: secret, env })
          )
        }
        keep(yield* box.run(["ps", "--all", "--json"]))
        assert.notInclude(text.join("\n"), secret)
      })
      yield* Effect.raceFirst(work, watch)
      assert.deepStrictEqual([...seen], [])
    }))
})
