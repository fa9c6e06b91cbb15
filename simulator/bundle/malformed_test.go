package bundle

import (
	"errors"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
)

// A line break before the fault in each file shows that the line is counted.
func TestMalformedFilesAreNamedWithLineAndToken(t *testing.T) {
	const n = "netns/n1/"
	tests := []struct {
		name, file, data, want string
	}{
		{"bundle.json that is not JSON", "bundle.json", "{\n\"formatVersion\": one}", `bundle.json:2: not JSON: invalid character 'o' looking for beginning of value at "one"`},
		{"bundle.json that is cut off", "bundle.json", "{\n\"formatVersion\": 1,", `bundle.json:2: not JSON: unexpected end of JSON input at ","`},
		{"bundle.json that is a list", "bundle.json", "\n[]", `bundle.json:2: want an object, found a list at "["`},
		{"bundle.json that is empty", "bundle.json", "", `bundle.json:1: empty at ""`},
		{"bundle.json without a version", "bundle.json", `{"kernel":"6.1"}`, `bundle.json:1: formatVersion: missing at "{"`},
		{"bundle.json of a later version", "bundle.json", "{\n\"formatVersion\":2}", `bundle.json:2: format version is newer than 1, the newest that this plumbline reads: update plumbline at "2"`},
		{"bundle.json of version 0", "bundle.json", `{"formatVersion":0}`, `bundle.json:1: formatVersion: versions count from 1 at "0"`},
		{"bundle.json with a bad time", "bundle.json", `{"formatVersion":1,"started":"yesterday"}`, `bundle.json:1: started: not a time of RFC 3339 at "yesterday"`},
		{
			"bundle.json with an unknown status", "bundle.json", `{"formatVersion":1,"namespaces":{"a":{"collectors":{"links":{"status":"fine"}}}}}`,
			`bundle.json:1: namespace a: links: status: want ok, unsupported, failed or missing at "fine"`,
		},
		{"meta.json that is empty", n + "meta.json", "", n + `meta.json:1: empty at ""`},
		{"meta.json of no kind", n + "meta.json", "{}", n + `meta.json:1: kind: missing at "{"`},
		{"meta.json of an unknown kind", n + "meta.json", `{"kind":"vm"}`, n + `meta.json:1: kind: want node, pod or other at "vm"`},
		{"meta.json with a bad nsid", n + "meta.json", `{"kind":"pod","nsids":{"x":"a"}}`, n + `meta.json:1: nsids: want the number of a namespace at "x"`},
		{"meta.json with a nameless nsid", n + "meta.json", `{"kind":"pod","nsids":{"0":5}}`, n + `meta.json:1: 0: want a string, found a number at "5"`},
		{"meta.json with a bad backend", n + "meta.json", `{"kind":"pod","iptables":"bpf"}`, n + `meta.json:1: iptables: want nft or legacy at "bpf"`},
		{"meta.json with a bad time", n + "meta.json", `{"kind":"pod","taken":"now"}`, n + `meta.json:1: taken: not a time of RFC 3339 at "now"`},
		{"host.json that is a list", n + "host.json", "\n[]", n + `host.json:2: want an object, found a list at "["`},
		{"host.json with text for the load", n + "host.json", "{\n\"load\":[1,2,\"x\"]}", n + `host.json:2: load: want a number that is not negative at "x"`},
		{"host.json with half a load", n + "host.json", `{"load":[1]}`, n + `host.json:1: load: want a list of three numbers at "[1]"`},
		{"host.json with a message of another kind", n + "host.json", "{\"messages\":[\n{\"event\":\"panic\"}]}", n + `host.json:2: event: not a kind of message that is known at "panic"`},
		{"host.json with a message without a kind", n + "host.json", `{"messages":[{"count":1}]}`, n + `host.json:1: event: missing at "{"`},
		{"host.json with free text for a device", n + "host.json", `{"messages":[{"event":"link-up","device":"a secret"}]}`, n + `host.json:1: device: not the name of an interface at "a secret"`},
		{"host.json with an unknown family", n + "host.json", `{"messages":[{"event":"link-up","family":5}]}`, n + `host.json:1: family: want 4 or 6 at "5"`},
		{"host.json with an unknown daemon", n + "host.json", `{"daemons":[{"name":"cron"}]}`, n + `host.json:1: name: want one of kubelet, k3s-server, k3s-agent, containerd, crio, dockerd, kube-proxy at "cron"`},
		{"host.json with an unknown mode", n + "host.json", `{"proxyMode":"ebpf"}`, n + `host.json:1: proxyMode: want one of iptables, ipvs, nftables at "ebpf"`},
		{"host.json with a bad time", n + "host.json", `{"booted":"now"}`, n + `host.json:1: booted: not a time of RFC 3339 at "now"`},

		{"links that are not JSON", n + "ip-link.json", "1: lo: <UP>", n + `ip-link.json:1: not JSON: invalid character ':' after top-level value at ":"`},
		{"links that are an object", n + "ip-link.json", "\n{}", n + `ip-link.json:2: want a list of links, found an object at "{"`},
		{"links that are nested without end", n + "ip-link.json", strings.Repeat("[", 40) + strings.Repeat("]", 40), n + `ip-link.json:1: nested deeper than 32 levels at "["`},
		{"a link that is a number", n + "ip-link.json", "[\n{},\n7]", n + `ip-link.json:3: link 2: want an object, found a number at "7"`},
		{"a link without details", n + "ip-link.json", `[{"ifindex":1,"ifname":"lo"}]`, n + `ip-link.json:1: link 1: no details: use ip -d -j link at "lo"`},
		{"a link without a name", n + "ip-link.json", `[{"ifindex":1,"promiscuity":0}]`, n + `ip-link.json:1: link 1: ifname: missing at "{"`},
		{"a link without an index", n + "ip-link.json", `[{"ifname":"a","promiscuity":0}]`, n + `ip-link.json:1: link 1: ifindex: missing at "{"`},
		{"a link with index 0", n + "ip-link.json", `[{"ifindex":0,"ifname":"a","promiscuity":0}]`, n + `ip-link.json:1: link 1: ifindex: zero at "0"`},
		{"a link whose index is text", n + "ip-link.json", `[{"ifindex":"one","ifname":"a","promiscuity":0}]`, n + `ip-link.json:1: link 1: ifindex: want a number of 31 bits at "one"`},
		{"a link with a bad MTU", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"mtu":-1}]`, n + `ip-link.json:1: link 1: mtu: want a number of 31 bits at "-1"`},
		{"a link with a bad MAC", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"link_type":"ether","address":"02:00:zz"}]`, n + `ip-link.json:1: link 1: address: not a link-layer address at "02:00:zz"`},
		{"a link with an unknown flag", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"flags":["UPP"]}]`, n + `ip-link.json:1: link 1: flags: not a flag of a link at "UPP"`},
		{"a link whose flags are numbers", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"flags":[1]}]`, n + `ip-link.json:1: link 1: flags: want strings, found a number at "1"`},
		{"a link on another that is not there", n + "ip-link.json", "[{\"ifindex\":1,\"ifname\":\"a\",\"promiscuity\":0,\n\"link\":\"b\"}]", n + `ip-link.json:2: link 1: link: no link has this name at "b"`},
		{"two links of one name", n + "ip-link.json", "[{\"ifindex\":1,\"ifname\":\"a\",\"promiscuity\":0},\n{\"ifindex\":2,\"ifname\":\"a\",\"promiscuity\":0}]", n + `ip-link.json:2: link 2: ifname: a link of this name came before at "a"`},
		{
			"a bridge port in an unknown state", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"linkinfo":{"info_slave_kind":"bridge","info_slave_data":{"state":"up"}}}]`,
			n + `ip-link.json:1: link 1: state: not a state of a bridge port at "up"`,
		},
		{
			"a bridge port with a bad switch", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"linkinfo":{"info_slave_kind":"bridge","info_slave_data":{"state":"forwarding","hairpin":"maybe"}}}]`,
			n + `ip-link.json:1: link 1: hairpin: want true or false at "maybe"`,
		},
		{"a VXLAN with a bad address", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"linkinfo":{"info_kind":"vxlan","info_data":{"local":"10.0.0"}}}]`, n + `ip-link.json:1: link 1: local: not an IP address at "10.0.0"`},
		{"a VLAN with too large an id", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"linkinfo":{"info_kind":"vlan","info_data":{"id":4096}}}]`, n + `ip-link.json:1: link 1: id: want a number of 12 bits at "4096"`},
		{"a link whose info is text", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"linkinfo":"veth"}]`, n + `ip-link.json:1: link 1: linkinfo: want an object, found a string at "veth"`},

		{"an address that is none", n + "ip-addr.json", `[{"ifname":"a","addr_info":[{"family":"inet","local":"10.0.0.256","prefixlen":8}]}]`, n + `ip-addr.json:1: link 1 (a): local: not an IP address at "10.0.0.256"`},
		{"an address without a length", n + "ip-addr.json", `[{"ifname":"a","addr_info":[{"family":"inet","local":"10.0.0.1"}]}]`, n + `ip-addr.json:1: link 1 (a): prefixlen: missing at "{"`},
		{"an address with too long a length", n + "ip-addr.json", `[{"ifname":"a","addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":33}]}]`, n + `ip-addr.json:1: link 1 (a): prefixlen: longer than the address at "33"`},
		{"an address of the wrong family", n + "ip-addr.json", `[{"ifname":"a","addr_info":[{"family":"inet6","local":"10.0.0.1","prefixlen":8}]}]`, n + `ip-addr.json:1: link 1 (a): local: not an address of family inet6 at "10.0.0.1"`},
		{"an address of an unknown scope", n + "ip-addr.json", `[{"ifname":"a","addr_info":[{"family":"inet","local":"10.0.0.1","prefixlen":8,"scope":"world"}]}]`, n + `ip-addr.json:1: link 1 (a): scope: neither a number of 8 bits nor a name that is known at "world"`},
		{"addresses that are not a list", n + "ip-addr.json", `[{"ifname":"a","addr_info":{}}]`, n + `ip-addr.json:1: link 1 (a): addr_info: want a list, found an object at "{}"`},

		{"a route without a destination", n + "ip-route.json", "[{\"dst\":\"default\"},\n{\"dev\":\"a\"}]", n + `ip-route.json:2: route 2: dst: missing at "{"`},
		{"a route to a bad prefix", n + "ip-route.json", `[{"dst":"10.0.0/8"}]`, n + `ip-route.json:1: route 1: dst: not an IPv4 prefix at "10.0.0/8"`},
		{"a route to a prefix with host bits", n + "ip-route.json", `[{"dst":"10.0.0.1/8"}]`, n + `ip-route.json:1: route 1: dst: not an IPv4 prefix at "10.0.0.1/8"`},
		{"a route by a bad gateway", n + "ip-route.json", `[{"dst":"default","gateway":"router"}]`, n + `ip-route.json:1: route 1: gateway: not an IP address at "router"`},
		{"a route by a bad gateway of the other family", n + "ip-route.json", `[{"dst":"default","via":{"family":"inet6","host":"router"}}]`, n + `ip-route.json:1: route 1: host: not an IP address at "router"`},
		{"a name that is not text", n + "ip-route.json", "[\n{\"dst\":\"default\",\"dev\":\"a\x89\"}]", n + `ip-route.json:2: not UTF-8 at "0x89"`},
		{"a route by a device without a name", n + "ip-route.json", `[{"dst":"default","dev":""}]`, n + `ip-route.json:1: route 1: dev: empty at ""`},
		{"a route by a next hop to nowhere", n + "ip-route.json", `[{"dst":"default","nexthops":[{"weight":1}]}]`, n + `ip-route.json:1: route 1: nexthops: a next hop with neither dev nor gateway nor via at "{\"weight\":1}"`},
		{"a route by a next hop without a share", n + "ip-route.json", `[{"dst":"default","nexthops":[{"dev":"a","weight":0}]}]`, n + `ip-route.json:1: route 1: weight: 0 is no share of the packets at "0"`},
		{"a group with a member without a share", n + "ip-nexthop.json", `[{"id":1,"group":[{"id":2,"weight":0}]}]`, n + `ip-nexthop.json:1: nexthop 1: weight: 0 is no share of the packets at "0"`},
		{"a route via text", n + "ip-route.json", `[{"dst":"default","via":"inet6 fd00::1"}]`, n + `ip-route.json:1: route 1: via: want an object, found a string at "inet6 fd00::1"`},
		{"a route in a table that only the host can name", n + "ip-route.json", `[{"dst":"default","table":"vpn"}]`, n + `ip-route.json:1: route 1: table: neither a number of 32 bits nor a name that is known at "vpn"`},
		{"a route of an unknown type", n + "ip-route.json", `[{"dst":"default","type":"xresolve"}]`, n + `ip-route.json:1: route 1: type: neither a number of 8 bits nor a name that is known at "xresolve"`},
		{"a route of an unknown number", n + "ip-route.json", `[{"dst":"default","type":"11"}]`, n + `ip-route.json:1: route 1: type: not a type of route at "11"`},
		{"a route with a bad metric", n + "ip-route.json", `[{"dst":"default","metric":4294967296}]`, n + `ip-route.json:1: route 1: metric: want a number of 32 bits at "4294967296"`},
		{"a link with bad segments", n + "ip-link.json", `[{"ifindex":1,"ifname":"a","promiscuity":0,"gso_max_segs":-1}]`, n + `ip-link.json:1: link 1: gso_max_segs: want a number of 31 bits at "-1"`},
		{"a route with a bad MTU", n + "ip-route.json", `[{"dst":"default","metrics":[{"mtu":1.5}]}]`, n + `ip-route.json:1: route 1: mtu: want a number of 31 bits at "1.5"`},
		{"a route whose next hops are an object", n + "ip-route.json", `[{"dst":"default","nexthops":{}}]`, n + `ip-route.json:1: route 1: nexthops: want a list, found an object at "{}"`},
		{"a next hop that is text", n + "ip-route.json", `[{"dst":"default","nexthops":["10.0.0.1"]}]`, n + `ip-route.json:1: route 1: nexthops: want objects, found a string at "10.0.0.1"`},
		{"an IPv4 route among those of IPv6", n + "ip6-route.json", `[{"dst":"10.0.0.0/8"}]`, n + `ip6-route.json:1: route 1: dst: an IPv4 route in the output of ip -6 at "10.0.0.0/8"`},
		{"an IPv6 route to a bad prefix", n + "ip6-route.json", `[{"dst":"fd00::/129"}]`, n + `ip6-route.json:1: route 1: dst: not an IPv6 prefix at "fd00::/129"`},

		{"a nexthop without an id", n + "ip-nexthop.json", `[{"dev":"a"}]`, n + `ip-nexthop.json:1: nexthop 1: id: missing at "{"`},
		{"a member without an id", n + "ip-nexthop.json", `[{"id":1,"group":[{"weight":2}]}]`, n + `ip-nexthop.json:1: nexthop 1: id: missing at "{"`},

		{"a rule that does nothing", n + "ip-rule.json", `[{"priority":0,"src":"all"}]`, n + `ip-rule.json:1: rule 1: neither table nor action at "{"`},
		{"a rule for a bad source", n + "ip-rule.json", `[{"src":"10.0.0","table":"254"}]`, n + `ip-rule.json:1: rule 1: src: not an IP address at "10.0.0"`},
		{"a rule for a source of the wrong family", n + "ip-rule.json", `[{"src":"fd00::","table":"254"}]`, n + `ip-rule.json:1: rule 1: src: not an IPv4 address at "fd00::"`},
		{"a rule for too long a prefix", n + "ip-rule.json", `[{"src":"10.0.0.0","srclen":33,"table":"254"}]`, n + `ip-rule.json:1: rule 1: srclen: longer than the address at "33"`},
		{"a rule for a bad mark", n + "ip-rule.json", `[{"src":"all","fwmark":"0xzz","table":"254"}]`, n + `ip-rule.json:1: rule 1: fwmark: want a number of 32 bits at "0xzz"`},
		{"a rule for a bad protocol", n + "ip-rule.json", `[{"src":"all","ipproto":"quic","table":"254"}]`, n + `ip-rule.json:1: rule 1: ipproto: neither a number of 8 bits nor a name that is known at "quic"`},
		{"a rule for a bad port", n + "ip-rule.json", `[{"src":"all","sport":65536,"table":"254"}]`, n + `ip-rule.json:1: rule 1: sport: want a number of 16 bits at "65536"`},
		{"a rule for half a range", n + "ip-rule.json", `[{"src":"all","dport_start":1,"table":"254"}]`, n + `ip-rule.json:1: rule 1: dport_end: missing at "{"`},
		{"a rule for half a range of users", n + "ip-rule.json", `[{"src":"all","uid_end":1,"table":"254"}]`, n + `ip-rule.json:1: rule 1: uid_start: missing at "{"`},
		{"a rule of an unknown action", n + "ip-rule.json", `[{"src":"all","action":"nat"}]`, n + `ip-rule.json:1: rule 1: action: not an action of a rule at "nat"`},
		{"an IPv6 rule for IPv4", n + "ip6-rule.json", `[{"src":"10.0.0.0","table":"254"}]`, n + `ip6-rule.json:1: rule 1: src: not an IPv6 address at "10.0.0.0"`},

		{"a label without an address", n + "ip-addrlabel.json", `[{"label":1}]`, n + `ip-addrlabel.json:1: label 1: address: missing at "{"`},
		{"a label of IPv4", n + "ip-addrlabel.json", `[{"address":"10.0.0.0","prefixlen":8,"label":1}]`, n + `ip-addrlabel.json:1: label 1: address: not a prefix of IPv6 at "10.0.0.0"`},
		{"a label of too many bits", n + "ip-addrlabel.json", `[{"address":"fd00::","prefixlen":129,"label":1}]`, n + `ip-addrlabel.json:1: label 1: address: not a prefix of IPv6 at "fd00::"`},
		{"a label beyond 32 bits", n + "ip-addrlabel.json", `[{"address":"fd00::","prefixlen":64,"label":4294967296}]`, n + `ip-addrlabel.json:1: label 1: label: want a number of 32 bits at "4294967296"`},
		{"a neighbour without an address", n + "ip-neigh.json", `[{"dev":"a"}]`, n + `ip-neigh.json:1: neighbour 1: dst: missing at "{"`},
		{"a neighbour with a bad MAC", n + "ip-neigh.json", `[{"dst":"10.0.0.1","dev":"a","lladdr":"02-x"}]`, n + `ip-neigh.json:1: neighbour 1: lladdr: not a link-layer address at "02-x"`},
		{"a neighbour in an unknown state", n + "ip-neigh.json", `[{"dst":"10.0.0.1","dev":"a","state":["LOST"]}]`, n + `ip-neigh.json:1: neighbour 1: state: not a state of a neighbour at "LOST"`},
		{"a forwarding entry without a MAC", n + "bridge-fdb.json", `[{"ifname":"a"}]`, n + `bridge-fdb.json:1: entry 1: mac: missing at "{"`},
		{"a forwarding entry to nowhere", n + "bridge-fdb.json", `[{"mac":"02:00:00:00:00:01","ifname":"a","dst":"vtep"}]`, n + `bridge-fdb.json:1: entry 1: dst: not an IP address at "vtep"`},
		{"a forwarding entry in an unknown state", n + "bridge-fdb.json", `[{"mac":"02:00:00:00:00:01","ifname":"a","state":"old"}]`, n + `bridge-fdb.json:1: entry 1: state: not a state of a forwarding entry at "old"`},
		{"a VLAN range that runs backwards", n + "bridge-vlan.json", `[{"ifname":"a","vlans":[{"vlan":20,"vlanEnd":10}]}]`, n + `bridge-vlan.json:1: port 1: vlanEnd: before the first VLAN of the range at "10"`},
		{"a VLAN without a number", n + "bridge-vlan.json", `[{"ifname":"a","vlans":[{"flags":[]}]}]`, n + `bridge-vlan.json:1: port 1: vlan: missing at "{"`},

		{"a socket of an unknown kind", n + "sockets.txt", "\nquic LISTEN 0 0 *:1 *:*", n + `sockets.txt:2: not a kind of socket at "quic"`},
		{"a socket in an unknown state", n + "sockets.txt", "\ntcp OPEN 0 0 *:1 *:*", n + `sockets.txt:2: not a state of a socket at "OPEN"`},
		{"a socket whose line is cut off", n + "sockets.txt", "\ntcp LISTEN 0", n + `sockets.txt:2: want netid, state, two queues and two addresses at "tcp LISTEN 0"`},
		{"a socket with a bad queue", n + "sockets.txt", "tcp LISTEN many 0 *:1 *:*", n + `sockets.txt:1: queue: want a number of 32 bits at "many"`},
		{"a socket at a bad address", n + "sockets.txt", "tcp LISTEN 0 0 localhost:1 *:*", n + `sockets.txt:1: not an IP address at "localhost:1"`},
		{"a socket at a named port", n + "sockets.txt", "tcp LISTEN 0 0 *:http *:*", n + `sockets.txt:1: not a port (use ss -n) at "*:http"`},
		{"a socket without a port", n + "sockets.txt", "tcp LISTEN 0 0 10.0.0.1 *:*", n + `sockets.txt:1: address without a port at "10.0.0.1"`},
		{"a socket with a bad inode", n + "sockets.txt", "tcp LISTEN 0 0 *:1 *:* ino:x", n + `sockets.txt:1: ino: not a number at "ino:x"`},
		{"a socket of a bad mark", n + "sockets.txt", "tcp LISTEN 0 0 *:1 *:* fwmark:0x1ffffffff", n + `sockets.txt:1: fwmark: not a number at "fwmark:0x1ffffffff"`},
		{"a socket of a bad user", n + "sockets.txt", "tcp LISTEN 0 0 *:1 *:* uid:root", n + `sockets.txt:1: uid: not a number at "uid:root"`},
		{"a socket with a bad v6only", n + "sockets.txt", "tcp LISTEN 0 0 *:1 *:* v6only:2", n + `sockets.txt:1: v6only: not a number at "v6only:2"`},
		{"a socket of a process without a number", n + "sockets.txt", `tcp LISTEN 0 0 *:1 *:* users:(("a",pid=x,fd=1))`, n + `sockets.txt:1: users: not a process id at "x"`},
		{"a socket whose processes are cut off", n + "sockets.txt", `tcp LISTEN 0 0 *:1 *:* users:(("a",pid=1`, n + `sockets.txt:1: users: want (("name",pid=N,…)) at "users:"`},
		{"a socket whose options are cut off", n + "sockets.txt", "tcp LISTEN 0 0 *:1 *:* <-> inet-sockopt: ( transp", n + `sockets.txt:1: inet-sockopt: want ( OPTION …) at "inet-sockopt:"`},

		{"a sysctl without a value", n + "sysctl.txt", "net.a = 1\nnet.b", n + `sysctl.txt:2: want KEY = VALUE at "net.b"`},
		{"a message of sysctl", n + "sysctl.txt", "sysctl: permission denied on key 'net.a' = 5", n + `sysctl.txt:1: want KEY = VALUE at "sysctl: permission denied on key 'net.a' = 5"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			snap, err := ReadFS(mapFS(map[string]string{tt.file: tt.data, "netns/n2/sysctl.txt": ""}))
			if err == nil {
				t.Fatal("no error")
			}
			if snap != nil {
				t.Error("half of a snapshot was returned beside the error")
			}
			if got, want := err.Error(), "bundle: "+tt.want; got != want {
				t.Errorf("error = %s\nwant    %s", got, want)
			}
			var syntax *netfilter.SyntaxError
			if !errors.As(err, &syntax) || syntax.File != tt.file {
				t.Errorf("error is a %T, want a *netfilter.SyntaxError for %s", errors.Unwrap(err), tt.file)
			}
		})
	}
}

