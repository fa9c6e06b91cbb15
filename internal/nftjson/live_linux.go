package nftjson

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// liveAttempts bounds how often a rule set is read again that changed meanwhile.
const liveAttempts = 5

// Live returns the rule set of the namespace that the calling thread is in.
// device names the interface with an index; "" is one that it does not know.
//
// What is returned may be of several generations: the caller compares that
// before and after.
func Live(device func(index int) string) ([]byte, error) {
	var data []byte
	var err error
	for range liveAttempts {
		if data, err = live(device); !errors.Is(err, errInterrupted) {
			break
		}
	}
	return data, err
}

func live(device func(index int) string) ([]byte, error) {
	conn, err := openSocket()
	if err != nil {
		return nil, err
	}
	defer conn.close()
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
		if err := conn.dump(part.request, 0, nil, part.read); err != nil {
			return nil, fmt.Errorf("list the %s of nftables: %w", part.what, err)
		}
	}
	for _, t := range s.tables {
		for _, set := range t.setOrder {
			if err := conn.elements(t, set); err != nil {
				return nil, fmt.Errorf("list the elements of set %s %s %s: %w", t.familyName(), t.name, set.name, err)
			}
		}
	}
	if err := conn.dump(unix.NFT_MSG_GETRULE, 0, nil, s.rule); err != nil {
		return nil, fmt.Errorf("list the rules of nftables: %w", err)
	}
	return s.result()
}

// elements reads those of a set.
func (s *socket) elements(t *table, set *set) error {
	e := netlink.NewAttributeEncoder()
	e.String(unix.NFTA_SET_ELEM_LIST_TABLE, t.name)
	e.String(unix.NFTA_SET_ELEM_LIST_SET, set.name)
	body, err := e.Encode()
	if err != nil {
		return err
	}
	return s.dump(unix.NFT_MSG_GETSETELEM, t.family, body, func(_ uint8, body []byte) error {
		return set.readMessage(bytes.Clone(body))
	})
}
