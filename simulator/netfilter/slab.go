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
