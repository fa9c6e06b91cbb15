package netfilter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/internal/nftjson/nftcheck"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// links reads the router's devices.
func (j *judge) links() []netstack.Link {
	var list []struct {
		Index   int    `json:"ifindex"`
		Name    string `json:"ifname"`
		Address string `json:"address"`
		Group   string `json:"group"`
	}
	if err := json.Unmarshal([]byte(j.in(judgeRouter, "", "ip", "-j", "link")), &list); err != nil {
		j.t.Fatal(err)
	}
	var links []netstack.Link
	for _, l := range list {
		link := netstack.Link{Index: l.Index, Name: l.Name, Kind: "veth"}
		if l.Name == "lo" {
			link.Kind, link.Flags = "loopback", netstack.FlagLoopback
		}
		if group, err := strconv.ParseUint(l.Group, 0, 32); err == nil {
			link.Group = uint32(group)
		}
		mac, _ := net.ParseMAC(l.Address)
		copy(link.MAC[:], mac)
		links = append(links, link)
	}
	return links
}

// nft reads the router's nftables, from the kernel, which has to say what the
// tool prints.
func (j *judge) nft() []byte {
	var data []byte
	err := within(judgeRouter, func() (err error) {
		// What an earlier connection sends again is counted: then all is read once more.
		for range 20 {
			if data, err = nftcheck.Live(j.t); err != nil {
				return err
			}
			tool := nftcheck.Tool(j.t)
			after, err := nftcheck.Live(j.t)
			if err != nil {
				return err
			}
			if bytes.Equal(data, after) {
				if diff := nftcheck.Compare(j.t, tool, data); diff != "" {
					j.t.Errorf("what is read is not what nft prints:\n%s", diff)
				}
				return nil
			}
		}
		return errors.New("the rule set does not stand still")
	})
	if err != nil {
		j.t.Fatal(err)
	}
	return data
}

// condition is an expression of nftables; the rule that has it drops what comes
// to its own port.
type condition struct {
	text    string
	network string // tcp unless given
	only    byte   // '4' or '6'; both unless given
}

func conditions(only byte, network string, list ...string) []condition {
	var all []condition
	for _, text := range list {
		all = append(all, condition{text, network, only})
	}
	return all
}

