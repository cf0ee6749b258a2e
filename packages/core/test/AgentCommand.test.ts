import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Schema } from "effect"
import * as Fs from "node:fs/promises"
import * as Os from "node:os"
import * as Path from "node:path"
import * as AgentCommand from "../src/agent/AgentCommand.ts"
import { AgentExecutableMissing, AgentSpec, resolve } from "../src/agent/AgentCommand.ts"
import { deniedVariables, environmentFor, isExportable, VariableName } from "../src/agent/AgentEnvironment.ts"
import { summary, verdict } from "../src/agent/AgentOutput.ts"
import { Files, layer as filesLayer } from "../src/machine/Files.ts"

const decode = Schema.decodeUnknownExit(AgentSpec)
const findExecutable = (name: string, options: AgentCommand.LookupOptions) =>
  Effect.provide(Effect.flatMap(Files, (files) => AgentCommand.findExecutable(files, name, options)), filesLayer)
const known = ["claude", "codex", "gemini", "opencode"] as const

describe("AgentSpec", () => {
  it.effect.prop("survives JSON", [AgentSpec], ([spec]) =>
    Effect.gen(function*() {
      const json = JSON.stringify(yield* Schema.encodeEffect(AgentSpec)(spec))
      assert.deepStrictEqual(yield* Schema.decodeEffect(Schema.fromJsonString(AgentSpec))(json), spec)
    }))

  it("refuses a command without a program, a NUL in an argument, and an agent that is not known", () => {
    for (
      const input of [
        { kind: "command", argv: [] },
        { kind: "command", argv: [""] },
        { kind: "command", argv: ["echo", "a\0b"] },
        { kind: "claude", model: "" },
        { kind: "claude", args: ["\0"] },
        { kind: "cursor" }
      ]
    ) assert.isTrue(Exit.isFailure(decode(input)), JSON.stringify(input))
    assert.isTrue(Exit.isSuccess(decode({ kind: "command", argv: ["echo", "", "line\nline"] })))
  })
})

describe("resolve", () => {
  const argv = (spec: AgentSpec) => resolve(spec, { isRoot: false }).argv.join(" ")

  it("gives each known agent its headless command line, with the prompt left to standard input", () => {
    assert.strictEqual(
      argv({ kind: "claude", model: "m", args: ["--x"] }),
      "claude --print --output-format stream-json --verbose --dangerously-skip-permissions --model m --x"
    )
    assert.strictEqual(
      argv({ kind: "codex", model: "m", args: ["--x"] }),
      "codex exec --json --skip-git-repo-check --dangerously-bypass-approvals-and-sandbox -m m --x -- -"
    )
    assert.strictEqual(
      argv({ kind: "gemini", model: "m", args: ["--x"] }),
      "gemini -p  -o stream-json --approval-mode yolo --skip-trust -m m --x"
    )
    assert.strictEqual(
      argv({ kind: "opencode", model: "p/m", args: ["--x"] }),
      "opencode run --format json --auto -m p/m --x"
    )
  })

  it("leaves the model to the agent where none is asked for", () => {
    for (const kind of known) {
      const { argv } = resolve({ kind }, { isRoot: false })
      assert.notInclude(argv, "-m")
      assert.notInclude(argv, "--model")
    }
  })

  it("keeps a command as it is", () => {
    const spec = { kind: "command", argv: ["sh", "-c", "a 'b'", ""] } as const
    assert.deepStrictEqual(resolve(spec, { isRoot: true }), {
      kind: "command",
      argv: spec.argv,
      environment: {},
      defaults: {}
    })
  })

  it("tells claude that it is in a sandbox as root alone, and gemini never to leave a parent behind", () => {
    const environment = (kind: typeof known[number], isRoot: boolean) => resolve({ kind }, { isRoot }).environment
    assert.deepStrictEqual(environment("claude", true), { IS_SANDBOX: "1" })
    assert.deepStrictEqual(environment("claude", false), {})
    assert.deepStrictEqual(environment("gemini", false), { GEMINI_CLI_NO_RELAUNCH: "true" })
    assert.deepStrictEqual(environment("codex", true), {})
    assert.deepStrictEqual(environment("opencode", true), {})
  })
})

