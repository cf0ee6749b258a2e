#!/bin/sh
# A steady agent: reads its prompt, says what it does, and goes on until it is ended.
prompt=$(cat)
echo "working on: $prompt"
while :; do sleep 1; done
