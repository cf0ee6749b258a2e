import { assert, describe, it, vi } from "@effect/vitest"
import { Clock, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Target, Tmux, type TmuxControl, type TmuxError } from "../src/index.ts"
import {
  control,
  controlLayer,
  endServer,
  isAlive,
  makeFixture,
  temporaryDirectory,
  tmux,
  transport,
  until
} from "./RealServer.ts"
import { failsWith, named, sessionName, suite } from "./TmuxContract.ts"

suite("TmuxControl", controlLayer)

const timed = <A, E, R>(self: Effect.Effect<A, E, R>) =>
  Effect.gen(function*() {
    const start = yield* Clock.currentTimeMillis
    const value = yield* self
    return [value, (yield* Clock.currentTimeMillis) - start] as const
  })

const anchorPrefix = "slipway+control+"

/** What the server itself reports of control clients and their sessions. */
const clients = (socket: string) =>
  Effect.map(
    tmux(socket, "list-clients", "-F", "#{client_pid}"),
    (text) => text.split("\n").filter((line) => line !== "").map(Number)
  )
const sessionNames = (socket: string) =>
  Effect.map(tmux(socket, "list-sessions", "-F", "#{session_name}"), (text) => text.split("\n").filter(Boolean))
const anchors = (socket: string) =>
  Effect.map(sessionNames(socket), (names) => names.filter((name) => name.startsWith(anchorPrefix)))

const eventually = <E, R>(condition: Effect.Effect<boolean, E, R>) =>
  Effect.gen(function*() {
    for (let turn = 0; turn < 500; turn++) {
      if (yield* condition) return
      yield* Effect.sleep("10 millis")
    }
    return assert.fail("did not come true")
  })

/** Whether nothing is left of a process, not even to be reaped. */
const isReaped = (pid: number) => !Fs.existsSync(`/proc/${pid}`)

const isStopped = (pid: number) => /\) T/.test(Fs.readFileSync(`/proc/${pid}/stat`, "utf8"))

const frozen = <A, E, R>(pid: number, during: Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.andThen(Effect.sync(() => process.kill(pid, "SIGSTOP")), until(() => isStopped(pid))),
    () => during,
    () => Effect.sync(() => process.kill(pid, "SIGCONT"))
  )

/** A process with a client of its own, once it is attached. */
const startOwner = Effect.fnUntraced(function*(...args: ReadonlyArray<string>) {
  const path = Path.join(import.meta.dirname, "owner.ts")
  const owner = spawn(process.execPath, ["--conditions=source", path, ...args], {
    stdio: ["ignore", "pipe", "inherit"]
  })
  yield* Effect.callback<void>((resume) => {
    owner.stdout.once("data", () => resume(Effect.void))
  })
  return owner
})

const count = (amount: number) => Array.from({ length: amount }, (_, index) => index)

const use = <A, E, R>(
  body: (fixture: Effect.Success<typeof makeFixture>, tmux: Tmux["Service"]) => Effect.Effect<A, E, R>,
  options?: TmuxControl.Options
) =>
  Effect.gen(function*() {
    const fixture = yield* makeFixture
    return yield* Effect.gen(function*() {
      return yield* body(fixture, yield* Tmux)
    }).pipe(Effect.provide(control(options)))
  })

const byProcess = Effect.provide(Effect.map(Tmux, (tmux) => tmux), transport())

const tag = <A, E extends { readonly _tag: string }, R>(self: Effect.Effect<A, E, R>) =>
  Effect.match(self, { onFailure: (error) => error._tag, onSuccess: () => "done" })

