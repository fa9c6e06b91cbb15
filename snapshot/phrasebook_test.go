package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/internal/proxyrules"
)

// oddTexts are not as tools write them, or look like what is written apart.
var oddTexts = []string{
	"", "\n", "x", strings.Repeat("\n", 100), `"handle":`, `{"rule": {"handle": 007}}`, `{"rule": {"handle": 0}}`, `{"rule": {"handle": -1}}`,
	`{"rule": {"chain": "long enough", "handle": 18446744073709551616, "expr": []}}`, `{"rule": {"chain": "long enough", "handle": 9223372036854775807}}`,
	`{"rule": {"chain": "long enough", "handle": 9223372036854775808}}`, `{"rule": {"handle":5, "comment": "{\"rule\" \"handle\": 6"}}{"rule"{"rule"[{"concat"`,
	"\x00\xff{\"chain\": \"\xfe\", \"handle\": 12", `{"chain": {"name": "ends with a handle", "handle": 7`,
}

// TestWhatIsWrittenByAPhrasebookIsReadAsItWas writes rules by those of other nodes, of which some are changed at random.
func TestWhatIsWrittenByAPhrasebookIsReadAsItWas(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	spec := proxyrules.Spec{Services: 30, Endpoints: 3, NodePortEvery: 5, Idle: 2}
	texts := [][]byte{spec.IPTables(), proxyrules.Numbered(spec.NFTablesJSON(), 7)}
	for _, text := range oddTexts {
		texts = append(texts, []byte(text))
	}
	spec.Order = 1
	books := []*phrasebook{newPhrasebook(spec.IPTables()), newPhrasebook(proxyrules.Numbered(spec.NFTablesJSON(), 900)), newPhrasebook(nil)}
	for _, text := range texts {
		books = append(books, newPhrasebook(text))
	}
	for n := range 2000 {
		text := bytes.Clone(texts[n%len(texts)])
		for range rnd.IntN(4) {
			if len(text) == 0 {
				break
			}
			i, j := rnd.IntN(len(text)), rnd.IntN(len(text))
			switch rnd.IntN(4) {
			case 0:
				text[i] = byte(rnd.Uint32())
			case 1:
				text = append(text[:min(i, j)], text[max(i, j):]...)
			case 2:
				text = append(text[:i:i], append(bytes.Clone(text[min(i, j):max(i, j)]), text[i:]...)...)
			case 3:
				text = append(text[:i:i], append([]byte(oddTexts[rnd.IntN(len(oddTexts))]), text[i:]...)...)
			}
		}
		b := books[rnd.IntN(len(books))]
		written, unlike := b.write(text)
		if unlike > len(text) {
			t.Fatalf("%d of %d bytes are unlike", unlike, len(text))
		}
		if got, err := b.read(written, int64(len(text))); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%v: %d bytes\n%q\nare read as\n%q", err, len(text), text, got)
		}
		if len(written) == 0 {
			continue
		}
		// What is torn is an error, or another text of that size: it does not panic.
		if i := rnd.IntN(len(written)); rnd.IntN(2) == 0 {
			written = written[:i]
		} else {
			written[i] ^= byte(1 + rnd.IntN(255))
		}
		if got, err := b.read(written, int64(len(text))); err != nil && !errors.Is(err, errPhrases) || err == nil && len(got) != len(text) {
			t.Fatalf("%v, %d bytes", err, len(got))
		}
	}
}

func FuzzPhrasebook(f *testing.F) {
	spec := proxyrules.Spec{Services: 2, Endpoints: 2}
	for mode, text := range map[string][]byte{"iptables": spec.IPTables(), "nftables": proxyrules.Numbered(spec.NFTablesJSON(), 7)} {
		f.Add(text, rulesOf(mode, spec, 2))
	}
	for _, text := range oddTexts {
		f.Add([]byte(text), []byte(text+text))
	}
	f.Fuzz(func(t *testing.T, other, text []byte) {
		b := newPhrasebook(other)
		written, _ := b.write(text)
		if got, err := b.read(written, int64(len(text))); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%v: read as\n%q", err, got)
		}
		_, _ = b.read(other, int64(len(text))) // does not panic
	})
}

// TestRulesOfOtherNodesAreWrittenInAFewBytes has another order and other handles.
func TestRulesOfOtherNodesAreWrittenInAFewBytes(t *testing.T) {
	for _, mode := range []string{"iptables", "nftables", "nftables with spaces"} {
		text := func(node int) []byte {
			name, spaces, _ := strings.Cut(mode, " ")
			text := rulesOf(name, proxyrules.Spec{Services: 200, Endpoints: 5}, node)
			if spaces != "" { // as nft writes
				text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte(`":`), []byte(`": `)), []byte(`,`), []byte(`, `))
			}
			return text
		}
		other := text(2)
		written, unlike := newPhrasebook(text(1)).write(other)
		if packed := newPacker(1 << 30).pack(written); unlike > len(other)/100 || cap(packed) > len(other)/200 {
			t.Errorf("%s: %d bytes are %d, %d of them as they are, compressed %d in %d", mode, len(other), len(written), unlike, len(packed), cap(packed))
		}
	}
}

// TestAPhrasebookIsKeptAsLongAsItIsUsed has nodes come and go.
func TestAPhrasebookIsKeptAsLongAsItIsUsed(t *testing.T) {
	store, p := NewStore(), newPacker(1<<30)
	shelf := store.shelves["nft.json"]
	add := func(content []byte) (*blob, Hash) {
		t.Helper()
		var hash Hash
		copy(hash[:], fmt.Sprint(len(store.blobs)))
		b := &blob{packed: p.pack(content), size: int64(len(content)), packer: p}
		shelf.shrink(b, content)
		b = store.add(hash, b)
		if got, err := b.Unpack(); err != nil || !bytes.Equal(got, content) {
			t.Fatalf("%v: %d bytes, not %d", err, len(got), len(content))
		}
		return b, hash
	}
	rules := func(services, node int) []byte {
		return rulesOf("nftables", proxyrules.Spec{Services: services, Endpoints: 5}, node)
	}
	alone, first := add(rules(20, 1))
	if alone.book != nil {
		t.Error("the rules of one node are written by some phrasebook")
	}
	made, second := add(rules(20, 2))
	more, third := add(rules(21, 3))
	if made.book == nil || more.book != made.book {
		t.Error("the rules of the second node are no phrasebook for those of the third")
	}
	// Others are unlike, until they are many.
	var unlike []Hash
	for n := range maxMisses {
		b, hash := add(rules(200+n%2, 4+n))
		if b.book != nil {
			t.Errorf("%d: rules are written by a phrasebook that has few of them", n)
		}
		unlike = append(unlike, hash)
	}
	later, hash := add(rules(200, 99))
	if later.book == nil || later.book == made.book {
		t.Error("there is no phrasebook for new rules")
	}
	if got, err := more.Unpack(); err != nil || !bytes.Equal(got, rules(21, 3)) {
		t.Errorf("%v: older rules cannot be read any more", err)
	}
	small, _ := add(bytes.Repeat([]byte("\n"), 1<<20))
	if small.book != nil {
		t.Error("what is no rules is written by a phrasebook")
	}
	store.release(append(unlike, first, second, third, hash))
	if blobs, size := store.Len(); blobs != 1 || size != int64(len(small.packed)) || shelf.book != nil {
		t.Errorf("%d blobs of %d bytes are left, and the phrasebook %v", blobs, size, shelf.book != nil)
	}
}
