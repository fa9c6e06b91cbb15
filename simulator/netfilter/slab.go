package netfilter

// slab hands out small objects of large chunks. What a rule set is made of
// lives and dies together.
type slab[T any] struct {
	free  []T
	chunk int // length of the last chunk: they grow up to slabChunk
}

const slabChunk = 256

func (s *slab[T]) grow() {
	s.chunk = min(max(2*s.chunk, 8), slabChunk)
	s.free = make([]T, s.chunk)
}

// arena hands out lists that live and die together, again and again: reset takes
// all of them back.
type arena[T any] struct {
	chunks [][]T
	used   int // of chunks
	free   []T // of the last one in use
}

// Each chunk has twice as many elements as the one before, but the last ones.
const firstChunk, doublings = 64, 6

func (a *arena[T]) reset() { a.used, a.free = 0, nil }

// list returns a copy of list.
func (a *arena[T]) list(list []T) []T {
	n := len(list)
	for n > len(a.free) {
		if a.used == len(a.chunks) {
			a.chunks = append(a.chunks, make([]T, max(n, firstChunk<<min(a.used, doublings))))
		}
		a.free = a.chunks[a.used]
		a.used++
	}
	out := a.free[:n:n]
	copy(out, list)
	a.free = a.free[n:]
	return out
}

// one returns a copy of v.
func (s *slab[T]) one(v T) *T {
	if len(s.free) == 0 {
		s.grow()
	}
	p := &s.free[0]
	s.free = s.free[1:]
	*p = v
	return p
}

// list returns a copy of list.
func (s *slab[T]) list(list []T) []T {
	n := len(list)
	if n > len(s.free) {
		if n > max(s.chunk, 8)/4 {
			return append([]T(nil), list...)
		}
		s.grow()
	}
	copy(s.free, list)
	out := s.free[:n:n]
	s.free = s.free[n:]
	return out
}
