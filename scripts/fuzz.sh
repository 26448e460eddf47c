#!/usr/bin/env bash
# Fuzzes every parser in turn, FUZZTIME each (default 1m). What is found is
# written to testdata/fuzz beside the test and fails from then on: mend it and
# commit both.
set -euo pipefail
cd "$(dirname "$0")/.."

# Beside FUZZTIME, go test links a binary for each target and shortens what it
# has found for up to a minute: here one binary serves a package's targets, and
# its corpus is kept from run to run.
time=${FUZZTIME:-1m}
bin=$PWD/bin/fuzz
corpus=$(go env GOCACHE)/fuzz/$(go list -m)
mkdir -p "$bin"

git ls-files '*_test.go' | xargs grep -l '^func Fuzz' | xargs -n 1 dirname | sort -u | while read -r dir; do
  go test -c -fuzz=. -o "$bin/fuzz.test" "./$dir"
  for target in $(cat "$dir"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p'); do
    printf '%-24s %s\n' "$target" "$dir"
    (cd "$dir" && "$bin/fuzz.test" -test.run='^$' -test.fuzz="^$target\$" -test.fuzztime="$time" \
      -test.fuzzminimizetime=10s -test.fuzzcachedir="$corpus/$dir" </dev/null) | tail -n 2
  done
done
