package bundle

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// linkFlags are the IFF_* flags as iproute2 names them, in its order (print_link_flags).
// IFF_RUNNING is missing: it is printed as its absence, NO-CARRIER.
func linkFlags() []flagName[netstack.LinkFlags] {
	return []flagName[netstack.LinkFlags]{
		{"LOOPBACK", netstack.FlagLoopback},
		{"BROADCAST", netstack.FlagBroadcast},
		{"POINTOPOINT", netstack.FlagPointToPoint},
		{"MULTICAST", netstack.FlagMulticast},
		{"NOARP", netstack.FlagNoARP},
		{"ALLMULTI", 1 << 9},
		{"PROMISC", netstack.FlagPromisc},
		{"MASTER", 1 << 10},
		{"SLAVE", 1 << 11},
		{"DEBUG", 1 << 2},
		{"DYNAMIC", 1 << 15},
		{"AUTOMEDIA", 1 << 14},
		{"PORTSEL", 1 << 13},
		{"NOTRAILERS", 1 << 5},
		{"UP", netstack.FlagUp},
		{"LOWER_UP", netstack.FlagLowerUp},
		{"DORMANT", 1 << 17},
		{"ECHO", 1 << 18},
	}
}

type flagName[T any] struct {
	name string
	bit  T
}

// portStates are BR_STATE_* in the words of iproute2.
func portStates() []string {
	return []string{"disabled", "listening", "learning", "forwarding", "blocking"}
}

// linkRef is the name of a link's lower device: it can be resolved only when
// all links are read.
type linkRef struct {
	index int // of the link in Links
	value *value
	at    string
}

func readLinks(s *source, n *netstack.Namespace) error {
	index := make(map[string]int)
	var refs []linkRef
	err := s.list("link", func(v *value) {
		// Without -d there is neither the kind of a link nor the settings of a
		// bridge port: every veth would look like a wire to the outside.
		if !v.has("promiscuity") {
			s.fail(v.offset, s.text(v, "ifname"), "no details: use ip -d -j link")
			return
		}
		l := readLink(s, v)
		if _, twice := index[l.Name]; twice {
			s.failAt(v.get("ifname"), "ifname: a link of this name came before")
			return
		}
		index[l.Name] = l.Index
		if m := v.get("link"); m != nil && m.kind != jsonNull {
			refs = append(refs, linkRef{len(n.Links), m, s.at})
		}
		n.Links = append(n.Links, l)
	})
	if err != nil {
		return err
	}
	for _, ref := range refs {
		s.at = ref.at
		n.Links[ref.index].Peer = s.linkIndex(ref.value, index)
	}
	return s.err
}

func (s *source) linkIndex(v *value, index map[string]int) int {
	if v.kind != jsonString {
		s.failAt(v, "link: want a string, found %s", v.kind)
		return 0
	}
	if i, ok := index[v.text]; ok {
		return i
	}
	// What iproute2 prints for an index that has no name in this namespace.
	if digits, ok := strings.CutPrefix(v.text, "if"); ok {
		if i, err := strconv.ParseUint(digits, 10, 31); err == nil {
			return int(i)
		}
	}
	s.failAt(v, "link: no link has this name")
	return 0
}

// linkGroup reads a group, which its host may have a name for.
func linkGroup(text string) uint32 {
	switch text {
	case "", "default":
		return 0
	}
	if n, err := strconv.ParseUint(text, 0, 32); err == nil {
		return uint32(n)
	}
	return netstack.UnknownGroup
}

func formatGroup(group uint32) string {
	switch group {
	case 0:
		return "default"
	case netstack.UnknownGroup:
		return "unknown"
	}
	return strconv.FormatUint(uint64(group), 10)
}

