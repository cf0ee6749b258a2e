import { NodeRuntime } from "@effect/platform-node"
import { Slipway } from "@slipway/core"
import { Effect } from "effect"
import { mkdtempSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { onDisk } from "./orchestrator/Leases.ts"
import { orchestrate } from "./orchestrator/Orchestrator.ts"
import { portLease } from "./orchestrator/Port.ts"

const project = mkdtempSync(join(tmpdir(), "slipway-project-"))

const program = orchestrate({ project, agents: join(import.meta.dirname, "agents") }).pipe(
  Effect.provide(Slipway.layer({ resources: [portLease(onDisk(join(project, "leases")))] }))
)

// A reader of the output that leaves, as `head` does, must not end the program before it has released what it made.
process.stdout.on("error", () => {})
// INT and TERM interrupt the program, and its scopes close.
NodeRuntime.runMain(program)
