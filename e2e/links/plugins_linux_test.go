package links

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// installed is a cluster of two nodes in the state that a network plugin leaves:
// pod shop/a (1.1) on node n, shop/b (2.1) on node m, and a router c which knows the nodes, not
// their pods. Faults are made in it one after the other.
type installed struct {
	name     string
	needs    []string
	setup    string
	families []netstack.Family
	// nodes are annotations of both, with words of the set-up: {5.N} is the node's
	// own address, VTEP the address of the device named vtep.
	annotations map[string]string
	vtep        string
	agent       string // label app of a pod on each node; empty for none
	agentKey    string // in the place of app
	faults      []fault
}

// fault is something that breaks the way from a to b.
type fault struct {
	name, make, undo string
	reason           verdict.Code
	says             []string // in the path's findings
	silent           bool     // nothing is said of a plugin
	leaves           bool     // when the router was not collected, the packet leaves by it
	only             netstack.Family
}

const (
	would = "would have installed"

	// cluster has no plugin yet.
	cluster = `
		n sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
		m sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
		c sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
		wire n:eth0 m:eth0
		wire n:eth1 c:eth0
		wire m:eth1 c:eth1
		addr n:eth0 5.1
		addr m:eth0 5.2
		addr n:eth1 7.1
		addr m:eth1 8.1
		addr c:eth0 7.254
		addr c:eth1 8.254
	`
	byRouter = `
		n {ip} route add default via {7.254}
		m {ip} route add default via {8.254}
	`
	bridges2 = `
		n ip link add cni0 type bridge
		m ip link add cni0 type bridge
		n ip link set cni0 up
		m ip link set cni0 up
		wire a:eth0 n:veth1
		wire b:eth0 m:veth2
		n ip link set veth1 master cni0
		m ip link set veth2 master cni0
		addr a:eth0 1.1
		addr b:eth0 2.1
		addr n:cni0 1.254
		addr m:cni0 2.254
		a {ip} route add default via {1.254}
		b {ip} route add default via {2.254}
	`
	hostGateway = cluster + byRouter + bridges2 + `
		n {ip} route add {2/} via {5.2} dev eth0
		m {ip} route add {1/} via {5.1} dev eth0
	`
	flannelDevices = cluster + byRouter + bridges2 + `
		n ip link add flannel.1 type vxlan id 1 dstport 8472 local 10.9.5.1 dev eth0 nolearning
		m ip link add flannel.1 type vxlan id 1 dstport 8472 local 10.9.5.2 dev eth0 nolearning
		n ip link set flannel.1 up
		m ip link set flannel.1 up
		n ip addr add {1.0}/32 dev flannel.1
		m ip addr add {2.0}/32 dev flannel.1
		mac MACN n:flannel.1
		mac MACM m:flannel.1
		n ip neigh replace {2.0} lladdr MACM nud permanent dev flannel.1
		m ip neigh replace {1.0} lladdr MACN nud permanent dev flannel.1
		n bridge fdb replace MACM dev flannel.1 dst 10.9.5.2 self permanent
		m bridge fdb replace MACN dev flannel.1 dst 10.9.5.1 self permanent
		n ip route add {2/} via {2.0} dev flannel.1 onlink
		m ip route add {1/} via {1.0} dev flannel.1 onlink
	`
	pairs = `
		wire a:eth0 n:DEV1
		wire b:eth0 m:DEV2
		a ip addr add {1.1}/32 dev eth0
		b ip addr add {2.1}/32 dev eth0
	`
	calicoPods = pairs + `
		n ip link set DEV1 address ee:ee:ee:ee:ee:ee
		m ip link set DEV2 address ee:ee:ee:ee:ee:ee
		n sysctl -qw net.ipv4.conf.DEV1.proxy_arp=1 net.ipv4.neigh.DEV1.proxy_delay=0
		m sysctl -qw net.ipv4.conf.DEV2.proxy_arp=1 net.ipv4.neigh.DEV2.proxy_delay=0
		a ip route add 169.254.1.1 dev eth0 scope link
		b ip route add 169.254.1.1 dev eth0 scope link
		a ip route add default via 169.254.1.1 dev eth0
		b ip route add default via 169.254.1.1 dev eth0
		n ip route add {1.1} dev DEV1 scope link
		m ip route add {2.1} dev DEV2 scope link
		n ip route add blackhole 10.9.1.0/26 proto 80
		m ip route add blackhole 10.9.2.0/26 proto 80
	`
)

