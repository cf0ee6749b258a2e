/**
 * What every transport of tmux has to do, as one suite: run it with a layer that gives the transport and a fixture on a
 * fresh socket.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, type Layer } from "effect"
import { Target, Tmux, type TmuxError } from "../src/index.ts"

/** A socket of the test's own, and what happens to sessions without being asked of the transport. */
export class Fixture extends Context.Service<Fixture, {
  readonly socket: Target.SocketPath
  /** The path of a script that runs until its session ends. */
  readonly script: string
  readonly rename: (target: Target.Target, name: string) => Effect.Effect<void>
  readonly endServer: Effect.Effect<void>
  /** Starts a server that has no session, and of which this transport knows nothing; answers with its pid. */
  readonly startEmpty: Effect.Effect<number>
}>()("@slipway/tmux/test/Fixture") {}

export const named = (name: string) => Target.name(Target.SessionName.make(name))

/** A second of the wall clock that is not over for long. */
const inAnHour = (): number => Math.floor(Date.now() / 1000) + 3_600

export const sessionName = (name: string) => Target.SessionName.make(name)

const hasTag = <E extends { readonly _tag: string }, Tag extends string>(
  error: E,
  tag: Tag
): error is Extract<E, { readonly _tag: Tag }> => error._tag === tag

/** Fails unless the effect fails with this tag. */
export const failsWith = <A, E extends { readonly _tag: string }, R, Tag extends E["_tag"]>(
  self: Effect.Effect<A, E, R>,
  tag: Tag
): Effect.Effect<Extract<E, { readonly _tag: Tag }>, A, R> =>
  Effect.map(
    Effect.flip(self),
    (error) => hasTag(error, tag) ? error : assert.fail(`failed with ${error._tag} in place of ${tag}`)
  )

