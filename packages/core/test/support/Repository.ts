/**
 * A real repository of git in a test's world, and what it holds: branches, trees, and what a killed git may leave.
 */
import { assert } from "@effect/vitest"
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import type * as World from "./World.ts"

const environment = {
  PATH: process.env["PATH"],
  LC_ALL: "C",
  GIT_AUTHOR_NAME: "person",
  GIT_AUTHOR_EMAIL: "person@localhost",
  GIT_COMMITTER_NAME: "person",
  GIT_COMMITTER_EMAIL: "person@localhost"
}

/** What git answers in a directory; fails the test when git does. */
export const git = (cwd: string, ...args: ReadonlyArray<string>): string => {
  const { status, stderr, stdout } = spawnSync("git", args, { cwd, env: environment, encoding: "utf8" })
  if (status !== 0) assert.fail(`git ${args.join(" ")}: ${stderr}`)
  return stdout.replace(/\n$/, "")
}

/** Makes the world's project a repository with one commit: a file, a folder, and a list of what is ignored. */
export const init = (world: World.World) => {
  const { project } = world
  git(project, "init", "--quiet", "--initial-branch=main")
  Fs.writeFileSync(Path.join(project, "file"), "one\n")
  Fs.mkdirSync(Path.join(project, "folder"))
  Fs.writeFileSync(Path.join(project, "folder", "deep"), "deep\n")
  Fs.writeFileSync(Path.join(project, ".gitignore"), "ignored\n.slipway\n")
  git(project, "add", ".")
  git(project, "commit", "--quiet", "-m", "first")
}

/** Every reference, with its commit. */
export const refs = (world: World.World): ReadonlyArray<string> =>
  git(world.project, "for-each-ref", "--format=%(refname)").split("\n")

/** What stands of trees in the home. */
export const trees = (world: World.World): ReadonlyArray<string> => {
  const directory = Path.join(world.home, "trees")
  return Fs.existsSync(directory) ? Fs.readdirSync(directory) : []
}

/** What a make or a removal that was cut off may leave in the repository; empty when it is as a person left it. */
export const traces = (world: World.World): ReadonlyArray<string> => {
  const common = Path.join(world.project, ".git")
  const names = Fs.readdirSync(common, { recursive: true, encoding: "utf8" })
  return [
    ...names.filter((name) => name.endsWith(".lock") || name.startsWith("worktrees") || name.startsWith("slipway-")),
    ...names.filter((name) => name.startsWith("refs/heads/slipway") || name.startsWith("logs/refs/heads/slipway")),
    ...refs(world).filter((ref) => ref !== "refs/heads/main"),
    ...trees(world).map((name) => `tree ${name}`)
  ]
}
