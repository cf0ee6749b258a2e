/**
 * The file operations that a deployment is made of; the one module of the core that writes files.
 *
 * State-changing operations are synchronous system calls, on purpose: when an interruption arrives, each of them has
 * happened or has not. An operation in flight on a thread pool could land after the release that should have undone it.
 * Nothing follows a symbolic link in the last component, and `checkOwned` refuses one in any component below a root.
 *
 * Not promised: a bound in time. A system call on a hung disk can't be given up, which is one reason why a home on a
 * network file system is refused.
 */
import { Sentence } from "@slipway/tmux"
import { Clock, Context, Effect, Layer, Predicate, Queue, Schema, type Scope } from "effect"
import * as NodeFs from "node:fs"
import { stat } from "node:fs/promises"
import * as Path from "node:path"

/** A system call on a file failed. */
export class FileError extends Schema.TaggedError<FileError>()("FileError", {
  operation: Schema.String,
  path: Schema.String,
  /** The system's name of the error, such as ENOSPC. */
  code: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `could not ${this.operation} ${this.path}: ${explain(this.code)}`
  }
}

const explanations: Readonly<Record<string, string>> = {
  EACCES: "permission denied; check who owns it",
  EPERM: "operation not permitted; check who owns it",
  ENOSPC: "no space is left on the disk; free some and try again",
  EDQUOT: "the disk quota is used up; free some and try again",
  EROFS: "the file system is read-only",
  EMFILE: "this process has too many open files; raise its limit (ulimit -n)",
  ENFILE: "the machine has too many open files",
  EIO: "the disk reported an input/output error; check the disk",
  EEXIST: "it exists already",
  ENOENT: "there is no such file or directory",
  ENOTDIR: "a part of the path is not a directory",
  ELOOP: "a part of the path is a symbolic link, which is not followed here; replace it by a directory",
  ENAMETOOLONG: "the path is too long"
}

const explain = (code: string): string => explanations[code] === undefined ? code : `${explanations[code]} (${code})`

export interface FileInfo {
  readonly kind: "file" | "directory" | "link" | "other"
  readonly mode: number
  readonly uid: number
  readonly size: number
  /** When its content was last changed, by the wall clock. */
  readonly modifiedMillis: number
  /** When the file itself or what is recorded of it changed last: a rename changes it too, on every file system of Linux. */
  readonly changedMillis: number
  readonly device: number
  readonly inode: number
}

export interface Space {
  readonly freeBytes: number
  /** The magic number that names the kind of file system. */
  readonly type: number
}

type Result<A> = Effect.Effect<A, FileError>

export class Files extends Context.Service<Files, {
  /** The user whose files are made; undefined where the system has no users. */
  readonly user: number | undefined
  /** Makes one directory with just this mode, whatever the umask is; fails when something is there already. */
  readonly makeDirectory: (path: string, mode: number) => Result<void>
  /**
   * Makes a directory and what is missing above it, each with just this mode; what is there stays as it is. The first refusal ends it.
   */
  readonly ensureDirectory: (path: string, mode: number) => Result<void>
  /** Creates a file that must not exist, with just this mode, and writes all of its content. */
  readonly createFile: (path: string, content: string | Uint8Array, mode: number) => Result<void>
  /** Puts the content in place by write and rename: a reader sees the old content or the new one, whole. */
  readonly replaceFile: (path: string, content: string, mode: number) => Result<void>
  /** Gives a file a second name; fails when the name is taken. */
  readonly link: (from: string, to: string) => Result<void>
  /**
   * Renames, in one step for everybody who looks; answers whether there was something to rename. An empty directory at the
   * new name is replaced, anything else fails or, for a file, is replaced too.
   */
  readonly rename: (from: string, to: string) => Result<boolean>
  /** Removes a file; answers whether it was there. */
  readonly removeFile: (path: string) => Result<boolean>
  /** Removes an empty directory; answers whether it was there. */
  readonly removeDirectory: (path: string) => Result<boolean>
  /** Removes a directory with all that is in it, without following links; answers whether it was there. */
  readonly removeTree: (path: string) => Result<boolean>
  readonly readText: (path: string) => Result<string>
  /** At most the last `bytes` of a file, as text. */
  readonly readTail: (path: string, bytes: number) => Result<string>
  /** At most `bytes` of a file from an offset on; less at its end, none behind it. */
  readonly readChunk: (path: string, offset: number, bytes: number) => Result<Uint8Array>
  readonly list: (path: string) => Result<ReadonlyArray<string>>
  /** What stands at the path itself; undefined when there is nothing. */
  readonly inspect: (path: string) => Result<FileInfo | undefined>
  readonly setMode: (path: string, mode: number) => Result<void>
  readonly isWritable: (path: string) => Effect.Effect<boolean>
  /**
   * The first of these paths at which a program stands that this user may run, with its directory free of symbolic links;
   * undefined where none does. A directory that has not answered lately is first asked off this thread: on a dead mount
   * that holds up the caller, and nobody else.
   */
  readonly findProgram: (candidates: ReadonlyArray<string>) => Effect.Effect<string | undefined>
  readonly realPath: (path: string) => Result<string>
  readonly space: (path: string) => Result<Space>
  /**
   * Watches a directory as long as the scope: the queue has an element when something changed since the last take. A
   * hint to read again, never a proof. A system without watches left gives a queue that stays empty.
   */
  readonly watch: (directory: string) => Effect.Effect<Queue.Dequeue<void>, never, Scope.Scope>
}>()("@slipway/core/Files") {}

