import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { checkOwned, FileError, Files, layer } from "../src/machine/Files.ts"
import { runText } from "./children.ts"
import { scratch } from "./rows.ts"
import { asOrdinaryUser } from "./support/OrdinaryUser.ts"

const directories = scratch("files")
afterAll(() => assert.deepStrictEqual(directories.left(), []))

const mode = (path: string) => Fs.lstatSync(path).mode & 0o7777

const withUmask = (umask: number) =>
  Effect.acquireRelease(Effect.sync(() => process.umask(umask)), (before) => Effect.sync(() => process.umask(before)))

const test = <A, E>(title: string, body: (files: Files["Service"], root: string) => Effect.Effect<A, E, Files>) =>
  it.live(title, () =>
    Effect.gen(function*() {
      yield* body(yield* Files, yield* directories.make)
    }).pipe(Effect.provide(layer)))

const code = <A, R>(effect: Effect.Effect<A, FileError, R>) => Effect.map(Effect.flip(effect), (error) => error.code)

// The umask is the whole process's, so that these two must not run in parallel with others; vitest runs them in turn.
for (const umask of [0, 0o077, 0o277]) {
  test(
    `modes are what was asked for under umask ${umask.toString(8)}`,
    (files, root) =>
      Effect.scoped(Effect.gen(function*() {
        yield* withUmask(umask)
        const at = (name: string) => Path.join(root, name)
        yield* files.makeDirectory(at("private"), 0o700)
        yield* files.makeDirectory(at("public"), 0o755)
        yield* files.createFile(at("secret"), "s", 0o600)
        yield* files.createFile(at("open"), "o", 0o644)
        yield* files.replaceFile(at("replaced"), "r", 0o600)
        yield* files.setMode(at("open"), 0o640)
        yield* files.ensureDirectory(at("a/b/c"), 0o700)
        const modes = ["private", "public", "secret", "open", "replaced"].map((name) => mode(at(name)))
        assert.deepStrictEqual(modes, [0o700, 0o755, 0o600, 0o640, 0o600])
        assert.deepStrictEqual(["a", "a/b", "a/b/c"].map((name) => mode(at(name))), [0o700, 0o700, 0o700])
      }))
  )
}

test(
  "a missing path of directories is made private, and what is there stays as it is",
  (files, root) =>
    Effect.gen(function*() {
      Fs.chmodSync(root, 0o755)
      yield* files.ensureDirectory(Path.join(root, "a", "b"), 0o700)
      yield* files.ensureDirectory(Path.join(root, "a", "b"), 0o755)
      assert.deepStrictEqual([root, Path.join(root, "a"), Path.join(root, "a", "b")].map(mode), [0o755, 0o700, 0o700])
    })
)

test(
  "a path of directories ends with the first that can't be made, and says why",
  (files, root) =>
    Effect.gen(function*() {
      const at = (name: string) => Path.join(root, name)
      Fs.writeFileSync(at("file"), "")
      Fs.symlinkSync(at("nowhere"), at("dangling"))
      for (const path of ["file", "file/below", "file/far/below", "dangling", "dangling/below"]) {
        assert.strictEqual(
          yield* code(files.ensureDirectory(at(path), 0o700)),
          path.startsWith("dangling") ? "ENOENT" : "ENOTDIR"
        )
      }
      Fs.mkdirSync(at("locked"), { mode: 0o555 })
      Fs.chmodSync(root, 0o755)
      const error = yield* Effect.flip(asOrdinaryUser(files.ensureDirectory(at("locked/a/b"), 0o700)))
      assert.strictEqual(error.code, "EACCES")
      assert.include(error.message, "permission")
      assert.deepStrictEqual(Fs.readdirSync(root).toSorted(), ["dangling", "file", "locked"])
      assert.deepStrictEqual(Fs.readdirSync(at("locked")), [])
      Fs.symlinkSync(root, at("there"))
      yield* files.ensureDirectory(at("there/made"), 0o700)
      assert.strictEqual(mode(at("made")), 0o700)
    })
)

test(
  "what is created must not exist, be it a file, a directory or a dangling link",
  (files, root) =>
    Effect.gen(function*() {
      const path = Path.join(root, "file")
      yield* files.createFile(path, "first", 0o600)
      assert.strictEqual(yield* code(files.createFile(path, "second", 0o600)), "EEXIST")
      assert.strictEqual(yield* code(files.makeDirectory(path, 0o700)), "EEXIST")
      assert.strictEqual(yield* files.readText(path), "first")
      const target = Path.join(root, "target")
      Fs.symlinkSync(target, Path.join(root, "dangling"))
      assert.strictEqual(yield* code(files.createFile(Path.join(root, "dangling"), "x", 0o600)), "EEXIST")
      assert.isFalse(Fs.existsSync(target))
      yield* files.link(path, Path.join(root, "second"))
      assert.strictEqual(yield* code(files.link(path, Path.join(root, "second"))), "EEXIST")
    })
)

