/**
 * Shows the promise in well under a minute, with real agents on a real tmux, in a home of its own. It shows a
 * deployment that commits, one that fails at each step, one that is interrupted, and at the end the proof that nothing
 * is left.
 *
 * If a signal, a reader that leaves, or a failure ends it early, its agents are stopped and its files removed.
 */
import { NodeRuntime } from "@effect/platform-node"
import { AgentCommand, CleanupReport, type DeployError, type DeployInput, Slipway, type Step } from "@slipway/core"
import { Anchor } from "@slipway/tmux"
import { Cause, Console, Deferred, Duration, Effect, Exit, Fiber, Layer, Logger, Stream } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as ClosedPipes from "./ClosedPipes.ts"

ClosedPipes.outlive()

const directory = Fs.mkdtempSync(join(tmpdir(), "slipway-demo-"))
const home = join(directory, "home")
const project = join(directory, "project")
Fs.mkdirSync(project)

const isTerminal = process.stdout.isTTY && process.env["NO_COLOR"] === undefined
const paint = (code: number) => (text: string) => isTerminal ? `\u001b[${code}m${text}\u001b[0m` : text
const [bold, dim, green, red] = [paint(1), paint(2), paint(32), paint(31)]

const agent = (name: string) => ({
  kind: "command",
  argv: [join(import.meta.dirname, "..", "examples", "agents", name)]
} as const)

const request = (type: string, script: string, more: Partial<DeployInput> = {}): DeployInput => ({
  project,
  type,
  prompt: "the demo",
  agent: agent(script),
  ready: "output",
  readyWithin: 5000,
  ...more
})

const say = (text: string) => Console.log(text)
const title = (text: string) => say(`\n${bold(text)}`)

const words: Record<CleanupReport.CleanupReport["releases"][number]["outcome"]["_tag"], string> = {
  Released: "released",
  AlreadyGone: "nothing was there any more",
  Kept: "not ours, left alone",
  Survivors: "processes survive",
  Failed: "FAILED"
}

const show = (error: DeployError) =>
  Effect.gen(function*() {
    yield* say(`  ${red("failed")} at ${bold(error.step)}: ${error.message}`)
    for (const { made, millis, outcome, resource } of error.cleanup.releases) {
      if (!made && outcome._tag === "AlreadyGone") continue
      yield* say(dim(`    ${resource.padEnd(16)} ${words[outcome._tag]} in ${millis.toFixed(0)} ms`))
    }
    if (!CleanupReport.performed(error.cleanup)) yield* say(dim("    nothing had been made"))
  })

/** Deploys, and expects the failure of one step. */
const failsAt = (step: Step, input: DeployInput, during: (step: Step) => Effect.Effect<void> = () => Effect.void) =>
  Effect.gen(function*() {
    const slipway = yield* Slipway
    const error = yield* Effect.flip(slipway.deploy(input, { onStep: during }))
    yield* show(error)
    if (error.step !== step || !error.isClean) return yield* Effect.die(`expected a clean failure at ${step}`)
  })

const commits = Effect.gen(function*() {
  const slipway = yield* Slipway
  yield* title("1. A deployment that commits")
  const { agent: greeter } = yield* slipway.deploy(request("greeter", "brief.sh"))
  const said = yield* slipway.output(greeter.id, { follow: true }).pipe(Stream.decodeText, Stream.mkString)
  yield* slipway.wait(greeter.id)
  yield* say(`  ${green("committed")} ${greeter.id}, which said: ${said.trim()}`)

  const [elapsed, { agent: stubborn }] = yield* Effect.timed(slipway.deploy(request("stubborn", "stubborn.sh")))
  yield* say(`  ${green("committed")} ${stubborn.id} in ${describe(elapsed)}; it ignores HUP, INT and TERM`)
  const [took, [stopped]] = yield* Effect.timed(slipway.stop([stubborn.id], { grace: "200 millis" }))
  yield* say(`  ${green(stopped?.state._tag ?? "?")} it with proof in ${describe(took)}: every process of it has ended`)
})

const describe = (duration: Duration.Duration) => `${Math.round(Duration.toMillis(duration))} ms`

/** A tmux that refuses to make sessions. */
const brokenTmux = () => {
  const path = join(directory, "tmux-that-refuses")
  Fs.writeFileSync(
    path,
    `#!/bin/sh\ncase "$*" in *new-session*) echo "no space for a session" >&2; exit 1 ;; esac\nexec tmux "$@"\n`,
    { mode: 0o755 }
  )
  return path
}

