package snapshot

import (
	"sync"
)

// Store keeps blobs as long as a manifest names them: each once, however many
// nodes have it. They are kept compressed. It is safe for concurrent use.
type Store struct {
	mu      sync.Mutex
	blobs   map[Hash]*blob
	size    int64
	shelves map[string]*shelf // of texts that are like those of other nodes
}

// blob is one that is kept. It implements netstack.Packed.
type blob struct {
	packed []byte
	size   int64 // unpacked
	packer packer
	book   *phrasebook // by which the content is written; nil for none
	users  int         // guarded by Store.mu
}

// Unpack returns the content.
func (b *blob) Unpack() ([]byte, error) {
	if b.book == nil {
		return b.packer.unpack(b.packed, b.size)
	}
	written, err := b.packer.unpack(b.packed, -1)
	if err != nil {
		return nil, err
	}
	return b.book.read(written, b.size)
}

// NewStore returns an empty store.
func NewStore() *Store {
	s := &Store{blobs: make(map[Hash]*blob), shelves: make(map[string]*shelf)}
	for _, name := range sharedFiles {
		s.shelves[name] = new(shelf)
	}
	return s
}

// Len is the number of blobs, and Size what they take, compressed, in bytes, with what they are written by.
func (s *Store) Len() (blobs int, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.blobs), s.size
}

// use returns a blob that is there, and keeps it until it is released.
func (s *Store) use(hash Hash) (*blob, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[hash]
	if !ok {
		return nil, false
	}
	b.users++
	return b, true
}

// add keeps a blob until it is released, or the same that is there already.
func (s *Store) add(hash Hash, fresh *blob) *blob {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, ok := s.blobs[hash]
	if !ok {
		b = fresh
		s.blobs[hash] = b
		s.size += int64(len(b.packed))
		if b.book != nil {
			if b.book.users++; b.book.users == 1 {
				s.size += b.book.size()
			}
		}
	}
	b.users++
	return b
}

// release gives back one use of each.
func (s *Store) release(hashes []Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, hash := range hashes {
		b := s.blobs[hash]
		if b.users--; b.users == 0 {
			delete(s.blobs, hash)
			s.size -= int64(len(b.packed))
			if b.book == nil {
				continue
			}
			if b.book.users--; b.book.users == 0 {
				s.size -= b.book.size()
				b.book.shelf.remove(b.book)
			}
		}
	}
}
