/**
 * A git worktree per agent: it is in the plan, so it comes up whole or not at all; and nothing in it is ever lost.
 */
import { assert, describe } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { spawn } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type { Agent } from "../src/agent/Agent.ts"
import { worktreeOf, type WorktreeRef } from "../src/agent/Plan.ts"
import * as Repository from "./support/Repository.ts"
import { guarantee, lasting, open, reasonOf, request } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const git = Repository.git
const commit = "git -c user.name=a -c user.email=a@b commit -q"

const treeOf = (agent: Agent): WorktreeRef => worktreeOf(agent.plan) ?? assert.fail("the agent has no tree")

/** Runs a script in a tree of its own to its end; answers with the agent, its tree, and what has been saved of it. */
const worked = Effect.fnUntraced(function*(
  world: World.World,
  script: string,
  worktree: { readonly base?: string; readonly branch?: string } = {}
) {
  if (!Fs.existsSync(Path.join(world.project, ".git"))) Repository.init(world)
  // By a link, as many homes are reached: git and /proc name the tree without it.
  const link = Path.join(world.root, "link")
  if (!Fs.existsSync(link)) Fs.symlinkSync(world.root, link)
  const slipway = yield* open(world, { directory: Path.join(link, "home"), socket: world.socket })
  const { agent } = yield* slipway.deploy(request(world, script, { worktree, ready: "none" }))
  const ended = yield* slipway.wait(agent.id)
  return { slipway, agent: ended, tree: treeOf(ended), work: `refs/slipway/${agent.id}/work` }
})

/** Prunes all, and answers with what it says of the one tree. */
const pruned = Effect.fnUntraced(function*(
  { slipway }: Effect.Success<ReturnType<typeof worked>>,
  options: { readonly dryRun?: boolean; readonly discardIgnored?: boolean } = {}
) {
  const one = (yield* slipway.prune({ olderThan: 0, ...options })).find(({ tree }) => tree !== null)
  return { problems: one?.problems.join("; ") ?? "", why: one?.tree?.why ?? "" }
})