func readLink(s *source, v *value) netstack.Link {
	info := s.object(v, "linkinfo")
	data := s.object(info, "info_data")
	l := netstack.Link{
		Index:     s.int(v, "ifindex"),
		Name:      s.name(v, "ifname"),
		Kind:      s.text(info, "info_kind"),
		MTU:       s.int(v, "mtu"),
		Group:     linkGroup(s.text(v, "group")),
		Flags:     readLinkFlags(s, v),
		OperState: s.text(v, "operstate"),
		Peer:      s.int(v, "link_index"),
		PeerNSID:  netstack.NoPeerNS,
		Master:    s.text(v, "master"),
		XDP:       v.has("xdp"),

		SingleSegments: v.has("gso_max_segs") && s.int(v, "gso_max_segs") <= 1, // sk_setup_caps
	}
	if l.Index == 0 && s.field(v, "ifindex") != nil {
		s.failAt(v.get("ifindex"), "ifindex: zero")
	}
	if v.has("link_netnsid") {
		l.PeerNSID = s.nsid(v.get("link_netnsid"))
	}
	switch s.text(v, "link_type") {
	case "ether", "loopback", "":
		l.MAC = s.mac(v, "address")
	}
	switch s.text(info, "info_slave_kind") {
	case "bridge":
		l.Port = readBridgePort(s, s.object(info, "info_slave_data"))
	case "bond":
		slave := s.object(info, "info_slave_data")
		l.BondPort = &netstack.BondPort{
			Active:     s.text(slave, "state") == "ACTIVE",
			Up:         s.text(slave, "mii_status") == "UP",
			Aggregator: uint16(s.number(slave, "ad_aggregator_id", 16)),
		}
	}
	readKind(s, &l, data)
	return l
}

// readKind reads what a kind of link has of its own.
func readKind(s *source, l *netstack.Link, data *value) {
	switch l.Kind {
	case "":
		if l.Loopback() {
			l.Kind = "loopback"
		}
	case "bridge":
		l.Bridge = &netstack.Bridge{
			VLANFiltering:     s.truth(data, "vlan_filtering"),
			VLANProtocol:      s.text(data, "vlan_protocol"),
			DefaultPVID:       uint16(s.number(data, "vlan_default_pvid", 16)),
			NFCallIPTables:    s.truth(data, "nf_call_iptables"),
			NFCallIP6Tables:   s.truth(data, "nf_call_ip6tables"),
			NFCallARPTables:   s.truth(data, "nf_call_arptables"),
			MulticastSnooping: s.truth(data, "mcast_snooping"),
		}
	case "vxlan":
		l.VXLAN = &netstack.VXLAN{
			VNI:      uint32(s.number(data, "id", 24)),
			Local:    s.anyAddr(data, "local", "local6"),
			Group:    s.anyAddr(data, "group", "group6", "remote", "remote6"),
			Port:     uint16(s.number(data, "port", 16)),
			Underlay: s.text(data, "link"),
			Learning: s.truth(data, "learning"),
			L3Miss:   s.truth(data, "l3miss"),
			L2Miss:   s.truth(data, "l2miss"),
			Proxy:    s.truth(data, "proxy"),
			External: s.truth(data, "external"),

			VNIFilter: s.truth(data, "vnifilter"),
			TTL:       uint8(s.number(data, "ttl", 8)),
			TOS:       s.hex8(data, "tos"),
			DF:        s.text(data, "df"),

			NoChecksum6:      s.truth(data, "udp_zero_csum6_tx"),
			TakesNoChecksum6: s.truth(data, "udp_zero_csum6_rx"),
			RemoteChecksum:   s.truth(data, "remcsum_tx") || s.truth(data, "remcsum_rx"),
		}
		if ports := data.get("port_range"); ports != nil {
			l.VXLAN.SrcPorts = [2]uint16{uint16(s.number(ports, "low", 16)), uint16(s.number(ports, "high", 16))}
		}
		if l.VXLAN.DF == "unset" {
			l.VXLAN.DF = ""
		}
	case "vlan":
		l.VLAN = &netstack.VLAN{ID: uint16(s.number(data, "id", 12)), Protocol: s.text(data, "protocol")}
	case "vrf":
		l.VRFTable = uint32(s.number(data, "table", 32))
	case "netkit":
		l.Blackhole = s.text(data, "policy") == "blackhole"
	case "macvlan", "macvtap":
		l.Mode = s.text(data, "mode")
		for _, m := range s.texts(data, "macaddr_data") {
			l.SourceMACs = append(l.SourceMACs, s.macOf(m, "macaddr_data"))
		}
	case "ipvlan", "ipvtap":
		l.Mode = s.text(data, "mode")
		for _, flag := range []string{"private", "vepa"} {
			if s.truth(data, flag) {
				l.Flag = flag
			}
		}
	case "bond":
		l.Mode = s.text(data, "mode")
		l.Bond = &netstack.Bond{
			ActiveSlave: s.text(data, "active_slave"),
			Aggregator:  uint16(s.number(s.object(data, "ad_info"), "aggregator", 16)),
		}
	default:
		if isTunnel(l.Kind) {
			l.Tunnel = readTunnel(s, data)
		}
	}
}

