#!/bin/sh
# An agent that ignores every polite request to end, and has a child in a session of its own.
trap '' HUP INT TERM
setsid sleep 600 &
echo "you can't make me"
while :; do sleep 1; done
