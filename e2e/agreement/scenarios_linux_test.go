package agreement

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// scenario changes the lab by hand, in a way that is no fault of the lab, and
// looks at one connection from web-0.
type scenario struct {
	name string
	// change is one command a line: PLACE COMMAND…
	change string
	to     string // a pod, svc, or svc/near for its backend on the client's node
	proto  string // tcp by default
	ipv6   bool
	reason verdict.Code // the first one; empty for a path that works
	// patient: pods look for a neighbour for three seconds before they give up.
	patient bool
}

const (
	near = "shop/api-0" // on the node of the client
	far  = "shop/api-1"
	svc  = "svc"
)

var scenarios = []scenario{
	{name: "nothing is changed", to: far},
	{name: "a reject at the server with an ICMP error", to: far, reason: verdict.NetfilterReject, change: `
		shop/api-1 iptables -A INPUT -p tcp --dport 8080 -j REJECT`},
	{name: "a reject at the server with a reset", to: far, reason: verdict.NetfilterReject, change: `
		shop/api-1 iptables -A INPUT -p tcp --dport 8080 -j REJECT --reject-with tcp-reset`},
	{name: "a reject on the way: host prohibited", to: far, reason: verdict.NetfilterReject, change: `
		node-2 iptables -I FORWARD -p tcp --dport 8080 -j REJECT --reject-with icmp-host-prohibited`},
	{name: "a reject on the way: admin prohibited, IPv6", to: far, ipv6: true, reason: verdict.NetfilterReject, change: `
		node-2 ip6tables -I FORWARD -p tcp --dport 8080 -j REJECT --reject-with icmp6-adm-prohibited`},
	{name: "a reject on the way through a service", to: svc, reason: verdict.NetfilterReject, change: `
		node-1 iptables -I FORWARD -p tcp --dport 8080 -j REJECT`},
	{name: "a drop in the client's OUTPUT", to: far, reason: verdict.NetfilterDrop, change: `
		shop/web-0 iptables -A OUTPUT -p tcp --dport 8080 -j DROP`},
	{name: "a drop of a datagram in the client's OUTPUT", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		shop/web-0 iptables -A OUTPUT -p udp -j DROP`},
	{name: "a reject in the client's OUTPUT", to: far, reason: verdict.NetfilterReject, change: `
		shop/web-0 iptables -A OUTPUT -p tcp --dport 8080 -j REJECT`},
	{name: "the client has a prohibit route", to: far, reason: verdict.RouteProhibit, change: `
		shop/web-0 ip route add prohibit 10.244.2.0/24`},
	{name: "the client has an unreachable route", to: far, reason: verdict.RouteUnreachable, change: `
		shop/web-0 ip route add unreachable 10.244.2.0/24`},
	{name: "the client has no default route", to: far, reason: verdict.NoRoute, change: `
		shop/web-0 ip route del default`},
	{name: "the node has an unreachable route", to: far, reason: verdict.RouteUnreachable, change: `
		node-1 ip route replace unreachable 10.244.2.0/24`},
	{name: "the node has a prohibit route, IPv6", to: far, ipv6: true, reason: verdict.RouteProhibit, change: `
		node-1 ip -6 route replace prohibit fd00:10:244:2::/64`},
	{name: "the server has no route back", to: far, reason: verdict.NoRoute, change: `
		shop/api-1 ip route del default`},
	{name: "replies are dropped on the client's node", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 iptables -I FORWARD -p tcp --sport 8080 -j DROP`},
	{name: "the answer to a datagram is dropped", to: far, proto: "udp", reason: verdict.NetfilterDrop, change: `
		node-1 iptables -I FORWARD -p udp --sport 5353 -j DROP`},
	{name: "echo requests are ignored", to: far, proto: "icmp", reason: verdict.NoListener, change: `
		shop/api-1 sysctl -qw net.ipv4.icmp_echo_ignore_all=1`},
	{name: "only first packets are accepted", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 iptables -I FORWARD -d 10.244.2.20 -j DROP
		node-2 iptables -I FORWARD -d 10.244.2.20 -m conntrack --ctstate NEW -j ACCEPT`},
	{name: "the pod's interface is down", to: far, reason: verdict.InterfaceDown, change: `
		shop/api-1 ip link set eth0 down
		node-2 ip neigh flush dev cni0`},
	{name: "both ports are isolated", to: near, patient: true, reason: verdict.BridgePortIsolated, change: `
		node-1 ISOLATE
		shop/web-0 ip neigh flush dev eth0
		shop/api-0 ip neigh flush dev eth0`},
	{name: "a permanent neighbour entry is wrong", to: near, reason: verdict.NeighbourStale, change: `
		shop/web-0 ip neigh replace 10.244.1.20 lladdr 02:00:00:00:00:99 dev eth0 nud permanent`},
	{name: "bridged pods are not translated back without br_netfilter", to: svc + "/near", reason: verdict.ReplyNotTranslated, change: `
		node-1 sysctl -qw net.bridge.bridge-nf-call-iptables=0`},
	{name: "a smaller MTU on the way that the sender is told of", to: far, change: `
		node-1 ip link set eth0 mtu 1400`},
	{name: "a smaller MTU at one end", to: far, change: `
		shop/api-1 ip link set eth0 mtu 1300`},
	{name: "a mark that a routing rule sends into a blackhole", to: far, reason: verdict.RouteBlackhole, change: `
		node-1 iptables -t mangle -A PREROUTING -s 10.244.1.10 -p tcp --dport 8080 -j MARK --set-xmark 0x10/0x10
		node-1 ip rule add fwmark 0x10/0x10 lookup 100
		node-1 ip route add blackhole default table 100`},
	{name: "a chain that returns to its caller, which drops", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 iptables -N A
		node-2 iptables -N B
		node-2 iptables -A B -p udp -j ACCEPT
		node-2 iptables -A B -j RETURN
		node-2 iptables -A A -j B
		node-2 iptables -A A -p tcp --dport 8080 -j DROP
		node-2 iptables -I FORWARD -d 10.244.2.20 -j A`},
	{name: "a masqueraded connection comes back", to: far, change: `
		node-1 iptables -t nat -A POSTROUTING -s 10.244.1.0/24 -o eth0 -j MASQUERADE`},
	{name: "a redirect to a port where nobody listens", to: far, reason: verdict.NoListener, change: `
		shop/api-1 iptables -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 8081`},
	{name: "an own nftables table in IPv6", to: far, ipv6: true, reason: verdict.NetfilterDrop, change: `
		node-2 nft add table ip6 own
		node-2 nft add chain ip6 own forward { type filter hook forward priority 10 ; policy accept ; }
		node-2 nft add rule ip6 own forward ip6 daddr fd00:10:244:2::20 tcp dport { 8000-9000 } drop`},
	{name: "an ipset that holds the server", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 ipset create banned hash:net
		node-2 ipset add banned 10.244.2.16/28
		node-2 iptables -I FORWARD -m set --match-set banned dst -j DROP`},
}

func TestScenarios(t *testing.T) {
	for i, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			runScenario(t, startLab(t, fmt.Sprintf("s%d", i), nil), s)
		})
	}
}

func runScenario(t *testing.T, l *lab.Lab, s scenario) {
	ctx := t.Context()
	for line := range strings.Lines(s.change) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		where, err := l.ParseEndpoint(fields[0])
		if err != nil {
			t.Fatal(err)
		}
		if fields[1] == "ISOLATE" {
			isolate(t, l, where)
			continue
		}
		if out, err := l.Output(ctx, where, fields[1:]...); err != nil {
			t.Fatalf("%s: %v\n%s", strings.TrimSpace(line), err, out)
		}
	}
	at := 0
	if s.ipv6 {
		at = 1
	}
	proto := s.proto
	if proto == "" {
		proto = "tcp"
	}
	client := lab.PodEndpoint(l.Spec.Roles.Client)
	to, backends := target(t, l, s.to, proto, at)
	world := compile(t, collect(t, l))
	query := verdict.Query{From: "pod:" + client.Name, To: to.Addr().String(), Port: to.Port(), Protocol: verdict.Protocol(proto)}
	if proto == "icmp" {
		query.Port = 0
	}
	report := diagnose(t, world, query)
	options := lab.ConnectOptions{Protocol: proto, FullSize: proto == "tcp"}
	if s.patient {
		options.Timeout = 6 * time.Second
	}
	if backends == nil {
		fate, err := l.Connect(ctx, client, to, options)
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Paths) != 1 {
			t.Fatalf("%d paths: %v", len(report.Paths), report.Reasons)
		}
		agree(t, s, proto, fate, &report.Paths[0])
		return
	}
	fates, err := l.ConnectEach(ctx, client, to, backends, options)
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range backends {
		path := pathTo(report, backend)
		if path == nil {
			t.Fatalf("no path to %s: %v", backend, report.Reasons)
		}
		agree(t, s, proto, fates[backend], path)
	}
}

// agree compares the simulated path with the fate of the real connection.
func agree(t *testing.T, s scenario, proto string, fate lab.Fate, path *verdict.Path) {
	t.Helper()
	want := verdict.Unreachable
	switch {
	case fate.Outcome == lab.Established && !fate.FullSize:
		want = verdict.Degraded
	case fate.Outcome == lab.Established, fate.Outcome == lab.Answered:
		want = verdict.Reachable
	}
	outcome := fate.Outcome
	if proto == "udp" && path.Outcome == verdict.OutcomeDelivered && outcome == lab.Timeout {
		// Silence is all that the client can see; that the datagram arrives, the
		// listener alone knows.
		outcome, want = string(verdict.OutcomeDelivered), verdict.Degraded
	}
	if string(path.Outcome) != outcome || path.Verdict != want {
		t.Errorf("simulated %s, %s; the kernel made it %s (full size: %v, %v): %s",
			path.Outcome, path.Verdict, fate.Outcome, fate.FullSize, fate.Err, codes(path.Findings))
	}
	var first verdict.Code
	if len(path.Findings) > 0 {
		first = path.Findings[0].Code
	}
	if first != s.reason {
		t.Errorf("first reason %q, want %q: %v", first, s.reason, path.Findings)
	}
}

// target is where the scenario connects to, and the backends if it is a service.
func target(t *testing.T, l *lab.Lab, to, proto string, at int) (netip.AddrPort, []netip.AddrPort) {
	t.Helper()
	address := func(id, proto string) netip.AddrPort {
		pod, err := l.Spec.Pod(id)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pod.Ports {
			if strings.EqualFold(p.Protocol, proto) {
				return netip.AddrPortFrom(pod.Addresses[at], p.Port)
			}
		}
		return netip.AddrPortFrom(pod.Addresses[at], pod.Ports[0].Port)
	}
	if !strings.HasPrefix(to, svc) {
		return address(to, proto), nil
	}
	service, err := l.Spec.Service("shop/api")
	if err != nil {
		t.Fatal(err)
	}
	backends := []netip.AddrPort{address(near, proto)}
	if to == svc {
		backends = append(backends, address(far, proto))
	}
	return netip.AddrPortFrom(service.ClusterIPs[at], service.Ports[0].Port), backends
}

// isolate isolates every port of the node's pod bridge.
func isolate(t *testing.T, l *lab.Lab, node lab.Endpoint) {
	t.Helper()
	out, err := l.Output(t.Context(), node, "ip", "-o", "link", "show", "master", "cni0")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		_, rest, _ := strings.Cut(line, ": ")
		dev, _, _ := strings.Cut(rest, "@")
		if _, err := l.Output(t.Context(), node, "bridge", "link", "set", "dev", dev, "isolated", "on"); err != nil {
			t.Fatal(err)
		}
	}
}
