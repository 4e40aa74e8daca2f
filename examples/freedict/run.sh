#!/usr/bin/env bash
# Makes a glossary from a FreeDict dictionary and deploys translate with it. Without the Debian package dict-freedict-eng-spa it
# takes the tiny made-up dictionary of testdata.
set -euo pipefail
cd "$(dirname "$0")"
. ../server.sh
command -v go >/dev/null || fail "this example needs Go, to run the converter"

index=/usr/share/dictd/freedict-eng-spa.index dict=/usr/share/dictd/freedict-eng-spa.dict.dz
if [ ! -r "$dict" ]; then
  echo "dict-freedict-eng-spa is not installed: taking the tiny dictionary of testdata"
  index=testdata/tiny.index dict=testdata/tiny.dict.dz
fi

say "a glossary from $dict"
go run . -index "$index" -dict "$dict" -base ../../plugins/translate/glossary/en-es.tsv >"$work/en-es.tsv"

say "deployed"
start_server
for topic in notes notes.es; do "$ms" topic create "$topic" --partitions 1; done
"$ms" deploy plugin:translate --name spanish --from notes --to notes.es --config to=es --asset glossary="$work/en-es.tsv" --start earliest

say "translated"
printf '%s\n' 'Good morning, zucchini!' 'The teacher eats zucchini and bread.' | "$ms" produce notes
take notes.es 2 "$work/es"
cat "$work/es"

say "checks"
printf '%s\n' 'Buenos días, calabacín!' 'La maestra come calabacín y pan.' | cmp - "$work/es" || fail "the dictionary's word is not translated"
echo "ok"