export const suite = (name: string, layer: Layer.Layer<Tmux | Fixture>) => {
  const test = <A, E>(
    title: string,
    body: (fixture: Fixture["Service"], tmux: Tmux["Service"]) => Effect.Effect<A, E>
  ) =>
    it.live(title, () =>
      Effect.gen(function*() {
        return yield* body(yield* Fixture, yield* Tmux)
      }).pipe(Effect.provide(layer)))

  describe(`${name} keeps the contract`, () => {
    test(
      "a new session is listed, found by name and by id, and bears its environment",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const made = yield* server.newSession({ name: sessionName("one"), environment: { SLIPWAY_A: "1" }, script })
          assert.strictEqual(made.name, "one")
          assert.match(made.id, /^\$[0-9]+$/)
          assert.isAbove(made.serverPid, 1)
          assert.isAbove(made.panePid, 1)
          const id = Target.id(made.id, made.serverPid)
          assert.deepStrictEqual(yield* server.sessions, [made])
          assert.deepStrictEqual(yield* server.session(named("one")), made)
          assert.deepStrictEqual(yield* server.session(id), made)
          assert.deepStrictEqual(yield* server.environment(named("one")), { SLIPWAY_A: "1" })
          assert.deepStrictEqual(yield* server.environment(id), { SLIPWAY_A: "1" })
        })
    )

    test(
      "the server's pid is the one that its sessions name, also when it has none; without a server there is none",
      ({ endServer, script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          yield* failsWith(server.pid, "TmuxNoServer")
          const made = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
          assert.strictEqual(yield* server.pid, made.serverPid)
          yield* server.killSession(named("one"))
          assert.strictEqual(yield* server.pid, made.serverPid)
          yield* endServer
          yield* failsWith(server.pid, "TmuxNoServer")
        })
    )

    test(
      "values of the environment come back as they were given",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const environment = {
            A: `q"u'o\`te`,
            B: "back\\slash",
            C: "",
            D: "a b;c",
            E: "k=v",
            F: "é→x",
            G: "-x",
            H: "~",
            I: "' ; kill-server ; '",
            J: "\" ; kill-server ; \"",
            K: "{ kill-server }",
            L: "%if 1",
            M: "%end 1 2 1",
            N: "back at the end\\",
            O: "--",
            P: "=*?[a]!",
            Q: "\\u0041 \\101 \\n \\' \\\"",
            R: "𝒳 e\u0301 \u202e",
            S: "  "
          }
          yield* server.newSession({ name: sessionName("one"), environment, script })
          assert.deepStrictEqual(yield* server.environment(named("one")), environment)
          assert.deepStrictEqual((yield* server.environments).map((each) => each.environment), [environment])
        })
    )

    test("all environments come in one answer", ({ script, socket }, tmux) =>
      Effect.gen(function*() {
        const server = tmux.server(socket)
        const one = yield* server.newSession({ name: sessionName("one"), environment: { MARK: "1" }, script })
        const two = yield* server.newSession({ name: sessionName("two"), environment: { MARK: "2" }, script })
        assert.sameDeepMembers([...yield* server.environments], [
          { session: one, environment: { MARK: "1" } },
          { session: two, environment: { MARK: "2" } }
        ])
      }))

    test(
      "a killed session is no longer there, and the empty server still answers",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          yield* server.newSession({ name: sessionName("one"), environment: {}, script })
          yield* server.killSession(named("one"))
          assert.deepStrictEqual(yield* server.sessions, [])
          assert.deepStrictEqual(yield* server.environments, [])
          for (
            const operation of [
              server.session(named("one")),
              server.environment(named("one")),
              server.killSession(named("one"))
            ]
          ) {
            const error = yield* failsWith<unknown, TmuxError, never, "TmuxNoSuchSession">(
              operation,
              "TmuxNoSuchSession"
            )
            assert.strictEqual(error.target, "one")
          }
        })
    )

    test(
      "a name that is taken is refused, and the first session stays",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const first = yield* server.newSession({ name: sessionName("one"), environment: { N: "1" }, script })
          const again = server.newSession({ name: sessionName("one"), environment: { N: "2" }, script })
          assert.strictEqual((yield* failsWith(again, "TmuxDuplicateSession")).name, "one")
          assert.deepStrictEqual(yield* server.environments, [{ session: first, environment: { N: "1" } }])
        })
    )

    test(
      "a name stands for itself alone, never for a name that it begins",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const made = yield* server.newSession({ name: sessionName("ab"), environment: {}, script })
          yield* failsWith(server.session(named("a")), "TmuxNoSuchSession")
          yield* failsWith(server.environment(named("a")), "TmuxNoSuchSession")
          yield* failsWith(server.killSession(named("a")), "TmuxNoSuchSession")
          assert.deepStrictEqual(yield* server.sessions, [made])
        })
    )

    test(
      "without a server every question fails with TmuxNoServer, and none starts one",
      ({ socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const questions: ReadonlyArray<Effect.Effect<unknown, TmuxError>> = [
            server.sessions,
            server.session(named("one")),
            server.environment(named("one")),
            server.environments,
            server.killSession(named("one")),
            server.killSession(Target.id(Target.SessionId.make("$0"), 4_000_000)),
            server.pid,
            server.endIdle({ startedBy: inAnHour(), until: inAnHour() })
          ]
          for (const question of [...questions, ...questions]) {
            assert.strictEqual((yield* failsWith(question, "TmuxNoServer")).socket, socket)
          }
        })
    )

    test(
      "after the end of the server its sessions are not taken for living",
      ({ endServer, script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          yield* server.newSession({ name: sessionName("one"), environment: {}, script })
          yield* endServer
          yield* failsWith(server.sessions, "TmuxNoServer")
          yield* failsWith(server.environments, "TmuxNoServer")
        })
    )

    test(
      "an idle server ends, and the next session has a server of its own",
      ({ script, socket, startEmpty }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const first = yield* startEmpty
          assert.isTrue(yield* server.endIdle({ startedBy: inAnHour(), until: inAnHour() }))
          yield* failsWith(server.pid, "TmuxNoServer")
          const { serverPid } = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
          assert.notStrictEqual(serverPid, first)
          assert.strictEqual(yield* server.pid, serverPid)
        })
    )

    test(
      "a server stays that has a session, that was started later, or that is asked too late",
      ({ script, socket, startEmpty }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const pid = yield* startEmpty
          assert.isFalse(yield* server.endIdle({ startedBy: inAnHour() - 7_200, until: inAnHour() }))
          assert.isFalse(yield* server.endIdle({ startedBy: inAnHour(), until: inAnHour() - 7_200 }))
          const made = yield* server.newSession({ name: sessionName("one"), environment: {}, script })
          assert.isFalse(yield* server.endIdle({ startedBy: inAnHour(), until: inAnHour() }))
          assert.deepStrictEqual([yield* server.sessions, yield* server.pid], [[made], pid])
        })
    )

    test(
      "an id of an earlier server never reaches a session of its successor",
      (fixture, tmux) =>
        Effect.gen(function*() {
          const { endServer, script, socket } = fixture
          const server = tmux.server(socket)
          const make = (name: string) => server.newSession({ name: sessionName(name), environment: {}, script })
          // Sessions of the transport's own may take ids as well.
          const [, , first] = yield* Effect.forEach(["a", "b", "c"], make)
          if (first === undefined) return assert.fail("no session")
          yield* endServer
          const successors = yield* Effect.forEach(["d", "e", "f", "g", "h", "i"], make)
          const second = successors.find(({ id }) => id === first.id)
          if (second === undefined) return assert.fail("the successor reuses the id")
          assert.notStrictEqual(second.serverPid, first.serverPid)
          const stale = Target.id(first.id, first.serverPid)
          yield* failsWith(server.session(stale), "TmuxNoSuchSession")
          yield* failsWith(server.environment(stale), "TmuxNoSuchSession")
          yield* failsWith(server.killSession(stale), "TmuxNoSuchSession")
          assert.sameDeepMembers([...yield* server.sessions], successors)
          yield* server.killSession(Target.id(second.id, second.serverPid))
          yield* failsWith(server.killSession(Target.id(second.id, second.serverPid)), "TmuxNoSuchSession")
        })
    )

    test(
      "a renamed session is found by its id and by its marker, and not by its old name",
      (fixture, tmux) =>
        Effect.gen(function*() {
          const { rename, script, socket } = fixture
          const server = tmux.server(socket)
          const made = yield* server.newSession({ name: sessionName("one"), environment: { MARK: "m" }, script })
          const id = Target.id(made.id, made.serverPid)
          yield* rename(id, "odd é name, {of} \"its\" 'own' = %H ; end")
          const renamed = yield* server.session(id)
          assert.notStrictEqual(renamed.name, "one")
          assert.deepStrictEqual(yield* server.environments, [{ session: renamed, environment: { MARK: "m" } }])
          yield* failsWith(server.session(named("one")), "TmuxNoSuchSession")
          yield* failsWith(server.killSession(named("one")), "TmuxNoSuchSession")
          yield* server.killSession(id)
          assert.deepStrictEqual(yield* server.sessions, [])
        })
    )

    test(
      "arguments that tmux would interpret are refused before anything is made",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const good = { name: sessionName("one"), environment: {}, script }
          const hostile = ["#(id)", "a$HOME", "a\nb", "end;", "\u0000", "tab\t"]
          for (const text of ["", "a.b", "a:b", "=a", "é", "a".repeat(129), ...hostile]) {
            // oxlint-disable-next-line no-unsafe-type-assertion
            const name = text as Target.SessionName
            assert.strictEqual(
              (yield* failsWith(server.newSession({ ...good, name }), "TmuxRefusedArgument")).argument,
              "name"
            )
            for (const target of [Target.name(name)]) {
              yield* failsWith(server.session(target), "TmuxRefusedArgument")
              yield* failsWith(server.environment(target), "TmuxRefusedArgument")
              yield* failsWith(server.killSession(target), "TmuxRefusedArgument")
            }
          }
          for (const text of hostile) {
            const refused = yield* failsWith(
              server.newSession({ ...good, environment: { SECRET: `hunter2${text}` } }),
              "TmuxRefusedArgument"
            )
            assert.strictEqual(refused.argument, "environment")
            assert.notInclude(refused.message, "hunter2")
            yield* failsWith(server.newSession({ ...good, script: `/tmp/${text}` }), "TmuxRefusedArgument")
            // oxlint-disable-next-line no-unsafe-type-assertion
            const elsewhere = tmux.server(`/tmp/${text}` as Target.SocketPath)
            yield* failsWith(elsewhere.newSession(good), "TmuxRefusedArgument")
            yield* failsWith(elsewhere.sessions, "TmuxRefusedArgument")
          }
          yield* failsWith(server.newSession({ ...good, script: "relative.sh" }), "TmuxRefusedArgument")
          yield* failsWith(server.newSession({ ...good, environment: { "A B": "1" } }), "TmuxRefusedArgument")
          yield* failsWith(server.newSession({ ...good, environment: { A: "x".repeat(9_000) } }), "TmuxRefusedArgument")
          yield* failsWith(server.sessions, "TmuxNoServer")
        })
    )

    test(
      "24 sessions asked for at once on a fresh socket are 24 sessions",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const made = yield* Effect.forEach(
            Array.from({ length: 24 }, (_, index) => index),
            (index) =>
              server.newSession({ name: sessionName(`s${index}`), environment: { INDEX: `${index}` }, script }),
            { concurrency: "unbounded" }
          )
          assert.strictEqual(new Set(made.map(({ serverPid }) => serverPid)).size, 1)
          assert.sameDeepMembers([...yield* server.sessions], made)
          const environments = yield* server.environments
          assert.strictEqual(environments.length, 24)
          for (const { environment, session } of environments) {
            assert.strictEqual(`s${environment["INDEX"]}`, session.name)
          }
        })
    )

    test(
      "each of many questions at once gets its own answer, whichever of them are interrupted",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const names = Array.from({ length: 8 }, (_, index) => `s${index}`)
          for (const name of names) {
            yield* server.newSession({ name: sessionName(name), environment: { NAME: name }, script })
          }
          const asked = yield* Effect.forEach(names, (name) =>
            Effect.forEach([0, 1, 2, 3], () =>
              Effect.forkChild(
                server.environment(named(name)).pipe(Effect.map((answer) => [name, answer["NAME"]] as const)),
                { startImmediately: true }
              )))
          const fibers = asked.flat()
          yield* Effect.sleep("1 millis")
          yield* Effect.forEach(fibers.filter((_, index) => index % 3 === 1), Fiber.interrupt)
          for (const fiber of fibers) {
            const exit = yield* Fiber.await(fiber)
            if (Exit.isSuccess(exit)) assert.strictEqual(exit.value[1], exit.value[0])
          }
          const missing = failsWith(server.environment(named("none")), "TmuxNoSuchSession")
          const [one, error, two] = yield* Effect.all(
            [server.environment(named("s1")), missing, server.environment(named("s2"))],
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual([one, error.target, two], [{ NAME: "s1" }, "none", { NAME: "s2" }])
        })
    )

    test(
      "of many that want one name at once exactly one gets it",
      ({ script, socket }, tmux) =>
        Effect.gen(function*() {
          const server = tmux.server(socket)
          const answers = yield* Effect.all(
            Array.from({ length: 8 }, () =>
              server.newSession({ name: sessionName("one"), environment: {}, script }).pipe(
                Effect.match({ onFailure: ({ _tag }) => _tag, onSuccess: () => "made" as const })
              )),
            { concurrency: "unbounded" }
          )
          assert.deepStrictEqual(answers.toSorted(), [
            ...Array.from({ length: 7 }, () => "TmuxDuplicateSession" as const),
            "made"
          ])
        })
    )
  })
}
