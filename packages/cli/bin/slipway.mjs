#!/bin/sh
":" // ; exec /usr/bin/env node -- "$0" "$@"
// Node looks for its own flags (--env-file) in all of its arguments; behind '--' they are the command's.
// Stays on syntax that any Node with ES modules can read, so that an old one gets a sentence instead of a SyntaxError.
const needed = 24
const found = process.versions.node

if (Number(found.split(".")[0]) < needed) {
  const line = "slipway needs Node " + needed + " or newer; " + process.execPath + " is Node " + found
  process.stderr.write(line + "\n")
  process.exitCode = 4
} else {
  void import("../dist/bin.mjs")
}
