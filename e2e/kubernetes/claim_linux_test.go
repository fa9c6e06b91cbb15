package kubernetes

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

func TestWhatAKilledRunLeavesIsRemovedByTheNext(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: it makes network namespaces")
	}
	t.Setenv("TMPDIR", t.TempDir())
	claims := make([]*claim, 2)
	for i := range claims {
		c, err := newClaim()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.release() })
		if err := lab.NewNetns(c.prefix + "node-1"); err != nil {
			t.Fatal(err)
		}
		claims[i] = c
	}
	killed, alive := claims[0], claims[1]
	killed.lock.Close() // as the kernel does when a process ends
	next, err := newClaim()
	if err != nil {
		t.Fatal(err)
	}
	defer next.release()
	for _, c := range []struct {
		path  string
		there bool
	}{
		{killed.dir, false},
		{filepath.Join(netnsDir, killed.prefix+"node-1"), false},
		{alive.dir, true},
		{filepath.Join(netnsDir, alive.prefix+"node-1"), true},
		{next.dir, true},
	} {
		if _, err := os.Stat(c.path); c.there != (err == nil) || err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v, there should be %v", c.path, err, c.there)
		}
	}
}
