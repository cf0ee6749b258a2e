/**
 * What the proof costs: `slipway.stop` of an agent that ends at TERM, from the call to the proof that nothing of it is
 * left. Beside it: a bare `tmux kill-session` process on a session that runs the same program. The bare one answers
 * before the processes have ended. The last line adds the wait until they have, which a caller that wants to know would
 * have to do.
 */
import { type DeployInput } from "@slipway/core"
import { Effect } from "effect"
import * as Fs from "node:fs"
import { join } from "node:path"
import { atMost, compare, interleave, line, timed } from "./Measure.ts"
import * as Place from "./Place.ts"

const script = "echo up; exec sleep 100000"

const lives = (pid: number): boolean => {
  try {
    const stat = Fs.readFileSync(`/proc/${pid}/stat`, "latin1")
    return !stat.slice(stat.lastIndexOf(")") + 2).startsWith("Z")
  } catch {
    return false
  }
}

const until = (done: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => done() ? Effect.void : Effect.andThen(Effect.sleep("1 millis"), until(done)))

export const cost = Effect.fnUntraced(function*(place: Place.Place, scale: number) {
  const control = yield* Place.open(place, "control", { transport: "control" })
  const process = yield* Place.open(place, "process", { transport: "process" })
  const stopped = Effect.fnUntraced(function*(opened: Place.Opened) {
    const request: DeployInput = {
      ...Place.sleeper(opened),
      agent: { kind: "command", argv: ["sh", "-c", script] },
      ready: "output",
      readyWithin: 20_000
    }
    const { agent } = yield* opened.slipway.deploy(request)
    const [millis] = yield* timed(opened.slipway.stop([agent.id]))
    const { state } = yield* opened.slipway.agent(agent.id)
    return state._tag === "stopped" ? millis : yield* Effect.die(`the agent is ${state._tag}`)
  })
  const proven: Array<number> = []
  const samples = yield* interleave({
    kill: Effect.fnUntraced(function*(round: number) {
      const log = join(place.root, `kill-${round}.log`)
      const program = `(${script}) </dev/null >'${log}' 2>&1; exit`
      const start = ["new-session", "-d", "-s", "kill", "-P", "-F", "#{pane_pid}", "--", "/bin/sh", "-c", program]
      const pid = Number(place.tmux(...start))
      yield* until(() => Fs.existsSync(log) && Fs.statSync(log).size > 0)
      const [whole, kill] = yield* timed(Effect.gen(function*() {
        const [kill] = yield* timed(Effect.sync(() => place.tmux("kill-session", "-t", "=kill")))
        yield* until(() => !lives(pid))
        return kill
      }))
      proven.push(whole)
      return kill
    }),
    control: () => stopped(control),
    process: () => stopped(process)
  }, { rounds: 40 * scale, warmUps: 10 })
  const name = "the stop of an agent that ends at TERM"
  const base = line(name, "tmux kill-session (a process)", samples("kill"))
  return [
    base,
    compare(line(name, "slipway stop with proof, control mode", samples("control")), base, atMost(2)),
    compare(line(name, "slipway stop with proof, a process per call", samples("process")), base),
    compare(line(name, "kill-session, and a wait until it has ended", proven.slice(10)), base)
  ]
})
