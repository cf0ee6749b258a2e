/** Run by a test as a process of its own: opens a registry, and tries to admit agents for its default task. */
import { Effect, Result } from "effect"
import { AgentId } from "../src/agent/Agent.ts"
import { TaskId } from "../src/agent/Task.ts"
import { Ledger } from "../src/registry/Ledger.ts"
import * as SqliteRegistry from "../src/registry/sqlite/SqliteRegistry.ts"
import { makeAgent, makeTask } from "./rows.ts"

const [path = "", attempts = "", index = ""] = process.argv.slice(2)

const program = Effect.gen(function*() {
  const ledger = yield* Ledger
  const id = TaskId.make(`TASK-20260102-030405-${index.padStart(8, "a")}`)
  const task = yield* ledger.defaultTask(makeTask({ id, limits: { maxConcurrent: 5 } }))
  let admitted = 0
  for (let attempt = 0; attempt < Number(attempts); attempt++) {
    const candidate = makeAgent(task.id)
    const agent = {
      ...candidate,
      id: AgentId.make(candidate.id.replace(/......$/, `${index.padStart(2, "0")}${String(attempt).padStart(4, "0")}`))
    }
    const answer = yield* Effect.result(ledger.admit(agent, {
      allowDuplicate: true,
      homeLimit: Effect.succeed({ maxActive: 1000, ofCaller: false })
    }))
    if (Result.isSuccess(answer)) admitted++
    else if (answer.failure._tag !== "TooManyActive") return yield* answer.failure
  }
  return `${task.id} ${admitted}`
}).pipe(Effect.provide(SqliteRegistry.layer({ path })))

process.stdin.once("data", () => {
  process.stdin.destroy()
  void Effect.runPromise(program).then((line) => process.stdout.write(`${line}\n`))
})
process.stdout.write("ready\n")
