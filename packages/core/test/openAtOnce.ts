/** Run by a test as a process of its own: opens a home, and tells its id and its socket. */
import { Effect, Layer } from "effect"
import { Home } from "../src/home/Home.ts"
import * as Files from "../src/machine/Files.ts"
import { Host } from "../src/machine/Host.ts"

const [directory = ""] = process.argv.slice(2)

const program = Effect.map(Home, (home) => `${home.id} ${home.socket}`).pipe(
  Effect.provide(Home.layer({ directory }).pipe(Layer.provide([Files.layer, Host.layer])))
)

process.stdin.once("data", () => {
  process.stdin.destroy()
  void Effect.runPromise(program).then((line) => process.stdout.write(`${line}\n`))
})
process.stdout.write("ready\n")
