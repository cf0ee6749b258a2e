/**
 * Rows of 0.1.0: what each says stays, in the form of now, and agents that ran then are stopped whole now.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { DatabaseSync } from "node:sqlite"
import { Agent } from "../src/agent/Agent.ts"
import * as Legacy from "../src/registry/sql/Legacy.ts"
import { salvage } from "../src/registry/sqlite/Restore.ts"
import { makeAgent, newTaskId, record } from "./rows.ts"
import { guarantee, lasting, open } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const encode = Schema.encodeSync(Agent)
const decode = Schema.decodeUnknownSync(Agent)

/** The document of a row as 0.1.0 wrote it. */
const asBefore = (agent: Agent): unknown => {
  const { directory, entry, homeId, session, socket, workspace } = agent.plan
  const { state, ...rest } = encode(agent)
  return {
    ...rest,
    plan: { homeId, directory, socket, session, workspace, entry },
    state: state._tag === "ending" && state.left !== null
      ? {
        ...state,
        left: state.left.map(({ resource, reference, made, outcome, millis }) => ({
          resource,
          reference,
          made,
          outcome,
          millis
        }))
      }
      : state
  }
}

const States = Schema.Literals(["deploying", "running", "leaked", "ending", "rolled-back"])

const stateOf = (state: typeof States.Type, left: ReadonlyArray<string>): Agent["state"] => {
  const error = { tag: "Interrupted", message: "the deployment was interrupted" }
  const as = { _tag: "rolled-back", step: "session", error } as const
  switch (state) {
    case "deploying":
    case "running":
      return { _tag: state }
    case "leaked":
      return { _tag: "ending", as, left: left.map((resource) => record(resource)) }
    case "ending":
      return { _tag: "ending", as, left: null }
    case "rolled-back":
      return as
  }
}

describe("a row of 0.1.0", () => {
  it.prop(
    "says the same in the form of now, and one of now stays as it is",
    [States, Schema.Array(Schema.Literals(["tmux_session", "prompt_file", "task_registry"]))],
    ([state, left]) => {
      const agent = makeAgent(newTaskId(), { state: stateOf(state, left) })
      assert.deepStrictEqual(decode(Legacy.upgrade(asBefore(agent))), agent)
      assert.deepStrictEqual(Legacy.upgrade(encode(agent)), encode(agent))
    }
  )

  it.prop("that is none comes back as it is", [Schema.Json], ([document]) => {
    assert.deepStrictEqual(Legacy.upgrade(document), document)
  })
})

const documentOf = Schema.decodeUnknownSync(Schema.Struct({ document: Schema.fromJsonString(Schema.Unknown) }))

/** Sets the registry of a world back to what 0.1.0 left, with its rows. */
const setBack = (world: World.World) => {
  const db = new DatabaseSync(Path.join(world.home, "registry.db"), { timeout: 5000 })
  for (const row of db.prepare("SELECT document FROM agents").all()) {
    const agent = decode(documentOf(row).document)
    db.prepare("UPDATE agents SET document = ? WHERE id = ?").run(JSON.stringify(asBefore(agent)), agent.id)
  }
  db.exec(`DROP INDEX tasks_key; ALTER TABLE tasks DROP COLUMN request_key;
    CREATE TABLE releases (agent_id TEXT, at TEXT, resource TEXT, outcome TEXT, reason TEXT, millis INTEGER)`)
  db.prepare("DELETE FROM slipway_migrations WHERE migration_id >= 3").run()
  db.close()
}

describe("a home of 0.1.0", () => {
  guarantee("is opened with its rows, and its running agent is stopped whole", (world) =>
    Effect.gen(function*() {
      const id = yield* Effect.scoped(Effect.gen(function*() {
        const slipway = yield* open(world)
        return (yield* slipway.deploy(lasting(world))).agent.id
      }))
      setBack(world)
      const slipway = yield* open(world)
      const agent = yield* slipway.agent(id)
      assert.strictEqual(agent.state._tag, "running")
      assert.deepStrictEqual(agent.plan.resources.map(({ kind }) => kind), [
        "prompt_file",
        "tmux_session",
        "task_registry"
      ])
      yield* slipway.stop([id])
      assert.deepStrictEqual(World.sessions(world), [])
      assert.isTrue(Fs.existsSync(Path.join(agent.plan.directory, "stdout.log")), "its output stays")
      return [id]
    }))

  guarantee("is read by a rebuild, which no migration has gone before", (world) =>
    Effect.gen(function*() {
      const agent = yield* Effect.scoped(Effect.gen(function*() {
        const slipway = yield* open(world)
        const { id } = (yield* slipway.deploy(lasting(world))).agent
        yield* slipway.stop([id])
        return yield* slipway.agent(id)
      }))
      setBack(world)
      const { agents } = yield* salvage(Path.join(world.home, "registry.db"))
      assert.deepStrictEqual(agents, [agent])
      return [agent.id]
    }))
})
