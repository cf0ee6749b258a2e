/**
 * Programs of Node that a test runs beside itself, to have several processes at one thing.
 *
 * A child answers on standard output, line by line; it says `ready` when it has loaded, and begins when it is told to
 * `go`. All are killed when the test ends.
 */
import { Effect, type Scope } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Path from "node:path"
import * as Programs from "./programs.ts"

export interface Child {
  readonly process: ChildProcess
  readonly lines: ReadonlyArray<string>
  /** Waits until the child has said a line that begins so; fails as a defect when it ends without. */
  readonly says: (start: string) => Effect.Effect<string>
  readonly tell: (word: string) => void
  readonly ended: Effect.Effect<void>
}

const start = Effect.fnUntraced(function*(
  args: ReadonlyArray<string>,
  through: ReadonlyArray<string> = []
): Effect.fn.Return<Child, never, Scope.Scope> {
  const lines: Array<string> = []
  const looks = new Set<() => void>()
  let errors = ""
  let ended = false
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const [program = process.execPath, ...words] = [...through, process.execPath, ...args]
      return spawn(program, words, { stdio: ["pipe", "pipe", "pipe"] })
    }),
    (child) =>
      Effect.callback<void>((resume) => {
        if (ended) return resume(Effect.void)
        child.once("close", () => resume(Effect.void))
        child.kill("SIGKILL")
      })
  )
  const look = () => {
    for (const look of looks) look()
  }
  let rest = ""
  child.stdout.on("data", (chunk: Buffer) => {
    const parts = (rest + chunk.toString()).split("\n")
    rest = parts.pop() ?? ""
    lines.push(...parts)
    look()
  })
  child.stderr.on("data", (chunk: Buffer) => {
    errors += chunk.toString()
  })
  child.on("close", () => {
    ended = true
    look()
  })
  const until = <A>(check: () => Effect.Effect<A> | undefined) =>
    Effect.callback<A>((resume) => {
      const attempt = () => {
        const answer = check()
        if (answer === undefined) return
        looks.delete(attempt)
        resume(answer)
      }
      looks.add(attempt)
      attempt()
    })
  return {
    process: child,
    lines,
    says: (start) =>
      until(() => {
        const line = lines.find((line) => line.startsWith(start))
        if (line !== undefined) return Effect.succeed(line)
        return ended ? Effect.die(`the child ended and never said ${start}: ${errors}`) : undefined
      }),
    tell: (word) => void child.stdin.write(`${word}\n`),
    ended: until(() => ended ? errors === "" ? Effect.void : Effect.die(errors) : undefined)
  }
})

// On Node 22 what stands here may use `node:sqlite` itself; that Slipway is silent there is a test of its own.
const silent = "--disable-warning=ExperimentalWarning"

/** Runs a module of this directory; `through` is a command that becomes it, such as `nice -n 3`. */
export const runModule = (file: string, args: ReadonlyArray<string>, through: ReadonlyArray<string> = []) =>
  Effect.flatMap(
    Effect.promise(() => Programs.ofModule(Path.join(import.meta.dirname, file))),
    (program) => start([silent, program, ...args], through)
  )

/** Runs a program that is given as the text of a module. */
export const runProgram = (text: string, args: ReadonlyArray<string>) =>
  Effect.flatMap(Effect.promise(() => Programs.ofText(text)), (program) => start([silent, program, ...args]))

/** Runs a script that is given as text. */
export const runText = (text: string, args: ReadonlyArray<string>) => start([silent, "-e", text, ...args])

/** Runs a module in so many processes, has them begin at once, and answers what each of them said last. */
export const atOnce = Effect.fnUntraced(function*(count: number, file: string, args: ReadonlyArray<string>) {
  const children = yield* Effect.forEach(
    Array.from({ length: count }),
    (_, index) => runModule(file, [...args, String(index)])
  )
  yield* Effect.forEach(children, (child) => child.says("ready"), { concurrency: "unbounded" })
  for (const child of children) child.tell("go")
  yield* Effect.forEach(children, (child) => child.ended, { concurrency: "unbounded" })
  return children.map((child) => child.lines.at(-1) ?? "")
})
