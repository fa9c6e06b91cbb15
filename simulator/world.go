// Package simulator answers whether a packet gets from one place to another,
// and why not, by walking it through the collected state of the network
// namespaces as the kernel would.
//
// The package is pure: it does no input or output, reads no clock, starts no
// goroutine, and keeps no state between calls. Compile turns a Snapshot into a
// World once (Recompile with the help of an earlier one); Diagnose then answers
// any number of queries, concurrently.
//
// Errors: Compile fails on malformed rule sets, with file, line and token;
// Diagnose fails on a malformed query only. Whatever is missing, stale or not
// understood is part of the answer: a finding, and the verdict unknown where
// it could decide.
//
// Read it in the order of a packet's journey:
//
//   - from a query to packets: diagnose.go, resolve.go and names.go (names to flows),
//     entry.go (what comes from outside), path.go (the legs of a connection), tcp.go,
//     sctp.go and sctp_reject.go (what is said in it);
//   - one namespace: ip.go, hook.go (its rules), ipvs.go (its load balancer), existing.go
//     (connections that it knew before), sender.go (sources that cannot be), vrf.go,
//     mtu.go, xfrm.go, copies.go (TEE and dup), socket.go (who takes the packet);
//   - from a device to the next namespace: link.go, filter.go and hook_link.go (traffic
//     control, and rules that see frames), bridge.go, vlan.go, bond.go, macvlan.go,
//     vxlan.go, tunnel.go, cloud.go (through the network of a cloud);
//   - who is there: segment.go, neighbour.go, discovery.go, arp.go;
//   - icmp.go (errors on their way back), opaque.go (what is not seen through), branch.go
//     (where the kernel chooses, or the simulator cannot know);
//   - what explains it: astray.go and explain.go (what the objects of the cluster make of
//     it), expected.go (what its network plugin would have installed), hostfacts.go (what
//     hosts say of themselves).
package simulator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/plumbline-net/plumbline/simulator/cluster"
	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/fib"
	"github.com/plumbline-net/plumbline/simulator/ipvs"
	"github.com/plumbline-net/plumbline/simulator/netfilter"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/plugin"
	"github.com/plumbline-net/plumbline/simulator/resolver"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// World is a compiled Snapshot. It is immutable and safe for concurrent use.
type World struct {
	snapshot *Snapshot
	cluster  *cluster.Index
	fabric   *fabric.Fabric
	hosts    map[*netstack.Namespace]*host
	byName   map[string]*host
	byPod    map[string]*host
	byNode   map[string]*host
	daemons  plugin.Daemons // agents of network plugins
	byAddr   map[netip.Addr][]*host
	standIns map[*netstack.Link]bool // see host.standIns
	plain    map[*netstack.Link]bool // see isPlain
	// tunnels are the tunnel devices whose packets travel in a namespace.
	tunnels map[*netstack.Namespace][]fabric.Port
	// groups are the VXLAN devices that use a multicast group.
	groups   map[netip.Addr][]fabric.Port
	names    resolver.Answers
	factual  []*host // that say something of themselves
	coverage verdict.Coverage
	cloud    clouded

	pool       *netfilter.Pool // for those that are made of this one
	workspaces workspaces
}

// host is one compiled network namespace.
type host struct {
	*netstack.Namespace
	name     string  // for people
	lacks    [2]lack // by family: IPv4, IPv6
	confs    [2]conf
	settings map[string]int
	links    map[string]*netstack.Link
	fib      *fib.FIB
	filter   *netfilter.Ruleset
	balancer *ipvs.Config
	entries  *netfilter.Entries // the connections that it knew when it was read
	opaque   opaque
	resolver *resolver.Config                 // nil if its file was not read
	aliases  resolver.Hosts                   // its hosts file
	vlans    map[string][]netstack.BridgeVLAN // by port, or bridge

	addresses  netstack.Index[netip.Addr, netstack.Address]
	devices    netstack.Index[string, netstack.Address]
	neighbours netstack.Index[netstack.NeighbourKey, netstack.Neighbour]
	fdb        netstack.Index[netstack.MAC, netstack.FDBEntry]
	sockets    netstack.Index[socketKey, netstack.Socket]

	// standIns are interfaces that may answer for addresses of others.
	standIns []*netstack.Link
}

// NamespaceError is what Compile fails with where the rules of one network
// namespace are malformed.
type NamespaceError struct {
	Namespace string
	Err       error
}

func (e *NamespaceError) Error() string { return e.Err.Error() }

func (e *NamespaceError) Unwrap() error { return e.Err }

// Compile indexes the snapshot, which must not change afterwards.
func Compile(s *Snapshot) (*World, error) { return Recompile(s, nil) }

