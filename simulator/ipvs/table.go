package ipvs

import (
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Conn is a connection that IPVS knows (ip_vs_conn).
type Conn struct {
	Protocol        netstack.Protocol
	Client, Virtual netip.AddrPort
	Destination     netip.AddrPort
	Service         *Service
	To              *Destination
	keepsConntrack  bool
}

// Tracked says whether the connection's packets stay with connection tracking:
// net.ipv4.vs.conntrack when it was made.
func (c *Conn) Tracked() bool { return c.keepsConntrack }

// Table are the connections of one namespace during one walk.
type Table struct{ conns []*Conn }

// Connect makes the connection of a packet to a destination of its service. It
// is remembered unless it is for one packet only (ip_vs_conn_hash).
func (t *Table) Connect(p *netstack.Packet, s *Service, d *Destination, tracked bool) *Conn {
	port := d.Addr.Port()
	if port == 0 {
		port = p.DstPort
	}
	c := &Conn{
		Protocol: p.Protocol, Service: s, To: d, keepsConntrack: tracked,
		Client:      netip.AddrPortFrom(p.Src, p.SrcPort),
		Virtual:     netip.AddrPortFrom(p.Dst, p.DstPort),
		Destination: netip.AddrPortFrom(d.Addr.Addr(), port),
	}
	if !s.OnePacket || p.Protocol != netstack.ProtoUDP {
		t.conns = append(t.conns, c)
	}
	return c
}

// In finds the connection of a packet from a client (ip_vs_conn_in_get).
func (t *Table) In(p *netstack.Packet) *Conn {
	return t.find(func(c *Conn) bool {
		return c.Protocol == p.Protocol && c.Client == source(p) && c.Virtual == target(p)
	})
}

// Out finds the connection of a packet from a destination (ip_vs_conn_out_get).
func (t *Table) Out(p *netstack.Packet) *Conn {
	return t.find(func(c *Conn) bool {
		return c.Protocol == p.Protocol && c.Destination == source(p) && c.Client == target(p)
	})
}

// Sent finds the connection of which p is a packet as the destination got it.
func (t *Table) Sent(p *netstack.Packet) *Conn {
	return t.find(func(c *Conn) bool {
		return c.Protocol == p.Protocol && c.Client == source(p) && c.Destination == target(p)
	})
}

// Answered finds the connection of which p is an answer as the client got it.
func (t *Table) Answered(p *netstack.Packet) *Conn {
	return t.find(func(c *Conn) bool {
		return c.Protocol == p.Protocol && c.Virtual == source(p) && c.Client == target(p)
	})
}

func (t *Table) find(is func(*Conn) bool) *Conn {
	for _, c := range t.conns {
		if is(c) {
			return c
		}
	}
	return nil
}

func source(p *netstack.Packet) netip.AddrPort { return netip.AddrPortFrom(p.Src, p.SrcPort) }
func target(p *netstack.Packet) netip.AddrPort { return netip.AddrPortFrom(p.Dst, p.DstPort) }
