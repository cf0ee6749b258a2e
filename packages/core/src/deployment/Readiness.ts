/**
 * Decides whether an agent is up, by one wait on whichever comes first: its exit, its first output, the time.
 *
 * `survive` waits until the time is over, `output` until the agent wrote to standard output, `none` does not wait. An
 * agent that ends with another code than 0, or without a record of its exit, fails at once. An exit with code 0 is a
 * quick success. The wait is driven by file events, with a slow poll where they fail. It can be interrupted at any
 * moment. It makes nothing, so it has no release.
 */
import { Sentence } from "@slipway/tmux"
import { Clock, Duration, Effect, Option, Queue, Schema } from "effect"
import * as Path from "node:path"
import type { Agent, Running } from "../agent/Agent.ts"
import type { AgentKind } from "../agent/AgentCommand.ts"
import { type ExitRecord, parseExitRecord } from "../agent/ExitRecord.ts"
import * as LogEnd from "../agent/LogEnd.ts"
import { tailBytes } from "../agent/LogEnd.ts"
import { type FileError, Files } from "../machine/Files.ts"
import { Host } from "../machine/Host.ts"
import { stderrFile, stdoutFile } from "../machine/Layout.ts"

/** The agent ended, and not with success, before it was up. */
export class AgentExitedEarly extends Schema.TaggedError<AgentExitedEarly>()("AgentExitedEarly", {
  code: Schema.Int,
  signal: Schema.NullOr(Schema.String),
  stderrTail: Schema.String,
  /** A known agent's last message; for any other command, nothing of its standard output is repeated. */
  lastMessage: Schema.NullOr(Schema.String)
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const how = this.signal === null ? `with exit code ${this.code}` : `by ${this.signal}`
    // Known agents give the reason in their last message, and end standard error with a lone brace.
    const said = [this.lastMessage ?? "", lastLine(this.stderrTail)].find((line) => /[A-Za-z]/.test(line))
    return `the agent ended ${how} before it was up${said === undefined ? ", and said nothing" : `: ${said}`}`
  }
}

/** The agent ended and left no record of how. */
export class AgentVanished extends Schema.TaggedError<AgentVanished>()("AgentVanished", {
  stderrTail: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return "the agent's launcher was killed before the agent was up; find out what kills processes on this machine (memory?)"
  }
}

/** The agent lives, and wrote nothing within its time. */
export class NoFirstOutput extends Schema.TaggedError<NoFirstOutput>()("NoFirstOutput", {
  withinMillis: Schema.Finite,
  stderrTail: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    const said = lastLine(this.stderrTail)
    return `the agent wrote nothing to standard output within ${Duration.format(Duration.millis(this.withinMillis))}${
      said === "" ? "" : ` (standard error says: ${said})`
    }; give it longer with --ready-within`
  }
}

/** The agent's files can't be read, so its state is unknown. */
export class AgentUnreadable extends Schema.TaggedError<AgentUnreadable>()("AgentUnreadable", {
  problem: Schema.String
}) {
  static {
    Sentence.shown(this)
  }
  override get message() {
    return `the agent's files can't be read: ${this.problem}`
  }
}

export const ReadinessError = Schema.Union([AgentExitedEarly, AgentVanished, NoFirstOutput, AgentUnreadable])
export type ReadinessError = typeof ReadinessError.Type

const lastLine = (text: string): string => text.trimEnd().split("\n").at(-1)?.slice(-500) ?? ""

/** File events are lost on some file systems; so slow a poll costs almost nothing. */
const pollMillis = 100

/** The wait until an agent is up; it answers with its exit record when it has already ended. */
export const make = Effect.gen(function*() {
  const files = yield* Files
  const host = yield* Host

  const watch = Effect.fnUntraced(
    function*(directory: string, running: Running, readiness: Agent["readiness"], kind: AgentKind) {
      const stderrTail = Effect.orElseSucceed(files.readTail(Path.join(directory, stderrFile), tailBytes), () => "")
      const exitRecord = Effect.map(files.list(directory), parseExitRecord)
      const changes = yield* files.watch(directory)
      const begin = yield* Clock.monotonicTimeNanos

      const assessExit = Effect.fnUntraced(function*(record: ExitRecord) {
        if (record.code === 0) return record
        return yield* new AgentExitedEarly({
          ...record,
          stderrTail: yield* stderrTail,
          lastMessage: kind === "command"
            ? null
            : (yield* LogEnd.readSummary(kind, { files, path: Path.join(directory, stdoutFile) }))
              .lastMessage?.slice(0, 500) ?? null
        })
      })

      while (true) {
        const launcherGone = running.launcher === null || (yield* host.probe(running.launcher)) === "dead"
        // Read after the launcher was found dead: a record that was written by then is seen.
        const record = yield* exitRecord
        if (Option.isSome(record)) return Option.some(yield* assessExit(record.value))
        if (launcherGone) return yield* new AgentVanished({ stderrTail: yield* stderrTail })
        if (readiness.kind === "output" && (yield* hasOutput(files, directory))) return Option.none()
        const elapsedMillis = Number((yield* Clock.monotonicTimeNanos) - begin) / 1e6
        const remaining = readiness.withinMillis - elapsedMillis
        if (remaining <= 0) {
          if (readiness.kind === "survive") return Option.none()
          return yield* new NoFirstOutput({ withinMillis: readiness.withinMillis, stderrTail: yield* stderrTail })
        }
        yield* Effect.raceFirst(Queue.take(changes), Effect.sleep(Math.min(remaining, pollMillis)))
      }
    }
  )

  return Effect.fn("Readiness.wait")(function*(
    directory: string,
    running: Running,
    { readiness, spec }: Pick<Agent, "readiness" | "spec">
  ): Effect.fn.Return<Option.Option<ExitRecord>, ReadinessError> {
    if (readiness.kind === "none") return Option.none()
    return yield* Effect.scoped(watch(directory, running, readiness, spec.kind)).pipe(
      Effect.catchTag("FileError", (error) => Effect.fail(new AgentUnreadable({ problem: error.message })))
    )
  })
})

const hasOutput = (files: Files["Service"], directory: string): Effect.Effect<boolean, FileError> =>
  Effect.map(files.inspect(Path.join(directory, stdoutFile)), (info) => info !== undefined && info.size > 0)
