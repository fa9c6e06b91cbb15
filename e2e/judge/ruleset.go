package judge

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// Ruleset is a rule set as other software writes it, with a stage that its addresses fit and probes through it: a txtar
// archive. Its comment says whose rules these are. The file "stage" makes the namespaces:
//
//	lan PREFIX…                          the wire between the nodes; the router has its first address
//	node NAME ADDRESS…                   on the lan, with a default route to the router
//	bridge NODE DEVICE PREFIX…           a bridge with addresses
//	pod NAME NODE BRIDGE ADDRESS…        on a bridge, with a default route to the bridge's first address
//	routed NAME NODE DEVICE ADDRESS…     on a wire of its own, behind a gateway that nobody has
//	pods NODE PREFIX…                    whoever else is on the lan reaches these pods over the node
//	link, ip, sysctl, listen NS TEXT     anything else; a listener is PROTOCOL PORT [ADDRESS]
//
// Other files are rules, NAMESPACE/TOOL: iptables-save, iptables-legacy-save, ip6tables-save, ip6tables-legacy-save,
// ipset-save and nft. The file "probes" says what is tried and what came of it:
//
//	PROTOCOL FROM -> ADDRESS[:PORT] [uid N] [mark N] [repeat N] = FATE [| FATE]…
type Ruleset struct {
	Name  string
	World *World
	// Expected are the fates of the world's first probes, as the file has them.
	Expected []string
	archive  *txtar.Archive
	path     string
}

// rulesetFiles are what a bundle calls the files of rules, and how they are loaded.
var rulesetFiles = map[string]struct {
	bundle  string
	tool    Tool
	family  netstack.Family
	backend netstack.Backend
}{
	"iptables-save":         {"iptables-save.txt", ToolIPTables, netstack.IPv4, netstack.BackendNFT},
	"iptables-legacy-save":  {"iptables-save-legacy.txt", ToolIPTables, netstack.IPv4, netstack.BackendLegacy},
	"ip6tables-save":        {"ip6tables-save.txt", ToolIPTables, netstack.IPv6, netstack.BackendNFT},
	"ip6tables-legacy-save": {"ip6tables-save-legacy.txt", ToolIPTables, netstack.IPv6, netstack.BackendLegacy},
	"ipset-save":            {"ipset-save.txt", ToolIPSet, 0, ""},
	"nft":                   {"", ToolNFT, 0, ""},
}

// ReadRuleset reads a rule set from a file.
func ReadRuleset(path string) (*Ruleset, error) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		return nil, err
	}
	r := &Ruleset{Name: strings.TrimSuffix(filepath.Base(path), ".txtar"), archive: archive, path: path}
	s := &stage{builder: &builder{Rand: rand.New(rand.NewPCG(1, 1)), world: &World{}, marks: map[string]uint8{}, used: map[string]bool{}}}
	var probes []byte
	for _, f := range archive.Files {
		var err error
		switch f.Name {
		case "stage":
			err = s.read(f.Data)
		case "probes":
			probes = f.Data
		default:
			err = s.rules(f)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, f.Name, err)
		}
	}
	r.World = s.world
	if r.Expected, err = s.probes(probes); err != nil {
		return nil, fmt.Errorf("%s: probes: %w", path, err)
	}
	s.drawProbes(archive)
	for _, f := range archive.Files {
		if bytes.Contains(f.Data, []byte("random-fully")) || bytes.Contains(f.Data, []byte("fully-random")) {
			for i := range s.world.Probes {
				s.world.Probes[i].AnyPort = true
			}
		}
	}
	return r, nil
}

// stage builds the world of a rule set.
type stage struct {
	*builder
	lan      []netip.Prefix
	members  []member
	gateways map[string][]netip.Prefix // of a bridge, by NODE/DEVICE
	behind   map[netip.Prefix]string   // which node is the way to the pods
}

// member is a namespace with an address on the lan.
type member struct {
	name  string
	addrs []netip.Addr
}

