import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { createHash } from "node:crypto"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const registryOf = (box: Sandbox) => Path.join(box.home, "registry.db")

const garbage = "this is no database, but it is somebody's file\n".repeat(100)

/** Every file of the home, by name and content. */
const contents = (box: Sandbox) =>
  Fs.readdirSync(box.home, { recursive: true, encoding: "utf8" }).toSorted().map((name) => {
    const path = Path.join(box.home, name)
    const file = Fs.lstatSync(path)
    return [name, file.ino, file.isFile() ? createHash("sha256").update(Fs.readFileSync(path)).digest("hex") : ""]
  })

/** An agent that ended, one that runs, and a deployment whose deployer was killed. */
const populate = Effect.fnUntraced(function*(box: Sandbox) {
  const { agent_id: ended } = yield* box.deploy("exit 3", ["--type", "ended"])
  assert.strictEqual((yield* box.run(["wait", ended])).code, 8)
  const { agent_id: running } = yield* box.deploy("exec sleep 1000", ["--type", "running"])
  const up = box.path("up")
  const script = `touch '${up}'; exec sleep 1000`
  const flags = ["--prompt", "x", "--type", "dead", "--ready-within", "60s"]
  const deployer = yield* box.start(["deploy", ...flags, "--", "sh", "-c", script])
  yield* until("the agent", () => Fs.existsSync(up))
  yield* deployer.signal("SIGKILL")
  yield* deployer.result
  const dead = box.rows().find(({ status }) => status === "deploying")?.id ?? ""
  return { ended, running, dead }
})

describe("rebuild", () => {
  it.live("a damaged registry is refused with the name of the command, set aside, and made anew", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { dead, ended, running } = yield* populate(box)
      Fs.writeFileSync(registryOf(box), garbage)
      for (const suffix of ["-wal", "-shm"]) Fs.rmSync(`${registryOf(box)}${suffix}`, { force: true })
      for (const args of [["ps"], ["stop", "--all"], ["reap"], ["doctor"]]) {
        const { code, value } = yield* box.json(args)
        assert.deepStrictEqual([code, value.error_tag], [4, "RegistryCorrupt"], args[0])
        assert.include(value.error, "'slipway rebuild'")
      }

      const before = contents(box)
      const dry = yield* box.json(["rebuild", "--dry-run"])
      assert.deepStrictEqual([dry.code, dry.value.rebuilt, dry.value.dry_run], [0, false, true])
      const human = yield* box.run(["rebuild", "--dry-run"])
      assert.include(human.stdout, "Would restore 1 task and 3 agents.")
      assert.deepStrictEqual(contents(box), before)

      const { code, value } = yield* box.json(["rebuild"])
      assert.deepStrictEqual([code, value.success, value.rebuilt, value.problems], [0, true, true, []])
      assert.strictEqual(Fs.readFileSync(value.set_aside, "utf8"), garbage)
      assert.lengthOf(value.tasks, 1)
      const told: ReadonlyArray<{ readonly agent_id: string; readonly status: string; readonly source: string }> =
        value.agents
      assert.sameDeepMembers(told.map(({ agent_id, source, status }) => [agent_id, status, source]), [
        [ended, "exited", "entry"],
        [running, "running", "entry"],
        [dead, "ending", "directory"]
      ])

      const again = yield* box.json(["rebuild"])
      assert.deepStrictEqual([again.code, again.value.error_tag], [3, "RegistryHealthy"])

      assert.strictEqual((yield* box.json(["reap"])).code, 0)
      assert.strictEqual((yield* box.json(["doctor"])).value.healthy, true)
      assert.deepStrictEqual(box.sessions(), [`agent_${running}`])
      assert.notInclude(box.directories(), dead)
      assert.deepInclude((yield* box.json(["show", ended])).value.exit, { code: 3, outcome: "failure" })
      assert.strictEqual((yield* box.json(["wait", ended])).code, 8)
      assert.strictEqual((yield* box.json(["stop", running])).code, 0)
      const shown = yield* box.run(["show", running])
      assert.include(shown.stdout, "rebuilt from its task entry")
    }))

  it.live("it is refused while a command has the registry open, and finds the projects that it is given", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { agent_id: running } = yield* box.deploy("exec sleep 1000")
      const watch = yield* box.start(["wait", running])
      const open = () =>
        Fs.readdirSync(`/proc/${watch.child.pid}/fd`).some((name) => {
          try {
            return Fs.readlinkSync(`/proc/${watch.child.pid}/fd/${name}`) === registryOf(box)
          } catch {
            return false
          }
        })
      yield* until("the registry is open", open)
      // Stopped, it has the file open as long as it is asked for, whatever it would do about the loss of it.
      yield* watch.signal("SIGSTOP")
      Fs.rmSync(registryOf(box))
      const refused = yield* box.json(["rebuild"])
      assert.deepStrictEqual([refused.code, refused.value.error_tag], [3, "RegistryInUse"])
      assert.include(refused.value.error, String(watch.child.pid))
      yield* watch.signal("SIGKILL")
      yield* watch.result

      const nowhere = yield* box.json(["rebuild", "--project", "/nowhere"])
      assert.deepStrictEqual([nowhere.code, nowhere.value.error_tag], [2, "InvalidRequest"])
      assert.include(
        nowhere.value.error,
        "--project: expected a directory to search for tasks, and there is none at /nowhere"
      )
      // Its launcher names the workspace, whatever directory the command runs in.
      const { code, value } = yield* box.json(["rebuild", "--project", box.directory, "--project", box.project], {
        cwd: box.directory
      })
      assert.deepStrictEqual([code, value.set_aside, value.agents.length], [0, null, 1])
      assert.strictEqual((yield* box.json(["stop", "--all"])).code, 0)
    }))

  it.live("in a home that was moved, rows lead to where it is now", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { agent_id: ended } = yield* box.deploy("echo result")
      assert.strictEqual((yield* box.run(["wait", ended])).code, 0)
      const gone = box.path("gone")
      Fs.cpSync(box.home, gone, { recursive: true, filter: (path) => !Fs.lstatSync(path).isSocket() })
      // The home comes back on another disk, and has another path while it does.
      const env = { SLIPWAY_HOME: gone }
      Fs.renameSync(box.home, box.path("old"))
      const { code, value } = yield* box.json(["rebuild"], { env })
      assert.deepStrictEqual([code, value.problems, value.agents[0].source], [0, [], "row"])
      assert.strictEqual((yield* box.run(["logs", ended], { env })).stdout, "result\n")
      assert.strictEqual((yield* box.run(["reap"], { env })).code, 0)
      assert.strictEqual((yield* box.json(["prune", "--older-than", "0s"], { env })).code, 0)
      assert.deepStrictEqual(Fs.readdirSync(Path.join(gone, "agents")), [])
      Fs.rmSync(gone, { recursive: true })
      Fs.renameSync(box.path("old"), box.home)
    }))

  it.live("there is nothing to rebuild where there is no home", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { code, value } = yield* box.json(["rebuild"])
      assert.deepStrictEqual([code, value.error_tag], [4, "HomeUnusable"])
      assert.isFalse(Fs.existsSync(box.home))
    }))
})
