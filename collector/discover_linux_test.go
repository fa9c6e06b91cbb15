package collector

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/plumbline-net/plumbline/simulator/cluster"
)

// fakeProc is a /proc in which all processes are in one network namespace, not the first.
func fakeProc(t *testing.T, processes ...string) string {
	t.Helper()
	proc, ns := t.TempDir(), "/run/netns/"+newNetns(t, "proc")
	for _, process := range processes {
		dir := filepath.Join(proc, process, "ns")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(ns, filepath.Join(dir, "net")); err != nil {
			t.Fatal(err)
		}
	}
	return proc
}

// deny has processes of a fake /proc refuse to be looked at, as AppArmor does, and runs
// fn on a thread that is bound by it.
func deny(t *testing.T, proc string, processes []string, fn func()) {
	t.Helper()
	for _, process := range processes {
		dir := filepath.Join(proc, process)
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Chmod(dir, 0o755) })
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with this
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&header, &data[0])
		if err == nil {
			data[0].Effective &^= 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_DAC_READ_SEARCH
			err = unix.Capset(&header, &data[0])
		}
		if err == nil {
			fn()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestProcessesThatMayNotBeLookedAt(t *testing.T) {
	for name, test := range map[string]struct {
		denied  []string
		guess   error // what it is because of, nil if it is none
		failure string
	}{
		"none":        {nil, nil, ""},
		"the first":   {[]string{"1"}, os.ErrPermission, ""},
		"two others":  {[]string{"7", "8"}, nil, "2 may not be looked at, and network namespaces that only they are in are not found: " + howToSee},
		"all of them": {[]string{"1", "7", "8"}, os.ErrPermission, "2 may not be looked at, and network namespaces that only they are in are not found: " + howToSee},
	} {
		t.Run(name, func(t *testing.T) {
			proc := fakeProc(t, "1", "7", "8", "thread-self")
			deny(t, proc, test.denied, func() {
				all, failures, err := discover(proc)
				if err != nil {
					t.Error(err)
					return
				}
				for _, n := range all {
					defer n.close()
				}
				if len(all) != 1 || !all[0].host || !errors.Is(all[0].guess, test.guess) {
					t.Errorf("namespaces %+v, want the host's, as a guess because of %v", all, test.guess)
				}
				if got := failures[processesFailure]; got != test.failure || len(failures) > 1 {
					t.Errorf("failures %q, want %q", failures, test.failure)
				}
			})
		})
	}
}

// Linux numbers the host's namespace apart, since 6.18: whoever is there needs nobody to
// look at.
func TestTheFirstNamespaceIsNoGuess(t *testing.T) {
	key, err := statNS("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if key.inode != firstInode {
		t.Skip("this process is in another namespace, or the kernel is before Linux 6.18")
	}
	proc := t.TempDir() // without process 1
	if err := os.MkdirAll(filepath.Join(proc, "thread-self", "ns"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/proc/self/ns/net", filepath.Join(proc, "thread-self", "ns", "net")); err != nil {
		t.Fatal(err)
	}
	all, _, err := discover(proc)
	if err != nil {
		t.Fatal(err)
	}
	defer all[0].close()
	if !all[0].host || all[0].guess != nil {
		t.Errorf("it is a guess: %v", all[0].guess)
	}
}

// A process that has ended is not one that may not be looked at.
func TestProcessesThatHaveEnded(t *testing.T) {
	proc := fakeProc(t, "1", "7")
	if err := os.Remove(filepath.Join(proc, "7", "ns", "net")); err != nil {
		t.Fatal(err)
	}
	all, failures, err := discover(proc)
	if err != nil || len(failures) != 0 {
		t.Fatal(failures, err)
	}
	for _, n := range all {
		n.close()
	}
}

// The first process of a container is not the host's.
func TestTheFirstProcessOfAContainer(t *testing.T) {
	if os.Getpid() != 1 {
		needRoot(t)
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET, Unshareflags: syscall.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		t.Fatal(err)
	}
	all, _, err := discover("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer all[0].close()
	if !all[0].host || all[0].guess == nil {
		t.Error("its namespace is taken for the host's, for certain")
	}
}

// Of a confined agent in the network namespace of its pod nothing is judged as the node's.
func TestAConfinedAgentDoesNotTakeItsPodForTheNode(t *testing.T) {
	needRoot(t)
	proc := fakeProc(t, "1", "7", "thread-self")
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	c := New(Options{Proc: proc, Node: "node-1", Logger: quiet(), Cluster: func() (cluster.Objects, error) {
		return cluster.Objects{Nodes: []corev1.Node{node}}, nil
	}})
	deny(t, proc, []string{"1"}, func() {
		snapshot, err := c.Collect(t.Context())
		if snapshot != nil || !errors.Is(err, os.ErrPermission) || !strings.HasPrefix(err.Error(), "the network namespace of node node-1 is not known: ") {
			t.Errorf("got %v, %v", snapshot, err)
		}
	})
	// What is not found is said, where it does not make all unknown.
	one := New(Options{Proc: proc, Logger: quiet()})
	deny(t, proc, []string{"7"}, func() {
		snapshot, err := one.Collect(t.Context())
		if err != nil || snapshot.Failures[processesFailure] == "" {
			t.Errorf("%+v, %v", snapshot, err)
		}
	})
	if !slices.ContainsFunc(one.Results(), func(r Result) bool { return r.Collector == "namespaces" && r.Err != nil }) {
		t.Errorf("results %+v", one.Results())
	}
}
