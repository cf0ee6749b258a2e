#!/bin/sh
# A git working tree and a branch for an agent alone: see what it did, put it on main if a check passes, and clean up.
set -eu

# A repository to work on, and what stands here for an agent.
cd "$(mktemp -d)"
git init --quiet --initial-branch=main
git config user.name example
git config user.email example@localhost
printf '#!/bin/sh\necho hello > greeting\ngit add greeting\ngit commit --quiet -m "Say hello"\n' > agent.sh
chmod +x agent.sh
echo .slipway > .gitignore
git add .
git commit --quiet -m "Begin"

agent=$(slipway deploy --json --worktree --type fixer --prompt "Say hello." -- ./agent.sh |
  sed -n 's/.*"agent_id": *"\([^"]*\)".*/\1/p')
slipway wait "$agent" --timeout 30s
slipway diff "$agent" --stat
slipway land "$agent" --onto main --check "grep -q hello greeting"
slipway prune --older-than 0s

grep -q hello greeting
test "$(git worktree list | wc -l)" -eq 1
