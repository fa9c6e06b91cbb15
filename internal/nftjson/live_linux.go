package nftjson

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// dumpAttempts bounds how often a dump is repeated that the kernel marked as
// inconsistent, because the rule set changed while it was written.
const dumpAttempts = 5

// ErrInterrupted is returned when the rule set kept changing while it was read.
var ErrInterrupted = errors.New("the rule set kept changing while it was read")

// Live returns the rule set of the namespace of the socket. device names the
// interface with an index; "" is one that it does not know.
func Live(conn *netlink.Conn, device func(index int) string) ([]byte, error) {
	s := newAssembler(device)
	for _, part := range []struct {
		what    string
		request uint16
		read    func(family uint8, body []byte) error
	}{
		{"tables", unix.NFT_MSG_GETTABLE, s.table},
		{"chains", unix.NFT_MSG_GETCHAIN, s.chain},
		{"sets", unix.NFT_MSG_GETSET, s.set},
		{"objects", unix.NFT_MSG_GETOBJ, s.object},
		{"flow tables", unix.NFT_MSG_GETFLOWTABLE, s.flowtable},
	} {
		if err := dumpAll(conn, part.request, 0, nil, part.read); err != nil {
			return nil, fmt.Errorf("list the %s of nftables: %w", part.what, err)
		}
	}
	for _, t := range s.tables {
		for _, set := range t.setOrder {
			if err := readElements(conn, t, set); err != nil {
				return nil, fmt.Errorf("list the elements of set %s %s %s: %w", t.familyName(), t.name, set.name, err)
			}
		}
	}
	if err := dumpAll(conn, unix.NFT_MSG_GETRULE, 0, nil, s.rule); err != nil {
		return nil, fmt.Errorf("list the rules of nftables: %w", err)
	}
	return s.result()
}

func readElements(conn *netlink.Conn, t *table, set *set) error {
	e := netlink.NewAttributeEncoder()
	e.String(unix.NFTA_SET_ELEM_LIST_TABLE, t.name)
	e.String(unix.NFTA_SET_ELEM_LIST_SET, set.name)
	body, err := e.Encode()
	if err != nil {
		return err
	}
	return dumpAll(conn, unix.NFT_MSG_GETSETELEM, t.family, body, func(_ uint8, body []byte) error {
		var a attributes
		if err := a.parse(body, "elements", known(unix.NFTA_SET_ELEM_LIST_TABLE, unix.NFTA_SET_ELEM_LIST_SET, unix.NFTA_SET_ELEM_LIST_ELEMENTS)); err != nil {
			return err
		}
		return set.readElements(a[unix.NFTA_SET_ELEM_LIST_ELEMENTS])
	})
}

// dumpAll asks for all objects of a kind, of one family or of all, and reads
// them. A dump is read only once it is whole.
func dumpAll(conn *netlink.Conn, request uint16, family uint8, body []byte, read func(family uint8, body []byte) error) error {
	message := netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | request), Flags: netlink.Request | netlink.Dump},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, body...),
	}
attempts:
	for range dumpAttempts {
		replies, err := conn.Execute(message)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for _, reply := range replies {
			if reply.Header.Flags&netlink.DumpInterrupted != 0 {
				continue attempts
			}
		}
		for _, reply := range replies {
			if len(reply.Data) < nfgenmsg {
				return fmt.Errorf("netlink message of %d bytes", len(reply.Data))
			}
			if err := read(reply.Data[0], reply.Data[nfgenmsg:]); err != nil {
				return err
			}
		}
		return nil
	}
	return ErrInterrupted
}