describe("findExecutable", () => {
  const temporary = Effect.acquireRelease(
    Effect.promise(() => Fs.mkdtemp(Path.join(Os.tmpdir(), "slipway-executable-")).then((path) => Fs.realpath(path))),
    (path) => Effect.promise(() => Fs.rm(path, { recursive: true, force: true }))
  )

  /** `first` holds a file that can't be run and a directory, both of the names that `second` has programs for. */
  const places = Effect.gen(function*() {
    const root = yield* temporary
    yield* Effect.promise(async () => {
      await Fs.mkdir(Path.join(root, "first", "folder"), { recursive: true })
      await Fs.mkdir(Path.join(root, "second"))
      await Fs.writeFile(Path.join(root, "first", "agent"), "", { mode: 0o644 })
      for (const name of ["agent", "folder"]) await Fs.writeFile(Path.join(root, "second", name), "", { mode: 0o755 })
      await Fs.symlink("second", Path.join(root, "link"))
      await Fs.symlink("agent", Path.join(root, "second", "alias"))
    })
    return root
  })

  it.live("takes the first regular file on PATH that can be run", () =>
    Effect.gen(function*() {
      const root = yield* places
      const path = ["/nowhere", Path.join(root, "first"), Path.join(root, "second")].join(":")
      for (const name of ["agent", "folder"]) {
        assert.strictEqual(yield* findExecutable(name, { path, cwd: "/" }), Path.join(root, "second", name))
      }
    }))

  it.live("answers with a directory that outlives links to it, and keeps the name of the program", () =>
    Effect.gen(function*() {
      const root = yield* places
      assert.strictEqual(
        yield* findExecutable("alias", { path: Path.join(root, "link"), cwd: "/" }),
        Path.join(root, "second", "alias")
      )
    }))

  it.live("resolves a name with a slash, and relative and empty components of PATH, against the working directory", () =>
    Effect.gen(function*() {
      const root = yield* places
      const found = Path.join(root, "second", "agent")
      assert.strictEqual(yield* findExecutable("./second/agent", { path: "", cwd: root }), found)
      assert.strictEqual(yield* findExecutable(found, { path: undefined, cwd: "/" }), found)
      assert.strictEqual(yield* findExecutable("agent", { path: "/nowhere:second", cwd: root }), found)
      assert.strictEqual(yield* findExecutable("agent", { path: "/nowhere:", cwd: Path.dirname(found) }), found)
    }))

  it.live("fails with what was searched, and says what to do", () =>
    Effect.gen(function*() {
      const root = yield* places
      const first = Path.join(root, "first")
      const missing = yield* Effect.flip(findExecutable("agent", { path: `${first}:/nowhere:${first}`, cwd: "/" }))
      assert.instanceOf(missing, AgentExecutableMissing)
      assert.deepStrictEqual(missing.searched, [first, "/nowhere"])
      assert.include(missing.message, "install it")
      const named = yield* Effect.flip(findExecutable("first/agent", { path: first, cwd: root }))
      assert.include(named.message, Path.join(first, "agent"))
      assert.include(named.message, "executable")
      for (const path of [undefined, ""]) {
        assert.include((yield* Effect.flip(findExecutable("agent", { path, cwd: first }))).message, "PATH is empty")
      }
      yield* Effect.flip(findExecutable("", { path: first, cwd: root }))
    }))
})

