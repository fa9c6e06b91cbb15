// Package netstack is the data model of one Linux network namespace: what a
// collector reads from a kernel, what a bundle stores as text, and what the
// simulator walks through. It is data with small look-ups; it decides nothing.
//
// Interfaces are referred to by name, as routes and rules print them. Rule
// sets stay the text of the tools that print them (iptables-save, nft -j,
// ipset save, ipvsadm -S): package netfilter compiles them.
package netstack

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"
)

// Kind says whose network namespace it is.
type Kind string

// Kinds of namespaces. KindOther is neither a pod's nor a node's.
const (
	KindNode  Kind = "node"
	KindPod   Kind = "pod"
	KindOther Kind = "other"
)

// Namespace is the state of one network namespace at one instant.
type Namespace struct {
	Name string
	Kind Kind
	// Node is the Kubernetes node that owns the namespace, or on which its pod
	// runs; empty when not known.
	Node string
	// Pod is NAMESPACE/NAME of the pod that lives here; empty otherwise.
	Pod string
	// PodUID is the UID of the pod that a process in the namespace belongs to,
	// by its control group; empty when there is none.
	PodUID string
	Taken  time.Time
	// Cookie is the kernel's unique number of the namespace (SO_NETNS_COOKIE);
	// 0 when not known. It is not stored in bundles.
	Cookie uint64
	// NSIDs maps the ids that this namespace gives to its peers (the
	// link-netnsid of a veth) to the names of those namespaces.
	NSIDs map[int]string
	// Parts says how each part was read. A part not in the map was not
	// collected.
	Parts map[Part]Status

	Links      []Link
	Addresses  []Address
	AddrLabels []AddrLabel // nil for the kernel's own
	Rules      []Rule
	Routes     []Route
	NextHops   []NextHopObject
	Neighbours []Neighbour
	FDB        []FDBEntry
	BridgeVLAN []BridgeVLAN
	Sockets    []Socket
	// Sysctls holds the net.* keys as sysctl(8) prints them: dots between
	// components, and a dot in an interface's name written as a slash.
	Sysctls map[string]string

	// IPTables holds one dump for each family and backend that was read.
	IPTables []IPTablesDump
	NFT      Text // nft -j list ruleset
	// ARPTables holds the tables of the kernel's own arptables, as
	// arptables-save prints them; what arptables-nft loads is in NFT.
	ARPTables Text
	// EBTables holds those of the kernel's own ebtables, as ebtables-save prints
	// them. Nobody can read them from a kernel without changing it.
	EBTables Text
	IPSet    Text // ipset save
	IPVS     Text // ipvsadm -S -n
	// The following are only looked at for what could decide a packet's fate
	// without being modelled.
	TC        Text // tc -j filter show, qdiscs
	XFRM      Text // ip xfrm policy
	Conntrack Text // conntrack -L
	BPF       Text // attachments of eBPF programs

	// What the programs that live here find names with: their /etc/resolv.conf
	// and /etc/hosts.
	ResolvConf Text
	Hosts      Text

	// Facts are those of the host whose namespace it is; nil where that was not
	// looked at.
	Facts *HostFacts
}

// Text is a dump in the format of the tool that prints it.
type Text struct {
	File string // name for error messages
	Data []byte
	// Packed has the text of a large dump in its place, where that is not needed
	// often: see Bytes.
	Packed Packed
}

// Packed is a text that takes less memory than its bytes. It is a pointer: equal
// ones are the same text.
type Packed interface {
	Unpack() ([]byte, error)
}

// Bytes is the text, wherever it is. That of most parts is in Data: see Packable.
func (t *Text) Bytes() ([]byte, error) {
	if t.Packed == nil {
		return t.Data, nil
	}
	data, err := t.Packed.Unpack()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.File, err)
	}
	return data, nil
}

// Packable returns the texts that may be packed.
func (n *Namespace) Packable() []*Text {
	all := []*Text{&n.NFT, &n.IPSet, &n.Conntrack}
	for i := range n.IPTables {
		all = append(all, &n.IPTables[i].Text)
	}
	return all
}

// Empty says whether there is nothing.
func (t *Text) Empty() bool { return len(t.Data) == 0 && t.Packed == nil }

// IPTablesDump is the output of iptables-save for one family and backend.
type IPTablesDump struct {
	Family  Family
	Backend Backend
	Text
}