test("an error names the operation, the path and what to do", (files, root) =>
  Effect.gen(function*() {
    const path = Path.join(root, "missing", "file")
    const error = yield* Effect.flip(files.createFile(path, "x", 0o600))
    assert.instanceOf(error, FileError)
    assert.strictEqual(error.message, `could not create ${path}: there is no such file or directory (ENOENT)`)
    assert.strictEqual(yield* code(files.createFile(Path.join(root, "a".repeat(300)), "x", 0o600)), "ENAMETOOLONG")
  }))

test(
  "who reads while a file is replaced sees the old content or the new one, whole",
  (files, root) =>
    Effect.gen(function*() {
      const path = Path.join(root, "entry.json")
      const content = (letter: string) => letter.repeat(300_000)
      yield* files.replaceFile(path, content("a"), 0o600)
      const reader = yield* runText(
        `const fs = require("node:fs")
       const seen = new Set()
       let stop = false
       process.stdin.on("data", () => { stop = true })
       const look = () => {
         const text = fs.readFileSync(process.argv[1], "utf8")
         seen.add(text.length === 300000 && text === text[0].repeat(300000) ? text[0] : "torn")
         if (seen.size === 1) console.log("reading")
         if (stop) { console.log("seen " + [...seen].sort().join("")); process.exit() }
         setImmediate(look)
       }
       look()`,
        [path]
      )
      yield* reader.says("reading")
      for (let round = 0; round < 100; round++) {
        yield* files.replaceFile(path, content("abc"[round % 3] ?? "a"), 0o600)
        yield* Effect.sleep("1 millis")
      }
      reader.tell("stop")
      assert.match(yield* reader.says("seen"), /^seen (a|b|c){2,3}$/)
      assert.deepStrictEqual(Fs.readdirSync(root), ["entry.json"])
    }).pipe(Effect.scoped)
)

test("a replacement that fails leaves the old content, and no other file", (files, root) =>
  Effect.gen(function*() {
    const directory = Path.join(root, "directory")
    Fs.mkdirSync(directory)
    Fs.writeFileSync(Path.join(directory, "inside"), "")
    assert.strictEqual(yield* code(files.replaceFile(directory, "x", 0o600)), "EISDIR")
    assert.strictEqual(yield* code(files.replaceFile(Path.join(root, "missing", "x"), "x", 0o600)), "ENOENT")
    assert.deepStrictEqual(Fs.readdirSync(root), ["directory"])
    assert.deepStrictEqual(Fs.readdirSync(directory), ["inside"])
  }))

test(
  "a replacement takes the place of a link and leaves the link's target alone",
  (files, root) =>
    Effect.gen(function*() {
      const [target, link] = [Path.join(root, "target"), Path.join(root, "link")]
      Fs.writeFileSync(target, "untouched")
      Fs.symlinkSync(target, link)
      yield* files.replaceFile(link, "new", 0o600)
      assert.strictEqual(Fs.readFileSync(target, "utf8"), "untouched")
      assert.isTrue(Fs.lstatSync(link).isFile())
    })
)

test(
  "nothing follows a link in the last component, and a pipe in a file's place is not waited for",
  (files, root) =>
    Effect.gen(function*() {
      const [directory, file] = [Path.join(root, "directory"), Path.join(root, "file")]
      Fs.mkdirSync(directory, { mode: 0o755 })
      Fs.writeFileSync(file, "secret", { mode: 0o644 })
      Fs.symlinkSync(directory, Path.join(root, "to-directory"))
      Fs.symlinkSync(file, Path.join(root, "to-file"))
      for (const name of ["to-directory", "to-file"]) {
        const path = Path.join(root, name)
        const codes = yield* Effect.all([
          code(files.readText(path)),
          code(files.readTail(path, 10)),
          code(files.list(path)),
          code(files.setMode(path, 0o600))
        ])
        assert.deepStrictEqual(codes, ["ELOOP", "ELOOP", "ELOOP", "ELOOP"])
      }
      assert.strictEqual(mode(file), 0o644)
      assert.strictEqual(spawnSync("mkfifo", [Path.join(root, "pipe")]).status, 0)
      assert.strictEqual(yield* files.readText(Path.join(root, "pipe")), "")
      assert.strictEqual(yield* files.readTail(Path.join(root, "pipe"), 10), "")
    })
)

test("a tree is removed whole, without following the links in it", (files, root) =>
  Effect.gen(function*() {
    const [tree, outside] = [Path.join(root, "tree"), Path.join(root, "outside")]
    Fs.mkdirSync(outside)
    Fs.writeFileSync(Path.join(outside, "keep"), "")
    Fs.mkdirSync(Path.join(tree, "deep", "ünïcode \n 🚢"), { recursive: true })
    Fs.writeFileSync(Path.join(tree, "deep", "file"), "")
    Fs.symlinkSync(outside, Path.join(tree, "link"))
    Fs.symlinkSync(Path.join(outside, "keep"), Path.join(tree, "deep", "link"))
    Fs.symlinkSync(outside, Path.join(root, "tree-link"))
    assert.isTrue(yield* files.removeTree(tree))
    assert.isFalse(yield* files.removeTree(tree))
    assert.isTrue(yield* files.removeTree(Path.join(root, "tree-link")))
    assert.deepStrictEqual(Fs.readdirSync(root), ["outside"])
    assert.deepStrictEqual(Fs.readdirSync(outside), ["keep"])
  }))

