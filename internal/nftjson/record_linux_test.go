package nftjson

import (
	"bytes"
	"encoding/binary"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var updateMessages = flag.Bool("record", false, "write testdata/messages.bin from the rule set of this network namespace")

// TestRecord records what the kernel says of the rule set of this namespace,
// rule by rule, after those that are recorded already.
func TestRecord(t *testing.T) {
	if !*updateMessages {
		t.Skip("only with -record")
	}
	conn, err := openSocket()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.close()
	dump := func(request uint16, family uint8, body []byte) (list [][]byte, families []uint8) {
		err := conn.dump(request, family, body, func(family uint8, body []byte) error {
			list, families = append(list, bytes.Clone(body)), append(families, family)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return list, families
	}
	key := func(family uint8, table string) string { return string(rune(family)) + table }
	nameOf := func(body []byte, number int) string {
		name := ""
		_ = each(body, func(n int, value []byte) error {
			if n == number {
				name = cString(value)
			}
			return nil
		})
		return name
	}
	tables := make(map[string][]byte)
	bodies, families := dump(unix.NFT_MSG_GETTABLE, 0, nil)
	for i, body := range bodies {
		tables[key(families[i], nameOf(body, 1))] = record(nil, recordTable, families[i], body)
	}
	type recordedSet struct {
		table, name string
		data        []byte
	}
	var sets []recordedSet
	bodies, families = dump(unix.NFT_MSG_GETSET, 0, nil)
	for i, body := range bodies {
		s := recordedSet{table: nameOf(body, 1), name: nameOf(body, setName)}
		s.data = record(nil, recordSet, families[i], body)
		e := netlink.NewAttributeEncoder()
		e.String(unix.NFTA_SET_ELEM_LIST_TABLE, s.table)
		e.String(unix.NFTA_SET_ELEM_LIST_SET, s.name)
		request, _ := e.Encode()
		elements, _ := dump(unix.NFT_MSG_GETSETELEM, families[i], request)
		for _, body := range elements {
			s.data = record(s.data, recordElements, families[i], body)
		}
		s.table = key(families[i], s.table)
		sets = append(sets, s)
	}
	var out []byte
	write := func(recording []byte) {
		out = binary.BigEndian.AppendUint32(out, uint32(len(recording)))
		out = append(out, recording...)
	}
	for _, s := range sets {
		if !strings.HasPrefix(s.name, "__") {
			write(slices.Concat(tables[s.table], s.data))
		}
	}
	for kind, request := range map[uint8]uint16{recordChain: unix.NFT_MSG_GETCHAIN, recordObject: unix.NFT_MSG_GETOBJ, recordRule: unix.NFT_MSG_GETRULE} {
		bodies, families = dump(request, 0, nil)
		for i, body := range bodies {
			table := key(families[i], nameOf(body, 1))
			recording := slices.Clone(tables[table])
			for _, s := range sets {
				if kind == recordRule && s.table == table && bytes.Contains(body, append([]byte(s.name), 0)) {
					recording = append(recording, s.data...)
				}
			}
			write(record(recording, kind, families[i], body))
		}
	}
	old, _ := os.ReadFile("testdata/messages.bin")
	if err := os.WriteFile("testdata/messages.bin", append(old, out...), 0o644); err != nil {
		t.Fatal(err)
	}
}
