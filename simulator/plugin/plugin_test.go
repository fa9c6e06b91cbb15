package plugin

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

const (
	hostGateways = `
		a annotation flannel.alpha.coreos.com/backend-type=host-gw
		a annotation flannel.alpha.coreos.com/public-ip=10.0.0.1
		b annotation flannel.alpha.coreos.com/backend-type=host-gw
		b annotation flannel.alpha.coreos.com/public-ip=10.0.0.2
	`
	vteps = `
		a annotation flannel.alpha.coreos.com/backend-type=vxlan
		a annotation flannel.alpha.coreos.com/public-ip=10.0.0.1
		b annotation flannel.alpha.coreos.com/public-ip=10.0.0.2
		b annotation flannel.alpha.coreos.com/backend-data={"VNI":1,"VtepMAC":"02:00:00:00:00:0b"}
		c annotation flannel.alpha.coreos.com/public-ip=10.0.9.3
		a link flannel.1 kind vxlan
	`
	tunnel    = "route 10.244.2.0/24 via 10.244.2.0 dev flannel.1 onlink"
	neighbour = "neighbour 10.244.2.0 lladdr 02:00:00:00:00:0b dev flannel.1 nud permanent"
	entry     = "fdb entry 02:00:00:00:00:0b dev flannel.1 dst 10.0.0.2 self permanent"
	elsewhere = "default via 10.0.0.254 dev eth0 proto boot"
)

