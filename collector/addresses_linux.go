package collector

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func readAddresses(_ context.Context, t *target) error {
	conn, err := t.rtnetlink()
	if err != nil {
		return err
	}
	addresses, err := listAddresses(conn)
	if err != nil {
		return err
	}
	for _, a := range addresses {
		a.Dev = t.device(a.index)
		t.ns.Addresses = append(t.ns.Addresses, a.Address)
	}
	return nil
}

// address is an address whose interface is still an index.
type address struct {
	netstack.Address
	index int
}

func listAddresses(conn dumper) ([]address, error) {
	return listOf(conn, unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), decodeAddress)
}

func decodeAddress(body []byte) (address, error) {
	var a address
	// IFA_ADDRESS is the other end of a point-to-point link; elsewhere it is
	// the address itself, and IPv6 leaves IFA_LOCAL out.
	var local, given netip.Addr
	var flags uint32
	err := attributes(body, unix.SizeofIfAddrmsg, func(ad *netlink.AttributeDecoder) error {
		switch ad.Type() {
		case unix.IFA_LOCAL:
			local = addr(ad)
		case unix.IFA_ADDRESS:
			given = addr(ad)
		case unix.IFA_FLAGS:
			flags = ad.Uint32()
		}
		return nil
	})
	if err != nil {
		return a, err
	}
	a.index = int(binary.NativeEndian.Uint32(body[4:]))
	a.Flags = netstack.AddressFlags(flags | uint32(body[2])) // IFA_FLAGS came in Linux 3.14
	a.Scope = netstack.Scope(body[3])
	switch {
	case !local.IsValid():
		local = given
	case given.IsValid() && given != local:
		a.Peer = given
	}
	a.Prefix = netip.PrefixFrom(local, int(body[1]))
	if !a.Prefix.IsValid() {
		return a, fmt.Errorf("address of interface %d has neither a local nor a given address", a.index)
	}
	return a, nil
}
