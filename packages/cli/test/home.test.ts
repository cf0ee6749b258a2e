import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { canMount, mount, type Sandbox, until, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const sleeping = (type: string) => ["deploy", "--type", type, "--prompt", "x", "--ready", "none", "--", "sleep", "1000"]

describe("slipway home", () => {
  it.live("shows the home and its limits, also where 'show' is left out", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { code, value } = yield* box.json(["home"])
      assert.strictEqual(code, 0)
      assert.deepStrictEqual(value, {
        success: true,
        home_id: box.homeId,
        directory: box.home,
        registry: Path.join(box.home, "registry.db"),
        tmux_socket: Path.join(box.home, "tmux.sock"),
        limits: { max_active: 1000 }
      })
      assert.deepStrictEqual((yield* box.json(["home", "show"])).value, value)
      const { stdout } = yield* box.run(["home"], { env: { SLIPWAY_MAX_ACTIVE: "3" } })
      for (const text of [box.home, box.homeId ?? "", "max-active  1000 (3 for what is deployed from here"]) {
        assert.include(stdout, text)
      }
    }))

  it.live(
    "changes how many agents may be active, for the very next deployment, whoever deploys",
    () =>
      Effect.gen(function*() {
        const box = yield* sandbox
        assert.strictEqual((yield* box.run(sleeping("one"))).code, 0)
        const changed = yield* box.json(["home", "set", "max-active", "1"])
        assert.deepStrictEqual([changed.code, changed.value.limits], [0, { max_active: 1 }])
        const refused = yield* box.json(sleeping("two"), { env: { SLIPWAY_MAX_ACTIVE: "50" } })
        assert.deepStrictEqual([refused.code, refused.value.error_tag], [3, "HomeFull"])
        assert.include(refused.value.error, "slipway home set max-active")
        const { code, stdout } = yield* box.run(["home", "set", "max-active", "2"])
        assert.deepStrictEqual([code, stdout], [0, "This home allows 2 active agents at once.\n"])
        assert.strictEqual((yield* box.run(sleeping("two"))).code, 0)
      }),
    60_000
  )

  it.live("refuses what is no number of agents, and then makes no home", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      for (const n of ["0", "-1", "1.5", "many", "1000001", ""]) {
        const { code, value } = yield* box.json(["home", "set", "max-active", "--", n])
        assert.deepStrictEqual([n, code, value.error_tag], [n, 2, "InvalidLimit"])
      }
      const byVariable = yield* box.json(["ps"], { env: { SLIPWAY_MAX_ACTIVE: "none" } })
      assert.deepStrictEqual([byVariable.code, byVariable.value.error_tag], [2, "InvalidLimit"])
      assert.include(byVariable.value.error, "SLIPWAY_MAX_ACTIVE")
      assert.isFalse(Fs.existsSync(box.home))
    }), 60_000)
})

describe("SLIPWAY_MAX_ACTIVE", () => {
  /** An agent that deploys three more, by the command that is under test. */
  const boss = (box: Sandbox) => {
    const command = `"${process.execPath}" -- "${box.bin}"`
    return `for i in 1 2 3; do ${command} deploy --type kid$i --prompt x --ready none -- sleep 1000 || echo refused; done
      echo over; exec sleep 1000`
  }

  it.live("of whoever makes the home holds for what its agents deploy as well", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      const { agent_id, log_file } = yield* box.deploy(boss(box), ["--type", "boss"], {
        env: { SLIPWAY_MAX_ACTIVE: "2" }
      })
      yield* until("the boss is done", () => Fs.readFileSync(log_file, "utf8").includes("over"))
      const { value } = yield* box.json(["ps"])
      assert.strictEqual(value.agents.length, 2)
      assert.match(Fs.readFileSync(log_file, "utf8"), /refused\nrefused\nover/)
      assert.include(value.agents.map((agent: { readonly agent_id: string }) => agent.agent_id), agent_id)
    }), 60_000)
})

describe("a home that can't be made", () => {
  it.live("is told with exit code 4, and nothing is made", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      Fs.writeFileSync(box.path("file"), "")
      const home = box.path("file/far/below")
      const { code, value } = yield* box.json(["ps"], { env: { SLIPWAY_HOME: home } })
      assert.deepStrictEqual([code, value.error_tag], [4, "HomeUnusable"])
      assert.include(value.error, home)
      assert.deepStrictEqual(Fs.readdirSync(box.project), ["file"])
    }))
})

describe.skipIf(!canMount)("a project that is read-only", () => {
  it.live("is named with exit code 4, and nothing is deployed", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      assert.isTrue(mount("-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", box.project))
      yield* Effect.addFinalizer(() => Effect.sync(() => spawnSync("umount", ["-l", box.project])))
      const { code, value } = yield* box.json(sleeping("one"))
      assert.deepStrictEqual([code, value.error_tag], [4, "WorkspaceUnusable"])
      assert.include(value.error, `the project ${box.project}`)
      assert.include(value.error, "--project")
      assert.notInclude(value.error, "home")
      assert.deepStrictEqual(box.directories(), [])
    }))
})
