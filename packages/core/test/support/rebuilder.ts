/**
 * Run by a test as a process of its own: rebuilds the registry of the world at a root, and ends itself with SIGKILL right
 * before the change to files of a given number. Says `done` when it was not reached. Given an index, it first waits to be told.
 */
import { Effect, Layer, Logger } from "effect"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { Home } from "../../src/home/Home.ts"
import { Files } from "../../src/machine/Files.ts"
import { Rebuild } from "../../src/rebuild/Rebuild.ts"
import { machine } from "../../src/Services.ts"
import * as World from "./World.ts"

const [root = "", last = "0", index] = process.argv.slice(2)

const world: World.World = {
  root,
  home: Path.join(root, "home"),
  project: Path.join(root, "project"),
  socket: Path.join(root, "home", "tmux.sock")
}
const caller = World.caller(world)

let changes = 0
const counted = <Args extends ReadonlyArray<unknown>, A, E>(change: (...args: Args) => Effect.Effect<A, E>) =>
(
  ...args: Args
) =>
  Effect.suspend(() => {
    if (changes++ === Number(last)) process.kill(process.pid, "SIGKILL")
    return change(...args)
  })

const killing = Layer.effect(
  Files,
  Effect.map(Files, (files) =>
    Files.of({
      ...files,
      createFile: counted(files.createFile),
      replaceFile: counted(files.replaceFile),
      link: counted(files.link),
      removeFile: (path) => Fs.existsSync(path) ? counted(files.removeFile)(path) : files.removeFile(path)
    }))
)

const services = killing.pipe(Layer.provideMerge(machine({ caller })))
const program = Effect.flatMap(Rebuild, ({ run }) => run()).pipe(
  Effect.provide([
    Rebuild.layerNoDeps({ caller }).pipe(
      Layer.provide(Home.reopen({ directory: world.home })),
      Layer.provide(services)
    ),
    Logger.layer([])
  ])
)

if (index !== undefined) {
  process.stdout.write("ready\n")
  await new Promise((resolve) => process.stdin.once("data", resolve))
  process.stdin.destroy()
}

Effect.runPromise(program).then(
  () => process.stdout.write("done\n"),
  (error: unknown) => process.stdout.write(`failed ${String(error)}\n`)
)
