import { afterAll, assert, describe, it } from "@effect/vitest"
import { Target } from "@slipway/tmux"
import { Effect, Layer } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { defaultMaxActive, Home, type HomeOptions, HomeUnusable } from "../src/home/Home.ts"
import * as Files from "../src/machine/Files.ts"
import { Host } from "../src/machine/Host.ts"
import { RegistryReplaced } from "../src/registry/RegistryError.ts"
import { atOnce } from "./children.ts"
import { scratch } from "./rows.ts"
import { asOrdinaryUser } from "./support/OrdinaryUser.ts"

const directories = scratch("home")
afterAll(() => assert.deepStrictEqual(directories.left(), []))

const services = Layer.merge(Files.layer, Host.layer)

const open = (options: HomeOptions, on = services) =>
  Effect.scoped(Home.pipe(Effect.provide(Home.layer(options).pipe(Layer.provide(on)))))

const refused = (directory: string, options?: Partial<HomeOptions>) => Effect.flip(open({ directory, ...options }))

const mode = (path: string) => Fs.lstatSync(path).mode & 0o7777

const test = <A, E>(title: string, body: (root: string) => Effect.Effect<A, E>) =>
  it.live(title, () => Effect.flatMap(directories.make, body))

/** All that stands in a directory, with modes. */
const contents = (directory: string) =>
  Fs.readdirSync(directory).toSorted().map((name) => `${name} ${mode(Path.join(directory, name)).toString(8)}`)

