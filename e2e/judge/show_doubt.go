package judge

import (
	"fmt"
	"net/netip"
)

// doubtSubjects look at what no snapshot shows, or hand the packet to a program. Where it decides, the simulator has to say that
// it does not know; where it does not, because the next rule drops the packet anyhow, nothing is to be doubted.
func doubtSubjects() []subject {
	doubts := []struct {
		feature string
		tables  []string
		fits    func(*view) bool
		text    func(*xtables) string
	}{
		{"match:limit", []string{"filter", "mangle"}, nil, func(*xtables) string { return "-m limit --limit 5/sec -j DROP" }},
		{"match:hashlimit", []string{"filter", "mangle"}, nil, func(x *xtables) string {
			return fmt.Sprintf("-m hashlimit --hashlimit-upto 5/sec --hashlimit-mode srcip --hashlimit-name h%d -j DROP", len(x.world.Elements))
		}},
		{"match:recent", []string{"filter", "mangle"}, nil, func(x *xtables) string {
			return fmt.Sprintf("-m recent --rcheck --name r%d -j DROP", len(x.world.Elements))
		}},
		{"match:connlimit", []string{"filter", "mangle"}, tcp, func(*xtables) string { return "-m connlimit --connlimit-above 0 -j DROP" }},
		{"match:quota", []string{"filter", "mangle"}, nil, func(*xtables) string { return "-m quota --quota 100000 -j DROP" }},
		{"match:time", []string{"filter", "mangle"}, nil, func(*xtables) string { return "-m time --timestart 08:00 --timestop 12:00 --kerneltz -j DROP" }},
		{"match:string", []string{"filter", "mangle"}, nil, func(*xtables) string { return "-m string --string judge --algo bm -j DROP" }},
		{"match:cgroup", []string{"filter"}, func(v *view) bool { return v.local && v.hook == "OUTPUT" }, func(*xtables) string { return "-m cgroup --cgroup 7 -j DROP" }},
		{"target:NFQUEUE", []string{"filter", "mangle"}, nil, func(x *xtables) string {
			return one(x.builder, "-j NFQUEUE --queue-num 9", "-j NFQUEUE --queue-num 9 --queue-bypass")
		}},
		{"nft:limit", nil, nil, func(*xtables) string { return "limit rate 5/second drop" }},
		{"nft:quota", nil, nil, func(*xtables) string { return "quota until 100 kbytes drop" }},
	}
	return []subject{{feature: "doubt", show: func(b *builder) bool {
		d := doubts[b.IntN(len(doubts))]
		if d.tables == nil {
			x := b.nftSpot(nil)
			if x == nil {
				return false
			}
			x.base("filter", one(b, -149, 0, 60))
			x.rule(x.chain, x.only(), d.text(nil), d.feature)
			if b.chance(60) {
				x.rule(x.chain, x.only(), "drop", "nft:drop")
			}
			return true
		}
		x := b.xtSpot(d.tables, d.fits)
		if x == nil {
			return false
		}
		x.iptables(x.v.ns, x.v.flow.family, x.backend, x.table, x.chain, x.only()+" "+d.text(x), d.feature)
		if b.chance(60) {
			x.shows("", "-j DROP", "target:DROP")
		}
		return true
	}}}
}

// sourceSubjects change which address a node sends from. All that it sends is concerned.
func sourceSubjects() []subject {
	return []subject{
		{feature: "source:ipv4", apart: true, show: func(b *builder) bool {
			// The first address of a subnet is taken where no route names one.
			if b.made("source:ipv4") {
				return false
			}
			n, other := b.nodes[0], b.nodes[1]
			a := n.addrs[0].As4()
			a[3] += 100
			b.add(Element{Namespace: n.name, Tool: ToolLink, Text: fmt.Sprintf("addr add %d.%d.%d.%d/24 dev eth0", a[0], a[1], a[2], a[3]), Features: []string{"source:ipv4"}, Rebuild: true})
			b.askAll(n.name, other.pods[0].addrs[0])
			b.askAll(n.name, other.addrs[0])
			return true
		}},
		{feature: "source:ipv6", apart: true, show: func(b *builder) bool {
			// The address that has most in common with the destination is taken (RFC 6724).
			if b.made("source:ipv6") {
				return false
			}
			n, other := b.nodes[0], b.nodes[1]
			near := other.addrs[1].As16()
			near[13] = 0xff
			b.rebuilt(n.name, fmt.Sprintf("-6 addr add %s/64 dev eth0 nodad%s", netip.AddrFrom16(near), one(b, "", "", " preferred_lft 0")), "source:ipv6")
			b.askAll(n.name, other.addrs[1])
			b.askAll(n.name, other.pods[0].addrs[1])
			return true
		}},
	}
}
