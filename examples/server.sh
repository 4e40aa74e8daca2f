# Sourced by the examples: a server on free ports in a temporary directory, gone when the script ends.
# It sets work (a directory), and MILLSTREAM_BROKERS and MILLSTREAM_ADMIN for every command that follows.
ms=${MILLSTREAM:-millstream}
command -v "$ms" >/dev/null || { echo "there is no $ms: run make, and put bin on the PATH or set MILLSTREAM" >&2; exit 1; }
work=$(mktemp -d)
server=

finish() {
  status=$?
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  if [ $status -ne 0 ] && [ -s "$work/server.log" ]; then
    echo "--- the end of the server's log:" >&2
    tail -n 20 "$work/server.log" >&2
  fi
  rm -rf "$work"
  exit $status
}
trap finish EXIT

fail() {
  echo "FAILED: $*" >&2
  exit 1
}

say() { printf '\n== %s\n' "$*"; }

start_server() {
  "$ms" server --data "$work/data" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --json >"$work/ready" 2>"$work/server.log" &
  server=$!
  for _ in $(seq 300); do
    grep -q '"brokers"' "$work/ready" && break
    kill -0 "$server" 2>/dev/null || fail "the server ended"
    sleep 0.1
  done
  MILLSTREAM_BROKERS=$(address brokers)
  MILLSTREAM_ADMIN=$(address admin)
  [ -n "$MILLSTREAM_BROKERS" ] || fail "the server is not ready after 30 s"
  export MILLSTREAM_BROKERS MILLSTREAM_ADMIN
  echo "brokers $MILLSTREAM_BROKERS, admin $MILLSTREAM_ADMIN"
}

address() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$work/ready"; }

# take TOPIC COUNT FILE waits for COUNT records of a topic; the time limit is for the case that some are missing.
take() { timeout 60 "$ms" consume "$1" --from start --count "$2" --follow >"$3" || fail "$1 does not get its $2 records"; }