const codeOf = (cause: unknown): string =>
  Predicate.hasProperty(cause, "code") && Predicate.isString(cause.code) ? cause.code : "EUNKNOWN"

const attempt = <A>(operation: string, path: string, f: () => A): Result<A> =>
  Effect.try({ try: f, catch: (cause) => new FileError({ operation, path, code: codeOf(cause) }) })

/** The value, or `absent` when nothing stands at the path. */
const unlessAbsent = <A, B>(effect: Result<A>, absent: B): Result<A | B> =>
  Effect.catchIf(effect, (error) => error.code === "ENOENT", () => Effect.succeed(absent))

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = NodeFs.constants

// Without O_NONBLOCK, opening a pipe at the path would wait for a writer.
const reading = O_RDONLY | O_NOFOLLOW | O_NONBLOCK

/** The path, unless a symbolic link stands at it. */
const unlinked = (path: string): string => {
  if (NodeFs.lstatSync(path).isSymbolicLink()) throw Object.assign(new Error("a symbolic link"), { code: "ELOOP" })
  return path
}

/** Twelve hexadecimal digits, which need not be hard to guess: files are made exclusively. */
const randomSuffix = (): string =>
  // A function that Node calls while it makes a file, and no effect.
  // @effect-diagnostics-next-line globalRandom:off
  Math.floor(Math.random() * 2 ** 48).toString(16).padStart(12, "0")

const writeNew = (path: string, content: string | Uint8Array, mode: number): void => {
  const file = NodeFs.openSync(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode)
  // oxlint-disable-next-line no-unsafe-finally -- the descriptor must not outlive a failed write
  try {
    // The umask may have taken some away. A read costs less than a change of the inode, which is seldom needed.
    if ((NodeFs.fstatSync(file).mode & 0o7777) !== mode) NodeFs.fchmodSync(file, mode)
    if (content.length > 0) NodeFs.writeFileSync(file, content)
  } finally {
    NodeFs.closeSync(file)
  }
}

const makeDirectory = (path: string, mode: number): void => {
  NodeFs.mkdirSync(path, { mode })
  if ((NodeFs.lstatSync(path).mode & 0o7777) !== mode) NodeFs.chmodSync(path, mode)
}

/**
 * One call for each missing directory, and none after the first that is refused. Node's own way to make several at once
 * was seen not to return on a file system that refuses to make any.
 */