describe("an agent's own working tree", () => {
  guarantee(
    "is where the agent works, on a branch of its own; it stays when the agent ends, until a prune",
    (world) =>
      Effect.gen(function*() {
        const story = yield* worked(
          world,
          `pwd; git rev-parse --abbrev-ref HEAD; echo two > file; ${commit} -am work`
        )
        const { agent, tree } = story
        const told = Fs.readFileSync(Path.join(agent.plan.directory, "stdout.log"), "utf8")
        assert.strictEqual(told, `${tree.tree}\nslipway/${agent.id}\n`)
        assert.strictEqual(tree.base, git(world.project, "rev-parse", "HEAD"))
        assert.strictEqual(Fs.readFileSync(Path.join(world.project, "file"), "utf8"), "one\n")
        assert.isTrue(Fs.existsSync(tree.tree))
        const { problems, why } = yield* pruned(story)
        assert.strictEqual(problems, "")
        assert.include(why, "stays with 1 commit")
        assert.deepStrictEqual(Repository.refs(world), ["refs/heads/main", tree.branch])
        assert.strictEqual(git(world.project, "show", `${tree.branch}:file`), "two")
        git(world.project, "branch", "-q", "-D", `slipway/${agent.id}`)
        assert.deepStrictEqual(Repository.traces(world), [])
      })
  )

  guarantee(
    "begins at the commit, under the name, and in the folder that were asked for",
    (world) =>
      Effect.gen(function*() {
        Repository.init(world)
        git(world.project, "tag", "old")
        Fs.writeFileSync(Path.join(world.project, "file"), "two\n")
        git(world.project, "commit", "-qam", "second")
        const slipway = yield* open(world)
        const { agent } = yield* slipway.deploy(request(world, "pwd; cat ../file; git branch --show-current", {
          worktree: { base: "old", branch: "topic/one" },
          cwd: Path.join(world.project, "folder"),
          ready: "none"
        }))
        yield* slipway.wait(agent.id)
        const told = Fs.readFileSync(Path.join(agent.plan.directory, "stdout.log"), "utf8")
        assert.strictEqual(told, `${treeOf(agent).tree}/folder\none\ntopic/one\n`)
        return [agent.id]
      })
  )

  guarantee("leaves nothing when a later step fails", (world) =>
    Effect.gen(function*() {
      Repository.init(world)
      const slipway = yield* open(world)
      const error = yield* Effect.flip(slipway.deploy(request(world, "exit 3", { worktree: {} })))
      reasonOf(error, "AgentExitedEarly")
      assert.deepStrictEqual(error.cleanup.releases.map(({ resource }) => resource), [
        "tmux_session",
        "git_worktree",
        "prompt_file",
        "global_registry"
      ])
      assert.isTrue(error.isClean)
      assert.deepStrictEqual(Repository.traces(world), [])
    }))

  guarantee("has what an agent wrote saved also when its deployment is rolled back", (world) =>
    Effect.gen(function*() {
      Repository.init(world)
      const slipway = yield* open(world)
      const error = yield* Effect.flip(
        slipway.deploy(request(world, "echo precious > new; exit 3", { worktree: {} }))
      )
      assert.isTrue(error.isClean, error.message)
      assert.strictEqual(git(world.project, "show", `refs/slipway/${error.agentId}/work:new`), "precious")
      assert.deepStrictEqual(Repository.trees(world), [])
    }))

  guarantee(
    "can't be had outside of a repository, at no commit, or on a branch that is taken; nothing is made",
    (world) =>
      Effect.gen(function*() {
        const slipway = yield* open(world)
        const refused = (worktree: { readonly base?: string; readonly branch?: string }) =>
          Effect.flip(slipway.deploy(lasting(world, { worktree })))
        assert.include(reasonOf(yield* refused({}), "WorktreeRefused").problem, "no repository")
        git(world.project, "init", "--quiet", "--initial-branch=main")
        assert.include(reasonOf(yield* refused({}), "WorktreeRefused").problem, "HEAD is no commit")
        Repository.init(world)
        git(world.project, "branch", "a/b")
        const refs = Repository.refs(world)
        assert.include(reasonOf(yield* refused({ base: "nowhere" }), "WorktreeRefused").problem, "nowhere is no commit")
        assert.include(reasonOf(yield* refused({ branch: "x..y" }), "WorktreeRefused").problem, "no name")
        for (const [branch, by] of [["main", "main"], ["a", "a/b"], ["a/b/c", "a/b"]] as const) {
          const error = yield* refused({ branch })
          assert.deepInclude(reasonOf(error, "BranchTaken"), { branch, by })
          assert.isNull(error.agentId)
        }
        assert.deepStrictEqual(Repository.refs(world), refs)
        assert.deepStrictEqual(Repository.trees(world), [])
        assert.deepStrictEqual(World.rows(world), [])
      })
  )

  guarantee(
    "does not touch the repository and the index that a hook hands to the deployer, nor runs a hook",
    (world) =>
      Effect.gen(function*() {
        Repository.init(world)
        const hooks = Path.join(world.project, ".git", "hooks")
        for (const hook of ["post-checkout", "reference-transaction"]) {
          Fs.writeFileSync(Path.join(hooks, hook), `#!/bin/sh\ntouch ${world.root}/hooked\n`, { mode: 0o755 })
        }
        const other = Path.join(world.root, "other")
        Fs.mkdirSync(other)
        git(other, "init", "--quiet")
        const index = Path.join(world.root, "index")
        const slipway = yield* open(world, {
          caller: World.caller(world, {
            GIT_DIR: Path.join(other, ".git"),
            GIT_INDEX_FILE: index,
            GIT_WORK_TREE: other
          })
        })
        const { agent } = yield* slipway.deploy(request(world, "true", { worktree: {}, ready: "none" }))
        yield* slipway.wait(agent.id)
        const tree = treeOf(agent)
        assert.strictEqual(tree.common, Path.join(world.project, ".git"))
        assert.isFalse(Fs.existsSync(index))
        assert.isFalse(Fs.existsSync(Path.join(world.root, "hooked")))
        assert.strictEqual(git(tree.tree, "status", "--porcelain"), "")
        return [agent.id]
      })
  )

  guarantee(
    "comes up for agents that are deployed at once, each on a branch of its own, and all go in one prune",
    (world) =>
      Effect.gen(function*() {
        Repository.init(world)
        const slipway = yield* open(world)
        const deployed = yield* Effect.forEach(
          Array.from({ length: 6 }, (_, index) => `type${index}`),
          (type) => slipway.deploy(request(world, "git status --porcelain", { type, worktree: {}, ready: "none" })),
          { concurrency: "unbounded" }
        )
        for (const { agent } of deployed) {
          yield* slipway.wait(agent.id)
          assert.strictEqual(Fs.readFileSync(Path.join(agent.plan.directory, "stdout.log"), "utf8"), "")
        }
        assert.lengthOf(new Set(deployed.map(({ agent }) => treeOf(agent).branch)), 6)
        const said = yield* slipway.prune({ olderThan: 0 })
        assert.deepStrictEqual(said.flatMap(({ problems }) => problems), [])
        assert.deepStrictEqual(Repository.traces(world), [])
      })
  )
})

