import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { canMount, disk, mount, useSandbox } from "./sandbox.ts"

const sandbox = useSandbox()

const deploy = ["deploy", "--prompt", "x", "--ready", "none", "--", "sleep", "1000"]

describe.skipIf(!canMount)("a disk", () => {
  it.live("with too little free space is reported with exit code 4 before anything is made", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* disk(box, "50m")
      const { code, value } = yield* box.json(deploy)
      assert.deepStrictEqual([code, value.error_tag, value.step], [4, "DiskFull", "preflight"])
      assert.deepStrictEqual(box.directories(), [])
      assert.deepStrictEqual(box.rows(), [])
    }))

  it.live("that can't be written is reported with exit code 4, and the registry stays as it is", () =>
    Effect.gen(function*() {
      const box = yield* sandbox
      yield* disk(box, "300m")
      assert.strictEqual((yield* box.json(["task", "list"])).code, 0)
      const registry = Path.join(box.home, "registry.db")
      const before = Fs.readFileSync(registry)
      assert.isTrue(mount("-o", "remount,ro", box.home))
      const { code, value } = yield* box.json(deploy)
      assert.strictEqual(code, 4, JSON.stringify(value))
      assert.isFalse(value.success)
      assert.include(value.error, "read-only")
      assert.isTrue(Fs.readFileSync(registry).equals(before))
      assert.deepStrictEqual(box.directories(), [])
    }))
})