func readTunnel(s *source, data *value) *netstack.Tunnel {
	return &netstack.Tunnel{
		Local:       s.anyAddr(data, "local", "local6"),
		Remote:      s.anyAddr(data, "remote", "remote6"),
		Underlay:    s.text(data, "link"),
		TTL:         uint8(s.number(data, "ttl", 8)),
		TOS:         s.hex8(data, "tos"),
		PMTUDisc:    s.truth(data, "pmtudisc"),
		InKey:       s.key(data, "ikey"),
		OutKey:      s.key(data, "okey"),
		InChecksum:  s.truth(data, "icsum"),
		OutChecksum: s.truth(data, "ocsum"),
		InSequence:  s.truth(data, "iseq"),
		OutSequence: s.truth(data, "oseq"),
		EncapLimit:  data.has("encap_limit"),
		Protocol:    s.text(data, "proto"),
		External:    s.truth(data, "external"),
		Encap:       s.text(s.object(data, "encap"), "type"),
	}
}

// hex8 reads a byte that iproute2 prints as text: "0x1", or "inherit" for 1.
func (s *source) hex8(v *value, key string) uint8 {
	m := v.get(key)
	if m == nil {
		return 0
	}
	if m.text == "inherit" {
		return 1
	}
	n, err := strconv.ParseUint(m.text, 0, 8)
	if err != nil {
		s.failAt(m, "%s: not a byte", key)
	}
	return uint8(n)
}

// key reads a key of GRE, which iproute2 prints like an address.
func (s *source) key(v *value, name string) *uint32 {
	if !v.has(name) {
		return nil
	}
	b := s.addr(v, name).AsSlice()
	if len(b) != 4 {
		s.failAt(v.get(name), "%s: not a key", name)
		return nil
	}
	key := binary.BigEndian.Uint32(b)
	return &key
}

// unknownNSID is Link.PeerNSID of a peer in a namespace that has no id here,
// for which the kernel and iproute2 give -1 (NETNSA_NSID_NOT_ASSIGNED): to the
// model, -1 is this namespace itself.
const unknownNSID = netstack.NoPeerNS - 1

func (s *source) nsid(v *value) int {
	if v.text == "-1" {
		return unknownNSID
	}
	return int(s.numberOf(v, "link_netnsid", 31))
}

// isTunnel says whether the kind of link has the ends of an IP tunnel.
func isTunnel(kind string) bool {
	switch kind {
	case "ipip", "sit", "gre", "gretap", "erspan", "vti", "vti6", "ip6tnl", "ip6gre", "ip6gretap", "ip6erspan":
		return true
	}
	return false
}

// anyAddr returns the first address under keys; "any" is none.
func (s *source) anyAddr(v *value, keys ...string) netip.Addr {
	for _, key := range keys {
		if m := v.get(key); m != nil && m.text != "any" {
			return s.addr(v, key)
		}
	}
	return netip.Addr{}
}