// Recompile is Compile for a snapshot that has much in common with that of an
// earlier World, nil for none: a namespace that both share (the same pointer) is
// taken over, and of another the rules, if they did not change; so are the objects
// of the cluster, if they are the same in memory. An earlier World serves one
// Recompile at a time.
func Recompile(s *Snapshot, previous *World) (*World, error) {
	if previous == nil {
		previous = new(World)
	}
	w := &World{
		snapshot: s,
		cluster:  previous.cluster,
		daemons:  previous.daemons,
		fabric:   fabric.Compile(s.Namespaces),
		hosts:    make(map[*netstack.Namespace]*host, len(s.Namespaces)),
		byName:   make(map[string]*host, len(s.Namespaces)),
		byPod:    make(map[string]*host),
		byNode:   make(map[string]*host),
		byAddr:   make(map[netip.Addr][]*host),
		standIns: make(map[*netstack.Link]bool),
		plain:    make(map[*netstack.Link]bool),
		tunnels:  make(map[*netstack.Namespace][]fabric.Port),
		groups:   make(map[netip.Addr][]fabric.Port),
		names:    resolver.AnswersOf(s.Names),
		pool:     previous.pool,
	}
	if w.pool == nil && severalNodes(s.Namespaces) {
		w.pool = netfilter.NewPool()
	}
	if w.cluster == nil || !s.Cluster.Same(&previous.snapshot.Cluster) {
		w.cluster, w.daemons = cluster.Compile(&s.Cluster), plugin.FindDaemons(s.Cluster.Pods)
	}
	for _, ns := range s.Namespaces {
		h := previous.hosts[ns]
		if h == nil {
			var err error
			if h, err = compileHost(ns, previous.byName[ns.Name], w.pool); err != nil {
				return nil, &NamespaceError{ns.Name, err}
			}
		}
		if w.byName[ns.Name] != nil {
			return nil, fmt.Errorf("two network namespaces are named %q", ns.Name)
		}
		w.hosts[ns] = h
		w.byName[ns.Name] = h
		if ns.Facts != nil {
			w.factual = append(w.factual, h)
		}
		switch ns.Kind {
		case netstack.KindPod:
			w.byPod[ns.Pod] = h
		case netstack.KindNode:
			w.byNode[ns.Node] = h
		}
		for i := range ns.Addresses {
			addr := ns.Addresses[i].Prefix.Addr()
			if !slices.Contains(w.byAddr[addr], h) {
				w.byAddr[addr] = append(w.byAddr[addr], h)
			}
		}
		for _, link := range h.standIns {
			w.standIns[link] = true
		}
		for i := range ns.Links {
			p := fabric.Port{NS: ns, Link: &ns.Links[i]}
			if _, uplink := w.fabric.Wire(p.Link); uplink && w.isPlain(h, p.Link) {
				w.plain[p.Link] = true
			}
			if !isTunnel(p.Link.Kind) {
				continue
			}
			under := w.fabric.Origin(p)
			if under == nil {
				continue
			}
			w.tunnels[under] = append(w.tunnels[under], p)
			if v := p.Link.VXLAN; v != nil && v.Group.IsMulticast() {
				w.groups[v.Group] = append(w.groups[v.Group], p)
			}
		}
		rules, unmodelled := h.filter.Coverage()
		w.coverage.Rules += rules
		w.coverage.Unmodelled += unmodelled
	}
	w.compileCloud(previous)
	return w, nil
}

// severalNodes says whether there are rules that nodes may have in common: to look for them takes time and memory.
func severalNodes(list []*netstack.Namespace) bool {
	nodes := 0
	for _, ns := range list {
		if ns.Kind == netstack.KindNode {
			nodes++
		}
	}
	return nodes > 1
}

