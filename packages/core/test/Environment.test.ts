import { assert, describe } from "@effect/vitest"
import type { DeployInput } from "@slipway/core"
import { Effect, References } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { capture, fakeTmux, finished, guarantee, lasting, open, request, staying, written } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

/** Variables as `env -0` writes them, and as /proc has them. */
const variables = (text: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    text.split("\0").filter((line) => line !== "").map((line) => {
      const at = line.indexOf("=")
      return [line.slice(0, at), line.slice(at + 1)]
    })
  )

const dumping = `env -0 > env.part; mv env.part env; ${staying}`

/** An agent that has written its environment to `env` in its project, and stays. */
const dump = (world: World.World, more: Partial<DeployInput> = {}) =>
  request(world, dumping, { ready: "output", readyWithin: 20_000, ...more })

const tool = (directory: string, name: string, says: string) => {
  Fs.mkdirSync(directory, { recursive: true })
  Fs.writeFileSync(Path.join(directory, name), `#!/bin/sh\necho ${says}\n`, { mode: 0o755 })
}

describe("an agent's environment", () => {
  guarantee("says whose agent it is, in which task, home, socket and workspace", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(dump(world))
      const env = variables(yield* written(Path.join(world.project, "env")))
      assert.deepStrictEqual(
        Object.fromEntries(Object.entries(env).filter(([name]) => name.startsWith("SLIPWAY_"))),
        {
          SLIPWAY_AGENT_ID: agent.id,
          SLIPWAY_TASK_ID: agent.taskId,
          SLIPWAY_HOME_ID: World.homeId(world) ?? "",
          SLIPWAY_HOME: world.home,
          SLIPWAY_TMUX_SOCKET: world.socket,
          SLIPWAY_WORKSPACE: Path.join(world.project, ".slipway", agent.taskId)
        }
      )
      assert.isTrue(Fs.existsSync(Path.join(agent.plan.workspace, "task.json")))
      yield* finished(slipway, [agent.id])
      return [agent.id]
    }))

  guarantee(
    "bears nothing of the agent or the pane that the caller runs in, and all else that the caller has",
    (world) =>
      Effect.gen(function*() {
        const inherited = {
          CLAUDECODE: "1",
          CLAUDE_CODE_ENTRYPOINT: "cli",
          CLAUDE_CODE_SESSION_ID: "of the caller",
          CODEX_SANDBOX: "seatbelt",
          GEMINI_CLI: "1",
          OPENCODE: "1",
          TMUX: "/tmp/other,1,0",
          TMUX_PANE: "%7",
          TMUX_TMPDIR: "/tmp/other",
          SLIPWAY_AGENT_ID: "other-260102-030405-0a1b2c",
          SLIPWAY_TASK_ID: "TASK-20260102-030405-0a1b2c3d",
          SLIPWAY_HOME: "/elsewhere",
          SLIPWAY_ANYTHING: "1",
          SHLVL: "7",
          OLDPWD: "/elsewhere"
        }
        const own = {
          ANTHROPIC_API_KEY: "key",
          CLAUDE_CONFIG_DIR: "/config",
          MULTI: "a\nb",
          QUOTES: `'"$(x)\``,
          EMPTY: ""
        }
        const slipway = yield* open(world, { caller: World.caller(world, { ...inherited, ...own }) })
        const { agent } = yield* slipway.deploy(dump(world, { environment: { EXTRA: "asked for", MULTI: "over" } }))
        const env = variables(yield* written(Path.join(world.project, "env")))
        const { SLIPWAY_AGENT_ID, SLIPWAY_HOME, SLIPWAY_TASK_ID, SHLVL: _, ...others } = inherited
        for (const name of Object.keys(others)) assert.notProperty(env, name)
        assert.strictEqual(env["SLIPWAY_AGENT_ID"], agent.id)
        assert.notInclude(Object.values(env), SLIPWAY_AGENT_ID)
        assert.notInclude(Object.values(env), SLIPWAY_HOME)
        assert.notInclude(Object.values(env), SLIPWAY_TASK_ID)
        for (const [name, value] of Object.entries({ ...own, EXTRA: "asked for", MULTI: "over" })) {
          assert.strictEqual(env[name], value, name)
        }
        yield* finished(slipway, [agent.id])
        return [agent.id]
      })
  )

  guarantee("has its caller's PATH, whoever started the server", (world) =>
    Effect.gen(function*() {
      const path = process.env["PATH"] ?? ""
      const deploy = Effect.fnUntraced(function*(name: string) {
        const bin = Path.join(world.root, name)
        tool(bin, "which-one", `run of ${name}`)
        Fs.writeFileSync(Path.join(bin, "agent"), `#!/bin/sh\nwhich-one > ${name}.says\n${staying}\n`, { mode: 0o755 })
        const slipway = yield* open(world, { caller: World.caller(world, { PATH: `${bin}:${path}` }) })
        const { agent } = yield* slipway.deploy(
          lasting(world, { type: name, agent: { kind: "command", argv: ["agent"] } })
        )
        assert.strictEqual(yield* written(Path.join(world.project, `${name}.says`)), `run of ${name}\n`)
        return agent
      })
      const [first, second] = [yield* deploy("first"), yield* deploy("second")]
      assert.strictEqual(first.running?.serverPid, second.running?.serverPid)
      const slipway = yield* open(world)
      yield* finished(slipway, [first.id, second.id])
      return [first.id, second.id]
    }))

  guarantee(
    "is nowhere in the server, nor are the first caller's working directory and marks",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world, { caller: World.caller(world, { OF_THE_CALLER: "1", TMUX: "/tmp/x,1,0" }) })
        const { agent } = yield* slipway.deploy(lasting(world, { environment: { OF_THE_REQUEST: "1" } }))
        const server = agent.running?.serverPid ?? assert.fail("no server")
        const env = variables(Fs.readFileSync(`/proc/${server}/environ`, "utf8"))
        assert.sameMembers(Object.keys(env), ["PATH", "HOME", "LANG"])
        assert.strictEqual(Fs.readlinkSync(`/proc/${server}/cwd`), "/")
        yield* finished(slipway, [agent.id])
        return [agent.id]
      })
  )
})

