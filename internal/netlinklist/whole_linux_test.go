package netlinklist

import (
	"errors"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestHalfAListIsAskedForAgain(t *testing.T) {
	failed := errors.New("no such device")
	for _, c := range []struct {
		name        string
		interrupted int // attempts
		err, want   error
		calls       int
	}{
		{"at once", 0, nil, nil, 1},
		{"after two changes", 2, nil, nil, 3},
		{"another error is final", 1, failed, failed, 2},
		{"it keeps changing", Attempts, nil, ErrInterrupted, Attempts},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			got, err := Whole(func() ([]string, error) {
				if calls++; calls <= c.interrupted {
					return []string{"half"}, netlink.ErrDumpInterrupted
				}
				return []string{"whole"}, c.err
			})
			if !errors.Is(err, c.want) || calls != c.calls {
				t.Errorf("got %v after %d calls, want %v after %d", err, calls, c.want, c.calls)
			}
			if slices.Contains(got, "half") || err == nil && !slices.Equal(got, []string{"whole"}) {
				t.Errorf("got %v", got)
			}
		})
	}
}
