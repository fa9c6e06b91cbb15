package netstack

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// HostFacts are what is known of the host of a namespace beside its network. They
// explain; nothing is decided by them. There is no free text in them.
type HostFacts struct {
	Kernel     string    // uname -r
	Booted     time.Time // to the second
	Processors int
	// Load are the averages of 1, 5 and 15 minutes. They are kept as they were until
	// they differ by much: see package collector.
	Load [3]float64
	// MemoryPressure is for how many percent of the last minute some task waited for
	// memory (PSI); 0 where the kernel does not tell.
	MemoryPressure float64
	Daemons        []Daemon
	// ProxyMode is how kube-proxy says that it works; empty if it does not say.
	ProxyMode string
	// Messages are those of the kernel that it still remembers, of the kinds that are
	// known, in the order in which each kind was seen first.
	Messages []KernelMessage
	// MessagesMissing says why Messages could not be read; empty when they were.
	MessagesMissing string
}

// Daemon is a process that a node of Kubernetes needs, and that was found. What it
// is asked for, if anything, is that it answers at all.
type Daemon struct {
	Name    string // of DaemonNames
	Started time.Time
	// Asked is where, empty for nowhere; Failure why there was no answer, empty if
	// there was.
	Asked, Failure string
}

// DaemonNames are the processes that are looked for: kubelet, container runtimes and
// kube-proxy. K3s has all of them in one.
func DaemonNames() []string {
	return []string{"kubelet", "k3s-server", "k3s-agent", "containerd", "crio", "dockerd", "kube-proxy"}
}

// ProxyModes are what kube-proxy calls its modes.
func ProxyModes() []string { return []string{"iptables", "ipvs", "nftables"} }

// Daemon returns the process of that name, or nil.
func (h *HostFacts) Daemon(name string) *Daemon {
	for i := range h.Daemons {
		if h.Daemons[i].Name == name {
			return &h.Daemons[i]
		}
	}
	return nil
}

// KernelEvent is a kind of message of the kernel.
type KernelEvent string

// Kinds of messages, with the function that prints them.
const (
	EventConntrackFull     KernelEvent = "conntrack-full"     // __nf_conntrack_alloc
	EventNeighbourOverflow KernelEvent = "neighbour-overflow" // neigh_alloc
	EventRouteCacheFull    KernelEvent = "route-cache-full"   // dst_alloc, before Linux 6.3
	EventSYNFlood          KernelEvent = "syn-flood"          // tcp_syn_flood_action
	EventTCPMemory         KernelEvent = "tcp-memory"         // tcp_check_oom
	EventOrphanedSockets   KernelEvent = "orphaned-sockets"   // tcp_check_oom
	EventOutOfMemory       KernelEvent = "out-of-memory"      // __oom_kill_process
	EventCgroupOutOfMemory KernelEvent = "cgroup-out-of-memory"
	EventMartianSource     KernelEvent = "martian-source"    // ip_handle_martian_source
	EventDuplicateAddress  KernelEvent = "duplicate-address" // addrconf_dad_failure
	EventOwnAddress        KernelEvent = "own-address"       // br_fdb_update
	EventDeviceLoop        KernelEvent = "device-loop"       // __dev_queue_xmit, iptunnel_xmit
	EventTransmitTimeout   KernelEvent = "transmit-timeout"  // dev_watchdog
	EventLinkDown          KernelEvent = "link-down"         // phy_print_status, drivers
	EventLinkUp            KernelEvent = "link-up"
)

var kernelEvents = []KernelEvent{
	EventConntrackFull, EventNeighbourOverflow, EventRouteCacheFull, EventSYNFlood, EventTCPMemory, EventOrphanedSockets, EventOutOfMemory,
	EventCgroupOutOfMemory, EventMartianSource, EventDuplicateAddress, EventOwnAddress, EventDeviceLoop, EventTransmitTimeout, EventLinkDown, EventLinkUp,
}

// Valid says whether the kind is one that is known.
func (e KernelEvent) Valid() bool { return slices.Contains(kernelEvents, e) }

// KernelSaid is what one message of the kernel says. Fields that the kind has not,
// are zero.
type KernelSaid struct {
	Event KernelEvent
	// Namespace is the network namespace that the message is about, by its name; empty
	// where the kernel does not say: then it is that which the kernel began with, or
	// the kernel is one that never says (before Linux 6.18).
	Namespace string
	Device    string // in whichever namespace it is
	Family    Family
	Address   netip.Addr
	Port      uint16
}

// KernelMessage is a message, and when there were such.
type KernelMessage struct {
	KernelSaid
	Count int
	// First and Last are the times of the first and the last; zero where the kernel
	// does not date its messages (printk.time).
	First, Last time.Time
}

// String is what the kernel says, in its own words as far as they are kept.
func (m *KernelSaid) String() string {
	switch m.Event {
	case EventConntrackFull:
		if m.Namespace != "" {
			return fmt.Sprintf("nf_conntrack: table full in netns %s, dropping packet", m.Namespace)
		}
		return "nf_conntrack: table full, dropping packet"
	case EventNeighbourOverflow:
		if m.Family == IPv6 {
			return "neighbour: ndisc_cache: neighbor table overflow!"
		}
		return "neighbour: arp_cache: neighbor table overflow!"
	case EventRouteCacheFull:
		return "Route cache is full: consider increasing sysctl net.ipv6.route.max_size"
	case EventSYNFlood:
		if m.Address.IsValid() {
			return fmt.Sprintf("TCP: Possible SYN flooding on port %s", netip.AddrPortFrom(m.Address, m.Port))
		}
		return fmt.Sprintf("TCP: Possible SYN flooding on port %d", m.Port)
	case EventTCPMemory:
		return "TCP: out of memory -- consider tuning tcp_mem"
	case EventOrphanedSockets:
		return "TCP: too many orphaned sockets"
	case EventOutOfMemory:
		return "Out of memory: Killed process"
	case EventCgroupOutOfMemory:
		return "Memory cgroup out of memory: Killed process"
	case EventMartianSource:
		return fmt.Sprintf("IPv4: martian source from %s, on dev %s", m.Address, m.Device)
	case EventDuplicateAddress:
		return fmt.Sprintf("IPv6: %s: IPv6 duplicate address %s detected!", m.Device, m.Address)
	case EventOwnAddress:
		return fmt.Sprintf("received packet on %s with own address as source address", m.Device)
	case EventDeviceLoop:
		return fmt.Sprintf("Dead loop on virtual device %s, fix it urgently!", m.Device)
	case EventTransmitTimeout:
		return fmt.Sprintf("NETDEV WATCHDOG: %s: transmit queue timed out", m.Device)
	case EventLinkDown:
		return m.Device + ": Link is Down"
	case EventLinkUp:
		return m.Device + ": Link is Up"
	}
	return string(m.Event)
}