describe("secrets", () => {
  /** All command lines of the machine, over and over until the scope closes. */
  const commandLines = Effect.gen(function*() {
    const seen = new Set<string>()
    const look = Effect.sync(() => {
      for (const pid of Fs.readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
        try {
          seen.add(Fs.readFileSync(`/proc/${pid}/cmdline`, "utf8"))
        } catch {
          // It ended.
        }
      }
    })
    yield* Effect.forkScoped(Effect.forever(Effect.andThen(look, Effect.sleep("3 millis"))))
    return seen
  })

  guarantee(
    "of prompt and environment stand in no command line, log line or error, nor in the row, the entry and the events",
    (world) =>
      Effect.gen(function*() {
        const secrets = {
          prompt: "sesame-in-the-prompt",
          request: "sesame-in-the-request",
          caller: "sesame-of-the-caller"
        }
        const log = capture()
        const tmux = fakeTmux(world, `printf '%s\\n' "$@" >> "$here/tmux.argv"; env >> "$here/tmux.argv"`)
        const slipway = yield* open(world, { tmux, caller: World.caller(world, { TOKEN: secrets.caller }) })
        const seen = yield* commandLines
        const more = { prompt: secrets.prompt, environment: { KEY: secrets.request } }
        const logged = <A, E>(self: Effect.Effect<A, E>) =>
          self.pipe(Effect.provide(log.layer), Effect.provideService(References.MinimumLogLevel, "All"))
        const { agent } = yield* logged(slipway.deploy(dump(world, more)))
        assert.include(yield* written(Path.join(world.project, "env")), secrets.request, "the agent has it")
        yield* logged(finished(slipway, [agent.id]))
        const failed = yield* logged(Effect.flip(slipway.deploy(request(world, "exit 3", more))))
        const refused = [
          yield* Effect.flip(slipway.deploy(lasting(world, { ...more, prompt: `${secrets.prompt}\0` }))),
          yield* Effect.flip(slipway.deploy(lasting(world, { ...more, environment: { "A=B": secrets.request } }))),
          yield* Effect.flip(slipway.deploy(lasting(world, { ...more, environment: { KEY: `${secrets.request}\0` } })))
        ]
        assert.deepStrictEqual(refused.map(({ reason }) => reason._tag), [
          "InvalidRequest",
          "InvalidRequest",
          "InvalidRequest"
        ])
        const told = [
          ...seen,
          ...log.lines.map(({ text }) => text),
          ...[failed, ...refused].map((error) => `${error.message} ${JSON.stringify(error)} ${String(error.stack)}`),
          JSON.stringify(yield* slipway.agents()),
          JSON.stringify(yield* slipway.events(agent.id)),
          Fs.readFileSync(agent.plan.entry, "utf8"),
          Fs.readFileSync(Path.join(world.root, "tmux.argv"), "utf8"),
          ...["registry.db", "registry.db-wal"].map((name) => Fs.readFileSync(Path.join(world.home, name), "latin1"))
        ]
        assert.isAbove(log.lines.length, 0)
        assert.isTrue([...seen].some((line) => line.includes("/launcher")), "the look was fast enough to see something")
        for (const secret of Object.values(secrets)) {
          assert.deepStrictEqual(told.filter((text) => text.includes(secret)).map((text) => text.slice(0, 200)), [])
        }
        return [agent.id]
      })
  )
})

