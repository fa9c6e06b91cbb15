#!/usr/bin/env bash
# Installs the Debian packages that a task needs, if one of its commands is
# missing: deps.sh demo|test|vm|k8s|generate
set -euo pipefail

declare -A package_of=(
	[ip]=iproute2 [bridge]=iproute2 [ss]=iproute2 [tc]=iproute2 [sysctl]=procps
	[iptables]=iptables [nft]=nftables [ipset]=ipset [curl]=curl [git]=git
	[prometheus]=prometheus [promtool]=prometheus [prometheus-alertmanager]=prometheus-alertmanager
	[qemu-system-x86_64]=qemu-system-x86 [busybox]=busybox-static [ipvsadm]=ipvsadm [conntrack]=conntrack
	[arptables-legacy]=arptables [ebtables-legacy]=ebtables
	[etcd]=etcd-server
	[clang-14]=clang-14 [llvm-strip-14]=llvm-14
)
lab=(ip bridge ss tc sysctl iptables nft ipset curl)
case ${1:-} in
demo) commands=("${lab[@]}") ;;
test) commands=("${lab[@]}" arptables-legacy git prometheus promtool prometheus-alertmanager) ;;
vm) commands=("${lab[@]}" arptables-legacy ebtables-legacy qemu-system-x86_64 busybox ipvsadm conntrack) ;;
k8s) commands=("${lab[@]}" etcd) ;;
generate) commands=(clang-14 llvm-strip-14) ;;
*)
	echo "usage: $0 demo|test|vm|k8s|generate" >&2
	exit 2
	;;
esac

export PATH=$PATH:/usr/sbin:/sbin
packages=()
for command in "${commands[@]}"; do
	command -v "$command" >/dev/null || packages+=("${package_of[$command]}")
done
if [[ ${1} == generate && ! -e /usr/include/bpf/bpf_helpers.h ]]; then
	packages+=(libbpf-dev)
fi
if [[ ${1} == vm && ! -e /etc/protocols ]]; then
	packages+=(netbase)
fi
if [[ ${1} == k8s && ! -x /usr/lib/cni/bridge ]]; then
	packages+=(containernetworking-plugins)
fi
if [[ ${#packages[@]} -eq 0 ]]; then
	exit 0
fi
mapfile -t packages < <(printf '%s\n' "${packages[@]}" | sort -u)

if ! command -v apt-get >/dev/null; then
	echo "missing: ${packages[*]} (the names of Debian's packages); install what your system calls them" >&2
	exit 1
fi
if [[ $(id -u) -ne 0 ]]; then
	echo "missing: ${packages[*]}; run 'sudo apt-get install ${packages[*]}', or this as root" >&2
	exit 1
fi

echo "installing ${packages[*]}"
# Debian starts the services of what it installs: these are wanted as commands.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod +x "$policy"
	trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
for attempt in 1 2 3; do # set-up may be retried: mirrors fail now and then
	if { apt-get update && apt-get install --yes --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
		rm -f "$log"
		exit 0
	fi
	echo "installing failed (attempt $attempt of 3)" >&2
done
cat "$log" >&2
exit 1
