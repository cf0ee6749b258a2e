#!/bin/sh
# An agent that is through quickly, and with success.
echo "hello to: $(cat)"
