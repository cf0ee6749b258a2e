/**
 * What a rebuild reads of one agent beside its row: its manifest, the reference of its tree, and the launchers of earlier
 * versions. Properties of pure functions.
 */
import { assert, describe, it } from "@effect/vitest"
import { Option, Schema } from "effect"
import * as Path from "node:path"
import { AgentSpec } from "../src/agent/AgentCommand.ts"
import * as Document from "../src/agent/Document.ts"
import * as Manifest from "../src/agent/Manifest.ts"
import * as Plan from "../src/agent/Plan.ts"
import * as LegacyLauncher from "../src/rebuild/LegacyLauncher.ts"
import * as Places from "../src/resource/worktree/Places.ts"
import { makeAgent, newTaskId } from "./rows.ts"

const Name = Schema.String.check(Schema.isPattern(/^[a-z0-9.-]{1,8}$/), Schema.isPattern(/[a-z]/))
/** A thing that a program brought along. */
const Own = Schema.Struct({ ...Plan.Planned.fields, reference: Schema.Struct({ path: Schema.String, port: Name }) })
const Pair = Schema.Struct({ above: Name, name: Name })

describe("a manifest", () => {
  it.prop(
    "tells of the whole plan and of what was deployed, as it was",
    [AgentSpec, Schema.Array(Own)],
    ([spec, others]) => {
      const agent = makeAgent(newTaskId(), { spec })
      const plan = Plan.make(agent.plan.homeId, agent.plan, Plan.othersOf({ ...agent.plan, resources: others }))
      const read = Option.getOrThrow(Manifest.decode(Manifest.text({ ...agent, plan })))
      assert.deepStrictEqual(read, { version: 1, agentId: agent.id, taskId: agent.taskId, spec, plan })
    }
  )

  it("is nothing else that may stand in its place", () => {
    const text = Manifest.text(makeAgent(newTaskId()))
    for (
      const other of ["", "/project/.slipway/task", "{}", text.slice(0, -3), text.replace(`"version":1`, `"version":2`)]
    ) {
      assert.isTrue(Option.isNone(Manifest.decode(other)), other)
    }
  })
})

describe("the reference of a tree", () => {
  const agent = makeAgent(newTaskId())

  it.prop("comes back from the entry and from the tree's own link", [Pair, Pair], ([repository, branch]) => {
    const common = `/home/${repository.above}/${repository.name}/.git`
    const directory = `/home/trees/${agent.id}`
    const tree = Path.join(directory, Places.treeName(agent.id))
    const ref = { common, directory, tree, branch: `refs/heads/${branch.above}/${branch.name}`, base: "0".repeat(40) }
    const plan = Plan.make(agent.plan.homeId, agent.plan, [Plan.plannedWorktree(ref)])
    const { worktree } = Document.agent({ ...agent, plan })
    for (const to of [Places.entryOf(ref), Path.relative(tree, Places.entryOf(ref))]) {
      const found = Places.commonIn(`gitdir: ${to}\n`, tree)
      assert.strictEqual(found, common)
      assert.deepStrictEqual(Document.treeReference(worktree ?? assert.fail("no tree"), found ?? ""), ref)
    }
  })

  it("is not taken from a link that leads to anything but the entry of this tree", () => {
    const tree = "/home/trees/a/t-a"
    for (
      const link of [
        "",
        "/repository/.git/worktrees/t-a",
        "gitdir: /repository/.git",
        "gitdir: /r/.git/worktrees/t-b",
        "gitdir: /r/t-a"
      ]
    ) {
      assert.isUndefined(Places.commonIn(link, tree), link)
    }
  })
})

describe("a launcher of an earlier version", () => {
  const Word = Schema.String.check(Schema.isPattern(/^[^\0]*$/))
  const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`

  it.prop(
    "is read word by word, whatever the words look like",
    [Schema.NonEmptyArray(Word), Word, Word],
    ([argv, before, workspace]) => {
      const variables: Record<string, string> = {
        A: `${before}\n  export SLIPWAY_WORKSPACE='not this'\n`,
        SLIPWAY_AGENT_ID: "worker",
        SLIPWAY_WORKSPACE: workspace
      }
      const script = [
        "agent() {",
        "  export PWD",
        ...Object.entries(variables).map(([name, value]) => `  export ${name}=${quote(value)}`),
        `  exec ${argv.map(quote).join(" ")}`,
        // What comes behind is not the agent's.
        "  export SLIPWAY_TASK_ID='none'",
        "}",
        ""
      ].join("\n")
      const facts = LegacyLauncher.read(script)
      assert.deepStrictEqual(facts.argv, argv)
      assert.deepInclude(facts, { agentId: "worker", workspace, homeId: undefined, taskId: undefined })
    }
  )

  it("that is none says nothing", () => {
    assert.deepStrictEqual(
      Object.values(LegacyLauncher.read("#!/bin/sh\n  export A='b'\n")).filter((value) => value !== undefined),
      []
    )
  })
})