describe("TmuxControl and its client", () => {
  it.live("one client serves all fibers, and 200 sessions asked for at once are 200 sessions", () =>
    use(({ script, socket }, tmux) =>
      Effect.gen(function*() {
        const server = tmux.server(socket)
        const made = yield* Effect.forEach(
          count(200),
          (index) => server.newSession({ name: sessionName(`s${index}`), environment: { INDEX: `${index}` }, script }),
          { concurrency: "unbounded" }
        )
        assert.strictEqual(new Set(made.map(({ panePid }) => panePid)).size, 200)
        const found = yield* server.environments
        assert.strictEqual(found.length, 200)
        for (const { environment, session } of found) {
          assert.strictEqual(`s${environment["INDEX"]}`, session.name)
        }
        assert.strictEqual((yield* clients(socket)).length, 1)
        assert.strictEqual((yield* anchors(socket)).length, 1)
      }), { timeout: "30 seconds" }))

  it.live("the end of the layer leaves the server, and neither client nor anchor nor zombie", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const pids = yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        return yield* clients(socket)
      }).pipe(Effect.provide(control()))
      assert.strictEqual(pids.length, 1)
      assert.isTrue(pids.every(isReaped))
      yield* eventually(Effect.map(anchors(socket), (names) => names.length === 0))
      assert.deepStrictEqual(yield* sessionNames(socket), ["one"])
    }))

  it.live("a client comes to a server that has nothing to lose, and to no other one", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const cautious = control()
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: { MARK: "1" }, script })
        assert.strictEqual((yield* clients(socket)).length, 1)
        // A later caller finds a session, and gets the same answers without a client.
        yield* Effect.gen(function*() {
          const second = (yield* Tmux).server(socket)
          yield* second.newSession({ name: sessionName("two"), environment: {}, script })
          assert.deepStrictEqual((yield* second.sessions).map(({ name }) => name), ["one", "two"])
          assert.strictEqual((yield* second.environment(Target.name(sessionName("one"))))["MARK"], "1")
          yield* second.killSession(Target.name(sessionName("two")))
          assert.strictEqual(yield* tag(second.session(Target.name(sessionName("two")))), "TmuxNoSuchSession")
          assert.strictEqual((yield* clients(socket)).length, 1)
        }).pipe(Effect.provide(Layer.fresh(cautious)))
        assert.deepStrictEqual((yield* server.sessions).map(({ name }) => name), ["one"])
      }).pipe(Effect.provide(cautious))
    }))

  it.live("a server is not idle while a client is attached, and the question whether it is attaches none", () =>
    use(
      ({ script, socket }, { server }) =>
        Effect.gen(function*() {
          const idle = { startedBy: Number.MAX_SAFE_INTEGER, until: Number.MAX_SAFE_INTEGER }
          const attached = Effect.gen(function*() {
            const own = (yield* Tmux).server(socket)
            yield* own.newSession({ name: sessionName("one"), environment: {}, script })
            yield* own.killSession(named("one"))
            assert.lengthOf(yield* clients(socket), 1)
            assert.isFalse(yield* own.endIdle(idle))
            assert.isFalse(yield* server(socket).endIdle(idle))
          })
          yield* Effect.provide(attached, Layer.fresh(control()))
          yield* eventually(Effect.map(anchors(socket), (names) => names.length === 0))
          assert.isTrue(yield* server(socket).endIdle(idle))
        })
    ))

  it.live("a client that was lost while sessions run is not replaced, and all goes on without it", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        const [client] = yield* clients(socket)
        const pid = client ?? assert.fail("there is no client")
        process.kill(pid, "SIGKILL")
        yield* eventually(Effect.map(clients(socket), (pids) => pids.length === 0))
        // What is asked before this process has reaped its client may be lost with it.
        yield* until(() => isReaped(pid))
        yield* server.newSession({ name: sessionName("two"), environment: {}, script })
        assert.deepStrictEqual((yield* server.sessions).map(({ name }) => name), ["one", "two"])
        assert.deepStrictEqual(yield* clients(socket), [])
      }).pipe(Effect.provide(control()))
    }))

  it.live("a kill of the owner ends client and anchor, and leaves the session", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const owner = yield* startOwner(socket, script)
      const pids = yield* clients(socket)
      assert.strictEqual(pids.length, 1)
      assert.strictEqual((yield* anchors(socket)).length, 1)
      owner.kill("SIGKILL")
      yield* until(() => !pids.some(isAlive))
      yield* eventually(Effect.map(anchors(socket), (names) => names.length === 0))
      assert.deepStrictEqual(yield* sessionNames(socket), ["owned"])
    }))

  it.live("a kill of the owner while an answer is under way ends client and anchor too", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const owner = yield* startOwner(socket, script, "asking")
      const pids = yield* clients(socket)
      const server = Number(yield* tmux(socket, "display-message", "-p", "#{pid}"))
      yield* frozen(
        server,
        Effect.gen(function*() {
          // By now the server owes answers that no client is there to read.
          yield* Effect.sleep("100 millis")
          owner.kill("SIGKILL")
          yield* until(() => owner.signalCode === "SIGKILL")
        })
      )
      yield* until(() => !pids.some(isAlive))
      yield* eventually(Effect.map(anchors(socket), (names) => names.length === 0))
      assert.deepStrictEqual(yield* sessionNames(socket), ["owned"])
    }))

  it.live("a killed client is replaced when its anchor has ended and no session is left", () =>
    use(({ script, socket }, tmux) =>
      Effect.gen(function*() {
        const server = tmux.server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        yield* server.killSession(named("one"))
        for (const _ of count(3)) {
          const [pid = 0] = yield* clients(socket)
          process.kill(pid, "SIGKILL")
          yield* until(() => isReaped(pid))
          yield* eventually(Effect.map(sessionNames(socket), (names) => names.length === 0))
          assert.deepStrictEqual(yield* server.sessions, [])
          const [next] = yield* clients(socket)
          assert.isDefined(next)
          assert.notStrictEqual(next, pid)
          assert.strictEqual((yield* anchors(socket)).length, 1)
        }
      })
    ))

  it.live("a question beside a killed client is answered as if it lived", () =>
    use(({ script, socket }, tmux) =>
      Effect.gen(function*() {
        const server = tmux.server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: { A: "1" }, script })
        const [pid = 0] = yield* clients(socket)
        process.kill(pid, "SIGKILL")
        assert.deepStrictEqual(yield* server.environment(named("one")), { A: "1" })
        yield* until(() => isReaped(pid))
        assert.deepStrictEqual(yield* server.environment(named("one")), { A: "1" })
      })
    ))

  it.live("a client whose anchor another client ends is replaced when no session is left", () =>
    use(({ script, socket }, service) =>
      Effect.gen(function*() {
        const server = service.server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        yield* server.killSession(named("one"))
        const [anchor] = yield* anchors(socket)
        const [pid = 0] = yield* clients(socket)
        yield* tmux(socket, "kill-session", "-t", `=${anchor}`)
        yield* until(() => isReaped(pid))
        assert.deepStrictEqual(yield* server.sessions, [])
        const [next] = yield* anchors(socket)
        assert.isDefined(next)
        assert.notStrictEqual(next, anchor)
      })
    ))

  it.live("layers that come and go while others ask leave the server and its session alone", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const process = (yield* byProcess).server(socket)
      const made = yield* process.newSession({ name: sessionName("one"), environment: {}, script })
      const others = yield* Effect.forkChild(Effect.forever(process.sessions))
      for (const _ of count(30)) {
        const found = yield* Effect.gen(function*() {
          return yield* (yield* Tmux).server(socket).sessions
        }).pipe(Effect.provide(control()))
        assert.deepStrictEqual(found, [made])
      }
      yield* Fiber.interrupt(others)
      assert.deepStrictEqual(yield* process.sessions, [made])
      yield* eventually(Effect.map(anchors(socket), (names) => names.length === 0))
    }))

  it.live("anchors are hidden from every transport, and sessions of people never", () =>
    use(({ script, socket }, service) =>
      Effect.gen(function*() {
        const server = service.server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        yield* server.killSession(named("one"))
        yield* Effect.gen(function*() {
          const other = (yield* Tmux).server(socket)
          yield* other.sessions
          assert.strictEqual((yield* anchors(socket)).length, 2)
          yield* server.newSession({ name: sessionName("one"), environment: {}, script })
          const process = yield* byProcess
          const mine = [`${anchorPrefix}mine`, "slipway", "client", "two words"]
          for (const name of mine) {
            yield* tmux(socket, "new-session", "-d", "-s", name, "sleep 300")
            yield* tmux(socket, "set-option", "-t", `=${name}:`, "@slipway-control", "1")
          }
          for (const each of [server, other, process.server(socket)]) {
            const names = (yield* each.sessions).map(({ name }) => name)
            assert.sameMembers(names, ["one", ...mine])
            assert.sameMembers((yield* each.environments).map(({ session }) => session.name), names)
          }
        }).pipe(Effect.provide(control({ attach: "to-any-server" })))
      })
    ))

  it.live("the name of a client stands for no session", () =>
    use(({ script, socket }, service) =>
      Effect.gen(function*() {
        const server = service.server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        const [pid] = yield* clients(socket)
        const process = yield* byProcess
        for (const each of [server, process.server(socket)]) {
          yield* failsWith(each.environment(named(`client-${pid}`)), "TmuxNoSuchSession")
          yield* failsWith(each.killSession(named(`client-${pid}`)), "TmuxNoSuchSession")
        }
        assert.deepStrictEqual(yield* clients(socket), [pid])
      })
    ))

  it.live("a script's path is one word, whatever it holds", () =>
    use(({ directory, socket }, service) =>
      Effect.gen(function*() {
        const server = service.server(socket)
        const names = [`a 'b' "c" ; d`, "{ kill-server }", "%if 1", "~", "\\' ; kill-server", "é→𝒳", "*?[a] & | > < !"]
        for (const [index, name] of names.entries()) {
          const script = Path.join(directory, name)
          const ran = Path.join(directory, `ran${index}`)
          Fs.writeFileSync(script, `: > ${ran}\nexec sleep 300\n`)
          yield* server.newSession({ name: sessionName(`s${index}`), environment: {}, script })
          yield* until(() => Fs.existsSync(ran))
        }
        assert.strictEqual((yield* server.sessions).length, names.length)
      })
    ))

  it.live("neither processes nor memory grow with the number of commands", () =>
    use(({ script, socket }, service) =>
      Effect.gen(function*() {
        const server = service.server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: { A: "1" }, script })
        const round = Effect.forEach(count(1_000), (index) =>
          tag<unknown, TmuxError, never>(
            index % 2 === 0 ? server.environment(named("one")) : server.killSession(named("none"))
          ), {
          concurrency: 50,
          discard: true
        })
        yield* round
        // Timers of others come and go; what each command left would be there a thousand times.
        const handles = () => process.getActiveResourcesInfo().length
        const resources = handles()
        const before = process.memoryUsage().heapUsed
        yield* round
        yield* round
        assert.isBelow(handles(), resources + 100)
        assert.isBelow(process.memoryUsage().heapUsed - before, 48 * 2 ** 20)
        assert.strictEqual((yield* clients(socket)).length, 1)
      })
    ))
})

