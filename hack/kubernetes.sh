#!/usr/bin/env bash
# Prints the path of a program with the parts of Kubernetes that the tests run, and builds it first if need be: about 24
# minutes of one processor, once. It is kept in the user's cache directory by the hash of what it is built from.
set -euo pipefail
cd "$(dirname "$0")/../e2e/kubernetes/components"

export CGO_ENABLED=0
go=${GO:-go}
hash=$({ "$go" env GOVERSION GOARCH; cat go.mod go.sum main.go; } | sha256sum | cut -c1-16)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/plumbline/kubernetes
binary=$dir/$hash
if [[ ! -x $binary ]]; then
	echo "building kube-apiserver and others into $binary: this takes a while, once" >&2
	mkdir -p "$dir"
	part=$(mktemp "$dir/part.XXXXXX")
	trap 'rm -f "$part"' EXIT
	version=$(sed -n 's/.*k8s.io\/kubernetes \(v.*\)/\1/p' go.mod)
	"$go" build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$part" . >&2
	chmod 755 "$part"
	mv "$part" "$binary"
fi
echo "$binary"
