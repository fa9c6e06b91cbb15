package links

import (
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// policies are what IPsec says of packets; a packet that it would encrypt is not
// followed.
var policies = []scenario{
	{name: "a policy blocks what a host sends", needs: []string{"xfrm"}, setup: joined + `
		a ip xfrm policy add src {1/} dst {2/} dir out action block`, to: "2.1", reason: verdict.EncryptionOpaque},
	{name: "a policy blocks what a host forwards", needs: []string{"xfrm"}, setup: joined + routed + `
		n ip xfrm policy add src {1/} dst {2/} dir fwd action block`, to: "2.1", reason: verdict.EncryptionOpaque},
	{name: "a policy blocks what a host takes in", needs: []string{"xfrm"}, setup: joined + routed + `
		b ip xfrm policy add src {1/} dst {2/} dir in action block`, to: "2.1", reason: verdict.EncryptionOpaque},
	{name: "a policy blocks the answers that a host forwards", needs: []string{"xfrm"}, setup: joined + routed + `
		m ip xfrm policy add src {2/} dst {1/} dir out action block`, to: "2.1", reason: verdict.EncryptionOpaque},
	{name: "a policy blocks another port", needs: []string{"xfrm"}, setup: joined + routed + `
		n ip xfrm policy add src {1/} dst {2/} proto tcp dport 81 dir fwd action block`, to: "2.1"},
	{name: "a policy blocks this port", needs: []string{"xfrm"}, protocols: []string{"tcp"}, setup: joined + routed + `
		n ip xfrm policy add src {1/} dst {2/} proto tcp dport 80 dir fwd action block`, to: "2.1", reason: verdict.EncryptionOpaque},
	{name: "a policy of other addresses", needs: []string{"xfrm"}, setup: joined + routed + `
		n ip xfrm policy add src {1/} dst {3/} dir fwd action block`, to: "2.1"},
	{name: "a policy that lets pass comes before one that blocks", needs: []string{"xfrm"}, setup: joined + routed + `
		n ip xfrm policy add src {1/} dst {2/} dir fwd priority 5 action allow
		n ip xfrm policy add src {0/} dst {2/} dir fwd priority 6 action block`, to: "2.1"},
	{name: "a policy of a mark", needs: []string{"xfrm"}, setup: joined + routed + `
		n {iptables} -t mangle -A PREROUTING -s {1/} -j MARK --set-mark 7
		n ip xfrm policy add src {1/} dst {2/} dir fwd mark 7 mask 0xff action block`, to: "2.1", reason: verdict.EncryptionOpaque},
	{name: "a policy of another mark", needs: []string{"xfrm"}, setup: joined + routed + `
		n ip xfrm policy add src {1/} dst {2/} dir fwd mark 7 mask 0xff action block`, to: "2.1"},
	{name: "a policy that encrypts", needs: []string{"xfrm"}, only: netstack.IPv4, setup: joined + routed + `
		n ip xfrm policy add src {1/} dst {2/} dir out tmpl src 10.9.5.1 dst 10.9.5.2 proto esp mode tunnel`, to: "2.1", opaque: true, reason: verdict.EncryptionOpaque},
	{name: "a device is exempt from policies", needs: []string{"xfrm"}, only: netstack.IPv4, setup: joined + routed + `
		b sysctl -qw net.ipv4.conf.eth0.disable_policy=1
		b ip xfrm policy add src {1/} dst {2/} dir in action block`, to: "2.1"},
}

// routed leads from one end of joined to the other.
const routed = `
	n {ip} route add {2/} via {5.2}
	m {ip} route add {1/} via {5.1}
`
