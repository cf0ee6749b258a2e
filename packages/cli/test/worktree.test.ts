/**
 * `deploy --worktree`, `diff`, `land` and `prune`, as a script meets them: one JSON value, and the exit code.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { type Sandbox, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const person = ["-c", "user.name=person", "-c", "user.email=person@localhost"]

const git = (cwd: string, ...args: ReadonlyArray<string>): string => {
  const { status, stderr, stdout } = spawnSync("git", [...person, ...args], { cwd, encoding: "utf8" })
  assert.strictEqual(status, 0, stderr)
  return stdout.trim()
}

const init = (box: Sandbox) => {
  git(box.project, "init", "--quiet", "--initial-branch=main")
  Fs.writeFileSync(box.path("file"), "one\n")
  Fs.writeFileSync(box.path(".gitignore"), ".slipway\n")
  git(box.project, "add", ".")
  git(box.project, "commit", "-qm", "first")
}

const worked = (box: Sandbox, script: string, flags: ReadonlyArray<string> = []) =>
  Effect.tap(
    box.deploy(script, ["--worktree", ...flags]),
    ({ agent_id }) => box.run(["wait", agent_id, "--timeout", "30s"])
  )

const commit = "git -c user.name=a -c user.email=a@b commit -q"

describe("an agent's own working tree", () => {
  it.live("is deployed, shown as a patch, landed and pruned by four commands that say what they did", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      init(box)
      const base = git(box.project, "rev-parse", "HEAD")
      const { agent_id: id, worktree } = yield* worked(box, `echo two > file; ${commit} -am work; echo new > new`, [
        "--branch",
        "topic",
        "--base",
        "main"
      ])
      assert.deepStrictEqual({ branch: worktree.branch, base: worktree.base }, { branch: "topic", base })
      assert.deepStrictEqual((yield* box.json(["show", id])).value.worktree, worktree)

      const patch = yield* box.run(["diff", id])
      assert.strictEqual(patch.code, 0)
      assert.match(patch.stdout, /^diff --git [^]*\+two\n[^]*\+new\n$/)
      assert.deepInclude((yield* box.json(["diff", id])).value, { agent_id: id, base, patch: patch.stdout })

      const dirty = yield* box.json(["land", id, "--onto", "main"])
      assert.deepInclude(dirty.value, { success: false, error_tag: "LandRefused" })
      assert.strictEqual(dirty.code, 3)
      Fs.rmSync(`${worktree.path}/new`)
      const failing = yield* box.run(["land", id, "--onto", "main", "--check", "exit 9"])
      assert.strictEqual(failing.code, 3)
      assert.include(failing.stderr, "exit code 9")
      assert.strictEqual(git(box.project, "rev-parse", "main"), base)
      const landed = yield* box.json(["land", id, "--onto", "main", "--check", "grep -q two file"])
      assert.strictEqual(landed.code, 0, landed.stderr)
      assert.deepInclude(landed.value, { success: true, how: "fast-forward", onto: "main", tree: box.project })
      assert.strictEqual(Fs.readFileSync(box.path("file"), "utf8"), "two\n")

      const dry = yield* box.run(["prune", "--older-than", "0s", "--dry-run"])
      assert.include(dry.stdout, `${id}: its tree can go: nothing in it is changed`)
      const pruned = yield* box.json(["prune", "--older-than", "0s"])
      assert.strictEqual(pruned.code, 0)
      assert.include(pruned.value.agents[0].worktree.why, "branch topic stays with 1 commit")
      assert.isFalse(Fs.existsSync(worktree.path))
    }))

  it.live("that is in conflict is not landed (3), and one that is kept is named with the reason (6); both stay", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      init(box)
      const { agent_id: id, worktree } = yield* worked(box, `echo two > file; ${commit} -am work; git init -q inner`)
      git(box.project, "commit", "--allow-empty", "-qm", "else")
      Fs.writeFileSync(box.path("file"), "mine\n")
      git(box.project, "commit", "-qam", "mine")
      Fs.renameSync(`${worktree.path}/inner`, `${box.directory}/inner`)
      const conflict = yield* box.run(["land", id, "--onto", "main"])
      assert.strictEqual(conflict.code, 3)
      assert.include(conflict.stderr, "(file)")
      assert.strictEqual(git(box.project, "log", "-1", "--format=%s", "main"), "mine")
      Fs.renameSync(`${box.directory}/inner`, `${worktree.path}/inner`)
      const kept = yield* box.run(["prune", "--older-than", "0s"])
      assert.strictEqual(kept.code, 6)
      assert.include(kept.stderr, "another repository, inner")
      assert.strictEqual(Fs.readFileSync(`${worktree.path}/file`, "utf8"), "two\n")
    }))

  it.live("is refused with the right code, and nothing is made", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const deploy = (...flags: ReadonlyArray<string>) =>
        box.json(["deploy", ...flags, "--", "true"], { stdin: "prompt" })
      assert.strictEqual((yield* deploy("--base", "main")).code, 2)
      const outside = yield* deploy("--worktree")
      assert.deepStrictEqual([outside.code, outside.value.error_tag], [2, "WorktreeRefused"])
      init(box)
      const taken = yield* deploy("--worktree", "--branch", "main")
      assert.deepStrictEqual([taken.code, taken.value.error_tag], [3, "BranchTaken"])
      yield* box.assertNothingLeft
      const { agent_id: id } = yield* box.deploy("true")
      assert.isNull((yield* box.json(["show", id])).value.worktree)
      assert.strictEqual((yield* box.json(["land", id, "--onto", "main"])).code, 7)
    }))
})
