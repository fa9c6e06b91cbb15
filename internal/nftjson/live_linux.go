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
func Live(device func(index int) string) (rules *RuleSet, err error) {
	for range liveAttempts {
		if rules, err = live(device); !errors.Is(err, errInterrupted) {
			break
		}
	}
	return rules, err
}

func live(device func(index int) string) (*RuleSet, error) {
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
				return nil, err
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
	err = s.dump(unix.NFT_MSG_GETSETELEM, t.family, body, func(_ uint8, body []byte) error {
		return set.readMessage(bytes.Clone(body))
	})
	if err != nil {
		return fmt.Errorf("list the elements of %s: %w", set.in(t), err)
	}
	return nil
}

// Refresh reads what may have changed of a rule set whose generation is the
// same: Data is another only if elements are, not for the time that they have
// left. After an error the rule set is of no more use.
func (r *RuleSet) Refresh(device func(index int) string) error {
	if len(r.volatile) == 0 {
		return nil
	}
	conn, err := openSocket()
	if err != nil {
		return err
	}
	defer conn.close()
	s := newAssembler(device)
	s.indices = r.indices
	changed := false
	for i := range r.volatile {
		v := &r.volatile[i]
		if err := conn.elements(v.table, v.set); err != nil {
			return err
		}
		sum, err := s.sum(v.table, v.set)
		if err != nil {
			return err
		}
		changed = changed || sum != v.sum
		v.sum = sum
	}
	if changed {
		if err := r.write(s); err != nil {
			return err
		}
	}
	for i := range r.volatile {
		r.volatile[i].set.elements = nil
	}
	return nil
}

// write writes the volatile sets with their elements between what is around them.
func (r *RuleSet) write(s *assembler) error {
	w := s.writer()
	w.out = make([]byte, 0, len(r.Data)+len(r.Data)/16)
	at := 0
	for i := range r.volatile {
		v := &r.volatile[i]
		w.out = append(w.out, r.Data[at:v.begin]...)
		at, v.begin = v.end, len(w.out)
		if err := w.set(&s.decoder, v.table, v.set); err != nil {
			return in(v.set.in(v.table), err)
		}
		v.end = len(w.out)
	}
	r.Data = append(w.out, r.Data[at:]...)
	return nil
}