describe("TmuxControl on a server in trouble", () => {
  it.live("a frozen server gives TmuxTimeout in time, and later answers go to no other caller", () =>
    use(({ script, socket }, service) =>
      Effect.gen(function*() {
        const server = service.server(socket)
        const names = ["a", "b", "c", "d"]
        for (const name of names) {
          yield* server.newSession({ name: sessionName(name), environment: { NAME: name }, script })
        }
        const { serverPid } = yield* server.session(named("a"))
        yield* frozen(
          serverPid,
          Effect.gen(function*() {
            const questions: ReadonlyArray<Effect.Effect<unknown, TmuxError>> = [
              ...names.map((name) => server.environment(named(name))),
              server.environments,
              server.newSession({ name: sessionName("late"), environment: { NAME: "late" }, script })
            ]
            const [tags, millis] = yield* timed(Effect.all(questions.map(tag), { concurrency: "unbounded" }))
            assert.deepStrictEqual([...new Set(tags)], ["TmuxTimeout"])
            assert.isBelow(millis, 4_000)
            const fiber = yield* Effect.forkChild(server.sessions, { startImmediately: true })
            const [, interrupted] = yield* timed(Fiber.interrupt(fiber))
            assert.isBelow(interrupted, 250)
          })
        )
        yield* eventually(Effect.map(tag(server.environment(named("late"))), (found) => found === "done"))
        const answers = yield* Effect.forEach([...names, "late"], (name) => server.environment(named(name)), {
          concurrency: "unbounded"
        })
        assert.deepStrictEqual(answers.map((answer) => answer["NAME"]), [...names, "late"])
        assert.strictEqual((yield* clients(socket)).length, 1)
      }), { timeout: "2 seconds" }))

  it.live(
    "a frozen server is asked no more than it can be owed, and works again afterwards",
    () =>
      use(({ script, socket }, service) =>
        Effect.gen(function*() {
          const server = service.server(socket)
          const made = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
          yield* frozen(
            made.serverPid,
            Effect.gen(function*() {
              const makes = count(700).map((index) =>
                tag(server.newSession({ name: sessionName(`s${index}`), environment: {}, script: "/nonexistent" }))
              )
              const tags = yield* Effect.all(makes, { concurrency: "unbounded" })
              assert.deepStrictEqual([...new Set(tags)], ["TmuxTimeout"])
            })
          )
          yield* eventually(Effect.map(tag(server.sessions), (found) => found === "done"))
          yield* eventually(Effect.map(server.sessions, (sessions) => sessions.length === 1))
          // Ids count the sessions that were ever made: what was not written never comes.
          const next = yield* server.newSession({ name: sessionName("next"), environment: {}, script })
          assert.isAtMost(Number(next.id.slice(1)) - Number(made.id.slice(1)), 513)
        }), { timeout: "2 seconds" }),
    180_000
  )

  it.live("a server that is frozen before the first use gives TmuxTimeout, and works again afterwards", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      yield* tmux(
        socket,
        "set-option",
        "-s",
        "exit-empty",
        "off",
        ";",
        "new-session",
        "-d",
        "-s",
        "one",
        `sh ${script}`
      )
      const pid = Number(yield* tmux(socket, "display-message", "-p", "#{pid}"))
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        const [tags, millis] = yield* timed(
          frozen(pid, Effect.all([tag(server.sessions), tag(server.environments)], { concurrency: 2 }))
        )
        assert.deepStrictEqual(tags, ["TmuxTimeout", "TmuxTimeout"])
        assert.isBelow(millis, 2_000)
        yield* eventually(Effect.map(tag(server.sessions), (found) => found === "done"))
        assert.deepStrictEqual((yield* server.sessions).map(({ name }) => name), ["one"])
      }).pipe(Effect.provide(control({ timeout: "400 millis" })))
      yield* eventually(Effect.map(anchors(socket), (names) => names.length === 0))
      assert.isTrue(isAlive(pid))
    }))

  it.live("a client that fake timers have made deaf is given up when a question runs out of time, and the next is answered", () =>
    use(
      ({ script, socket }, service) =>
        Effect.gen(function*() {
          const server = service.server(socket)
          const made = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
          const [client] = yield* clients(socket)
          yield* Effect.promise(async () => {
            vi.useFakeTimers()
            try {
              const asked = Effect.runPromiseExit(server.sessions)
              // Files are read in real time, so that the answer has come and nothing could take it.
              for (let turn = 0; turn < 200; turn++) await Fs.promises.readFile(socket).catch(() => "")
              void asked
            } finally {
              vi.useRealTimers()
            }
          })
          yield* failsWith(server.sessions, "TmuxTimeout")
          assert.deepStrictEqual(yield* server.sessions, [made])
          assert.deepStrictEqual(yield* server.environments, [{ session: made, environment: {} }])
          yield* until(() => client === undefined || isReaped(client))
        }),
      { timeout: "3 seconds" }
    ))

  it.live("a layer that ends while its server is frozen ends soon, and leaves nothing when the server goes on", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const scope = yield* Scope.make()
      const context = yield* Layer.buildWithScope(control(), scope)
      const made = yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        return yield* server.newSession({ name: sessionName("one"), environment: {}, script })
      }).pipe(Effect.provideContext(context))
      const [pid = 0] = yield* clients(socket)
      const [, millis] = yield* timed(frozen(made.serverPid, Scope.close(scope, Exit.void)))
      assert.isBelow(millis, 3_000)
      // Who reaps it is up to the system here: what it was a part of was ended the hard way.
      yield* until(() => !isAlive(pid))
      yield* eventually(Effect.map(anchors(socket), (names) => names.length === 0))
      assert.isTrue(isAlive(made.serverPid))
    }))

  it.live("a server killed with 20 commands in flight leaves none of them without an end", () =>
    use(({ script, socket }, service) =>
      Effect.gen(function*() {
        const server = service.server(socket)
        const made = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        const make = (index: number) => server.newSession({ name: sessionName(`s${index}`), environment: {}, script })
        const fibers = yield* frozen(
          made.serverPid,
          Effect.gen(function*() {
            const fibers = yield* Effect.forEach(count(20), (index) =>
              Effect.forkChild(tag<unknown, TmuxError, never>(index % 2 === 0 ? make(index) : server.environments), {
                startImmediately: true
              }))
            process.kill(made.serverPid, "SIGKILL")
            return fibers
          })
        )
        const [exits, millis] = yield* timed(Effect.forEach(fibers, Fiber.join))
        assert.isBelow(millis, 2_000)
        for (const [index, exit] of exits.entries()) {
          assert.strictEqual(exit, index % 2 === 0 ? "TmuxClientLost" : "TmuxNoServer")
        }
        yield* until(() =>
          !isAlive(made.panePid)
        )
        yield* failsWith(server.sessions, "TmuxNoServer")
        const next = yield* make(0)
        assert.notStrictEqual(next.serverPid, made.serverPid)
        assert.deepStrictEqual(yield* server.sessions, [next])
      })
    ))

  it.live("a server killed with more in flight than it can be owed holds up no question", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        const { serverPid } = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        process.kill(serverPid, "SIGSTOP")
        yield* until(() => isStopped(serverPid))
        const asking = yield* Effect.forEach(count(700), () =>
          Effect.forkChild(tag(server.sessions), { startImmediately: true }))
        process.kill(serverPid, "SIGKILL")
        const tags = new Set(yield* Effect.forEach(asking, Fiber.join))
        assert.isFalse(tags.has("TmuxTimeout"), [...tags].join())
      }).pipe(Effect.provide(control({ timeout: "20 seconds" })))
    }))

  it.live("a server that took the socket of another one is asked, and never the other one in its place", () =>
    use(({ directory, script, socket }, service) =>
      Effect.gen(function*() {
        const server = service.server(socket)
        const first = yield* server.newSession({ name: sessionName("one"), environment: { N: "1" }, script })
        const moved = Path.join(directory, "moved")
        Fs.renameSync(socket, moved)
        yield* Effect.addFinalizer(() => endServer(moved))
        yield* failsWith(server.sessions, "TmuxNoServer")
        const second = yield* server.newSession({ name: sessionName("two"), environment: { N: "2" }, script })
        assert.notStrictEqual(second.serverPid, first.serverPid)
        assert.deepStrictEqual(yield* server.environments, [{ session: second, environment: { N: "2" } }])
        yield* failsWith(server.killSession(Target.id(first.id, first.serverPid)), "TmuxNoSuchSession")
        Fs.unlinkSync(socket)
        Fs.linkSync(moved, socket)
        assert.deepStrictEqual(yield* server.environments, [{ session: first, environment: { N: "1" } }])
        process.kill(second.serverPid, "SIGTERM")
        yield* until(() => !isAlive(second.serverPid))
        assert.deepStrictEqual((yield* sessionNames(moved)).filter((name) => name === "one"), ["one"])
      })
    ).pipe(Effect.scoped))
})

