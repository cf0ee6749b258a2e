import { assert, describe, it } from "@effect/vitest"
import { choose, defaultDirectory, type DeployInput, Rebuild, resolvePath, Slipway } from "@slipway/core"
import { Effect } from "effect"
import * as Os from "node:os"
import * as Path from "node:path"
import * as World from "./support/World.ts"

const caller = (environment: Record<string, string>, cwd: string | undefined = "/somewhere") => ({ environment, cwd })

const tagOf = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), ({ _tag }) => _tag)

describe("the home of a caller that names none", () => {
  it.effect("is the same from every directory, also where HOME is empty or relative", () =>
    Effect.gen(function*() {
      const ofUser = Path.join(Os.userInfo().homedir, ".local", "state", "slipway")
      for (const cwd of ["/somewhere", "/", undefined]) {
        const of = (environment: Record<string, string>) => defaultDirectory({ environment, cwd })
        assert.strictEqual(yield* of({}), ofUser)
        assert.strictEqual(yield* of({ HOME: "" }), ofUser)
        assert.strictEqual(yield* of({ HOME: "relative" }), ofUser)
        assert.strictEqual(yield* of({ HOME: "/h", XDG_STATE_HOME: "relative" }), "/h/.local/state/slipway")
        assert.strictEqual(yield* of({ HOME: "/h", XDG_STATE_HOME: "/state" }), "/state/slipway")
        assert.strictEqual(yield* of({ HOME: "/h", XDG_STATE_HOME: "/state", SLIPWAY_HOME: "/s/../t" }), "/t")
        assert.strictEqual(yield* of({ HOME: "/h", SLIPWAY_HOME: "" }), "/h/.local/state/slipway")
      }
      assert.strictEqual(yield* defaultDirectory(caller({ SLIPWAY_HOME: "here" })), "/somewhere/here")
    }))

  it.effect("is a typed error where it is relative to a working directory that was removed", () =>
    Effect.gen(function*() {
      const gone = { environment: { SLIPWAY_HOME: "here" }, cwd: undefined }
      assert.strictEqual(yield* tagOf(defaultDirectory(gone)), "WorkingDirectoryUnusable")
      assert.strictEqual(yield* tagOf(resolvePath(gone, "below")), "WorkingDirectoryUnusable")
      assert.strictEqual(yield* resolvePath(gone, "/a/../b"), "/b")
      assert.strictEqual((yield* choose({ directory: "/h" }, gone)).directory, "/h")
    }))
})

describe("the tmux socket of a caller", () => {
  it.effect("is that of its variable, unless another home than the variable's is named", () =>
    Effect.gen(function*() {
      const inside = caller({ SLIPWAY_HOME: "/h", SLIPWAY_TMUX_SOCKET: "/s" })
      const socketOf = (given: Parameters<typeof choose>[0], of = inside) =>
        Effect.map(choose(given, of), ({ socket }) => socket)
      assert.strictEqual(yield* socketOf({}), "/s")
      assert.strictEqual(yield* socketOf({ directory: "/h" }), "/s")
      assert.strictEqual(yield* socketOf({ directory: "/other" }), undefined)
      assert.strictEqual(yield* socketOf({ directory: "/other", socket: "/named" }), "/named")
      assert.strictEqual(yield* socketOf({ socket: "/named" }), "/named")
      assert.strictEqual(yield* socketOf({ directory: "/x" }, caller({ SLIPWAY_TMUX_SOCKET: "/s" })), "/s")
      assert.strictEqual(yield* socketOf({}, caller({ HOME: "/h", SLIPWAY_TMUX_SOCKET: "" })), undefined)
    }))

  it.live("holds in the library as in the command: one home, one server", () =>
    Effect.gen(function*() {
      const world = yield* World.make
      const socket = Path.join(world.root, "other.sock")
      const inside = World.caller(world, { SLIPWAY_HOME: world.home, SLIPWAY_TMUX_SOCKET: socket })
      const homeOf = (options: Parameters<typeof Slipway.layer>[0]) =>
        Effect.provide(Effect.map(Slipway, ({ home }) => home), Slipway.layer({ transport: "process", ...options }))
      const home = yield* homeOf({ caller: inside })
      assert.deepStrictEqual([home.directory, home.socket], [world.home, socket])
      const other = yield* homeOf({ caller: inside, directory: Path.join(world.root, "another") })
      assert.strictEqual(other.socket, Path.join(world.root, "another", "tmux.sock"))
    }))
})

describe("a caller whose working directory was removed", () => {
  it.live("is refused where it names no project, with a typed error and nothing made", () =>
    Effect.gen(function*() {
      const world = yield* World.make
      const gone = { ...World.caller(world), cwd: undefined }
      const layer = Slipway.layer({ directory: world.home, caller: gone, transport: "process" })
      yield* Effect.provide(
        Effect.gen(function*() {
          const slipway = yield* Slipway
          const input: DeployInput = { prompt: "x", agent: { kind: "command", argv: ["true"] } }
          const error = yield* Effect.flip(slipway.deploy(input))
          assert.deepStrictEqual([error.step, error.reason._tag], ["preflight", "WorkingDirectoryUnusable"])
          assert.isTrue(error.isClean)
          assert.deepStrictEqual(yield* slipway.tasks, [])
          yield* slipway.deploy({ ...input, project: world.project, ready: "none" })
        }),
        layer
      )
      const relative = Rebuild.layer({ directory: world.home, caller: gone })
      const rebuild = Effect.flatMap(Rebuild, ({ run }) => run({ projects: ["below"] }))
      assert.strictEqual(yield* tagOf(Effect.provide(rebuild, relative)), "WorkingDirectoryUnusable")
    }))
})