func calicoDevices(setup string) string {
	return strings.NewReplacer("DEV1", "cali1", "DEV2", "cali2").Replace(cluster + byRouter + setup)
}

var onlyIPv4 = []netstack.Family{netstack.IPv4}

// rejected is no fault of the plugin.
var rejected = fault{name: "a rule of the pod", make: "b {iptables} -A INPUT -p tcp -j DROP", undo: "b {iptables} -D INPUT -p tcp -j DROP", reason: verdict.NetfilterDrop, silent: true}

var installations = []installed{
	{
		name: "flannel host-gw", setup: hostGateway, families: bothFamilies, agent: "flannel",
		annotations: map[string]string{"flannel.alpha.coreos.com/backend-type": "host-gw", "flannel.alpha.coreos.com/public-ip": "10.9.5.N", "flannel.alpha.coreos.com/public-ipv6": "fd00:9:5::N"},
		faults: []fault{
			rejected,
			{
				name: "no route", make: "n {ip} route del {2/}", undo: "n {ip} route add {2/} via {5.2} dev eth0", reason: verdict.InvalidRoute,
				says: []string{`flannel (host-gw) would have installed route "{2/} via {5.2} dev eth0", and there is default via {7.254} dev eth1`, "does not lead to node m", "flannel (host-gw) is recognised by: annotation"}, leaves: true,
			},
			{
				name: "another next hop", make: "n {ip} route replace {2/} via {7.254} dev eth1", undo: "n {ip} route replace {2/} via {5.2} dev eth0", reason: verdict.InvalidRoute,
				says: []string{`would have installed route "{2/} via {5.2} dev eth0", and there is {2/} via {7.254} dev eth1`},
			},
			{
				name: "no route back", make: "m {ip} route del {1/}", undo: "m {ip} route add {1/} via {5.1} dev eth0", reason: verdict.InvalidRoute,
				says: []string{`would have installed route "{1/} via {5.1} dev eth0", and there is default via {8.254} dev eth1`},
			},
			{
				name: "a detour that leads there, and nothing leads on",
				make: "n {ip} route replace {2/} via {7.254} dev eth1\nc {ip} route add {2/} via {8.1}\nm {ip} addr del {2.254}/{bits} dev cni0\nm {ip} route add unreachable {2/}",
				undo: "n {ip} route replace {2/} via {5.2} dev eth0\nc {ip} route del {2/} via {8.1}\nm {ip} route del unreachable {2/}\nm {ip} addr add {2.254}/{bits} dev cni0", reason: verdict.InvalidRoute,
				says: []string{`would have installed route "{2/} dev cni0 proto kernel scope link", and there is unreachable {2/}`}, only: netstack.IPv4,
			},
			{
				name: "the bridge has lost its address", make: "m {ip} addr del {2.254}/{bits} dev cni0", undo: "m {ip} addr add {2.254}/{bits} dev cni0", reason: verdict.InvalidRoute,
				says: []string{`would have installed route "{2/} dev cni0 proto kernel scope link"`}, only: netstack.IPv4,
			},
		},
	},
	{
		name: "flannel vxlan", setup: flannelDevices, families: onlyIPv4, vtep: "flannel.1",
		annotations: map[string]string{"flannel.alpha.coreos.com/backend-type": "vxlan", "flannel.alpha.coreos.com/public-ip": "10.9.5.N", "flannel.alpha.coreos.com/backend-data": `{"VNI":1,"VtepMAC":"VTEP"}`},
		faults: []fault{
			rejected,
			{
				name: "no route", make: "n ip route del {2/}", undo: "n ip route add {2/} via {2.0} dev flannel.1 onlink", reason: verdict.InvalidRoute,
				says: []string{`flannel (vxlan) would have installed route "10.9.2.0/24 via 10.9.2.0 dev flannel.1 onlink", and there is default via 10.9.7.254 dev eth1`},
			},
			{
				name: "no fdb entry", make: "n bridge fdb del MACM dev flannel.1 dst 10.9.5.2", undo: "n bridge fdb replace MACM dev flannel.1 dst 10.9.5.2 self permanent", reason: verdict.VXLANPeerMissing,
				says: []string{`would have installed fdb entry "MACM dev flannel.1 dst 10.9.5.2 self permanent", and there is none for MACM`},
			},
			{
				name: "the fdb entry of another node", make: "n bridge fdb replace MACM dev flannel.1 dst 10.9.5.77 self permanent", undo: "n bridge fdb replace MACM dev flannel.1 dst 10.9.5.2 self permanent", reason: verdict.VXLANPeerMissing,
				says: []string{`would have installed fdb entry "MACM dev flannel.1 dst 10.9.5.2 self permanent", and there is MACM dev flannel.1 dst 10.9.5.77`},
			},
			{
				name: "no neighbour", make: "n ip neigh del {2.0} dev flannel.1", undo: "n ip neigh replace {2.0} lladdr MACM nud permanent dev flannel.1", reason: verdict.VXLANPeerMissing,
				says: []string{`would have installed neighbour "10.9.2.0 lladdr MACM dev flannel.1 nud permanent"`},
			},
			{
				name: "a neighbour's former address", make: "n ip neigh replace {2.0} lladdr 02:00:00:00:00:77 nud permanent dev flannel.1", undo: "n ip neigh replace {2.0} lladdr MACM nud permanent dev flannel.1", reason: verdict.VXLANPeerMissing,
				says: []string{"neighbour \"10.9.2.0 lladdr MACM dev flannel.1 nud permanent\"", "there is: 10.9.2.0 lladdr 02:00:00:00:00:77 dev flannel.1"},
			},
			{
				// flannel has died, and node m has another device since: its entry is there still, and leads there.
				name: "a neighbour's former address, which has an entry",
				make: "n ip neigh replace {2.0} lladdr 02:00:00:00:00:77 nud permanent dev flannel.1\nn bridge fdb append 02:00:00:00:00:77 dev flannel.1 dst 10.9.5.2 self permanent",
				undo: "n ip neigh replace {2.0} lladdr MACM nud permanent dev flannel.1\nn bridge fdb del 02:00:00:00:00:77 dev flannel.1 dst 10.9.5.2", reason: verdict.VXLANPeerMissing,
				says: []string{"neighbour \"10.9.2.0 lladdr MACM dev flannel.1 nud permanent\"", "there is: 10.9.2.0 lladdr 02:00:00:00:00:77 dev flannel.1", "wrong link-layer address 02:00:00:00:00:77: flannel.1 of node m has MACM, and ignores the frame"},
			},
			{
				name: "no fdb entry for the way back", make: "m bridge fdb del MACN dev flannel.1 dst 10.9.5.1", undo: "m bridge fdb replace MACN dev flannel.1 dst 10.9.5.1 self permanent", reason: verdict.VXLANPeerMissing,
				says: []string{`would have installed fdb entry "MACN dev flannel.1 dst 10.9.5.1 self permanent"`},
			},
		},
	},
	{
		name: "flannel vxlan with direct routing", setup: flannelDevices + `
			n ip route replace {2/} via {5.2} dev eth0
			m ip route replace {1/} via {5.1} dev eth0`, families: onlyIPv4, vtep: "flannel.1",
		annotations: map[string]string{"flannel.alpha.coreos.com/backend-type": "vxlan", "flannel.alpha.coreos.com/public-ip": "10.9.5.N", "flannel.alpha.coreos.com/backend-data": `{"VNI":1,"VtepMAC":"VTEP"}`},
		faults: []fault{{
			name: "no route", make: "n ip route del {2/}", undo: "n ip route add {2/} via {5.2} dev eth0", reason: verdict.InvalidRoute,
			says: []string{`would have installed route "10.9.2.0/24 via 10.9.5.2 dev eth0", and there is default`},
		}},
	},
	{
		name: "kindnet", setup: strings.NewReplacer("DEV1", "veth1", "DEV2", "veth2").Replace(cluster + byRouter + pairs + `
			n ip addr add {1.254}/32 dev DEV1
			m ip addr add {2.254}/32 dev DEV2
			n ip route add {1.1} dev DEV1 scope host
			m ip route add {2.1} dev DEV2 scope host
			a ip route add {1.254} dev eth0 scope link src {1.1}
			b ip route add {2.254} dev eth0 scope link src {2.1}
			a ip route add default via {1.254} dev eth0
			b ip route add default via {2.254} dev eth0
			n ip route add {2/} via {5.2}
			m ip route add {1/} via {5.1}`), families: onlyIPv4, agent: "kindnet",
		faults: []fault{
			rejected,
			{
				name: "no route", make: "n ip route del {2/}", undo: "n ip route add {2/} via {5.2}", reason: verdict.InvalidRoute,
				says: []string{`kindnet would have installed route "10.9.2.0/24 via 10.9.5.2", and there is default via 10.9.7.254 dev eth1`, "kindnet is recognised by: pod kube-system/agent-n"},
			},
			{
				name: "no route to the pod", make: "m ip route del {2.1}", undo: "m ip route add {2.1} dev veth2 scope host", reason: verdict.InvalidRoute,
				says: []string{`kindnet would have installed route "10.9.2.1 dev veth2 scope host", and there is default`},
			},
			{
				name: "the pod has no default route", make: "a ip route del default", undo: "a ip route add default via {1.254} dev eth0", reason: verdict.NoRoute,
				says: []string{`kindnet would have installed route "default via 10.9.1.254 dev eth0", and there is none`},
			},
		},
	},
	{
		name: "calico by BGP", setup: calicoDevices(calicoPods + `
			n ip route add 10.9.2.0/26 via {5.2} dev eth0 proto bird
			m ip route add 10.9.1.0/26 via {5.1} dev eth0 proto bird`), families: onlyIPv4, agent: "calico-node", agentKey: "k8s-app",
		annotations: map[string]string{"projectcalico.org/IPv4Address": "10.9.5.N/24"},
		faults: []fault{
			rejected,
			{
				name: "no route", make: "n ip route del 10.9.2.0/26", undo: "n ip route add 10.9.2.0/26 via {5.2} dev eth0 proto bird", reason: verdict.InvalidRoute,
				says: []string{`calico would have installed route "10.9.2.0/26 via 10.9.5.2 dev eth0 proto bird", and there is default via 10.9.7.254 dev eth1`},
			},
			{
				name: "no route to the pod: the block is a blackhole", make: "m ip route del {2.1}", undo: "m ip route add {2.1} dev cali2 scope link", reason: verdict.InvalidRoute,
				says: []string{`calico would have installed route "10.9.2.1 dev cali2 scope link", and there is blackhole 10.9.2.0/26 proto 80`},
			},
			{
				name: "nobody answers for the gateway", make: "n sysctl -qw net.ipv4.conf.cali1.proxy_arp=0\na ip neigh flush dev eth0", undo: "n sysctl -qw net.ipv4.conf.cali1.proxy_arp=1\na ip neigh flush dev eth0", reason: verdict.NeighbourFailed,
				says: []string{`calico would have installed setting "net.ipv4.conf.cali1.proxy_arp = 1", and there is net.ipv4.conf.cali1.proxy_arp = 0`},
			},
		},
	},
	{
		name: "calico by VXLAN", setup: calicoDevices(calicoPods + `
			n ip link add vxlan.calico type vxlan id 4096 dstport 4789 local 10.9.5.1 dev eth0 nolearning
			m ip link add vxlan.calico type vxlan id 4096 dstport 4789 local 10.9.5.2 dev eth0 nolearning
			n ip link set vxlan.calico up
			m ip link set vxlan.calico up
			n ip addr add {1.32}/32 dev vxlan.calico
			m ip addr add {2.32}/32 dev vxlan.calico
			mac MACN n:vxlan.calico
			mac MACM m:vxlan.calico
			n ip neigh replace {2.32} lladdr MACM nud permanent dev vxlan.calico
			m ip neigh replace {1.32} lladdr MACN nud permanent dev vxlan.calico
			n bridge fdb replace MACM dev vxlan.calico dst 10.9.5.2 self permanent
			m bridge fdb replace MACN dev vxlan.calico dst 10.9.5.1 self permanent
			n ip route add 10.9.2.0/26 via {2.32} dev vxlan.calico onlink
			m ip route add 10.9.1.0/26 via {1.32} dev vxlan.calico onlink`), families: onlyIPv4, vtep: "vxlan.calico",
		annotations: map[string]string{"projectcalico.org/IPv4VXLANTunnelAddr": "10.9.N.32"},
		faults: []fault{
			rejected,
			{
				name: "no route", make: "n ip route del 10.9.2.0/26", undo: "n ip route add 10.9.2.0/26 via {2.32} dev vxlan.calico onlink", reason: verdict.InvalidRoute,
				says: []string{`calico would have installed route "10.9.2.0/26 via 10.9.2.32 dev vxlan.calico onlink", and there is default via 10.9.7.254 dev eth1`},
			},
			{
				name: "no fdb entry", make: "n bridge fdb del MACM dev vxlan.calico dst 10.9.5.2", undo: "n bridge fdb replace MACM dev vxlan.calico dst 10.9.5.2 self permanent", reason: verdict.VXLANPeerMissing,
				says: []string{`calico would have installed fdb entry "MACM dev vxlan.calico dst 10.9.5.2 self permanent", and there is none for MACM`},
			},
			{
				name: "no neighbour", make: "n ip neigh del {2.32} dev vxlan.calico", undo: "n ip neigh replace {2.32} lladdr MACM nud permanent dev vxlan.calico", reason: verdict.VXLANPeerMissing,
				says: []string{`calico would have installed neighbour "10.9.2.32 lladdr MACM dev vxlan.calico nud permanent"`},
			},
		},
	},
	{
		name: "terway", setup: strings.NewReplacer("DEV1", "cali1", "DEV2", "cali2").Replace(cluster + pairs + `
			mac MAC1 n:DEV1
			mac MAC2 m:DEV2
			a ip route add default via 169.254.1.1 dev eth0 onlink
			b ip route add default via 169.254.1.1 dev eth0 onlink
			a ip neigh replace 169.254.1.1 lladdr MAC1 nud permanent dev eth0
			b ip neigh replace 169.254.1.1 lladdr MAC2 nud permanent dev eth0
			n ip route add {1.1} dev DEV1 scope link
			m ip route add {2.1} dev DEV2 scope link
			n ip rule add to {1.1} lookup main pref 512
			m ip rule add to {2.1} lookup main pref 512
			n ip rule add from {1.1} lookup TABLEN pref 2048
			n ip rule add from {1.2} lookup TABLEN pref 2048
			m ip rule add from {2.1} lookup TABLEM pref 2048
			n ip route add default via {7.254} dev eth1 table TABLEN onlink
			m ip route add default via {8.254} dev eth1 table TABLEM onlink
			c ip route add {1.1} via {7.1}
			c ip route add {2.1} via {8.1}`), families: onlyIPv4, agent: "terway-eniip",
		faults: []fault{
			rejected,
			{
				name: "no rule for what the pod sends", make: "n ip rule del from {1.1} lookup TABLEN pref 2048", undo: "n ip rule add from {1.1} lookup TABLEN pref 2048", reason: verdict.NoRoute,
				says: []string{`terway would have installed rule "2048: from 10.9.1.1 lookup TABLEN", and there is none`},
			},
			{
				name: "no default route in the table", make: "n ip route del default table TABLEN", undo: "n ip route add default via {7.254} dev eth1 table TABLEN onlink", reason: verdict.NoRoute,
				says: []string{`terway would have installed route "default dev eth1 table TABLEN onlink, via the gateway of its vSwitch", and there is none`},
			},
			{
				name: "no route to the pod", make: "m ip route del {2.1}", undo: "m ip route add {2.1} dev cali2 scope link", reason: verdict.NoRoute,
				says: []string{`terway would have installed route "10.9.2.1 dev cali2 scope link", and there is none`},
			},
			{
				name: "the pod does not know its gateway", make: "a ip neigh del 169.254.1.1 dev eth0", undo: "a ip neigh replace 169.254.1.1 lladdr MAC1 nud permanent dev eth0", reason: verdict.NeighbourFailed,
				says: []string{`terway would have installed neighbour "169.254.1.1 lladdr MAC1 dev eth0 nud permanent", and there is`},
			},
		},
	},
	{
		name: "an unknown plugin", setup: hostGateway, families: onlyIPv4, agent: "shop",
		faults: []fault{
			{name: "no route", make: "n ip route del {2/}", undo: "n ip route add {2/} via {5.2} dev eth0", reason: verdict.InvalidRoute, silent: true},
			{name: "no address of the bridge", make: "m ip addr del {2.254}/24 dev cni0", undo: "m ip addr add {2.254}/24 dev cni0", reason: verdict.InvalidRoute, silent: true},
		},
	},
	{
		// flannel runs; what calico had is still there.
		name: "what another plugin has left", setup: hostGateway + `
			n ip link add vxlan.calico type vxlan id 4096 dstport 4789 local 10.9.5.1 dev eth0 nolearning
			n ip link set vxlan.calico up
			n ip route add blackhole 10.9.77.0/26 proto bird
			n ip route add 10.9.78.0/26 via 10.9.5.2 proto bird`, families: onlyIPv4, agent: "flannel", vtep: "vxlan.calico",
		annotations: map[string]string{"flannel.alpha.coreos.com/backend-type": "host-gw", "flannel.alpha.coreos.com/public-ip": "10.9.5.N", "projectcalico.org/IPv4Address": "10.9.5.N/24"},
		faults: []fault{
			rejected,
			{
				name: "no route", make: "n ip route del {2/}", undo: "n ip route add {2/} via {5.2} dev eth0", reason: verdict.InvalidRoute,
				says: []string{`flannel (host-gw) would have installed route "10.9.2.0/24 via 10.9.5.2 dev eth0", and there is default`},
			},
		},
	},
}

