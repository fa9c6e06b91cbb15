package simulator

import (
	"github.com/plumbline-net/plumbline/simulator/fabric"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// tag is a VLAN tag; the zero value is none.
type tag struct {
	protocol string // 802.1Q or 802.1ad
	id       uint16
}

// tags are the VLAN tags of a frame, the outermost first.
type tags [2]tag

func (t tags) tagged() bool { return t[0] != tag{} }

func (t tags) pop() tags { return tags{t[1]} }

// push adds a tag outside; a third one does not fit.
func (t tags) push(outer tag) (tags, bool) {
	if t[1] != (tag{}) {
		return t, false
	}
	return tags{outer, t[0]}, true
}

// vlanTag is the tag that a VLAN device adds and takes.
func vlanTag(link *netstack.Link) tag {
	if link.VLAN == nil {
		return tag{}
	}
	return tag{link.VLAN.Protocol, link.VLAN.ID}
}

// vlanUpper is the VLAN device on a device that takes frames with these tags:
// vlan_do_receive.
func (w *World) vlanUpper(at *netstack.Link, t tags) (fabric.Port, bool) {
	for _, upper := range w.fabric.Uppers(at) {
		if upper.Link.Kind == "vlan" && vlanTag(upper.Link) == t[0] {
			return upper, true
		}
	}
	return fabric.Port{}, false
}

// vlanOf is what the bridge says of a VLAN at a port, or at the bridge itself.
func (h *host) vlanOf(dev string, id uint16) (untagged, member bool) {
	for _, v := range h.vlans[dev] {
		if v.ID <= id && id <= v.End {
			return v.Untagged, true
		}
	}
	return false, false
}

func (h *host) pvid(dev string) uint16 {
	for _, v := range h.vlans[dev] {
		if v.PVID {
			return v.ID
		}
	}
	return 0
}

// admit sorts a frame that comes to a bridge by a port, or from the bridge
// itself, into a VLAN: br_allowed_ingress. Inner are the tags left beside that
// of the VLAN; VLAN 0 is that of a bridge without VLANs.
func (h *host) admit(bridge *netstack.Link, dev string, t tags) (vlan uint16, inner tags, ok bool) {
	if bridge.Bridge == nil || !bridge.Bridge.VLANFiltering {
		return 0, t, true
	}
	if t.tagged() && t[0].protocol == vlanProtocol(bridge) {
		vlan, inner = t[0].id, t.pop()
	} else {
		vlan, inner = h.pvid(dev), t
	}
	_, member := h.vlanOf(dev, vlan)
	return vlan, inner, member && vlan != 0
}

// release gives a frame the tags with which it leaves the bridge by a port, or
// for the bridge itself: br_allowed_egress, br_handle_vlan.
func (h *host) release(bridge *netstack.Link, dev string, vlan uint16, inner tags) (tags, bool) {
	if bridge.Bridge == nil || !bridge.Bridge.VLANFiltering {
		return inner, true
	}
	untagged, member := h.vlanOf(dev, vlan)
	if !member || untagged {
		return inner, member
	}
	return inner.push(tag{vlanProtocol(bridge), vlan})
}

func vlanProtocol(bridge *netstack.Link) string {
	if p := bridge.Bridge.VLANProtocol; p != "" {
		return p
	}
	return "802.1Q"
}
