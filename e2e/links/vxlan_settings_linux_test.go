package links

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// vxlanOver4 and vxlanOver6 are a VXLAN device at either end, each with settings of its own.
var (
	vxlanOver4 = vxlanBetween("10.9.1.1", "10.9.1.2")
	vxlanOver6 = vxlanBetween("fd00:9:1::1", "fd00:9:1::2")
)

func vxlanBetween(a, b string) func(ofA, ofB string) string {
	return func(ofA, ofB string) string {
		return pair + strings.NewReplacer("ADDRESS-A", a, "ADDRESS-B", b, "OF-A", ofA, "OF-B", ofB).Replace(`
	a ip link add t0 type vxlan id 7 dstport 4789 local ADDRESS-A remote ADDRESS-B OF-A
	b ip link add t0 type vxlan id 7 dstport 4789 local ADDRESS-B remote ADDRESS-A OF-B
	addr a:t0 3.1
	addr b:t0 3.2
	a ip link set t0 up
	b ip link set t0 up
`)
	}
}

// vxlanSettings are those that decide whether the other end understands.
var vxlanSettings = []scenario{
	{name: "no checksums, which the other end does not take", setup: vxlanOver6("udp6zerocsumtx", ""), to: "3.2", reason: verdict.VXLANPeerMissing},
	{name: "no checksums, which the other end takes", setup: vxlanOver6("udp6zerocsumtx", "udp6zerocsumrx"), to: "3.2"},
	{name: "no checksums in answers, which are not taken", setup: vxlanOver6("", "udp6zerocsumtx"), to: "3.2", reason: verdict.VXLANPeerMissing},
	{name: "IPv4 does without them", setup: vxlanOver4("noudpcsum", "udpcsum"), to: "3.2"},
	{name: "checksums of what is inside are left to the other end, which does not know", opaque: true, setup: vxlanOver4("remcsumtx", ""), to: "3.2", reason: verdict.UnmodelledRule},
	{name: "a port of the range that it sends from", setup: vxlanOver4("srcport 5000 5001", "") + `
		b iptables -A INPUT -p udp --dport 4789 ! --sport 5000 -j DROP`, to: "3.2"},
	{name: "a port beyond the range that it sends from", setup: vxlanOver4("srcport 5000 5001", "") + `
		b iptables -A INPUT -p udp --dport 4789 --sport 5000 -j DROP`, to: "3.2", reason: verdict.NetfilterDrop},
	{name: "policies of groups at one end", setup: vxlanOver4("gbp", ""), to: "3.2"},
	{name: "no entries are learnt", setup: vxlanOver4("maxaddress 1", "nolearning"), to: "3.2"},
	{name: "a hop limit of one is enough", setup: vxlanOver4("ttl 1", "ttl 1"), to: "3.2"},
}
