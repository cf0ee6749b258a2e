import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Layer, PlatformError } from "effect"
import { ChildProcessSpawner } from "effect/process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Target, Tmux, type TmuxError, TmuxProcess } from "../src/index.ts"
import { endServer, isAlive, layer, makeFixture, temporaryDirectory, tmux, transport, until } from "./RealServer.ts"
import { failsWith, named, sessionName, suite } from "./TmuxContract.ts"

suite("TmuxProcess", layer)

const environmentOf = (pid: number): Record<string, string> =>
  Object.fromEntries(
    Fs.readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").filter((entry) => entry !== "").map((entry) => {
      const at = entry.indexOf("=")
      return [entry.slice(0, at), entry.slice(at + 1)] as const
    })
  )

const timed = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const start = yield* Clock.currentTimeMillis
    const value = yield* self
    return [value, (yield* Clock.currentTimeMillis) - start] as const
  })

/** A system that refuses to start any process, as Node says so: out of its spawn, or by an event. */
const refusing = (code: string, how: "throws" | "reports") =>
  Layer.succeed(
    ChildProcessSpawner.ChildProcessSpawner,
    ChildProcessSpawner.make(() =>
      Effect.suspend(() => {
        const error = Object.assign(new Error(`spawn tmux ${code}`), { code, syscall: "spawn tmux", errno: -12 })
        if (how === "throws") throw error
        return Effect.fail(PlatformError.systemError({
          module: "ChildProcess",
          method: "spawn",
          _tag: "Unknown",
          cause: error
        }))
      })
    )
  )

describe("a system that is short of memory, processes or files", () => {
  for (const [code, how] of [["ENOMEM", "throws"], ["EAGAIN", "reports"], ["EMFILE", "reports"]] as const) {
    it.live(`is a failure that says so, and no defect: ${code}`, () =>
      Effect.gen(function*() {
        const tmux = yield* Tmux
        assert.deepInclude(yield* failsWith(tmux.version, "TmuxNotStarted"), { operation: "version", code })
      }).pipe(Effect.provide(TmuxProcess.layer().pipe(Layer.provide(refusing(code, how))))))
  }

  it.live("another refusal to start a process is a failure of tmux, and another defect stays one", () =>
    Effect.gen(function*() {
      const version = Effect.flatMap(Tmux, (tmux) => tmux.version)
      const layer = (how: "throws" | "reports") => TmuxProcess.layer().pipe(Layer.provide(refusing("EINVAL", how)))
      yield* failsWith(Effect.provide(version, layer("throws")), "TmuxCommandFailed")
      yield* failsWith(Effect.provide(version, layer("reports")), "TmuxCommandFailed")
      const broken = Layer.succeed(
        ChildProcessSpawner.ChildProcessSpawner,
        ChildProcessSpawner.make(() => Effect.die("broken"))
      )
      const exit = yield* Effect.exit(
        Effect.provide(version, TmuxProcess.layer().pipe(Layer.provide(broken)))
      )
      assert.isTrue(Exit.hasDies(exit))
    }))
})

/** An executable in place of tmux. `calls` shows what it was called with so far, one line per call. */
const fake = Effect.fnUntraced(function*(body: string) {
  const directory = yield* temporaryDirectory
  const executable = Path.join(directory, "tmux")
  const log = Path.join(directory, "calls")
  Fs.writeFileSync(log, "")
  Fs.writeFileSync(executable, `#!/bin/sh\necho "$$ $*" >> ${log}\n${body}\n`, { mode: 0o755 })
  const calls = () => Fs.readFileSync(log, "utf8").split("\n").filter((line) => line !== "")
  return {
    executable,
    calls: () => calls().map((line) => line.slice(line.indexOf(" ") + 1)),
    pids: () => calls().map((line) => Number(line.slice(0, line.indexOf(" "))))
  }
})

const answersVersion = `[ "$1" = -V ] && { echo "tmux 3.3a"; exit 0; }`
const ignoresTerm = `trap '' TERM; while :; do sleep 0.05; done`
const socket = Target.SocketPath.make("/nonexistent/slipway/socket")

