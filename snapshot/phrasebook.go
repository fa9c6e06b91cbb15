package snapshot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/maphash"
	"strconv"
	"sync"
)

// phrasebook is a dump of rules by which those of other nodes are written down: as the places in it where
// their pieces are. The rules of kube-proxy are nearly the same on all nodes of a cluster, but come
// in other orders, and nftables numbers them on each node, so that what compresses a text alone
// finds little of that.
type phrasebook struct {
	shelf   *shelf
	seed    maphash.Seed
	text    []byte // of the pieces, without handles
	phrases []phrase
	known   map[uint64]int32 // where a piece is in phrases, by its hash
	users   int              // guarded by Store.mu
}

// phrase is a piece of a text: a line, or an object of nftables.
type phrase struct {
	start  uint32
	handle int32 // where in it the handle was; -1 if it has none
}

// minPhrase is the length of the shortest piece, but for the last.
const minPhrase = 24

func newPhrasebook(text []byte) *phrasebook {
	b := &phrasebook{seed: maphash.MakeSeed(), known: make(map[uint64]int32)}
	for len(text) > 0 {
		var p piece
		p, text = nextPiece(text)
		h := b.hash(&p)
		if _, ok := b.find(h, &p); ok {
			continue
		}
		b.known[h] = int32(len(b.phrases))
		b.phrases = append(b.phrases, phrase{uint32(len(b.text)), int32(p.at)})
		b.text = append(append(b.text, p.head...), p.tail...)
	}
	b.text = bytes.Clone(b.text)
	return b
}

// size is about what it takes, in bytes.
func (b *phrasebook) size() int64 { return int64(len(b.text) + 32*len(b.phrases)) }

// piece is a part of a text: the handle is between head and tail.
type piece struct {
	head, tail []byte
	handle     uint64
	at         int // the length of head, or -1: all is tail
}

// nextPiece splits a text after its first piece: ahead of a line, of a chain or a rule of nftables, or of an element
// of a map.
func nextPiece(text []byte) (p piece, rest []byte) {
	end := min(minPhrase, len(text))
	for ; end < len(text); end++ {
		c := text[end]
		if c == '\n' {
			end++
			break
		}
		if c == '{' && (bytes.HasPrefix(text[end:], []byte(`{"rule"`)) || bytes.HasPrefix(text[end:], []byte(`{"chain"`))) ||
			c == '[' && bytes.HasPrefix(text[end:], []byte(`[{"concat"`)) {
			break
		}
	}
	text, rest = text[:end], text[end:]
	p.tail, p.at = text, -1
	const key = `"handle":`
	at := bytes.Index(text, []byte(key))
	if at < 0 {
		return p, rest
	}
	at += len(key)
	if at < len(text) && text[at] == ' ' {
		at++
	}
	if h, digits := leadingHandle(text[at:]); digits > 0 {
		p = piece{head: text[:at], tail: text[at+digits:], handle: h, at: at}
	}
	return p, rest
}

// leadingHandle returns the handle that a text begins with, and the number of its digits: 0 if there is none
// that would be written the same again.
func leadingHandle(text []byte) (handle uint64, digits int) {
	for digits < len(text) && '0' <= text[digits] && text[digits] <= '9' {
		digits++
	}
	handle, err := strconv.ParseUint(string(text[:digits]), 10, 63)
	if err != nil || digits > 1 && text[0] == '0' {
		return 0, 0
	}
	return handle, digits
}

// begins says whether a text begins with a phrase, and with what handle.
func (b *phrasebook) begins(n int, text []byte) (p piece, rest []byte, ok bool) {
	if n == len(b.phrases) {
		return p, nil, false
	}
	phrase, at := b.phrase(n)
	p, rest = piece{tail: phrase, at: at}, text
	if at >= 0 {
		if !bytes.HasPrefix(text, phrase[:at]) {
			return p, nil, false
		}
		handle, digits := leadingHandle(text[at:])
		if digits == 0 {
			return p, nil, false
		}
		p, rest = piece{phrase[:at], phrase[at:], handle, at}, text[at+digits:]
	}
	rest, ok = bytes.CutPrefix(rest, p.tail)
	return p, rest, ok
}

func (b *phrasebook) hash(p *piece) uint64 {
	var h maphash.Hash
	h.SetSeed(b.seed)
	_, _ = h.Write(p.head)
	_, _ = h.Write(p.tail)
	return h.Sum64()
}

