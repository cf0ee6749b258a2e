import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Schema } from "effect"
import { TestClock } from "effect/testing"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { parseEnviron, parseStat } from "../src/machine/processes/ProcFs.ts"
import { parsePs } from "../src/machine/processes/PsTable.ts"
import { ProcessTree, TerminateResult } from "../src/machine/ProcessTree.ts"
import {
  bearing,
  eventually,
  fakeSystem,
  identify,
  linux,
  lives,
  newAgentId,
  type Row,
  start,
  temporary
} from "./processes.ts"

const tree = ProcessTree.make(linux)

const membersOf = (agentId: string) =>
  Effect.map(tree.snapshot, (snapshot) => snapshot.members({ agentId, roots: [] }).members)

const assertDead = (result: TerminateResult) => {
  if (result._tag !== "Dead") assert.fail(`expected Dead, got ${JSON.stringify(result)}`)
  return result
}

/** Lets the test's clock run on, for what waits. */
const strangerOnTime = Effect.andThen(TestClock.adjust("1 second"), Effect.never)

const quick = { grace: "5 seconds", limit: "10 seconds" } as const
const stubborn = { grace: "50 millis", limit: "10 seconds" } as const

/** Opens a pipe of no name as descriptor 3, in which a child says that it runs. */
const pipe = `pipe=$(mktemp -u) && mkfifo "$pipe" && exec 3<>"$pipe" && rm "$pipe"`