const ensureDirectory = (path: string, mode: number): void => {
  const missing: Array<string> = []
  let existing = path
  while (NodeFs.statSync(existing, { throwIfNoEntry: false }) === undefined && Path.dirname(existing) !== existing) {
    missing.push(existing)
    existing = Path.dirname(existing)
  }
  for (const directory of missing.toReversed()) {
    try {
      makeDirectory(directory, mode)
    } catch (cause) {
      // Another process makes the same.
      if (codeOf(cause) !== "EEXIST") throw cause
    }
  }
  if (!NodeFs.statSync(path).isDirectory()) throw Object.assign(new Error("not a directory"), { code: "ENOTDIR" })
}

const kindOf = (stat: NodeFs.Stats): FileInfo["kind"] =>
  stat.isFile() ? "file" : stat.isDirectory() ? "directory" : stat.isSymbolicLink() ? "link" : "other"

const inspect = (path: string): Result<FileInfo | undefined> =>
  attempt("inspect", path, (): FileInfo | undefined => {
    // An answer and no error: that nothing stands there is the common case, and an error costs ten times as much.
    const stat = NodeFs.lstatSync(path, { throwIfNoEntry: false })
    return stat === undefined ? undefined : {
      kind: kindOf(stat),
      mode: stat.mode & 0o7777,
      uid: stat.uid,
      size: stat.size,
      modifiedMillis: stat.mtimeMs,
      changedMillis: stat.ctimeMs,
      device: stat.dev,
      inode: stat.ino
    }
  })

const readWhole = (path: string): string => {
  const file = NodeFs.openSync(path, reading)
  try {
    return NodeFs.readFileSync(file, "utf8")
  } finally {
    NodeFs.closeSync(file)
  }
}

/** `place` decides from the file's size where to read. */
const readPart = (path: string, bytes: number, place: (size: number) => number): Buffer => {
  const file = NodeFs.openSync(path, reading)
  try {
    const { size } = NodeFs.fstatSync(file)
    const offset = place(size)
    const buffer = Buffer.alloc(Math.max(0, Math.min(size - offset, bytes)))
    return buffer.subarray(0, NodeFs.readSync(file, buffer, 0, buffer.length, offset))
  } finally {
    NodeFs.closeSync(file)
  }
}

/** How long a watch rests after an event. */
const restMillis = 20

/**
 * Reports changes, with a rest after each; answers with what ends it. Every event costs a callback, and an agent that
 * writes all the time makes hundreds of thousands a second. So a watch ends with its first event and begins anew after
 * a rest. Then it reports once more, for what may have changed meanwhile.
 */
const watchWithRests = (directory: string, changed: () => void): () => void => {
  let end = () => {}
  const begin = () => {
    const watcher = NodeFs.watch(directory, { persistent: false }, () => {
      watcher.close()
      const rest = setTimeout(again, restMillis).unref()
      end = () => clearTimeout(rest)
      changed()
    })
    watcher.on("error", () => watcher.close())
    end = () => watcher.close()
  }
  const again = () => {
    try {
      begin()
    } catch {
      // The directory was removed, or the system has no watch left; the caller's poll sees what there is to see.
    }
    changed()
  }
  begin()
  return () => end()
}

const watch = Effect.fnUntraced(function*(directory: string) {
  const changes = yield* Queue.sliding<void>(1)
  yield* Effect.acquireRelease(
    attempt("watch", directory, () => watchWithRests(directory, () => void Queue.offerUnsafe(changes, undefined))),
    (end) => Effect.sync(end)
  ).pipe(Effect.ignore)
  return Queue.asDequeue(changes)
})

const programAt = (path: string): string | undefined => {
  try {
    if (NodeFs.statSync(path, { throwIfNoEntry: false })?.isFile() !== true) return undefined
    NodeFs.accessSync(path, NodeFs.constants.X_OK)
    return Path.join(NodeFs.realpathSync(Path.dirname(path)), Path.basename(path))
  } catch {
    return undefined
  }
}

/** How long a directory that has answered is taken for one that does not hang. */
const answerMillis = 10_000

const findProgram = (answered: Map<string, number>) =>
  Effect.fnUntraced(function*(candidates: ReadonlyArray<string>) {
    const now = yield* Clock.currentTimeMillis
    for (const candidate of candidates) {
      const directory = Path.dirname(candidate)
      if (now - (answered.get(directory) ?? -Infinity) > answerMillis) {
        // On a dead mount this never answers, and then holds up a thread of the pool and not the program.
        yield* Effect.ignore(Effect.tryPromise(() => stat(directory)))
        answered.set(directory, now)
      }
      const program = programAt(candidate)
      if (program !== undefined) return program
    }
    return undefined
  })

