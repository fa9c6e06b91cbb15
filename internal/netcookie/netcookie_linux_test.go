package netcookie_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"testing"

	"github.com/plumbline-net/plumbline/internal/netcookie"
)

func TestCookieNamesANamespaceAndNotItsFile(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("creating a network namespace needs root")
	}
	own, err := netcookie.Current()
	if err != nil {
		t.Fatal(err)
	}
	if own == 0 {
		t.Fatal("cookie of the own namespace is 0")
	}
	if same, err := netcookie.At("/proc/self/ns/net"); err != nil || same != own {
		t.Fatalf("At(/proc/self/ns/net) = %d, %v; want %d", same, err, own)
	}

	const name = "plprobe-cookie"
	seen := map[uint64]bool{own: true}
	for range 2 {
		run(t, "ip", "netns", "add", name)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
		cookie, err := netcookie.At("/run/netns/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := netcookie.At("/run/netns/" + name); err != nil || again != cookie {
			t.Fatalf("a second look at the same namespace gave %d, %v; want %d", again, err, cookie)
		}
		if seen[cookie] {
			t.Fatalf("cookie %d was seen before in another namespace", cookie)
		}
		seen[cookie] = true
		run(t, "ip", "netns", "del", name)
	}
	if after, err := netcookie.Current(); err != nil || after != own {
		t.Fatalf("own cookie after the visits = %d, %v; want %d", after, err, own)
	}
}

func TestCookieOfAMissingNamespaceNamesTheFile(t *testing.T) {
	_, err := netcookie.At("/run/netns/plprobe-missing")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("error %v does not wrap fs.ErrNotExist", err)
	}
	const want = "namespace cookie: open /run/netns/plprobe-missing: no such file or directory"
	if err.Error() != want {
		t.Fatalf("error %q, want %q", err, want)
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}
