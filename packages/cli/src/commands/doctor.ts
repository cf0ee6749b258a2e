/**
 * `slipway doctor`: the audit of the home and of the machine, with what to do about each finding.
 */
import { Slipway } from "@slipway/core"
import { Effect } from "effect"
import { Command } from "../Cli.ts"
import * as ExitCode from "../ExitCode.ts"
import * as Open from "../Open.ts"
import { Output, plain } from "../Output.ts"

export const doctor = Command.make(
  "doctor",
  {},
  Effect.fnUntraced(function*() {
    const output = yield* Output
    const status = yield* ExitCode.ExitStatus
    const slipway = yield* Slipway
    const { findings, healthy } = yield* slipway.doctor
    const lines = findings.map(({ evidence, kind, recommendation }) =>
      `${output.paint("yellow", kind)}: ${plain(evidence)}\n    ${plain(recommendation)}`
    )
    yield* output.answer(
      { healthy, findings },
      [
        ...lines,
        healthy
          ? output.paint("green", "This home is healthy.")
          : output.paint(
            "red",
            `This home is not healthy: ${findings.length} finding${findings.length === 1 ? "" : "s"}.`
          )
      ]
        .join("\n")
    )
    yield* status.conclude(healthy ? ExitCode.done : ExitCode.unhealthy)
  }, Effect.provide(Open.layer))
).pipe(
  Command.withDescription(
    "Check that registry, sessions, processes and files agree, and that the machine has what Slipway needs. It repairs nothing, " +
      "and says what to do about each finding. The exit code is 0 only when all is well, else 1."
  ),
  Command.withShortDescription("Audit this home and machine"),
  Command.withExamples([{
    command: "slipway doctor || slipway reap",
    description: "Check, and clean up what was found"
  }])
)
