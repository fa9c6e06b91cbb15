package netfilter

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// kubeProxyRules is iptables-save text in the shape that kube-proxy writes.
func kubeProxyRules(services, endpoints int) string {
	var filter, chains, rules, svc strings.Builder
	filter.WriteString("*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-FORWARD - [0:0]\n" +
		"-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD\n" +
		"-A KUBE-FORWARD -m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP\n" +
		"-A KUBE-FORWARD -m comment --comment \"kubernetes forwarding rules\" -m mark --mark 0x4000/0x4000 -j ACCEPT\n" +
		"-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n")
	chains.WriteString("*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n" +
		":KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n")
	rules.WriteString("-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n" +
		"-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES\n" +
		"-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING\n" +
		"-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\n" +
		"-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n" +
		"-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n" +
		"-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully\n")
	for i := range services {
		vip := fmt.Sprintf("10.96.%d.%d", i>>8, i&255)
		fmt.Fprintf(&chains, ":KUBE-SVC-%08X - [0:0]\n", i)
		fmt.Fprintf(&rules, "-A KUBE-SERVICES -d %s/32 -p tcp -m comment --comment \"shop/api-%d:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-%08X\n", vip, i, i)
		fmt.Fprintf(&svc, "-A KUBE-SVC-%08X ! -s 10.244.0.0/16 -d %s/32 -p tcp -m comment --comment \"shop/api-%d:http cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ\n", i, vip, i)
		for e := range endpoints {
			n := i*endpoints + e
			ip := fmt.Sprintf("10.244.%d.%d", n>>8&255, n&255)
			fmt.Fprintf(&chains, ":KUBE-SEP-%08X - [0:0]\n", n)
			statistic := ""
			if e < endpoints-1 {
				statistic = fmt.Sprintf(" -m statistic --mode random --probability %.11f", 1/float64(endpoints-e))
			}
			fmt.Fprintf(&svc, "-A KUBE-SVC-%08X -m comment --comment \"shop/api-%d:http -> %s:8080\"%s -j KUBE-SEP-%08X\n", i, i, ip, statistic, n)
			fmt.Fprintf(&svc, "-A KUBE-SEP-%08X -s %s/32 -m comment --comment \"shop/api-%d:http\" -j KUBE-MARK-MASQ\n", n, ip, i)
			fmt.Fprintf(&svc, "-A KUBE-SEP-%08X -p tcp -m comment --comment \"shop/api-%d:http\" -m tcp -j DNAT --to-destination %s:8080\n", n, i, ip)
		}
	}
	return filter.String() + chains.String() + rules.String() + svc.String() + "COMMIT\n"
}

func BenchmarkCompile1000Services(b *testing.B) {
	ns := dump(netstack.IPv4, netstack.BackendNFT, kubeProxyRules(1000, 3))
	b.SetBytes(int64(len(ns.IPTables[0].Data)))
	b.ReportAllocs()
	for b.Loop() {
		mustCompile(b, ns)
	}
}

func BenchmarkRunLastOf1000Services(b *testing.B) {
	rs := mustCompile(b, dump(netstack.IPv4, netstack.BackendNFT, kubeProxyRules(1000, 3)))
	env := &fakeEnv{addrs: map[string]string{"eth0": "192.168.0.1"}}
	b.ReportAllocs()
	for b.Loop() {
		p := packet(func(p *netstack.Packet) { p.Dst = netip.MustParseAddr("10.96.3.231") })
		st := &State{Packet: p, In: "veth0", Conntrack: NewConntrack()}
		rs.Run(netstack.IPv4, Prerouting, st, env)
		st.Out = "eth0"
		rs.Run(netstack.IPv4, Forward, st, env)
		rs.Run(netstack.IPv4, Postrouting, st, env)
		if p.DstPort != 8080 || p.Src.String() != "192.168.0.1" {
			b.Fatalf("not translated: %v", p)
		}
	}
}
