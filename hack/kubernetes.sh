#!/usr/bin/env bash
# Prints a directory with the parts of clusters that the tests run, kube-apiserver and others, and builds them first if
# need be: about 28 minutes of one processor, once. They are kept in the user's cache directory by the hash of what they
# are built from.
set -euo pipefail
cd "$(dirname "$0")/../e2e/kubernetes/components"

export CGO_ENABLED=0
go=${GO:-go}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/plumbline/kubernetes
dir=$cache/$({ "$go" env GOVERSION GOARCH; cat go.mod go.sum ../coredns/{go.mod,go.sum,main.go.in}; } | sha256sum | cut -c1-16)
if [[ ! -d $dir ]]; then
	echo "building the parts of Kubernetes into $dir: this takes a while, once" >&2
	mkdir -p "$cache"
	part=$(mktemp -d "$cache/part.XXXXXX")
	trap 'rm -rf "$part"' EXIT
	version=$(sed -n 's/.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' go.mod)
	"$go" build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$part/" tool >&2
	# No file of Go's: those are the repository's module's, to whoever looks for some.
	mkdir "$part/source"
	cp ../coredns/go.{mod,sum} "$part/source"
	cp ../coredns/main.go.in "$part/source/main.go"
	(cd "$part/source" && "$go" build -trimpath -ldflags "-s -w" -o ../coredns . >&2)
	rm -r "$part/source"
	chmod 755 "$part"
	mv -T "$part" "$dir" || [[ -d $dir ]] # another run may have been faster
fi
echo "$dir"
