package bundle

import (
	"fmt"
	"strconv"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// neighbourStates are NUD_* in the words of iproute2.
func neighbourStates() []flagName[netstack.NeighbourState] {
	return []flagName[netstack.NeighbourState]{
		{"INCOMPLETE", netstack.NUDIncomplete},
		{"REACHABLE", netstack.NUDReachable},
		{"STALE", netstack.NUDStale},
		{"DELAY", netstack.NUDDelay},
		{"PROBE", netstack.NUDProbe},
		{"FAILED", netstack.NUDFailed},
		{"NOARP", netstack.NUDNoARP},
		{"PERMANENT", netstack.NUDPermanent},
		{"NONE", 0},
	}
}

func readNeighbours(s *source, n *netstack.Namespace) error {
	states := neighbourStates()
	return s.list("neighbour", func(v *value) {
		if s.field(v, "dst") == nil {
			return
		}
		e := netstack.Neighbour{
			Dev:   s.name(v, "dev"),
			IP:    s.addr(v, "dst"),
			MAC:   s.mac(v, "lladdr"),
			Proxy: v.has("proxy"),
		}
	next:
		for _, item := range s.texts(v, "state") {
			for _, f := range states {
				if f.name == item.text {
					e.State |= f.bit
					continue next
				}
			}
			s.failAt(item, "state: not a state of a neighbour")
			return
		}
		n.Neighbours = append(n.Neighbours, e)
	})
}

type neighbourJSON struct {
	Dst    string   `json:"dst"`
	Dev    string   `json:"dev"`
	LLAddr string   `json:"lladdr,omitempty"`
	Proxy  present  `json:"proxy,omitzero"`
	State  []string `json:"state,omitempty"`
}

func writeNeighbours(n *netstack.Namespace) ([]byte, error) {
	all := make([]neighbourJSON, len(n.Neighbours))
	for i := range n.Neighbours {
		e := &n.Neighbours[i]
		j := neighbourJSON{Dst: e.IP.String(), Dev: e.Dev, Proxy: present(e.Proxy)}
		if e.MAC != (netstack.MAC{}) {
			j.LLAddr = formatMAC(e.MAC)
		}
		left := e.State
		for _, f := range neighbourStates() {
			if left&f.bit != 0 {
				j.State = append(j.State, f.name)
				left &^= f.bit
			}
		}
		if left != 0 {
			return nil, fmt.Errorf("neighbour %s: state %#x is not known", e.IP, uint16(left))
		}
		all[i] = j
	}
	return encode(all)
}

func readFDB(s *source, n *netstack.Namespace) error {
	return s.list("entry", func(v *value) {
		if s.field(v, "mac") == nil {
			return
		}
		e := netstack.FDBEntry{
			Dev:    s.name(v, "ifname"),
			Master: s.text(v, "master"),
			MAC:    s.mac(v, "mac"),
			VLAN:   uint16(s.number(v, "vlan", 12)),
			Dst:    s.addr(v, "dst"),
			VNI:    uint32(s.number(v, "vni", 24)),
			Port:   uint16(s.number(v, "port", 16)),
			Via:    s.text(v, "viaIf"),
			Self:   s.hasText(v, "flags", "self"),
			State:  s.fdbState(v),

			NextHopID: uint32(s.number(v, "nhid", 32)),
		}
		// The kernel marks the addresses of a bridge and its ports, and nothing
		// else of a bridge, as permanent (fdb_to_nud).
		e.Local = e.State == netstack.NUDPermanent && !e.Self
		n.FDB = append(n.FDB, e)
	})
}

// fdbState reads the state in the words of bridge(8), which are not those of
// ip neigh: state_n2a prints nothing for NUD_REACHABLE and a number for the rest.
func (s *source) fdbState(v *value) netstack.NeighbourState {
	switch text := s.text(v, "state"); text {
	case "permanent":
		return netstack.NUDPermanent
	case "static":
		return netstack.NUDNoARP
	case "stale":
		return netstack.NUDStale
	case "":
		return netstack.NUDReachable
	default:
		const prefix = "state="
		if len(text) > len(prefix) && text[:len(prefix)] == prefix {
			if n, err := strconv.ParseUint(text[len(prefix):], 0, 16); err == nil {
				return netstack.NeighbourState(n)
			}
		}
		s.failAt(v.get("state"), "state: not a state of a forwarding entry")
		return 0
	}
}

type fdbJSON struct {
	MAC    string   `json:"mac"`
	Ifname string   `json:"ifname"`
	Dst    string   `json:"dst,omitempty"`
	VLAN   uint16   `json:"vlan,omitempty"`
	Port   uint16   `json:"port,omitempty"`
	VNI    uint32   `json:"vni,omitempty"`
	ViaIf  string   `json:"viaIf,omitempty"`
	NHID   uint32   `json:"nhid,omitempty"`
	Flags  []string `json:"flags"`
	Master string   `json:"master,omitempty"`
	State  string   `json:"state"`
}

func writeFDB(n *netstack.Namespace) ([]byte, error) {
	all := make([]fdbJSON, len(n.FDB))
	for i := range n.FDB {
		e := &n.FDB[i]
		j := fdbJSON{
			MAC: formatMAC(e.MAC), Ifname: e.Dev, VLAN: e.VLAN, Port: e.Port, VNI: e.VNI, ViaIf: e.Via, NHID: e.NextHopID,
			Flags: []string{}, Master: e.Master,
		}
		if e.Dst.IsValid() {
			j.Dst = e.Dst.String()
		}
		if e.Self {
			j.Flags = append(j.Flags, "self")
		}
		switch e.State {
		case netstack.NUDPermanent:
			j.State = "permanent"
		case netstack.NUDNoARP:
			j.State = "static"
		case netstack.NUDStale:
			j.State = "stale"
		case netstack.NUDReachable:
			j.State = ""
		default:
			j.State = fmt.Sprintf("state=%#x", uint16(e.State))
		}
		all[i] = j
	}
	return encode(all)
}

func readBridgeVLAN(s *source, n *netstack.Namespace) error {
	return s.list("port", func(v *value) {
		dev := s.name(v, "ifname")
		s.each(v, "vlans", func(v *value) {
			if s.field(v, "vlan") == nil {
				return
			}
			e := netstack.BridgeVLAN{
				Dev:      dev,
				ID:       uint16(s.number(v, "vlan", 12)),
				PVID:     s.hasText(v, "flags", "PVID"),
				Untagged: s.hasText(v, "flags", "Egress Untagged"),
			}
			e.End = e.ID
			if m := v.get("vlanEnd"); m != nil {
				e.End = uint16(s.number(v, "vlanEnd", 12))
				if e.End < e.ID {
					s.failAt(m, "vlanEnd: before the first VLAN of the range")
				}
			}
			n.BridgeVLAN = append(n.BridgeVLAN, e)
		})
	})
}

type vlanEntryJSON struct {
	VLAN  uint16   `json:"vlan"`
	End   uint16   `json:"vlanEnd,omitempty"`
	Flags []string `json:"flags,omitempty"`
}

type vlanPortJSON struct {
	Ifname string          `json:"ifname"`
	VLANs  []vlanEntryJSON `json:"vlans"`
}

func writeBridgeVLAN(n *netstack.Namespace) ([]byte, error) {
	var all []vlanPortJSON
	for _, e := range n.BridgeVLAN {
		if len(all) == 0 || all[len(all)-1].Ifname != e.Dev {
			all = append(all, vlanPortJSON{Ifname: e.Dev})
		}
		j := vlanEntryJSON{VLAN: e.ID}
		if e.End != e.ID {
			j.End = e.End
		}
		if e.PVID {
			j.Flags = append(j.Flags, "PVID")
		}
		if e.Untagged {
			j.Flags = append(j.Flags, "Egress Untagged")
		}
		last := &all[len(all)-1]
		last.VLANs = append(last.VLANs, j)
	}
	return encode(all)
}
