package netstack

import (
	"iter"
	"net/netip"
)

// Index finds the elements of a list by a key. It is immutable.
type Index[K comparable, T any] struct {
	list  []T
	first map[K]int32 // number of the first element with a key, from 1
	next  []int32     // by place, the number of the next one; 0 for none
}

// NewIndex indexes a list, which must not change afterwards. Elements for which
// key says false are left out.
func NewIndex[K comparable, T any](list []T, key func(*T) (K, bool)) Index[K, T] {
	x := Index[K, T]{list: list, first: make(map[K]int32), next: make([]int32, len(list))}
	for i := len(list) - 1; i >= 0; i-- {
		if k, ok := key(&list[i]); ok {
			x.next[i] = x.first[k]
			x.first[k] = int32(i + 1)
		}
	}
	return x
}

// Each yields the elements with a key, in the order of the list.
func (x *Index[K, T]) Each(key K) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		for number := x.first[key]; number != 0; number = x.next[number-1] {
			if !yield(&x.list[number-1]) {
				return
			}
		}
	}
}

// First returns the first element with a key, or nil.
func (x *Index[K, T]) First(key K) *T {
	if number := x.first[key]; number != 0 {
		return &x.list[number-1]
	}
	return nil
}

// NeighbourKey says which entry of the neighbour table is meant.
type NeighbourKey struct {
	Dev   string
	IP    netip.Addr
	Proxy bool
}

// IndexNeighbours finds neighbours.
func (n *Namespace) IndexNeighbours() Index[NeighbourKey, Neighbour] {
	return NewIndex(n.Neighbours, func(n *Neighbour) (NeighbourKey, bool) { return NeighbourKey{n.Dev, n.IP, n.Proxy}, true })
}

// IndexDevices finds the addresses of a device.
func (n *Namespace) IndexDevices() Index[string, Address] {
	return NewIndex(n.Addresses, func(a *Address) (string, bool) { return a.Dev, true })
}