// pluginTunnels need a kernel with IPIP.
var pluginTunnels = []installed{{
	name: "calico by IPIP", needs: []string{"ipip"}, setup: calicoDevices(calicoPods + `
		n ip link add tunl0 type ipip
		m ip link add tunl0 type ipip
		n ip link set tunl0 up
		m ip link set tunl0 up
		n ip addr add {1.33}/32 dev tunl0
		m ip addr add {2.33}/32 dev tunl0
		n ip route add 10.9.2.0/26 via {5.2} dev tunl0 proto bird onlink
		m ip route add 10.9.1.0/26 via {5.1} dev tunl0 proto bird onlink`), families: onlyIPv4,
	annotations: map[string]string{"projectcalico.org/IPv4Address": "10.9.5.N/24", "projectcalico.org/IPv4IPIPTunnelAddr": "10.9.N.33"},
	faults: []fault{
		rejected,
		{
			name: "no route", make: "n ip route del 10.9.2.0/26", undo: "n ip route add 10.9.2.0/26 via {5.2} dev tunl0 proto bird onlink", reason: verdict.InvalidRoute,
			says: []string{`calico would have installed route "10.9.2.0/26 via 10.9.5.2 dev tunl0 proto bird onlink", and there is default via 10.9.7.254 dev eth1`},
		},
		{
			name: "the device is down, and its routes are gone", make: "n ip link set tunl0 down", undo: "n ip link set tunl0 up\nn ip route add 10.9.2.0/26 via {5.2} dev tunl0 proto bird onlink", reason: verdict.InvalidRoute,
			says: []string{`dev tunl0 proto bird onlink", and there is default via 10.9.7.254 dev eth1 proto boot, and tunl0 is down`},
		},
	},
}}

