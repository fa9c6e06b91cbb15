package simulator

import (
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/cloud"
	"github.com/plumbline-net/plumbline/simulator/cloud/alibaba"
	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// clouded is the cloud that joins the nodes of a world: which devices are its
// interfaces. Without a cloud all of it is empty.
type clouded struct {
	cloud.Fabric
	facts   *alibaba.Facts
	by      map[*netstack.Link]cloud.Interface // devices that send to the cloud
	devices map[string]fabric.Port             // by interface: who takes what is for it
	nodes   map[string][]string                // instances, by the name of the node
	unread  *verdict.Finding                   // why an uplink may be an interface that was not read
}

// compileCloud finds the devices of the world that are interfaces of its cloud.
func (w *World) compileCloud(previous *World) {
	facts := w.snapshot.Cloud
	if facts.Empty() {
		return
	}
	c := &w.cloud
	c.facts = facts
	if previous.cloud.facts == facts {
		c.Fabric = previous.cloud.Fabric
	} else {
		c.Fabric = alibaba.Compile(facts)
	}
	c.unread = c.UnreadInterfaces()
	c.by, c.devices, c.nodes = map[*netstack.Link]cloud.Interface{}, map[string]fabric.Port{}, map[string][]string{}
	for _, ns := range w.snapshot.Namespaces {
		for i := range ns.Links {
			w.cloudDevice(fabric.Port{NS: ns, Link: &ns.Links[i]})
		}
	}
}

// cloudDevice notes a device that is an interface of the cloud: by its link-layer
// address, or, where it leads out of what was collected, by an address that it has.
// What is stacked on such a device has its link-layer address, too, and is none; but
// a VLAN on a trunk may be one of its own.
func (w *World) cloudDevice(p fabric.Port) {
	var addrs []netip.Addr
	switch p.Link.Kind {
	case "", "veth":
		if _, outward := w.fabric.Wire(p.Link); outward {
			for _, a := range p.NS.Addresses {
				if a.Dev == p.Link.Name {
					addrs = append(addrs, a.Prefix.Addr())
				}
			}
		}
	case "vlan":
	default:
		return
	}
	i, ok := w.cloud.Interface(p.Link.MAC, addrs)
	if !ok {
		return
	}
	if _, taken := w.cloud.devices[i.ID]; taken && p.Link.Kind == "vlan" {
		return
	}
	w.cloud.devices[i.ID] = p
	if p.Link.Kind != "vlan" {
		w.cloud.by[p.Link] = i
	}
	if node := p.NS.Node; i.Instance != "" && !slices.Contains(w.cloud.nodes[node], i.Instance) {
		w.cloud.nodes[node] = append(w.cloud.nodes[node], i.Instance)
	}
}

// cloudRouter is who answers every request for a neighbour in a VPC.
var cloudRouter = netstack.MAC{0xee, 0xff, 0xff, 0xff, 0xff, 0xff}

// throughCloud takes what a device sends to the cloud where that carries it.
func (l *leg) throughCloud(out fabric.Port, from cloud.Interface) end {
	l.open(verdict.Hop{Kind: verdict.HopCloud, Node: out.NS.Node, In: from.ID})
	if l.tags.tagged() {
		member, ok := l.w.cloud.Member(from.ID, l.tags[0].id)
		if !ok {
			return l.drop(verdict.NewFindingf(verdict.BridgeVLANFiltered, l.host.where(out.Link.Name), nil,
				"no member of trunk %s takes VLAN %d of %s", from.ID, l.tags[0].id, out.Link.Name))
		}
		from = member
		l.tags = tags{}
		l.hop().In = member.ID
	}
	return l.inCloud(from, out.Link.Name)
}

// enterCloud takes in the packet of somebody on the Internet.
func (l *leg) enterCloud() end {
	l.open(verdict.Hop{Kind: verdict.HopCloud, In: "the Internet"})
	return l.inCloud(cloud.Interface{}, "")
}

func (l *leg) inCloud(from cloud.Interface, dev string) end {
	x := &cloud.Crossing{
		From: from, Packet: &l.packet, Sessions: &l.sessions,
		Reply:  l.origin != l.sender,
		Home:   l.w.homes,
		Choose: l.chooseInCloud,
		Doubt:  l.doubt,
		Step:   l.step,
		Note: func(f verdict.Finding) {
			l.hop().Findings = append(l.hop().Findings, f)
			l.noted = append(l.noted, f)
		},
		Translated: func(kind, where, before, after, rule string) {
			t := verdict.Translation{Kind: kind, Where: where, From: before, To: after, Rule: rule}
			if !slices.Contains(l.translations, t) && l.origin == l.sender {
				l.translations = append(l.translations, t)
			}
		},
	}
	e := l.w.cloud.Carry(x)
	at := verdict.Where{Interface: dev, Resource: from.ID}
	if l.host != nil {
		at = l.host.where(dev)
		at.Resource = from.ID
	}
	switch e.Kind {
	case cloud.Left:
		return l.finish(left, verdict.NewFindingf(verdict.LeavesModel, at, []string{l.packet.String()},
			"the packet leaves the collected world through %s as %s", e.Via, &l.packet))
	case cloud.Dropped:
		return l.drop(located(e.Finding, at))
	case cloud.Undecided:
		return l.undecided(located(e.Finding, at))
	}
	l.hop().Out = e.To.ID
	to, collected := l.w.cloud.devices[e.To.ID]
	if !collected {
		at.Resource = e.To.ID
		return l.finish(left, verdict.NewFindingf(verdict.LeavesModel, at, []string{l.packet.String()},
			"the packet leaves the collected world through %s of instance %s, which was not collected, as %s", e.To.ID, e.To.Instance, &l.packet))
	}
	if !to.Link.Up() {
		return l.drop(l.linkDown(to))
	}
	// It is a new packet to whoever takes it, even to the host that sent it.
	l.packet.Mark, l.packet.UID, l.packet.AnyUser, l.packet.Bound, l.host = 0, nil, false, "", nil
	l.packet.SrcMAC, l.packet.DstMAC, l.forHost = cloudRouter, to.Link.MAC, false
	l.gather()
	return l.arrive(to)
}

// located adds to a finding of the cloud where the packet came from.
func located(f verdict.Finding, at verdict.Where) verdict.Finding {
	at.Resource = f.Where.Resource
	f.Where = at
	return f
}

// chooseInCloud takes one of several ways: the same for all packets of a connection.
func (l *leg) chooseInCloud(key string, weights []float64) int {
	taken, known := l.ways[key]
	if !known {
		taken = l.dice.ask(choice{alternatives: len(weights), weights: weights})
		if l.ways == nil {
			l.ways = map[string]int{}
		}
		l.ways[key] = taken
	}
	return taken
}

// homes are the instances at which packets for an address are expected: those of
// the node of its pod, or of who has it.
func (w *World) homes(addr netip.Addr) []string {
	if pod, ok := w.cluster.PodByIP(addr); ok {
		return w.cloud.nodes[pod.Node]
	}
	if hosts := w.byAddr[addr]; len(hosts) == 1 && hosts[0].Node != "" {
		return w.cloud.nodes[hosts[0].Node]
	}
	return nil
}

// hearOfCloud adds what was noted in the cloud: before the fault that it explains,
// and as a warning where there is none.
func (c *conversation) hearOfCloud() {
	for _, f := range c.noted {
		if slices.ContainsFunc(c.path.Findings, func(g verdict.Finding) bool { return g.Code == f.Code && g.Message == f.Message }) {
			continue
		}
		failed := c.path.Verdict == verdict.Unreachable
		if f.Severity == verdict.SeverityFatal && failed {
			c.path.Findings = append([]verdict.Finding{f}, c.path.Findings...)
			continue
		}
		if f.Severity == verdict.SeverityFatal {
			f.Severity = verdict.SeverityWarning
		}
		c.path.Findings = append(c.path.Findings, f)
	}
}

// fromInternet are the addresses that a destination means to a source that is somebody
// on the Internet, as far as is known; none for any other source.
func (w *World) fromInternet(from, to *resolved) []netip.Addr {
	if w.cloud.Fabric == nil || !from.literal || from.host != nil || from.pod != nil {
		return nil
	}
	if _, known := w.cluster.InKnownRange(from.addrs[0]); known || from.addrs[0].IsPrivate() {
		return nil
	}
	addrs := to.addrs
	if to.service != nil && !to.literal {
		addrs = to.service.IngressIPs
	}
	return slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		return netstack.FamilyOf(a) != netstack.FamilyOf(from.addrs[0])
	})
}

// fromCloud says whether a query is about somebody on the Internet who sends to the
// cloud, and to which of its addresses.
func (w *World) fromCloud(from, to *resolved) (netip.Addr, bool) {
	for _, a := range w.fromInternet(from, to) {
		if w.cloud.Answers(a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// unreadCloud explains why it is not known whether the cloud takes what somebody on
// the Internet sends.
func (w *World) unreadCloud(from, to *resolved) *verdict.Finding {
	for _, a := range w.fromInternet(from, to) {
		if f := w.cloud.Unread(a); f != nil && !a.IsPrivate() {
			return f
		}
	}
	return nil
}
