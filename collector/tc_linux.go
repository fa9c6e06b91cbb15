package collector

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"
	"time"

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
	// Options are those of filters, and of qdiscs that may drop what they have room for.
	Options tcOptions `json:"options,omitempty"`

	index  int
	handle uint32
}

var errShortOptions = errors.New("its options are too short")

// classless are qdiscs that take no filters: the usual ones.
var classless = []string{"noqueue", "pfifo_fast", "pfifo", "bfifo", "mq", "tbf", "netem", "noop", "blackhole"}

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
		// One without a handle is the kernel's own choice for the device.
		if len(filters) > 0 || qdisc.handle != 0 {
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
			if e.Options, err = qdiscOptions(e.Kind, options); err != nil {
				return e, fmt.Errorf("qdisc %s of %s: %w", e.Kind, e.Dev, err)
			}
		}
		return e, nil
	})
}

// Sizes and attributes of the options of qdiscs (linux/pkt_sched.h).
const (
	sizeofTBF   = 36 // struct tc_tbf_qopt
	sizeofNetem = 24 // struct tc_netem_qopt

	tcaTBFParms, tcaTBFRate64, tcaTBFPRate64   = 1, 4, 5
	tcaNetemCorrupt, tcaNetemLoss, tcaNetemECN = 4, 5, 7
	netemLossStates, netemLossGilbertElliott   = 1, 2
)

// qdiscOptions reads what makes a qdisc drop what it has room for.
func qdiscOptions(kind string, raw []byte) (tcOptions, error) {
	var o tcOptions
	u32 := func(b []byte, at int) uint32 { return binary.NativeEndian.Uint32(b[at:]) }
	switch kind {
	case "pfifo", "bfifo": // struct tc_fifo_qopt
		if len(raw) < 4 {
			return nil, errShortOptions
		}
		o.add("limit", u32(raw, 0))
	case "tbf":
		a, err := parseTC(raw)
		if err != nil {
			return nil, err
		}
		parms := a.take(tcaTBFParms, sizeofTBF)
		if parms == nil {
			return nil, errShortOptions
		}
		rate := uint64(u32(parms, 8))
		if b := a.take(tcaTBFRate64, 8); b != nil {
			rate = binary.NativeEndian.Uint64(b)
		}
		// The burst is a time in units of 64 ns (PSCHED_SHIFT).
		high, low := bits.Mul64(rate, uint64(u32(parms, 28))*64)
		burst := uint64(math.MaxUint32)
		if high < uint64(time.Second) {
			burst, _ = bits.Div64(high, low, uint64(time.Second))
		}
		o.add("rate", rate)
		o.add("burst", burst)
		o.add("limit", u32(parms, 24))
		if peak := u32(parms, 20); peak != 0 || a[tcaTBFPRate64] != nil {
			o.add("peakrate", peak)
		}
	case "netem":
		if len(raw) < sizeofNetem {
			return nil, errShortOptions
		}
		a, err := parseTC(raw[sizeofNetem:])
		if err != nil {
			return nil, err
		}
		share := func(v uint32) float64 { return float64(v) / math.MaxUint32 }
		o.add("limit", u32(raw, 4))
		if loss := u32(raw, 8); loss != 0 {
			o.add("loss-random", tcOptions{{"loss", share(loss)}})
		}
		if b := a.take(tcaNetemLoss, 0); b != nil {
			models, err := parseTC(b)
			if err != nil {
				return nil, err
			}
			if models[netemLossStates] != nil {
				o.add("loss-state", tcOptions{})
			}
			if models[netemLossGilbertElliott] != nil {
				o.add("loss-gemodel", tcOptions{})
			}
		}
		if b := a.take(tcaNetemCorrupt, 8); b != nil && u32(b, 0) != 0 {
			o.add("corrupt", tcOptions{{"corrupt", share(u32(b, 0))}})
		}
		if b := a.take(tcaNetemECN, 4); b != nil {
			o.add("ecn", u32(b, 0) != 0)
		}
	}
	return o, nil
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
