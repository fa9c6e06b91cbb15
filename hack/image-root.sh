#!/usr/bin/env bash
# Assembles the root of the image in a directory: Plumbline, the programs that its collector runs, and what those need;
# no shell, no package manager. image-root.sh DIR PLUMBLINE; the Dockerfile runs it, and so can a Debian machine with
# iptables, nftables and ipset.
set -euo pipefail
root=$1 plumbline=$2

programs=(/usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi /usr/sbin/nft /usr/sbin/ipset)
libraries=$(dirname "$(find /usr/lib -path '*/xtables/libxt_tcp.so' -o -path '*/xtables/libxt_standard.so' | head -n 1)")
[[ -d $libraries ]] || { echo "the extensions of iptables are not installed" >&2; exit 1; }

mkdir -p "$root"/{etc,proc,sys,dev,run,tmp,usr/bin,usr/sbin,usr/lib}
for dir in bin sbin lib; do ln -sfn "usr/$dir" "$root/$dir"; done
[[ ! -e /lib64 ]] || { mkdir -p "$root/usr/lib64"; ln -sfn usr/lib64 "$root/lib64"; }
install -m 755 "$plumbline" "$root/usr/bin/plumbline"
mkdir -p "$root$libraries"
cp "$libraries"/*.so "$root$libraries/"
for file in "${programs[@]}" "$libraries"/*.so; do
	[[ $file == *.so ]] || install -D -m 755 "$file" "$root$file"
	# "name => /path (address)", and "/path (address)" for the loader
	ldd "$file" | grep -o '/[^ ]*' | while read -r library; do
		[[ -e $root$library ]] || install -D -m 755 "$library" "$root$library"
	done
done
for name in iptables ip6tables; do
	ln -sfn xtables-legacy-multi "$root/usr/sbin/$name-legacy-save"
	ln -sfn xtables-nft-multi "$root/usr/sbin/$name-nft-save"
	ln -sfn xtables-nft-multi "$root/usr/sbin/$name-nft"
done
for file in protocols services; do
	[[ ! -e /etc/$file ]] || install -m 644 "/etc/$file" "$root/etc/$file"
done
echo 'plumbline:x:60811:60811:Plumbline:/:/usr/sbin/nologin' >"$root/etc/passwd"
echo 'plumbline:x:60811:' >"$root/etc/group"