func TestMalformedManifestsAreRefused(t *testing.T) {
	snap, err := ReadFS(mapFS(map[string]string{"cluster/pods.yaml": "kind: Pod\n  bad: [\n", "netns/n2/sysctl.txt": ""}))
	if err == nil || snap != nil || !strings.HasPrefix(err.Error(), "bundle: cluster/pods.yaml") {
		t.Errorf("snapshot = %v, error = %v, want an error that names cluster/pods.yaml", snap, err)
	}
}

func TestBadDirectoriesAreRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  string
	}{
		{"nothing", nil, "bundle: not a bundle: there is no bundle.json, netns or cluster"},
		{"something else", map[string]string{"a/b": "", "c/d": ""}, "bundle: not a bundle: there is no bundle.json, netns or cluster"},
		{"a name that is not encoded", map[string]string{"netns/50%/meta.json": `{"kind":"pod"}`}, `bundle: netns/50%: the name of the directory is not percent-encoded: invalid URL escape "%"`},
		{
			"two directories for one namespace",
			map[string]string{"netns/a/sysctl.txt": "", "netns/%61/sysctl.txt": ""},
			`bundle: netns: two directories are for namespace "a"`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			snap, err := ReadFS(mapFS(tt.files))
			if err == nil || err.Error() != tt.want || snap != nil {
				t.Errorf("snapshot = %v, error = %v\nwant %s", snap, err, tt.want)
			}
		})
	}
}
