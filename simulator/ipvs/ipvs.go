// Package ipvs models the kernel's load balancer IPVS as far as it decides
// where a packet goes: virtual services and their destinations as `ipvsadm -S
// -n` prints them, whom a scheduler may choose, and the connections that one
// walk makes.
//
// It is pure. Parse fails on malformed text with file, line and token; nothing
// else fails. What it does not know are connections and persistence templates
// that exist already, and with them what depends on load.
package ipvs

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Method is how packets get to a destination.
type Method uint8

// Forwarding methods.
const (
	NAT    Method = iota // -m: the destination address is translated
	Direct               // -g: to the destination's link address, else unchanged
	Tunnel               // -i: wrapped into a packet to the destination
)

func (m Method) String() string {
	return [...]string{"masquerading", "direct routing", "tunnelling"}[m]
}

// Service is a virtual service: an address and port (zero: all ports), or a
// firewall mark.
type Service struct {
	Protocol netstack.Protocol
	Addr     netip.AddrPort
	Mark     uint32 // when Addr is not valid
	Family   netstack.Family
	// Scheduler is the name of the module that chooses among Destinations.
	Scheduler  string
	Fallback   bool // of sh and mh: another destination when the chosen one is out
	Persistent bool
	OnePacket  bool // UDP: no connection is kept
	// Destinations are in the order of the dump, which is not the kernel's.
	Destinations []Destination
	Text         string // the line that adds it
}

// Destination is a real server.
type Destination struct {
	Addr   netip.AddrPort // port zero: that of the packet
	Method Method
	// Encapsulation is that of Tunnel: ipip, gue or gre.
	Encapsulation string
	Weight        int // 0: gets no new connections
	// Upper and Lower are limits on the number of connections; 0: none.
	Upper, Lower uint32
	Text         string
}

// Config is what IPVS of one namespace is set to. It is immutable.
type Config struct {
	services []*Service
	byAddr   map[key]*Service
	byMark   map[markKey]*Service
}

type key struct {
	protocol netstack.Protocol
	addr     netip.AddrPort
}

type markKey struct {
	mark   uint32
	family netstack.Family
}

// Services returns the services in the order of the dump.
func (c *Config) Services() []*Service { return c.services }

// Serves says whether IPVS is hooked into a family: it is with the first
// service (ip_vs_register_hooks).
func (c *Config) Serves(f netstack.Family) bool {
	for _, s := range c.services {
		if s.Family == f {
			return true
		}
	}
	return false
}

// Find is ip_vs_service_find: a service by mark goes before one by address, and
// one for all ports comes last.
func (c *Config) Find(p *netstack.Packet) *Service {
	switch p.Protocol {
	case netstack.ProtoTCP, netstack.ProtoUDP, netstack.ProtoSCTP:
	default:
		return nil
	}
	if s := c.byMark[markKey{p.Mark, p.Family()}]; s != nil && p.Mark != 0 {
		return s
	}
	if s := c.byAddr[key{p.Protocol, netip.AddrPortFrom(p.Dst, p.DstPort)}]; s != nil {
		return s
	}
	return c.byAddr[key{p.Protocol, netip.AddrPortFrom(p.Dst, 0)}]
}