func readLinkFlags(s *source, v *value) netstack.LinkFlags {
	var flags netstack.LinkFlags
	running := true
next:
	for _, item := range s.texts(v, "flags") {
		switch item.text {
		case "NO-CARRIER":
			running = false
			continue
		case "M-DOWN":
			continue // the state of the lower device, which is read by itself
		}
		for _, f := range linkFlags() {
			if f.name == item.text {
				flags |= f.bit
				continue next
			}
		}
		// The bits that iproute2 has no name for come last, in hexadecimal.
		bits, err := strconv.ParseUint(item.text, 16, 32)
		if err != nil {
			s.failAt(item, "flags: not a flag of a link")
			return 0
		}
		flags |= netstack.LinkFlags(bits)
	}
	if flags&netstack.FlagUp != 0 && running {
		flags |= netstack.FlagRunning
	}
	return flags
}

func readBridgePort(s *source, v *value) *netstack.BridgePort {
	p := &netstack.BridgePort{
		Hairpin:  s.truth(v, "hairpin"),
		Isolated: s.truth(v, "isolated"),
		Learning: s.truth(v, "learning"),
		Flood:    s.truth(v, "flood"),
		ProxyARP: s.truth(v, "proxy_arp"),
		Guard:    s.truth(v, "guard"),

		NoMulticastFlood: v.has("mcast_flood") && !s.truth(v, "mcast_flood"),
		NoBroadcastFlood: v.has("bcast_flood") && !s.truth(v, "bcast_flood"),
		NeighSuppress:    s.truth(v, "neigh_suppress"),
		Locked:           s.truth(v, "locked"),
		VLANTunnel:       s.truth(v, "vlan_tunnel"),

		NeighVLANSuppress: s.truth(v, "neigh_vlan_suppress"),
		ProxyARPWiFi:      s.truth(v, "proxy_arp_wifi"),
		BackupPort:        s.text(v, "backup_port"),
	}
	if v.has("state_index") { // a state that iproute2 has no name for
		p.State = s.int(v, "state_index")
		return p
	}
	state := s.name(v, "state")
	for i, name := range portStates() {
		if name == state {
			p.State = i
			return p
		}
	}
	if m := v.get("state"); m != nil {
		s.failAt(m, "state: not a state of a bridge port")
	}
	return p
}

type linkJSON struct {
	Ifindex     int        `json:"ifindex"`
	LinkIndex   int        `json:"link_index,omitempty"`
	Link        *string    `json:"link,omitempty"`
	Ifname      string     `json:"ifname"`
	Flags       []string   `json:"flags"`
	MTU         int        `json:"mtu"`
	XDP         any        `json:"xdp,omitempty"`
	Master      string     `json:"master,omitempty"`
	OperState   string     `json:"operstate,omitempty"`
	Group       string     `json:"group,omitempty"`
	LinkType    string     `json:"link_type"`
	Address     string     `json:"address,omitempty"`
	LinkNetnsID *int       `json:"link_netnsid,omitempty"`
	Promiscuity int        `json:"promiscuity"`
	Info        *linkInfo  `json:"linkinfo,omitempty"`
	GSOMaxSegs  int        `json:"gso_max_segs,omitempty"`
	AddrInfo    []addrInfo `json:"addr_info,omitempty"`
}

type linkInfo struct {
	Kind      string `json:"info_kind,omitempty"`
	Data      any    `json:"info_data,omitempty"`
	SlaveKind string `json:"info_slave_kind,omitempty"`
	SlaveData any    `json:"info_slave_data,omitempty"`
}

type bridgeData struct {
	VLANFiltering     int    `json:"vlan_filtering"`
	VLANProtocol      string `json:"vlan_protocol,omitempty"`
	MulticastSnooping int    `json:"mcast_snooping"`
	DefaultPVID       uint16 `json:"vlan_default_pvid"`
	NFCallIPTables    int    `json:"nf_call_iptables"`
	NFCallIP6Tables   int    `json:"nf_call_ip6tables"`
	NFCallARPTables   int    `json:"nf_call_arptables"`
}