describe("the environment of an agent", () => {
  it("keeps claude from staying for what it started in the background, unless the caller says otherwise", () => {
    const name = "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"
    const { defaults, environment } = resolve({ kind: "claude" }, { isRoot: false })
    const value = (caller: Record<string, string>, overrides: Record<string, string>) =>
      environmentFor({ caller, overrides, command: environment, defaults, markers: {} })[name]
    assert.strictEqual(value({}, {}), "1")
    assert.strictEqual(value({ [name]: "0" }, {}), "0")
    assert.strictEqual(value({}, { [name]: "" }), "")
    assert.strictEqual(value({ [name]: "0" }, { [name]: "2" }), "2")
    for (const kind of known) {
      if (kind !== "claude") assert.notProperty(resolve({ kind }, { isRoot: false }).defaults, name)
    }
  })

  const final = (
    caller: Record<string, string | undefined>,
    rest: Partial<Parameters<typeof environmentFor>[0]> = {}
  ) => environmentFor({ caller, overrides: {}, markers: {}, command: {}, ...rest })

  it("holds nothing that another agent, tmux, a shell or Slipway set for their own children", () => {
    for (
      const name of [
        "CLAUDECODE",
        "AI_AGENT",
        "CLAUDE_PID",
        "CLAUDE_EFFORT",
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_CODE_SESSION_ID",
        "CLAUDE_CODE_CHILD_SESSION",
        "CLAUDE_CODE_CHILD_NOTES_DIR",
        "CLAUDE_CODE_EXECPATH",
        "CLAUDE_CODE_MESSAGING_SOCKET",
        "CLAUDE_CODE_MESSAGING_TOKEN",
        "CLAUDE_CODE_SESSION_ATTENDED",
        "CODEX_CI",
        "CODEX_SESSION_ID",
        "CODEX_THREAD_ID",
        "CODEX_TOOL_CALL_ID",
        "CODEX_VERSION",
        "CODEX_MANAGED_BY_NPM",
        "CODEX_MANAGED_PACKAGE_ROOT",
        "CODEX_SANDBOX",
        "CODEX_SANDBOX_NETWORK_DISABLED",
        "GEMINI_CLI",
        "GEMINI_CLI_NO_RELAUNCH",
        "GEMINI_CLI_TRUST_WORKSPACE",
        "AGENT",
        "OPENCODE",
        "OPENCODE_PID",
        "TMUX",
        "TMUX_PANE",
        "TMUX_TMPDIR",
        "SLIPWAY_AGENT_ID",
        "SLIPWAY_ANYTHING",
        "_",
        "PWD",
        "OLDPWD",
        "SHLVL"
      ]
    ) {
      assert.isTrue(deniedVariables(name), name)
      assert.deepStrictEqual(final({ [name]: "x" }), {}, name)
    }
  })

  it("keeps credentials, endpoints and configuration of a person", () => {
    const kept = {
      PATH: "/bin",
      HOME: "/root",
      BASH_ENV: "/root/.env",
      ANTHROPIC_API_KEY: "k",
      ANTHROPIC_BASE_URL: "u",
      CLAUDE_CODE_MAX_RETRIES: "2",
      CLAUDE_CODE_OAUTH_TOKEN: "t",
      CLAUDE_CONFIG_DIR: "d",
      CODEX_HOME: "d",
      CODEX_API_KEY: "k",
      OPENAI_API_KEY: "k",
      GEMINI_API_KEY: "k",
      GOOGLE_GEMINI_BASE_URL: "u",
      GEMINI_CLI_SYSTEM_SETTINGS_PATH: "p",
      OPENCODE_CONFIG: "c",
      OPENCODE_CONFIG_CONTENT: "{}",
      OPENCODE_API_KEY: "k",
      OPENCODE_DISABLE_AUTOUPDATE: "1",
      GIT_CONFIG_GLOBAL: "g",
      GIT_EDITOR: "vi"
    }
    assert.deepStrictEqual(final(kept), kept)
  })

  it("drops the isolation of git where an agent that isolates git is around", () => {
    const git = { GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "a", GIT_CONFIG_VALUE_0: "" }
    assert.deepStrictEqual(final({ ...git, GEMINI_CLI: "1", GIT_AUTHOR_NAME: "n" }), { GIT_AUTHOR_NAME: "n" })
    assert.deepStrictEqual(final({ ...git, CLAUDECODE: "1", GIT_EDITOR: "true" }), git)
  })

  it("lets a person's explicit choice win over the command, and the markers over all", () => {
    assert.deepStrictEqual(
      final({ A: "caller", B: "caller", C: "caller", D: "caller" }, {
        command: { B: "command", C: "command", D: "command" },
        overrides: { C: "override", D: "override", CLAUDECODE: "asked for", SLIPWAY_AGENT_ID: "forged" },
        markers: { D: "marker", SLIPWAY_AGENT_ID: "real" }
      }),
      { A: "caller", B: "command", C: "override", D: "marker", CLAUDECODE: "asked for", SLIPWAY_AGENT_ID: "real" }
    )
  })

  it("drops what git sets for a hook, and a person's configuration of git only where git is around", () => {
    const ofHook = {
      GIT_DIR: ".git",
      GIT_INDEX_FILE: "/repository/.git/index",
      GIT_PREFIX: "",
      GIT_COMMITTER_DATE: "now"
    }
    const configured = { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "a", GIT_CONFIG_VALUE_0: "b", GIT_EDITOR: "vi" }
    assert.deepStrictEqual(final({ ...ofHook, ...configured, GIT_AUTHOR_NAME: "n" }), { GIT_AUTHOR_NAME: "n" })
    for (const [name, value] of Object.entries(ofHook)) assert.deepStrictEqual(final({ [name]: value }), {})
    assert.deepStrictEqual(final(configured), configured)
    assert.deepStrictEqual(final({ ...configured, GIT_EXEC_PATH: "/usr/lib/git-core" }), {})
    assert.deepStrictEqual(final(ofHook, { overrides: { GIT_DIR: "asked for" } }), { GIT_DIR: "asked for" })
  })

  it("holds every variable that the system can hold, but for what a shell keeps of its own children", () => {
    const odd = {
      "a-b": "1",
      "1A": "1",
      "": "1",
      "A B": "1",
      "BASH_FUNC_f%%": "() { :; }",
      NUL: "a\0b",
      NONE: undefined
    }
    const { "": _empty, NONE: _none, NUL: _nul, ...possible } = odd
    const kept = { ...possible, UID: "0", GID: "0", POSIXLY_CORRECT: "1", ok_1: "" }
    assert.deepStrictEqual(final({ ...odd, ...kept, PWD: "/", OLDPWD: "/", SHLVL: "1", _: "x" }), kept)
    assert.deepStrictEqual(final({}, { overrides: { UID: "0", "a-b": "1", SHLVL: "3" } }), {
      UID: "0",
      "a-b": "1",
      SHLVL: "3"
    })
  })

  it("offers a schema that refuses what is no name, and knows which names sh can export", () => {
    for (const name of ["A", "_a1"]) assert.isTrue(isExportable(name))
    for (const name of ["", "1", "a-b", "A=B", "A\n", "UID", "RANDOM", "_"]) assert.isFalse(isExportable(name))
    for (const name of ["A", "_a1", "1", "a-b", "a.b", "A\n", "UID", "GID", "POSIXLY_CORRECT"]) {
      assert.isTrue(Schema.is(VariableName)(name))
    }
    for (const name of ["", "A=B", "A\0"]) assert.isFalse(Schema.is(VariableName)(name))
  })
})

