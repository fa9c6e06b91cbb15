package collector

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// rtextFilterSkipStats is RTEXT_FILTER_SKIP_STATS of <linux/rtnetlink.h>.
const rtextFilterSkipStats = 1 << 3

// operStates are the names of IF_OPER_*, as ip(8) prints them.
var operStates = [...]string{"UNKNOWN", "NOTPRESENT", "DOWN", "LOWERLAYERDOWN", "TESTING", "DORMANT", "UP"}

// link is a link whose master is still an index.
type link struct {
	netstack.Link
	master   int
	underlay int
}

// readLinks decodes the kernel's answer itself: netlink libraries leave out
// the state of bridge ports, which decides whether a packet passes.
func readLinks(_ context.Context, t *target) error {
	conn, err := t.rtnetlink()
	if err != nil {
		return err
	}
	body := ifinfomsg(unix.AF_UNSPEC)
	mask, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.IFLA_EXT_MASK, Data: binary.NativeEndian.AppendUint32(nil, rtextFilterSkipStats)}})
	if err != nil {
		return err
	}
	var links []link
	err = dump(conn, unix.RTM_GETLINK, append(body, mask...), func() { links = nil }, func(body []byte) error {
		l, err := decodeLink(body)
		links = append(links, l)
		return err
	})
	if err != nil {
		return err
	}
	names := make(map[int]string, len(links))
	for i := range links {
		names[links[i].Index] = links[i].Name
	}
	t.names = names
	for i := range links {
		l := &links[i]
		l.Master = names[l.master]
		if l.VXLAN != nil {
			l.VXLAN.Underlay = names[l.underlay]
		}
		t.ns.Links = append(t.ns.Links, l.Link)
	}
	return nil
}

func decodeLink(body []byte) (link, error) {
	l := link{Link: netstack.Link{PeerNSID: netstack.NoPeerNS}}
	var info *linkInfo
	err := attributes(body, unix.SizeofIfInfomsg, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.IFLA_IFNAME:
			l.Name = ad.String()
		case unix.IFLA_ADDRESS:
			if b := ad.Bytes(); len(b) == len(l.MAC) {
				copy(l.MAC[:], b)
			}
		case unix.IFLA_MTU:
			l.MTU = int(ad.Uint32())
		case unix.IFLA_LINK:
			l.Peer = int(ad.Int32())
		case unix.IFLA_LINK_NETNSID:
			if l.PeerNSID = int(ad.Int32()); l.PeerNSID < 0 {
				// NETNSA_NSID_NOT_ASSIGNED: the peer is in a namespace that this
				// one has no number for, not in this one.
				l.PeerNSID = netstack.UnknownPeerNS
			}
		case unix.IFLA_MASTER:
			l.master = int(ad.Uint32())
		case unix.IFLA_OPERSTATE:
			if state := int(ad.Uint8()); state < len(operStates) {
				l.OperState = operStates[state]
			}
		case unix.IFLA_LINKINFO:
			info = decodeLinkInfo(ad)
		case unix.IFLA_XDP:
			nested(ad, func(ad *netlink.AttributeDecoder) {
				if ad.Type() == unix.IFLA_XDP_ATTACHED {
					l.XDP = ad.Uint8() != 0
				}
			})
		}
		return nil
	})
	if err != nil {
		return l, err
	}
	l.Index = int(int32(binary.NativeEndian.Uint32(body[4:])))
	l.Flags = netstack.LinkFlags(binary.NativeEndian.Uint32(body[8:]))
	if binary.NativeEndian.Uint16(body[2:]) == unix.ARPHRD_LOOPBACK {
		l.Kind = "loopback"
	}
	if info == nil {
		return l, nil
	}
	l.Kind = info.kind
	if err := l.decodeData(info.kind, info.data); err != nil {
		return l, fmt.Errorf("settings of %s %s: %w", info.kind, l.Name, err)
	}
	if info.slaveKind == "bridge" {
		if err := l.decodePort(info.slaveData); err != nil {
			return l, fmt.Errorf("settings of bridge port %s: %w", l.Name, err)
		}
	}
	return l, nil
}

// linkInfo is IFLA_LINKINFO: the kind of an interface decides how its data is
// read, and need not come first.
type linkInfo struct {
	kind, slaveKind string
	data, slaveData []byte
}

func decodeLinkInfo(ad *netlink.AttributeDecoder) *linkInfo {
	info := new(linkInfo)
	nested(ad, func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case unix.IFLA_INFO_KIND:
			info.kind = ad.String()
		case unix.IFLA_INFO_DATA:
			info.data = ad.Bytes()
		case unix.IFLA_INFO_SLAVE_KIND:
			info.slaveKind = ad.String()
		case unix.IFLA_INFO_SLAVE_DATA:
			info.slaveData = ad.Bytes()
		}
	})
	return info
}