// lines calls fn for each line that says something.
func lines(data []byte, fn func(string, []string) error) error {
	scanner := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; scanner.Scan(); n++ {
		text := strings.TrimSpace(scanner.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if err := fn(text, strings.Fields(text)); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return scanner.Err()
}

func (s *stage) read(data []byte) error {
	s.gateways, s.behind = map[string][]netip.Prefix{}, map[netip.Prefix]string{}
	return lines(data, func(text string, words []string) error {
		ok := true
		switch words[0] {
		case "lan":
			s.addLAN(words[1:])
		case "node":
			s.addNode(words[1], words[2:])
		case "bridge":
			s.addBridge(words[1], words[2], words[3:])
		case "pod":
			ok = s.addPod(words[1], words[2], words[3], words[4:])
		case "routed":
			s.addRouted(words[1], words[2], words[3], words[4:])
		case "pods":
			s.addPods(words[1], words[2:])
		case "link", "ip", "sysctl", "listen":
			s.add(Element{Namespace: words[1], Tool: Tool(words[0]), Text: strings.Join(words[2:], " ")})
		default:
			ok = false
		}
		if !ok {
			return fmt.Errorf("not understood: %s", text)
		}
		return nil
	})
}

func dash(a netip.Addr) string {
	if a.Is6() {
		return "-6"
	}
	return "-4"
}

// address gives a device an address.
func (s *stage) address(ns, dev string, p netip.Prefix) {
	nodad := ""
	if p.Addr().Is6() {
		nodad = " nodad"
	}
	s.ip(ns, "%s addr add %s dev %s%s", dash(p.Addr()), p, dev, nodad)
}

// addLAN makes the router, and the host behind it.
func (s *stage) addLAN(prefixes []string) {
	s.namespace(Namespace{Name: router, Kind: netstack.KindOther, Hidden: true})
	s.link(router, "link add br0 type bridge")
	s.ip(router, "link set br0 up")
	s.namespace(Namespace{Name: outside, Kind: netstack.KindOther, Hidden: true})
	s.link(router, "link add out type veth peer name eth0 netns @%s", outside)
	s.ip(router, "link set out up")
	s.ip(outside, "link set eth0 up")
	for _, text := range prefixes {
		p := netip.MustParsePrefix(text)
		s.lan = append(s.lan, p)
		s.address(router, "br0", netip.PrefixFrom(p.Masked().Addr().Next(), p.Bits()))
		far := outsideAddrs[slot(familyOf(p.Addr()))]
		near := netip.PrefixFrom(far.Prev(), 24)
		if far.Is6() {
			near = netip.PrefixFrom(far.Prev(), 64)
		}
		s.address(router, "out", near)
		s.address(outside, "eth0", netip.PrefixFrom(far, near.Bits()))
		s.ip(outside, "%s route add default via %s", dash(far), near.Addr())
		// The world beyond does not tell what it has no way to.
		s.ip(router, "%s route add blackhole default", dash(far))
	}
}

func (s *stage) addNode(name string, addrs []string) {
	m := member{name: name}
	for _, a := range addrs {
		m.addrs = append(m.addrs, netip.MustParseAddr(a))
	}
	s.members = append(s.members, m)
	s.namespace(Namespace{Name: name, Kind: netstack.KindNode, Addresses: m.addrs})
	port := "port" + strconv.Itoa(len(s.members))
	s.link(router, "link add %s type veth peer name eth0 netns @%s", port, name)
	s.ip(router, "link set %s master br0 up", port)
	s.ip(name, "link set eth0 up")
	for i, a := range m.addrs {
		s.address(name, "eth0", netip.PrefixFrom(a, s.lan[i].Bits()))
		s.ip(name, "%s route add default via %s", dash(a), s.lan[i].Masked().Addr().Next())
	}
}

func (s *stage) addBridge(node, dev string, prefixes []string) {
	s.link(node, "link add %s type bridge", dev)
	s.ip(node, "link set %s up", dev)
	for _, text := range prefixes {
		p := netip.MustParsePrefix(text)
		s.gateways[node+"/"+dev] = append(s.gateways[node+"/"+dev], p)
		s.address(node, dev, p)
	}
}

// podNamespace makes a pod and its wire.
func (s *stage) podNamespace(name, node, dev string, addrs []string) []netip.Addr {
	var list []netip.Addr
	for _, a := range addrs {
		list = append(list, netip.MustParseAddr(a))
	}
	s.namespace(Namespace{Name: name, Kind: netstack.KindPod, Node: node, Addresses: list})
	s.link(node, "link add %s type veth peer name eth0 netns @%s", dev, name)
	s.ip(name, "link set eth0 up")
	return list
}

func (s *stage) addPod(name, node, bridge string, addrs []string) bool {
	gateways := s.gateways[node+"/"+bridge]
	if len(gateways) < len(addrs) {
		return false
	}
	dev := "veth" + name
	for i, a := range s.podNamespace(name, node, dev, addrs) {
		s.address(name, "eth0", netip.PrefixFrom(a, gateways[i].Bits()))
		s.ip(name, "%s route add default via %s", dash(a), gateways[i].Addr())
	}
	s.ip(node, "link set %s master %s up", dev, bridge)
	return true
}

func (s *stage) addRouted(name, node, dev string, addrs []string) {
	list := s.podNamespace(name, node, dev, addrs)
	s.ip(node, "link set %s up", dev)
	s.add(Element{Namespace: node, Tool: ToolSysctl, Text: "net.ipv4.conf." + dev + ".proxy_arp=1"})
	for _, a := range list {
		s.ip(node, "%s route add %s dev %s", dash(a), a, dev)
		s.address(name, "eth0", netip.PrefixFrom(a, a.BitLen()))
		if a.Is6() {
			s.ip(node, "-6 addr add fe80::1/64 dev %s nodad", dev)
			s.ip(name, "-6 route add default via fe80::1 dev eth0")
			continue
		}
		s.ip(name, "route add 169.254.1.1 dev eth0 scope link")
		s.ip(name, "route add default via 169.254.1.1")
	}
}

func (s *stage) addPods(node string, prefixes []string) {
	at := slices.IndexFunc(s.members, func(m member) bool { return m.name == node })
	for i, text := range prefixes {
		p := netip.MustParsePrefix(text)
		s.behind[p] = node
		via := s.members[at].addrs[i]
		s.ip(router, "%s route add %s via %s", dash(via), p, via)
		for _, m := range s.members {
			if m.name != node {
				s.ip(m.name, "%s route add %s via %s", dash(via), p, via)
			}
		}
	}
}

// rules takes a file of rules as it is.
func (s *stage) rules(f txtar.File) error {
	ns, name, _ := strings.Cut(f.Name, "/")
	kind, ok := rulesetFiles[name]
	if !ok || s.world.Namespace(ns) == nil {
		return fmt.Errorf("neither a file of rules nor one of a known namespace")
	}
	s.add(Element{Namespace: ns, Tool: kind.tool, Family: kind.family, Backend: kind.backend, Text: string(f.Data)})
	return nil
}

// probes reads the table of probes.
func (s *stage) probes(data []byte) (expected []string, err error) {
	err = lines(data, func(text string, _ []string) error {
		question, fates, _ := strings.Cut(text, " = ")
		words := strings.Fields(question)
		if len(words) < 4 || words[2] != "->" || len(words)%2 != 0 {
			return fmt.Errorf("not understood: %s", text)
		}
		p := Probe{Protocol: verdict.Protocol(words[0]), From: words[1]}
		if err := s.target(&p, words[3]); err != nil {
			return err
		}
		for i := 4; i < len(words); i += 2 {
			n, err := strconv.ParseUint(words[i+1], 0, 32)
			if err != nil {
				return err
			}
			switch words[i] {
			case "uid":
				p.UID = new(uint32(n))
			case "mark":
				p.Mark = uint32(n)
			case "repeat":
				p.Repeat = int(n)
			default:
				return fmt.Errorf("not understood: %s", words[i])
			}
		}
		s.addProbe(p)
		expected = append(expected, strings.TrimSpace(fates))
		return nil
	})
	return expected, err
}

// target sets where a probe goes, and where one from outside enters.
func (s *stage) target(p *Probe, to string) (err error) {
	if p.Protocol == verdict.ICMP {
		p.To, err = netip.ParseAddr(to)
	} else {
		var ap netip.AddrPort
		ap, err = netip.ParseAddrPort(to)
		p.To, p.Port = ap.Addr(), ap.Port()
	}
	if err != nil {
		return err
	}
	if ns := s.world.Namespace(p.From); ns == nil {
		return fmt.Errorf("no namespace %s", p.From)
	}
	if p.From != outside {
		return nil
	}
	p.Source = outsideAddrs[slot(familyOf(p.To))]
	if p.Via = s.entrance(p.To); p.Via == "" {
		return fmt.Errorf("the router has no way to %s", p.To)
	}
	return nil
}

// entrance is the node that the router sends packets for an address to.
func (s *stage) entrance(to netip.Addr) string {
	for _, m := range s.members {
		if slices.Contains(m.addrs, to) {
			return m.name + "/eth0"
		}
	}
	for p, node := range s.behind {
		if p.Contains(to) {
			return node + "/eth0"
		}
	}
	return ""
}

func (s *stage) addProbe(p Probe) {
	i := len(s.world.Probes)
	p.ID = fmt.Sprintf("q%d", i)
	if p.Protocol != verdict.ICMP {
		p.SourcePort = uint16(20001 + i*40)
	}
	s.world.Probes = append(s.world.Probes, p)
}

var (
	// The address of a network is nobody's.
	addressInRules = regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+(/(?:[12]?\d|3[01])\b)?`)
	portInRules    = regexp.MustCompile(`(?:--dports? |dport \{? ?|:)(\d{2,5})\b`)
)

// drawnProbes is how many probes are drawn for each rule set besides those of its table.
const drawnProbes = 16

// drawProbes adds probes from anywhere to what the rules and the stage speak of.
func (s *stage) drawProbes(archive *txtar.Archive) {
	addrs, ports := []netip.Addr{}, append([]uint16{closedPort}, openPorts...)
	for _, f := range archive.Files {
		for _, m := range addressInRules.FindAllString(string(f.Data), -1) {
			p, err := netip.ParsePrefix(m)
			if err != nil {
				a, err := netip.ParseAddr(m)
				if err != nil {
					continue
				}
				p = netip.PrefixFrom(a, a.BitLen())
			}
			if a := p.Addr(); (p.IsSingleIP() || p.Masked() != p) && !a.IsUnspecified() && !a.IsMulticast() && a.As4()[3] != 255 && !slices.Contains(addrs, a) {
				addrs = append(addrs, a)
			}
		}
		if f.Name == "stage" {
			continue
		}
		for _, m := range portInRules.FindAllStringSubmatch(string(f.Data), -1) {
			if n, err := strconv.ParseUint(m[1], 10, 16); err == nil && !slices.Contains(ports, uint16(n)) {
				ports = append(ports, uint16(n))
			}
		}
	}
	var from []string
	for i := range s.world.Namespaces {
		if ns := &s.world.Namespaces[i]; ns.Name != router {
			from = append(from, ns.Name)
		}
	}
	for tries, end := 0, len(s.world.Probes)+drawnProbes; len(s.world.Probes) < end && tries < 1000; tries++ {
		p := Probe{From: one(s.builder, from...), Protocol: verdict.TCP}
		to := netip.AddrPortFrom(one(s.builder, addrs...), one(s.builder, ports...))
		if s.chance(25) {
			p.Protocol = verdict.UDP
		}
		if s.target(&p, to.String()) == nil {
			s.addProbe(p)
		}
	}
}
