package collector

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// tcmsg is the size of struct tcmsg.
const tcmsg = 20

// Parents of the filters of a clsact qdisc.
const (
	parentIngress = 0xfffffff2
	parentEgress  = 0xfffffff3
)

// tcEntry is a qdisc or a filter, with the keys that `tc -j` gives them.
type tcEntry struct {
	Dev string `json:"dev"`
	// Kind is "clsact", "bpf", "flower", …
	Kind   string `json:"kind"`
	Handle string `json:"handle,omitempty"` // of qdiscs
	Parent string `json:"parent,omitempty"`
	// Protocol and Pref are those of filters: a qdisc has none.
	Protocol string `json:"protocol,omitempty"`
	Pref     uint16 `json:"pref,omitempty"`
	Chain    uint32 `json:"chain,omitempty"`
	// Options are those of filters.
	Options tcOptions `json:"options,omitempty"`

	index  int
	handle uint32
}

// classless are qdiscs that take no filters: the usual ones.
var classless = []string{"noqueue", "pfifo_fast", "pfifo", "bfifo", "mq", "tbf", "netem", "noop"}

// readTC notes the filters of tc and the qdiscs that they hang on.
func readTC(_ context.Context, t *target) error {
	t.ns.TC.File = t.file("tc.json")
	conn, err := t.rtnetlink()
	if err != nil {
		return err
	}
	qdiscs, err := t.listTC(conn, unix.RTM_GETQDISC, 0, 0)
	if err != nil {
		return fmt.Errorf("read qdiscs: %w", err)
	}
	var entries []tcEntry
	for _, qdisc := range qdiscs {
		var parents []uint32
		switch {
		case qdisc.Kind == "clsact":
			parents = []uint32{parentIngress, parentEgress}
		case qdisc.Kind == "ingress":
			parents = []uint32{parentIngress}
		case qdisc.handle != 0 && !slices.Contains(classless, qdisc.Kind):
			parents = []uint32{qdisc.handle}
		}
		var filters []tcEntry
		for _, parent := range parents {
			found, err := t.listTC(conn, unix.RTM_GETTFILTER, qdisc.index, parent)
			if err != nil {
				return fmt.Errorf("read filters of %s: %w", qdisc.Dev, err)
			}
			for i := range found { // a shared block belongs to no device
				found[i].Dev, found[i].Parent = qdisc.Dev, tcParent(parent)
			}
			filters = append(filters, found...)
		}
		if len(filters) > 0 || qdisc.Kind == "clsact" || qdisc.Kind == "ingress" {
			entries = append(append(entries, qdisc), filters...)
		}
	}
	// Programs on tcx run where filters do: whoever knows of filters alone must
	// not see through them.
	programs, err := t.devicePrograms()
	if err != nil {
		return err
	}
	for _, p := range programs {
		kind, parent, _ := strings.Cut(p.Kind, "/")
		entries = append(entries, tcEntry{Dev: p.Dev, Kind: kind, Parent: parent, Protocol: "all"})
	}
	if len(entries) > 0 {
		t.ns.TC.Data, err = json.Marshal(entries)
	}
	return err
}

func (t *target) listTC(conn dumper, request uint16, index int, parent uint32) ([]tcEntry, error) {
	body := make([]byte, tcmsg)
	binary.NativeEndian.PutUint32(body[4:], uint32(index))
	binary.NativeEndian.PutUint32(body[12:], parent)
	return listOf(conn, request, body, func(body []byte) (e tcEntry, err error) {
		var options []byte
		err = attributes(body, tcmsg, func(ad *netlink.AttributeDecoder) error {
			switch ad.Type() {
			case nl.TCA_KIND:
				e.Kind = ad.String()
			case nl.TCA_CHAIN:
				e.Chain = ad.Uint32()
			case nl.TCA_OPTIONS:
				options = ad.Bytes()
			}
			return nil
		})
		if err != nil {
			return e, err
		}
		e.index = int(int32(binary.NativeEndian.Uint32(body[4:])))
		e.handle = binary.NativeEndian.Uint32(body[8:])
		e.Dev = t.device(e.index)
		e.Parent = tcParent(binary.NativeEndian.Uint32(body[12:]))
		if request == unix.RTM_GETTFILTER {
			info := binary.NativeEndian.Uint32(body[16:])
			e.Pref = uint16(info >> 16)
			e.Protocol = etherType(info)
			if e.Options, err = t.filterOptions(e.Kind, e.handle, options); err != nil {
				return e, fmt.Errorf("%s filter %#x of %s: %w", e.Kind, e.handle, e.Dev, err)
			}
		} else {
			e.Handle = fmt.Sprintf("%x:", e.handle>>16)
		}
		return e, nil
	})
}

// etherType names the protocol in the low half of tcm_info, which is in
// network byte order.
func etherType(info uint32) string {
	b := binary.NativeEndian.AppendUint16(nil, uint16(info))
	switch protocol := binary.BigEndian.Uint16(b); protocol {
	case unix.ETH_P_ALL:
		return "all"
	case unix.ETH_P_IP:
		return "ip"
	case unix.ETH_P_IPV6:
		return "ipv6"
	case unix.ETH_P_ARP:
		return "arp"
	case unix.ETH_P_8021Q:
		return "802.1Q"
	default:
		return fmt.Sprintf("[%d]", protocol)
	}
}

func tcParent(parent uint32) string {
	switch parent {
	case 0:
		return ""
	case 0xffffffff:
		return "root"
	case parentIngress:
		return "ingress"
	case parentEgress:
		return "egress"
	}
	if minor := parent & 0xffff; minor != 0 {
		return fmt.Sprintf("%x:%x", parent>>16, minor)
	}
	return fmt.Sprintf("%x:", parent>>16)
}
