package collector

import (
	"cmp"
	"context"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/internal/netlinklist"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func readBridgeVLAN(_ context.Context, t *target) error {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer handle.Close()
	vlans, err := netlinklist.Whole(handle.BridgeVlanList)
	if err != nil {
		return notSupported(err)
	}
	t.setBridgeVLAN(vlans)
	return nil
}

// setBridgeVLAN sorts the VLANs of each port and merges them into ranges.
func (t *target) setBridgeVLAN(vlans map[int32][]*nl.BridgeVlanInfo) {
	for index, entries := range vlans {
		dev := t.device(int(index))
		slices.SortFunc(entries, func(a, b *nl.BridgeVlanInfo) int { return cmp.Compare(a.Vid, b.Vid) })
		for _, entry := range entries {
			v := netstack.BridgeVLAN{Dev: dev, ID: entry.Vid, End: entry.Vid, PVID: entry.PortVID(), Untagged: entry.EngressUntag()}
			if last := len(t.ns.BridgeVLAN) - 1; last >= 0 && continues(t.ns.BridgeVLAN[last], v) {
				t.ns.BridgeVLAN[last].End = v.ID
				continue
			}
			t.ns.BridgeVLAN = append(t.ns.BridgeVLAN, v)
		}
	}
	slices.SortStableFunc(t.ns.BridgeVLAN, func(a, b netstack.BridgeVLAN) int {
		return cmp.Or(cmp.Compare(a.Dev, b.Dev), cmp.Compare(a.ID, b.ID))
	})
}

// continues says whether next extends the range of v, as bridge(8) prints it.
func continues(v, next netstack.BridgeVLAN) bool {
	return v.Dev == next.Dev && v.End+1 == next.ID && !v.PVID && !next.PVID && v.Untagged == next.Untagged
}
