#!/usr/bin/env bash
# Prints a directory with the parts of clusters that the tests run, kube-apiserver and others, and builds them first if
# need be: about 33 minutes of one processor, once. They are kept in the user's cache directory by the hash of what they
# are built from, those of Kubernetes and flannel each for themselves; the directory has links to them.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../e2e/kubernetes"

export CGO_ENABLED=0
go=${GO:-go}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/plumbline/kubernetes
mkdir -p "$cache"

# kept BUILD FILE… prints the directory that the function BUILD has filled, in this run or in one before that had the
# same files.
kept() {
	local dir part
	dir=$cache/$({ "$go" env GOVERSION GOARCH; cat "${@:2}"; } | sha256sum | cut -c1-16)
	if [[ ! -d $dir ]]; then
		part=$(mktemp -d "$cache/part.XXXXXX")
		trap "rm -rf '$part'" EXIT
		"$1" "$part" >&2
		chmod 755 "$part"
		mv -T "$part" "$dir" || [[ -d $dir ]] # another run may have been faster
	fi
	echo "$dir"
}

# ours MODULE DIRECTORY NAME builds a program of our own. No file of it is one of Go's: those are the repository's
# module's, to whoever looks for some.
ours() {
	mkdir "$2/source"
	cp "$1"/go.{mod,sum} "$2/source"
	cp "$1/main.go.in" "$2/source/main.go"
	(cd "$2/source" && "$go" build -trimpath -ldflags "-s -w" -o "../$3" .)
	rm -r "$2/source"
}

kubernetes() {
	echo "building the parts of Kubernetes: this takes a while, once"
	local version
	version=$(sed -n 's/.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' components/go.mod)
	(cd components && "$go" build -trimpath -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$version" -o "$1/" tool)
	ours coredns "$1" coredns
}

flannel() { ours flannel "$1" flanneld; }

links() { ln -s "$kubernetes"/* "$flannel"/* "$1"; }

kubernetes=$(kept kubernetes components/go.{mod,sum} coredns/{go.mod,go.sum,main.go.in})
flannel=$(kept flannel flannel/{go.mod,go.sum,main.go.in})
kept links <(echo "$kubernetes" "$flannel")
