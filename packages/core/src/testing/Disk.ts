/**
 * A disk in memory: `Files` with the errors of the real one, for one user and without links.
 *
 * Every operation is one step, which no interruption divides. Times come from the clock that is given. A file that two
 * names share is one file, as the real one's links are.
 */
import { Effect, Predicate, Queue, Result } from "effect"
import * as Path from "node:path"
import { FileError, type FileInfo, Files } from "../machine/Files.ts"

interface Facts {
  readonly inode: number
  mode: number
  modified: number
  changed: number
}
interface File extends Facts {
  readonly kind: "file" | "other"
  content: Uint8Array
}
interface Directory extends Facts {
  readonly kind: "directory"
  readonly entries: Map<string, Node>
}
type Node = File | Directory

/** An answer, or the system's name of an error. */
type Answer<A> = Result.Result<A, string>

const encoder = new TextEncoder()
const bytesOf = (content: string | Uint8Array): Uint8Array =>
  Predicate.isString(content) ? encoder.encode(content) : Uint8Array.from(content)
const textOf = (content: Uint8Array): string => new TextDecoder().decode(content)

const user = 1000
/** What statfs(2) says of a file system in memory. */
const tmpfs = 0x01021994

export class Disk {
  /** What `Files.space` answers; a test may fill the disk. */
  freeBytes = 1_000_000_000_000
  private readonly now: () => number
  private readonly root: Directory
  private readonly watchers = new Map<string, Set<() => void>>()
  private lastInode = 1

  /** `now` is the wall clock, in milliseconds. */
  constructor(now: () => number) {
    this.now = now
    this.root = { kind: "directory", entries: new Map(), ...this.facts(0o755) }
  }

  private facts(mode: number): Facts {
    const now = this.now()
    return { inode: ++this.lastInode, mode, modified: now, changed: now }
  }

  private find(path: string): Answer<Node> {
    let node: Node = this.root
    for (const part of Path.resolve("/", path).split("/").filter((part) => part !== "")) {
      if (node.kind !== "directory") return Result.fail("ENOTDIR")
      const next = node.entries.get(part)
      if (next === undefined) return Result.fail("ENOENT")
      node = next
    }
    return Result.succeed(node)
  }

  private parentOf(path: string): Answer<Directory> {
    return Result.flatMap(
      this.find(Path.dirname(path)),
      (found) => found.kind === "directory" ? Result.succeed(found) : Result.fail("ENOTDIR")
    )
  }

  private file(path: string): Answer<File> {
    return Result.flatMap(
      this.find(path),
      (found) => found.kind === "directory" ? Result.fail("EISDIR") : Result.succeed(found)
    )
  }

  private changed(path: string, parent: Directory): void {
    const now = this.now()
    parent.modified = now
    parent.changed = now
    this.notify(Path.dirname(path))
  }

  private notify(directory: string): void {
    for (const told of this.watchers.get(directory) ?? []) told()
  }

  private put(path: string, node: () => Node): Answer<void> {
    return Result.flatMap(this.parentOf(path), (parent): Answer<void> => {
      if (parent.entries.has(Path.basename(path))) return Result.fail("EEXIST")
      parent.entries.set(Path.basename(path), node())
      return Result.succeed(this.changed(path, parent))
    })
  }

  private take(path: string, refuse: (node: Node) => string | undefined): Answer<void> {
    return Result.flatMap(this.parentOf(path), (parent): Answer<void> => {
      const node = parent.entries.get(Path.basename(path))
      if (node === undefined) return Result.fail("ENOENT")
      const refusal = refuse(node)
      if (refusal !== undefined) return Result.fail(refusal)
      parent.entries.delete(Path.basename(path))
      return Result.succeed(this.changed(path, parent))
    })
  }

  private readonly create = (path: string, content: string | Uint8Array, mode: number): Answer<void> =>
    this.put(path, () => ({ kind: "file", content: bytesOf(content), ...this.facts(mode) }))

