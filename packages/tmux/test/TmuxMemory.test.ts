import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { Target, Tmux, TmuxMemory } from "../src/index.ts"
import { Fixture, named, sessionName, suite } from "./TmuxContract.ts"

const socket = Target.SocketPath.make("/nowhere/socket")

suite(
  "TmuxMemory",
  Layer.effectContext(
    Effect.map(
      TmuxMemory.make(),
      ({ endServer, renameSession, tmux }) =>
        Context.make(Tmux, tmux).pipe(Context.add(Fixture, {
          socket,
          script: "/nowhere/script.sh",
          rename: (target, name) => Effect.orDie(renameSession(socket, target, name)),
          endServer: Effect.orDie(endServer(socket)),
          startEmpty: Effect.orDie(Effect.gen(function*() {
            const server = tmux.server(socket)
            yield* server.newSession({ name: sessionName("empty"), environment: {}, script: "/nowhere/script.sh" })
            yield* server.killSession(named("empty"))
            return yield* server.pid
          }))
        }))
    )
  )
)

it.effect("the hooks are called for each session that was made and ended, and for nothing that was refused", () =>
  Effect.gen(function*() {
    const told: Array<string> = []
    const { endServer, endSession, tmux } = yield* TmuxMemory.make({
      onNewSession: (session, options) => Effect.sync(() => told.push(`+${session.name} ${options.script}`)),
      onEndSession: (session) => Effect.sync(() => told.push(`-${session.name}`))
    })
    const server = tmux.server(socket)
    const make = (name: string) => server.newSession({ name: sessionName(name), environment: {}, script: "/s" })
    yield* Effect.forEach(["a", "b", "c"], make)
    yield* Effect.flip(make("a"))
    yield* server.killSession(named("a"))
    yield* Effect.flip(server.killSession(named("a")))
    yield* endSession(socket, named("b"))
    yield* endServer(socket)
    assert.deepStrictEqual(told, ["+a /s", "+b /s", "+c /s", "-a", "-b", "-c"])
  }))

it.effect("pids in memory are above any that a system gives", () =>
  Effect.gen(function*() {
    const tmux = yield* Tmux
    const made = yield* tmux.server(socket).newSession({ name: sessionName("a"), environment: {}, script: "/s" })
    assert.isAbove(Math.min(made.serverPid, made.panePid), 2 ** 22)
  }).pipe(Effect.provide(TmuxMemory.layer())))
