package netstack_test

import (
	"slices"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestAnIndexKeepsTheOrderOfTheList(t *testing.T) {
	words := []string{"route", "rule", "link", "rule of three", "", "lo"}
	x := netstack.NewIndex(words, func(w *string) (byte, bool) {
		if *w == "" {
			return 0, false
		}
		return (*w)[0], true
	})
	for key, want := range map[byte][]string{'r': {"route", "rule", "rule of three"}, 'l': {"link", "lo"}, 'x': nil, 0: nil} {
		var got []string
		for w := range x.Each(key) {
			got = append(got, *w)
		}
		first := x.First(key)
		if !slices.Equal(got, want) || (first == nil) != (want == nil) || first != nil && *first != want[0] {
			t.Errorf("%q: %q, first %v; want %q", key, got, first, want)
		}
	}
	for w := range x.Each('r') {
		if w != &words[0] {
			t.Error("not an element of the list")
		}
		break
	}
	var none netstack.Index[string, int]
	if none.First("a") != nil {
		t.Error("something is in an index of nothing")
	}
}
