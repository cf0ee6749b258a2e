#!/bin/sh
# The script that most people write first, and what it leaks: each line that begins with "leak" was seen.
# It has a tmux server of its own, and a stand-in for claude that starts a helper in a session of its own, as agents do for tools.
set -eu
cd "$(mktemp -d)"
export TMUX_TMPDIR=$PWD
unset TMUX
mkdir bin
PATH=$PWD/bin:$PATH
printf '#!/bin/sh\nsetsid sleep 60 & echo $! >helper\nsleep 60\n' >bin/claude
chmod +x bin/claude
echo "the key is sesame" >task.md

tmux new-session -d -s fixer "claude -p '$(cat task.md)' >fixer.log 2>&1"
sleep 2
tmux has-session -t fixer && echo "started"

tmux has-session -t fix && echo "leak: 'fix' is no session, and tmux says that it is there: it matches the beginning of a name"
tr '\0' ' ' </proc/"$(tmux list-panes -t fixer -F '#{pane_pid}')"/cmdline | grep -q sesame &&
  echo "leak: every user of the machine can read the prompt in the list of processes"
[ "$(stat -c %a fixer.log)" = 644 ] && echo "leak: every user of the machine can read the output"

tmux kill-session -t fixer

read -r helper <helper
kill -0 "$helper" && echo "leak: the session is no more, and process $helper of the agent runs on"
kill "$helper"
tmux kill-server 2>/dev/null || true