func TestFlannel(t *testing.T) {
	t.Run("host-gw", func(t *testing.T) {
		for _, r := range []row{
			{name: "as it should be", state: `a route 10.244.2.0/24 via 10.0.0.2 dev eth0`, want: []string{"+ route 10.244.2.0/24 via 10.0.0.2 dev eth0"}},
			{name: "no route", want: []string{"- route 10.244.2.0/24 via 10.0.0.2 dev eth0: " + elsewhere}},
			{name: "another next hop", state: `a route 10.244.2.0/24 via 10.0.0.9 dev eth0`, want: []string{"- route 10.244.2.0/24 via 10.0.0.2 dev eth0: 10.244.2.0/24 via 10.0.0.9 dev eth0 proto boot"}},
			{name: "another device", state: `a route 10.244.2.0/24 via 10.0.0.2 dev eth1`, want: []string{"- route 10.244.2.0/24 via 10.0.0.2 dev eth0: 10.244.2.0/24 via 10.0.0.2 dev eth1 proto boot"}},
			{name: "a more specific route leads elsewhere", state: "a route 10.244.2.0/24 via 10.0.0.2 dev eth0\na route 10.244.2.5 via 10.0.0.9 dev eth0", want: []string{"- route 10.244.2.0/24 via 10.0.0.2 dev eth0: 10.244.2.5 via 10.0.0.9 dev eth0 proto boot"}},
			{name: "a lower metric leads elsewhere", state: "a route 10.244.2.0/24 via 10.0.0.2 dev eth0 metric 5\na route 10.244.2.0/24 via 10.0.0.9 dev eth0", want: []string{"- route 10.244.2.0/24 via 10.0.0.2 dev eth0: 10.244.2.0/24 via 10.0.0.9 dev eth0 proto boot"}},
			{name: "a public address that is not the node's first", state: "b annotation flannel.alpha.coreos.com/public-ip=10.0.0.22", want: []string{"- route 10.244.2.0/24 via 10.0.0.22 dev eth0: " + elsewhere}},
			{name: "a pod outside of its node's range", state: "pod far 10.99.0.1 b", to: "10.99.0.1"},
			{name: "an address of nobody", to: "10.244.2.77"},
			{name: "a pod of the node, behind the bridge", state: "a link v kind veth pod pa bridge cni0\na route 10.244.1.0/24 dev cni0", to: "10.244.1.5", want: []string{"+ route 10.244.1.0/24 dev cni0 proto kernel scope link"}},
			{name: "a pod of the node, and the bridge has no address", state: "a link v kind veth pod pa bridge cni0\na link cni0 kind bridge", to: "10.244.1.5", want: []string{"- route 10.244.1.0/24 dev cni0 proto kernel scope link: " + elsewhere}},
			{name: "a pod of the node, behind a device of its own: as canal", state: "a link cali1 kind veth pod pa", to: "10.244.1.5"},
			{name: "in a pod", at: "pa"},
		} {
			t.Run(r.name, func(t *testing.T) { r.run(t, flannel{}, hostGateways) })
		}
	})
	t.Run("vxlan", func(t *testing.T) {
		const route, neigh, fdb = "\na route 10.244.2.0/24 via 10.244.2.0 dev flannel.1", "\na neigh 10.244.2.0 lladdr 02:00:00:00:00:0b dev flannel.1", "\na fdb 02:00:00:00:00:0b dev flannel.1 dst 10.0.0.2"
		for _, r := range []row{
			{name: "as it should be", state: route + neigh + fdb, want: []string{"+ " + tunnel, "+ " + neighbour, "+ " + entry}},
			{name: "nothing", want: []string{"- " + tunnel + ": " + elsewhere, "- " + neighbour + ": none", "- " + entry + ": none for 02:00:00:00:00:0b"}},
			{name: "a former neighbour", state: route + fdb + "\na neigh 10.244.2.0 lladdr 02:00:00:00:00:99 dev flannel.1", want: []string{"+ " + tunnel, "- " + neighbour + ": 10.244.2.0 lladdr 02:00:00:00:00:99 dev flannel.1", "+ " + entry}},
			{name: "an entry for another node", state: route + neigh + "\na fdb 02:00:00:00:00:0b dev flannel.1 dst 10.0.0.9", want: []string{"+ " + tunnel, "+ " + neighbour, "- " + entry + ": 02:00:00:00:00:0b dev flannel.1 dst 10.0.0.9"}},
			{name: "DirectRouting, and all is well", state: "a route 10.244.2.0/24 via 10.0.0.2 dev eth0", want: []string{"+ " + tunnel}},
			{name: "DirectRouting, by the route of the other node", state: "b route 10.244.1.0/24 via 10.0.0.1 dev eth0", want: []string{"- route 10.244.2.0/24 via 10.0.0.2 dev eth0: " + elsewhere}},
			{name: "DirectRouting reaches as far as the link", state: "b route 10.244.1.0/24 via 10.0.0.1 dev eth0\nc annotation flannel.alpha.coreos.com/backend-data={\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:0c\"}", to: "10.244.3.5", want: []string{
				"- route 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink: " + elsewhere,
				"- neighbour 10.244.3.0 lladdr 02:00:00:00:00:0c dev flannel.1 nud permanent: none",
				"- fdb entry 02:00:00:00:00:0c dev flannel.1 dst 10.0.9.3 self permanent: none for 02:00:00:00:00:0c",
			}},
			{name: "nobody tells the other's link-layer address", to: "10.244.3.5", want: []string{"- route 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink: " + elsewhere}},
			{name: "the other's device tells its link-layer address", state: "c link flannel.1 kind vxlan mac 02:00:00:00:00:0c\na route 10.244.3.0/24 via 10.244.3.0 dev flannel.1", to: "10.244.3.5", want: []string{
				"+ route 10.244.3.0/24 via 10.244.3.0 dev flannel.1 onlink",
				"- neighbour 10.244.3.0 lladdr 02:00:00:00:00:0c dev flannel.1 nud permanent: none",
				"- fdb entry 02:00:00:00:00:0c dev flannel.1 dst 10.0.9.3 self permanent: none for 02:00:00:00:00:0c",
			}},
		} {
			t.Run(r.name, func(t *testing.T) { r.run(t, flannel{}, vteps) })
		}
	})
	t.Run("IPv6", func(t *testing.T) {
		r := row{at: "d", from: "fd00:1::5", to: "fd00:2::5", want: []string{
			"- route fd00:2::/64 via fd00:2:: dev flannel-v6.1 onlink: none, and flannel-v6.1 is missing",
			"- neighbour fd00:2:: lladdr 02:00:00:00:00:6b dev flannel-v6.1 nud permanent: none",
			"- fdb entry 02:00:00:00:00:6b dev flannel-v6.1 dst fd00::2 self permanent: none for 02:00:00:00:00:6b",
		}}
		r.run(t, flannel{}, `
			node d fd00::1 fd00:1::/64
			node e fd00::2 fd00:2::/64
			d annotation flannel.alpha.coreos.com/backend-type=vxlan
			e annotation flannel.alpha.coreos.com/public-ipv6=fd00::2
			e annotation flannel.alpha.coreos.com/backend-v6-data={"VNI":1,"VtepMAC":"02:00:00:00:00:6b"}
			pod p6 fd00:2::5 e
		`)
	})
}

