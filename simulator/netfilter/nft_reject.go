package netfilter

import "github.com/plumbline-net/plumbline/simulator/netstack"

// The words of iptables for nftables' kinds of reject.
var (
	nftReject4 = map[string]string{
		"net-unreachable": "icmp-net-unreachable", "host-unreachable": "icmp-host-unreachable", "prot-unreachable": "icmp-proto-unreachable",
		"port-unreachable": "icmp-port-unreachable", "net-prohibited": "icmp-net-prohibited", "host-prohibited": "icmp-host-prohibited",
		"admin-prohibited": "icmp-admin-prohibited",
	}
	nftReject6 = map[string]string{
		"no-route": "icmp6-no-route", "admin-prohibited": "icmp6-adm-prohibited", "addr-unreachable": "icmp6-addr-unreachable",
		"port-unreachable": "icmp6-port-unreachable", "policy-fail": "icmp6-policy-fail", "reject-route": "icmp6-reject-route",
	}
	// icmpx: one name for both (nft_reject_icmp_code).
	nftRejectX = map[string][2]string{
		"no-route":         {"icmp-net-unreachable", "icmp6-no-route"},
		"port-unreachable": {"icmp-port-unreachable", "icmp6-port-unreachable"},
		"host-unreachable": {"icmp-host-unreachable", "icmp6-addr-unreachable"},
		"admin-prohibited": {"icmp-admin-prohibited", "icmp6-adm-prohibited"},
	}
)

// familyMatch stands for the test of the IP version that nft does not print.
type familyMatch netstack.Family

func (m familyMatch) match(x *traversal) tri { return is(x.family == netstack.Family(m)) }

func (b *nftRuleBuilder) reject(n *jsonNode) error {
	typ, code := "icmpx", "port-unreachable"
	if n.kind == jsonObject {
		if t := n.str("type"); t != "" {
			typ = t
		}
		if c := n.get("expr"); c != nil {
			code = c.text
		}
	}
	a := &rejectAction{}
	switch typ {
	case "tcp reset":
		a.with4, a.with6 = "tcp-reset", "tcp-reset"
	case "icmp":
		a.with4 = nftReject4[code]
		b.matches = append(b.matches, familyMatch(netstack.IPv4))
		a.with6 = a.with4
	case "icmpv6":
		a.with6 = nftReject6[code]
		b.matches = append(b.matches, familyMatch(netstack.IPv6))
		a.with4 = a.with6
	case "icmpx":
		a.with4, a.with6 = nftRejectX[code][0], nftRejectX[code][1]
	default:
		return notModelled("type " + typ)
	}
	if a.with4 == "" {
		return notModelled("code " + code)
	}
	b.act(a)
	return nil
}