func TestPlugins(t *testing.T)       { installAll(t, "pg", installations) }
func TestPluginTunnels(t *testing.T) { installAll(t, "pt", pluginTunnels) }

func installAll(t *testing.T, kind string, list []installed) {
	for k, i := range list {
		t.Run(i.name, func(t *testing.T) {
			t.Parallel()
			i.run(t, fmt.Sprintf("%s%d", kind, k))
		})
	}
}

func (i *installed) run(t *testing.T, name string) {
	need(t, i.needs...)
	w := newWorld(t, name, "a", "b", "c", "m", "n")
	const uplinks = "dev eth1"
	before, after, _ := strings.Cut(i.setup, "mac MAC1") // what follows may name tables
	words := map[string]string{}
	w.apply(before, i.families)
	if after != "" {
		for word, node := range map[string]string{"TABLEN": "n", "TABLEM": "m"} {
			words[word] = fmt.Sprint(1000 + w.index(node, strings.TrimPrefix(uplinks, "dev ")))
		}
		w.apply(replaced("mac MAC1"+after, words), i.families)
	}
	w.settle()
	for word, at := range map[string]string{"MACN": "n:" + i.vtep, "MACM": "m:" + i.vtep, "MAC1": "n:cali1"} {
		if node, dev, _ := strings.Cut(at, ":"); strings.Contains(i.setup, "mac "+word) {
			words[word] = w.mac(node, dev)
		}
	}
	i.holds(t, w, words, fault{name: "all is well", silent: true})
	for _, f := range i.faults {
		w.apply(replaced(f.make, words), i.of(f))
		w.settle()
		i.holds(t, w, words, f)
		w.apply(replaced(f.undo, words), i.of(f))
		w.settle()
	}
	i.holds(t, w, words, fault{name: "all is well again", silent: true})
}

