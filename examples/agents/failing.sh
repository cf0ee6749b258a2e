#!/bin/sh
# An agent that fails soon, and leaves a child of its own behind.
sleep 600 &
echo "no key for the model" >&2
exit 3
