package links

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// tunnelKind is a kind of tunnels between n and m, and the family that it carries if it is one.
type tunnelKind struct {
	kind, ends, options string
	only                netstack.Family
	tooBig              tooBig
}

// tooBig is what becomes of packets that are too large for a tunnel's path.
type tooBig int

const (
	told       tooBig = iota // their sender hears of it
	fragmented               // the packets around are
	lost
)

var tunnelKinds = []tunnelKind{
	{"ipip", "10.9.5.", "", netstack.IPv4, told},
	{"sit", "10.9.5.", "", 0, told},
	{"sit", "10.9.5.", "nopmtudisc ttl inherit", netstack.IPv6, told}, // of the device's own MTU; what does not fit the wire is fragmented
	{"gre", "10.9.5.", "", 0, told},
	{"gre", "10.9.5.", "nopmtudisc ttl inherit", netstack.IPv4, told}, // what IPv4 asks for is heeded
	{"gre", "10.9.5.", "nopmtudisc ttl inherit", netstack.IPv6, told}, // as sit
	{"ip6tnl", "fd00:9:5::", "mode any", 0, told},
	{"vxlan", "10.9.5.", "id 5 dstport 4789", netstack.IPv4, fragmented},
	{"vxlan", "10.9.5.", "id 5 dstport 4789", netstack.IPv6, told},
	{"vxlan", "fd00:9:5::", "id 5 dstport 4789", netstack.IPv4, lost}, // nobody fragments IPv6 on its way
	{"vxlan", "fd00:9:5::", "id 5 dstport 4789", netstack.IPv6, told},
}

// setup makes the tunnel, with what is between a and b. No device takes data in pieces larger than its MTU.
func (k *tunnelKind) setup() string {
	lines := `
		n ip link add t0 type KIND local ENDS1 remote ENDS2 OPTIONS
		m ip link add t0 type KIND local ENDS2 remote ENDS1 OPTIONS
		n ip link set t0 gso_max_segs 1 up
		m ip link set t0 gso_max_segs 1 up
		a ip link set eth0 gso_max_segs 1
		b ip link set eth0 gso_max_segs 1
		n ip addr add 10.9.5.1/24 dev eth0
		m ip addr add 10.9.5.2/24 dev eth0
		n ip -6 addr add fd00:9:5::1/64 dev eth0 nodad
		m ip -6 addr add fd00:9:5::2/64 dev eth0 nodad
	`
	if k.kind == "vxlan" {
		lines += `
		addr n:t0 6.1
		addr m:t0 6.2
		n {ip} route add {2/} via {6.2}
		m {ip} route add {1/} via {6.1}
		`
	} else {
		lines += throughTunnel
	}
	addressed := "\taddr n:eth0 5.1\n\taddr m:eth0 5.2\n"
	return strings.Replace(joined, addressed, "", 1) + strings.NewReplacer("KIND", k.kind, "ENDS", k.ends, "OPTIONS", k.options).Replace(lines)
}

// deaf keeps a namespace from hearing that its packets are too large.
func deaf(ns string) string {
	return `
		` + ns + ` iptables -A INPUT -p icmp --icmp-type fragmentation-needed -j DROP
		` + ns + ` ip6tables -A INPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP
	`
}

// wired sets the MTU of the wire's ends.
func wired(n, m string) string {
	return `
		n ip link set eth0 mtu ` + n + `
		m ip link set eth0 mtu ` + m + `
	`
}

// narrowPaths are ways through tunnels whose wire has a smaller MTU than the tunnel believes.
var narrowPaths = []struct {
	name, from, setup string
	// lost says that full-size segments do not get through where senders are told, and always that nothing else helps either.
	lost, always bool
}{
	{"a smaller wire", "a", wired("1400", "1400"), false, false},
	{"a smaller wire", "n", wired("1400", "1400") + deaf("n"), false, false}, // the device itself tells n
	{"a smaller wire, and the sender does not hear of it", "a", wired("1400", "1400") + deaf("a"), true, false},
	{"a smaller wire, and the receiver does not hear of it", "a", wired("1400", "1400") + deaf("b"), true, false},
	// What it sends first tells n of it, too late for the size of segments that it announces (skb_dst_update_pmtu_no_confirm).
	{"its end of the wire is smaller", "n", wired("1400", "1500"), true, true},
	{"the sender's end of the wire is smaller", "a", wired("1400", "1500"), true, true},
}

func TestTunnelsOverNarrowWires(t *testing.T) {
	var scenarios []scenario
	add := func(k *tunnelKind, name, from, setup string, missing bool) {
		s := scenario{
			name:  fmt.Sprintf("%s %s to %s2 with %s, from %s: %s", k.kind, k.options, k.ends, cmp.Or(k.only.String(), "both"), from, name),
			needs: []string{k.kind}, setup: k.setup() + setup, from: from, to: "2.1", only: k.only, protocols: []string{"tcp"}, first: true,
		}
		if missing {
			s.reason = verdict.MTUExceeded
		}
		scenarios = append(scenarios, s)
	}
	for i := range tunnelKinds {
		k := &tunnelKinds[i]
		for _, path := range narrowPaths {
			missing := path.lost
			if !path.always && k.tooBig != told {
				missing = k.tooBig == lost
			}
			add(k, path.name, path.from, path.setup, missing)
		}
	}
	// Senders of IPv6 take no MTU below 1280 for true: what remains is too large for a tunnel that does not fragment.
	const tiny = "a wire on which no packet of 1280 bytes fits into the tunnel"
	for _, k := range []tunnelKind{
		{"sit", "10.9.5.", "", netstack.IPv6, fragmented},
		{"gre", "10.9.5.", "", netstack.IPv6, lost},
		{"ip6tnl", "fd00:9:5::", "mode any", netstack.IPv6, lost},
	} {
		add(&k, tiny, "a", wired("1290", "1290"), k.tooBig == lost)
	}
	runAll(t, "tm", scenarios)
}