// compileHost compiles a namespace; was is an earlier state of it, or nil. Rules that
// other namespaces have are taken from the pool.
func compileHost(ns *netstack.Namespace, was *host, pool *netfilter.Pool) (*host, error) {
	var rules *netfilter.Ruleset
	if was != nil {
		rules = was.filter
	}
	filter, err := netfilter.Recompile(ns, rules, pool)
	if err != nil {
		return nil, err
	}
	h := &host{
		Namespace: ns,
		name:      hostName(ns),
		settings:  compileSettings(ns),
		confs:     [2]conf{compileConf(ns, netstack.IPv4), compileConf(ns, netstack.IPv6)},
		lacks:     [2]lack{lackOf(ns, netstack.IPv4), lackOf(ns, netstack.IPv6)},
		links:     make(map[string]*netstack.Link, len(ns.Links)),
		fib:       fib.Compile(ns),
		filter:    filter,

		addresses:  netstack.NewIndex(ns.Addresses, func(a *netstack.Address) (netip.Addr, bool) { return a.Prefix.Addr(), true }),
		devices:    ns.IndexDevices(),
		neighbours: ns.IndexNeighbours(),
		fdb:        netstack.NewIndex(ns.FDB, func(e *netstack.FDBEntry) (netstack.MAC, bool) { return e.MAC, true }),
		sockets:    netstack.NewIndex(ns.Sockets, keyOfSocket),
	}
	for _, v := range ns.BridgeVLAN {
		if h.vlans == nil {
			h.vlans = make(map[string][]netstack.BridgeVLAN)
		}
		h.vlans[v.Dev] = append(h.vlans[v.Dev], v)
	}
	for i := range ns.Links {
		h.links[ns.Links[i].Name] = &ns.Links[i]
	}
	h.standIns = h.findStandIns()
	if h.balancer, err = ipvs.Parse(ns.IPVS.File, ns.IPVS.Data); err != nil {
		return nil, err
	}
	connections, err := ns.Conntrack.Bytes()
	if err != nil {
		return nil, err
	}
	if h.entries, err = netfilter.ParseConntrack(ns.Conntrack.File, connections); err != nil {
		return nil, err
	}
	if h.opaque, err = compileOpaque(ns); err != nil {
		return nil, err
	}
	if ns.PartStatus(netstack.PartResolvConf).State == netstack.StateOK {
		h.resolver = resolver.ParseConfig(ns.ResolvConf.Data)
	}
	h.aliases = resolver.ParseHosts(ns.Hosts.Data)
	return h, nil
}

// Cluster returns the Kubernetes objects of the snapshot, indexed.
func (w *World) Cluster() *cluster.Index { return w.cluster }

// Snapshot returns what the world was compiled from.
func (w *World) Snapshot() *Snapshot { return w.snapshot }

// where locates a finding in the namespace, at an interface if given.
func (h *host) where(dev string) verdict.Where {
	return verdict.Where{Namespace: h.Name, Node: h.Node, Pod: h.Pod, Interface: dev}
}

// String names the namespace for people, by what it belongs to.
func (h *host) String() string { return h.name }

func hostName(ns *netstack.Namespace) string {
	switch {
	case ns.Pod != "":
		return "pod " + ns.Pod
	case ns.Kind == netstack.KindNode && ns.Node != "":
		return "node " + ns.Node
	}
	return "namespace " + ns.Name
}

// lack names the parts of a namespace's state that were not read, and that routes
// and rules of a family need: the first of each; empty when there is none.
type lack struct{ routing, filter netstack.Part }

func lackOf(ns *netstack.Namespace, f netstack.Family) (l lack) {
	rules, routes := netstack.PartRules4, netstack.PartRoutes4
	iptables, legacy := netstack.PartIPTables4, netstack.PartIPTables4Legacy
	if f == netstack.IPv6 {
		rules, routes = netstack.PartRules6, netstack.PartRoutes6
		iptables, legacy = netstack.PartIPTables6, netstack.PartIPTables6Legacy
	}
	for _, p := range []netstack.Part{netstack.PartLinks, netstack.PartAddresses, rules, routes, netstack.PartSysctls} {
		if !ns.Known(p) {
			l.routing = p
			break
		}
	}
	if !ns.Known(iptables) && !ns.Known(netstack.PartNFT) && !ns.Known(legacy) {
		l.filter = iptables
	}
	for _, p := range []netstack.Part{iptables, legacy, netstack.PartNFT} {
		if ns.PartStatus(p).State == netstack.StateFailed {
			l.filter = p
			break
		}
	}
	return l
}

// lack is what is missing for packets of the leg's family.
func (l *leg) lack() *lack { return l.host.lack(l.packet.Family()) }

func (h *host) lack(f netstack.Family) *lack {
	if f == netstack.IPv6 {
		return &h.lacks[1]
	}
	return &h.lacks[0]
}

// owns says whether addr is an address of one of the namespace's interfaces,
// and of which.
func (h *host) owns(addr netip.Addr) (*netstack.Address, bool) {
	a := h.addresses.First(addr)
	return a, a != nil
}

// maySendFrom says whether sockets of the namespace may send from an address of IPv4: __ip_dev_find.
func (h *host) maySendFrom(addr netip.Addr) bool {
	_, own := h.owns(addr)
	return own || h.fib.Local(addr)
}

// owns says whether addr is an address of the node, as far as it was collected.
func (w *World) owns(node string, addr netip.Addr) bool {
	h := w.byNode[node]
	if h == nil {
		return false
	}
	_, ok := h.owns(addr)
	return ok
}
