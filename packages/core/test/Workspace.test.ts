import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as Workspace from "../src/agent/Workspace.ts"
import { FileError, Files, layer } from "../src/machine/Files.ts"
import { makeTask, scratch } from "./rows.ts"
import { asOrdinaryUser } from "./support/OrdinaryUser.ts"

const directories = scratch("workspace")
afterAll(() => assert.deepStrictEqual(directories.left(), []))

const homeId = "0123456789ab"

const ensured = (project: string) => Effect.flatMap(Workspace.make, (ensure) => ensure(makeTask({ project }), homeId))

const test = <A, E>(title: string, body: (project: string) => Effect.Effect<A, E, Files>) =>
  it.live(title, () => Effect.provide(Effect.flatMap(directories.make, body), layer))

describe("a project in which no workspace can be made", () => {
  test("is named with what to do, where its user may not write to it", (project) =>
    Effect.gen(function*() {
      Fs.chmodSync(project, 0o555)
      const error = yield* Effect.flip(asOrdinaryUser(ensured(project)))
      assert.deepInclude(error, { _tag: "WorkspaceUnusable", project, code: "EACCES" })
      assert.include(error.message, project)
      assert.include(error.message, "--project")
      assert.notInclude(error.message, "home")
      assert.deepStrictEqual(Fs.readdirSync(project), [])
      Fs.chmodSync(project, 0o700)
    }))

  test("is named with what to do, where its file system is read-only", (project) =>
    Effect.gen(function*() {
      const files = yield* Files
      const readOnly = Files.of({
        ...files,
        makeDirectory: (path) => Effect.fail(new FileError({ operation: "make the directory", path, code: "EROFS" }))
      })
      const error = yield* ensured(project).pipe(
        Effect.provideService(Files, readOnly),
        Effect.flip
      )
      assert.deepInclude(error, { _tag: "WorkspaceUnusable", project, code: "EROFS" })
      assert.match(error.message, /read-only.*--project/)
      assert.notInclude(error.message, "home")
    }))

  test("is named, where a link stands in the way, which it is told to replace", (project) =>
    Effect.gen(function*() {
      Fs.symlinkSync("/nowhere", Path.join(project, ".slipway"))
      const error = yield* Effect.flip(ensured(project))
      assert.deepInclude(error, { project, code: "ELOOP" })
      assert.include(error.message, Path.join(project, ".slipway"))
    }))
})
