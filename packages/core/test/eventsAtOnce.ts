/** Run by a test as a process of its own: opens a registry, and admits so many agents for its default task. */
import { Effect } from "effect"
import { AgentId } from "../src/agent/Agent.ts"
import { Ledger } from "../src/registry/Ledger.ts"
import * as SqliteRegistry from "../src/registry/sqlite/SqliteRegistry.ts"
import { makeAgent, makeTask } from "./rows.ts"

const [path = "", times = "", index = ""] = process.argv.slice(2)

const program = Effect.gen(function*() {
  const ledger = yield* Ledger
  const task = yield* ledger.defaultTask(makeTask({ limits: { maxAgents: 10_000, maxConcurrent: 10_000 } }))
  for (let time = 0; time < Number(times); time++) {
    const candidate = makeAgent(task.id)
    const id = AgentId.make(
      candidate.id.replace(/......$/, `${index.padStart(2, "f")}${String(time).padStart(4, "0")}`)
    )
    yield* ledger.admit({ ...candidate, id }, {
      allowDuplicate: true,
      homeLimit: Effect.succeed({ maxActive: 10_000, ofCaller: false })
    })
    process.stdout.write(`admitted ${id}\n`)
  }
}).pipe(Effect.provide(SqliteRegistry.layer({ path })))

process.stdin.once("data", () => {
  process.stdin.destroy()
  void Effect.runPromise(program)
})
process.stdout.write("ready\n")