/** An executable in place of tmux whose control clients run a body, with the anchor's word in `$word`. */
const fake = Effect.fnUntraced(function*(body: string) {
  const directory = yield* temporaryDirectory
  const executable = Path.join(directory, "tmux")
  const log = Path.join(directory, "calls")
  const socket = Target.SocketPath.make(Path.join(directory, "socket"))
  Fs.writeFileSync(socket, "")
  Fs.writeFileSync(log, "")
  Fs.writeFileSync(
    executable,
    `#!/bin/sh\n[ "$1" = -V ] && { echo "tmux 3.3a"; exit 0; }\necho "$$ $*" >> ${log}\n` +
      `for last; do :; done\nword="\${last%% *}"\n` +
      `ready() { printf '%%begin 1 1 0\\n%s 4242 1\\n%%end 1 1 0\\n' "$word"; }\n${body}\n`,
    { mode: 0o755 }
  )
  const calls = () => Fs.readFileSync(log, "utf8").split("\n").filter((line) => line !== "")
  return {
    executable,
    socket,
    calls: () => calls().length,
    attached: () => calls().filter((line) => line.includes(" -C ")).length
  }
})

/** It has no listing of sessions to ask for first. */
const fakeControl = (options: TmuxControl.Options) => control({ attach: "to-any-server", ...options })

