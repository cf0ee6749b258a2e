/**
 * What an agent did in its own tree: shown as a patch, and put on a branch whole or not at all.
 */
import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { worktreeOf } from "../src/agent/Plan.ts"
import { CurrentCaller } from "../src/machine/Caller.ts"
import type { LandError, LandRefused } from "../src/resource/worktree/Land.ts"
import * as Repository from "./support/Repository.ts"
import { guarantee, lasting, open, request } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const git = Repository.git
const commit = "git -c user.name=a -c user.email=a@b commit -q"

/** Runs a script in a tree of its own to its end. */
const worked = Effect.fnUntraced(function*(world: World.World, script: string) {
  Repository.init(world)
  const slipway = yield* open(world)
  const { agent } = yield* slipway.deploy(request(world, script, { worktree: {}, ready: "none" }))
  yield* slipway.wait(agent.id)
  return { slipway, agent, tree: worktreeOf(agent.plan) ?? assert.fail("the agent has no tree") }
})

/** All that a refusal must leave as it is: the branches, and the files of both trees. */
const state = (world: World.World, tree: string) => [
  git(world.project, "for-each-ref"),
  git(world.project, "status", "--porcelain"),
  git(tree, "status", "--porcelain"),
  Fs.readFileSync(Path.join(world.project, "file"), "utf8"),
  Fs.readFileSync(Path.join(tree, "file"), "utf8")
]

const isRefusal = (error: { readonly _tag: string }): error is LandRefused => error._tag === "LandRefused"

const whyOf = (error: LandError | { readonly _tag: string; readonly message: string }) =>
  isRefusal(error) ? error.why : assert.fail(error.message)

describe("the diff of an agent's tree", () => {
  guarantee(
    "has what is committed, changed and untracked, changes nothing, and outlives the tree",
    (world) =>
      Effect.gen(function*() {
        const { agent, slipway, tree } = yield* worked(
          world,
          `echo two > file; ${commit} -am one; echo more > folder/deep; echo new > new; echo no > ignored`
        )
        const before = git(tree.tree, "status", "--porcelain")
        const { base, from, patch } = yield* slipway.diff(agent.id)
        assert.strictEqual(base, tree.base)
        assert.strictEqual(from, tree.tree)
        for (const line of ["+two", "+more", "+new"]) assert.include(patch.split("\n"), line)
        assert.notInclude(patch, "ignored")
        assert.strictEqual(git(tree.tree, "status", "--porcelain"), before)
        assert.include((yield* slipway.diff(agent.id, { stat: true })).patch, "3 files changed")
        assert.deepStrictEqual(Fs.readdirSync(tree.directory).filter((name) => name.startsWith("index-")), [])

        Fs.rmSync(tree.tree, { recursive: true })
        const gone = yield* slipway.diff(agent.id)
        assert.deepInclude(gone, { from: tree.branch })
        assert.include(gone.patch, "+two")
        return [agent.id]
      })
  )

  guarantee("is refused for an agent without a tree", (world) =>
    Effect.gen(function*() {
      const slipway = yield* open(world)
      const { agent } = yield* slipway.deploy(lasting(world))
      assert.strictEqual((yield* Effect.flip(slipway.diff(agent.id)))._tag, "NoWorktree")
      yield* slipway.stop([agent.id])
      return [agent.id]
    }))
})

