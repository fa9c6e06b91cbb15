package collector

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFilesBelowTheRootOfAProcess has a directory stand for the one that /proc has
// of a process.
func TestFilesBelowTheRootOfAProcess(t *testing.T) {
	process := t.TempDir()
	etc := filepath.Join(process, "root", "etc")
	key, err := statNS("/proc/thread-self/ns/net")
	for _, step := range []error{
		err, os.MkdirAll(etc, 0o700), os.MkdirAll(filepath.Join(process, "root", "run"), 0o700), os.Mkdir(filepath.Join(process, "ns"), 0o700),
		os.Symlink("/proc/self/ns/net", filepath.Join(process, "ns", "net")),
		os.WriteFile(filepath.Join(process, "root", "run", "stub"), []byte("inside\n"), 0o600),
		os.WriteFile(filepath.Join(process, "secret"), []byte("outside\n"), 0o600),
		os.Symlink("../run/stub", filepath.Join(etc, "relative")),
		os.Symlink("/run/stub", filepath.Join(etc, "absolute")),
		os.Symlink("../../secret", filepath.Join(etc, "out")),
		os.Symlink("/proc/self/root/etc/passwd", filepath.Join(etc, "elsewhere")),
		os.WriteFile(filepath.Join(etc, "large"), []byte(strings.Repeat("x", 11)), 0o600),
		unix.Mkfifo(filepath.Join(etc, "fifo"), 0o600),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	for name, want := range map[string]string{"relative": "inside\n", "absolute": "inside\n"} {
		if got, err := readInRoot(process, key, "etc/"+name, 10); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"out", "elsewhere", "nothing"} {
		if got, err := readInRoot(process, key, "etc/"+name, 10); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]string{"large": "larger than 10 bytes", "fifo": "not a regular file"} {
		if got, err := readInRoot(process, key, "etc/"+name, 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := readInRoot(process, nsKey{}, "etc/relative", 10); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a process in another namespace: %v", err)
	}
}
