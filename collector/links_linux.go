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
	active   int // slave of a bond
	backup   int // of a port of a bridge
}

// readLinks decodes the kernel's answer itself: netlink libraries leave out
// the state of bridge ports, which decides whether a packet passes.
func readLinks(_ context.Context, t *target) error {
	conn, err := t.rtnetlink()
	if err != nil {
		return err
	}
	request, err := linkRequest()
	if err != nil {
		return err
	}
	links, err := listOf(conn, unix.RTM_GETLINK, request, decodeLink)
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
		switch {
		case l.VXLAN != nil:
			l.VXLAN.Underlay = names[l.underlay]
		case l.Tunnel != nil:
			l.Tunnel.Underlay = names[l.underlay]
		case l.Bond != nil:
			l.Bond.ActiveSlave = names[l.active]
		}
		if l.Port != nil {
			l.Port.BackupPort = names[l.backup]
		}
		t.ns.Links = append(t.ns.Links, l.Link)
	}
	return nil
}

// linkRequest asks for links without their counters.
func linkRequest() ([]byte, error) {
	mask, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.IFLA_EXT_MASK, Data: binary.NativeEndian.AppendUint32(nil, rtextFilterSkipStats)}})
	return append(ifinfomsg(unix.AF_UNSPEC), mask...), err
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
		case unix.IFLA_GSO_MAX_SEGS:
			l.SingleSegments = ad.Uint32() <= 1 // sk_setup_caps
		case unix.IFLA_GROUP:
			l.Group = ad.Uint32()
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
	switch info.slaveKind {
	case "bridge":
		err = l.decodePort(info.slaveData)
	case "bond":
		err = l.decodeBondPort(info.slaveData)
	}
	if err != nil {
		return l, fmt.Errorf("settings of %s port %s: %w", info.slaveKind, l.Name, err)
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
	case "netkit":
		decode = func(ad *netlink.AttributeDecoder) {
			const policy, drop = 3, 2 // IFLA_NETKIT_POLICY, NETKIT_DROP
			if ad.Type() == policy {
				l.Blackhole = ad.Uint32() == drop
			}
		}
	case "macvlan", "macvtap":
		decode = l.macvlanData
	case "ipvlan", "ipvtap":
		decode = l.ipvlanData
	case "bond":
		l.Bond = new(netstack.Bond)
		decode = l.bondData
	case "ipip", "sit", "ip6tnl":
		l.Tunnel = new(netstack.Tunnel)
		decode = l.iptunData
		if kind == "ip6tnl" {
			decode = l.ip6tnlData()
		}
	case "gre", "gretap", "erspan", "ip6gre", "ip6gretap", "ip6erspan":
		l.Tunnel = new(netstack.Tunnel)
		decode = l.greData()
	case "vti", "vti6":
		l.Tunnel = new(netstack.Tunnel)
		decode = func(ad *netlink.AttributeDecoder) {
			switch ad.Type() {
			case nl.IFLA_VTI_LOCAL:
				l.Tunnel.Local = specified(addr(ad))
			case nl.IFLA_VTI_REMOTE:
				l.Tunnel.Remote = specified(addr(ad))
			}
		}
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
	case unix.IFLA_BR_VLAN_PROTOCOL:
		l.Bridge.VLANProtocol = vlanProtocol(bigEndian16(ad))
	case unix.IFLA_BR_MCAST_SNOOPING:
		l.Bridge.MulticastSnooping = ad.Uint8() != 0
	case unix.IFLA_BR_NF_CALL_IPTABLES:
		l.Bridge.NFCallIPTables = ad.Uint8() != 0
	case unix.IFLA_BR_NF_CALL_IP6TABLES:
		l.Bridge.NFCallIP6Tables = ad.Uint8() != 0
	case unix.IFLA_BR_NF_CALL_ARPTABLES:
		l.Bridge.NFCallARPTables = ad.Uint8() != 0
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
	case nl.IFLA_VXLAN_PORT_RANGE: // struct ifla_vxlan_port_range
		if b := ad.Bytes(); len(b) >= 4 {
			l.VXLAN.SrcPorts = [2]uint16{binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])}
		}
	case nl.IFLA_VXLAN_UDP_ZERO_CSUM6_TX:
		l.VXLAN.NoChecksum6 = ad.Uint8() != 0
	case nl.IFLA_VXLAN_UDP_ZERO_CSUM6_RX:
		l.VXLAN.TakesNoChecksum6 = ad.Uint8() != 0
	case nl.IFLA_VXLAN_REMCSUM_TX, nl.IFLA_VXLAN_REMCSUM_RX:
		l.VXLAN.RemoteChecksum = l.VXLAN.RemoteChecksum || ad.Uint8() != 0
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
	case nl.IFLA_VXLAN_TTL:
		l.VXLAN.TTL = ad.Uint8()
	case nl.IFLA_VXLAN_TOS:
		l.VXLAN.TOS = ad.Uint8()
	case unix.IFLA_VXLAN_DF:
		l.VXLAN.DF = map[uint8]string{1: "set", 2: "inherit"}[ad.Uint8()]
	case unix.IFLA_VXLAN_VNIFILTER:
		l.VXLAN.VNIFilter = ad.Uint8() != 0
	}
}