const good = {
  claude:
    "{\"duration_ms\":5,\"is_error\":false,\"subtype\":\"success\",\"result\":\"hi\",\"session_id\":\"s\",\"total_cost_usd\":0.5,\"type\":\"result\"}",
  codex: "{\"usage\":{\"input_tokens\":1},\"type\":\"turn.completed\"}",
  gemini: "{\"status\":\"success\",\"stats\":{},\"type\":\"result\"}",
  opencode: "{\"part\":{\"reason\":\"stop\",\"cost\":0.25,\"tokens\":{}},\"sessionID\":\"s\",\"type\":\"step_finish\"}"
}

const begun = {
  claude: "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"s\"}",
  codex: "{\"type\":\"thread.started\",\"thread_id\":\"s\"}",
  gemini: "{\"type\":\"init\",\"session_id\":\"s\",\"model\":\"m\"}",
  opencode: "{\"type\":\"step_start\",\"sessionID\":\"s\"}"
}

const bad = {
  claude: "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"api_error_status\":500}",
  codex: "{\"type\":\"turn.failed\",\"error\":{}}",
  gemini: "{\"type\":\"result\",\"status\":\"error\"}",
  opencode: "{\"type\":\"error\",\"error\":{}}"
}

describe("verdict", () => {
  const at0 = (lastLines: ReadonlyArray<string>) => ({ code: 0, signal: null, lastLines })

  it("takes the exit code of a plain command for the answer", () => {
    assert.strictEqual(verdict("command", at0([])), "success")
    assert.strictEqual(verdict("command", { code: 3, signal: null, lastLines: [] }), "failure")
    assert.strictEqual(verdict("command", { code: 143, signal: "SIGTERM", lastLines: [] }), "failure")
    assert.strictEqual(verdict("command", { code: null, signal: null, lastLines: [] }), "unknown")
  })

  for (const kind of known) {
    it(`asks ${kind} for exit code 0 and the line that says success, in any order of keys`, () => {
      assert.strictEqual(verdict(kind, at0([begun[kind], good[kind]])), "success")
      assert.strictEqual(verdict(kind, at0([begun[kind], good[kind], "", "garbage {"])), "success")
      assert.strictEqual(verdict(kind, { code: 1, signal: null, lastLines: [good[kind]] }), "failure")
      assert.strictEqual(verdict(kind, { code: 137, signal: "SIGKILL", lastLines: [good[kind]] }), "failure")
      assert.strictEqual(verdict(kind, { code: null, signal: null, lastLines: [good[kind]] }), "unknown")
    })

    it(`calls exit code 0 of ${kind} a failure when the final line says so or is missing`, () => {
      assert.strictEqual(verdict(kind, at0([begun[kind], bad[kind]])), "failure")
      assert.strictEqual(verdict(kind, at0([begun[kind]])), "failure")
      assert.strictEqual(verdict(kind, at0([])), "failure")
    })

    it(`does not judge an output of ${kind} in another format`, () => {
      assert.strictEqual(verdict(kind, at0(["Hello, I am done."])), "unknown")
      assert.strictEqual(verdict(kind, at0(["{\"type\":17}", "[]", "null"])), "unknown")
    })
  }

  it("does not take a warning item of codex, or a step of opencode that goes on, for the end", () => {
    const warning = "{\"type\":\"item.completed\",\"item\":{\"type\":\"error\",\"message\":\"no metadata\"}}"
    assert.strictEqual(verdict("codex", at0([warning, good.codex])), "success")
    const goesOn = "{\"type\":\"step_finish\",\"part\":{\"reason\":\"tool-calls\"}}"
    assert.strictEqual(verdict("opencode", at0([begun.opencode, goesOn])), "failure")
    assert.strictEqual(verdict("opencode", at0([goesOn, begun.opencode, good.opencode])), "success")
    assert.strictEqual(verdict("opencode", at0([good.opencode, begun.opencode])), "failure")
  })
})