  private readonly replace = (path: string, content: string, mode: number): Answer<void> =>
    Result.flatMap(this.parentOf(path), (parent): Answer<void> => {
      if (parent.entries.get(Path.basename(path))?.kind === "directory") return Result.fail("EISDIR")
      parent.entries.set(Path.basename(path), { kind: "file", content: bytesOf(content), ...this.facts(mode) })
      return Result.succeed(this.changed(path, parent))
    })

  private readonly make = (path: string, mode: number): Answer<void> =>
    this.put(path, () => ({ kind: "directory", entries: new Map(), ...this.facts(mode) }))

  private readonly ensure = (path: string, mode: number): Answer<void> => {
    const found = this.find(path)
    if (Result.isSuccess(found)) return found.success.kind === "directory" ? Result.void : Result.fail("ENOTDIR")
    if (found.failure !== "ENOENT") return Result.fail(found.failure)
    return Result.flatMap(this.ensure(Path.dirname(path), mode), () => this.make(path, mode))
  }

  private readonly link = (from: string, to: string): Answer<void> =>
    Result.flatMap(
      this.find(from),
      (node) => node.kind === "directory" ? Result.fail("EPERM") : this.put(to, () => node)
    )

  private infoOf(node: Node): FileInfo {
    return {
      kind: node.kind,
      mode: node.mode,
      uid: user,
      size: node.kind === "directory" ? 0 : node.content.length,
      modifiedMillis: node.modified,
      changedMillis: node.changed,
      device: 1,
      inode: node.inode
    }
  }

  // What follows is for what runs on the machine, and for who looks at it from outside.

  exists(path: string): boolean {
    return Result.isSuccess(this.find(path))
  }

  /** The content of a file; undefined where none stands. */
  text(path: string): string | undefined {
    return Result.getOrUndefined(Result.map(this.file(path), ({ content }) => textOf(content)))
  }

  /** The names in a directory; none where there is none. */
  names(path: string): ReadonlyArray<string> {
    return Result.getOrElse(
      Result.map(this.find(path), (node) => node.kind === "directory" ? [...node.entries.keys()] : []),
      () => []
    )
  }

  /** What stands at a path; undefined where nothing does. */
  info(path: string): FileInfo | undefined {
    return Result.getOrUndefined(Result.map(this.find(path), (node) => this.infoOf(node)))
  }

  makeDirectories(path: string): void {
    this.ensure(path, 0o700)
  }

  write(path: string, content: string): void {
    this.replace(path, content, 0o600)
  }

  /** A socket, which is neither a file nor a directory. */
  bind(path: string): void {
    this.put(path, () => ({ kind: "other", content: new Uint8Array(0), ...this.facts(0o600) }))
  }

  /** Adds to a file that is there, as who has it open does; without effect once it has been removed. */
  append(path: string, text: string): void {
    const found = this.file(path)
    if (Result.isFailure(found)) return
    const [before, more] = [found.success.content, encoder.encode(text)]
    const content = new Uint8Array(before.length + more.length)
    content.set(before)
    content.set(more, before.length)
    found.success.content = content
    this.touch(path)
  }

  /** A change of a file that leaves its content as it is. */
  touch(path: string): void {
    const found = this.find(path)
    if (Result.isFailure(found)) return
    const now = this.now()
    found.success.modified = now
    found.success.changed = now
    this.notify(Path.dirname(path))
  }

  /** Gives a file or a directory another name; answers whether it was there. */
  rename(from: string, to: string): boolean {
    const found = this.find(from)
    const parent = this.parentOf(to)
    if (Result.isFailure(found) || Result.isFailure(parent)) return false
    this.take(from, () => undefined)
    parent.success.entries.set(Path.basename(to), found.success)
    found.success.changed = this.now()
    this.changed(to, parent.success)
    return true
  }

  remove(path: string): void {
    this.take(path, () => undefined)
  }

