//go:build amd64 || arm64

package probes

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// batchSize is how many entries one system call reads. The buffers for them are kept.
const batchSize = 4096

// mapTable reads a per-CPU hash of counters. E is the key as it is in the kernel.
type mapTable[K, E any] struct {
	m       *ebpf.Map
	decode  func(*E) K
	encode  func(K) E
	cpus    int
	keys    []E
	values  []uint64
	noBatch bool // the kernel cannot read per-CPU hashes in batches
}

// newMapTable returns a table on its own reference to m.
func newMapTable[K, E any](m *ebpf.Map, decode func(*E) K, encode func(K) E) (*mapTable[K, E], error) {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count CPUs: %w", err)
	}
	own, err := m.Clone()
	if err != nil {
		return nil, fmt.Errorf("table %s: %w", m, err)
	}
	n := min(batchSize, int(m.MaxEntries()))
	return &mapTable[K, E]{m: own, decode: decode, encode: encode, cpus: cpus, keys: make([]E, n), values: make([]uint64, n*cpus)}, nil
}

func (t *mapTable[K, E]) Close() error { return t.m.Close() }

func (t *mapTable[K, E]) read(fn func(K, uint64)) error {
	if t.noBatch {
		return t.iterate(fn)
	}
	var cursor ebpf.MapBatchCursor
	for {
		n, err := t.m.BatchLookup(&cursor, t.keys, t.values, nil)
		if errors.Is(err, ebpf.ErrNotSupported) {
			t.noBatch = true
			return t.iterate(fn)
		}
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("%s: %w", t.m, err)
		}
		for i := range n {
			fn(t.decode(&t.keys[i]), sum(t.values[i*t.cpus:][:t.cpus]))
		}
		if err != nil { // the end
			return nil
		}
	}
}

func (t *mapTable[K, E]) iterate(fn func(K, uint64)) error {
	var key E
	values := t.values[:t.cpus]
	it := t.m.Iterate()
	for it.Next(&key, &values) {
		fn(t.decode(&key), sum(values))
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("%s: %w", t.m, err)
	}
	return nil
}

func (t *mapTable[K, E]) remove(key K) (uint64, error) {
	values := t.values[:t.cpus]
	err := t.m.LookupAndDelete(t.encode(key), &values)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, errNoEntry
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", t.m, err)
	}
	return sum(values), nil
}

func sum(values []uint64) uint64 {
	var total uint64
	for _, v := range values {
		total += v
	}
	return total
}
