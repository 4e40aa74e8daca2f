#!/usr/bin/env bash
# Runs the pipeline of README.md on free ports in a temporary directory, checks what came out, and leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")"
. ../server.sh

say "a server on free ports"
start_server

say "topics, and the first two links of the chain"
for topic in notes notes.clean notes.es notes.fr; do "$ms" topic create "$topic" --partitions 1; done
"$ms" deploy plugin:filter --name clean --from notes --to notes.clean --config prefix=TODO --config mode=drop --start earliest
"$ms" deploy plugin:translate --name spanish --from notes.clean --to notes.es --config to=es --start earliest

total=$(wc -l <notes.txt)
half=$((total / 2))
clean=$(grep -vc '^TODO' notes.txt)

say "the teacher writes the first $half lines"
head -n "$half" notes.txt | "$ms" produce notes
take notes.es "$(head -n "$half" notes.txt | grep -vc '^TODO')" "$work/first.es"

say "French joins, from the start of the topic, while the teacher writes on"
tail -n +$((half + 1)) notes.txt | "$ms" produce notes &
writer=$!
"$ms" deploy plugin:translate --name french --from notes.clean --to notes.fr --config to=fr --start earliest
wait "$writer" || fail "produce"

take notes.es "$clean" "$work/es"
take notes.fr "$clean" "$work/fr"
take notes.clean "$clean" "$work/clean"

say "side by side"
paste -d '\n' "$work/clean" "$work/es" "$work/fr" /dev/null | awk 'NR % 4 == 1 { printf "en  " } NR % 4 == 2 { printf "es  " } NR % 4 == 3 { printf "fr  " } { print }'

say "checks"
grep -v '^TODO' notes.txt | cmp - "$work/clean" || fail "notes.clean is not notes without the TODO lines, in order"
for topic in notes.clean notes.es notes.fr; do
  n=$("$ms" consume "$topic" --from start | wc -l)
  [ "$n" -eq "$clean" ] || fail "$topic holds $n records, not $clean"
done
head -n "$(wc -l <"$work/first.es")" "$work/es" | cmp - "$work/first.es" || fail "what was translated before has changed"
grep -qx 'Buenos días! Bienvenidos de nuevo a la escuela.' "$work/es" || fail "no Spanish greeting"
grep -qx "Bonjour! Bon retour à l'école." "$work/fr" || fail "no French greeting"
echo "$total lines written, $((total - clean)) dropped, $clean in Spanish, $clean in French, in order: ok"
