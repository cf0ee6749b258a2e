#!/bin/sh
":" // ; { IFS= read -r _slipway_s </proc/self/stat; while read -r _slipway_a _slipway_b _slipway_c _slipway_n _slipway_r; do case $_slipway_a$_slipway_b$_slipway_c in Maxopenfiles) break ;; esac; done </proc/self/limits; } 2>/dev/null; export SLIPWAY_AT_START="${_slipway_n-} $$ ${_slipway_s-}"; exec /usr/bin/env node -- "$0" "$@"
// The line above is the shell's: it hands on which signals are ignored and the soft limit of open files, both of which Node
// sets anew when it starts. It starts no process for that. Node looks for its own flags (--env-file) in all of its arguments; behind '--' they are the command's.
// Stays on syntax that any Node with ES modules can read, so that an old one gets a sentence instead of a SyntaxError.
const found = process.versions.node
const parts = found.split(".").map(Number)

// As "engines" in package.json has it: Node 23 never got what node:sqlite has in 22.19.
if (parts[0] < 24 && !(parts[0] === 22 && parts[1] >= 19)) {
  const line = "slipway needs Node 24 or newer, or Node 22 from 22.19 on; " + process.execPath + " is Node " + found
  process.stderr.write(line + "\n")
  process.exitCode = 4
} else {
  void import("../dist/bin.mjs")
}
