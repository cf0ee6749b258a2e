/**
 * Proves Slipway on the real agents, end to end, for each one that is named (claude, codex, gemini, opencode; claude if
 * none is). It installs the agent from npm into a temporary directory, and points it at a stub of its provider's API on
 * the loopback interface. It deploys the agent through the library, and checks by itself what came of it and what is
 * left.
 *
 * Needs the npm registry, a few hundred megabytes for a while, and no account. All that it made is removed when it
 * ends, also when it is interrupted: files, tmux servers, processes. Not part of the ordinary tests, since those need
 * nothing but this machine.
 */
import { NodeRuntime } from "@effect/platform-node"
import { Slipway } from "@slipway/core"
import { Console, Duration, Effect, Logger, Schema } from "effect"
import { execFile, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { homedir, tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { promisify } from "node:util"
import { cases, type Finding } from "./agents/Cases.ts"
import { claude } from "./agents/claude.ts"
import { codex } from "./agents/codex.ts"
import { gemini } from "./agents/gemini.ts"
import { opencode } from "./agents/opencode.ts"
import type { Kind, RealAgent } from "./agents/RealAgent.ts"
import { releases } from "./agents/releases.ts"
import * as Watch from "./agents/Watch.ts"
import * as ClosedPipes from "./ClosedPipes.ts"

const agents: Readonly<Record<Kind, RealAgent>> = { claude, codex, gemini, opencode }

interface Result {
  readonly agent: string
  readonly name: string
  readonly millis: number
  readonly findings: ReadonlyArray<Finding>
}

class NotInstalled extends Schema.TaggedError<NotInstalled>()("NotInstalled", {
  release: Schema.String,
  cause: Schema.Defect()
}) {
  override get message() {
    return `${this.release} could not be installed; see whether npm reaches its registry: ${String(this.cause)}`
  }
}

const run = promisify(execFile)

/** Installs one agent with nothing of it outside of its directory; answers with the directory of its executable. */
const install = Effect.fnUntraced(function*(release: string, directory: string) {
  const [prefix, home] = [join(directory, "npm"), join(directory, "npm-home")]
  for (const path of [prefix, home]) Fs.mkdirSync(path)
  const args = ["install", "--prefix", prefix, "--no-audit", "--no-fund", "--loglevel=error", release]
  const env = {
    ...process.env,
    PATH: [dirname(process.execPath), process.env["PATH"]].join(":"),
    HOME: home,
    TMPDIR: home,
    npm_config_userconfig: process.env["npm_config_userconfig"] ?? join(homedir(), ".npmrc"),
    npm_config_cache: join(directory, "npm-cache")
  }
  yield* Effect.tryPromise({
    try: (signal) => run("npm", args, { cwd: prefix, env, signal, timeout: 300_000 }),
    catch: (cause) => new NotInstalled({ release, cause })
  })
  return join(prefix, "node_modules", ".bin")
})

const tell = (agent: RealAgent, name: string, findings: ReadonlyArray<Finding>, took: Duration.Duration) => {
  const result: Result = { agent: agent.kind, name, millis: Duration.toMillis(took), findings }
  return Effect.as(Console.log(line(result)), result)
}

// Idle by then, unless a case failed.
const killServer = (socket: string) => Effect.sync(() => spawnSync("tmux", ["-S", socket, "kill-server"]))

const prove = (agent: RealAgent, root: string) =>
  Effect.gen(function*() {
    const directory = join(root, agent.kind)
    Fs.mkdirSync(directory)
    // Only for an installation that is cut short: each case watches for itself.
    const watch = Watch.make(directory)
    const release = releases[agent.kind]
    const [took, bin] = yield* Effect.timed(
      Effect.onInterrupt(install(release, directory), () => Effect.sync(watch.end))
    )
    yield* Console.log(`installed ${release} in ${seconds(Duration.toMillis(took))}`)
    const caller = {
      environment: { PATH: process.env["PATH"], LANG: "C.UTF-8" },
      cwd: directory,
      umask: 0o022,
      isRoot: process.getuid?.() === 0
    }
    const tried = Effect.forEach(cases.filter(({ appliesTo }) => appliesTo(agent)), ({ name, run }) =>
      Effect.flatMap(
        Effect.timed(run({ agent, directory, bin })),
        ([took, findings]) => tell(agent, name, findings, took)
      ))
    return yield* Effect.flatMap(Slipway, ({ home }) => Effect.ensuring(tried, killServer(home.socket))).pipe(
      Effect.provide(Slipway.layer({ directory: join(directory, "slipway"), caller }))
    )
  }).pipe(
    Effect.catch((error) =>
      Effect.map(
        tell(
          agent,
          "set-up",
          [{ what: "it is installed, and a home opened", ok: false, detail: error.message }],
          Duration.zero
        ),
        (result) => [result]
      )
    )
  )

const seconds = (millis: number) => `${(millis / 1000).toFixed(1)} s`

const line = ({ agent, findings, millis, name }: Result) => {
  const failed = findings.filter(({ ok }) => !ok)
  const held = failed.length === 0
    ? `${findings.length} expectations hold`
    : `${failed.length} of ${findings.length} FAILED`
  return [agent.padEnd(9), name.padEnd(32), seconds(millis).padStart(7), ` ${held}`].join(" ")
}

const report = (results: ReadonlyArray<Result>) =>
  Effect.gen(function*() {
    yield* Console.log("")
    for (const result of results) {
      yield* Console.log(line(result))
      for (const { detail, what } of result.findings.filter(({ ok }) => !ok)) {
        yield* Console.log(`    expected: ${what}\n       found: ${detail}`)
      }
    }
    const failed = results.filter(({ findings }) => findings.some(({ ok }) => !ok))
    yield* Console.log(`\n${failed.length === 0 ? "Every promise was kept." : `${failed.length} cases failed.`}`)
    return failed.length === 0
  })

const asked = process.argv.slice(2)
const isKind = (name: string): name is Kind => Object.hasOwn(agents, name)
const unknown = asked.filter((name) => !isKind(name))

const main = Effect.gen(function*() {
  if (unknown.length > 0) {
    yield* Console.error(`there is no agent ${unknown.join(", ")} here; name some of ${Object.keys(agents).join(", ")}`)
    return false
  }
  if (process.platform !== "linux") {
    yield* Console.error("this finds processes in /proc, which Linux alone has")
    return false
  }
  const root = yield* Effect.acquireRelease(
    Effect.sync(() => Fs.mkdtempSync(join(tmpdir(), "slipway-agents-"))),
    (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true, maxRetries: 5 }))
  )
  const named = asked.filter(isKind)
  const kinds = named.length === 0 ? ["claude" as const] : named
  // One after the other: each is a heavy program, and its times should be its own.
  const results = yield* Effect.forEach(kinds, (kind) => prove(agents[kind], root))
  return yield* report(results.flat())
}).pipe(
  Effect.scoped,
  Effect.provide(Logger.layer([])),
  Effect.map((passed) => {
    process.exitCode = passed ? 0 : 1
  })
)

ClosedPipes.outlive()
// A closed terminal ends it as Ctrl-C does: with everything cleaned up.
process.once("SIGHUP", () => process.kill(process.pid, "SIGTERM"))
NodeRuntime.runMain(main)