func (i *installed) of(f fault) []netstack.Family {
	if f.only != 0 {
		return []netstack.Family{f.only}
	}
	return i.families
}

// holds compares the way from a to b with a real connection, and what is said of it.
func (i *installed) holds(t *testing.T, w *world, words map[string]string, f fault) {
	t.Helper()
	snapshot := w.collect()
	i.describe(w, snapshot)
	read, err := against.ThroughBundle(snapshot)
	if err != nil {
		t.Fatal(err)
	}
	live, stored := against.Compile(t, snapshot), against.Compile(t, read)
	for _, family := range i.of(f) {
		name := f.name + " " + family.String()
		to := netip.AddrPortFrom(netip.MustParseAddr(address("2.1", family)), 80)
		query := verdict.Query{From: "pod:shop/a", To: to.Addr().String(), Port: 80, Protocol: verdict.TCP}
		report := against.Diagnose(t, live, query)
		if diff := cmp.Diff(report, against.Diagnose(t, stored, query)); diff != "" {
			t.Errorf("%s: the report of a bundle differs (-live +bundle):\n%s", name, diff)
		}
		if len(report.Paths) != 1 {
			t.Fatalf("%s: %d paths: %v", name, len(report.Paths), report.Reasons)
		}
		options := lab.ConnectOptions{Protocol: "tcp", FullSize: true, Timeout: timeout}
		fate, err := lab.ConnectFrom(t.Context(), w.netns("a"), to, options)
		for try := 0; err == nil && try < tries && hasty(fate, report); try++ {
			fate, err = lab.ConnectFrom(t.Context(), w.netns("a"), to, options)
		}
		if err != nil {
			t.Fatal(err)
		}
		path := &report.Paths[0]
		against.Agree(t, name, "tcp", fate, path, f.reason)
		said := fmt.Sprint(path.Findings)
		if f.silent && strings.Contains(said, would) {
			t.Errorf("%s: a plugin is accused: %s", name, said)
		}
		for _, want := range f.says {
			if want = replaced(expand(want, family), words); !strings.Contains(said, want) {
				t.Errorf("%s: nothing says %s\n%s", name, want, said)
			}
		}
		if f.reason == none && len(report.Reasons) > 0 {
			t.Errorf("%s: findings where all is well: %v", name, report.Reasons)
		}
		if f.leaves {
			part := *snapshot
			part.Namespaces = slices.DeleteFunc(slices.Clone(snapshot.Namespaces), func(ns *netstack.Namespace) bool { return ns.Name == w.netns("c") })
			report := against.Diagnose(t, against.Compile(t, &part), query)
			said := fmt.Sprint(report.Reasons)
			if report.Verdict != verdict.Unknown || report.Reason() != verdict.SnapshotMissing || !strings.Contains(said, would) {
				t.Errorf("%s, and the packet leaves what was collected: %s: %s", name, report.Verdict, said)
			}
		}
	}
}

