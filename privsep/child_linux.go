package privsep

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// channelFD is the channel's descriptor in the half that serves: the first of
// exec.Cmd.ExtraFiles.
const channelFD = 3

// closeTimeout bounds how long a process is waited for that was told to end at once.
const closeTimeout = 5 * time.Second

// Child is the half that serves, as a process.
type Child struct {
	// Channel is to be given to Serve.
	Channel net.Conn

	cmd          *exec.Cmd
	instructions io.WriteCloser
	done         chan struct{}
	err          error // of the process, once it is done
}

// Spawn starts this program again, with these arguments, as another user: without
// capabilities, and with no way to get any. It needs CAP_SETUID and CAP_SETGID.
func Spawn(user User, args ...string) (*Child, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "channel"), os.NewFile(uintptr(pair[1]), "channel")
	defer theirs.Close()
	channel, err := net.FileConn(ours)
	ours.Close()
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	c := &Child{Channel: channel, cmd: exec.Command("/proc/self/exe", args...), done: make(chan struct{})}
	c.cmd.Args[0] = os.Args[0]
	c.cmd.ExtraFiles = []*os.File{theirs}
	c.cmd.Stdout, c.cmd.Stderr = os.Stdout, os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: user.UID, Gid: user.GID}, // and no other groups
		Setpgid:    true,                                              // what a terminal sends is for the other half
	}
	if c.instructions, err = c.cmd.StdinPipe(); err == nil {
		err = startWithoutNewPrivileges(c.cmd)
	}
	if err != nil {
		channel.Close()
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("start the half that serves as user %s, which needs root, CAP_SETUID and CAP_SETGID: %w", user, err)
		}
		return nil, fmt.Errorf("start the half that serves: %w", err)
	}
	go func() {
		defer close(c.done)
		c.err = c.cmd.Wait()
	}()
	return c, nil
}

// startWithoutNewPrivileges starts a process that can get no privilege by executing
// anything. It inherits that from the thread that starts it, which ends then.
func startWithoutNewPrivileges(cmd *exec.Cmd) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocks it
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			result <- fmt.Errorf("no_new_privs: %w", err)
			return
		}
		result <- cmd.Start()
	}()
	return <-result
}

// Instruct tells the process what to do, as a JSON value.
func (c *Child) Instruct(v any) error { return json.NewEncoder(c.instructions).Encode(v) }

// End tells the process to end.
func (c *Child) End() { c.instructions.Close() }

// Done is closed when the process has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Status is the exit status of a process that has ended, and what of it is an error.
func (c *Child) Status() (int, error) { return c.cmd.ProcessState.ExitCode(), c.err }

// Close ends the process at once. Without CAP_KILL, it is by taking its channel away.
func (c *Child) Close() {
	c.End()
	c.Channel.Close()
	_ = c.cmd.Process.Kill()
	select {
	case <-c.done:
	case <-time.After(closeTimeout):
	}
}

// Inherit returns the client of the channel in a process that Spawn has started.
// It fails if the process has any privilege.
func Inherit(ctx context.Context) (*Client, error) {
	if err := checkUnprivileged("/proc/self/status"); err != nil {
		return nil, err
	}
	file := os.NewFile(channelFD, "channel")
	defer file.Close()
	channel, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("the channel between the halves: %w", err)
	}
	return NewClient(ctx, channel)
}

// checkUnprivileged reads a status file of /proc.
func checkUnprivileged(status string) error {
	file, err := os.Open(status)
	if err != nil {
		return err
	}
	defer file.Close()
	const none = "0000000000000000"
	wanted := map[string]string{"CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1"}
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		key, value, _ := strings.Cut(scanner.Text(), ":")
		value = strings.TrimSpace(value)
		if want, ok := wanted[key]; ok && value != want {
			return fmt.Errorf("the half that serves has privileges: %s is %s", key, value)
		}
		delete(wanted, key)
		if key == "Uid" {
			for _, uid := range strings.Fields(value) {
				if n, err := strconv.Atoi(uid); err != nil || n == 0 {
					return errors.New("the half that serves runs as root")
				}
			}
		}
	}
	if err := scanner.Err(); err != nil {
		return err
	}
	if len(wanted) > 0 {
		return fmt.Errorf("%s does not tell the privileges of the half that serves", status)
	}
	return nil
}
