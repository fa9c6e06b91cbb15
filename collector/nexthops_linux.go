package collector

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// nhaFDB is NHA_FDB of <linux/nexthop.h>.
const nhaFDB = 11

// nhmsg is the size of struct nhmsg.
const nhmsg = 8

// readNextHops reads the objects of `ip nexthop` (Linux 5.3).
func readNextHops(_ context.Context, t *target) error {
	conn, err := t.rtnetlink()
	if err != nil {
		return err
	}
	t.ns.NextHops, err = listOf(conn, unix.RTM_GETNEXTHOP, make([]byte, nhmsg), t.decodeNextHop)
	return err
}

func (t *target) decodeNextHop(body []byte) (netstack.NextHopObject, error) {
	o := netstack.NextHopObject{NextHop: netstack.NextHop{Weight: 1}}
	err := attributes(body, nhmsg, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.NHA_ID:
			o.ID = ad.Uint32()
		case unix.NHA_BLACKHOLE:
			o.Blackhole = true
		case unix.NHA_OIF:
			o.Dev = t.device(int(ad.Uint32()))
		case unix.NHA_GATEWAY:
			o.Gateway = addr(ad)
		case unix.NHA_ENCAP_TYPE:
			o.Encap = encapName(ad.Uint16())
		case nhaFDB:
			o.FDB = true
		case unix.NHA_GROUP:
			// struct nexthop_grp: id, weight minus one with its high byte apart.
			b := ad.Bytes()
			for ; len(b) >= 8; b = b[8:] {
				o.Group = append(o.Group, netstack.NextHopMember{
					ID:     binary.NativeEndian.Uint32(b),
					Weight: (int(b[5])<<8 | int(b[4])) + 1,
				})
			}
		}
		return nil
	})
	if err != nil {
		return o, fmt.Errorf("nexthop object: %w", err)
	}
	setFlags(&o.NextHop, binary.NativeEndian.Uint32(body[4:]))
	return o, nil
}