const (
	calicos = `
		a annotation projectcalico.org/IPv4Address=10.0.0.1/24
		b annotation projectcalico.org/IPv4Address=10.0.0.2/24
		c annotation projectcalico.org/IPv4Address=10.0.9.3/24
		b route blackhole 10.244.2.0/26 proto bird
		c route blackhole 10.244.3.0/26 proto bird
		a link cali1 kind veth pod pa
	`
	tunnels = `
		a link tunl0 kind ipip
		a annotation projectcalico.org/IPv4IPIPTunnelAddr=10.244.1.0
		b annotation projectcalico.org/IPv4IPIPTunnelAddr=10.244.2.0
		c annotation projectcalico.org/IPv4IPIPTunnelAddr=10.244.3.0
	`
	vxlans = `
		a link vxlan.calico kind vxlan
		b link vxlan.calico kind vxlan mac 02:00:00:00:00:0b
		b annotation projectcalico.org/IPv4VXLANTunnelAddr=10.244.2.1
		c annotation projectcalico.org/IPv4VXLANTunnelAddr=10.244.3.1
	`
)

func TestCalico(t *testing.T) {
	const (
		bgp  = "route 10.244.2.0/26 via 10.0.0.2 dev eth0 proto bird"
		ipip = "route 10.244.2.0/26 via 10.0.0.2 dev tunl0 proto bird onlink"
	)
	for _, r := range []row{
		{name: "BGP, as it should be", state: "a route 10.244.2.0/26 via 10.0.0.2 dev eth0 proto bird", want: []string{"+ " + bgp}},
		{name: "BGP, no route", want: []string{"- " + bgp + ": " + elsewhere}},
		{name: "BGP over a router, which leads to the node", state: "a route 10.0.9.0/24 via 10.0.0.253 dev eth0", to: "10.244.3.5", want: []string{"- route 10.244.3.0/26 via 10.0.0.253 dev eth0 proto bird: " + elsewhere}},
		{name: "BGP over a router, as it should be", state: "a route 10.244.3.0/26 via 10.0.0.254 dev eth0 proto bird", to: "10.244.3.5", want: []string{"+ route 10.244.3.0/26 via 10.0.0.254 dev eth0 proto bird"}},
		{name: "BGP with a next hop of the network's", state: "a route 10.244.3.0/26 via 10.0.0.250 dev eth0 proto bird", to: "10.244.3.5", want: []string{"+ route 10.244.3.0/26 via 10.0.0.254 dev eth0 proto bird"}},
		{name: "BGP with another node as the next hop", state: "node d 10.0.0.4 10.99.0.0/24\na route 10.244.2.0/26 via 10.0.0.4 dev eth0 proto bird", want: []string{"- " + bgp + ": 10.244.2.0/26 via 10.0.0.4 dev eth0 proto bird"}},
		{name: "BGP, and the block of the other node is not in view", state: "b gone\na route blackhole 10.244.1.0/26 proto bird", want: []string{"- route the block of 10.244.2.5 via 10.0.0.2 dev eth0 proto bird: " + elsewhere}},
		{name: "policies alone, in the network of others", to: "10.99.0.5", state: "node d 10.0.0.4 10.99.0.0/24\npod pd 10.99.0.5 d"},
		{name: "IPIP Always: as the route to another block says", state: tunnels + "a route 10.244.2.128/26 via 10.0.0.2 dev tunl0 proto bird", want: []string{"- " + ipip + ": " + elsewhere}},
		{name: "IPIP Always: as the other node's route back says", state: tunnels + "b route 10.244.1.0/26 via 10.0.0.1 dev tunl0 proto bird", want: []string{"- " + ipip + ": " + elsewhere}},
		{name: "IPIP CrossSubnet: the same subnet", state: tunnels + "a route 10.244.3.0/26 via 10.0.9.3 dev tunl0 proto bird\na route 10.244.2.128/26 via 10.0.0.2 dev eth0 proto bird", want: []string{"- " + bgp + ": " + elsewhere}},
		{name: "IPIP CrossSubnet: another subnet", state: tunnels + "a route 10.244.3.128/26 via 10.0.9.3 dev tunl0 proto bird\na route 10.244.2.0/26 via 10.0.0.2 dev eth0 proto bird", to: "10.244.3.5", want: []string{"- route 10.244.3.0/26 via 10.0.9.3 dev tunl0 proto bird onlink: " + elsewhere}},
		{name: "IPIP, and no route tells whether for the same subnet, too", state: tunnels, want: []string{"- " + bgp + " or " + strings.TrimPrefix(ipip, "route ") + ": " + elsewhere}},
		{name: "IPIP, and the device is down", state: strings.Replace(tunnels, "kind ipip", "kind ipip down", 1), to: "10.244.3.5", want: []string{"- route 10.244.3.0/26 via 10.0.9.3 dev tunl0 proto bird onlink: " + elsewhere + ", and tunl0 is down"}},
		{name: "either way leads there", state: tunnels + "a route 10.244.2.128/26 via 10.0.0.2 dev eth0 proto bird\na route 10.244.2.0/26 via 10.0.0.2 dev tunl0 proto bird", want: []string{"+ " + bgp}},
		{name: "VXLAN, as it should be", state: vxlans + "a route 10.244.2.0/26 via 10.244.2.1 dev vxlan.calico\na route 10.244.2.128/26 via 10.244.2.1 dev vxlan.calico\na neigh 10.244.2.1 lladdr 02:00:00:00:00:0b dev vxlan.calico\na fdb 02:00:00:00:00:0b dev vxlan.calico dst 10.0.0.2", want: []string{
			"+ route 10.244.2.0/26 via 10.244.2.1 dev vxlan.calico onlink",
			"+ neighbour 10.244.2.1 lladdr 02:00:00:00:00:0b dev vxlan.calico nud permanent",
			"+ fdb entry 02:00:00:00:00:0b dev vxlan.calico dst 10.0.0.2 self permanent",
		}},
		{name: "VXLAN, nothing for that node", state: vxlans + "a route 10.244.2.128/26 via 10.244.2.1 dev vxlan.calico", want: []string{
			"- route 10.244.2.0/26 via 10.244.2.1 dev vxlan.calico onlink: " + elsewhere,
			"- neighbour 10.244.2.1 lladdr 02:00:00:00:00:0b dev vxlan.calico nud permanent: none",
			"- fdb entry 02:00:00:00:00:0b dev vxlan.calico dst 10.0.0.2 self permanent: none for 02:00:00:00:00:0b",
		}},
		{name: "VXLAN CrossSubnet: the same subnet needs no entries", state: vxlans + "a route 10.244.3.0/26 via 10.244.3.1 dev vxlan.calico\na route 10.244.2.128/26 via 10.0.0.2 dev eth0 proto 80\na route 10.244.2.0/26 via 10.0.0.2 dev eth0 proto 80", want: []string{"+ " + bgp}},
		{name: "a pod of the node", state: "a route 10.244.1.5 dev cali1", to: "10.244.1.5", want: []string{"+ route 10.244.1.5 dev cali1 scope link"}},
		{name: "a pod of the node, and only the blackhole is there", state: "a route blackhole 10.244.1.0/26 proto 80", to: "10.244.1.5", want: []string{"- route 10.244.1.5 dev cali1 scope link: blackhole 10.244.1.0/26 proto 80"}},
		{name: "a pod of the node, by the device of one before it", state: "a route 10.244.1.5 dev cali0", to: "10.244.1.5", want: []string{"- route 10.244.1.5 dev cali1 scope link: 10.244.1.5 dev cali0 proto boot"}},
		{name: "in the pod", at: "pa", state: "pa route default via 169.254.1.1 dev eth0\na sysctl net.ipv4.conf.cali1.proxy_arp=1", want: []string{"+ route default via 169.254.1.1 dev eth0", "+ setting net.ipv4.conf.cali1.proxy_arp = 1"}},
		{name: "in the pod, nothing", at: "pa", state: "a sysctl net.ipv4.conf.cali1.proxy_arp=0", want: []string{"- route default via 169.254.1.1 dev eth0: none, and eth0 is missing", "- setting net.ipv4.conf.cali1.proxy_arp = 1: net.ipv4.conf.cali1.proxy_arp = 0"}},
		{name: "in the pod, another network's route", at: "pa", state: "pa route default via 169.254.1.1 dev eth0\npa route 10.244.2.0/24 dev net1\na sysctl net.ipv4.conf.all.proxy_arp=1", want: []string{"+ route default via 169.254.1.1 dev eth0", "+ setting net.ipv4.conf.cali1.proxy_arp = 1"}},
	} {
		t.Run(r.name, func(t *testing.T) { r.run(t, calico{}, calicos) })
	}
}

