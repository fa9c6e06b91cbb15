package lab

import (
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestAConnectionTellsItsPeerItsOwnEndAndItsBackend(t *testing.T) {
	l := newLab(t, "pllab-peer")
	svc, err := l.Spec.Service("shop/api")
	if err != nil {
		t.Fatal(err)
	}
	node := l.Spec.node("node-2")
	for _, f := range []family{ipv4, ipv6} {
		for i, c := range []struct {
			name     string
			from     Endpoint
			to       netip.Addr
			port     uint16
			protocol string
			outcome  string
			peers    string
		}{
			{"TCP to a pod", PodEndpoint("shop/web-0"), l.far().Addresses[f], 8080, "tcp", Established, "shop/api-1"},
			{"UDP to a pod", PodEndpoint("shop/web-0"), l.near().Addresses[f], 5353, "udp", Answered, "shop/api-0"},
			{"TCP to a Service", PodEndpoint("shop/web-0"), svc.ClusterIPs[f], 80, "tcp", Established, "shop/api-0 shop/api-1"},
			{"UDP to a Service", PodEndpoint("shop/web-0"), svc.ClusterIPs[f], 53, "udp", Answered, "shop/api-0 shop/api-1"},
			{"TCP from a node to a Service", NodeEndpoint("node-1"), svc.ClusterIPs[f], 80, "tcp", Established, "shop/api-0 shop/api-1"},
			{"TCP to the port of a node", NodeEndpoint("node-1"), node.Addresses[f], 30080, "tcp", Established, "shop/api-0 shop/api-1"},
		} {
			t.Run(f.String()+" "+c.name, func(t *testing.T) {
				port := uint16(20000 + i)
				fate, err := l.Connect(t.Context(), c.from, netip.AddrPortFrom(c.to, c.port), ConnectOptions{Protocol: c.protocol, SourcePort: port, FullSize: true})
				if err != nil {
					t.Fatal(err)
				}
				if fate.Outcome != c.outcome || fate.FullSize != (c.protocol == "tcp") || !strings.Contains(c.peers, fate.Peer) || fate.Peer == "" || fate.Err != nil {
					t.Errorf("got %+v, want %s by %s", fate, c.outcome, c.peers)
				}
				if fate.Local.Port() != port {
					t.Errorf("the client's end is %s, want port %d", fate.Local, port)
				}
				if c.to == node.Addresses[f] {
					return // node-2 has the entry then, under the same client
				}
				backend, ok, err := l.Backend(t.Context(), "node-1", c.protocol, fate.Local)
				if err != nil || !ok || backend.Addr() != l.Spec.role(fate.Peer).Addresses[f] {
					t.Errorf("conntrack says %s, %t (%v), but %s answered", backend, ok, err, fate.Peer)
				}
			})
		}
	}
}

func TestEveryOutcomeHasItsOwnWord(t *testing.T) {
	l := newLab(t, "pllab-word")
	ctx := t.Context()
	web, node := PodEndpoint("shop/web-0"), NodeEndpoint("node-1")
	do := func(t *testing.T, e Endpoint, command string) {
		t.Helper()
		if _, err := l.Output(ctx, e, strings.Fields(command)...); err != nil {
			t.Fatal(err)
		}
	}
	for f, v := range []struct{ ip, iptables, admin, echo, unreachable string }{
		{"ip", "iptables-nft", "icmp-admin-prohibited", "icmp", HostUnreachable},
		// ip6_pkt_discard answers "no route" for an unreachable route too.
		{"ip -6", "ip6tables-nft", "icmp6-adm-prohibited", "icmpv6", NetUnreachable},
	} {
		far := l.far().Addresses[f].String()
		for _, c := range []struct {
			name, protocol string
			at             Endpoint
			set, unset     string
			want           string
		}{
			{"TCP that nothing stops", "tcp", web, "true", "true", Established},
			{"UDP that nothing stops", "udp", web, "true", "true", Answered},
			{"an echo request that nothing stops", "icmp", web, "true", "true", Answered},
			{"TCP rejected by a reset", "tcp", node, v.iptables + " -I FORWARD -p tcp -d " + far + " -j REJECT --reject-with tcp-reset", v.iptables + " -D FORWARD 1", Refused},
			{"TCP rejected as forbidden", "tcp", node, v.iptables + " -I FORWARD -d " + far + " -j REJECT --reject-with " + v.admin, v.iptables + " -D FORWARD 1", Prohibited},
			{"UDP rejected as forbidden", "udp", node, v.iptables + " -I FORWARD -d " + far + " -j REJECT --reject-with " + v.admin, v.iptables + " -D FORWARD 1", Prohibited},
			{"TCP through a prohibit route", "tcp", node, v.ip + " route add prohibit " + far, v.ip + " route del prohibit " + far, Prohibited},
			{"TCP through an unreachable route", "tcp", node, v.ip + " route add unreachable " + far, v.ip + " route del unreachable " + far, v.unreachable},
			{"UDP through an unreachable route", "udp", node, v.ip + " route add unreachable " + far, v.ip + " route del unreachable " + far, v.unreachable},
			{"TCP that its own node has no route for", "tcp", web, v.ip + " route del default", "true", NetUnreachable},
			{"UDP that its own node has no route for", "udp", web, "true", "true", NetUnreachable},
			{"an echo request that its own node has no route for", "icmp", web, "true", v.ip + " route add default via " + gateways(l.clientNode())[f].String(), NetUnreachable},
			{"an echo request dropped", "icmp", node, v.iptables + " -I FORWARD -p " + v.echo + " -d " + far + " -j DROP", v.iptables + " -D FORWARD 1", Timeout},
		} {
			t.Run(family(f).String()+" "+c.name, func(t *testing.T) {
				do(t, c.at, c.set)
				port := uint16(8080)
				if c.protocol == "udp" {
					port = 5353
				}
				fate, err := l.Connect(ctx, web, netip.AddrPortFrom(l.far().Addresses[f], port), ConnectOptions{Protocol: c.protocol})
				if err != nil {
					t.Fatal(err)
				}
				if fate.Outcome != c.want {
					t.Errorf("got %s (%v), want %s", fate.Outcome, fate.Err, c.want)
				}
				do(t, c.at, c.unset)
			})
		}
	}
}

func TestPacketLossIsSurvivedByRetransmitting(t *testing.T) {
	l := newLab(t, "pllab-loss")
	ctx := t.Context()
	if err := l.Break(ctx, "packet-loss"); err != nil {
		t.Fatal(err)
	}
	for f := range []family{ipv4, ipv6} {
		before := retransmits(t, l)
		// Of one connection it may be acknowledgements that are lost. Those of two lengths do not for ever have the fourth packet
		// in the same place.
		const patience = 60
		n := 0
		for ; n < patience && retransmits(t, l) == before; n++ {
			options := ConnectOptions{FullSize: n%2 == 0, Timeout: time.Minute}
			fate, err := l.Connect(ctx, PodEndpoint("shop/web-0"), netip.AddrPortFrom(l.far().Addresses[f], 8080), options)
			if err != nil {
				t.Fatal(err)
			}
			if fate.Outcome != Established || options.FullSize && !fate.FullSize {
				t.Errorf("%s: got %+v, want %s", family(f), fate, Established)
			}
		}
		if n == patience {
			t.Errorf("%s: in %d connections, the client sent nothing twice", family(f), n)
		}
	}
}

// retransmits reads the client's own counter of segments sent again.
func retransmits(t *testing.T, l *Lab) (n uint64) {
	t.Helper()
	err := InNetns(l.podNetns(l.client()), func() error {
		data, err := os.ReadFile("/proc/thread-self/net/snmp")
		if err != nil {
			return err
		}
		var names []string
		for line := range strings.Lines(string(data)) {
			fields := strings.Fields(line)
			if fields[0] != "Tcp:" {
				continue
			}
			if names == nil {
				names = fields
				continue
			}
			for i, name := range names {
				if name == "RetransSegs" {
					n, err = strconv.ParseUint(fields[i], 10, 64)
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