describe("landing", () => {
  guarantee(
    "moves the branch and the files of the tree that has it, by a fast-forward where that is one",
    (world) =>
      Effect.gen(function*() {
        const { agent, slipway, tree } = yield* worked(world, `echo two > file; ${commit} -am work`)
        const landed = yield* slipway.land(agent.id, { onto: "main", check: "grep -q two file && test -d .git" })
        assert.deepInclude(landed, { onto: "main", how: "fast-forward", tree: world.project })
        assert.strictEqual(git(world.project, "rev-parse", "main"), git(world.project, "rev-parse", tree.branch))
        assert.strictEqual(Fs.readFileSync(Path.join(world.project, "file"), "utf8"), "two\n")
        assert.strictEqual(git(world.project, "status", "--porcelain"), "")
        assert.deepInclude(yield* slipway.land(agent.id, { onto: "main" }), { how: "already" })
        assert.deepStrictEqual(Repository.refs(world), ["refs/heads/main", tree.branch])
        assert.deepStrictEqual(Fs.readdirSync(tree.directory).filter((name) => name.startsWith("check-")), [])
        return [agent.id]
      })
  )

  guarantee("is a commit of the call's caller, whoever opened the layer", (world) =>
    Effect.gen(function*() {
      const { agent, slipway } = yield* worked(world, `echo two > file; ${commit} -am work`)
      git(world.project, "commit", "-q", "--allow-empty", "-m", "meanwhile")
      const [name, email] = ["The Client", "client@example.org"]
      const client = World.caller(world, {
        GIT_AUTHOR_NAME: name,
        GIT_AUTHOR_EMAIL: email,
        GIT_COMMITTER_NAME: name,
        GIT_COMMITTER_EMAIL: email
      })
      const landed = yield* slipway.land(agent.id, { onto: "main" }).pipe(Effect.provideService(CurrentCaller, client))
      assert.strictEqual(landed.how, "merge")
      assert.strictEqual(git(world.project, "log", "-1", "--format=%an, %cn", "main"), `${name}, ${name}`)
      return [agent.id]
    }))

  guarantee("merges where the branch went on, also one that is checked out nowhere", (world) =>
    Effect.gen(function*() {
      const { agent, slipway, tree } = yield* worked(world, `echo two > file; ${commit} -am work`)
      git(world.project, "checkout", "-q", "-b", "release")
      Fs.writeFileSync(Path.join(world.project, "other"), "other\n")
      git(world.project, "add", "other")
      git(world.project, "commit", "-qm", "other")
      git(world.project, "checkout", "-q", "main")
      const landed = yield* slipway.land(agent.id, { onto: "release", check: "test -f other && grep -q two file" })
      assert.deepInclude(landed, { how: "merge", tree: null })
      assert.strictEqual(git(world.project, "show", "release:file"), "two")
      assert.strictEqual(git(world.project, "show", "release:other"), "other")
      assert.include(git(world.project, "log", "-1", "--format=%s", "release"), `slipway/${agent.id}`)
      assert.include(git(world.project, "log", "--format=%s", "release").split("\n"), "other")
      assert.strictEqual(git(tree.tree, "status", "--porcelain"), "")
      return [agent.id]
    }))

  const refusals: ReadonlyArray<
    readonly [what: string, why: string, script: string, check: string | undefined, onto: string]
  > = [
    ["a conflict", "conflict", `echo two > file; ${commit} -am work`, undefined, "main"],
    [
      "a check that fails",
      "check-failed",
      `echo x > new; git add new; ${commit} -m work`,
      "echo no >&2; exit 7",
      "main"
    ],
    [
      "work that is in no commit",
      "dirty",
      `echo x > new; git add new; ${commit} -m work; echo y > new`,
      undefined,
      "main"
    ],
    [
      "a tree that left its branch",
      "head-elsewhere",
      `git checkout -q --detach; echo x > new; git add new; ${commit} -m w`,
      undefined,
      "main"
    ],
    ["a branch that is not there", "no-target", "true", undefined, "nowhere"]
  ]
  for (const [what, why, script, check, onto] of refusals) {
    guarantee(`refuses ${what}, and changes nothing`, (world) =>
      Effect.gen(function*() {
        const { agent, slipway, tree } = yield* worked(world, script)
        if (why === "conflict") {
          Fs.writeFileSync(Path.join(world.project, "file"), "mine\n")
          git(world.project, "commit", "-qam", "mine")
        }
        const before = state(world, tree.tree)
        const error = yield* Effect.flip(slipway.land(agent.id, { onto, check }))
        assert.strictEqual(whyOf(error), why)
        if (why === "conflict") assert.include(error.message, "(file)")
        if (why === "check-failed") assert.include(error.message, "exit code 7: no")
        assert.deepStrictEqual(state(world, tree.tree), before)
        return [agent.id]
      }))
  }

  guarantee(
    "refuses a branch that is checked out where something is changed, and changes nothing",
    (world) =>
      Effect.gen(function*() {
        const { agent, slipway, tree } = yield* worked(world, `echo x > new; git add new; ${commit} -m work`)
        Fs.writeFileSync(Path.join(world.project, "file"), "mine\n")
        const before = state(world, tree.tree)
        assert.strictEqual(whyOf(yield* Effect.flip(slipway.land(agent.id, { onto: "main" }))), "target-tree")
        assert.deepStrictEqual(state(world, tree.tree), before)
        return [agent.id]
      })
  )
})
