/**
 * Run by a test as a process of its own, on the world at a root and by the git that stands first on the PATH: deploys one
 * agent with a tree, or prunes. It tells its pid in a file before it begins, so that this git can kill it.
 */
import { Slipway } from "@slipway/core"
import { Effect, Logger } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import * as World from "./World.ts"

const [root = "", what = "deploy", type = "worker"] = process.argv.slice(2)

const world: World.World = {
  root,
  home: Path.join(root, "home"),
  project: Path.join(root, "project"),
  socket: Path.join(root, "home", "tmux.sock")
}
Fs.writeFileSync(Path.join(root, "pid"), String(process.pid))

const program = Effect.gen(function*() {
  const slipway = yield* Slipway
  if (what === "prune") yield* slipway.prune({ olderThan: 0 })
  else {
    yield* slipway.deploy({
      project: world.project,
      prompt: "work",
      type,
      agent: World.shell("exec sleep 1000"),
      ready: "none",
      worktree: {}
    })
  }
  process.stdout.write("done\n")
}).pipe(
  Effect.provide([
    World.layer(world, {
      caller: World.caller(world, { PATH: `${Path.join(root, "bin")}:${process.env["PATH"]}` }),
      transport: "process"
    }),
    Logger.layer([])
  ])
)

Effect.runPromise(program).catch((error: unknown) => process.stdout.write(`failed ${String(error)}\n`))