describe("a project's path", () => {
  const hostile = (world: World.World): Readonly<Record<string, string>> => ({
    "with spaces": "with  two spaces ",
    "with quotes": `it's "quoted" \`touch ${world.root}/pwned\``,
    "with what tmux runs": `#(touch ${world.root}/pwned)`,
    "with a format of tmux": "#{pid}",
    "with what a shell runs": `$(touch ${world.root}/pwned)`,
    "with a trailing semicolon": "trailing;",
    "with a newline": "new\nline\n",
    "in other scripts": "ünïcødé-作業-🛥",
    "that looks like a flag": "-rf",
    "with a backslash": "back\\slash\\",
    "with glob characters": "*?[a]~"
  })
  for (const how of Object.keys(hostile({ root: "", home: "", project: "", socket: "" }))) {
    guarantee(`${how} is only a path: the agent works there, and nothing runs`, (world) =>
      Effect.gen(function*() {
        const project = Path.join(world.project, hostile(world)[how] ?? "")
        Fs.mkdirSync(project, { recursive: true })
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(
          request(world, `pwd > "$OUT"; printf %s "$SLIPWAY_WORKSPACE" > "$OUT.workspace"; ${staying}`, {
            project,
            ready: "output",
            readyWithin: 20_000,
            environment: { OUT: Path.join(world.root, "pwd") }
          })
        )
        assert.strictEqual(yield* written(Path.join(world.root, "pwd")), `${project}\n`)
        assert.strictEqual(yield* written(Path.join(world.root, "pwd.workspace")), agent.plan.workspace)
        assert.strictEqual(agent.cwd, project)
        yield* finished(slipway, [agent.id])
        assert.isFalse(Fs.existsSync(Path.join(world.root, "pwned")))
        assert.deepStrictEqual(Fs.readdirSync(Path.join(project, ".slipway", agent.taskId, "agents")), [
          `${agent.id}.json`
        ])
        // The audit looks for entries in the world's own project.
        Fs.rmSync(Path.join(world.home, "agents", agent.id), { recursive: true })
      }))
  }
})

describe("a prompt arrives byte for byte on standard input", () => {
  const prompts: Readonly<Record<string, string>> = {
    "of one byte": "x",
    "with quotes, substitutions and newlines": `'"\`touch x\` $(touch y) \${HOME} $0 \\ \\n\n\r\n\t#(touch z);\n`,
    "with control characters": "\u0001\u0003\u0004\u001b[31m\u007f",
    "in other scripts": "作業 🛥 é e\u0301 \u202e",
    "that looks like flags and here documents": "--help\n-p\nEOF\n<<EOF\n.\n",
    "without a newline at its end": "a\nb",
    "of 200 kB": "0123456789abcde\n".repeat(12_500),
    "of 10 MB": "0123456789abcde\n".repeat(625_000)
  }
  for (const [how, prompt] of Object.entries(prompts)) {
    guarantee(how, (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(request(world, "cat > got", { prompt, readyWithin: 20_000 }))
        yield* slipway.wait(agent.id)
        assert.isTrue(Fs.readFileSync(Path.join(world.project, "got")).equals(Buffer.from(prompt)))
        assert.sameMembers(Fs.readdirSync(world.project), [".slipway", "got"])
        return [agent.id]
      }))
  }

  guarantee("and one byte more than 10 MB is refused before anything is made", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const error = yield* Effect.flip(slipway.deploy(lasting(world, { prompt: "x".repeat(10_000_001) })))
      assert.strictEqual(error.reason._tag, "InvalidRequest")
      assert.deepStrictEqual(World.rows(world), [])
    }))
})
