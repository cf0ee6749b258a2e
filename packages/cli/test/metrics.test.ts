import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Http from "node:http"
import * as Net from "node:net"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import * as Prometheus from "../../core/test/support/Prometheus.ts"
import { type Running, type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const { parse, values } = Prometheus

interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

const get = (port: number, path = "/metrics"): Effect.Effect<Answer> =>
  Effect.callback((resume) => {
    const request = Http.get({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      let body = ""
      response.setEncoding("utf8").on("data", (text: string) => (body += text)).on("end", () =>
        resume(Effect.succeed({
          status: response.statusCode ?? 0,
          type: response.headers["content-type"] ?? "",
          body
        })))
    })
    request.on("error", (error) => resume(Effect.die(error)))
    request.setTimeout(10_000, () => request.destroy(new Error("no answer within ten seconds")))
  })

const connects = (host: string, port: number): Effect.Effect<boolean> =>
  Effect.callback((resume) => {
    const socket = Net.connect({ host, port })
    const answer = (is: boolean) => {
      socket.destroy()
      resume(Effect.succeed(is))
    }
    socket.on("connect", () => answer(true)).on("error", () => answer(false))
  })

/** A standing reaper that serves metrics, and the port that it says. */
const serving = Effect.fnUntraced(function*(box: Sandbox, every = "200ms", port = "0") {
  const watching = yield* box.start(["reap", "--watch", "--every", every, "--metrics-port", port])
  yield* until("it watches", () => watching.stderr.includes("reaping every"))
  const [, said] = /metrics are served on http:\/\/127\.0\.0\.1:(\d+)\/metrics\n/.exec(watching.stderr) ??
    assert.fail(watching.stderr)
  return { watching, port: Number(said) }
})

const ends = Effect.fnUntraced(function*(watching: Running, signal: NodeJS.Signals) {
  yield* watching.signal(signal)
  return yield* watching.result
})

const scraped = (port: number) =>
  Effect.map(get(port), ({ body, status, type }) => {
    assert.deepStrictEqual([status, type], [200, "text/plain; version=0.0.4; charset=utf-8"], body)
    return parse(body)
  })

/** A deployment whose deployer was killed while it waited for the agent. */
const deadDeployment = Effect.fnUntraced(function*(box: Sandbox) {
  const up = box.path("up")
  const script = `touch '${up}'; exec sleep 301`
  const deployer = yield* box.start(
    ["deploy", "--prompt", "x", "--type", "dead", "--ready-within", "60s", "--", "sh", "-c", script]
  )
  yield* until("the agent", () => Fs.existsSync(up))
  yield* deployer.signal("SIGKILL")
  yield* deployer.result
})

/** Makes the totals unreadable, or readable again, as from another process. */
const alter = (box: Sandbox, statement: string) =>
  Effect.sync(() => {
    const registry = new DatabaseSync(Path.join(box.home, "registry.db"), { timeout: 5000 })
    try {
      registry.exec(statement)
    } finally {
      registry.close()
    }
  })

describe("metrics", () => {
  it.live("are valid Prometheus text, with the totals of what short-lived commands did", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const fresh = parse((yield* box.run(["metrics"])).stdout)
      assert.deepStrictEqual(fresh.get("slipway_agents")?.samples, [])
      assert.deepStrictEqual(values(fresh, "slipway_deployments_total"), { committed: 0, "rolled-back": 0 })
      const first = yield* box.deploy("sleep 100", ["--type", "first"])
      yield* box.deploy("sleep 100", ["--type", "second"])
      const early = ["deploy", "--type", "early", "--prompt", "x", "--", "sh", "-c", "exit 3"]
      assert.strictEqual((yield* box.run(early)).code, 5)
      assert.strictEqual((yield* box.run(["stop", first.agent_id, "--grace", "200ms"])).code, 0)
      const { code, stderr, stdout } = yield* box.run(["metrics"])
      assert.deepStrictEqual([code, stderr], [0, ""])
      const families = parse(stdout)
      assert.deepStrictEqual(values(families, "slipway_agents"), {
        "rolled-back readiness": 1,
        "running ": 1,
        "stopped request": 1
      })
      assert.deepStrictEqual(values(families, "slipway_deployments_total"), { committed: 2, "rolled-back": 1 })
      assert.deepStrictEqual(values(families, "slipway_rollbacks_total"), { readiness: 1 })
      const deploys = "slipway_deploy_duration_seconds"
      assert.deepStrictEqual(values(families, deploys, `${deploys}_count`), { "": 2 })
      assert.isAbove(values(families, deploys, `${deploys}_sum`)[""] ?? 0, 0)
      const released = values(families, "slipway_releases_total")
      assert.strictEqual(released["prompt_file Released"], 1)
      const sessions = Object.entries(released).filter(([key]) => key.startsWith("tmux_session "))
      assert.isTrue(sessions.every(([key]) => /Released|AlreadyGone/.test(key)), stdout)
      assert.strictEqual(sessions.reduce((sum, [, count]) => sum + count, 0), 2, "one rollback, one stop")
      assert.deepStrictEqual(
        Object.keys(values(families, "slipway_release_seconds_total")),
        Object.keys(released)
      )
      const durations = "slipway_release_duration_seconds"
      assert.strictEqual(values(families, durations, `${durations}_count`)["tmux_session"], 2)
      const { value } = yield* box.json(["metrics"])
      assert.deepStrictEqual(
        value.agents.map((each: Record<string, unknown>) => [each["status"], each["detail"], each["count"]]),
        [["rolled-back", "readiness", 1], ["running", null, 1], ["stopped", "request", 1]]
      )
      assert.approximately(value.success_rate, 2 / 3, 1e-9)
      assert.isTrue(
        [...value.releases, value].every((each: object) => Object.keys(each).every((name) => /^[a-z_]+$/.test(name))),
        JSON.stringify(value)
      )
    }))
})

