package netfilter

import (
	"cmp"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// linkLayer holds the base chains that see frames: those of nftables of devices
// (families netdev, and inet at ingress), of bridges, and of ARP, and those of
// the legacy arptables.
type linkLayer struct {
	device [2][]deviceChain // at Ingress and Egress
	bridge [numHooks][]deviceChain
	arp    [numHooks][]deviceChain // at Input and Output; legacy at Forward, too
	// tracking says that rules of the bridge family look at connections: the
	// kernel then tracks those of bridged packets (nf_conntrack_bridge).
	tracking bool
}

// deviceChain is a base chain of linkLayer.
type deviceChain struct {
	*chain
	// devices are those of an ingress or egress chain, "eth*" for all that begin
	// so; nil when they are not known.
	devices []string
}

// attach hangs a base chain at its hook. It says false for a hook that the
// family does not have.
func (l *linkLayer) attach(b nftBase) bool {
	c := deviceChain{b.chain, b.devices}
	b.chain.priority = b.priority
	hook, known := nftHooks[b.hook]
	switch {
	case b.hook == "ingress" && (b.table.family == "netdev" || b.table.family == "inet"):
		hook = Ingress
		l.device[0] = append(l.device[0], c)
	case b.hook == "egress" && (b.table.family == "netdev" || b.table.family == "inet"):
		hook = Egress
		l.device[1] = append(l.device[1], c)
	case known && b.table.family == "bridge", known && b.table.family == "arp" && (hook == Input || hook == Output):
		l.hang(b.table.family, hook, c)
	default:
		return false
	}
	c.setStage(hook)
	return true
}

// hang is attach for the hooks of bridges and of ARP.
func (l *linkLayer) hang(family string, hook Hook, c deviceChain) {
	at := &l.bridge[hook]
	if family == "arp" {
		at = &l.arp[hook]
	}
	*at = append(*at, c)
	c.setStage(hook)
}

// order sorts the chains by priority.
func (l *linkLayer) order() {
	sort := func(list []deviceChain) {
		slices.SortStableFunc(list, func(a, b deviceChain) int { return cmp.Compare(a.priority, b.priority) })
	}
	for i := range l.device {
		sort(l.device[i])
	}
	for i := range l.bridge {
		sort(l.bridge[i])
		sort(l.arp[i])
	}
}

// sits says whether the chain hangs at the device, if that is known.
func (c *deviceChain) sits(dev string) tri {
	if c.devices == nil {
		return maybe // nft before 1.0.9 does not print it
	}
	return is(slices.ContainsFunc(c.devices, func(pattern string) bool {
		prefix, wildcard := strings.CutSuffix(pattern, "*")
		return pattern == dev || wildcard && strings.HasPrefix(dev, prefix)
	}))
}

var noLink netstack.Link

// link is a device of the namespace; what is not known of it is zero.
func (rs *Ruleset) link(dev string) *netstack.Link {
	if l := rs.links[dev]; l != nil {
		return l
	}
	if dev == "lo" {
		return &netstack.Link{Name: dev, Kind: "loopback", Flags: netstack.FlagLoopback}
	}
	return &noLink
}

// Chains of the bridge family run before or after those of the network layer
// that br_netfilter lets see the packet (its hooks are at NF_BR_PRI_BRNF).
const priorityBridgeNF = 0

// atDevice says whether the rules that run see a frame with its header.
func (x *traversal) atDevice() bool {
	return x.hook >= Ingress || x.chain != nil && x.chain.family == "bridge"
}

// RunDevice passes a frame through the chains of a device: at Ingress as it
// arrives, at Egress as it leaves.
func (rs *Ruleset) RunDevice(hook Hook, st *State, env Env) Result {
	dev := st.In
	if hook == Egress {
		dev = st.Out
	}
	if hook == Ingress {
		st.Local = false
	}
	x := rs.traverse(hook, st, env)
	list := rs.linkLayer.device[hook-Ingress]
	for i := range list {
		c := &list[i]
		if st.ARP != nil && c.family == "inet" {
			continue // nft_do_chain_inet_ingress lets other protocols pass
		}
		sits := c.sits(dev)
		if sits == no {
			continue
		}
		before := *x.p
		res := x.runBase(c.chain)
		if sits == maybe && (res.Action != Accept || *x.p != before) && !env.Unknown(c.policyRef(), "a device that the snapshot does not name") {
			*x.p = before
			x.sync()
			continue
		}
		if res.Action != Accept {
			return res
		}
	}
	return Result{}
}

// HasDevice says whether chains may see frames of devices.
func (rs *Ruleset) HasDevice() bool {
	return len(rs.linkLayer.device[0])+len(rs.linkLayer.device[1]) > 0
}

// RunBridge passes a frame through the chains of the bridge family at a hook.
// With early it runs those before br_netfilter's, else the others.
func (rs *Ruleset) RunBridge(hook Hook, early bool, st *State, env Env) Result {
	if hook == Prerouting {
		st.Local = false
	}
	x := rs.traverse(hook, st, env)
	list := rs.linkLayer.bridge[hook]
	tracked := !rs.linkLayer.tracking || st.ARP != nil || hook != Prerouting || !early
	for i := range list {
		c := &list[i]
		if (c.priority <= priorityBridgeNF) != early {
			continue
		}
		if !tracked && c.priority >= priorityConntrack {
			x.track()
			tracked = true
		}
		if res := x.runBase(c.chain); res.Action != Accept {
			return res
		}
	}
	if rs.linkLayer.tracking && hook == Postrouting && !early && st.ARP == nil {
		x.confirm()
	}
	return Result{}
}

// RunARP passes an ARP packet through the chains of the arp family: at Output
// as it leaves, at Input as it is taken in, at Forward as a bridge passes it on.
func (rs *Ruleset) RunARP(hook Hook, st *State, env Env) Result {
	x := rs.traverse(hook, st, env)
	for _, c := range rs.linkLayer.arp[hook] {
		if res := x.runBase(c.chain); res.Action != Accept {
			return res
		}
	}
	return Result{}
}

// traverse begins a run through chains of the link layer.
func (rs *Ruleset) traverse(hook Hook, st *State, env Env) *traversal {
	var family netstack.Family
	if st.ARP == nil {
		family = st.Packet.Family()
	}
	return st.begin(rs, family, hook, env)
}
