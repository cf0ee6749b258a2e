#!/bin/sh
# Deploys an agent from a script, waits for it, and shows what it said. Every failure has an exit code of its own.
set -eu
cd "$(mktemp -d)"

agent=$(slipway deploy --json --type greeter --prompt "everybody" --ready output -- sh -c 'echo "hello to: $(cat)"' |
  sed -n 's/.*"agent_id": *"\([^"]*\)".*/\1/p')
slipway wait "$agent" --timeout 30s
slipway logs "$agent"

# What can't be deployed leaves nothing behind: 5 says that it began, failed, and was rolled back clean.
code=0
slipway deploy --type failing --prompt "try" -- sh -c 'echo "no key for the model" >&2; exit 3' || code=$?
[ "$code" -eq 5 ]
[ "$(slipway ps --json | grep -c agent_id)" -eq 0 ]
