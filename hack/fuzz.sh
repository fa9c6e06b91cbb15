#!/usr/bin/env bash
# Runs every fuzzer that RUN matches for FUZZTIME, as many at once as JOBS says, or there are processors, and writes to
# bin/fuzz.log how often each ran. Of what took a fuzzer to new code, testdata gets the newest inputs, which the tests replay:
# they are those that were hardest to find. To make them small takes a minute each, by default, and most of the time of large ones.
set -euo pipefail
cd "$(dirname "$0")/.."

KEEP=40 # inputs of a run of a fuzzer, of less than 4 kB each
export KEEP FUZZTIME=${FUZZTIME:-10m}

# fuzz runs the fuzzer $2 of the package in directory $1.
fuzz() {
	local log=bin/fuzz/${1//\//-}-$2.log found into
	found=$(go env GOCACHE)/fuzz/$(go list "./$1")/$2
	into=$1/testdata/fuzz/$2
	if ! go test -run '^$' -fuzz "^$2\$" -fuzztime "$FUZZTIME" -fuzzminimizetime 100x -parallel 1 "./$1" >"$log" 2>&1; then
		printf '%s %s failed:\n' "$1" "$2"
		tail -n 20 "$log"
		return 1
	fi
	printf '%-24s %-24s %s\n' "$1" "$2" "$(grep '^fuzz: elapsed' "$log" | tail -n 1)"
	if [[ -d $found ]]; then
		mkdir -p "$into"
		find "$found" -type f -size -8 -printf '%T@ %p\n' | sort -rn | head -n "$KEEP" | cut -d' ' -f2 | xargs -r cp -n -t "$into"
	fi
}
export -f fuzz

mkdir -p bin/fuzz
git grep -e '^func Fuzz' -- '*_test.go' | sed -n 's,^\(.*\)/[^/]*:func \(Fuzz[A-Za-z0-9]*\)(.*,\1 \2,p' | grep -E -e "${RUN:-.}" |
	xargs -r -P "${JOBS:-$(nproc)}" -L 1 bash -c 'fuzz "$0" "$1"' | tee bin/fuzz.log