/** A git before the real one, which `$real` is in the script. */
const gitBehind = (world: World.World, script: string) => {
  const bin = Path.join(world.root, "bin")
  const real = (process.env["PATH"] ?? "").split(":").map((path) => Path.join(path, "git")).find((path) =>
    Fs.existsSync(path)
  )
  Fs.mkdirSync(bin)
  Fs.writeFileSync(Path.join(bin, "git"), `#!/bin/sh\nreal=${real}\n${script}\nexec $real "$@"\n`, { mode: 0o755 })
  return World.caller(world, { PATH: `${bin}:${process.env["PATH"]}` })
}

describe("a tree of a large repository", () => {
  guarantee("may take longer to make than any other step", (world) =>
    Effect.gen(function*() {
      Repository.init(world)
      const caller = gitBehind(world, `for word; do [ "$word" = reset ] && sleep 7; done`)
      const slipway = yield* open(world, { caller, stepLimit: "6 seconds" })
      const { agent } = yield* slipway.deploy(request(world, "true", { worktree: {}, ready: "none" }))
      yield* slipway.wait(agent.id)
      return [agent.id]
    }))
})

describe("a branch", () => {
  guarantee(
    "that somebody else made meanwhile is not taken for its own, also where it begins at the same commit",
    (world) =>
      Effect.gen(function*() {
        Repository.init(world)
        // Between the plan and the make.
        const makes =
          `for word; do [ "$word" = update-ref ] && $real -C ${world.project} branch topic 2>/dev/null; done`
        const slipway = yield* open(world, { caller: gitBehind(world, makes) })
        const error = yield* Effect.flip(slipway.deploy(lasting(world, { worktree: { branch: "topic" } })))
        reasonOf(error, "WorktreeFailed")
        assert.isTrue(error.isClean, error.message)
        assert.deepStrictEqual(Repository.refs(world), ["refs/heads/main", "refs/heads/topic"])
        assert.deepStrictEqual(Repository.trees(world), [])
      })
  )
})