// Backend is the kernel side of iptables: both can be active at once.
type Backend string

// Backends of iptables.
const (
	BackendLegacy Backend = "legacy"
	BackendNFT    Backend = "nft"
)

// Part names one part of the state, as collectors and bundles divide it.
type Part string

// Parts of a namespace's state. The core parts make unknown what depends on
// them when they are missing; the others are taken as "nothing there".
const (
	PartLinks           Part = "links"
	PartAddresses       Part = "addresses"
	PartAddrLabels      Part = "addrlabels"
	PartRoutes4         Part = "routes4"
	PartRoutes6         Part = "routes6"
	PartRules4          Part = "rules4"
	PartRules6          Part = "rules6"
	PartNextHops        Part = "nexthops"
	PartNeighbours      Part = "neighbours"
	PartFDB             Part = "fdb"
	PartBridgeVLAN      Part = "bridge-vlan"
	PartSockets         Part = "sockets"
	PartSysctls         Part = "sysctls"
	PartIPTables4       Part = "iptables"
	PartIPTables6       Part = "ip6tables"
	PartIPTables4Legacy Part = "iptables-legacy"
	PartIPTables6Legacy Part = "ip6tables-legacy"
	PartARPTablesLegacy Part = "arptables-legacy"
	PartEBTablesLegacy  Part = "ebtables-legacy"
	PartNFT             Part = "nft"
	PartIPSet           Part = "ipset"
	PartIPVS            Part = "ipvs"
	PartTC              Part = "tc"
	PartXFRM            Part = "xfrm"
	PartConntrack       Part = "conntrack"
	PartBPF             Part = "bpf"
	PartResolvConf      Part = "resolv-conf"
	PartHosts           Part = "hosts"
	PartHostFacts       Part = "host"
)

// partWords are parts in the plural, for people.
var partWords = map[Part]string{
	PartAddrLabels: "labels of IPv6 addresses",
	PartRoutes4:    "IPv4 routes", PartRoutes6: "IPv6 routes", PartRules4: "IPv4 policy rules", PartRules6: "IPv6 policy rules",
	PartNextHops: "nexthop objects", PartFDB: "entries of bridges' databases (fdb)", PartBridgeVLAN: "VLANs of bridge ports",
	PartIPTables4: "iptables rules", PartIPTables6: "ip6tables rules",
	PartIPTables4Legacy: "iptables-legacy rules", PartIPTables6Legacy: "ip6tables-legacy rules",
	PartARPTablesLegacy: "arptables-legacy rules", PartEBTablesLegacy: "ebtables-legacy rules",
	PartNFT: "nftables rules", PartIPSet: "ipset sets", PartIPVS: "IPVS services", PartTC: "tc filters", PartXFRM: "IPsec policies (xfrm)",
	PartConntrack: "conntrack entries", PartBPF: "eBPF programs", PartResolvConf: "contents of resolv.conf", PartHosts: "contents of the hosts file",
	PartHostFacts: "facts of the host",
}

// Words is what messages call the part: in the plural.
func (p Part) Words() string { return cmp.Or(partWords[p], string(p)) }

// State of a part.
type State string

// States of a part. StateUnsupported means that the kernel has no such thing,
// which is the same as "nothing there".
const (
	StateOK          State = "ok"
	StateUnsupported State = "unsupported"
	StateFailed      State = "failed"
	StateMissing     State = "missing"
)

// Status says how a part was read.
type Status struct {
	State  State
	Detail string // the error, when State is StateFailed; why, when it is StateMissing
}

// PartStatus returns the status of p; a part that nobody read is missing.
func (n *Namespace) PartStatus(p Part) Status {
	if s, ok := n.Parts[p]; ok {
		return s
	}
	return Status{State: StateMissing}
}

// Known says whether the content of p is known: read, or known not to exist.
func (n *Namespace) Known(p Part) bool {
	s := n.PartStatus(p).State
	return s == StateOK || s == StateUnsupported
}

// SetPart records how a part was read.
func (n *Namespace) SetPart(p Part, s Status) {
	if n.Parts == nil {
		n.Parts = make(map[Part]Status)
	}
	n.Parts[p] = s
}

// Family is an IP version.
type Family uint8

// Families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of addr.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() || addr.Is4In6() {
		return IPv4
	}
	return IPv6
}

// String is "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv4 {
		return "IPv4"
	}
	return "IPv6"
}