func (l *link) vlanData(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case nl.IFLA_VLAN_ID:
		l.VLAN.ID = ad.Uint16()
	case nl.IFLA_VLAN_PROTOCOL:
		l.VLAN.Protocol = vlanProtocol(bigEndian16(ad))
	}
}

func vlanProtocol(protocol uint16) string {
	switch protocol {
	case unix.ETH_P_8021Q:
		return "802.1Q"
	case unix.ETH_P_8021AD:
		return "802.1ad"
	}
	return fmt.Sprintf("%#04x", protocol)
}

func (l *link) macvlanData(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case nl.IFLA_MACVLAN_MODE:
		l.Mode = modeName(ad.Uint32(), map[uint32]string{1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"})
	case nl.IFLA_MACVLAN_MACADDR_DATA:
		nested(ad, func(ad *netlink.AttributeDecoder) {
			if b := ad.Bytes(); len(b) == len(netstack.MAC{}) {
				l.SourceMACs = append(l.SourceMACs, netstack.MAC(b))
			}
		})
	}
}

func (l *link) ipvlanData(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case nl.IFLA_IPVLAN_MODE:
		l.Mode = modeName(uint32(ad.Uint16()), map[uint32]string{0: "l2", 1: "l3", 2: "l3s"})
	case nl.IFLA_IPVLAN_FLAG:
		switch flags := ad.Uint16(); {
		case flags&1 != 0: // IPVLAN_F_PRIVATE
			l.Flag = "private"
		case flags&2 != 0: // IPVLAN_F_VEPA
			l.Flag = "vepa"
		}
	}
}

func (l *link) bondData(ad *netlink.AttributeDecoder) {
	switch ad.Type() {
	case unix.IFLA_BOND_MODE:
		l.Mode = modeName(uint32(ad.Uint8()), map[uint32]string{
			0: "balance-rr", 1: "active-backup", 2: "balance-xor", 3: "broadcast", 4: "802.3ad", 5: "balance-tlb", 6: "balance-alb",
		})
	case unix.IFLA_BOND_ACTIVE_SLAVE:
		l.active = int(ad.Uint32())
	case unix.IFLA_BOND_AD_INFO:
		nested(ad, func(ad *netlink.AttributeDecoder) {
			if ad.Type() == unix.IFLA_BOND_AD_INFO_AGGREGATOR {
				l.Bond.Aggregator = ad.Uint16()
			}
		})
	}
}

func (l *link) iptunData(ad *netlink.AttributeDecoder) { l.tunnelSetting(ad.Type(), ad) }

// tunnelSetting decodes an attribute of that type among those of IPTUN.
func (l *link) tunnelSetting(typ uint16, ad *netlink.AttributeDecoder) {
	t := l.Tunnel
	switch typ {
	case nl.IFLA_IPTUN_LOCAL:
		t.Local = specified(addr(ad))
	case nl.IFLA_IPTUN_REMOTE:
		t.Remote = specified(addr(ad))
	case nl.IFLA_IPTUN_LINK:
		l.underlay = int(ad.Uint32())
	case nl.IFLA_IPTUN_TTL:
		t.TTL = ad.Uint8()
	case nl.IFLA_IPTUN_TOS:
		t.TOS = ad.Uint8()
	case nl.IFLA_IPTUN_PMTUDISC:
		t.PMTUDisc = ad.Uint8() != 0
	case nl.IFLA_IPTUN_PROTO:
		if l.Kind == "sit" {
			t.Protocol = map[uint8]string{unix.IPPROTO_IPIP: "ipip", unix.IPPROTO_IPV6: "ip6ip", 0: "any"}[ad.Uint8()]
		}
	case nl.IFLA_IPTUN_COLLECT_METADATA:
		t.External = true
	case nl.IFLA_IPTUN_ENCAP_TYPE:
		t.Encap = tunnelEncap(ad.Uint16())
	}
}

