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

// rtaNextHopID is RTA_NH_ID of <linux/rtnetlink.h>.
const rtaNextHopID = 30

// readRoutes reads all tables of one family. It decodes the kernel's answer
// itself: netlink libraries leave out which nexthop object a route refers to.
func readRoutes(family netstack.Family) func(context.Context, *target) error {
	return func(_ context.Context, t *target) error {
		conn, err := t.rtnetlink()
		if err != nil {
			return err
		}
		body := make([]byte, unix.SizeofRtMsg)
		body[0] = addressFamily(family)
		bodies, err := dump(conn, unix.RTM_GETROUTE, body)
		if err != nil {
			return err
		}
		var routes []netstack.Route
		for _, body := range bodies {
			route, keep, err := t.decodeRoute(family, body)
			if err != nil {
				return err
			}
			if keep {
				routes = append(routes, route)
			}
		}
		t.ns.Routes = append(t.ns.Routes, routes...)
		return nil
	}
}

var routeTypes = map[uint8]netstack.RouteType{
	unix.RTN_UNICAST:     netstack.RouteUnicast,
	unix.RTN_LOCAL:       netstack.RouteLocal,
	unix.RTN_BROADCAST:   netstack.RouteBroadcast,
	unix.RTN_ANYCAST:     netstack.RouteAnycast,
	unix.RTN_MULTICAST:   netstack.RouteMulticast,
	unix.RTN_BLACKHOLE:   netstack.RouteBlackhole,
	unix.RTN_UNREACHABLE: netstack.RouteUnreachable,
	unix.RTN_PROHIBIT:    netstack.RouteProhibit,
	unix.RTN_THROW:       netstack.RouteThrow,
	unix.RTN_NAT:         netstack.RouteNAT,
}

// encaps are the names of LWTUNNEL_ENCAP_*, as ip(8) prints them.
var encaps = [...]string{"", "mpls", "ip", "ila", "ip6", "seg6", "bpf", "seg6local", "rpl", "ioam6", "xfrm"}

func encapName(kind uint16) string {
	if int(kind) < len(encaps) {
		return encaps[kind]
	}
	return fmt.Sprintf("encap-%d", kind)
}

var routePreferences = map[uint8]string{1: "high", 3: "low"}

// decodeRoute reads a struct rtmsg with its attributes. Clones are not kept:
// they are what the kernel learnt (redirects, path MTU), not what was configured.
func (t *target) decodeRoute(family netstack.Family, body []byte) (r netstack.Route, keep bool, err error) {
	r.Family = family
	var dst, src netip.Addr
	hop := netstack.NextHop{Weight: 1}
	var oif int
	var single bool
	err = attributes(body, unix.SizeofRtMsg, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.RTA_DST:
			dst = addr(ad)
		case unix.RTA_SRC:
			src = addr(ad)
		case unix.RTA_OIF:
			oif, single = int(ad.Uint32()), true
		case unix.RTA_GATEWAY:
			hop.Gateway, single = addr(ad), true
		case unix.RTA_VIA:
			hop.Gateway, single = via(ad.Bytes()), true
		case unix.RTA_PRIORITY:
			r.Metric = ad.Uint32()
		case unix.RTA_PREFSRC:
			r.PrefSrc = addr(ad)
		case unix.RTA_TABLE:
			r.Table = ad.Uint32()
		case unix.RTA_PREF:
			r.Pref = routePreferences[ad.Uint8()]
		case unix.RTA_ENCAP_TYPE:
			hop.Encap = encapName(ad.Uint16())
		case rtaNextHopID:
			r.NextHopID = ad.Uint32()
		case unix.RTA_METRICS:
			decodeMetrics(ad, &r)
		case unix.RTA_MULTIPATH:
			hops, err := t.decodeMultipath(ad.Bytes())
			r.NextHops = hops
			return err
		}
		return nil
	})
	if err != nil {
		return r, false, fmt.Errorf("route: %w", err)
	}
	flags := binary.NativeEndian.Uint32(body[8:])
	if flags&unix.RTM_F_CLONED != 0 {
		return r, false, nil
	}
	if r.Dst, err = routePrefix(family, dst, body[1]); err != nil {
		return r, false, fmt.Errorf("route: destination: %w", err)
	}
	if body[2] != 0 {
		if r.Src, err = routePrefix(family, src, body[2]); err != nil {
			return r, false, fmt.Errorf("route to %s: source: %w", r.Dst, err)
		}
	}
	r.TOS, r.Protocol, r.Scope = body[3], body[5], netstack.Scope(body[6])
	if r.Table == 0 {
		r.Table = uint32(body[4])
	}
	var ok bool
	if r.Type, ok = routeTypes[body[7]]; !ok {
		return r, false, fmt.Errorf("route to %s in table %d has type %d, which is not modelled", r.Dst, r.Table, body[7])
	}
	if r.Type.Dropping() {
		r.NextHops = nil
	} else if single && len(r.NextHops) == 0 {
		hop.Dev = t.device(oif)
		setFlags(&hop, flags)
		r.NextHops = []netstack.NextHop{hop}
	}
	return r, true, nil
}