describe("real processes", () => {
  it.live("a plain child ends by TERM alone and is proven dead", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { root } = yield* start({ agentId, script: "echo ready; exec sleep 300" })
      const result = yield* tree.terminate({ agentId, roots: [root], ...quick })
      assert.deepStrictEqual(assertDead(result), { _tag: "Dead", killed: 0, signalled: 1 })
      assert.isFalse(lives(root))
    }))

  it.live("a child that ignores TERM is killed after the grace", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { root } = yield* start({ agentId, script: "trap '' TERM; echo ready; while :; do sleep 300; done" })
      const result = assertDead(yield* tree.terminate({ agentId, roots: [root], ...stubborn }))
      assert.isAtLeast(result.killed, 2)
      assert.deepStrictEqual(yield* membersOf(agentId), [])
    }))

  it.live("a pid is the agent's only by its mark, which is waited for until its exec", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const later = newAgentId()
      // Keeps its pid, and changes its mark with an exec, as a session's first process does on a busy machine.
      const script = `echo ready; sleep 0.5; exec env SLIPWAY_AGENT_ID=${later} sleep 300`
      const { root } = yield* start({ agentId, script })
      assert.strictEqual((yield* tree.identify(root.pid, later, Duration.millis(20)))._tag, "Stranger")
      assert.deepStrictEqual(yield* tree.identify(root.pid, later, Duration.seconds(30)), {
        _tag: "Ours",
        identity: root
      })
      assert.strictEqual((yield* tree.identify(root.pid, agentId, Duration.millis(20)))._tag, "Stranger")
      assertDead(yield* tree.terminate({ agentId: later, roots: [root], ...quick }))
      assert.strictEqual((yield* tree.identify(root.pid, later, Duration.seconds(30)))._tag, "Gone")
    }))

  it.live("a stopped child takes its TERM", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { root } = yield* start({ agentId, script: "echo ready; kill -STOP $$; sleep 300" })
      yield* eventually(() => {
        const stat = linux.stat(root.pid)
        return typeof stat !== "string" && stat.state === "T"
      })
      const result = assertDead(yield* tree.terminate({ agentId, roots: [root], ...quick }))
      assert.strictEqual(result.killed, 0)
    }))

  it.live("a tool that left its session twice is found by its marker", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { named } = yield* start({
        agentId,
        script: "setsid setsid sh -c 'echo pid $$; echo ready; exec sleep 300'"
      })
      assert.strictEqual(named.length, 1)
      assertDead(yield* tree.terminate({ agentId, roots: [], ...quick }))
      assert.isFalse(named.some(lives))
    }))

  it.live("a reparented grandchild under nohup dies though its launcher is long gone", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { named, root } = yield* start({
        agentId,
        script: "(setsid nohup sleep 300 >/dev/null 2>&1 & echo pid $!); echo ready; exit 0"
      })
      yield* eventually(() => !lives(root))
      const [grandchild] = named
      assert.isTrue(grandchild !== undefined && lives(grandchild))
      assertDead(yield* tree.terminate({ agentId, roots: [root], ...quick }))
      assert.isFalse(named.some(lives))
    }))

  it.live("a chain that forks and exits is ended with its group before it runs out", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const directory = yield* temporary
      const script = Path.join(directory, "chain.sh")
      const count = Path.join(directory, "count")
      const longest = 4000
      Fs.writeFileSync(script, `echo >> "$2"; [ "$1" -gt 0 ] || exit 0; sh "$0" $(($1 - 1)) "$2" &\n`)
      const { root } = yield* start({
        agentId,
        args: [script, String(longest), count],
        script: `trap '' TERM; sh "$@" & echo ready; wait; exec sleep 300`
      })
      yield* eventually(() => Fs.existsSync(count) && Fs.statSync(count).size > 20)
      assertDead(yield* tree.terminate({ agentId, roots: [root], ...stubborn }))
      const links = Fs.statSync(count).size
      assert.isBelow(links, longest)
      yield* Effect.sleep("50 millis")
      assert.strictEqual(Fs.statSync(count).size, links)
      assert.deepStrictEqual(yield* membersOf(agentId), [])
    }))

  it.live("a chain of which every link opens a session of its own is hunted down by its marker", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const directory = yield* temporary
      const script = Path.join(directory, "chain.sh")
      const count = Path.join(directory, "count")
      Fs.writeFileSync(script, `echo >> "$2"; [ "$1" -gt 0 ] || exit 0; setsid sh "$0" $(($1 - 1)) "$2" &\n`)
      yield* start({ agentId, args: [script, "1500", count], script: `trap '' TERM; sh "$@" & echo ready; wait` })
      yield* eventually(() => Fs.existsSync(count) && Fs.statSync(count).size > 20)
      assertDead(yield* tree.terminate({ agentId, roots: [], ...stubborn }))
      const links = Fs.statSync(count).size
      assert.isBelow(links, 1500)
      yield* Effect.sleep("50 millis")
      assert.strictEqual(Fs.statSync(count).size, links)
    }))

  it.live("a program that forks while it is being killed leaves no child", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { root } = yield* start({
        agentId,
        script: "trap '' TERM; echo ready; i=0; while [ $i -lt 400 ]; do setsid sleep 300 & i=$((i + 1)); done; wait"
      })
      assertDead(yield* tree.terminate({ agentId, roots: [root], ...stubborn }))
      assert.deepStrictEqual(yield* membersOf(agentId), [])
    }))

  it.live("children with a wiped environment are members by descent, even in a session of their own", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { named, root } = yield* start({
        agentId,
        script: `${pipe}
          env -i sh -c 'echo pid $$; echo up >&3; exec sleep 300' &
          env -i setsid sh -c 'echo pid $$; echo up >&3; exec sleep 300' &
          read _ <&3; read _ <&3; echo ready; wait`
      })
      assert.strictEqual(named.length, 2)
      const { members } = (yield* tree.snapshot).members({ agentId, roots: [root] })
      assert.deepStrictEqual(members.filter(({ pid }) => named.some((one) => one.pid === pid)).map((m) => m.evidence), [
        "descent",
        "descent"
      ])
      assertDead(yield* tree.terminate({ agentId, roots: [root], ...quick }))
      assert.isFalse(named.some(lives))
    }))

  it.live("an orphan with a wiped environment is a member by the session of its dead launcher", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { named, root } = yield* start({
        agentId,
        script: "env -i sleep 300 & echo pid $!; echo ready; exec sleep 300"
      })
      linux.kill(root.pid, "SIGKILL")
      yield* eventually(() => linux.stat(root.pid) === "gone")
      const { members } = (yield* tree.snapshot).members({ agentId, roots: [root] })
      assert.deepStrictEqual(members.map(({ evidence, pid }) => ({ evidence, pid })), [
        { evidence: "session", pid: named[0]?.pid }
      ])
      assertDead(yield* tree.terminate({ agentId, roots: [root], ...quick }))
      assert.isFalse(named.some(lives))
    }))

  it.live("a stranger that leads the session of a member, and its other children, get no signal", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { named, root } = yield* start({
        script: `${pipe}
          sleep 300 & echo pid $!
          SLIPWAY_AGENT_ID=$1 sh -c 'echo pid $$; echo up >&3; exec sleep 300' &
          read _ <&3; echo ready; wait`,
        args: [agentId]
      })
      const [stranger, member] = named
      assertDead(yield* tree.terminate({ agentId, roots: [], ...quick }))
      assert.isTrue(stranger !== undefined && lives(stranger))
      assert.isTrue(lives(root))
      assert.isFalse(member !== undefined && lives(member))
    }))

  it.live("a stranger in a session whose leader died unseen gets no signal", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { named, root } = yield* start({
        script: `${pipe}
          sleep 300 & echo pid $!
          SLIPWAY_AGENT_ID=$1 sh -c 'echo pid $$; echo up >&3; exec sleep 300' &
          read _ <&3; echo ready; exit 0`,
        args: [agentId]
      })
      yield* eventually(() => linux.stat(root.pid) === "gone")
      const [stranger, member] = named
      assertDead(yield* tree.terminate({ agentId, roots: [], ...quick }))
      assert.isTrue(stranger !== undefined && lives(stranger))
      assert.isFalse(member !== undefined && lives(member))
    }))

  it.live("the caller and its session get no signal though a child in them bears the marker", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { root } = yield* start({
        agentId,
        detached: false,
        script: "trap '' TERM; echo ready; sleep 300; sleep 300"
      })
      const own = { pid: process.pid, start: identify(process.pid).start }
      const { members } = (yield* tree.snapshot).members({ agentId, roots: [root, own] })
      assert.isFalse(members.some(({ pid }) => pid === process.pid || pid === process.ppid))
      assertDead(yield* tree.terminate({ agentId, roots: [root, own], ...stubborn }))
      assert.isFalse(lives(root))
    }))

  it.live("a zombie counts as dead", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { named } = yield* start({
        script: "SLIPWAY_AGENT_ID=$1 sleep 0.2 & echo pid $!; echo ready; exec sleep 300",
        args: [agentId]
      })
      const [zombie] = named
      assert.isDefined(zombie)
      yield* eventually(() => !lives(zombie))
      assert.notStrictEqual(linux.stat(zombie.pid), "gone")
      const result = yield* tree.terminate({ agentId, roots: [zombie], ...quick })
      assert.deepStrictEqual(assertDead(result), { _tag: "Dead", killed: 0, signalled: 0 })
    }))

  it.live("a launcher that is spared records the exit of an agent that had to be killed", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const directory = yield* temporary
      const record = Path.join(directory, "exit")
      const { root } = yield* start({
        agentId,
        args: [record],
        script: "sh -c 'trap \"\" TERM; echo ready; while :; do sleep 300; done' & wait $!; echo $? > \"$1\""
      })
      assertDead(yield* tree.terminate({ agentId, roots: [root], spare: [root], ...stubborn }))
      assert.strictEqual(Fs.readFileSync(record, "utf8"), "137\n")
      assert.isFalse(lives(root))
    }))

  it.live("a spared process that never ends is killed in the end", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const { root } = yield* start({ agentId, script: "trap '' TERM; echo ready; while :; do sleep 300; done" })
      const result = yield* tree.terminate({
        agentId,
        roots: [root],
        spare: [root],
        grace: "20 millis",
        limit: "5 seconds"
      })
      assertDead(result)
      assert.isFalse(lives(root))
    }))

  it.live("no look misses a program that does nothing but exec", () =>
    Effect.gen(function*() {
      const agentId = newAgentId()
      const directory = yield* temporary
      const script = Path.join(directory, "exec.sh")
      Fs.writeFileSync(script, `[ "$1" -gt 0 ] || exec sleep 300; exec sh "$0" $(($1 - 1))\n`)
      const { root } = yield* start({ agentId, args: [script], script: `echo ready; exec sh "$1" 3000` })
      for (let look = 0; look < 60; look++) {
        assert.deepStrictEqual((yield* membersOf(agentId)).map(({ pid }) => pid), [root.pid])
      }
    }))

  it.live("one snapshot serves many agents and names every bearer", () =>
    Effect.gen(function*() {
      const [first, second] = [newAgentId(), newAgentId()]
      const one = yield* start({
        agentId: first,
        env: { SLIPWAY_HOME_ID: "home-1" },
        script: "echo ready; exec sleep 300"
      })
      const two = yield* start({ agentId: second, script: "echo ready; exec sleep 300" })
      const snapshot = yield* tree.snapshot
      assert.deepStrictEqual(snapshot.members({ agentId: first, roots: [] }).members.map(({ pid }) => pid), [
        one.root.pid
      ])
      assert.deepStrictEqual(snapshot.members({ agentId: second, roots: [] }).members.map(({ pid }) => pid), [
        two.root.pid
      ])
      assert.deepStrictEqual(snapshot.members({ agentId: first, homeId: "home-2", roots: [] }).members, [])
      assert.deepInclude(snapshot.bearers, { ...one.root, agentId: first, homeId: "home-1" })
      assert.deepInclude(snapshot.bearers, { ...two.root, agentId: second, homeId: undefined })
    }))
})

