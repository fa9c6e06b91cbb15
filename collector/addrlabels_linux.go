package collector

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// Of <linux/if_addrlabel.h>.
const (
	ifaddrlblmsg = 12
	ifalAddress  = 1
	ifalLabel    = 2
)

// readAddrLabels reads the labels of IPv6 addresses, and keeps them if they are not the kernel's own.
func readAddrLabels(_ context.Context, t *target) error {
	conn, err := t.rtnetlink()
	if err != nil {
		return err
	}
	body := make([]byte, ifaddrlblmsg)
	body[0] = unix.AF_INET6
	labels, err := listOf(conn, unix.RTM_GETADDRLABEL, body, t.decodeAddrLabel)
	if err != nil {
		return err
	}
	// The kernel has those of one length in any order.
	slices.SortFunc(labels, func(a, b netstack.AddrLabel) int {
		return cmp.Or(b.Prefix.Bits()-a.Prefix.Bits(), cmp.Compare(b.Dev, a.Dev), a.Prefix.Addr().Compare(b.Prefix.Addr()))
	})
	if !slices.Equal(labels, netstack.KernelAddrLabels()) {
		t.ns.AddrLabels = append([]netstack.AddrLabel{}, labels...)
	}
	return nil
}

func (t *target) decodeAddrLabel(body []byte) (netstack.AddrLabel, error) {
	var l netstack.AddrLabel
	var prefix netip.Addr
	err := attributes(body, ifaddrlblmsg, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case ifalAddress:
			prefix = addr(ad)
		case ifalLabel:
			l.Label = ad.Uint32()
		}
		return nil
	})
	if err != nil {
		return l, fmt.Errorf("label of addresses: %w", err)
	}
	l.Prefix = netip.PrefixFrom(prefix, int(body[2]))
	l.Dev = t.device(int(binary.NativeEndian.Uint32(body[4:])))
	return l, nil
}