describe("TmuxProcess on a real server", () => {
  it.live("the server bears nothing of its first caller, and a later session nothing of an earlier one", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const environment = { ...process.env, SLIPWAY_AGENT_ID: "caller", HOME: "/", LANG: "C.UTF-8", SECRET: "hunter2" }
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        const make = (name: string, environment: Record<string, string>) =>
          server.newSession({ name: sessionName(name), environment, script })
        const first = yield* make("one", { SLIPWAY_AGENT_ID: "first" })
        const second = yield* make("two", {})
        const kept = new Set(["PATH", "HOME", "TERM", "LANG"])
        assert.deepStrictEqual(Object.keys(environmentOf(first.serverPid)).filter((key) => !kept.has(key)), [])
        assert.strictEqual(Fs.readlinkSync(`/proc/${first.serverPid}/cwd`), "/")
        yield* until(() => environmentOf(first.panePid)["SLIPWAY_AGENT_ID"] === "first")
        yield* until(() => environmentOf(second.panePid)["TMUX_PANE"] !== undefined)
        const inherited = environmentOf(second.panePid)
        assert.isUndefined(inherited["SLIPWAY_AGENT_ID"])
        assert.isUndefined(inherited["SECRET"])
        assert.strictEqual(Fs.readlinkSync(`/proc/${second.panePid}/cwd`), "/")
      }).pipe(Effect.provide(transport({ environment })))
    }))

  it.live("newSession never fails when it meets the end of the server's last session", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const server = (yield* Tmux).server(socket)
      const make = (index: number) => server.newSession({ name: sessionName(`s${index}`), environment: {}, script })
      yield* make(0)
      for (let index = 1; index <= 100; index++) {
        yield* Effect.all([server.killSession(named(`s${index - 1}`)), make(index)], { concurrency: 2 })
      }
      assert.deepStrictEqual((yield* server.sessions).map(({ name }) => name), ["s100"])
    }).pipe(Effect.provide(transport({ timeout: "30 seconds" }))), 180_000)

  it.live("a socket whose server was killed gives TmuxNoServer, and takes a new server", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const server = (yield* Tmux).server(socket)
      const first = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
      process.kill(first.serverPid, "SIGKILL")
      yield* until(() => !isAlive(first.serverPid) && !isAlive(first.panePid))
      assert.isTrue(Fs.existsSync(socket))
      yield* failsWith(server.sessions, "TmuxNoServer")
      yield* failsWith(server.environments, "TmuxNoServer")
      yield* failsWith(server.killSession(Target.id(first.id, first.serverPid)), "TmuxNoServer")
      const second = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
      assert.deepStrictEqual(yield* server.sessions, [second])
    }).pipe(Effect.provide(transport())))

  it.live("environments never fail while sessions come to their end", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const server = (yield* Tmux).server(socket)
      const names = Array.from({ length: 16 }, (_, index) => `s${index}`)
      yield* Effect.forEach(names, (name) =>
        server.newSession({ name: sessionName(name), environment: { NAME: name }, script }), { concurrency: 4 })
      const ending = yield* Effect.forkChild(
        Effect.forEach(names, (name) =>
          server.killSession(named(name)), { concurrency: 2 })
      )
      for (let left = 16, rounds = 0; left > 0; rounds++) {
        const found = yield* server.environments
        for (const { environment, session } of found) {
          assert.strictEqual(environment["NAME"], session.name)
        }
        assert.isAtMost(found.length, left)
        assert.isBelow(rounds, 1_000)
        left = found.length
      }
      yield* Fiber.join(ending)
    }).pipe(Effect.provide(transport())))

  it.live("a session that ends while environments are listed cuts no other one off", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const server = (yield* Tmux).server(socket)
      const names = ["s0", "s1", "s2", "s3", "s4"]
      for (const name of names) {
        yield* server.newSession({ name: sessionName(name), environment: { NAME: name }, script })
      }
      yield* tmux(socket, "set-hook", "-g", "after-display-message", "kill-session -t =s2")
      const found = yield* server.environments
      assert.deepStrictEqual(found.map(({ environment }) => environment["NAME"]), ["s0", "s1", "s3", "s4"])
    }).pipe(Effect.provide(transport())))

  it.live("what a program sets on its own session hides no other session and poses as none", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const server = (yield* Tmux).server(socket)
      const make = (name: string) => server.newSession({ name: sessionName(name), environment: { MARK: name }, script })
      const odd = yield* make("one")
      const plain = yield* make("two")
      const forged = `x\nend\nrow\t$9\t1\t1\tz\nenvironment $9\nMARK="z"; export MARK;\n`
      yield* tmux(socket, "set-environment", "-t", "=one", "FORGED", forged)
      yield* tmux(socket, "set-environment", "-t", "=one", "a b\";", "c")
      yield* tmux(socket, "set-environment", "-t", "=one", "-r", "end\nMARK")
      yield* tmux(socket, "split-window", "-t", "=one:", "")
      const found = yield* server.environments
      assert.strictEqual(found.length, 2)
      assert.deepStrictEqual(found.find(({ session }) => session.id === plain.id)?.environment, { MARK: "two" })
      const environment = found.find(({ session }) => session.id === odd.id)?.environment
      assert.strictEqual(environment?.["MARK"], "one")
      assert.strictEqual(environment?.["FORGED"], forged)
    }).pipe(Effect.provide(transport())))

  it.live("names beyond ASCII are read in a locale without UTF-8", () =>
    Effect.gen(function*() {
      const { rename, script, socket } = yield* makeFixture
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: { MARK: "é" }, script })
        yield* rename(named("one"), "zwölf")
        const [found] = yield* server.environments
        assert.strictEqual(found?.session.name, "zwölf")
        assert.strictEqual(found?.environment["MARK"], "é")
      }).pipe(Effect.provide(transport({ environment: { PATH: process.env["PATH"], LANG: "C" } })))
    }))

  it.live("an interrupted newSession harms neither the server nor the next one", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const server = (yield* Tmux).server(socket)
      const kept = yield* server.newSession({ name: sessionName("kept"), environment: {}, script })
      for (let index = 0; index < 20; index++) {
        const fiber = yield* Effect.forkChild(
          server.newSession({ name: sessionName(`s${index}`), environment: {}, script }),
          { startImmediately: true }
        )
        yield* Effect.sleep(`${index % 10} millis`)
        const [, millis] = yield* timed(Fiber.interrupt(fiber))
        assert.isBelow(millis, 1_500)
      }
      assert.deepStrictEqual(yield* server.session(named("kept")), kept)
      const last = yield* server.newSession({ name: sessionName("last"), environment: {}, script })
      assert.strictEqual(last.serverPid, kept.serverPid)
    }).pipe(Effect.provide(transport())))

  it.live("the version is asked for once, and all environments in one call", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const { calls, executable } = yield* fake(`exec tmux "$@"`)
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        yield* Effect.forEach(["a", "b", "c", "d"], (name) =>
          server.newSession({ name: sessionName(name), environment: {}, script }), { concurrency: "unbounded" })
        assert.strictEqual((yield* server.environments).length, 4)
        assert.strictEqual(
          calls().filter((call) =>
            call === "-V"
          ).length,
          1
        )
        assert.strictEqual(calls().length, 6)
      }).pipe(Effect.provide(transport({ executable })))
    }))

  it.live("the end of a server is waited for, so that the test itself leaves nothing", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const server = (yield* Tmux).server(socket)
      const made = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
      yield* endServer(socket)
      assert.isFalse(isAlive(made.serverPid) || isAlive(made.panePid))
    }).pipe(Effect.provide(transport())))
})