// judgeConditions are expressions of a chain at the forward hook.
func judgeConditions(clientMAC string) []condition {
	var all []condition
	all = append(all, conditions(0, "",
		// Every look at the packet and what carries it.
		"meta iif c0", "meta iif s0", "meta iif 99", "meta oif != c0", `meta iifname "c*"`, `meta iifname "c\*"`, `meta oifname { "lo", "s*" }`, `meta oifname != { "lo", "s*" }`,
		"meta iiftype ether", "meta oiftype loopback", "meta iifgroup 5", "meta iifgroup != 5", "meta oifgroup { 22, 23 }", "meta oifgroup default", "meta iifgroup & 4 == 4", "meta iifgroup 1-6", `meta iifkind "veth"`, `meta oifkind "bridge"`, `meta sdifname "x"`, "meta ipsec missing", "meta ipsec exists", "meta skuid 0", "meta skgid != 0",
		"meta cgroup 0", "meta l4proto tcp", "meta l4proto != { udp, icmp }", "meta nfproto ipv4", "meta protocol ip6", "meta pkttype host", "meta pkttype { broadcast, multicast }",
		"meta priority 0", "meta mark 0x15", "meta mark & 0xf == 0x5", "meta mark & 0xf != 0x5", "meta mark and 0x1f == { 0x15, 0x16 }", "meta mark 0x10-0x20", "meta mark < 0x15", "meta mark >= 0x15",
		"meta mark ^ 0x15 == 0", "meta mark | 0x2a == 0x3f", "meta length < 100", "meta random >= 0", "meta random > 4294967295",
		"th dport > 1", "@th,16,16 > 1", "@th,0,16 { 1-65535 }", "@th,16,6 0x1", "@th,16,5 0", "ether saddr & ff:ff:00:00:00:00 == 00:00:00:00:00:00", "tcp sport & 0x8000 == 0x8000", "@th,104,8 & 0x12 == 0x02", "ether type ip", "ether type { ip, ip6 }", "ether saddr "+clientMAC, "ether saddr != "+clientMAC,
		"ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00", "@ll,48,48 "+"0x"+strings.ReplaceAll(clientMAC, ":", ""), "@ll,96,16 0x0800",
		"tcp flags syn", "tcp flags & (fin | syn | rst | ack) == syn", "tcp flags & (syn | ack) == ack", "tcp flags ! syn", "tcp flags != syn", "tcp flags { syn | ack, ack, psh | ack }", "tcp flags syn,ack / syn,ack",
		"tcp sport 1-65535", "tcp sport < 1024", "tcp option maxseg size 1-1500", "tcp option maxseg size < 1000", "tcp option maxseg exists", "tcp option maxseg missing", "udp dport > 0",
		// The connection.
		"ct state new", "ct state established", "ct state ! new", "ct state != new", "ct state { new, established }", "ct state invalid,untracked", "ct status snat", "ct status seen-reply", "ct status confirmed", "ct status & (dnat | snat) != 0",
		"ct direction original", "ct direction reply", "ct mark 0", "ct mark & 1 == 1", "ct l3proto ipv4", "ct protocol tcp", "meta l4proto tcp ct original proto-dst != 0", "meta l4proto tcp ct reply proto-src 1-5", "ct zone 0", "ct original zone 0", "ct zone 5",
		`ct helper "ftp"`, "ct label 3", "ct label & 1 == 0",
		// The routes.
		"fib daddr type unicast", "fib saddr type local", "fib saddr . iif type unicast", "fib daddr . oif type != local", "fib saddr . iif oif exists", "fib saddr . iif oif missing", "fib saddr . mark . iif oif != 0", "fib saddr oifname c0",
		"fib saddr oif c0", "fib daddr oif s0", `fib daddr oifname "c*"`, "fib saddr type { local, broadcast }", "rt mtu 1460", "rt ipsec missing",
		// Dice that fall only one way, and hashes.
		"numgen inc mod 1 0", "numgen random mod 1 offset 3 3", "numgen random mod 4 <= 3", "symhash mod 1 0", "symhash mod 4 <= 3",
	)...)
	all = append(all, conditions('4', "",
		"ip saddr 10.77.1.0/24", "ip saddr != 10.77.1.2", "ip saddr 10.77.1.1-10.77.1.9", "ip saddr & 255.0.0.255 == 10.0.0.2", "ip daddr { 10.77.2.0/25, 1.1.1.1 }", "ip version 4", "ip hdrlength 5", "ip dscp cs0", "ip dscp != 0",
		"ip dscp { cs1, af41 }", "ip ecn not-ect", "ip length 60", "ip length > 59", "ip ttl 63", "ip ttl 64", "ip protocol tcp", "ip frag-off & 0x1fff == 0", "ip frag-off & 0x4000 != 0", "@nh,96,32 0x0a4d0102", "@nh,128,24 & 0xffff00 == 0x0a4d00",
		"@nh,8,8 & 0xfc == 0", "@nh,0,4 4", "@nh,64,8 63", "ip saddr . ip daddr { 10.77.1.2 . 10.77.2.2 }", "ip saddr . tcp dport . meta iifname { 10.77.1.0/24 . 1-65535 . \"c0\" }", "ip saddr . tcp dport != { 10.77.1.0/24 . 1-65535 }",
		"ip option ra exists", "ip option ra missing", "ct original ip saddr 10.77.1.2", "ct reply ip saddr 10.77.2.0/24", "ct original ip saddr . meta l4proto { 10.77.1.2 . tcp }",
		"jhash ip saddr mod 2 seed 0x1 0", "jhash ip saddr mod 2 seed 0x1 1", "jhash ip saddr . ip daddr . tcp dport mod 16 seed 0xdeadbeef 0-7", "jhash ip saddr . ip daddr . tcp dport mod 16 seed 0xdeadbeef 8-15", "jhash tcp dport mod 2 seed 7 0",
		"jhash ip saddr . ip daddr . ip protocol . tcp dport mod 16 seed 0x5 offset 100 100-107",
		"ip saddr @cidrs", "ip saddr != @cidrs", "ip saddr . ip daddr . tcp dport @triples", "ip daddr . tcp dport != @triples2", `meta iifname . ip saddr @devs`, "tcp dport . ip saddr vmap { 1-65535 . 10.77.1.2 : continue, * : accept }", "ip6 saddr ::/0", "icmp type echo-request", "meta nfproto ipv6",
		"exthdr frag exists", "vlan id 5",
	)...)
	all = append(all, conditions('6', "",
		"ip6 saddr fd77:1::/64", "ip6 saddr != fd77:1::2", "ip6 saddr fd77:1::1-fd77:1::9", "ip6 daddr { fd77:2::/64, ::1 }", "ip6 version 6", "ip6 dscp 0", "ip6 ecn 0", "ip6 length 40", "ip6 hoplimit 63", "ip6 nexthdr tcp",
		"@nh,64,64 0xfd77000100000000", "@nh,56,8 63", "@nh,48,8 6", "ip6 saddr . tcp dport { fd77:1::/64 . 1-65535 }", "ip6 saddr . ip6 daddr { fd77:1::2 . fd77:2::2 }", "exthdr frag exists", "exthdr frag missing", "exthdr hbh exists", "rt nexthdr tcp",
		"ct original ip6 saddr fd77:1::2", "ct reply ip6 daddr != fd77:1::2", "jhash ip6 saddr mod 4 seed 0x9 0-1", "jhash ip6 saddr . tcp dport mod 4 seed 0x9 0-1", "ip6 daddr @cidrs6", "ip saddr 0.0.0.0/0", "icmpv6 type echo-request",
		"jhash ip6 saddr . ip6 daddr . tcp dport mod 16 seed 0x77 0-7",
	)...)
	all = append(all, conditions(0, "udp",
		"udp length 9", "udp length > 9", "udp sport > 1", "meta l4proto udp", "tcp dport 1-65535", "ct state established", "ct status assured", "meta length < 60", "th sport . meta l4proto { 1-65535 . udp }", "@th,32,16 9", "tcp flags syn",
		"tcp option maxseg missing", "udplite dport 1", "udplite csumcov 8", "ah reserved 0", "sctp dport 1", "ct direction reply", "ct protocol udp", "@th,32,8 0",
	)...)
	return all
}