test(
  "a removal answers whether something was there, and a directory that is not empty stays",
  (files, root) =>
    Effect.gen(function*() {
      const [file, directory] = [Path.join(root, "file"), Path.join(root, "directory")]
      yield* files.createFile(file, "", 0o600)
      yield* files.makeDirectory(directory, 0o700)
      yield* files.createFile(Path.join(directory, "inside"), "", 0o600)
      assert.strictEqual(yield* code(files.removeDirectory(directory)), "ENOTEMPTY")
      assert.deepStrictEqual([yield* files.removeFile(file), yield* files.removeFile(file)], [true, false])
      yield* files.removeFile(Path.join(directory, "inside"))
      assert.deepStrictEqual([yield* files.removeDirectory(directory), yield* files.removeDirectory(directory)], [
        true,
        false
      ])
      assert.isUndefined(yield* files.inspect(file))
    })
)

test("a tail is the end of a file, and all of a short one", (files, root) =>
  Effect.gen(function*() {
    const path = Path.join(root, "log")
    yield* files.createFile(path, "0123456789", 0o600)
    assert.strictEqual(yield* files.readTail(path, 4), "6789")
    assert.strictEqual(yield* files.readTail(path, 100), "0123456789")
    assert.strictEqual(yield* files.readTail(path, 0), "")
  }))

test("what stands at a path is told without following it", (files, root) =>
  Effect.gen(function*() {
    const path = Path.join(root, "file")
    yield* files.createFile(path, "1234", 0o640)
    Fs.symlinkSync(path, Path.join(root, "link"))
    const { ctimeMs, dev, ino, mtimeMs, uid } = Fs.lstatSync(path)
    assert.deepStrictEqual(yield* files.inspect(path), {
      kind: "file",
      mode: 0o640,
      uid,
      size: 4,
      modifiedMillis: mtimeMs,
      changedMillis: ctimeMs,
      device: dev,
      inode: ino
    })
    assert.strictEqual((yield* files.inspect(Path.join(root, "link")))?.kind, "link")
    assert.strictEqual((yield* files.inspect(root))?.kind, "directory")
    assert.isAbove((yield* files.space(root)).freeBytes, 0)
    assert.isTrue(yield* files.isWritable(root))
    assert.isFalse(yield* files.isWritable(Path.join(root, "missing")))
  }))

test(
  "a change in a watched directory is told, and a directory that can't be watched is silent",
  (files, root) =>
    Effect.scoped(Effect.gen(function*() {
      const changes = yield* files.watch(root)
      const silent = yield* files.watch(Path.join(root, "missing"))
      yield* files.createFile(Path.join(root, "file"), "", 0o600)
      yield* Queue.take(changes)
      assert.strictEqual(yield* Queue.size(silent), 0)
    }))
)

describe("checkOwned", () => {
  test("what lies below a root is fine, whether it exists or not", (files, root) =>
    Effect.gen(function*() {
      yield* files.ensureDirectory(Path.join(root, "a", "b"), 0o700)
      for (const path of ["a", "a/b", "a/b/c/d", "missing/too", "..a", "a/../a"]) {
        yield* checkOwned(files, root, Path.join(root, path))
      }
    }))

  test("what lies elsewhere, and the root itself, is refused", (files, root) =>
    Effect.gen(function*() {
      for (const path of [root, Path.dirname(root), `${root}x`, "/etc/passwd", Path.join(root, "..", "x")]) {
        assert.strictEqual(yield* code(checkOwned(files, root, path)), "ENOTDIR")
      }
    }))

  test(
    "a link in any component below the root is refused and named, one above it is the caller's word",
    (files, root) =>
      Effect.gen(function*() {
        yield* files.ensureDirectory(Path.join(root, "real", "sub"), 0o700)
        Fs.symlinkSync(Path.join(root, "real"), Path.join(root, "link"))
        Fs.symlinkSync("/nowhere", Path.join(root, "real", "dangling"))
        for (
          const [path, link] of [["link", "link"], ["link/sub/x", "link"], ["real/dangling", "real/dangling"]] as const
        ) {
          const error = yield* Effect.flip(checkOwned(files, root, Path.join(root, path)))
          assert.deepInclude(error, { code: "ELOOP", path: Path.join(root, link) })
        }
        yield* checkOwned(files, Path.join(root, "link"), Path.join(root, "link", "sub"))
      })
  )
})