const failures = Effect.gen(function*() {
  const slipway = yield* Slipway
  yield* title("2. A deployment that fails, once at each step")
  yield* failsAt("request", request("../../etc", "steady.sh"))
  yield* failsAt("preflight", request("lost", "steady.sh", { agent: { kind: "command", argv: ["no-such-agent"] } }))

  const { agent: first } = yield* slipway.deploy(request("worker", "steady.sh"))
  yield* failsAt("admission", request("worker", "steady.sh"))
  yield* slipway.stop([first.id])

  const agents = join(home, "agents")
  const hide = (step: Step) =>
    Effect.sync(() => {
      if (step === "agent-directory") Fs.renameSync(agents, `${agents}.away`)
    })
  yield* failsAt("agent-directory", request("no-directory", "steady.sh"), hide)
  Fs.renameSync(`${agents}.away`, agents)

  yield* Effect.provide(
    failsAt("session", request("no-session", "steady.sh")),
    Slipway.layer({ directory: home, tmux: brokenTmux() })
  )
  yield* failsAt("readiness", request("failing", "failing.sh"))

  let workspace = ""
  const moveAway = (step: Step) =>
    Effect.sync(() => {
      if (step !== "task-entry") return
      workspace = join(
        project,
        ".slipway",
        Fs.readdirSync(join(project, ".slipway")).find((name) => name.startsWith("TASK-")) ?? ""
      )
      Fs.renameSync(workspace, `${workspace}.away`)
    })
  yield* failsAt("task-entry", request("no-workspace", "steady.sh"), moveAway)
  Fs.renameSync(`${workspace}.away`, workspace)

  const takeOver = (step: Step) =>
    step === "commit"
      ? Effect.gen(function*() {
        const deploying = yield* slipway.agents({ activeOnly: true })
        yield* Effect.forkDetach(slipway.stop(deploying.map(({ id }) => id)))
        yield* Effect.sleep("100 millis")
      }).pipe(Effect.ignore)
      : Effect.void
  yield* failsAt("commit", request("taken-over", "steady.sh"), takeOver)
})

const interruption = Effect.gen(function*() {
  const slipway = yield* Slipway
  yield* title("3. A deployment that is interrupted while it waits for its agent")
  const waiting = yield* Deferred.make<void>()
  const fiber = yield* Effect.forkChild(
    slipway.deploy(request("interrupted", "steady.sh", { ready: "survive", readyWithin: 60_000 }), {
      onStep: (step) => step === "readiness" ? Deferred.succeed(waiting, undefined) : Effect.void,
      onRolledBack: (report) => say(`  rolled back: ${report.releases.map(({ resource }) => resource).join(", ")}`)
    })
  )
  yield* Deferred.await(waiting)
  const [elapsed] = yield* Effect.timed(Fiber.interrupt(fiber))
  const exit = yield* Fiber.await(fiber)
  const interrupted = Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause)
  yield* say(`  ${interrupted ? green("interrupted") : red("not interrupted")}, and over in ${describe(elapsed)}`)
})

const presets = Effect.gen(function*() {
  yield* title("4. What --agent claude would run (it is not run here); the prompt goes in on standard input")
  const { argv } = AgentCommand.resolve({ kind: "claude" }, { isRoot: false })
  yield* say(`  ${argv.join(" ")}`)
})

/** Reads the machine itself. */
const proof = Effect.gen(function*() {
  const slipway = yield* Slipway
  yield* title("5. What is left")
  const { homeId } = JSON.parse(Fs.readFileSync(join(home, "home.json"), "utf8"))
  const listed = spawnSync("tmux", ["-S", join(home, "tmux.sock"), "list-sessions", "-F", "#{session_name}"], {
    encoding: "utf8"
  })
  // The session that this program's own tmux client is attached to goes with the program.
  const sessions = listed.stdout.split("\n").filter((name) => name !== "" && !Anchor.isName(name))
  const processes = Fs.readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && Fs.readFileSync(`/proc/${pid}/environ`, "utf8").includes(`SLIPWAY_HOME_ID=${homeId}`)
    } catch {
      return false
    }
  })
  const rows = yield* slipway.agents()
  const active = rows.filter(({ state }) =>
    state._tag === "running" || state._tag === "deploying" || state._tag === "ending"
  )
  const rolledBack = new Set<string>(rows.filter(({ state }) => state._tag === "rolled-back").map(({ id }) => id))
  const directories = Fs.readdirSync(join(home, "agents"))
  const files = directories.filter((name) => rolledBack.has(name))
  const found = [
    ["tmux sessions", sessions.length],
    ["processes of agents", processes.length],
    ["files of rolled-back agents", files.length],
    ["active rows", active.length]
  ] as const
  for (const [what, count] of found) yield* say(`  ${String(count).padStart(3)} ${what}`)
  yield* say(
    dim(`  and on record: ${rows.length} agents, ${rolledBack.size} of them rolled back, each with its reason`)
  )
  const clean = found.every(([, count]) => count === 0)
  yield* say(clean ? green("\nNothing is left behind.") : red("\nSomething is left behind."))
  return clean
})

/** For a demo that is cut short: the end of the tmux server alone does not end an agent that ignores signals. */
const stopAll = Effect.gen(function*() {
  const slipway = yield* Slipway
  const active = yield* slipway.agents({ activeOnly: true })
  yield* slipway.stop(active.map(({ id }) => id), { grace: "200 millis" })
}).pipe(Effect.catch((error) => Console.error(error.message)))

const demo = Effect.gen(function*() {
  yield* commits
  yield* failures
  yield* interruption
  yield* presets
  return yield* proof
}).pipe(
  Effect.ensuring(stopAll),
  Effect.provide(Layer.merge(Slipway.layer({ directory: home }), Logger.layer([]))),
  Effect.ensuring(Effect.sync(() => {
    spawnSync("tmux", ["-S", join(home, "tmux.sock"), "kill-server"])
    Fs.rmSync(directory, { recursive: true, force: true })
  }))
)

// A closed terminal ends it as Ctrl-C does.
process.once("SIGHUP", () => process.kill(process.pid, "SIGTERM"))
NodeRuntime.runMain(Effect.map(demo, (clean) => {
  process.exitCode = clean ? 0 : 1
}))