describe("what is in a tree that goes", () => {
  guarantee(
    "is saved: staged, changed, untracked, deleted, and commits that were reset away or are on no branch",
    (world) =>
      Effect.gen(function*() {
        const story = yield* worked(
          world,
          [
            `echo kept > kept; git add kept; ${commit} -m kept`,
            `echo lost > lost; git add lost; ${commit} -m reset-away; git reset -q --hard HEAD^`,
            `git checkout -q --detach; echo loose > loose; git add loose; ${commit} -m detached`,
            "git checkout -q -; echo staged > file; git add file; echo changed > file",
            "echo new > untracked; rm folder/deep"
          ].join("\n")
        )
        const { problems, why } = yield* pruned(story)
        assert.strictEqual(problems, "")
        assert.include(why, `saved as ${story.work}`)
        git(world.project, "reflog", "expire", "--expire=now", "--all")
        git(world.project, "gc", "--quiet", "--prune=now")
        const show = (name: string) => git(world.project, "show", `${story.work}:${name}`)
        assert.strictEqual(show("file"), "changed")
        assert.strictEqual(show("untracked"), "new")
        assert.strictEqual(show("kept"), "kept")
        assert.notInclude(git(world.project, "ls-tree", "-r", "--name-only", story.work).split("\n"), "folder/deep")
        const subjects = git(world.project, "log", "--format=%s", story.work).split("\n")
        for (const subject of ["reset-away", "detached", "kept"]) assert.include(subjects, subject)
        const staged = git(world.project, "log", "--format=%H", "--grep=had staged", story.work)
        assert.strictEqual(git(world.project, "show", `${staged}:file`), "staged")
        assert.deepStrictEqual(Repository.trees(world), [])
      })
  )

  guarantee(
    "is saved also where git was told to look past it, or a change left size and second as they were",
    (world) =>
      Effect.gen(function*() {
        const story = yield* worked(
          world,
          [
            `echo aaa > hidden; echo bbb > racy; git add .; ${commit} -m both`,
            "git update-index --assume-unchanged hidden; echo AAA > hidden",
            "git config core.trustctime false; past='touch -d @1000000000'",
            // As a change in the second of the last `git add`: only a look at the content tells.
            "$past racy; git add racy; echo BBB > racy; $past racy \"$(git rev-parse --git-dir)/index\""
          ].join("\n")
        )
        assert.strictEqual((yield* pruned(story)).problems, "")
        assert.strictEqual(git(world.project, "show", `${story.work}:racy`), "BBB")
        assert.strictEqual(git(world.project, "show", `${story.work}:hidden`), "AAA")
      })
  )

  guarantee(
    "leaves nothing in the repository where nothing was changed, and no stash is touched",
    (world) =>
      Effect.gen(function*() {
        Repository.init(world)
        Fs.writeFileSync(Path.join(world.project, "file"), "mine\n")
        git(world.project, "stash", "--quiet")
        const story = yield* worked(world, "git status")
        const { problems, why } = yield* pruned(story)
        assert.deepStrictEqual({ problems, why }, { problems: "", why: "nothing in it that no branch has" })
        assert.deepStrictEqual(Repository.traces(world), ["refs/stash"])
        assert.lengthOf(git(world.project, "stash", "list").split("\n"), 1)
      })
  )

  guarantee(
    "waits in the home's trash with the files that git ignores, unless they are to be discarded",
    (world) =>
      Effect.gen(function*() {
        const first = yield* worked(world, "echo secret > ignored")
        assert.include((yield* pruned(first, { dryRun: true })).why, "1 ignored")
        const { problems, why } = yield* pruned(first)
        const waiting = Path.join(world.home, "trash", first.agent.id)
        assert.strictEqual(problems, "")
        assert.include(why, waiting)
        assert.strictEqual(Fs.readFileSync(Path.join(waiting, "ignored"), "utf8"), "secret\n")
        const second = yield* worked(world, "echo secret > ignored")
        assert.strictEqual((yield* pruned(second, { discardIgnored: true })).problems, "")
        assert.deepStrictEqual(Fs.readdirSync(Path.join(world.home, "trash")), [first.agent.id])
        assert.deepStrictEqual(Repository.traces(world), [])
      })
  )
})

/** A clock that is so many days ahead. */
const later = (clock: Clock.Clock, days: number): Clock.Clock => {
  const ahead = days * 24 * 3600 * 1000
  return new Proxy(clock, {
    get(target, key) {
      switch (key) {
        case "currentTimeMillisUnsafe":
          return () => target.currentTimeMillisUnsafe() + ahead
        case "currentTimeMillis":
          return Effect.map(target.currentTimeMillis, (now) => now + ahead)
        default:
          return Reflect.get(target, key)
      }
    }
  })
}

