package kubernetes

import (
	"fmt"
	"slices"
	"unique"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/client-go/tools/cache"
)

// store keeps the objects of one resource, each reduced to what is needed. A
// reflector fills it; it implements cache.ReflectorStore and
// cache.TransformingStore, so that not even a first list is held in full.
//
// It keeps objects in the slice that a State shares, and clones that before the
// first change after it was handed out: nothing is held twice for long.
type store[T any] struct {
	*resource
	keep func(object any) (T, error)

	// Guarded by resource.watcher.mu.
	items  []T
	keys   []string       // NAMESPACE/NAME of each item
	at     map[string]int // the index of each key
	shared bool
}

func newStore[T any](keep func(object any) (T, error)) *store[T] {
	return &store[T]{keep: keep, at: map[string]int{}}
}

// kept is an object that went through Transformer.
type kept[T any] struct {
	key  string
	item *T
}

func (s *store[T]) reduce(object any) (kept[T], error) {
	if k, ok := object.(kept[T]); ok {
		return k, nil
	}
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		return kept[T]{}, err
	}
	item, err := s.keep(object)
	if err != nil {
		return kept[T]{}, fmt.Errorf("%s: %w", key, err)
	}
	return kept[T]{key, &item}, nil
}

// Transformer implements cache.TransformingStore.
func (s *store[T]) Transformer() cache.TransformFunc {
	return func(object any) (any, error) { return s.reduce(object) }
}

// Add implements cache.ReflectorStore.
func (s *store[T]) Add(object any) error {
	k, err := s.reduce(object)
	if err != nil {
		return err
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	i, known := s.at[k.key]
	switch {
	case known && equality.Semantic.DeepEqual(&s.items[i], k.item):
		return nil
	case known:
		s.own()
		s.items[i] = *k.item
	default:
		s.own()
		s.at[k.key] = len(s.items)
		s.items, s.keys = append(s.items, *k.item), append(s.keys, k.key)
	}
	s.watcher.generation++
	return nil
}

// Update implements cache.ReflectorStore.
func (s *store[T]) Update(object any) error { return s.Add(object) }

// Delete implements cache.ReflectorStore.
func (s *store[T]) Delete(object any) error {
	key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object)
	if err != nil {
		return err
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	s.remove(key)
	return nil
}

func (s *store[T]) remove(key string) {
	i, known := s.at[key]
	if !known {
		return
	}
	s.own()
	last := len(s.items) - 1
	s.items[i], s.keys[i] = s.items[last], s.keys[last]
	s.at[s.keys[i]] = i
	delete(s.at, key)
	clear(s.items[last:])
	s.items, s.keys = s.items[:last], s.keys[:last]
	s.watcher.generation++
}

// Replace implements cache.ReflectorStore. All change at once.
func (s *store[T]) Replace(objects []any, _ string) error {
	items := make([]T, 0, len(objects))
	keys := make([]string, 0, len(objects))
	at := make(map[string]int, len(objects))
	for _, object := range objects {
		k, err := s.reduce(object)
		if err != nil {
			return err
		}
		at[k.key] = len(items)
		items, keys = append(items, *k.item), append(keys, k.key)
	}
	s.watcher.mu.Lock()
	defer s.watcher.mu.Unlock()
	if !s.holds(items, at) {
		s.items, s.keys, s.at, s.shared = items, keys, at, false
		s.watcher.generation++
	}
	s.listed()
	return nil
}

// holds says whether the store has these items and no other.
func (s *store[T]) holds(items []T, at map[string]int) bool {
	if len(items) != len(s.items) {
		return false
	}
	for key, i := range at {
		j, known := s.at[key]
		if !known || !equality.Semantic.DeepEqual(&items[i], &s.items[j]) {
			return false
		}
	}
	return true
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (s *store[T]) Resync() error { return nil }

// own makes the items the store's alone before they change.
func (s *store[T]) own() {
	if s.shared {
		s.items, s.shared = slices.Clone(s.items), false
	}
}

// share hands the items out. The caller holds the lock.
func (s *store[T]) share() []T {
	s.shared = true
	return slices.Clip(s.items)
}

func (s *store[T]) len() int { return len(s.items) }

// intern returns the one copy of a text that many objects have.
func intern(text string) string { return unique.Make(text).Value() }

func internMap(m map[string]string) map[string]string {
	if m == nil {
		return nil
	}
	interned := make(map[string]string, len(m))
	for key, value := range m {
		interned[intern(key)] = intern(value)
	}
	return interned
}
