#!/usr/bin/env bash
# Formatting, vet and staticcheck. The tools are pinned in tools/go.mod.
set -euo pipefail
cd "$(dirname "$0")/.."

tool() { go tool -modfile=tools/go.mod "$@"; }

unformatted=$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 go tool -modfile=tools/go.mod gofumpt -l)
if [[ -n $unformatted ]]; then
	printf 'not formatted (go tool -modfile=tools/go.mod gofumpt -w FILE):\n%s\n' "$unformatted" >&2
	exit 1
fi

go vet ./...
go vet -tags k8s ./e2e/kubernetes/...
# The command line also builds where there is nothing to collect.
for target in linux/arm64 darwin/arm64; do
	echo "vet $target"
	GOOS=${target%/*} GOARCH=${target#*/} go vet ./...
done
tool staticcheck ./...
for values in charts/plumbline/ci/*.yaml; do
	tool helm lint --strict --quiet charts/plumbline --values "$values"
done
