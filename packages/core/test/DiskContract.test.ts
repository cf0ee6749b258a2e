/** What Slipway relies on in a disk, the real one and the one in memory alike. */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer, Queue, type Scope } from "effect"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { type FileError, Files, layer } from "../src/machine/Files.ts"
import { Disk } from "../src/testing/Disk.ts"

/** A disk, and a directory on it. */
interface Subject {
  readonly files: Files["Service"]
  readonly root: string
}

const code = <A>(effect: Effect.Effect<A, FileError>) => Effect.map(Effect.flip(effect), (error) => error.code)

const suite = (name: string, subject: Effect.Effect<Subject, never, Scope.Scope>) => {
  const test = <E>(
    title: string,
    body: (files: Files["Service"], at: (name: string) => string) => Effect.Effect<void, E, Scope.Scope>
  ) =>
    it.live(`${name}: ${title}`, () =>
      Effect.flatMap(subject, ({ files, root }) => body(files, (path) => Path.join(root, path))))

  test(
    "what is created is there, with its mode and content, and is created once",
    (files, at) =>
      Effect.gen(function*() {
        yield* files.makeDirectory(at("directory"), 0o700)
        yield* files.createFile(at("directory/file"), "content", 0o600)
        assert.deepInclude(yield* files.inspect(at("directory")), {
          kind: "directory",
          mode: 0o700,
          uid: files.user ?? 0
        })
        assert.deepInclude(yield* files.inspect(at("directory/file")), { kind: "file", mode: 0o600, size: 7 })
        assert.strictEqual(yield* files.readText(at("directory/file")), "content")
        assert.deepStrictEqual(yield* files.list(at("directory")), ["file"])
        assert.strictEqual(yield* code(files.createFile(at("directory/file"), "", 0o600)), "EEXIST")
        assert.strictEqual(yield* code(files.makeDirectory(at("directory"), 0o700)), "EEXIST")
      })
  )

  test("nothing is made below what is missing, or below a file", (files, at) =>
    Effect.gen(function*() {
      yield* files.createFile(at("file"), "", 0o600)
      for (const [below, wanted] of [["missing", "ENOENT"], ["file", "ENOTDIR"]] as const) {
        const path = at(`${below}/inside`)
        assert.strictEqual(yield* code(files.makeDirectory(path, 0o700)), wanted)
        assert.strictEqual(yield* code(files.createFile(path, "", 0o600)), wanted)
        assert.strictEqual(yield* code(files.replaceFile(path, "", 0o600)), wanted)
        assert.strictEqual(yield* code(files.link(at("file"), path)), wanted)
        assert.strictEqual(yield* code(files.readText(path)), wanted)
        assert.strictEqual(yield* code(files.list(path)), wanted)
        assert.strictEqual(yield* code(files.realPath(path)), wanted)
      }
    }))

  test("what is not there is no error to look for or to remove", (files, at) =>
    Effect.gen(function*() {
      assert.isUndefined(yield* files.inspect(at("missing")))
      assert.isFalse(yield* files.removeFile(at("missing")))
      assert.isFalse(yield* files.removeDirectory(at("missing")))
      assert.isFalse(yield* files.removeTree(at("missing")))
      assert.isFalse(yield* files.isWritable(at("missing")))
    }))

  test(
    "a directory goes when it is empty, a tree with all that is in it, and each only as what it is",
    (files, at) =>
      Effect.gen(function*() {
        yield* files.ensureDirectory(at("tree/branch"), 0o700)
        yield* files.createFile(at("tree/branch/leaf"), "", 0o600)
        assert.strictEqual(yield* code(files.removeDirectory(at("tree"))), "ENOTEMPTY")
        assert.strictEqual(yield* code(files.removeDirectory(at("tree/branch/leaf"))), "ENOTDIR")
        assert.strictEqual(yield* code(files.removeFile(at("tree"))), "EISDIR")
        assert.strictEqual(yield* code(files.readText(at("tree"))), "EISDIR")
        assert.strictEqual(yield* code(files.list(at("tree/branch/leaf"))), "ENOTDIR")
        assert.isTrue(yield* files.removeTree(at("tree")))
        assert.isUndefined(yield* files.inspect(at("tree")))
      })
  )

  test(
    "a path of directories is made as far as it is missing, and not through a file",
    (files, at) =>
      Effect.gen(function*() {
        yield* files.ensureDirectory(at("a/b/c"), 0o700)
        yield* files.ensureDirectory(at("a/b"), 0o755)
        assert.strictEqual((yield* files.inspect(at("a/b")))?.mode, 0o700)
        yield* files.createFile(at("file"), "", 0o600)
        assert.strictEqual(yield* code(files.ensureDirectory(at("file"), 0o700)), "ENOTDIR")
        assert.strictEqual(yield* code(files.ensureDirectory(at("file/below"), 0o700)), "ENOTDIR")
      })
  )

  test("a second name is the same file, and lives on without the first", (files, at) =>
    Effect.gen(function*() {
      yield* files.createFile(at("first"), "content", 0o600)
      yield* files.link(at("first"), at("second"))
      assert.strictEqual(yield* code(files.link(at("first"), at("second"))), "EEXIST")
      assert.strictEqual((yield* files.inspect(at("second")))?.inode, (yield* files.inspect(at("first")))?.inode)
      yield* files.setMode(at("first"), 0o640)
      assert.isTrue(yield* files.removeFile(at("first")))
      assert.strictEqual((yield* files.inspect(at("second")))?.mode, 0o640)
      assert.strictEqual(yield* files.readText(at("second")), "content")
    }))

  test(
    "a file that is replaced is another one, with the new content whole and no draft beside it",
    (files, at) =>
      Effect.gen(function*() {
        yield* files.createFile(at("entry"), "old", 0o644)
        yield* files.link(at("entry"), at("kept"))
        yield* files.replaceFile(at("entry"), "new", 0o600)
        assert.strictEqual(yield* files.readText(at("entry")), "new")
        assert.strictEqual((yield* files.inspect(at("entry")))?.mode, 0o600)
        assert.strictEqual(yield* files.readText(at("kept")), "old")
        assert.sameMembers([...yield* files.list(at("."))], ["entry", "kept"])
        yield* files.makeDirectory(at("directory"), 0o700)
        assert.strictEqual(yield* code(files.replaceFile(at("directory"), "", 0o600)), "EISDIR")
      })
  )

  test("parts of a file are read from its end and from an offset", (files, at) =>
    Effect.gen(function*() {
      yield* files.createFile(at("file"), "0123456789", 0o600)
      const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)
      assert.strictEqual(yield* files.readTail(at("file"), 3), "789")
      assert.strictEqual(yield* files.readTail(at("file"), 100), "0123456789")
      assert.strictEqual(text(yield* files.readChunk(at("file"), 4, 3)), "456")
      assert.strictEqual(text(yield* files.readChunk(at("file"), 8, 30)), "89")
      assert.strictEqual((yield* files.readChunk(at("file"), 50, 3)).length, 0)
    }))

  test("a program is a file that may be run, and the first of them is found", (files, at) =>
    Effect.gen(function*() {
      yield* files.createFile(at("text"), "", 0o644)
      yield* files.createFile(at("program"), "", 0o755)
      yield* files.makeDirectory(at("directory"), 0o755)
      const paths = ["missing", "text", "directory", "program", "program"].map(at)
      assert.strictEqual(yield* files.findProgram(paths), at("program"))
      assert.isUndefined(yield* files.findProgram(paths.slice(0, 3)))
    }))

  test(
    "who watches a directory is told of what is made in it, and of nothing else",
    (files, at) =>
      Effect.gen(function*() {
        yield* files.makeDirectory(at("watched"), 0o700)
        const changes = yield* files.watch(at("watched"))
        yield* files.createFile(at("elsewhere"), "", 0o600)
        assert.isUndefined(
          yield* Effect.timeoutOrElse(Queue.take(changes), {
            duration: "100 millis",
            orElse: () => Effect.succeed(undefined)
          })
        )
        yield* files.createFile(at("watched/file"), "", 0o600)
        yield* Queue.take(changes)
      })
  )

  test("times go with what happened", (files, at) =>
    Effect.gen(function*() {
      yield* files.createFile(at("file"), "", 0o600)
      const made = yield* files.inspect(at("file"))
      yield* Effect.sleep("30 millis")
      yield* files.setMode(at("file"), 0o640)
      const changed = yield* files.inspect(at("file"))
      assert.strictEqual(changed?.modifiedMillis, made?.modifiedMillis)
      assert.isAbove(changed?.changedMillis ?? 0, made?.changedMillis ?? 0)
      assert.isAbove((yield* files.space(at("."))).freeBytes, 0)
    }))
}

suite(
  "the real disk",
  Effect.gen(function*() {
    const root = yield* Effect.acquireRelease(
      Effect.sync(() => Fs.realpathSync(Fs.mkdtempSync(Path.join(Os.tmpdir(), "slipway-disk-")))),
      (path) => Effect.sync(() => Fs.rmSync(path, { recursive: true, force: true }))
    )
    const subject: Subject = { files: Context.get(yield* Layer.build(layer), Files), root }
    return subject
  })
)

suite(
  "the disk in memory",
  Effect.sync((): Subject => {
    const disk = new Disk(() => Date.now())
    disk.makeDirectories("/root")
    return { files: disk.files, root: "/root" }
  })
)