// decodeData reads what a kind of interface has of its own.
func (l *link) decodeData(kind string, data []byte) error {
	var decode func(*netlink.AttributeDecoder)
	switch kind {
	case "bridge":
		l.Bridge = new(netstack.Bridge)
		decode = l.bridgeData
	case "vxlan":
		l.VXLAN = new(netstack.VXLAN)
		decode = l.vxlanData
	case "vlan":
		l.VLAN = new(netstack.VLAN)
		decode = l.vlanData
	case "vrf":
		decode = func(ad *netlink.AttributeDecoder) {
			if ad.Type() == unix.IFLA_VRF_TABLE {
				l.VRFTable = ad.Uint32()
			}
		}
	case "macvlan", "macvtap":
		decode = func(ad *netlink.AttributeDecoder) {
			if ad.Type() == unix.IFLA_MACVLAN_MODE {
				l.Mode = modeName(ad.Uint32(), map[uint32]string{1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"})
			}
		}
	case "ipvlan", "ipvtap":
		decode = func(ad *netlink.AttributeDecoder) {
			if ad.Type() == unix.IFLA_IPVLAN_MODE {
				l.Mode = modeName(uint32(ad.Uint16()), map[uint32]string{0: "l2", 1: "l3", 2: "l3s"})
			}
		}
	case "bond":
		decode = func(ad *netlink.AttributeDecoder) {
			if ad.Type() == unix.IFLA_BOND_MODE {
				l.Mode = modeName(uint32(ad.Uint8()), map[uint32]string{
					0: "balance-rr", 1: "active-backup", 2: "balance-xor", 3: "broadcast", 4: "802.3ad", 5: "balance-tlb", 6: "balance-alb",
				})
			}
		}
	case "ipip", "sit", "ip6tnl":
		decode = l.tunnelEnds(nl.IFLA_IPTUN_LOCAL, nl.IFLA_IPTUN_REMOTE)
	case "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ip6erspan":
		decode = l.tunnelEnds(nl.IFLA_GRE_LOCAL, nl.IFLA_GRE_REMOTE)
	case "vti", "vti6":
		decode = l.tunnelEnds(nl.IFLA_VTI_LOCAL, nl.IFLA_VTI_REMOTE)
	default:
		return nil
	}
	return attributes(data, 0, func(ad *netlink.AttributeDecoder) error {
		decode(ad)
		return nil
	})
}

func modeName(mode uint32, names map[uint32]string) string {
	if name, ok := names[mode]; ok {
		return name
	}
	return fmt.Sprintf("mode-%d", mode)
}

func (l *link) bridgeData(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case unix.IFLA_BR_VLAN_FILTERING:
		l.Bridge.VLANFiltering = ad.Uint8() != 0
	case unix.IFLA_BR_VLAN_DEFAULT_PVID:
		l.Bridge.DefaultPVID = ad.Uint16()
	case unix.IFLA_BR_MCAST_SNOOPING:
		l.Bridge.MulticastSnooping = ad.Uint8() != 0
	case unix.IFLA_BR_NF_CALL_IPTABLES:
		l.Bridge.NFCallIPTables = ad.Uint8() != 0
	case unix.IFLA_BR_NF_CALL_IP6TABLES:
		l.Bridge.NFCallIP6Tables = ad.Uint8() != 0
	}
}

func (l *link) vxlanData(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case nl.IFLA_VXLAN_ID:
		l.VXLAN.VNI = ad.Uint32()
	case nl.IFLA_VXLAN_GROUP, nl.IFLA_VXLAN_GROUP6:
		l.VXLAN.Group = specified(addr(ad))
	case nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_LOCAL6:
		l.VXLAN.Local = specified(addr(ad))
	case nl.IFLA_VXLAN_LINK:
		l.underlay = int(ad.Uint32())
	case nl.IFLA_VXLAN_PORT:
		l.VXLAN.Port = bigEndian16(ad)
	case nl.IFLA_VXLAN_LEARNING:
		l.VXLAN.Learning = ad.Uint8() != 0
	case nl.IFLA_VXLAN_PROXY:
		l.VXLAN.Proxy = ad.Uint8() != 0
	case nl.IFLA_VXLAN_L2MISS:
		l.VXLAN.L2Miss = ad.Uint8() != 0
	case nl.IFLA_VXLAN_L3MISS:
		l.VXLAN.L3Miss = ad.Uint8() != 0
	case nl.IFLA_VXLAN_FLOWBASED:
		l.VXLAN.External = ad.Uint8() != 0
	}
}

func (l *link) vlanData(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case nl.IFLA_VLAN_ID:
		l.VLAN.ID = ad.Uint16()
	case nl.IFLA_VLAN_PROTOCOL:
		switch protocol := bigEndian16(ad); protocol {
		case unix.ETH_P_8021Q:
			l.VLAN.Protocol = "802.1Q"
		case unix.ETH_P_8021AD:
			l.VLAN.Protocol = "802.1ad"
		default:
			l.VLAN.Protocol = fmt.Sprintf("%#04x", protocol)
		}
	}
}

func (l *link) tunnelEnds(local, remote uint16) func(*netlink.AttributeDecoder) {
	return func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case local:
			l.TunnelLocal = specified(addr(ad))
		case remote:
			l.TunnelRemote = specified(addr(ad))
		}
	}
}

func (l *link) decodePort(data []byte) error {
	port := new(netstack.BridgePort)
	l.Port = port
	return attributes(data, 0, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.IFLA_BRPORT_STATE:
			port.State = int(ad.Uint8())
		case unix.IFLA_BRPORT_MODE:
			port.Hairpin = ad.Uint8() != 0
		case unix.IFLA_BRPORT_ISOLATED:
			port.Isolated = ad.Uint8() != 0
		case unix.IFLA_BRPORT_LEARNING:
			port.Learning = ad.Uint8() != 0
		case unix.IFLA_BRPORT_UNICAST_FLOOD:
			port.Flood = ad.Uint8() != 0
		case unix.IFLA_BRPORT_PROXYARP:
			port.ProxyARP = ad.Uint8() != 0
		case unix.IFLA_BRPORT_GUARD:
			port.Guard = ad.Uint8() != 0
		}
		return nil
	})
}