export const layer: Layer.Layer<Files> = Layer.sync(Files, () =>
  Files.of({
    user: process.getuid?.(),
    findProgram: findProgram(new Map()),
    makeDirectory: (path, mode) => attempt("make the directory", path, () => makeDirectory(path, mode)),
    ensureDirectory: (path, mode) => attempt("make the directory", path, () => ensureDirectory(path, mode)),
    createFile: (path, content, mode) => attempt("create", path, () => writeNew(path, content, mode)),
    replaceFile: (path, content, mode) =>
      attempt("write", path, () => {
        // Random, since a pid and a count may come again, in another namespace or after a crash.
        const next = `${path}.${randomSuffix()}.tmp`
        try {
          writeNew(next, content, mode)
          NodeFs.renameSync(next, path)
        } catch (cause) {
          NodeFs.rmSync(next, { force: true })
          throw cause
        }
      }),
    link: (from, to) => attempt("link", to, () => NodeFs.linkSync(from, to)),
    rename: (from, to) =>
      unlessAbsent(
        Effect.as(attempt("rename", from, () => NodeFs.renameSync(from, to)), true),
        false
      ),
    removeFile: (path) =>
      unlessAbsent(
        Effect.as(attempt("remove", path, () => NodeFs.unlinkSync(path)), true),
        false
      ),
    removeDirectory: (path) =>
      unlessAbsent(
        Effect.as(attempt("remove", path, () => NodeFs.rmdirSync(path)), true),
        false
      ),
    removeTree: (path) =>
      unlessAbsent(
        attempt("remove", path, () => {
          NodeFs.lstatSync(path)
          NodeFs.rmSync(path, { recursive: true, force: true })
          return true
        }),
        false
      ),
    readText: (path) => attempt("read", path, () => readWhole(path)),
    readTail: (path, bytes) =>
      attempt("read", path, () => readPart(path, bytes, (size) => Math.max(0, size - bytes)).toString("utf8")),
    readChunk: (path, offset, bytes) => attempt("read", path, () => readPart(path, bytes, () => offset)),
    list: (path) => attempt("list", path, () => NodeFs.readdirSync(unlinked(path))),
    inspect,
    setMode: (path, mode) => attempt("change the mode of", path, () => NodeFs.chmodSync(unlinked(path), mode)),
    isWritable: (path) =>
      Effect.orElseSucceed(
        Effect.as(
          attempt("write to", path, () => NodeFs.accessSync(path, NodeFs.constants.W_OK | NodeFs.constants.X_OK)),
          true
        ),
        () => false
      ),
    realPath: (path) => attempt("resolve", path, () => NodeFs.realpathSync(path)),
    space: (path) =>
      attempt("ask for the free space of", path, () => {
        const stat = NodeFs.statfsSync(path)
        return { freeBytes: stat.bavail * stat.bsize, type: stat.type }
      }),
    watch
  }))

/**
 * Checks that `path` lies below `root` and that no component below the root is a symbolic link; fails with ELOOP where one is.
 * Components that do not exist are fine. The root itself may be reached through links: it is the caller's word.
 */
export const checkOwned = Effect.fnUntraced(
  function*(files: Pick<Files["Service"], "inspect">, root: string, path: string): Effect.fn.Return<void, FileError> {
    const relative = Path.relative(root, path)
    if (relative === "" || relative === ".." || relative.startsWith(`..${Path.sep}`) || Path.isAbsolute(relative)) {
      return yield* new FileError({ operation: "use", path, code: "ENOTDIR" })
    }
    const components = relative.split(Path.sep)
    for (let depth = 1; depth <= components.length; depth++) {
      const component = Path.join(root, ...components.slice(0, depth))
      const info = yield* files.inspect(component)
      if (info === undefined) return
      if (info.kind === "link") return yield* new FileError({ operation: "use", path: component, code: "ELOOP" })
    }
  }
)