func TestKindnet(t *testing.T) {
	const agents = "agent a app=kindnet\n"
	for _, r := range []row{
		{name: "as it should be", state: agents + "a route 10.244.2.0/24 via 10.0.0.2 dev eth0", want: []string{"+ route 10.244.2.0/24 via 10.0.0.2"}},
		{name: "no route", state: agents, want: []string{"- route 10.244.2.0/24 via 10.0.0.2: " + elsewhere}},
		{name: "the node had another address", state: agents + "a route 10.244.2.0/24 via 10.0.0.9 dev eth0", want: []string{"- route 10.244.2.0/24 via 10.0.0.2: 10.244.2.0/24 via 10.0.0.9 dev eth0 proto boot"}},
		{name: "ptp alone does not care for other nodes"},
		{name: "a pod of the node", state: "a link v kind veth pod pa\na route 10.244.1.5 dev v scope host", to: "10.244.1.5", want: []string{"+ route 10.244.1.5 dev v scope host"}},
		{name: "a pod of the node, no route", state: "a link v kind veth pod pa", to: "10.244.1.5", want: []string{"- route 10.244.1.5 dev v scope host: " + elsewhere}},
		{name: "a pod of the node, behind a bridge", state: "a link v kind veth pod pa bridge br0", to: "10.244.1.5"},
		{name: "in the pod", at: "pa", state: "a link v kind veth pod pa\na addr 10.244.1.1/32 dev v\npa link eth0", want: []string{"- route default via 10.244.1.1 dev eth0: none"}},
	} {
		t.Run(r.name, func(t *testing.T) { r.run(t, kindnet{}, "") })
	}
}