const judgeNFTSets = ` set cidrs { type ipv4_addr; flags interval; auto-merge; elements = { 10.77.0.0-10.77.1.1, 10.77.1.2/31, 192.168.0.0/16 } }
 set cidrs6 { type ipv6_addr; flags interval; elements = { fd77:2::/64, fd00::-fd00::ff } }
 set triples { type ipv4_addr . ipv4_addr . inet_service; flags interval; elements = { 10.77.1.0/24 . 10.77.2.0-10.77.2.9 . 1-65535, 10.77.1.0/24 . 10.77.3.0/24 . 80 } }
 set triples2 { type ipv4_addr . inet_service; flags interval; elements = { 10.77.2.0/30 . 1-500, 10.77.2.0/30 . 5000-65535 } }
 set devs { typeof iifname . ip saddr; flags interval; elements = { "c0" . 10.77.1.0/24 } }
`

func TestTheKernelAgreesOnConditionsOfNft(t *testing.T) {
	j := newJudge(t)
	var clientMAC string
	for line := range strings.Lines(j.in(judgeClient, "", "cat", "/sys/class/net/eth0/address")) {
		clientMAC = strings.TrimSpace(line)
	}
	copy(judgeClientMAC[:], mustMAC(t, clientMAC))
	defer func() { judgeClientMAC = netstack.MAC{} }()
	var text strings.Builder
	text.WriteString("table inet t {\n" + judgeNFTSets + " chain m { type filter hook forward priority -150\n meta mark set 0x15\n }\n chain f { type filter hook forward priority 0\n")
	var probes []probe
	for i, c := range judgeConditions(clientMAC) {
		port := uint16(1000 + i)
		network := c.network
		if network == "" {
			network = "tcp"
		}
		fmt.Fprintf(&text, "  @th,16,16 %d %s drop\n", port, c.text)
		if c.only != '6' {
			probes = append(probes, probe{name: c.text, network: network, port: port})
		}
		if c.only != '4' {
			probes = append(probes, probe{name: c.text, network: network, port: port, dst: "fd77:2::2"})
		}
	}
	text.WriteString(" }\n}\n")
	j.in(judgeRouter, text.String(), "nft", "-f", "-")
	j.compare(probes)
}

func mustMAC(t *testing.T, text string) net.HardwareAddr {
	mac, err := net.ParseMAC(text)
	if err != nil {
		t.Fatal(err)
	}
	return mac
}

func TestTheKernelAgreesOnStatementsOfNft(t *testing.T) {
	j := newJudge(t)
	for _, c := range judgeNFT {
		t.Run(c.name, func(t *testing.T) {
			j := j.sub(t)
			j.reset()
			j.in(judgeRouter, c.rules, "nft", "-f", "-")
			j.compare(c.probes)
		})
	}
}