describe("an operating system in memory", () => {
  const alive = () => "sent" as const

  it.live("a pid given out anew between TERM and KILL is left alone", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({
        100: {
          start: "10",
          environ: bearing("a"),
          onSignal: () => {
            fake.rows.set(100, { start: "99", onSignal: alive })
            return "sent"
          }
        }
      })
      const result = yield* fake.tree.terminate({ agentId: "a", roots: [{ pid: 100, start: "10" }], ...stubborn })
      assert.deepStrictEqual(assertDead(result), { _tag: "Dead", killed: 0, signalled: 1 })
      assert.deepStrictEqual(fake.sent, [[100, "SIGTERM"]])
      assert.isTrue(fake.rows.has(100))
    }))

  it.live("a pid given out anew between the look and the signal is left alone", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10", environ: bearing("a"), onSignal: alive } })
      const tree = ProcessTree.make({
        ...fake.system,
        stat: () => {
          fake.rows.set(100, { start: "99", onSignal: alive })
          return fake.system.stat(100)
        }
      })
      assertDead(yield* tree.terminate({ agentId: "a", roots: [], ...stubborn }))
      assert.deepStrictEqual(fake.sent, [])
    }))

  it.live("a stored root whose pid was given out anew is nobody's root", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({
        100: { start: "99", onSignal: alive },
        101: { start: "100", ppid: 100, pgid: 100, sid: 100 }
      })
      assertDead(yield* fake.tree.terminate({ agentId: "a", roots: [{ pid: 100, start: "10" }], ...quick }))
      assert.deepStrictEqual(fake.sent, [])
    }))

  it.live("only what shares a group with a member that leads it is pulled in, never the session of a stranger", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({
        100: { start: "10" },
        101: { start: "11", sid: 100, environ: bearing("a") },
        102: { start: "12", sid: 100 },
        103: { start: "13", sid: 100, pgid: 101 }
      })
      const { members } = (yield* fake.tree.snapshot).members({ agentId: "a", roots: [] })
      assert.deepStrictEqual(members.map(({ evidence, pid }) => ({ evidence, pid })), [
        { evidence: "marker", pid: 101 },
        { evidence: "group", pid: 103 }
      ])
      assertDead(yield* fake.tree.terminate({ agentId: "a", roots: [], ...quick }))
      assert.deepStrictEqual(fake.sent.map(([pid]) => pid), [101, 103])
    }))

  it.live("a leaderless session with the id of a stored root is doubtful without proof, and gets no signal", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 300: { start: "5000", pgid: 100, sid: 100 } })
      const result = yield* fake.tree.terminate({ agentId: "a", roots: [{ pid: 100, start: "10" }], ...quick })
      assert.strictEqual(result._tag, "Unknown")
      assert.deepStrictEqual(fake.sent, [])
    }))

  it.live("one marker in a leaderless session proves the session of a stored root", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({
        300: { start: "5000", pgid: 100, sid: 100 },
        301: { start: "5000", pgid: 301, sid: 100, environ: bearing("a") }
      })
      const result = yield* fake.tree.terminate({ agentId: "a", roots: [{ pid: 100, start: "10" }], ...quick })
      assert.strictEqual(assertDead(result).signalled, 2)
    }))

  it.live("a member that may not be signalled is alive, and the answer comes within the limit", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10", environ: bearing("a"), onSignal: () => "denied" } })
      const begin = performance.now()
      const result = yield* fake.tree.terminate({ agentId: "a", roots: [], grace: "1 minute", limit: "300 millis" })
      assert.deepStrictEqual(result, { _tag: "Survivors", processes: [{ pid: 100, start: "10" }] })
      assert.isBelow(performance.now() - begin, 1500)
    }))

  it.live("when all ignore every signal, KILL was sent and the answer comes within the limit", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10", environ: bearing("a"), onSignal: alive } })
      const result = yield* fake.tree.terminate({ agentId: "a", roots: [], grace: "1 minute", limit: "200 millis" })
      assert.strictEqual(result._tag, "Survivors")
      assert.isTrue(fake.sent.some(([pid, signal]) => pid === 100 && signal === "SIGTERM"))
      assert.isTrue(fake.sent.some(([pid, signal]) => pid === -100 && signal === "SIGKILL"))
      assert.strictEqual(fake.sent.filter(([, signal]) => signal === "SIGTERM").length, 1)
    }))

  it.live("an unreadable process of the same user makes the answer Unknown, unless it cannot be ours", () =>
    Effect.gen(function*() {
      const denied = { _tag: "Denied" } as const
      const roots = [{ pid: 100, start: "1000" }]
      const ask = (rows: Parameters<typeof fakeSystem>[0]) =>
        fakeSystem(rows).tree.terminate({ agentId: "a", roots, ...quick })
      // Its session is also that of a member, and its leader is dead.
      const member = { start: "1500", sid: 150, environ: bearing("a") }
      const tied = yield* ask({ 160: member, 200: { start: "2000", sid: 150, environ: denied } })
      assert.deepStrictEqual(tied, {
        _tag: "Unknown",
        reason: "process 200 of this user may belong to a and does not show whether it does"
      })
      assert.strictEqual(
        (yield* ask({ 160: member, 200: { start: "500", sid: 150, environ: denied } }))._tag,
        "Dead",
        "older than the agent"
      )
      assert.strictEqual(
        (yield* ask({ 150: { start: "500" }, 200: { start: "2000", sid: 150, environ: denied } }))._tag,
        "Dead",
        "in a stranger's session"
      )
      assert.strictEqual(
        (yield* ask({ 200: { start: "2000", environ: { _tag: "Foreign" } } }))._tag,
        "Dead",
        "another user's"
      )
      assert.strictEqual(
        (yield* ask({ 100: { start: "1000" }, 200: { start: "2000", ppid: 100, environ: denied } }))._tag,
        "Dead",
        "a child of the root is a member whether readable or not"
      )
    }))

  it.live("a program that hides its environment in a session of its own, as ssh-agent does, keeps no stop from its proof", () =>
    Effect.gen(function*() {
      const denied = { _tag: "Denied" } as const
      const rows = { 200: { start: "2000", environ: denied }, 201: { start: "2001", ppid: 200, environ: denied } }
      for (const roots of [[], [{ pid: 100, start: "1000" }]]) {
        const alone = fakeSystem({ 100: { start: "1000", environ: bearing("a") }, ...rows })
        assert.strictEqual(assertDead(yield* alone.tree.terminate({ agentId: "a", roots, ...quick })).signalled, 1)
        assert.deepStrictEqual(alone.sent, [[100, "SIGTERM"]])
        assertDead(yield* fakeSystem(rows).tree.terminate({ agentId: "a", roots, ...quick }))
        assert.deepStrictEqual((yield* fakeSystem(rows).tree.snapshot).members({ agentId: "a", roots }), {
          members: [],
          doubtful: []
        })
      }
    }))

  it.live("a program that hides its environment is in doubt with any tie to the agent, and so is what it starts", () =>
    Effect.gen(function*() {
      const denied = { _tag: "Denied" } as const
      const doubtful = (hidden: Record<number, Row>, since?: number) =>
        Effect.map(
          fakeSystem({ 160: { start: "1500", sid: 150, pgid: 155, terminal: 34816, environ: bearing("a") }, ...hidden })
            .tree.snapshot,
          (snapshot) => snapshot.members({ agentId: "a", roots: [], since }).doubtful
        )
      const shared = { start: "1600", sid: 150, environ: denied }
      assert.deepStrictEqual(yield* doubtful({ 200: shared }), [200], "a leaderless session")
      assert.deepStrictEqual(yield* doubtful({ 200: { ...shared, sid: 200, pgid: 155 } }), [200], "a leaderless group")
      const onTerminal = { start: "1600", terminal: 34816, environ: denied }
      assert.deepStrictEqual(yield* doubtful({ 200: onTerminal }), [200], "a terminal")
      assert.deepStrictEqual(yield* doubtful({ 200: { ...onTerminal, terminal: 34817 } }), [], "another terminal")
      const own = { start: "1700", ppid: 200, environ: denied }
      assert.deepStrictEqual(yield* doubtful({ 200: shared, 201: own, 202: { ...own, ppid: 201 } }), [200, 201, 202])
      assert.deepStrictEqual(yield* doubtful({ 200: shared }, 17), [], "older than the agent")
      assert.deepStrictEqual(yield* doubtful({ 200: shared }, 16), [200])
    }))

  it.live("what was once in doubt stays so when the member that it was tied to has ended", () =>
    Effect.gen(function*() {
      const denied = { _tag: "Denied" } as const
      const fake = fakeSystem({
        160: { start: "1500", sid: 150, terminal: 34816, environ: bearing("a") },
        200: { start: "1400", terminal: 34816, environ: denied },
        201: { start: "1600", sid: 150, environ: denied }
      })
      assert.deepStrictEqual(yield* fake.tree.terminate({ agentId: "a", roots: [], ...quick }), {
        _tag: "Unknown",
        reason: "processes 200, 201 of this user may belong to a and do not show whether they do"
      })
      assert.isFalse(fake.rows.has(160))
      assert.deepStrictEqual(fake.sent, [[160, "SIGTERM"]])
    }))

  it.effect.prop(
    "whatever strangers hide their environment beside an agent, its members are the same and none is in doubt",
    [
      Schema.Array(Schema.Struct({
        start: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 5000 })),
        /** Whose child it is, and in whose session: of one of the strangers, by its place, or its own. */
        parent: Schema.NullOr(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 9 }))),
        inSession: Schema.Boolean,
        terminal: Schema.optionalKey(Schema.Literals([1, 2])),
        hides: Schema.Boolean
      })),
      Schema.Boolean
    ],
    ([strangers, hasRoot]) =>
      Effect.gen(function*() {
        const agent: Record<number, Row> = {
          100: { start: "1000", terminal: 3, environ: bearing("a") },
          101: { start: "1001", ppid: 100, sid: 100, terminal: 3 },
          102: { start: "1002", sid: 90, environ: bearing("a") }
        }
        const rows = strangers.map(({ hides, inSession, parent, start, terminal }, index): readonly [number, Row] => {
          const other = parent === null || parent >= index ? undefined : 1000 + parent
          return [1000 + index, {
            start: String(start),
            terminal,
            ...(other === undefined ? {} : { ppid: other, ...(inSession ? { sid: other } : {}) }),
            ...(hides ? { environ: { _tag: "Denied" } as const } : {})
          }]
        })
        const options = { agentId: "a", roots: hasRoot ? [{ pid: 100, start: "1000" }] : [] }
        const { doubtful, members } = (yield* fakeSystem({ ...agent, ...Object.fromEntries(rows) }).tree.snapshot)
          .members(options)
        assert.deepStrictEqual(members.map(({ pid }) => pid), [100, 101, 102])
        assert.deepStrictEqual(doubtful, [])
      })
  )

  it.live("an environment that is empty in the midst of an exec is asked for again", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10" } })
      let reads = 0
      const tree = ProcessTree.make({
        ...fake.system,
        environ: (pid) => pid !== 100 ? fake.system.environ(pid) : reads++ < 3 ? { _tag: "Execing" } : bearing("a")
      })
      const { members } = (yield* tree.snapshot).members({ agentId: "a", roots: [] })
      assert.deepStrictEqual(members.map(({ evidence, pid }) => ({ evidence, pid })), [{
        evidence: "marker",
        pid: 100
      }])
      reads = 0
      assert.strictEqual(assertDead(yield* tree.terminate({ agentId: "a", roots: [], ...quick })).signalled, 1)
    }))

  it.live("what is born while a look is taken is read too, and a look that cannot keep up is no proof", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10" } })
      let newest = 100
      const late = ProcessTree.make({
        ...fake.system,
        newestPid: () => newest,
        table: () => {
          const rows = fake.system.table()
          fake.rows.set(102, { start: "11", environ: bearing("a") })
          newest = 102
          return rows
        }
      })
      const seen = yield* late.snapshot
      assert.isTrue(seen.complete)
      assert.deepStrictEqual(seen.members({ agentId: "a", roots: [] }).members.map(({ pid }) => pid), [102])
      const storm = ProcessTree.make({ ...fake.system, newestPid: () => newest++ })
      assert.isFalse((yield* storm.snapshot).complete)
    }))

  it.live("the caller, its ancestors and excluded pids are never members, nor is what hangs on them alone", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({
        50: { start: "5", environ: bearing("a") },
        60: { start: "6", ppid: 50, pgid: 50, sid: 50 }
      })
      fake.rows.set(1, { start: "1", ppid: 0, environ: bearing("a") })
      fake.rows.set(2, { start: "2", environ: bearing("a") })
      const options = { agentId: "a", exclude: [50], roots: [{ pid: 1, start: "1" }, { pid: 50, start: "5" }] }
      assert.deepStrictEqual((yield* fake.tree.snapshot).members(options).members, [])
      assertDead(yield* fake.tree.terminate({ ...options, ...quick }))
      assert.deepStrictEqual(fake.sent, [])
    }))

  it.live("a group in which the caller stands gets no signal as a whole", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10", environ: bearing("a"), onSignal: alive } })
      fake.rows.set(2, { start: "2", pgid: 100, sid: 100 })
      yield* fake.tree.terminate({ agentId: "a", roots: [], grace: 0, limit: "50 millis" })
      assert.isAbove(fake.sent.length, 0)
      assert.isTrue(fake.sent.every(([pid]) => pid === 100))
    }))

  it.live("a table that cannot be read is a typed error, and Unknown to terminate", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({})
      const tree = ProcessTree.make({ ...fake.system, table: () => ({ blind: "EACCES" }) })
      const error = yield* Effect.flip(tree.snapshot)
      assert.include(error.message, "EACCES")
      assert.strictEqual((yield* tree.terminate({ agentId: "a", roots: [], ...quick }))._tag, "Unknown")
    }))

  it.live("without foreign environments a launcher that was gone before makes the answer Unknown", () =>
    Effect.gen(function*() {
      const roots = [{ pid: 100, start: "10" }]
      const blind = (rows: Parameters<typeof fakeSystem>[0]) => {
        const fake = fakeSystem(rows)
        return ProcessTree.make({ ...fake.system, environments: false }).terminate({ agentId: "a", roots, ...quick })
      }
      assert.strictEqual((yield* blind({}))._tag, "Unknown")
      const result = yield* blind({ 100: { start: "10" }, 101: { start: "11", ppid: 100 } })
      assert.strictEqual(assertDead(result).signalled, 2)
    }))

  it.effect("a process that tmux has just made is known by its birth, before it has its mark", () =>
    Effect.gen(function*() {
      const execing = { _tag: "Execing" } as const
      const fake = fakeSystem({ 9: { start: "500" }, 100: { start: "1000", ppid: 9, environ: execing } })
      const identify = (birth: { readonly parent: number; readonly since: number }) =>
        fake.tree.identify(100, "a", Duration.zero, birth)
      // Nobody adjusts the clock: an answer that waits would never come.
      assert.deepStrictEqual(yield* identify({ parent: 9, since: 10 }), {
        _tag: "Ours",
        identity: { pid: 100, start: "1000" }
      })
      assert.strictEqual((yield* Effect.raceFirst(identify({ parent: 8, since: 10 }), strangerOnTime))._tag, "Stranger")
      assert.strictEqual((yield* Effect.raceFirst(identify({ parent: 9, since: 11 }), strangerOnTime))._tag, "Stranger")
    }))

  it.live("a process that becomes a member by an exec is seen, whatever was known of it", () =>
    Effect.gen(function*() {
      const stranger = { start: "10", image: "1-2" }
      // The stranger execs when the member gets its signal.
      const fake = fakeSystem({
        100: stranger,
        101: {
          start: "11",
          image: "1-2",
          environ: bearing("a"),
          onSignal: () => {
            fake.rows.delete(101)
            fake.rows.set(100, { ...stranger, image: "3-4", environ: bearing("a") })
            return "sent"
          }
        }
      })
      const result = yield* fake.tree.terminate({ agentId: "a", roots: [], ...quick })
      assert.strictEqual(assertDead(result).signalled, 2)
      assert.deepStrictEqual(fake.sent, [[101, "SIGTERM"], [100, "SIGTERM"]])
    }))

  it.effect("it can be interrupted between its rounds", () =>
    Effect.gen(function*() {
      const fake = fakeSystem({ 100: { start: "10", environ: bearing("a"), onSignal: alive } })
      const fiber = yield* Effect.forkChild(fake.tree.terminate({ agentId: "a", roots: [], ...quick }))
      yield* TestClock.adjust("100 millis")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(fake.sent, [[100, "SIGTERM"]])
    }))
})