describe("summary", () => {
  it("tells session, cost and last message of each agent, past any garbage", () => {
    assert.deepStrictEqual(summary("claude", [begun.claude, "garbage", good.claude]), {
      sessionId: "s",
      costUsd: 0.5,
      lastMessage: "hi"
    })
    const item = "{\"type\":\"item.completed\",\"item\":{\"type\":\"agent_message\",\"text\":\"hi\"}}"
    assert.deepStrictEqual(summary("codex", [begun.codex, item, good.codex]), { sessionId: "s", lastMessage: "hi" })
    const text = "{\"type\":\"text\",\"sessionID\":\"s\",\"part\":{\"text\":\"hi\"}}"
    assert.deepStrictEqual(summary("opencode", [begun.opencode, good.opencode, text, good.opencode]), {
      sessionId: "s",
      costUsd: 0.5,
      lastMessage: "hi"
    })
  })

  it("joins the parts of a message of gemini, and starts anew after anything else", () => {
    const part = (content: string) => JSON.stringify({ type: "message", role: "assistant", content, delta: true })
    const tool = "{\"type\":\"tool_use\"}"
    assert.deepStrictEqual(summary("gemini", [begun.gemini, part("no"), tool, part("h"), part("i"), good.gemini]), {
      sessionId: "s",
      lastMessage: "hi"
    })
  })

  it("takes what claude said before it was cut off", () => {
    const said =
      "{\"type\":\"assistant\",\"session_id\":\"s\",\"message\":{\"content\":[{\"type\":\"thinking\"},{\"type\":\"text\",\"text\":\"hi\"}]}}"
    assert.deepStrictEqual(summary("claude", [said]), { sessionId: "s", lastMessage: "hi" })
  })

  it.effect.prop(
    "holds nothing for output that is not the agent's",
    [Schema.Array(Schema.String)],
    ([lines]) =>
      Effect.sync(() => {
        for (const kind of [...known, "command"] as const) assert.deepStrictEqual(summary(kind, lines), {})
      })
  )
})
