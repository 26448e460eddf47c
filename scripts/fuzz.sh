#!/usr/bin/env bash
# Fuzzes every parser in turn, FUZZTIME each (default 1m). What is found is
# written to testdata/fuzz beside the test and fails from then on: mend it and
# commit both.
set -euo pipefail
cd "$(dirname "$0")/.."

for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
  for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9]*\)(.*/\1/p' "$file"); do
    printf '%-24s %s\n' "$target" "$(dirname "$file")"
    go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-1m}" | tail -n 2
  done
done