describe("parsers", () => {
  const stat = (pid: number, comm: string) =>
    `${pid} (${comm}) S 7 8 9 34816 8 4194304 1 0 0 0 1 2 0 0 20 0 1 0 71126 3133440 416 18446744073709551615 1 2 3 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 4 5 6 7 8 9 10 0\n`

  it.effect.prop(
    "a stat line is read right whatever the name of the program holds",
    [Schema.Natural, Schema.Array(Schema.Literals([" ", ")", "(", "\n", "a", ") R 1 1 1", "é", "\t", "0"]))],
    ([pid, comm]) =>
      Effect.sync(() => {
        const parsed = parseStat(stat(pid, comm.join("")))
        assert.isDefined(parsed)
        const { kernel, pgid, pid: read, ppid, sid, start, state, terminal, zombie } = parsed
        assert.deepStrictEqual({ kernel, pgid, read, ppid, sid, start, state, terminal, zombie }, {
          kernel: false,
          pgid: 8,
          read: pid,
          ppid: 7,
          sid: 9,
          start: "71126",
          state: "S",
          terminal: 34816,
          zombie: false
        })
        assert.isUndefined(parseStat(stat(pid, "sh").replace(" 34816 ", " 0 "))?.terminal)
      })
  )

  it("what is no stat line is refused", () => {
    for (const text of ["", "12", "12 (sh", "12 (sh) S", "x (sh) S 1 1 1"]) assert.isUndefined(parseStat(text))
  })

  it("a main thread that ended while others run is no zombie", () => {
    const line = stat(5, "x").replace(" S ", " Z ")
    assert.isTrue(parseStat(line)?.zombie)
    assert.isFalse(parseStat(line.replace(" 20 0 1 0 71126", " 20 0 3 0 71126"))?.zombie)
  })

  it("a marker is a whole variable, and the first of its name", () => {
    const home = { _tag: "Read", homeId: undefined } as const
    assert.deepStrictEqual(parseEnviron("A=SLIPWAY_AGENT_ID=x\0XSLIPWAY_AGENT_ID=y\0"), { ...home, agentId: undefined })
    assert.deepStrictEqual(parseEnviron("SLIPWAY_AGENT_ID=x\0SLIPWAY_AGENT_ID=y\0"), { ...home, agentId: "x" })
  })

  it("the table of a mac is read from what its ps prints", () => {
    const rows = parsePs([
      "    1     0     1      0 Ss   Sun Nov  2 09:14:58 2025         0",
      "  501     1   501      0 Ss   Sun Nov 16 10:02:11 2025       501",
      " 4242   501  4242      0 S+   Sat Nov 22 08:01:09 2025       501",
      " 4243  4242  4242      0 Z+   Sat Nov 22 08:01:10 2025       501",
      " 4244     1  4244      0 T    Sat Nov 22 23:59:59 2025        -2",
      "ps: something else",
      ""
    ].join("\n"))
    assert.deepStrictEqual(rows.map(({ pid }) => pid), [1, 501, 4242, 4243, 4244])
    assert.deepStrictEqual(rows[3], {
      pid: 4243,
      ppid: 4242,
      pgid: 4242,
      sid: 0,
      start: "Sat Nov 22 08:01:10 2025",
      state: "Z",
      zombie: true,
      kernel: false
    })
  })

  it("an answer survives being stored", () => {
    const codec = Schema.fromJsonString(TerminateResult)
    const results: ReadonlyArray<TerminateResult> = [
      { _tag: "Dead", killed: 1, signalled: 2 },
      { _tag: "Survivors", processes: [{ pid: 3, start: "4" }] },
      { _tag: "Unknown", reason: "why" }
    ]
    for (const result of results) {
      assert.deepStrictEqual(Schema.decodeSync(codec)(Schema.encodeSync(codec)(result)), result)
    }
  })
})
