#!/usr/bin/env bash
# Fails when what is generated and committed is not what `make generate` makes.
set -euo pipefail
cd "$(dirname "$0")/.."

make generate
if ! git diff --exit-code --stat -- probes bpf charts; then
	echo "generated files differ from their sources: run 'make generate' and commit" >&2
	exit 1
fi
