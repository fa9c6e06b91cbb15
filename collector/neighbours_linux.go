package collector

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// ndaNHID is NDA_NH_ID.
const ndaNHID = 13

// neighbour is what the neighbour tables and the forwarding databases of
// bridges and VXLAN devices have in common: a struct ndmsg and attributes.
type neighbour struct {
	index   int
	state   netstack.NeighbourState
	flags   uint8
	dst     netip.Addr
	mac     netstack.MAC
	vlan    uint16
	port    uint16
	vni     uint32
	via     int
	master  int
	nextHop uint32
}

func (t *target) listNeighbours(family, flags uint8) ([]neighbour, error) {
	conn, err := t.rtnetlink()
	if err != nil {
		return nil, err
	}
	body := make([]byte, unix.SizeofNdMsg)
	body[0], body[10] = family, flags
	return listOf(conn, unix.RTM_GETNEIGH, body, decodeNeighbour)
}

func decodeNeighbour(body []byte) (neighbour, error) {
	var n neighbour
	err := attributes(body, unix.SizeofNdMsg, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NDA_DST:
			n.dst = addr(ad)
		case unix.NDA_LLADDR:
			if b := ad.Bytes(); len(b) == len(n.mac) {
				copy(n.mac[:], b)
			}
		case unix.NDA_VLAN:
			n.vlan = ad.Uint16()
		case unix.NDA_PORT:
			n.port = bigEndian16(ad)
		case unix.NDA_VNI:
			n.vni = ad.Uint32()
		case unix.NDA_IFINDEX:
			n.via = int(ad.Uint32())
		case unix.NDA_MASTER:
			n.master = int(ad.Uint32())
		case ndaNHID:
			n.nextHop = ad.Uint32()
		}
		return nil
	})
	if err != nil {
		return n, fmt.Errorf("neighbour: %w", err)
	}
	n.index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	n.state = netstack.NeighbourState(binary.NativeEndian.Uint16(body[8:]))
	n.flags = body[10]
	return n, nil
}

// readNeighbours reads the ARP and NDP caches and the addresses that are
// proxied. Left out is what the kernel writes for itself: the addresses of
// multicast groups and of the loopback device.
func readNeighbours(_ context.Context, t *target) error {
	var all []netstack.Neighbour
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, flags := range []uint8{0, unix.NTF_PROXY} {
			entries, err := t.listNeighbours(family, flags)
			if err != nil {
				return err
			}
			for _, n := range entries {
				proxy := n.flags&unix.NTF_PROXY != 0
				if n.dst.IsMulticast() || n.dst.IsLoopback() || n.dst.IsUnspecified() || !n.dst.IsValid() || !proxy && n.state == 0 {
					continue
				}
				all = append(all, netstack.Neighbour{Dev: t.device(n.index), IP: n.dst, MAC: n.mac, State: n.state, Proxy: proxy})
			}
		}
	}
	t.ns.Neighbours = all
	return nil
}

// readFDB reads the forwarding databases of bridges and VXLAN devices.
func readFDB(_ context.Context, t *target) error {
	entries, err := t.listNeighbours(unix.AF_BRIDGE, 0)
	if err != nil {
		return err
	}
	for _, n := range entries {
		e := netstack.FDBEntry{
			Dev: t.device(n.index), Master: t.device(n.master), MAC: n.mac, VLAN: n.vlan,
			Dst: n.dst, VNI: n.vni, Port: n.port, Via: t.device(n.via), NextHopID: n.nextHop,
			State: n.state, Self: n.flags&unix.NTF_SELF != 0,
		}
		e.Local = !e.Self && e.State&netstack.NUDPermanent != 0
		t.ns.FDB = append(t.ns.FDB, e)
	}
	return nil
}
