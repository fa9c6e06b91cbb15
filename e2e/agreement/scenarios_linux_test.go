package agreement

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// scenario changes a lab by hand, in a way that is no fault of the lab, and
// looks at one connection in each family.
type scenario struct {
	name string
	// change is one command a line: PLACE COMMAND…; a line that names an
	// address or a tool in braces is run for each family (see words), any other
	// line once.
	change string
	from   string // a pod or a node; web-0 by default
	to     string // a pod, an address in braces, svc, or svc/near for its backend on the client's node
	proto  string // tcp by default
	port   uint16 // that of the pod or service by default
	only   netstack.Family
	// reason is the first one; empty for a path that works.
	reason verdict.Code
}

const (
	web  = "shop/web-0"
	near = "shop/api-0" // on the node of web
	far  = "shop/api-1"
	svc  = "svc"
)

// words are what a family calls the things of a scenario.
func words(t *testing.T, l *lab.Lab, f netstack.Family) *strings.Replacer {
	t.Helper()
	at, pairs := 0, []string{"{iptables}", "iptables", "{ip}", "ip -4", "{icmp}", "icmp", "{nft}", "ip", "{ipset}", "inet", "{single}", "32", "{too-big}", "--icmp-type fragmentation-needed"}
	if f == netstack.IPv6 {
		at, pairs = 1, []string{"{iptables}", "ip6tables", "{ip}", "ip -6", "{icmp}", "ipv6-icmp", "{nft}", "ip6", "{ipset}", "inet6", "{single}", "128", "{too-big}", "--icmpv6-type packet-too-big"}
	}
	add := func(word string, value any) { pairs = append(pairs, "{"+word+"}", fmt.Sprint(value)) }
	for _, p := range l.Spec.Pods {
		add(p.ID(), p.Addresses[at])
	}
	for i, n := range l.Spec.Nodes {
		add(n.Name, n.Addresses[at])
		add(fmt.Sprintf("pods-%d", i+1), n.PodCIDRs[at])
		add(fmt.Sprintf("gateway-%d", i+1), n.PodCIDRs[at].Masked().Addr().Next())
	}
	for _, s := range l.Spec.Services {
		if s.ID() == "shop/api" {
			add("service", s.ClusterIPs[at])
		}
	}
	for _, p := range l.Spec.Pods {
		add("at "+p.ID(), netip.AddrPortFrom(p.Addresses[at], diameter))
	}
	add("fabric", l.Spec.Fabric.Addresses[at].Addr())
	add("nobody", l.Spec.Fabric.Unowned[at])
	add("broadcast", "255.255.255.255")
	return strings.NewReplacer(pairs...)
}

// veths are what the nodes call their ends of the pods' wires.
func veths(t *testing.T, l *lab.Lab) *strings.Replacer {
	t.Helper()
	type link struct {
		Index int `json:"ifindex"`
		Peer  int `json:"link_index"`
		Name  string
		Kind  string `json:"ifname"`
	}
	list := func(place string, args ...string) []link {
		var links []link
		out := command(t, l, place, append([]string{"ip", "-j", "link", "show"}, args...)...)
		if err := json.Unmarshal(out, &links); err != nil {
			t.Fatal(err)
		}
		return links
	}
	var pairs []string
	for _, n := range l.Spec.Nodes {
		ports := list(n.Name, "type", "veth")
		for _, p := range l.Spec.Pods {
			if p.Node != n.Name {
				continue
			}
			peer := list(p.ID(), "dev", "eth0")[0].Peer
			for _, port := range ports {
				if port.Index == peer {
					pairs = append(pairs, "{veth "+p.ID()+"}", port.Kind)
				}
			}
		}
	}
	return strings.NewReplacer(pairs...)
}

func command(t *testing.T, l *lab.Lab, place string, argv ...string) []byte {
	t.Helper()
	where, err := l.ParseEndpoint(place)
	if err != nil {
		t.Fatal(err)
	}
	out, err := l.Output(t.Context(), where, argv...)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", place, strings.Join(argv, " "), err, out)
	}
	return out
}

// apply runs the commands of a change.
func apply(t *testing.T, l *lab.Lab, change string, families []netstack.Family) {
	t.Helper()
	ports := veths(t, l)
	for line := range strings.Lines(change) {
		line = ports.Replace(strings.TrimSpace(line))
		if line == "" {
			continue
		}
		once := true
		for _, f := range families {
			if text := words(t, l, f).Replace(line); text != line || once {
				fields := strings.Fields(text)
				command(t, l, fields[0], fields[1:]...)
				once = false
			}
		}
	}
	if !strings.Contains(change, " route del local ") { // an address without one is taken for one that the kernel is not done with
		settle(t, l)
	}
}

// settle waits until the kernel has done what it does later than it was told, such as the local route of an IPv6 address.
func settle(t *testing.T, l *lab.Lab) {
	t.Helper()
	places := []lab.Endpoint{{Kind: "fabric"}}
	for _, n := range l.Spec.Nodes {
		places = append(places, lab.NodeEndpoint(n.Name))
	}
	for _, p := range l.Spec.Pods {
		places = append(places, lab.PodEndpoint(p.ID()))
	}
	for _, place := range places {
		name, err := l.Netns(place)
		if err == nil {
			err = lab.Settle(t.Context(), name, 20*time.Second)
		}
		if err != nil {
			t.Fatalf("%s: %v", place, err)
		}
	}
}