describe("TmuxControl on a tmux that misbehaves", () => {
  it.live("clients that die as soon as they came are not replaced in a storm", () =>
    Effect.gen(function*() {
      const { attached, executable, socket } = yield* fake("ready\nread -r line\nexit 1")
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        const [, millis] = yield* timed(
          Effect.forEach(count(4), () =>
            Effect.all(count(25).map(() => tag(server.sessions)), { concurrency: "unbounded" }))
        )
        // The pauses double up to a second, so that only so many clients fit into the time that it took.
        assert.isAtMost(attached(), 8 + Math.ceil(millis / 1_000))
      }).pipe(Effect.provide(fakeControl({ executable, timeout: "700 millis" })))
    }))

  it.live("no caller takes an answer that was under way before the question", () =>
    Effect.gen(function*() {
      const { calls, executable, socket } = yield* fake(
        `[ -e "$0.go" ] && { echo "error connecting to /s (Permission denied)" >&2; exit 1; }\n` +
          `while [ ! -e "$0.go" ]; do sleep 0.01; done\n` +
          `echo "error connecting to /s (No such file or directory)" >&2; exit 1`
      )
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        const first = yield* Effect.forkChild(tag(server.sessions), { startImmediately: true })
        yield* until(() => calls() === 1)
        const later = yield* Effect.forEach(count(5), () =>
          Effect.forkChild(tag(server.sessions), { startImmediately: true }))
        yield* Effect.sleep("20 millis")
        Fs.writeFileSync(`${executable}.go`, "")
        assert.strictEqual(yield* Fiber.join(first), "TmuxNoServer")
        assert.deepStrictEqual(
          yield* Effect.forEach(later, Fiber.join),
          Array.from({ length: 5 }, () =>
            "TmuxCommandFailed")
        )
        // One more client for all of them; what it could not answer, each has then asked a process.
        assert.strictEqual(calls(), 2 + 5)
      }).pipe(Effect.provide(fakeControl({ executable })))
    }))

  it.live("an answer out of turn, or a line out of place, fails what is in flight and is never taken for an answer", () =>
    Effect.gen(function*() {
      const block = (number: number, text: string) =>
        `printf '%%begin 1 ${number} 1\\n${text}\\n%%end 1 ${number} 1\\n'`
      for (
        const body of [
          "echo garbage",
          block(0, "x"),
          `read -r fence; nonce="\${fence##*\\'}"; fence="\${fence%\\'}"; nonce="\${fence##*\\'}"; nonce="\${nonce%-*}"\n` +
          `printf '%%begin 1 5 1\\n%s-7\\n%%end 1 5 1\\n' "$nonce"`,
          `${block(2, "$9\\t1\\t1\\tx")}; printf 'garbage\\n'`,
          `${block(3, "$9\\t1\\t1\\tx")}; ${block(2, "y")}`
        ]
      ) {
        const { executable, socket } = yield* fake(`ready\nread -r line\n${body}\nread -r a; read -r b; read -r c`)
        yield* Effect.gen(function*() {
          const server = (yield* Tmux).server(socket)
          const make = server.newSession({ name: sessionName("one"), environment: {}, script: "/s" })
          yield* failsWith(make, "TmuxClientLost")
        }).pipe(Effect.provide(fakeControl({ executable, timeout: "2 seconds" })))
      }
    }))

  it.live("a question is answered by a process when its client is lost, and by no other means while clients are lost", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      // Each client comes, reads one line, and ends before it answers; all else is the real tmux.
      const { executable } = yield* fake(
        `case " $* " in *" -C "*) ready; read -r line; exit 1;; *) exec tmux "$@";; esac`
      )
      yield* Effect.gen(function*() {
        const made = yield* (yield* byProcess).server(socket).newSession({
          name: sessionName("one"),
          environment: { A: "1" },
          script
        })
        const server = (yield* Tmux).server(socket)
        assert.deepStrictEqual(yield* server.sessions, [made])
        assert.deepStrictEqual(yield* server.environment(named("one")), { A: "1" })
        yield* failsWith(server.newSession({ name: sessionName("two"), environment: {}, script }), "TmuxClientLost")
      }).pipe(Effect.provide(control({ executable, attach: "to-any-server" })))
    }))

  it.live("what cannot be anchored is asked by processes", () =>
    Effect.gen(function*() {
      const { script, socket } = yield* makeFixture
      const directory = Path.dirname(socket)
      const executable = Path.join(directory, "tmux")
      const refusing = "for a; do [ \"$a\" = -C ] && { echo \"create session failed: no pty\" >&2; exit 1; }; done"
      Fs.writeFileSync(executable, `#!/bin/sh\n${refusing}\nexec tmux "$@"\n`, { mode: 0o755 })
      yield* Effect.gen(function*() {
        const server = (yield* Tmux).server(socket)
        yield* server.newSession({ name: sessionName("one"), environment: {}, script })
        assert.deepStrictEqual((yield* server.sessions).map(({ name }) => name), ["one"])
      }).pipe(Effect.provide(control({ executable })))
    }))

  it.live("a client that cannot attach says why, and is not taken for a missing server", () =>
    Effect.gen(function*() {
      const { executable, socket } = yield* fake(`echo "error connecting to /s (Permission denied)" >&2; exit 1`)
      yield* Effect.gen(function*() {
        const error = yield* failsWith((yield* Tmux).server(socket).sessions, "TmuxCommandFailed")
        assert.include(error.stderr, "Permission denied")
        assert.strictEqual(error.exitCode, 1)
      }).pipe(Effect.provide(fakeControl({ executable })))
    }))
})