type portData struct {
	State      string `json:"state,omitempty"`
	StateIndex int    `json:"state_index,omitempty"`
	Hairpin    bool   `json:"hairpin"`
	Guard      bool   `json:"guard"`
	Learning   bool   `json:"learning"`
	Flood      bool   `json:"flood"`
	ProxyARP   bool   `json:"proxy_arp"`
	Isolated   bool   `json:"isolated"`

	MulticastFlood bool `json:"mcast_flood"`
	BroadcastFlood bool `json:"bcast_flood"`
	NeighSuppress  bool `json:"neigh_suppress"`
	Locked         bool `json:"locked"`
	VLANTunnel     bool `json:"vlan_tunnel"`

	NeighVLANSuppress bool   `json:"neigh_vlan_suppress,omitempty"`
	ProxyARPWiFi      bool   `json:"proxy_arp_wifi,omitempty"`
	BackupPort        string `json:"backup_port,omitempty"`
}

type bondPortData struct {
	State      string `json:"state"`
	MIIStatus  string `json:"mii_status"`
	Aggregator uint16 `json:"ad_aggregator_id,omitempty"`
}

type vxlanData struct {
	External bool   `json:"external,omitempty"`
	ID       uint32 `json:"id"`
	Group    string `json:"group,omitempty"`
	Group6   string `json:"group6,omitempty"`
	Remote   string `json:"remote,omitempty"`
	Remote6  string `json:"remote6,omitempty"`
	Local    string `json:"local,omitempty"`
	Local6   string `json:"local6,omitempty"`
	Link     string `json:"link,omitempty"`
	Port     uint16 `json:"port"`
	Learning bool   `json:"learning"`
	Proxy    bool   `json:"proxy,omitempty"`
	L2Miss   bool   `json:"l2miss,omitempty"`
	L3Miss   bool   `json:"l3miss,omitempty"`

	VNIFilter bool   `json:"vnifilter,omitempty"`
	TTL       uint8  `json:"ttl,omitempty"`
	TOS       string `json:"tos,omitempty"`
	DF        string `json:"df,omitempty"`

	PortRange        *portRange `json:"port_range,omitempty"`
	NoChecksum6      bool       `json:"udp_zero_csum6_tx,omitempty"`
	TakesNoChecksum6 bool       `json:"udp_zero_csum6_rx,omitempty"`
	RemoteChecksum   bool       `json:"remcsum_tx,omitempty"`
}

type portRange struct {
	Low  uint16 `json:"low"`
	High uint16 `json:"high"`
}

type vlanData struct {
	Protocol string `json:"protocol,omitempty"`
	ID       uint16 `json:"id"`
}

type tunnelData struct {
	External   bool       `json:"external,omitempty"`
	Protocol   string     `json:"proto,omitempty"`
	Remote     string     `json:"remote"`
	Local      string     `json:"local"`
	Link       string     `json:"link,omitempty"`
	TTL        uint8      `json:"ttl,omitempty"`
	TOS        string     `json:"tos,omitempty"`
	PMTUDisc   bool       `json:"pmtudisc"`
	InKey      string     `json:"ikey,omitempty"`
	OutKey     string     `json:"okey,omitempty"`
	InCsum     bool       `json:"icsum,omitempty"`
	OutCsum    bool       `json:"ocsum,omitempty"`
	InSeq      bool       `json:"iseq,omitempty"`
	OutSeq     bool       `json:"oseq,omitempty"`
	EncapLimit int        `json:"encap_limit,omitempty"`
	Encap      *encapData `json:"encap,omitempty"`
}

type encapData struct {
	Type string `json:"type"`
}

