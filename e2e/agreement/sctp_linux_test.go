package agreement

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const diameter = 3868

// sctpScenarios are associations with the pods of shop/api, whose ends are the lab's own (see lab.SCTPListener). The
// nodes and the other pods are hosts whose kernel does not know SCTP.
var sctpScenarios = []scenario{
	{name: "nothing is changed", to: far},
	{name: "nothing is changed, on the same node", to: near},
	{name: "a pod associates with itself", from: near, to: near},
	{name: "through a service", to: svc},
	{name: "nobody listens on the port", to: far, port: 3869, reason: verdict.NoListener},
	{name: "a host that does not speak SCTP", to: "{node-2}", port: diameter, reason: verdict.NoListener},
	{name: "a host that does not speak SCTP, and whose errors are dropped", to: "{node-2}", port: diameter, reason: verdict.NoListener, change: `
		node-1 {iptables} -I FORWARD -p {icmp} -d {shop/web-0} -j DROP`},
	{name: "an abort is dropped", to: far, port: 3869, reason: verdict.NoListener, change: `
		node-1 {iptables} -I FORWARD -p sctp -m sctp --chunk-types any ABORT -j DROP`},

	// Rules about ports.
	{name: "a drop of a range of ports", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p sctp --dport 3860:3868 -j DROP`},
	{name: "a drop of a range that ends before the port", to: far, change: `
		node-1 {iptables}-legacy -I FORWARD -p sctp --dport 3860:3867 -j DROP`},
	{name: "a reject of several ports", to: far, reason: verdict.NetfilterReject, change: `
		node-2 {iptables}-legacy -I FORWARD -p sctp -m multiport --dports 80,3868 -j REJECT`},
	{name: "a reject of what other protocols send to the port", to: far, change: `
		node-2 {iptables} -I FORWARD -p tcp --dport 3868 -j REJECT
		node-2 {iptables} -I FORWARD -p udp --dport 3868 -j REJECT`},
	{name: "a reject of the answer", to: far, reason: verdict.NetfilterReject, change: `
		node-2 {iptables} -I FORWARD -p sctp --sport 3868 -j REJECT`},
	{name: "a drop in the client's OUTPUT", to: far, reason: verdict.NetfilterDrop, change: `
		shop/web-0 {iptables} -A OUTPUT -p sctp -j DROP`},
	{name: "a reject in the client's OUTPUT", to: far, reason: verdict.NetfilterReject, change: `
		shop/web-0 {iptables} -A OUTPUT -p sctp -j REJECT`},
	{name: "nftables drops by port", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 nft add table inet plumbline-sctp
		node-1 nft add chain inet plumbline-sctp forward { type filter hook forward priority 0 ; }
		node-1 nft add rule inet plumbline-sctp forward sctp dport { 80, 3868-3870 } drop`},
	{name: "nftables rejects by protocol", to: far, reason: verdict.NetfilterReject, change: `
		node-1 nft add table inet plumbline-sctp
		node-1 nft add chain inet plumbline-sctp forward { type filter hook forward priority 0 ; }
		node-1 nft add rule inet plumbline-sctp forward meta l4proto sctp th dport 3868 reject with icmpx admin-prohibited`},

	// Rules about chunks.
	{name: "a drop of what begins an association", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p sctp -m sctp --chunk-types only INIT -j DROP`},
	{name: "a drop of cookies", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables}-legacy -I FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO,SHUTDOWN -j DROP`},
	{name: "a reject of cookies", to: far, reason: verdict.NetfilterReject, change: `
		node-2 {iptables} -I FORWARD -p sctp -m sctp --dport 3868 --chunk-types any COOKIE_ECHO -j REJECT`},
	{name: "a reject of cookies, as if their protocol was not spoken", to: far, only: netstack.IPv4, reason: verdict.NetfilterReject, change: `
		node-1 iptables -I FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT --reject-with icmp-proto-unreachable`},
	{name: "a drop of what acknowledges the cookie", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -I FORWARD -p sctp -m sctp --chunk-types all COOKIE_ACK -j DROP`},
	{name: "a drop of acknowledgements alone, which come with data", to: far, change: `
		node-2 {iptables} -I FORWARD -p sctp -m sctp --chunk-types only SACK -j DROP
		node-2 {iptables} -I FORWARD -p sctp -m sctp --chunk-types all SACK,COOKIE_ACK -j DROP`},
	{name: "a drop of acknowledgements with data", to: far, reason: verdict.NetfilterDrop, change: `
		node-2 {iptables} -I FORWARD -p sctp -m sctp --chunk-types all SACK,DATA -j DROP`},
	{name: "a drop of messages in order", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p sctp -m sctp --dport 3868 --chunk-types any DATA:uBE -j DROP`},
	{name: "a drop of messages out of order, and of parts", to: far, change: `
		node-1 {iptables} -I FORWARD -p sctp -m sctp --chunk-types any DATA:U -j DROP
		node-1 {iptables}-legacy -I FORWARD -p sctp -m sctp --chunk-types any DATA:e -j DROP`},
	{name: "all but what the association is made of is dropped", to: far, change: `
		node-1 {iptables} -I FORWARD -p sctp -m sctp ! --chunk-types any INIT,INIT_ACK,COOKIE_ECHO,COOKIE_ACK,DATA -j DROP`},

	{name: "nftables drops cookies", to: far, reason: verdict.NetfilterDrop, change: chunkRules(
		"sctp chunk heartbeat exists drop", "sctp chunk init flags 1 drop", "sctp chunk cookie-echo exists drop")},
	{name: "nftables drops what acknowledges the cookie, by its length", to: far, reason: verdict.NetfilterDrop, change: chunkRules(
		"sctp chunk cookie-ack length 5 drop", "sctp chunk cookie-ack length 4 drop")},
	{name: "nftables drops messages in order", to: far, reason: verdict.NetfilterDrop, change: chunkRules(
		"sctp chunk data flags & 7 == 7 drop", "sctp chunk data flags & 7 == 3 drop")},
	{name: "nftables drops messages out of order, and of parts", to: far, change: chunkRules(
		"sctp chunk data flags & 4 == 4 drop", "sctp chunk data flags & 3 != 3 drop", "sctp chunk data flags 0 drop", "sctp chunk data type 1 drop")},
	{name: "nftables drops what does not acknowledge, with data or without", to: far, reason: verdict.NetfilterDrop, change: chunkRules(
		"sctp chunk sack missing sctp chunk data missing accept", "sctp sport 3868 sctp chunk sack exists sctp chunk data exists drop")},
	{name: "nftables knows no chunks of other protocols", to: far, change: chunkRules(
		"sctp chunk init exists meta l4proto != sctp drop", "meta l4proto != sctp sctp chunk init flags 0 drop")},
	{name: "nftables takes two chunks only", to: far, reason: verdict.NetfilterDrop, change: chunkRules(
		"sctp chunk init exists accept", "sctp chunk init-ack exists accept", "meta l4proto sctp drop")},

	// Connection tracking.
	{name: "new, established and nothing else", to: far, change: `
		node-1 {iptables} -I FORWARD -p sctp -j DROP
		node-1 {iptables} -I FORWARD -p sctp -m conntrack --ctstate ESTABLISHED -j ACCEPT
		node-1 {iptables} -I FORWARD -p sctp -m conntrack --ctstate NEW -m sctp --chunk-types any INIT -j ACCEPT`},
	{name: "a drop of established associations", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p sctp -m conntrack --ctstate ESTABLISHED -j DROP`},
	{name: "a drop of associations that are assured", to: far, reason: verdict.NetfilterDrop, change: `
		node-1 {iptables} -I FORWARD -p sctp -m conntrack --ctstatus ASSURED -m sctp ! --chunk-types any COOKIE_ACK -j DROP`},
	{name: "an answer that was not tracked leaves the cookie invalid", to: far, reason: verdict.ConntrackInvalid, change: `
		node-1 {iptables} -t raw -I PREROUTING -p sctp -m sctp --chunk-types any INIT_ACK -j CT --notrack
		node-1 {iptables} -I FORWARD -p sctp -m conntrack --ctstate INVALID -j DROP`},
	{name: "an INIT that was not tracked leaves its answer invalid", to: far, reason: verdict.ConntrackInvalid, change: `
		node-1 {iptables} -t raw -I PREROUTING -p sctp -m sctp --chunk-types any INIT -j CT --notrack
		node-1 {iptables} -I FORWARD -p sctp -m conntrack --ctstate INVALID -j DROP`},

	// Translations.
	{name: "a translated destination", to: "{nobody}", port: 7, change: `
		node-1 {iptables} -t nat -A PREROUTING -p sctp -d {nobody} --dport 7 -j DNAT --to-destination {at shop/api-1}`},
	{name: "a translated destination, by nftables, and a masqueraded source", to: "{nobody}", port: 7, change: `
		node-1 nft add table {nft} plumbline-sctp
		node-1 nft add chain {nft} plumbline-sctp to { type nat hook prerouting priority -100 ; }
		node-1 nft add rule {nft} plumbline-sctp to sctp dport 7 dnat to {at shop/api-1}
		node-1 {iptables} -t nat -A POSTROUTING -p sctp -j MASQUERADE --to-ports 7000-7100`},
	{name: "a rejected packet that was translated", to: "{nobody}", port: 7, reason: verdict.NetfilterReject, change: `
		node-1 {iptables} -t nat -A PREROUTING -p sctp -d {nobody} --dport 7 -j DNAT --to-destination {at shop/api-1}
		node-2 {iptables} -I FORWARD -p sctp -m sctp --chunk-types any COOKIE_ECHO -j REJECT`},
	{name: "a redirected port", to: far, port: 7, change: `
		shop/api-1 {iptables} -t nat -A PREROUTING -p sctp --dport 7 -j REDIRECT --to-ports 3868`},
}

// chunkRules puts rules of nftables in the way, on the client's node.
func chunkRules(rules ...string) string {
	change := `
		node-1 nft add table inet plumbline-sctp
		node-1 nft add chain inet plumbline-sctp forward { type filter hook forward priority 0 ; }`
	for _, rule := range rules {
		change += "\n\t\tnode-1 nft add rule inet plumbline-sctp forward " + rule
	}
	return change
}

func TestAssociations(t *testing.T) {
	t.Parallel()
	if kernelSpeaksSCTP() {
		t.Skip("this kernel's own SCTP would answer, too")
	}
	for i, s := range sctpScenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.proto = "sctp"
			l := startQuick(t, fmt.Sprintf("a%d", i), speakSCTP)
			families := []netstack.Family{netstack.IPv4, netstack.IPv6}
			if s.only != 0 {
				families = []netstack.Family{s.only}
			}
			apply(t, l, s.change, families)
			snapshot := collect(t, l)
			showSCTP(l, snapshot)
			s.judgeIn(t, l, snapshot, families)
		})
	}
}

// TestAProgramThatSpeaksSCTPByItself has no kernel's SCTP to show: what it answers, no snapshot tells.
func TestAProgramThatSpeaksSCTPByItself(t *testing.T) {
	t.Parallel()
	if kernelSpeaksSCTP() {
		t.Skip("this kernel's own SCTP would answer, too")
	}
	l := startQuick(t, "raw", speakSCTP)
	world := against.Compile(t, collect(t, l))
	for _, f := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
		to := netip.MustParseAddrPort(words(t, l, f).Replace("{at shop/api-1}"))
		r := against.Diagnose(t, world, verdict.Query{From: "pod:" + web, To: to.Addr().String(), Port: to.Port(), Protocol: verdict.SCTP})
		if r.Verdict != verdict.Unknown || len(r.Reasons) == 0 || r.Reasons[0].Code != verdict.UserspaceDecides {
			t.Errorf("%s: %s, %v", to, r.Verdict, r.Reasons)
		}
	}
}

// speakSCTP opens a port of SCTP in the pods of shop/api.
func speakSCTP(spec *lab.Spec) {
	for i := range spec.Pods {
		if id := spec.Pods[i].ID(); id == near || id == far {
			spec.Pods[i].Ports = append(spec.Pods[i].Ports, lab.PodPort{Name: "diameter", Port: diameter, Protocol: "SCTP"})
		}
	}
	for i := range spec.Services {
		if s := &spec.Services[i]; s.ID() == "shop/api" {
			s.Ports = append(s.Ports, lab.ServicePort{Name: "diameter", Port: 38, Protocol: "SCTP", TargetPort: "diameter"})
		}
	}
}

// showSCTP tells the snapshot of those ports.
func showSCTP(l *lab.Lab, s *simulator.Snapshot) {
	for _, ns := range s.Namespaces {
		if ns.Pod == near || ns.Pod == far {
			lab.ShowSCTP(ns, netip.AddrPortFrom(netip.IPv4Unspecified(), diameter), netip.AddrPortFrom(netip.IPv6Unspecified(), diameter))
		}
	}
}
