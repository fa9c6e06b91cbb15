package links

import (
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// kubeTable is what kube-proxy and a network plugin have in the table filter, roughly: iptables-nft-save does not print it any
// more with a rule in it that it cannot read.
const kubeTable = `
	n iptables-nft -N KUBE
	n iptables-nft -N LATE
	n iptables-nft -A KUBE -p tcp -m conntrack --ctstate NEW -m multiport --dports 80,81 -j LATE
	n iptables-nft -A LATE -m mark ! --mark 5 -j DROP
	n iptables-nft -A FORWARD -m comment --comment first -j KUBE
	n iptables-nft -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
`

var changedTables = []scenario{
	{name: "a chain of iptables in a table that nft changed", only: netstack.IPv4, protocols: []string{"tcp"}, setup: joined + routed + kubeTable + `
		n nft insert rule ip filter FORWARD ct state invalid drop`, to: "2.1", reason: verdict.NetfilterDrop, rule: "-A LATE -m mark ! --mark 0x5 -j DROP"},
	{name: "a rule of nft in a chain of iptables", only: netstack.IPv4, protocols: []string{"tcp"}, setup: joined + routed + kubeTable + `
		n nft insert rule ip filter FORWARD ct state new goto LATE
		n nft insert rule ip filter LATE tcp dport 80 drop`, to: "2.1", reason: verdict.NetfilterDrop, rule: "-A LATE -p tcp -m tcp --dport 80 -j DROP"},
	{name: "a rule of nft lets pass what a chain of iptables drops", only: netstack.IPv4, protocols: []string{"tcp", "udp", "icmp"}, setup: joined + routed + kubeTable + `
		n nft insert rule ip filter FORWARD ct state new,established accept`, to: "2.1"},
	{name: "the policy of a chain that iptables cannot read", only: netstack.IPv4, protocols: []string{"tcp"}, setup: joined + routed + kubeTable + `
		n iptables-nft -D FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
		n nft insert rule ip filter FORWARD ct state invalid drop
		n iptables-nft -F LATE
		n nft chain ip filter FORWARD { policy drop ; }`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "a rule that iptables fails at", only: netstack.IPv4, protocols: []string{"tcp"}, setup: joined + routed + kubeTable + `
		n nft insert rule ip filter FORWARD ip dscp 5 drop`, to: "2.1", reason: verdict.NetfilterDrop, rule: "-A LATE -m mark ! --mark 0x5 -j DROP"},
}

func TestTablesThatNftChanged(t *testing.T) { runAll(t, "tn", changedTables) }