describe("TmuxProcess on a tmux that misbehaves", () => {
  it.live("a tmux that hangs and ignores TERM gives TmuxTimeout soon, and has ended", () =>
    Effect.gen(function*() {
      const { executable, pids } = yield* fake(`${answersVersion}\n${ignoresTerm}`)
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        for (
          const question of [
            server.sessions,
            server.newSession({ name: sessionName("one"), environment: {}, script: "/s" })
          ]
        ) {
          const [error, millis] = yield* timed(
            failsWith<unknown, TmuxError, never, "TmuxTimeout">(question, "TmuxTimeout")
          )
          assert.strictEqual(error.millis, 300)
          assert.isBelow(millis, 3_000)
        }
        // One for the version and one for each question, if it came as far as its first line.
        assert.isAtMost(pids().length, 3)
        assert.isFalse(pids().some(isAlive))
      }).pipe(Effect.provide(transport({ executable, timeout: "300 millis" })))
    }))

  it.live("callers that wait for one hanging version check all end with it, and the next call asks anew", () =>
    Effect.gen(function*() {
      const { calls, executable } = yield* fake(ignoresTerm)
      yield* Effect.gen(function*() {
        const tmux = yield* Tmux
        const [, millis] = yield* timed(
          Effect.all(Array.from({ length: 12 }, () => failsWith(tmux.server(socket).sessions, "TmuxTimeout")), {
            concurrency: "unbounded"
          })
        )
        assert.isBelow(millis, 3_000)
        assert.deepStrictEqual(calls(), ["-V"])
        yield* failsWith(tmux.version, "TmuxTimeout")
        assert.deepStrictEqual(calls(), ["-V", "-V"])
      }).pipe(Effect.provide(transport({ executable, timeout: "300 millis" })))
    }))

  it.live("a call that is interrupted ends its process at once", () =>
    Effect.gen(function*() {
      const { executable, pids } = yield* fake(`${answersVersion}\nexec sleep 60`)
      yield* Effect.gen(function*() {
        const fiber = yield* Effect.forkChild((yield* Tmux).server(socket).sessions)
        yield* until(() => pids().length === 2)
        const [, millis] = yield* timed(Fiber.interrupt(fiber))
        assert.isBelow(millis, 1_000)
        assert.isFalse(pids().some(isAlive))
      }).pipe(Effect.provide(transport({ executable })))
    }))

  it.live("much output on both streams does not block", () =>
    Effect.gen(function*() {
      const flood = `i=0; while [ $i -lt 3000 ]; do printf '%0100d\\n' 0; printf '%0100d\\n' 0 >&2; i=$((i+1)); done`
      const { executable } = yield* fake(`${answersVersion}\n${flood}; exit 3`)
      yield* Effect.gen(function*() {
        const error = yield* failsWith((yield* Tmux).server(socket).sessions, "TmuxCommandFailed")
        assert.strictEqual(error.exitCode, 3)
        assert.isAtMost(error.stderr.length, 2_000)
      }).pipe(Effect.provide(transport({ executable })))
    }))

  it.live("100 calls at once are no fork storm: 16 run, the others wait for their turn", () =>
    Effect.gen(function*() {
      const running = yield* temporaryDirectory
      const { executable } = yield* fake(
        `${answersVersion}\nmkdir ${running}/$$\nls ${running} | wc -l >> ${running}.most\nsleep 0.3\nrmdir ${running}/$$`
      )
      yield* Effect.addFinalizer(() => Effect.sync(() => Fs.rmSync(`${running}.most`)))
      const { directory } = yield* makeFixture
      const server = (yield* Effect.provide(Tmux, transport({ executable, timeout: "30 seconds" }))).server(
        Target.SocketPath.make(Path.join(directory, "none"))
      )
      yield* Effect.forEach(Array.from({ length: 100 }), () => server.sessions, { concurrency: "unbounded" })
      const seen = Fs.readFileSync(`${running}.most`, "utf8").trim().split("\n").map(Number)
      assert.lengthOf(seen, 100)
      assert.isAtMost(Math.max(...seen), 16)
      assert.isAbove(Math.max(...seen), 1)
    }))

  it.live("a missing executable gives TmuxNotFound", () =>
    Effect.gen(function*() {
      const tmux = yield* Tmux
      const error = yield* failsWith(tmux.version, "TmuxNotFound")
      assert.include(error.message, "install tmux")
      yield* failsWith(tmux.server(socket).sessions, "TmuxNotFound")
    }).pipe(Effect.provide(transport({ executable: "slipway-no-such-tmux" }))))

  it.live("a tmux that is too old is given no command", () =>
    Effect.gen(function*() {
      const { calls, executable } = yield* fake(`echo "tmux 3.1c"`)
      yield* Effect.gen(function*() {
        const tmux = yield* Tmux
        const error = yield* failsWith(tmux.version, "TmuxTooOld")
        assert.strictEqual(error.found, "tmux 3.1c")
        const server = tmux.server(socket)
        yield* failsWith(
          server.newSession({ name: sessionName("one"), environment: {}, script: "/s" }),
          "TmuxTooOld"
        )
        assert.deepStrictEqual([...new Set(calls())], ["-V"])
      }).pipe(Effect.provide(transport({ executable })))
    }))

  it.live("hostile arguments are refused without running anything", () =>
    Effect.gen(function*() {
      const { calls, executable } = yield* fake(answersVersion)
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        const attempt = (environment: Record<string, string>, script: string) =>
          failsWith(server.newSession({ name: sessionName("one"), environment, script }), "TmuxRefusedArgument")
        yield* attempt({}, "/tmp/#(touch pwned)")
        yield* attempt({}, "/tmp/x;")
        yield* attempt({ A: "$(id)" }, "/s")
        yield* attempt({ A: "1\n2" }, "/s")
        assert.deepStrictEqual(calls(), [])
      }).pipe(Effect.provide(transport({ executable })))
    }))

  it.live("a server lost while it was asked is asked again, but never for a new session", () =>
    Effect.gen(function*() {
      const { calls, executable } = yield* fake(
        `${answersVersion}\n[ -e "$0.lost" ] && echo "no server running on /s" >&2 && exit 1\n` +
          `echo "server exited unexpectedly" >&2\ncase "$*" in *new-session*) ;; *) : > "$0.lost";; esac\nexit 1`
      )
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        const make = server.newSession({ name: sessionName("one"), environment: {}, script: "/s" })
        yield* failsWith(make, "TmuxCommandFailed")
        assert.strictEqual(calls().length, 2)
        yield* failsWith(server.sessions, "TmuxNoServer")
        assert.strictEqual(calls().length, 4)
      }).pipe(Effect.provide(transport({ executable })))
    }))

  it.live("a refused permission or an unreadable answer is never taken for a missing server", () =>
    Effect.gen(function*() {
      const bodies = [
        `echo "error connecting to /s (Permission denied)" >&2; exit 1`,
        `echo "server exited unexpectedly" >&2; exit 1`,
        `kill -9 $$`,
        `echo "what is this"`
      ]
      for (const body of bodies) {
        const { executable } = yield* fake(`${answersVersion}\n${body}`)
        yield* Effect.gen(function*() {
          const server = (yield* Tmux).server(socket)
          yield* failsWith(server.sessions, "TmuxCommandFailed")
          yield* failsWith(server.environments, "TmuxCommandFailed")
        }).pipe(Effect.provide(transport({ executable })))
      }
    }))
})