describe("a home", () => {
  test("it is made private with all that it needs, and opens again as the same", (root) =>
    Effect.gen(function*() {
      const directory = Path.join(root, "deep", "home")
      const home = yield* open({ directory })
      assert.match(home.id, /^[0-9a-f]{12}$/)
      assert.strictEqual(mode(directory), 0o700)
      assert.deepStrictEqual(contents(directory), ["agents 700", "home.json 600", "registry.db 600"])
      assert.strictEqual(home.socket, Path.join(directory, "tmux.sock"))
      assert.strictEqual(home.registry, Path.join(directory, "registry.db"))
      assert.strictEqual(home.agentDirectory("a"), Path.join(directory, "agents", "a"))
      assert.deepStrictEqual(yield* home.limits, { maxActive: defaultMaxActive })
      assert.deepInclude(yield* open({ directory }), { id: home.id, directory })
      const linked = Path.join(root, "link")
      Fs.symlinkSync(directory, linked)
      assert.deepInclude(yield* open({ directory: linked }), { id: home.id, directory })
    }))

  test("modes are private whatever the umask is", (root) =>
    Effect.forEach([0, 0o077], (umask) =>
      Effect.acquireUseRelease(
        Effect.sync(() => process.umask(umask)),
        () =>
          Effect.gen(function*() {
            const directory = Path.join(root, `home-${umask}`)
            yield* open({ directory })
            assert.strictEqual(mode(directory), 0o700)
            assert.deepStrictEqual(contents(directory), ["agents 700", "home.json 600", "registry.db 600"])
          }),
        (before) => Effect.sync(() => process.umask(before))
      )))

  test("modes that are wider are tightened", (root) =>
    Effect.gen(function*() {
      const directory = Path.join(root, "home")
      yield* open({ directory })
      for (const name of ["", "agents"]) Fs.chmodSync(Path.join(directory, name), 0o755)
      for (const name of ["registry.db", "home.json"]) Fs.chmodSync(Path.join(directory, name), 0o644)
      yield* open({ directory })
      assert.strictEqual(mode(directory), 0o700)
      assert.deepStrictEqual(contents(directory), ["agents 700", "home.json 600", "registry.db 600"])
    }))

  test("eight processes that make it at once all get one home, and leave nothing else in it", (root) =>
    Effect.gen(function*() {
      const directory = Path.join(root, "home")
      const answers = yield* Effect.scoped(atOnce(8, "openAtOnce.ts", [directory]))
      assert.strictEqual(new Set(answers).size, 1, answers.join("\n"))
      assert.match(answers[0] ?? "", /^[0-9a-f]{12} \//)
      assert.deepStrictEqual(contents(directory), ["agents 700", "home.json 600", "registry.db 600"])
      assert.strictEqual((yield* open({ directory })).id, answers[0]?.split(" ")[0])
    }))

  test("one that was begun and not finished is finished", (root) =>
    Effect.gen(function*() {
      const directory = Path.join(root, "home")
      Fs.mkdirSync(directory)
      Fs.writeFileSync(Path.join(directory, "registry.db"), "", { mode: 0o644 })
      yield* open({ directory })
      assert.deepStrictEqual(contents(directory), ["agents 700", "home.json 600", "registry.db 600"])
    }))
})

describe("a registry that is not the home's", () => {
  const made = (root: string) =>
    Effect.gen(function*() {
      const directory = Path.join(root, "home")
      yield* open({ directory })
      Fs.writeFileSync(Path.join(directory, "registry.db"), "rows")
      return directory
    })

  const replaced = (directory: string) =>
    Effect.gen(function*() {
      const error = yield* refused(directory)
      assert.instanceOf(error, RegistryReplaced)
      assert.strictEqual(error.path, Path.join(directory, "registry.db"))
    })

  test("a copy of the whole home is refused, and the original is not", (root) =>
    Effect.gen(function*() {
      const directory = yield* made(root)
      const copy = Path.join(root, "copy")
      assert.strictEqual(spawnSync("cp", ["-a", directory, copy]).status, 0)
      yield* replaced(copy)
      yield* open({ directory })
    }))

  test("one that was replaced, removed, or is a link, is refused", (root) =>
    Effect.gen(function*() {
      const directory = yield* made(root)
      const registry = Path.join(directory, "registry.db")
      const kept = Path.join(root, "kept.db")
      Fs.renameSync(registry, kept)
      yield* replaced(directory)
      Fs.copyFileSync(kept, registry)
      yield* replaced(directory)
      Fs.rmSync(registry)
      Fs.symlinkSync(kept, registry)
      yield* replaced(directory)
      Fs.rmSync(registry)
      Fs.renameSync(kept, registry)
      yield* open({ directory })
    }))

  test("one with rows, and no home.json beside it, is refused", (root) =>
    Effect.gen(function*() {
      const directory = yield* made(root)
      Fs.rmSync(Path.join(directory, "home.json"))
      yield* replaced(directory)
      assert.isFalse(Fs.existsSync(Path.join(directory, "home.json")))
    }))

  test("a move of the home, and device numbers that changed with a restart, are fine", (root) =>
    Effect.gen(function*() {
      const directory = yield* made(root)
      const moved = Path.join(root, "moved")
      Fs.renameSync(directory, moved)
      const { id } = yield* open({ directory: moved })
      const path = Path.join(moved, "home.json")
      const identity = JSON.parse(Fs.readFileSync(path, "utf8"))
      identity.registry.device += 1
      Fs.writeFileSync(path, JSON.stringify(identity))
      yield* replaced(moved)
      identity.registry.boot = "an earlier boot"
      Fs.writeFileSync(path, JSON.stringify(identity))
      assert.strictEqual((yield* open({ directory: moved })).id, id)
    }))
})

describe("a home that can't be used", () => {
  const unusable = Effect.fnUntraced(function*(directory: string, reason: RegExp, options?: Partial<HomeOptions>) {
    const error = yield* refused(directory, options)
    assert.instanceOf(error, HomeUnusable)
    assert.match(error.reason, reason)
  })

  test("a path that tmux would read as code is refused, and nothing is made", (root) =>
    Effect.gen(function*() {
      for (const name of ["a#(touch x)", "$HOME", "new\nline", "tab\tx", "del\x7f", "semicolon;"]) {
        yield* unusable(Path.join(root, name), /character/)
      }
      assert.deepStrictEqual(Fs.readdirSync(root), [])
      yield* open({ directory: Path.join(root, "it's \"fine\"; with ünïcode") })
    }))

  test("a link to a path that tmux would read as code is refused", (root) =>
    Effect.gen(function*() {
      const [target, link] = [Path.join(root, "a#(touch x)"), Path.join(root, "link")]
      Fs.mkdirSync(target)
      Fs.symlinkSync(target, link)
      yield* unusable(link, /character/)
      assert.deepStrictEqual(Fs.readdirSync(target), [])
    }))

  test("a directory of another user is refused and left as it is", (root) =>
    Effect.gen(function*() {
      if (process.getuid?.() !== 0) return
      const directory = Path.join(root, "home")
      Fs.mkdirSync(directory, { mode: 0o755 })
      Fs.chownSync(directory, 12_345, 12_345)
      yield* unusable(directory, /another user/)
      assert.strictEqual(mode(directory), 0o755)
      assert.deepStrictEqual(Fs.readdirSync(directory), [])
    }))

  test("a file in the place of the home, or of its agents, is refused", (root) =>
    Effect.gen(function*() {
      const [file, directory] = [Path.join(root, "file"), Path.join(root, "home")]
      Fs.writeFileSync(file, "")
      yield* unusable(file, /exists already|not a directory/)
      yield* unusable(Path.join(file, "below"), /not a directory/)
      for (const put of [(at: string) => Fs.symlinkSync(root, at), (at: string) => Fs.writeFileSync(at, "")]) {
        Fs.mkdirSync(directory, { recursive: true })
        Fs.rmSync(Path.join(directory, "agents"), { force: true })
        put(Path.join(directory, "agents"))
        yield* unusable(directory, /agents|exists already/)
      }
    }))

  test("one below a file, or where its user may not make it, is refused, and nothing is made", (root) =>
    Effect.gen(function*() {
      Fs.writeFileSync(Path.join(root, "file"), "")
      yield* unusable(Path.join(root, "file", "far", "below"), /not a directory/)
      const locked = Path.join(root, "locked")
      Fs.mkdirSync(locked, { mode: 0o555 })
      Fs.chmodSync(root, 0o755)
      yield* asOrdinaryUser(unusable(Path.join(locked, "far", "below"), /permission/))
      assert.deepStrictEqual(Fs.readdirSync(root), ["file", "locked"])
      assert.deepStrictEqual(Fs.readdirSync(locked), [])
    }))

  test("a home.json that can't be read is refused and left as it is", (root) =>
    Effect.gen(function*() {
      const directory = Path.join(root, "home")
      yield* open({ directory })
      const path = Path.join(directory, "home.json")
      const identity = JSON.parse(Fs.readFileSync(path, "utf8"))
      const garbage = [
        "",
        "garbage",
        "null",
        "[]",
        JSON.stringify({ ...identity, version: 2 }),
        JSON.stringify({ ...identity, homeId: "../x" })
      ]
      for (const text of garbage) {
        Fs.writeFileSync(path, text)
        yield* unusable(directory, /home\.json/)
        assert.strictEqual(Fs.readFileSync(path, "utf8"), text)
      }
      Fs.rmSync(path)
      Fs.symlinkSync("/nowhere", path)
      yield* unusable(directory, /home\.json/)
    }))

  test("a network file system is refused", (root) =>
    Effect.gen(function*() {
      const network = Layer.effect(
        Files.Files,
        Effect.map(Files.Files, (files) =>
          Files.Files.of({ ...files, space: () => Effect.succeed({ freeBytes: 1, type: 0x6969 }) }))
      ).pipe(Layer.provide(Files.layer))
      const error = yield* Effect.flip(open({ directory: Path.join(root, "home") }, Layer.merge(network, Host.layer)))
      assert.instanceOf(error, HomeUnusable)
      assert.include(error.message, "network")
    }))

  test("a socket that tmux can't use is refused, a good one is taken", (root) =>
    Effect.gen(function*() {
      const directory = Path.join(root, "home")
      for (
        const socket of ["relative.sock", "/tmp/a#b", "/tmp/$x", `/${"x".repeat(100)}`, "/tmp/x;", "/tmp/x\ny", ""]
      ) {
        yield* unusable(directory, /socket/, { socket })
      }
      assert.strictEqual((yield* open({ directory, socket: "/tmp/good.sock" })).socket, "/tmp/good.sock")
    }))
})

describe("a home deep in the file system", () => {
  const runtime = `/tmp/slipway-${process.getuid?.() ?? 0}`

  const runtimeKept = Effect.acquireRelease(
    Effect.sync(() => Fs.existsSync(runtime)),
    (existed) =>
      Effect.sync(() => {
        // Another program may use it by now, and then it is not empty.
        if (!existed && Fs.existsSync(runtime) && Fs.readdirSync(runtime).length === 0) Fs.rmdirSync(runtime)
      })
  )

  test("its socket is in the runtime directory, private, and the same for every process", (root) =>
    Effect.scoped(Effect.gen(function*() {
      yield* runtimeKept
      const directory = Path.join(root, "d".repeat(60), "e".repeat(60), "home")
      const home = yield* open({ directory })
      assert.strictEqual(home.socket, `${runtime}/${home.id}.sock`)
      assert.isAtMost(Buffer.byteLength(home.socket), Target.maxSocketPathBytes)
      assert.strictEqual(mode(runtime), 0o700)
      assert.strictEqual((yield* open({ directory })).socket, home.socket)
      const fits = Path.join(
        root,
        "x".repeat(Target.maxSocketPathBytes - Buffer.byteLength(Path.join(root, "x", "tmux.sock")) + 1)
      )
      assert.strictEqual((yield* open({ directory: fits })).socket, Path.join(fits, "tmux.sock"))
      const tooLong = `${fits}x`
      assert.strictEqual(Path.dirname((yield* open({ directory: tooLong })).socket), runtime)
    })))
})