// ip6tnlData decodes what has the attributes of iptunData and more.
func (l *link) ip6tnlData() func(*netlink.AttributeDecoder) {
	l.Tunnel.EncapLimit = true
	return func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case nl.IFLA_IPTUN_FLAGS:
			if ad.Uint32()&1 != 0 { // IP6_TNL_F_IGN_ENCAP_LIMIT
				l.Tunnel.EncapLimit = false
			}
		case nl.IFLA_IPTUN_PROTO:
			l.Tunnel.Protocol = map[uint8]string{unix.IPPROTO_IPIP: "ipip6", unix.IPPROTO_IPV6: "ip6ip6", 0: "any"}[ad.Uint8()]
		default:
			l.iptunData(ad)
		}
	}
}

// tunnelEncap names a TUNNEL_ENCAP_*.
func tunnelEncap(typ uint16) string {
	switch typ {
	case 0:
		return ""
	case 1:
		return "fou"
	case 2:
		return "gue"
	}
	return "unknown"
}

// Flags of GRE that matter, with the values of <linux/if_tunnel.h> in host order.
const (
	greChecksum = 0x8000
	greKey      = 0x2000
	greSequence = 0x1000
)

// greAsIPTun are the attributes of GRE that mean the same as those of IPTUN.
var greAsIPTun = map[uint16]uint16{
	nl.IFLA_GRE_LOCAL: nl.IFLA_IPTUN_LOCAL, nl.IFLA_GRE_REMOTE: nl.IFLA_IPTUN_REMOTE, nl.IFLA_GRE_LINK: nl.IFLA_IPTUN_LINK,
	nl.IFLA_GRE_TTL: nl.IFLA_IPTUN_TTL, nl.IFLA_GRE_TOS: nl.IFLA_IPTUN_TOS, nl.IFLA_GRE_PMTUDISC: nl.IFLA_IPTUN_PMTUDISC,
	nl.IFLA_GRE_COLLECT_METADATA: nl.IFLA_IPTUN_COLLECT_METADATA, nl.IFLA_GRE_ENCAP_TYPE: nl.IFLA_IPTUN_ENCAP_TYPE,
}

// greData decodes the settings of GRE: the flags say whether a key counts, and
// may come after it.
func (l *link) greData() func(*netlink.AttributeDecoder) {
	t := l.Tunnel
	var in, out uint32
	return func(ad *netlink.AttributeDecoder) {
		switch ad.Type() {
		case nl.IFLA_GRE_IFLAGS:
			flags := bigEndian16(ad)
			t.InChecksum, t.InSequence = flags&greChecksum != 0, flags&greSequence != 0
			if flags&greKey != 0 {
				t.InKey = &in
			}
		case nl.IFLA_GRE_OFLAGS:
			flags := bigEndian16(ad)
			t.OutChecksum, t.OutSequence = flags&greChecksum != 0, flags&greSequence != 0
			if flags&greKey != 0 {
				t.OutKey = &out
			}
		case nl.IFLA_GRE_IKEY:
			in = binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, ad.Uint32()))
		case nl.IFLA_GRE_OKEY:
			out = binary.BigEndian.Uint32(binary.NativeEndian.AppendUint32(nil, ad.Uint32()))
		default:
			if typ, ok := greAsIPTun[ad.Type()]; ok {
				l.tunnelSetting(typ, ad)
			}
		}
	}
}

func (l *link) decodeBondPort(data []byte) error {
	port := new(netstack.BondPort)
	l.BondPort = port
	return attributes(data, 0, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.IFLA_BOND_SLAVE_STATE:
			port.Active = ad.Uint8() == 0 // BOND_STATE_ACTIVE
		case unix.IFLA_BOND_SLAVE_MII_STATUS:
			port.Up = ad.Uint8() == 0 // BOND_LINK_UP
		case unix.IFLA_BOND_SLAVE_AD_AGGREGATOR_ID:
			port.Aggregator = ad.Uint16()
		}
		return nil
	})
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
		case unix.IFLA_BRPORT_MCAST_FLOOD:
			port.NoMulticastFlood = ad.Uint8() == 0
		case unix.IFLA_BRPORT_BCAST_FLOOD:
			port.NoBroadcastFlood = ad.Uint8() == 0
		case unix.IFLA_BRPORT_NEIGH_SUPPRESS:
			port.NeighSuppress = ad.Uint8() != 0
		case unix.IFLA_BRPORT_LOCKED:
			port.Locked = ad.Uint8() != 0
		case unix.IFLA_BRPORT_VLAN_TUNNEL:
			port.VLANTunnel = ad.Uint8() != 0
		case unix.IFLA_BRPORT_NEIGH_VLAN_SUPPRESS:
			port.NeighVLANSuppress = ad.Uint8() != 0
		case unix.IFLA_BRPORT_PROXYARP_WIFI:
			port.ProxyARPWiFi = ad.Uint8() != 0
		case unix.IFLA_BRPORT_BACKUP_PORT:
			l.backup = int(ad.Uint32())
		}
		return nil
	})
}
