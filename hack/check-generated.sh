#!/usr/bin/env bash
# Fails when the committed eBPF objects are not what `make generate` makes.
set -euo pipefail
cd "$(dirname "$0")/.."

make generate
if ! git diff --exit-code --stat -- probes bpf; then
	echo "the generated eBPF objects differ from the sources: run 'make generate' and commit" >&2
	exit 1
fi
