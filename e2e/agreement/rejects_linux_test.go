package agreement

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

var rejects = map[netstack.Family][]string{
	netstack.IPv4: {
		"icmp-net-unreachable", "icmp-host-unreachable", "icmp-port-unreachable", "icmp-proto-unreachable",
		"icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited", "tcp-reset",
	},
	netstack.IPv6: {
		"icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable",
		"icmp6-policy-fail", "icmp6-reject-route", "tcp-reset",
	},
}

// TestEveryRejectIsHeardAsTheKernelTellsIt rejects with every kind of notice at
// every hook, each on a port of its own.
func TestEveryRejectIsHeardAsTheKernelTellsIt(t *testing.T) {
	t.Parallel()
	l := startQuick(t, "rejects", nil)
	places := []struct{ place, table, chain string }{
		{web, "filter", "OUTPUT"}, {"node-1", "filter", "FORWARD"}, {"node-2", "filter", "FORWARD"}, {far, "filter", "INPUT"},
	}
	type attempt struct {
		name, proto string
		to          netip.AddrPort
	}
	var attempts []attempt
	pod, err := l.Spec.Pod(far)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(7000)
	for _, f := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
		tool, addr := "iptables", pod.Addresses[0]
		if f == netstack.IPv6 {
			tool, addr = "ip6tables", pod.Addresses[1]
		}
		for _, at := range places {
			for _, with := range rejects[f] {
				for _, proto := range []string{"tcp", "udp"} {
					if with == "tcp-reset" && proto == "udp" {
						continue
					}
					port++
					command(t, l, at.place, tool, "-t", at.table, "-I", at.chain, "-p", proto, "--dport", fmt.Sprint(port), "-j", "REJECT", "--reject-with", with)
					attempts = append(attempts, attempt{
						fmt.Sprintf("%s of %s in %s of %s", with, proto, at.chain, at.place), proto, netip.AddrPortFrom(addr, port),
					})
				}
			}
		}
	}
	world := against.Compile(t, collect(t, l))
	client := lab.PodEndpoint(web)
	for _, a := range attempts {
		fate, err := l.Connect(t.Context(), client, a.to, lab.ConnectOptions{Protocol: a.proto})
		if err != nil {
			t.Fatal(err)
		}
		r := against.Diagnose(t, world, verdict.Query{From: client.String(), To: a.to.Addr().String(), Port: a.to.Port(), Protocol: verdict.Protocol(a.proto)})
		if len(r.Paths) != 1 {
			t.Fatalf("%s: %d paths", a.name, len(r.Paths))
		}
		against.Agree(t, a.name, a.proto, fate, &r.Paths[0], verdict.NetfilterReject)
	}
}