type modeData struct {
	Mode       string   `json:"mode,omitempty"`
	Private    bool     `json:"private,omitempty"`
	VEPA       bool     `json:"vepa,omitempty"`
	SourceMACs []string `json:"macaddr_data,omitempty"`
	Active     string   `json:"active_slave,omitempty"`
	AD         *adData  `json:"ad_info,omitempty"`
}

type adData struct {
	Aggregator uint16 `json:"aggregator"`
}

type netkitData struct {
	Policy string `json:"policy"`
}

type vrfData struct {
	Table uint32 `json:"table"`
}

func writeLinks(n *netstack.Namespace) ([]byte, error) {
	names := make(map[int]string, len(n.Links))
	for i := range n.Links {
		names[n.Links[i].Index] = n.Links[i].Name
	}
	all := make([]linkJSON, len(n.Links))
	for i := range n.Links {
		all[i] = linkToJSON(&n.Links[i], names)
	}
	return encode(all)
}

func linkToJSON(l *netstack.Link, names map[int]string) linkJSON {
	j := linkJSON{
		Ifindex: l.Index, Ifname: l.Name, Flags: formatLinkFlags(l.Flags), MTU: l.MTU, Master: l.Master,
		OperState: l.OperState, Group: formatGroup(l.Group), LinkType: "none",
	}
	switch {
	case l.Loopback():
		j.LinkType, j.Address = "loopback", formatMAC(l.MAC)
	case l.MAC != netstack.MAC{}:
		j.LinkType, j.Address = "ether", formatMAC(l.MAC)
	}
	if l.PeerNSID != netstack.NoPeerNS {
		id := max(l.PeerNSID, -1)
		j.LinkNetnsID, j.LinkIndex = &id, l.Peer
	} else if l.Peer != 0 {
		name, ok := names[l.Peer]
		if !ok {
			name = "if" + strconv.Itoa(l.Peer)
		}
		j.Link = &name
	}
	if l.XDP {
		j.XDP = struct {
			Mode int `json:"mode"`
		}{1}
	}
	if l.SingleSegments {
		j.GSOMaxSegs = 1
	}
	var info linkInfo
	if l.Kind != "loopback" {
		info.Kind = l.Kind
	}
	info.Data = linkData(l)
	if p := l.Port; p != nil {
		data := portData{
			Hairpin: p.Hairpin, Guard: p.Guard, Learning: p.Learning, Flood: p.Flood, ProxyARP: p.ProxyARP, Isolated: p.Isolated,
		}
		if states := portStates(); p.State >= 0 && p.State < len(states) {
			data.State = states[p.State]
		} else {
			data.StateIndex = p.State
		}
		data.MulticastFlood, data.BroadcastFlood = !p.NoMulticastFlood, !p.NoBroadcastFlood
		data.NeighSuppress, data.Locked, data.VLANTunnel = p.NeighSuppress, p.Locked, p.VLANTunnel
		data.NeighVLANSuppress, data.ProxyARPWiFi, data.BackupPort = p.NeighVLANSuppress, p.ProxyARPWiFi, p.BackupPort
		info.SlaveKind, info.SlaveData = "bridge", data
	}
	if p := l.BondPort; p != nil {
		data := bondPortData{"BACKUP", "DOWN", p.Aggregator}
		if p.Active {
			data.State = "ACTIVE"
		}
		if p.Up {
			data.MIIStatus = "UP"
		}
		info.SlaveKind, info.SlaveData = "bond", data
	}
	if info != (linkInfo{}) {
		j.Info = &info
	}
	return j
}

