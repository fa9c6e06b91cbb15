package nftjson

import (
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Columns of the table of docs/nftables.md.
const (
	exactly = iota + 1
	bothWays
	notModelled
	columns
)

// TestTheExpressionsOfTheDocumentationAreThoseOfTheCode offers the simulator every name that the collector writes, and those that
// newer releases of nft have besides: each stands in the column of docs/nftables.md that tells what becomes of it, and nothing else
// stands there.
func TestTheExpressionsOfTheDocumentationAreThoseOfTheCode(t *testing.T) {
	text, err := os.ReadFile("../../docs/nftables.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "| expression | exactly | both ways, by name | not modelled |\n|---|---|---|---|\n")
	if !found {
		t.Fatal("docs/nftables.md has no table of expressions")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	documented := make(map[string][columns][]string)
	word := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != columns+2 {
			t.Fatalf("not a row of %d cells: %s", columns, line)
		}
		var row [columns][]string
		for i := exactly; i < columns; i++ {
			for _, m := range word.FindAllStringSubmatch(cells[i+1], -1) {
				row[i] = append(row[i], m[1])
			}
			slices.Sort(row[i])
		}
		documented[strings.Trim(cells[1], " `")] = row
	}
	if diff := cmp.Diff(evaluated(t), documented); diff != "" {
		t.Errorf("the code (-) and docs/nftables.md (+):\n%s", diff)
	}
}

// evaluated is what becomes of each name, by the kind of expression or the header that it belongs to.
func evaluated(t *testing.T) map[string][columns][]string {
	t.Helper()
	rows := make(map[string][columns][]string)
	add := func(kind, name, format string, args ...any) {
		t.Helper()
		row := rows[kind]
		column := understood(t, fmt.Sprintf(format, args...), "")
		if !slices.Contains(row[column], name) { // of another family
			row[column] = append(row[column], name)
			slices.Sort(row[column])
			rows[kind] = row
		}
	}
	for kind, list := range map[string][]template{
		"meta": append(metaTemplates, template{name: "broute"}, template{name: "ibrhwaddr"}),
		"ct":   ctTemplates, "rt": routeTemplates, "socket": socketTemplates, "ipsec": xfrmTemplates[1:],
	} {
		for _, of := range list {
			add(kind, of.name, setMark, fmt.Sprintf(`{%q: {"key": %q}}`, kind, of.name))
		}
	}
	for _, result := range append(fibResults[fibOIF:], "check") {
		add("fib", result, setMark, fmt.Sprintf(`{"fib": {"result": %q, "flags": ["daddr", "iif"]}}`, result))
	}
	for _, of := range []*protocol{
		protoEther, protoVLAN, protoARP, protoIP, protoIP6, protoTH, protoTCP, protoUDP, protoUDPLite, protoSCTP, protoDCCP, protoICMP, protoICMPv6, protoIGMP,
		protoESP, protoAH, protoComp, extension("gre", field{name: "flags"}, field{name: "version"}, field{name: "protocol"}),
		extension("icmpv6", field{name: "packet-too-big"}),
		extension("vxlan", field{name: "vni"}, field{name: "flags"}), extension("geneve", field{name: "vni"}, field{name: "type"}),
	} {
		for _, f := range of.fields {
			if !f.meta {
				add(of.name, f.name, setMark, fmt.Sprintf(`{"payload": {"protocol": %q, "field": %q}}`, of.name, f.name))
			}
		}
	}
	for _, kind := range []struct {
		name    string
		headers map[uint32]*protocol
		others  []*protocol
	}{
		{"exthdr", ipv6Extensions, []*protocol{routing0, segments}},
		{"tcp option", tcpOptions, nil},
		{"ip option", ipOptions, nil},
		{"sctp chunk", sctpChunks, nil},
		{"dccp option", map[uint32]*protocol{}, []*protocol{extension("any")}},
	} {
		for _, h := range kind.headers {
			add(kind.name, h.name, setMark, fmt.Sprintf(`{%q: {"name": %q}}`, kind.name, h.name))
		}
		for _, h := range kind.others {
			add(kind.name, h.name, setMark, fmt.Sprintf(`{%q: {"name": %q}}`, kind.name, h.name))
		}
	}
	for name, expr := range map[string]string{
		"symhash": `{"symhash": {"mod": 2}}`, "jhash": `{"jhash": {"mod": 2, "seed": 1, "expr": {"meta": {"key": "l4proto"}}}}`,
		"numgen": `{"numgen": {"mode": "inc", "mod": 2}}`, "osf": `{"osf": {"key": "name"}}`,
	} {
		add("others", name, setMark, expr)
	}
	// Look-ups in sets of each type.
	set := rows["types of sets"]
	for _, typ := range dataTypes {
		if typ == nil || typ == typeVerdict || typ == typeBitmask { // which no set has
			continue
		}
		column := understood(t, `{"match": {"op": "==", "left": {"meta": {"key": "mark"}}, "right": "@typed"}}`,
			fmt.Sprintf(`{"set": {"family": "inet", "table": "t", "name": "typed", "type": %q}},`, typ.name))
		if !slices.Contains(set[column], typ.name) {
			set[column] = append(set[column], typ.name)
		}
	}
	for column := range set {
		slices.Sort(set[column])
	}
	rows["types of sets"] = set
	return rows
}

// setMark is a statement that asks for the value of an expression.
const setMark = `{"mangle": {"key": {"meta": {"key": "mark"}}, "value": %s}}`

// understood says what becomes of a statement: whether the simulator knows the kernel's answer for packets of every protocol that come
// to a host and leave it, asks, or does not model it.
func understood(t *testing.T, statement, declarations string) int {
	t.Helper()
	rules := `{"nftables": [{"table": {"family": "inet", "name": "t"}},` + declarations
	for _, hook := range []string{"prerouting", "output"} {
		rules += fmt.Sprintf(`{"chain": {"family": "inet", "table": "t", "name": %q, "type": "filter", "hook": %[1]q, "prio": 0, "policy": "accept"}},
{"rule": {"family": "inet", "table": "t", "chain": %[1]q, "handle": 1, "expr": [%s, {"drop": null}]}},`, hook, statement)
	}
	rs, err := netfilter.Compile(&netstack.Namespace{
		NFT:   netstack.Text{File: "nft.json", Data: []byte(strings.TrimSuffix(rules, ",") + "]}")},
		Links: []netstack.Link{{Name: "lo", Kind: "loopback"}, {Name: "eth0", Kind: "veth", Master: "br0"}, {Name: "br0", Kind: "bridge"}},
	})
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	if _, unmodelled := rs.Coverage(); unmodelled > 0 {
		return notModelled
	}
	env := &knownHost{}
	uid := uint32(1000)
	for _, to := range []string{"10.0.0.2", "fd00::2"} {
		dst := netip.MustParseAddr(to)
		for _, protocol := range []netstack.Protocol{1, 2, 6, 17, 33, 47, 50, 51, 58, 108, 132, 136} {
			p := netstack.Packet{Src: dst.Prev(), Dst: dst, Protocol: protocol, SrcPort: 1, DstPort: 80, Length: 60, TTL: 64, UID: &uid}
			switch protocol {
			case netstack.ProtoTCP:
				p.TCPFlags, p.MSS = netstack.SYN, 1460
			case netstack.ProtoICMP:
				p.ICMPType = 8
			case netstack.ProtoICMPv6:
				p.ICMPType = 128
			case netstack.ProtoSCTP:
				p.Chunks = netstack.SCTPInit
			}
			arrives, leaves := p, p
			rs.Run(netstack.FamilyOf(dst), netfilter.Prerouting, &netfilter.State{Packet: &arrives, In: "eth0", Conntrack: &netfilter.Conntrack{}}, env)
			rs.Run(netstack.FamilyOf(dst), netfilter.Output, &netfilter.State{Packet: &leaves, Out: "eth0", Conntrack: &netfilter.Conntrack{}}, env)
		}
	}
	if env.asked {
		return bothWays
	}
	return exactly
}

// knownHost is a host of which routes and sockets are known. It notes that it was asked about something.
type knownHost struct {
	netfilter.Env // for what no rule of these tests asks
	asked         bool
}

func (h *knownHost) Pick(netfilter.Rule, []float64) int { return 0 }
func (h *knownHost) Kernel() string                     { return "" }
func (h *knownHost) OutMTU(*netfilter.State) int        { return 1500 }

func (h *knownHost) Unknown(netfilter.Rule, string) bool {
	h.asked = true
	return false
}

func (h *knownHost) AddrType(netip.Addr, string) netstack.RouteType { return netstack.RouteLocal }

func (h *knownHost) RouteType(netfilter.FIBQuery) (netstack.RouteType, bool) {
	return netstack.RouteLocal, true
}

func (h *knownHost) FIBDevice(netfilter.FIBQuery) (string, bool) { return "eth0", true }

func (h *knownHost) LocalSocket(*netstack.Packet, string) (*netstack.Socket, bool) {
	return &netstack.Socket{Transparent: new(false)}, true
}