// routePrefix completes the default route, which has no address.
func routePrefix(family netstack.Family, a netip.Addr, bits uint8) (netip.Prefix, error) {
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
		if family == netstack.IPv6 {
			a = netip.IPv6Unspecified()
		}
	}
	p := netip.PrefixFrom(a, int(bits))
	if !p.IsValid() {
		return p, fmt.Errorf("prefix length %d of %s", bits, a)
	}
	return p, nil
}

// via reads a struct rtvia: an address of a family other than the route's.
func via(b []byte) netip.Addr {
	if len(b) < 2 {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(b[2:])
	return a
}

func decodeMetrics(ad *netlink.AttributeDecoder, r *netstack.Route) {
	nested(ad, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.RTAX_LOCK:
			r.MTULocked = ad.Uint32()&(1<<unix.RTAX_MTU) != 0
		case unix.RTAX_MTU:
			r.MTU = int(ad.Uint32())
		case unix.RTAX_ADVMSS:
			r.AdvMSS = int(ad.Uint32())
		case unix.RTAX_HOPLIMIT:
			r.HopLimit = uint8(ad.Uint32())
		}
	})
}

// decodeMultipath reads an array of struct rtnexthop with their attributes.
func (t *target) decodeMultipath(b []byte) ([]netstack.NextHop, error) {
	const header = unix.SizeofRtNexthop
	var hops []netstack.NextHop
	for len(b) >= header {
		length := int(binary.NativeEndian.Uint16(b))
		if length < header || length > len(b) {
			return nil, fmt.Errorf("multipath next hop of %d bytes in %d", length, len(b))
		}
		hop := netstack.NextHop{
			Dev:    t.device(int(binary.NativeEndian.Uint32(b[4:]))),
			Weight: int(b[3]) + 1,
		}
		setFlags(&hop, uint32(b[2]))
		err := attributes(b[:length], header, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case unix.RTA_GATEWAY:
				hop.Gateway = addr(ad)
			case unix.RTA_VIA:
				hop.Gateway = via(ad.Bytes())
			case unix.RTA_ENCAP_TYPE:
				hop.Encap = encapName(ad.Uint16())
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		hops = append(hops, hop)
		b = b[min(len(b), (length+unix.RTA_ALIGNTO-1)&^(unix.RTA_ALIGNTO-1)):]
	}
	return hops, nil
}

func setFlags(hop *netstack.NextHop, flags uint32) {
	hop.Onlink = flags&unix.RTNH_F_ONLINK != 0
	hop.Dead = flags&unix.RTNH_F_DEAD != 0
	hop.Linkdown = flags&unix.RTNH_F_LINKDOWN != 0
}
