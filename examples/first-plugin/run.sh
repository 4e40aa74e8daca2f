#!/usr/bin/env bash
# Tests, builds and deploys the plugin of this directory, and checks its greeting.
set -euo pipefail
cd "$(dirname "$0")"
. ../server.sh
command -v go >/dev/null || fail "this example needs Go (and takes TinyGo where it is installed)"

say "test and build"
"$ms" test .
"$ms" build . -o "$work/hello.wasm"

say "deploy"
start_server
for topic in names greetings; do "$ms" topic create "$topic" --partitions 1; done
"$ms" deploy "$work/hello.wasm" --name hello --from names --to greetings --start earliest

say "run"
printf '%s\n' Ann Ben | "$ms" produce names
take greetings 2 "$work/out"
cat "$work/out"
printf 'Hello, %s\n' Ann Ben | cmp - "$work/out" || fail "these are not the greetings"