// describe adds the objects of the cluster, and whose namespaces these are.
func (i *installed) describe(w *world, s *simulator.Snapshot) {
	pod := func(name, namespace, node, number string, hostNetwork bool, labels map[string]string) {
		p := corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
			Spec:       corev1.PodSpec{NodeName: node, HostNetwork: hostNetwork},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		}
		for _, f := range i.families {
			subnet := map[bool]string{true: "5." + number, false: number + ".1"}[hostNetwork]
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: address(subnet, f)})
		}
		p.Status.PodIP = p.Status.PodIPs[0].IP
		s.Cluster.Pods = append(s.Cluster.Pods, p)
	}
	for number, at := range map[string]struct{ node, pod string }{"1": {"n", "a"}, "2": {"m", "b"}} {
		node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: at.node, Annotations: map[string]string{}}}
		for key, value := range i.annotations {
			value = strings.NewReplacer("5.N", "5."+number, "5::N", "5::"+number, "9.N.", "9."+number+".").Replace(value)
			if i.vtep != "" {
				value = strings.ReplaceAll(value, "VTEP", vtepOf(s, w.netns(at.node), i.vtep))
			}
			node.Annotations[key] = value
		}
		for _, f := range i.families {
			node.Spec.PodCIDRs = append(node.Spec.PodCIDRs, expand("{"+number+"/}", f))
			node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address("5."+number, f)})
		}
		node.Spec.PodCIDR = node.Spec.PodCIDRs[0]
		s.Cluster.Nodes = append(s.Cluster.Nodes, node)
		pod(at.pod, "shop", at.node, number, false, nil)
		if i.agent != "" {
			key := i.agentKey
			if key == "" {
				key = "app"
			}
			pod("agent-"+at.node, "kube-system", at.node, number, true, map[string]string{key: i.agent})
		}
		for _, ns := range s.Namespaces {
			switch ns.Name {
			case w.netns(at.node):
				ns.Kind, ns.Node = netstack.KindNode, at.node
			case w.netns(at.pod):
				ns.Kind, ns.Node, ns.Pod = netstack.KindPod, at.node, "shop/"+at.pod
			}
		}
	}
}

func vtepOf(s *simulator.Snapshot, namespace, dev string) string {
	for _, ns := range s.Namespaces {
		for i := range ns.Links {
			if ns.Name == namespace && ns.Links[i].Name == dev {
				return ns.Links[i].MAC.String()
			}
		}
	}
	return ""
}

func replaced(text string, words map[string]string) string {
	for word, by := range words {
		text = strings.ReplaceAll(text, word, by)
	}
	return text
}

func (w *world) attributes(short, dev string) (attrs netlink.LinkAttrs) {
	w.t.Helper()
	w.rtnl(short, func(h *netlink.Handle) error {
		link, err := h.LinkByName(dev)
		if err == nil {
			attrs = *link.Attrs()
		}
		return err
	})
	return attrs
}

func (w *world) index(short, dev string) int { w.t.Helper(); return w.attributes(short, dev).Index }

func (w *world) mac(short, dev string) string {
	w.t.Helper()
	return w.attributes(short, dev).HardwareAddr.String()
}