describe("a tree", () => {
  guarantee("that no agent on record has is named by the doctor", (world) =>
    Effect.gen(function*() {
      const { agent, slipway } = yield* worked(world, "true")
      const healthy = yield* slipway.doctor
      assert.deepStrictEqual(healthy.findings, [])
      const stray = Path.join(world.home, "trees", "lost")
      Fs.mkdirSync(stray)
      const { findings } = yield* slipway.doctor
      assert.deepStrictEqual(findings.map(({ evidence }) => evidence), [
        `${stray} is the working tree of no agent on record`
      ])
      return [agent.id]
    }))

  guarantee(
    "that waited its days in the trash goes with the next prune, and none before",
    (world) =>
      Effect.gen(function*() {
        const story = yield* worked(world, "echo x > ignored")
        assert.strictEqual((yield* pruned(story)).problems, "")
        const waiting = () => Fs.readdirSync(Path.join(world.home, "trash"))
        const inDays = (days: number) =>
          Effect.clockWith((clock) =>
            Effect.provideService(story.slipway.prune({ olderThan: 0 }), Clock.Clock, later(clock, days))
          )
        yield* inDays(6.9)
        assert.deepStrictEqual(waiting(), [story.agent.id])
        yield* inDays(7.1)
        assert.deepStrictEqual(waiting(), [])
      })
  )
})

describe("a tree is kept, with its agent and the reason,", () => {
  const reasons: ReadonlyArray<readonly [what: string, script: string, reason: string]> = [
    [
      "in the middle of a merge",
      `git checkout -qb x; echo x > file; ${commit} -am x; git checkout -q -; echo y > file; ${commit} -am y; git -c user.name=a -c user.email=a@b merge -q x`,
      "a merge is under way"
    ],
    ["with another repository in it", "git init -q inner", "another repository, inner"],
    [
      "that a person has locked",
      "git worktree unlock .; git worktree lock --reason mine .",
      "somebody has locked it (mine)"
    ],
    ["that was moved", "git worktree unlock .; git worktree move . ../../../moved", "moved to"],
    ["that was removed by hand", "rm -rf \"$PWD\"", "is missing"]
  ]
  for (const [what, script, reason] of reasons) {
    guarantee(what, (world) =>
      Effect.gen(function*() {
        const story = yield* worked(world, script)
        const before = Fs.existsSync(story.tree.tree)
        assert.include((yield* pruned(story, { dryRun: true })).problems, reason)
        const { problems } = yield* pruned(story)
        assert.include(problems, reason)
        assert.strictEqual(Fs.existsSync(story.tree.tree), before)
        assert.lengthOf(World.rows(world), 1)
        return [story.agent.id]
      }))
  }

  guarantee("as long as a process uses it; a dry run says so, and changes nothing", (world) =>
    Effect.gen(function*() {
      const story = yield* worked(world, "true")
      const user = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sleep", ["1000"], { cwd: story.tree.tree, stdio: "ignore", env: {} })),
        (child) => Effect.sync(() => void child.kill("SIGKILL"))
      )
      for (const dryRun of [true, false]) {
        assert.include((yield* pruned(story, { dryRun })).problems, `in use by process ${user.pid}`)
        assert.isTrue(Fs.existsSync(Path.join(story.tree.tree, "file")))
      }
      yield* Effect.callback<void>((resume) => {
        user.once("close", () => resume(Effect.void))
        user.kill("SIGKILL")
      })
      assert.strictEqual((yield* pruned(story)).problems, "")
      assert.deepStrictEqual(Repository.traces(world), [])
    }))

  guarantee("as long as another agent works in it", (world) =>
    Effect.gen(function*() {
      const story = yield* worked(world, "true")
      const { agent: other } = yield* story.slipway.deploy(
        lasting(world, { type: "other", cwd: Path.join(story.tree.tree, "folder") })
      )
      assert.include((yield* pruned(story)).problems, `agent ${other.id} works in it`)
      yield* story.slipway.stop([other.id])
      assert.strictEqual((yield* pruned(story)).problems, "")
      assert.deepStrictEqual(Repository.traces(world), [])
      return World.rows(world).map(({ id }) => id)
    }))
})
