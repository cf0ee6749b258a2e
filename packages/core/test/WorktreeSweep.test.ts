/**
 * A deployer that is killed with SIGKILL at any step of the making of a tree, and git with it in the middle of its work or
 * left to go on alone: one reap leaves nothing of it, and no next make is held up by what it left until then.
 */
import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { runModule } from "./children.ts"
import * as Repository from "./support/Repository.ts"
import { guarantee, open } from "./support/Scenario.ts"
import * as World from "./support/World.ts"

const whole = process.env["SLIPWAY_SWEEP"] === "whole"
const hasStrace = spawnSync("strace", ["-V"]).status === 0

/** Where the deployer is killed: at a call of git, by its first word and those behind. */
interface Point {
  readonly call: "update-ref" | "worktree" | "reset"
  /**
   * `before` git has begun; `after` it has ended; `alone` while it is at work, which it goes on with; a number: git is
   * killed too, at that one of its writes and changes to directories.
   */
  readonly at: "before" | "after" | "alone" | number
}

const changes = "mkdir,rename,unlink,write"

/** How many changes to files git makes in each call; it is killed at each, or at some. */
const mostChanges: Record<Point["call"], number> = { "update-ref": 6, worktree: 10, reset: 12 }

const calls = ["update-ref", "worktree", "reset"] as const

// What goes on alone comes last, so that the reap meets it.
const points: ReadonlyArray<Point> = [
  ...calls.flatMap((call): ReadonlyArray<Point> => [{ call, at: "before" }, { call, at: "after" }]),
  ...calls.flatMap((call) =>
    Array.from({ length: hasStrace ? mostChanges[call] : 0 }, (_, index): Point => ({ call, at: index + 1 }))
      .filter(({ at }) => whole || Number(at) % 4 === 3)
  ),
  ...calls.map((call): Point => ({ call, at: "alone" }))
]

/** A git that kills its deployer at the point, whose two words are in the file `point`. */
const fakeGit = (world: World.World) => {
  const real = spawnSync("sh", ["-c", "command -v git"], { encoding: "utf8" }).stdout.trim()
  const bin = Path.join(world.root, "bin")
  Fs.mkdirSync(bin)
  Fs.writeFileSync(
    Path.join(bin, "git"),
    `#!/bin/sh
read -r call at < '${world.root}/point'
found=
for word; do [ "$word" = "$call" ] && found=1; done
[ -n "$found" ] || exec '${real}' "$@"
end() { kill -KILL "$(cat '${world.root}/pid')"; echo "$call $at" >> '${world.root}/struck'; }
case $at in
before) end; exit 1 ;;
after) '${real}' "$@"; end; exit 1 ;;
alone) end; sleep 20; exec '${real}' "$@" ;;
*) strace -f -qq -o /dev/null -e trace=${changes} -e inject=${changes}:signal=KILL:when=$at '${real}' "$@"; end; exit 1 ;;
esac
`,
    { mode: 0o755 }
  )
}

describe("a deployer that is killed while it makes a tree", () => {
  guarantee(
    "leaves nothing after one reap, and holds up no other make, whatever git was at",
    (world) =>
      Effect.gen(function*() {
        Repository.init(world)
        fakeGit(world)
        for (const [index, { at, call }] of points.entries()) {
          Fs.writeFileSync(Path.join(world.root, "point"), `${call} ${at}\n`)
          const child = yield* runModule("support/treeProgram.ts", [world.root, "deploy", `type${index}`])
          yield* child.ended
          assert.notInclude(child.lines.join(), "failed", `${call} ${at}`)
        }
        const struck = Fs.readFileSync(Path.join(world.root, "struck"), "utf8").split("\n").slice(0, -1)
        assert.deepStrictEqual(struck, points.map(({ at, call }) => `${call} ${at}`))

        const slipway = yield* open(world)
        yield* slipway.reap(yield* slipway.reapPlan)
        assert.deepStrictEqual(yield* slipway.agents({ activeOnly: true }), [])
        assert.deepStrictEqual(Repository.traces(world), [])
        assert.strictEqual(Repository.git(world.project, "fsck", "--no-progress"), "")
        const { agent } = yield* slipway.deploy({
          project: world.project,
          prompt: "work",
          type: "last",
          agent: World.shell("git status --porcelain"),
          ready: "none",
          worktree: {}
        })
        yield* slipway.wait(agent.id)
        const told = Fs.readFileSync(Path.join(agent.plan.directory, "stdout.log"), "utf8")
        assert.strictEqual(told, "")
        yield* slipway.prune({ olderThan: 0 })
        assert.deepStrictEqual(Repository.traces(world), [])
      }),
    600_000
  )
})

