package collector

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// source reads one part of a namespace's state into t.ns. It runs on a thread
// inside the namespace. ErrNotSupported means that the kernel has no such thing.
type source struct {
	part netstack.Part
	read func(context.Context, *target) error
}

// sources lists what is read, in order: interfaces come first, because what
// follows refers to them by index.
func sources() []source {
	return []source{
		{netstack.PartLinks, readLinks},
		{netstack.PartAddresses, readAddresses},
		{netstack.PartAddrLabels, readAddrLabels},
		{netstack.PartRules4, readRules(netstack.IPv4)},
		{netstack.PartRules6, readRules(netstack.IPv6)},
		{netstack.PartRoutes4, readRoutes(netstack.IPv4)},
		{netstack.PartRoutes6, readRoutes(netstack.IPv6)},
		{netstack.PartNextHops, readNextHops},
		{netstack.PartNeighbours, readNeighbours},
		{netstack.PartFDB, readFDB},
		{netstack.PartBridgeVLAN, readBridgeVLAN},
		{netstack.PartSockets, readSockets},
		{netstack.PartSysctls, readSysctls},
		{netstack.PartIPTables4, readIPTablesNFT(netstack.IPv4)},
		{netstack.PartIPTables6, readIPTablesNFT(netstack.IPv6)},
		{netstack.PartNFT, readNFT}, // after what it is compared with
		{netstack.PartIPTables4Legacy, readIPTablesLegacy(netstack.IPv4)},
		{netstack.PartIPTables6Legacy, readIPTablesLegacy(netstack.IPv6)},
		{netstack.PartARPTablesLegacy, readARPTables},
		{netstack.PartEBTablesLegacy, readEBTables},
		{netstack.PartIPSet, readIPSet},
		{netstack.PartIPVS, readIPVS},
		{netstack.PartTC, readTC},
		{netstack.PartXFRM, readXFRM},
		{netstack.PartConntrack, readConntrack},
		{netstack.PartBPF, readBPF},
		{netstack.PartResolvConf, readResolvConf},
		{netstack.PartHosts, readHosts},
		{netstack.PartHostFacts, readHostFacts},
	}
}

// target is the namespace that is being read, and what its sources share.
type target struct {
	ns    *netstack.Namespace
	proc  string
	host  *hostState
	rules *ruleCache
	// programs asks for those of the whole host, of which a run has one list.
	programs func() (hostPrograms, error)
	// facts are those of the host, of which a run has one.
	facts func() (netstack.HostFacts, error)
	// names are the interfaces by index; nil until the links were read.
	names map[int]string
	// nft says which tables nftables has, asked for once in a run.
	nft *nftState
	// saved is the oldest generation of nftables that iptables-nft-save showed; 0 if it did not run.
	saved uint32
	// note is what the source that runs has to say although it succeeds.
	note string
	key  nsKey
	pids []int // of processes that live in the namespace

	route *netlinkConn // lazily opened
}

func (t *target) close() {
	if t.route != nil {
		t.route.Close()
	}
}

// rtnetlink returns the routing socket of the namespace.
func (t *target) rtnetlink() (*netlinkConn, error) {
	if t.route == nil {
		conn, err := dialNetlink(unix.NETLINK_ROUTE)
		if err != nil {
			return nil, fmt.Errorf("open a routing socket: %w", err)
		}
		t.route = conn
	}
	return t.route, nil
}

// device is the name of the interface with that index. One that came after
// the links were read is named by its index: nothing else knows it either.
func (t *target) device(index int) string {
	if index == 0 {
		return ""
	}
	if name, ok := t.names[index]; ok {
		return name
	}
	return fmt.Sprintf("if%d", index)
}

// procNet is a file of /proc/net of the namespace.
func (t *target) procNet(name string) string { return t.proc + "/thread-self/net/" + name }

// file names a text of the namespace as a bundle stores it, for error messages.
func (t *target) file(name string) string { return "netns/" + t.ns.Name + "/" + name }
