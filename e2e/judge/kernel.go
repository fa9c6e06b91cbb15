package judge

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Kernel is what a kernel lacks of what worlds may be made of: what it said when it was asked, by the names of
// kernelFeatures. A nil one lacks nothing.
type Kernel map[string]string

// has says whether the kernel has all of the features.
func (k Kernel) has(features ...string) bool {
	return !slices.ContainsFunc(features, func(f string) bool { _, lacks := k[f]; return lacks })
}

// print says what has been left out of the worlds.
func (k Kernel) print(w io.Writer) {
	for _, f := range slices.Sorted(maps.Keys(k)) {
		fmt.Fprintf(w, "this kernel lacks %s: %s\n", f, k[f])
	}
}

// needs are the features of the kernel without which the world's links cannot be made.
func (w *World) needs() []string {
	var list []string
	for i := range w.Elements {
		words := strings.Fields(w.Elements[i].Text)
		if at := slices.Index(words, "type"); w.Elements[i].Tool == ToolLink && at >= 0 && at+1 < len(words) {
			if _, asked := kernelFeatures[words[at+1]]; asked {
				list = append(list, words[at+1])
			}
		}
	}
	return list
}

// kernelFeatures are asked for by making each once, in a namespace of its own with a pair of wires, v0 and v1: the lines
// of a tool's batch.
var kernelFeatures = map[string]struct{ tool, lines string }{
	"vlan":           {"ip", "link add link v0 name f type vlan id 5"},
	"vlan-filtering": {"ip", "link add f type bridge vlan_filtering 1"},
	"bond":           {"ip", "link add f type bond mode active-backup"},
	"vrf":            {"ip", "link add f type vrf table 10"},
	"vxlan":          {"ip", "link add f type vxlan id 1 dstport 4789"},
	"ipip":           {"ip", "link add f type ipip remote 10.0.0.1"},
	"sit":            {"ip", "link add f type sit remote 10.0.0.1"},
	"gre":            {"ip", "link add f type gre remote 10.0.0.1"},
	"gretap":         {"ip", "link add f type gretap remote 10.0.0.1"},
	"ip6tnl":         {"ip", "link add f type ip6tnl remote fd00::1"},
	"macvlan":        {"ip", "link add link v0 name f type macvlan mode bridge"},
	"ipvlan":         {"ip", "link add link v0 name f type ipvlan mode l2"},
	"dummy":          {"ip", "link add f type dummy"},
	"tun":            {"ip", "tuntap add dev f mode tun"},

	"hash:mac":          {"ipset", "create f hash:mac"},
	"hash:ip,mac":       {"ipset", "create f hash:ip,mac"},
	"hash:ip,mark":      {"ipset", "create f hash:ip,mark"},
	"hash:net,net":      {"ipset", "create f hash:net,net"},
	"hash:net,port,net": {"ipset", "create f hash:net,port,net"},
	"nft-queue":         {"nft", "add table ip f; add chain ip f c; add rule ip f c queue num 1 bypass"},
	"flowtable":         {"nft", "add table ip f; add flowtable ip f t { hook ingress priority 0; devices = { v0 }; }"},
}
