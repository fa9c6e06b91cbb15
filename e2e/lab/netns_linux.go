package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// netnsDir is where ip-netns(8) keeps the names of network namespaces.
const netnsDir = "/run/netns"

// comingBack runs fn on a thread that may change its network namespace, and returns to its own afterwards. A thread that
// finds no way back is not given to other goroutines: it ends.
func comingBack(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			home, err := netns.Get()
			if err != nil {
				runtime.UnlockOSThread()
				return fmt.Errorf("open own network namespace: %w", err)
			}
			defer home.Close()
			defer func() {
				if netns.Set(home) == nil {
					runtime.UnlockOSThread()
				}
			}()
			return fn()
		}()
	}()
	return <-done
}

// InNetns runs fn with the calling thread inside the named network namespace. Sockets that fn opens and processes that
// it starts belong to that namespace and may be used from anywhere afterwards. fn must not start goroutines that rely
// on the namespace.
func InNetns(name string, fn func() error) error {
	return comingBack(func() error {
		h, err := netns.GetFromName(name)
		if err != nil {
			return fmt.Errorf("open network namespace %s: %w", name, err)
		}
		defer h.Close()
		if err := netns.Set(h); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", name, err)
		}
		return fn()
	})
}

// withLinks runs fn with a netlink handle of the named network namespace.
func withLinks(name string, fn func(*netlink.Handle) error, families ...int) error {
	ns, err := netns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", name, err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, families...)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", name, err)
	}
	defer h.Close()
	if err := fn(h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

func netnsExists(name string) bool {
	_, err := os.Stat(filepath.Join(netnsDir, name))
	return err == nil
}

// setting is a sysctl by its path below /proc/sys: dots would be ambiguous in names of interfaces.
type setting struct{ path, value string }

func setSysctls(name string, settings ...setting) error {
	return InNetns(name, func() error {
		for _, s := range settings {
			err := os.WriteFile(filepath.Join("/proc/sys", s.path), []byte(s.value), 0)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%s: this kernel has no sysctl %s", name, strings.ReplaceAll(s.path, "/", "."))
			}
			if err != nil {
				return fmt.Errorf("%s: set sysctl %s=%s: %w", name, s.path, s.value, err)
			}
		}
		return nil
	})
}

// run executes a program inside a namespace ("" is the caller's own) and returns what it printed. The error names the
// command and the first line of its complaint.
func run(ctx context.Context, name string, stdin []byte, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	start := cmd.Run
	if name != "" {
		start = func() error { return InNetns(name, cmd.Run) }
	}
	if err := start(); err != nil {
		if missing := missingTool(argv[0], err); missing != nil {
			return nil, missing
		}
		where, text := "", ""
		if name != "" {
			where = name + ": "
		}
		if line, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n"); line != "" {
			text = ": " + line
		}
		return nil, fmt.Errorf("%s%s: %w%s", where, strings.Join(argv, " "), err, text)
	}
	return stdout.Bytes(), nil
}

// toolPackages says which Debian package has a program that the lab runs.
func toolPackages(iptables string) []MissingToolError {
	return []MissingToolError{
		{"ip", "iproute2"},
		{"nft", "nftables"},
		{"iptables-" + iptables, "iptables"},
		{"iptables-" + iptables + "-restore", "iptables"},
		{"iptables-" + iptables + "-save", "iptables"},
		{"ip6tables-" + iptables, "iptables"},
		{"ip6tables-" + iptables + "-restore", "iptables"},
		{"ip6tables-" + iptables + "-save", "iptables"},
	}
}

func missingTool(tool string, err error) error {
	if !errors.Is(err, exec.ErrNotFound) {
		return nil
	}
	for _, backend := range []string{"nft", "legacy"} {
		for _, t := range toolPackages(backend) {
			if t.Tool == tool {
				return &t
			}
		}
	}
	return nil
}

// preflight says what the host lacks before anything is made.
func preflight(iptables string) error {
	if os.Geteuid() != 0 {
		return ErrNotRoot
	}
	for _, t := range toolPackages(iptables) {
		if _, err := exec.LookPath(t.Tool); err != nil {
			return &t
		}
	}
	return nil
}

// process is a running process that cannot be mistaken for another one: the descriptor stays with it when its pid is
// reused.
type process struct {
	pid int
	fd  int
}

// openProcess returns nil if no process has that pid and start time (0: any). Zombies are gone already.
func openProcess(pid int, start uint64) (*process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	if got, alive := processStart(pid); !alive || (start != 0 && got != start) {
		unix.Close(fd)
		return nil, nil
	}
	return &process{pid, fd}, nil
}

func (p *process) close() { unix.Close(p.fd) }

// kill ends the process and waits until its sockets are closed.
func (p *process) kill() error {
	if err := unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.pid, err)
	}
	// A pidfd is readable once the process has ended.
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, 10_000)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for process %d: %w", p.pid, err)
		case n == 0:
			return fmt.Errorf("process %d does not end", p.pid)
		default:
			return nil
		}
	}
}

// processStart reads the start time of a process, in clock ticks since boot.
func processStart(pid int) (start uint64, alive bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The second field is the program's name in parentheses and may hold anything, also spaces and parentheses.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return 0, false
	}
	fields := strings.Fields(string(data[i+1:]))
	// The fields 3 (state) and 22 (starttime) of proc(5).
	const state, startTime = 0, 19
	if len(fields) <= startTime || fields[state] == "Z" || fields[state] == "X" {
		return 0, false
	}
	if _, err := fmt.Sscan(fields[startTime], &start); err != nil {
		return 0, false
	}
	return start, true
}

// netnsInode identifies a network namespace while it exists.
func netnsInode(path string) (uint64, bool) {
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil {
		return 0, false
	}
	return st.Ino, true
}

func isNoDevice(err error) bool { return errors.Is(err, unix.ENODEV) }
