package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of <linux/netfilter/ipset/ip_set.h>.
const (
	ipsetProtocol        = 6 // understood by all kernels since 2011
	ipsetProtocolIndex   = 7 // and since Linux 4.20 this one, which tells the indices of sets, too
	ipsetFlagListSetName = 1 << 1
)

// readIPSet prints the sets, if there are any: the tool would load the modules.
func readIPSet(ctx context.Context, t *target) error {
	t.ns.IPSet.File = t.file("ipset-save.txt")
	if !t.host.has("ip_set", "ip_set_utest") {
		return fmt.Errorf("ip_set is not loaded: %w", ErrNotSupported)
	}
	some, err := anySets()
	if err != nil || !some {
		return err
	}
	t.ns.IPSet.Data, err = t.host.tools.run(ctx, "ipset", "save")
	return err
}

// anySets asks for the names of the sets of the calling thread's namespace.
func anySets() (bool, error) {
	conn, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return false, notSupported(err)
	}
	defer conn.Close()
	sets, err := namesOfSets(conn, ipsetProtocol)
	switch {
	case errors.Is(err, unix.EINVAL):
		// A kernel without ipset knows no such subsystem.
		return false, fmt.Errorf("%w: %w", ErrNotSupported, err)
	case err != nil:
		return false, fmt.Errorf("ask for the names of the sets: %w", err)
	}
	return len(sets) > 0, nil
}

// namesOfSets lists the messages about all sets, which have their names, and of ipsetProtocolIndex their indices.
func namesOfSets(conn *netlinkConn, protocol byte) ([][]byte, error) {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: nl.IPSET_ATTR_PROTOCOL, Data: []byte{protocol}},
		{Type: nl.IPSET_ATTR_FLAGS | unix.NLA_F_NET_BYTEORDER, Data: binary.BigEndian.AppendUint32(nil, ipsetFlagListSetName)},
	})
	if err != nil {
		return nil, err
	}
	return dump(conn, unix.NFNL_SUBSYS_IPSET<<8|nl.IPSET_CMD_LIST, append([]byte{unix.AF_INET, 0, 0, 0}, attrs...))
}