func TestTerway(t *testing.T) {
	const shared = `
		a link cali1 kind veth pod pa mac 02:00:00:00:00:01
		a link eth1
		a route 10.244.1.5 dev cali1
		a rule 512: from all to 10.244.1.5 lookup main
		a rule 2048: from 10.244.1.9 lookup 1003
	` // eth1 is the third link
	for _, r := range []row{
		{name: "sends as it should", state: "a rule 2048: from 10.244.1.5 lookup 1003\na route default via 10.0.8.253 dev eth1 table 1003", want: []string{"+ rule 2048: from 10.244.1.5 lookup 1003", "+ route default via 10.0.8.253 dev eth1 table 1003 onlink"}},
		{name: "no rule", state: "a route default via 10.0.8.253 dev eth1 table 1003", want: []string{"- rule 2048: from 10.244.1.5 lookup 1003: none", "+ route default via 10.0.8.253 dev eth1 table 1003 onlink"}},
		{name: "no rule, and several interfaces", state: "a rule 2048: from 10.244.1.8 lookup 1001", want: []string{"- rule 2048: from 10.244.1.5 lookup the table of its network interface: none"}},
		{name: "an empty table", state: "a rule 2048: from 10.244.1.5 lookup 1003", want: []string{"+ rule 2048: from 10.244.1.5 lookup 1003", "- route default dev eth1 table 1003 onlink, via the gateway of its vSwitch: none"}},
		{name: "the table leads out of another interface", state: "a rule 2048: from 10.244.1.5 lookup 1003\na route default via 10.0.0.253 dev eth0 table 1003", want: []string{"+ rule 2048: from 10.244.1.5 lookup 1003", "- route default dev eth1 table 1003 onlink, via the gateway of its vSwitch: default via 10.0.0.253 dev eth0 table 1003 proto boot"}},
		{name: "receives as it should", from: "10.244.2.5", to: "10.244.1.5", want: []string{"+ route 10.244.1.5 dev cali1 scope link", "+ rule 512: from all to 10.244.1.5 lookup main"}},
		{name: "receives by ipvlan", state: "pod pi 10.244.1.6 a\npi link eth0 kind ipvlan", from: "10.244.2.5", to: "10.244.1.6", want: []string{"- route 10.244.1.6 dev ipvl_0 scope link: " + elsewhere + ", and ipvl_0 is missing"}},
		{name: "an interface of its own: only its node comes by veth1", state: "pod pe 10.244.1.7 a\na link cali7 kind veth pod pe inside veth1\na route 10.244.1.7 dev cali7", from: "10.0.0.1", to: "10.244.1.7", want: []string{"+ route 10.244.1.7 dev cali7 scope link"}},
		{name: "no rule but that for what it receives", state: "", want: []string{"- rule 2048: from 10.244.1.5 lookup 1003: none", "- route default dev eth1 table 1003 onlink, via the gateway of its vSwitch: none"}},
		{name: "from elsewhere to elsewhere", from: "10.244.2.5", to: "10.244.3.5"},
		{name: "in the pod", at: "pa", state: "pa link eth0\npa route default via 169.254.1.1 dev eth0\npa neigh 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0", want: []string{"+ route default via 169.254.1.1 dev eth0 onlink", "+ neighbour 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent"}},
		{name: "in the pod, of the device before it", at: "pa", state: "pa link eth0\npa route default via 169.254.1.1 dev eth0\npa neigh 169.254.1.1 lladdr 02:00:00:00:00:99 dev eth0", want: []string{"+ route default via 169.254.1.1 dev eth0 onlink", "- neighbour 169.254.1.1 lladdr 02:00:00:00:00:01 dev eth0 nud permanent: 169.254.1.1 lladdr 02:00:00:00:00:99 dev eth0"}},
	} {
		t.Run(r.name, func(t *testing.T) { r.run(t, terway{}, shared) })
	}
}