// find returns the number of the phrase that a piece is, but for the handle.
func (b *phrasebook) find(hash uint64, p *piece) (int, bool) {
	n, ok := b.known[hash]
	if !ok {
		return 0, false
	}
	text, handle := b.phrase(int(n))
	return int(n), handle == p.at && bytes.HasPrefix(text, p.head) && bytes.Equal(text[len(p.head):], p.tail)
}

func (b *phrasebook) phrase(n int) (text []byte, handle int) {
	end := len(b.text)
	if n+1 < len(b.phrases) {
		end = int(b.phrases[n+1].start)
	}
	return b.text[b.phrases[n].start:end], int(b.phrases[n].handle)
}

// write writes a text down by the phrasebook: what is not in it, its length first, and a phrase, by turns. The phrase
// is told by how many lie between the one before and it, its handle by how much greater it is. Unlike is
// the length of all that is not in the phrasebook.
func (b *phrasebook) write(text []byte) (written []byte, unlike int) {
	next, last, from := 0, uint64(0), text
	for len(text) > 0 {
		n := next // most often, what follows there follows here
		p, rest, ok := b.begins(n, text)
		if !ok {
			p, rest = nextPiece(text)
			if n, ok = b.find(b.hash(&p), &p); !ok {
				text = rest
				continue
			}
		}
		own := from[:len(from)-len(text)]
		written = append(binary.AppendUvarint(written, uint64(len(own))), own...)
		written = binary.AppendVarint(written, int64(n-next))
		if p.at >= 0 {
			written = binary.AppendVarint(written, int64(p.handle-last))
			last = p.handle
		}
		unlike += len(own)
		next, text, from = n+1, rest, rest
	}
	if len(from) > 0 {
		written = append(binary.AppendUvarint(written, uint64(len(from))), from...)
		unlike += len(from)
	}
	return written, unlike
}

var errPhrases = errors.New("the phrases are not those of the text")

// read returns the text, of that size, that was written.
func (b *phrasebook) read(written []byte, size int64) ([]byte, error) {
	text := make([]byte, 0, size)
	next, last := 0, uint64(0)
	for len(written) > 0 {
		own, n := binary.Uvarint(written)
		if n <= 0 || own > uint64(len(written)-n) {
			return nil, errPhrases
		}
		text, written = append(text, written[n:n+int(own)]...), written[n+int(own):]
		if len(written) == 0 {
			break
		}
		skip, n := binary.Varint(written)
		written = written[max(n, 0):]
		next += int(skip)
		if n <= 0 || next < 0 || next >= len(b.phrases) {
			return nil, errPhrases
		}
		phrase, handle := b.phrase(next)
		next++
		if handle >= 0 {
			more, n := binary.Varint(written)
			if n <= 0 {
				return nil, errPhrases
			}
			last += uint64(more)
			written = written[n:]
			text = strconv.AppendUint(append(text, phrase[:handle]...), last, 10)
			phrase = phrase[handle:]
		}
		text = append(text, phrase...)
	}
	if int64(len(text)) != size {
		return nil, errPhrases
	}
	return text, nil
}

// sharedFiles are those that are like those of other nodes.
var sharedFiles = []string{"iptables-save.txt", "ip6tables-save.txt", "iptables-save-legacy.txt", "ip6tables-save-legacy.txt", "nft.json"}

// shelf has the phrasebook for files of one name.
type shelf struct {
	mu   sync.Mutex
	book *phrasebook
	// misses are texts since the last that the phrasebook was good for.
	misses int
}

const (
	// maxUnlike is the part of a text that may be in no phrase.
	maxUnlike = 0.5
	// maxMisses is after how many texts in a row that are unlike the phrasebook another one is made.
	maxMisses = 8
	// maxRatio is to which part texts of rules are compressed: what is smaller then is no phrasebook,
	// of which all is kept.
	maxRatio = 40
)

// shrink writes the content down by the phrasebook, if that is good for it. The second text of a kind
// makes the phrasebook.
func (s *shelf) shrink(b *blob, content []byte) {
	s.mu.Lock()
	if (s.book == nil && s.misses > 0 || s.misses >= maxMisses) && len(content) <= maxRatio*len(b.packed) {
		s.book, s.misses = newPhrasebook(content), 0
		s.book.shelf = s
	}
	book := s.book
	s.mu.Unlock()
	good := false
	if book != nil {
		written, unlike := book.write(content)
		if good = float64(unlike) <= maxUnlike*float64(len(content)); good {
			b.packed, b.book = b.packer.pack(written), book
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.book != book:
	case good:
		s.misses = 0
	default:
		s.misses++
	}
}

// remove lets go of a phrasebook by which nothing is written any more.
func (s *shelf) remove(b *phrasebook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.book == b {
		s.book = nil
	}
}