func linkData(l *netstack.Link) any {
	switch {
	case l.Bridge != nil:
		b := l.Bridge
		return bridgeData{
			VLANFiltering: number(b.VLANFiltering), VLANProtocol: b.VLANProtocol, MulticastSnooping: number(b.MulticastSnooping),
			DefaultPVID: b.DefaultPVID, NFCallIPTables: number(b.NFCallIPTables), NFCallIP6Tables: number(b.NFCallIP6Tables),
			NFCallARPTables: number(b.NFCallARPTables),
		}
	case l.VXLAN != nil:
		v := l.VXLAN
		d := vxlanData{
			External: v.External, ID: v.VNI, Link: v.Underlay, Port: v.Port,
			Learning: v.Learning, Proxy: v.Proxy, L2Miss: v.L2Miss, L3Miss: v.L3Miss,
			VNIFilter: v.VNIFilter, TTL: v.TTL, TOS: formatHex8(v.TOS), DF: v.DF,
			NoChecksum6: v.NoChecksum6, TakesNoChecksum6: v.TakesNoChecksum6, RemoteChecksum: v.RemoteChecksum,
		}
		if v.SrcPorts != [2]uint16{} {
			d.PortRange = &portRange{v.SrcPorts[0], v.SrcPorts[1]}
		}
		switch {
		case v.Group.IsMulticast() && v.Group.Is4():
			d.Group = v.Group.String()
		case v.Group.IsMulticast():
			d.Group6 = v.Group.String()
		case v.Group.Is4():
			d.Remote = v.Group.String()
		case v.Group.IsValid():
			d.Remote6 = v.Group.String()
		}
		if v.Local.Is4() {
			d.Local = v.Local.String()
		} else if v.Local.IsValid() {
			d.Local6 = v.Local.String()
		}
		return d
	case l.VLAN != nil:
		return vlanData{l.VLAN.Protocol, l.VLAN.ID}
	case l.Kind == "vrf":
		return vrfData{l.VRFTable}
	case l.Blackhole:
		return netkitData{"blackhole"}
	case l.Tunnel != nil:
		return tunnelToJSON(l.Tunnel)
	case l.Mode != "" || l.Bond != nil || l.Flag != "" || l.SourceMACs != nil:
		d := modeData{Mode: l.Mode, Private: l.Flag == "private", VEPA: l.Flag == "vepa"}
		for _, mac := range l.SourceMACs {
			d.SourceMACs = append(d.SourceMACs, formatMAC(mac))
		}
		if b := l.Bond; b != nil {
			d.Active = b.ActiveSlave
			if b.Aggregator != 0 {
				d.AD = &adData{b.Aggregator}
			}
		}
		return d
	}
	return nil
}

func tunnelToJSON(t *netstack.Tunnel) tunnelData {
	d := tunnelData{
		External: t.External, Protocol: t.Protocol, Remote: orAny(t.Remote), Local: orAny(t.Local), Link: t.Underlay,
		TTL: t.TTL, TOS: formatHex8(t.TOS), PMTUDisc: t.PMTUDisc, InKey: formatKey(t.InKey), OutKey: formatKey(t.OutKey),
		InCsum: t.InChecksum, OutCsum: t.OutChecksum, InSeq: t.InSequence, OutSeq: t.OutSequence,
	}
	if t.EncapLimit {
		d.EncapLimit = 4 // IPV6_DEFAULT_TNL_ENCAP_LIMIT
	}
	if t.Encap != "" {
		d.Encap = &encapData{t.Encap}
	}
	return d
}

func formatHex8(v uint8) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf("%#x", v)
}

func formatKey(key *uint32) string {
	if key == nil {
		return ""
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, *key))).String()
}

func orAny(a netip.Addr) string {
	if !a.IsValid() {
		return "any"
	}
	return a.String()
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

func formatLinkFlags(flags netstack.LinkFlags) []string {
	names := []string{}
	if flags&netstack.FlagUp != 0 && flags&netstack.FlagRunning == 0 {
		names = append(names, "NO-CARRIER")
	}
	flags &^= netstack.FlagRunning
	for _, f := range linkFlags() {
		if flags&f.bit != 0 {
			names = append(names, f.name)
			flags &^= f.bit
		}
	}
	if flags != 0 {
		names = append(names, fmt.Sprintf("%x", uint32(flags)))
	}
	return names
}