func TestPluginsAreRecognisedByTheirState(t *testing.T) {
	for _, c := range []struct {
		name, state string
		want        []string
	}{
		{name: "nothing"},
		{name: "flannel by its annotation", state: hostGateways, want: []string{"flannel (host-gw)"}},
		{name: "flannel by its device", state: "a link flannel.1 kind vxlan", want: []string{"flannel (vxlan)"}},
		{name: "a device that is only called so", state: "a link flannel.1"},
		{name: "another backend of flannel", state: "a annotation flannel.alpha.coreos.com/backend-type=wireguard"},
		{name: "an agent of flannel, and no backend", state: "agent a app=flannel"},
		{name: "calico by its annotation", state: "a annotation projectcalico.org/IPv4Address=10.0.0.1/24", want: []string{"calico"}},
		{name: "calico by its device", state: "a link vxlan.calico kind vxlan", want: []string{"calico"}},
		{name: "calico by BIRD's routes", state: "a route 10.244.2.0/26 via 10.0.0.2 dev eth0 proto bird", want: []string{"calico"}},
		{name: "calico by its agent", state: "agent a k8s-app=calico-node", want: []string{"calico"}},
		{name: "a pod that has calico's label and no network of the node", state: "agent a k8s-app=calico-node alone"},
		{name: "the agent of another node", state: "agent b k8s-app=calico-node"},
		{name: "devices that calico and terway call the same", state: "a link cali1 kind veth pod pa\na route 10.244.1.5 dev cali1 scope link"},
		{name: "kindnet by its agent", state: "agent a app=kindnet", want: []string{"kindnet"}},
		{name: "ptp by its pairs", state: "a link v kind veth pod pa\na addr 10.244.1.1/32 dev v\na route 10.244.1.5 dev v scope host", want: []string{"ptp"}},
		{name: "a route of scope host that is not ptp's", state: "a link v kind veth pod pa\na route 10.244.1.5 dev v scope host"},
		{name: "terway by its rules", state: "a rule 2048: from 10.244.1.5 lookup 1003", want: []string{"terway"}},
		{name: "somebody's rule", state: "a rule 2048: from 10.244.1.5 lookup 100"},
		{name: "terway by its devices", state: "a link ipvl_2 kind ipvlan", want: []string{"terway"}},
		{name: "what two have left", state: hostGateways + "a link vxlan.calico kind vxlan", want: []string{"flannel (host-gw)", "calico"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := parse(t, nodes+c.state)
			if got := v.recognised(v.Node("a")); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestTheOneOfSeveralPluginsThatSpeaks has leftovers next to what runs.
func TestTheOneOfSeveralPluginsThatSpeaks(t *testing.T) {
	const both = hostGateways + calicos
	for _, c := range []struct {
		name, state string
		want        string // of which plugin the first difference is; empty for none
	}{
		{name: "all that flannel would have is there", state: "a route 10.244.2.0/24 via 10.0.0.2 dev eth0"},
		{name: "all that calico would have is there", state: "a route 10.244.2.0/26 via 10.0.0.2 dev eth0 proto bird"},
		{name: "flannel's agent runs", state: "agent a app=flannel", want: "flannel (host-gw)"},
		{name: "calico's agent runs", state: "agent a k8s-app=calico-node", want: "calico"},
		{name: "calico's agent runs, and flannel's route is left", state: "agent a k8s-app=calico-node\na route 10.244.2.0/24 via 10.0.0.2 dev eth1", want: "calico"},
		{name: "calico's agent runs as canal: flannel routes", state: "agent a k8s-app=canal\na route 10.244.2.0/24 via 10.0.0.2 dev eth0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := parse(t, nodes+both+c.state)
			got := ""
			if list := v.Differences(v.Node("a"), netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("10.244.2.5")); len(list) > 0 {
				got = list[0].Plugin
			}
			if got != c.want {
				t.Errorf("%q speaks, want %q", got, c.want)
			}
		})
	}
}

func TestWhatWasNotReadIsNotExpected(t *testing.T) {
	v := parse(t, nodes+hostGateways)
	a := v.Node("a")
	a.Parts = nil
	if list := v.Differences(a, netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("10.244.2.5")); len(list) > 0 {
		t.Errorf("routes that nobody read: %v", list)
	}
}
