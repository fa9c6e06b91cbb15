package nftjson

import (
	"encoding/binary"
	"encoding/json"
	"os"
	"strconv"
	"testing"
)

// A recording is a list of messages: a byte that says what each is about, its
// family, and its length in two bytes.
const (
	recordTable = iota
	recordChain
	recordSet
	recordElements
	recordObject
	recordFlowtable
	recordRule
	records
)

func record(to []byte, kind, family uint8, body []byte) []byte {
	to = append(to, kind, family)
	to = binary.BigEndian.AppendUint16(to, uint16(len(body)))
	return append(to, body...)
}

// replay reads a recording, and returns the rule set.
func replay(data []byte) ([]byte, error) {
	s := newAssembler(func(index int) string {
		if index == 1 {
			return "lo"
		}
		return ""
	})
	var last *set
	for len(data) >= 4 {
		kind, family, size := data[0]%records, data[1], int(binary.BigEndian.Uint16(data[2:]))
		body := data[4:min(4+size, len(data))]
		data = data[4+len(body):]
		var err error
		switch kind {
		case recordTable:
			err = s.table(family, body)
		case recordChain:
			err = s.chain(family, body)
		case recordSet:
			if err = s.set(family, body); err != nil {
				break
			}
			for _, t := range s.tables {
				if len(t.setOrder) > 0 {
					last = t.setOrder[len(t.setOrder)-1]
				}
			}
		case recordElements:
			if last != nil {
				err = last.readMessage(body)
			}
		case recordObject:
			err = s.object(family, body)
		case recordFlowtable:
			err = s.flowtable(family, body)
		case recordRule:
			err = s.rule(family, body)
		}
		if err != nil {
			return nil, err
		}
	}
	rules, err := s.result()
	if err != nil {
		return nil, err
	}
	return rules.Data, nil
}

// recordings are what the kernel said of the rules in testdata, each with the
// sets that it looks at.
func recordings(t testing.TB) [][]byte {
	t.Helper()
	data, err := os.ReadFile("testdata/messages.bin")
	if err != nil {
		t.Fatal(err)
	}
	var list [][]byte
	for len(data) >= 4 {
		size := int(binary.BigEndian.Uint32(data))
		list = append(list, data[4:4+size:4+size])
		data = data[4+size:]
	}
	return list
}

func TestRecordingsAreUnderstood(t *testing.T) {
	list := recordings(t)
	if len(list) < 500 {
		t.Fatalf("%d recordings", len(list))
	}
	for i, recording := range list {
		out, err := replay(recording)
		if err != nil || !json.Valid(out) {
			t.Errorf("recording %d: %v\n%s", i, err, out)
		}
	}
}

// Whatever the kernel says, it is an error or a document.
func FuzzMessages(f *testing.F) {
	for _, recording := range recordings(f) {
		f.Add(recording)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := replay(data)
		if err == nil && !json.Valid(out) {
			t.Errorf("no JSON: %s", strconv.Quote(string(out)))
		}
	})
}