  private readonly watch = (directory: string) =>
    Effect.gen({ self: this }, function*() {
      const changes = yield* Queue.sliding<void>(1)
      const told = () => void Queue.offerUnsafe(changes, undefined)
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const all = this.watchers.get(directory) ?? new Set()
          this.watchers.set(directory, all.add(told))
        }),
        () => Effect.sync(() => void this.watchers.get(directory)?.delete(told))
      )
      return Queue.asDequeue(changes)
    })

  /** The disk as programs have it. */
  get files(): Files["Service"] {
    const answer = <A>(operation: string, path: string, f: () => Answer<A>) =>
      Effect.suspend(() => Effect.mapError(Effect.fromResult(f()), (code) => new FileError({ operation, path, code })))
    const removal = (path: string, refuse: (node: Node) => string | undefined) =>
      answer("remove", path, () =>
        Result.match(this.take(path, refuse), {
          onSuccess: (): Answer<boolean> => Result.succeed(true),
          onFailure: (code) => code === "ENOENT" ? Result.succeed(false) : Result.fail(code)
        }))
    const content = (path: string) => Result.map(this.file(path), (file) => file.content)
    return Files.of({
      user,
      makeDirectory: (path, mode) => answer("make the directory", path, () => this.make(path, mode)),
      ensureDirectory: (path, mode) => answer("make the directory", path, () => this.ensure(path, mode)),
      createFile: (path, text, mode) => answer("create", path, () => this.create(path, text, mode)),
      replaceFile: (path, text, mode) => answer("write", path, () => this.replace(path, text, mode)),
      link: (from, to) => answer("link", to, () => this.link(from, to)),
      rename: (from, to) => answer("rename", from, () => Result.succeed(this.rename(from, to))),
      removeFile: (path) => removal(path, ({ kind }) => kind === "directory" ? "EISDIR" : undefined),
      removeDirectory: (path) =>
        removal(
          path,
          (node) => node.kind !== "directory" ? "ENOTDIR" : node.entries.size > 0 ? "ENOTEMPTY" : undefined
        ),
      removeTree: (path) => removal(path, () => undefined),
      readText: (path) => answer("read", path, () => Result.map(content(path), textOf)),
      readTail: (path, bytes) =>
        answer(
          "read",
          path,
          () => Result.map(content(path), (all) => textOf(all.subarray(Math.max(0, all.length - bytes))))
        ),
      readChunk: (path, offset, bytes) =>
        answer("read", path, () => Result.map(content(path), (all) => all.slice(offset, offset + bytes))),
      list: (path) =>
        answer(
          "list",
          path,
          () =>
            Result.flatMap(
              this.find(path),
              (node) => node.kind === "directory" ? Result.succeed([...node.entries.keys()]) : Result.fail("ENOTDIR")
            )
        ),
      inspect: (path) =>
        answer("inspect", path, () =>
          Result.match(this.find(path), {
            onSuccess: (node): Answer<FileInfo | undefined> => Result.succeed(this.infoOf(node)),
            onFailure: (code) => code === "ENOENT" ? Result.succeed(undefined) : Result.fail(code)
          })),
      setMode: (path, mode) =>
        answer("change the mode of", path, () =>
          Result.map(this.find(path), (node) => {
            node.mode = mode
            node.changed = this.now()
          })),
      isWritable: (path) =>
        Effect.sync(() =>
          Result.getOrElse(Result.map(this.find(path), ({ mode }) => (mode & 0o300) === 0o300), () => false)
        ),
      findProgram: (candidates) =>
        Effect.sync(() => {
          const isProgram = (path: string) => {
            const info = this.info(path)
            return info?.kind === "file" && (info.mode & 0o100) !== 0
          }
          return candidates.find(isProgram)
        }),
      realPath: (path) => answer("resolve", path, () => Result.map(this.find(path), () => Path.resolve("/", path))),
      space: () => Effect.sync(() => ({ freeBytes: this.freeBytes, type: tmpfs })),
      watch: this.watch
    })
  }
}