describe("reap --watch --metrics-port", () => {
  it.live("serves on the loopback interface alone, with what it reaped, until a signal ends it", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* deadDeployment(box)
      const { port, watching } = yield* serving(box)
      yield* until("it is reaped", () => watching.stdout.includes("dead-deployment: done"))
      let families = yield* scraped(port)
      // The line comes before the count.
      while (values(families, "slipway_reap_turns_total")["done"] === 0) families = yield* scraped(port)
      assert.strictEqual(values(families, "slipway_orphans_total")["dead-deployment"], 1)
      assert.deepStrictEqual(values(families, "slipway_rollbacks_total"), { deployment: 1 })
      assert.deepStrictEqual(values(families, "slipway_agents_leaked"), { "": 0 })
      assert.isAtLeast(values(families, "slipway_reap_last_turn_age_seconds")[""] ?? -1, 0)
      assert.isAbove(values(families, "slipway_reap_last_turn_duration_seconds")[""] ?? 0, 0)
      assert.strictEqual((yield* get(port, "/")).status, 404)
      // Every address of 127/8 is this machine, and only one of them is listened on.
      assert.isFalse(yield* connects("127.0.0.2", port))
      // A client that sends nothing must not hold up the end.
      const silent = Net.connect({ host: "127.0.0.1", port })
      silent.on("error", () => {})
      yield* until("it is connected", () => !silent.connecting)
      const from = performance.now()
      assert.strictEqual((yield* ends(watching, "SIGTERM")).code, 143)
      assert.isBelow(performance.now() - from, 3000)
      silent.destroy()
      assert.isFalse(yield* connects("127.0.0.1", port))
    }))

  it.live("on a port that is in use is refused with 4 before anything is reaped", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* deadDeployment(box)
      const holder = Net.createServer()
      const port = yield* Effect.acquireRelease(
        Effect.callback<number>((resume) => {
          holder.listen(0, "127.0.0.1", () => {
            const address = holder.address()
            resume(Effect.succeed(typeof address === "object" ? address?.port ?? 0 : 0))
          })
        }),
        () => Effect.callback<void>((resume) => void holder.close(() => resume(Effect.void)))
      )
      const { code, stderr, stdout } = yield* box.run(["reap", "--watch", "--metrics-port", String(port)])
      assert.deepStrictEqual([code, stdout], [4, ""])
      assert.match(stderr, new RegExp(`metrics can't be served on 127\\.0\\.0\\.1:${port}: it is in use; give`))
      assert.notInclude(stderr, "reaping every")
      assert.deepStrictEqual(box.rows().map(({ status }) => status), ["deploying"])
      assert.isFalse(Fs.existsSync(Path.join(box.home, "reaper.json")))
      assert.strictEqual((yield* box.run(["reap"])).code, 0)
    }))

  it.live("answers 503 with a sentence while the totals can't be read, and goes on", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.run(["ps"])
      const { port, watching } = yield* serving(box)
      yield* scraped(port)
      yield* alter(box, "ALTER TABLE tallies RENAME TO hidden")
      const { body, status } = yield* get(port)
      assert.strictEqual(status, 503)
      assert.match(body, /^metrics can't be read now: the registry could not count what happened: [^\n]+\n$/)
      yield* alter(box, "ALTER TABLE hidden RENAME TO tallies")
      yield* scraped(port)
      assert.isFalse(watching.ended)
      assert.strictEqual((yield* ends(watching, "SIGINT")).code, 130)
    }))

  it.live("answers within its time while another process holds the registry", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* box.run(["ps"])
      // One turn, and then only the server.
      const { port, watching } = yield* serving(box, "1h")
      yield* scraped(port)
      const holder = new DatabaseSync(Path.join(box.home, "registry.db"), { timeout: 5000 })
      holder.exec("BEGIN EXCLUSIVE")
      const from = performance.now()
      const { status } = yield* get(port)
      assert.include([200, 503], status)
      assert.isBelow(performance.now() - from, 5000)
      holder.exec("ROLLBACK")
      holder.close()
      yield* scraped(port)
      assert.strictEqual((yield* ends(watching, "SIGTERM")).code, 143)
    }))

  it.live("refuses what makes no sense", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (
        const [flags, problem] of [
          [["--metrics-port", "9464"], /--metrics-port is for --watch/],
          [["--watch", "--metrics-port", "65536"], /0 to 65535/],
          [["--watch", "--metrics-port", "-1"], /whole number/]
        ] as const
      ) {
        const { code, stderr } = yield* box.run(["reap", ...flags])
        assert.strictEqual(code, 2, stderr)
        assert.match(stderr, problem)
      }
    }))
})