/** A git, and the programs beside it, that count their calls and kill the pruner at one of them, the file `point` says how. */
const fakePrograms = (world: World.World) => {
  const bin = Path.join(world.root, "bin")
  Fs.mkdirSync(bin)
  for (const program of ["git", "cp", "find", "rm"]) {
    const real = spawnSync("sh", ["-c", `command -v ${program}`], { encoding: "utf8" }).stdout.trim()
    Fs.writeFileSync(
      Path.join(bin, program),
      `#!/bin/sh
echo x >> '${world.root}/calls'
read -r point at < '${world.root}/point'
[ "$(wc -l < '${world.root}/calls')" = "$point" ] || exec '${real}' "$@"
end() { kill -KILL "$(cat '${world.root}/pid')"; echo "$0 $*" > '${world.root}/struck'; }
case $at in
before) end "$@"; exit 1 ;;
after) '${real}' "$@"; end "$@"; exit 1 ;;
*) strace -f -qq -o /dev/null -e trace=${changes} -e inject=${changes}:signal=KILL:when=$at '${real}' "$@"; end "$@"; exit 1 ;;
esac
`,
      { mode: 0o755 }
    )
  }
}

const commit = "git -c user.name=a -c user.email=a@b commit -q"
const work = [
  `echo kept > kept; git add kept; ${commit} -m kept`,
  `echo lost > lost; git add lost; ${commit} -m reset-away; git reset -q --hard HEAD^`,
  "echo staged > file; git add file; echo changed > file; echo new > untracked; echo no > ignored"
].join("\n")

describe("a prune that is killed while it removes a tree", () => {
  guarantee(
    "has lost nothing, and the next prune goes on from there",
    (world) =>
      Effect.gen(function*() {
        Repository.init(world)
        fakePrograms(world)
        const slipway = yield* open(world)
        const files = (name: string) => Path.join(world.root, name)
        const struck: Array<string> = []
        for (let index = 1;; index += whole ? 1 : 3) {
          const at = index % 2 === 0 ? "before" : index % 3 === 0 || !hasStrace ? "after" : "1"
          const { agent } = yield* slipway.deploy({
            project: world.project,
            prompt: "work",
            type: `type${index}`,
            agent: World.shell(work),
            ready: "none",
            worktree: {}
          })
          yield* slipway.wait(agent.id)
          for (const name of ["calls", "struck"]) Fs.rmSync(files(name), { force: true })
          Fs.writeFileSync(files("point"), `${index} ${at}\n`)
          const child = yield* runModule("support/treeProgram.ts", [world.root, "prune"])
          yield* child.ended
          const label = `${at} call ${index}: ${
            Fs.existsSync(files("struck")) ? Fs.readFileSync(files("struck"), "utf8") : "none"
          }`
          const said = yield* slipway.prune({ olderThan: 0 })
          assert.deepStrictEqual(said.flatMap(({ problems }) => problems), [], label)
          const saved = `refs/slipway/${agent.id}/work`
          const show = (name: string) => Repository.git(world.project, "show", `${saved}:${name}`)
          assert.deepStrictEqual([show("file"), show("untracked"), show("kept")], ["changed", "new", "kept"], label)
          const subjects = Repository.git(world.project, "log", "--format=%s", saved)
          for (const subject of ["reset-away", "had staged"]) assert.include(subjects, subject, label)
          const waiting = Path.join(world.home, "trash", agent.id, "ignored")
          assert.strictEqual(Fs.readFileSync(waiting, "utf8"), "no\n", label)
          assert.deepStrictEqual(Repository.trees(world), [], label)
          assert.isFalse(Fs.existsSync(Path.join(world.project, ".git", "worktrees")), label)
          if (child.lines.includes("done")) break
          struck.push(label)
        }
        assert.isAbove(struck.length, 4)
      }),
    600_000
  )
})