// startQuick is a lab whose pods give up on a neighbour as soon as its nodes.
func startQuick(t *testing.T, name string, change func(*lab.Spec)) *lab.Lab {
	t.Helper()
	l := startLab(t, name, change)
	for _, p := range l.Spec.Pods {
		command(t, l, p.ID(), "sysctl", "-qw", "net.ipv4.neigh.eth0.retrans_time_ms=100", "net.ipv6.neigh.eth0.retrans_time_ms=100")
	}
	return l
}

func TestScenarios(t *testing.T) {
	t.Parallel()
	for i, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			l := startQuick(t, fmt.Sprintf("s%d", i), nil)
			families := []netstack.Family{netstack.IPv4, netstack.IPv6}
			if s.only != 0 {
				families = []netstack.Family{s.only}
			}
			apply(t, l, s.change, families)
			judgeScenario(t, l, &s, families)
		})
	}
}

// judgeScenario makes the scenario's connection in each family, and compares
// what becomes of it with the diagnosis.
func judgeScenario(t *testing.T, l *lab.Lab, s *scenario, families []netstack.Family) {
	t.Helper()
	s.judgeIn(t, l, collect(t, l), families)
}

func (s *scenario) judgeIn(t *testing.T, l *lab.Lab, snapshot *simulator.Snapshot, families []netstack.Family) {
	t.Helper()
	world := against.Compile(t, snapshot)
	var group errgroup.Group
	for _, f := range families {
		group.Go(func() error { return s.judge(t, l, world, f) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (s *scenario) judge(t *testing.T, l *lab.Lab, world *simulator.World, f netstack.Family) error {
	proto := s.proto
	if proto == "" {
		proto = "tcp"
	}
	from := s.from
	if from == "" {
		from = web
	}
	client, err := l.ParseEndpoint(from)
	if err != nil {
		return err
	}
	to, backends, err := s.target(l, words(t, l, f), proto, f)
	if err != nil {
		return err
	}
	query := verdict.Query{From: client.String(), To: to.Addr().String(), Port: to.Port(), Protocol: verdict.Protocol(proto)}
	if proto == "icmp" {
		query.Port = 0
	}
	report, err := world.Diagnose(query)
	if err != nil {
		return err
	}
	options := lab.ConnectOptions{Protocol: proto, FullSize: proto == "tcp"}
	if backends == nil {
		fate, err := l.Connect(t.Context(), client, to, options)
		if err != nil {
			return err
		}
		if len(report.Paths) != 1 {
			return fmt.Errorf("%s: %d paths: %v", f, len(report.Paths), report.Reasons)
		}
		against.Agree(t, f.String(), proto, fate, &report.Paths[0], s.reason)
		return nil
	}
	fates, err := l.ConnectEach(t.Context(), client, to, backends, options)
	if err != nil {
		return err
	}
	for _, backend := range backends {
		path := pathTo(report, backend)
		if path == nil {
			return fmt.Errorf("no path to %s: %v", backend, report.Reasons)
		}
		against.Agree(t, backend.String(), proto, fates[backend], path, s.reason)
	}
	return nil
}

// target is where the scenario connects to, and the backends if it is a service.
func (s *scenario) target(l *lab.Lab, words *strings.Replacer, proto string, f netstack.Family) (netip.AddrPort, []netip.AddrPort, error) {
	at := 0
	if f == netstack.IPv6 {
		at = 1
	}
	address := func(id string) (netip.AddrPort, error) {
		pod, err := l.Spec.Pod(id)
		if err != nil {
			return netip.AddrPort{}, err
		}
		port := pod.Ports[0].Port
		for _, p := range pod.Ports {
			if strings.EqualFold(p.Protocol, proto) {
				port = p.Port
			}
		}
		return netip.AddrPortFrom(pod.Addresses[at], port), nil
	}
	if strings.HasPrefix(s.to, "{") {
		addr, err := netip.ParseAddr(words.Replace(s.to))
		return netip.AddrPortFrom(addr, s.port), nil, err
	}
	if !strings.HasPrefix(s.to, svc) {
		to, err := address(s.to)
		if s.port != 0 {
			to = netip.AddrPortFrom(to.Addr(), s.port)
		}
		return to, nil, err
	}
	service, err := l.Spec.Service("shop/api")
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	nearby, err := address(near)
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	remote, err := address(far)
	if err != nil {
		return netip.AddrPort{}, nil, err
	}
	backends := []netip.AddrPort{nearby, remote}
	if s.to == svc+"/near" {
		backends = backends[:1]
	}
	to := netip.AddrPortFrom(service.ClusterIPs[at], service.Ports[0].Port)
	for _, p := range service.Ports {
		if strings.EqualFold(p.Protocol, proto) {
			to = netip.AddrPortFrom(to.Addr(), p.Port)
		}
	}
	if s.port != 0 { // of a node
		node, err := netip.ParseAddr(words.Replace("{node-1}"))
		return netip.AddrPortFrom(node, s.port), backends, err
	}
	return to, backends, nil
}
