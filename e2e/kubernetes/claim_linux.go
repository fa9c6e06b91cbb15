package kubernetes

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Directories of clusters are called dirPrefix and a name, their network
// namespaces begin with netnsPrefix, the same name, and a hyphen.
const (
	dirPrefix   = "plumbline-kubernetes-"
	netnsPrefix = "plk"
)

// claim is the right to a directory and to a prefix of network namespaces: it
// lasts as long as the process that has the directory locked.
type claim struct {
	dir, prefix string
	lock        *os.File
}

// newClaim makes a directory, and removes what others have left whose process
// was killed.
func newClaim() (*claim, error) {
	// Nobody may take a directory for one that was left before it is locked.
	gate, err := os.Open(os.TempDir())
	if err != nil {
		return nil, err
	}
	defer gate.Close()
	if err := unix.Flock(int(gate.Fd()), unix.LOCK_EX); err != nil {
		return nil, fmt.Errorf("lock %s: %w", gate.Name(), err)
	}
	defer unix.Flock(int(gate.Fd()), unix.LOCK_UN)
	if err := removeOrphans(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", dirPrefix)
	if err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), os.RemoveAll(dir))
	}
	return &claim{dir, prefixOf(dir), lock}, nil
}

// prefixOf is how the network namespaces of a directory's cluster begin.
func prefixOf(dir string) string {
	return netnsPrefix + strings.TrimPrefix(filepath.Base(dir), dirPrefix) + "-"
}

// release removes what is the claim's.
func (c *claim) release() error {
	defer c.lock.Close()
	return errors.Join(removeNetworks(c.prefix), os.RemoveAll(c.dir))
}

// removeOrphans releases the claims of processes that are gone.
func removeOrphans() error {
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	errs := []error{err}
	for _, dir := range dirs {
		lock, err := os.Open(dir)
		if err != nil {
			continue // released just now
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			errs = append(errs, (&claim{dir, prefixOf(dir), lock}).release())
		} else {
			lock.Close()
		}
	}
	return errors.Join(errs...)
}
