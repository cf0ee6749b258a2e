/**
 * What a deployment costs through the library, by both transports, beside a bare `tmux new-session` process and beside
 * the same steps done by hand in a shell script. Also how many a second, and how the cost grows with rows and with live
 * sessions. Also how soon an agent that ends at once is known to have ended.
 */
import { Effect, Exit } from "effect"
import { spawn, spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import { join } from "node:path"
import { atLeast, atMost, compare, interleave, line, timed } from "./Measure.ts"
import * as Place from "./Place.ts"

const bare = "tmux new-session (a process)"

/** The agent's steps as a careful person would write them in sh: private files, a session, an entry by rename. */
const byHand = (place: Place.Place): string =>
  `umask 077
directory=${join(place.root, "by-hand")}/$1
mkdir -p "$directory"
printf '%s' 'the bench' >"$directory/prompt.md"
printf '#!/bin/sh\\nexec sleep 100000 <"%s/prompt.md" >>"%s/stdout.log" 2>>"%s/stderr.log"\\n' "$directory" "$directory" "$directory" >"$directory/launcher"
tmux -S ${place.bareSocket} -f /dev/null new-session -d -s "hand-$1" -- /bin/sh "$directory/launcher"
tmux -S ${place.bareSocket} has-session -t "=hand-$1"
printf '{"agent_id": "%s", "status": "running"}\\n' "$1" >"$directory/entry.json.tmp"
mv "$directory/entry.json.tmp" "$directory/entry.json"
`

/** Each subject's deployment is ended outside of the measured time. */
export const cost = Effect.fnUntraced(function*(place: Place.Place, scale: number) {
  const control = yield* Place.open(place, "control", { transport: "control" })
  const process = yield* Place.open(place, "process", { transport: "process" })
  const script = join(place.root, "by-hand.sh")
  Fs.writeFileSync(script, byHand(place))
  const deployed = Effect.fnUntraced(function*(opened: Place.Opened) {
    const [millis, { agent }] = yield* timed(opened.slipway.deploy(Place.sleeper(opened)))
    yield* opened.slipway.stop([agent.id])
    return millis
  })
  const samples = yield* interleave({
    bare: (round) =>
      Effect.map(
        timed(Effect.sync(() => place.tmux("new-session", "-d", "-s", `bare-${round}`, "--", "sleep", "100000"))),
        ([millis]) => {
          place.tmux("kill-session", "-t", `=bare-${round}`)
          return millis
        }
      ),
    hand: (round) =>
      Effect.map(timed(Effect.sync(() => spawnSync("sh", [script, String(round)]))), ([millis]) => {
        place.tmux("kill-session", "-t", `=hand-${round}`)
        return millis
      }),
    control: () => deployed(control),
    process: () => deployed(process)
  }, { rounds: 60 * scale, warmUps: 20 })
  const name = "one deployment, warm, ready: none"
  const base = line(name, bare, samples("bare"))
  return [
    base,
    compare(line(name, "library, control mode", samples("control")), base, atMost(1)),
    compare(line(name, "library, a process per call", samples("process")), base, atMost(1.6)),
    compare(line(name, "by hand in a shell script", samples("hand")), base)
  ]
})

const run = (command: string, args: ReadonlyArray<string>) =>
  Effect.callback<void>((resume) => {
    spawn(command, args, { stdio: "ignore" }).on("close", () => resume(Effect.void))
  })

/** So many deployments with so many in flight, beside a shell loop that starts as many sessions one after the other. */
export const throughput = Effect.fnUntraced(function*(place: Place.Place, scale: number) {
  const opened = yield* Place.open(place, "throughput", { transport: "control" })
  const each = 48
  const atOnce = (concurrency: number) =>
    Effect.fnUntraced(function*() {
      const [millis, ids] = yield* timed(Effect.forEach(
        Array.from({ length: each }),
        () => Effect.map(opened.slipway.deploy(Place.sleeper(opened)), ({ agent }) => agent.id),
        { concurrency }
      ))
      yield* opened.slipway.stop(ids)
      return each / millis * 1000
    })
  const loop =
    `for i in $(seq ${each}); do tmux -S ${place.bareSocket} -f /dev/null new-session -d -s loop-$i -- sleep 100000; done`
  const samples = yield* interleave({
    loop: () =>
      Effect.map(timed(run("sh", ["-c", loop])), ([millis]) => {
        for (let index = 1; index <= each; index++) place.tmux("kill-session", "-t", `=loop-${index}`)
        return each / millis * 1000
      }),
    one: atOnce(1),
    eight: atOnce(8),
    many: atOnce(32)
  }, { rounds: 5 * scale, warmUps: 1 })
  const name = `deployments per second, ${each} in a row`
  const base = line(name, "a shell loop of tmux new-session", samples("loop"), "/s")
  return [
    base,
    compare(line(name, "library, 1 in flight", samples("one"), "/s"), base),
    compare(line(name, "library, 8 in flight", samples("eight"), "/s"), base),
    compare(line(name, "library, 32 in flight", samples("many"), "/s"), base, atLeast(1))
  ]
})

const once = Effect.fnUntraced(function*(opened: Place.Opened) {
  const [millis, { agent }] = yield* timed(opened.slipway.deploy(Place.sleeper(opened)))
  yield* opened.slipway.stop([agent.id])
  return millis
})

/** The same deployment in homes whose registries hold more and more ended agents. */
export const rows = Effect.fnUntraced(function*(place: Place.Place, scale: number) {
  const homes = yield* Effect.forEach(
    [10, 1000, 10_000],
    (count) => Effect.tap(Place.open(place, `rows-${count}`), (opened) => Place.fill(opened, count))
  )
  const [few, some, many] = homes
  if (few === undefined || some === undefined || many === undefined) return []
  const samples = yield* interleave(
    { few: () => once(few), some: () => once(some), many: () => once(many) },
    { rounds: 60 * scale, warmUps: 20 }
  )
  const name = "one deployment, by what the registry holds"
  const base = line(name, "10 rows", samples("few"))
  return [
    base,
    compare(line(name, "1 000 rows", samples("some")), base),
    compare(line(name, "10 000 rows", samples("many")), base, atMost(1.1))
  ]
})

/** The same deployment on servers that run more and more agents. */
export const sessions = Effect.fnUntraced(function*(place: Place.Place, scale: number) {
  const homes = yield* Effect.forEach(
    [1, 100, 500],
    (count) => Effect.tap(Place.open(place, `live-${count}`), (opened) => Place.populate(opened, count))
  )
  const [few, some, many] = homes
  if (few === undefined || some === undefined || many === undefined) return []
  const empty = yield* Place.make
  for (let index = 0; index < 500; index++) {
    place.tmux("new-session", "-d", "-s", `live-${index}`, "--", "sleep", "100000")
  }
  const bareOn = ({ tmux }: Place.Place) => (round: number) =>
    Effect.map(
      timed(Effect.sync(() => tmux("new-session", "-d", "-s", `bare-${round}`, "--", "sleep", "100000"))),
      ([millis]) => {
        tmux("kill-session", "-t", `=bare-${round}`)
        return millis
      }
    )
  const samples = yield* interleave(
    {
      few: () => once(few),
      some: () => once(some),
      many: () => once(many),
      bareFew: bareOn(empty),
      bareMany: bareOn(place)
    },
    { rounds: 40 * scale, warmUps: 10 }
  )
  const name = "one deployment, by how many agents run"
  const base = line(name, "1 live session", samples("few"))
  const bareBase = line(name, "tmux new-session (a process), 1 live session", samples("bareFew"))
  return [
    base,
    compare(line(name, "100 live sessions", samples("some")), base),
    compare(line(name, "500 live sessions", samples("many")), base, atMost(1.3)),
    bareBase,
    compare(line(name, "tmux new-session (a process), 500 live sessions", samples("bareMany")), bareBase)
  ]
})

/** From the moment before an agent exits until its deployer, or the caller that waits for it, has the answer. */
export const exits = Effect.fnUntraced(function*(place: Place.Place, scale: number) {
  const opened = yield* Place.open(place, "exits")
  const stamp = join(place.root, "exit-stamp")
  // The agent's last act but one is to write the time, in nanoseconds.
  const program = `date +%s%N >${stamp}; exit`
  const since = Effect.sync(() =>
    performance.timeOrigin + performance.now() - Number(Fs.readFileSync(stamp, "utf8")) / 1e6
  )
  const request = (argv: readonly [string, ...Array<string>]) => ({
    ...Place.sleeper(opened),
    agent: { kind: "command", argv } as const,
    ready: "survive" as const,
    readyWithin: 10_000
  })
  const samples = yield* interleave({
    early: Effect.fnUntraced(function*() {
      const exit = yield* Effect.exit(opened.slipway.deploy(request(["sh", "-c", `sleep 0.05; ${program} 3`])))
      return Exit.isFailure(exit) ? yield* since : yield* Effect.die("the deployment came up")
    }),
    wait: Effect.fnUntraced(function*() {
      const { agent } = yield* opened.slipway.deploy({
        ...request(["sh", "-c", `sleep 0.3; ${program} 0`]),
        ready: "none"
      })
      yield* opened.slipway.wait(agent.id)
      return yield* since
    })
  }, { rounds: 20 * scale, warmUps: 3 })
  const name = "from an agent's last breath until it is known"
  return [
    line(name, "deploy fails, and everything is released", samples("early")),
    line(name, "wait answers, and the row is settled", samples("wait"))
  ]
})
