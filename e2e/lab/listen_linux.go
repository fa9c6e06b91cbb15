package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// A listener is a child process of the same program, started with the arguments "lab listen". Serve answers there.
const (
	listenCommand = "lab"
	listenVerb    = "listen"
	// readyFD is the pipe on which a listener says "ready", or what keeps it from being so.
	readyFD = 3
)

// ServeIfListener serves a pod's ports as the arguments of this process say, if it was started to be a listener, and does
// not return then. The main function, or TestMain, of a program that calls Up must call it before it does anything else.
func ServeIfListener() {
	if len(os.Args) < 3 || os.Args[1] != listenCommand || os.Args[2] != listenVerb {
		return
	}
	err := serve(os.Args[3:]) // it returns only on failure
	if ready := os.NewFile(readyFD, "ready"); ready != nil && err != nil {
		fmt.Fprintln(ready, err)
	}
	fmt.Fprintln(os.Stderr, "plumbline:", err)
	os.Exit(1)
}

// listenArgs begins the arguments of a listener: prefix and pod are there for Down, and for people who read ps.
func listenArgs(prefix string, pod Pod, loopback bool) []string {
	args := []string{listenCommand, listenVerb, "--prefix", prefix, "--pod", pod.ID()}
	if loopback {
		args = append(args, "--loopback")
	}
	for _, p := range pod.Ports {
		args = append(args, fmt.Sprintf("%s/%d", strings.ToLower(p.Protocol), p.Port))
	}
	return args
}

func serve(args []string) error {
	flags := flag.NewFlagSet("lab listen", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	_ = flags.String("prefix", "", "lab that this listener belongs to")
	pod := flags.String("pod", "", "name that answers bear")
	loopback := flags.Bool("loopback", false, "listen on the loopback addresses only")
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("lab listen: %w", err)
	}
	hosts := map[string]string{"4": "0.0.0.0", "6": "::"}
	if *loopback {
		hosts = map[string]string{"4": "127.0.0.1", "6": "::1"}
	}
	failed := make(chan error)
	var sctp []uint16
	for _, arg := range flags.Args() {
		proto, port, ok := strings.Cut(arg, "/")
		if !ok || (proto != "tcp" && proto != "udp" && proto != "sctp") {
			return fmt.Errorf("lab listen: %q is not tcp/PORT, udp/PORT or sctp/PORT", arg)
		}
		if proto == "sctp" {
			number, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return fmt.Errorf("lab listen: %q: %w", arg, err)
			}
			sctp = append(sctp, uint16(number))
			continue
		}
		for version, host := range hosts {
			address := net.JoinHostPort(host, port)
			if proto == "tcp" {
				l, err := net.Listen("tcp"+version, address)
				if err != nil {
					return fmt.Errorf("lab listen: %w", err)
				}
				go func() { failed <- ServeTCP(l, *pod) }()
			} else {
				c, err := net.ListenPacket("udp"+version, address)
				if err != nil {
					return fmt.Errorf("lab listen: %w", err)
				}
				go func() { failed <- ServeUDP(c, *pod) }()
			}
		}
	}
	if len(sctp) > 0 {
		for _, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
			l, err := ListenSCTP(family)
			if err != nil {
				return fmt.Errorf("lab listen: %w", err)
			}
			l.Name, l.Accepts = *pod, func(at netip.AddrPort) bool {
				return slices.Contains(sctp, at.Port()) && (!*loopback || at.Addr().IsLoopback())
			}
			go func() { failed <- l.Serve() }()
		}
	}
	if ready := os.NewFile(readyFD, "ready"); ready != nil {
		fmt.Fprintln(ready, "ready")
		ready.Close()
	}
	return <-failed
}

// ServeTCP answers clients. It returns when l is closed.
func ServeTCP(l net.Listener, pod string) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			Answer(c, pod)
		}()
	}
}

// maxData bounds what a client may ask for: full-size segments of the loopback device.
const maxData = fullSegments << 16

// Answer reads the client's message and says the listener's name, and both ends' addresses as the listener sees them, the
// client's first. Then it takes as much data as the message tells of, and sends as much.
func Answer(c net.Conn, name string) {
	message := make([]byte, messageSize)
	if _, err := io.ReadFull(c, message); err != nil {
		return
	}
	if _, err := io.WriteString(c, Payload("tcp", fmt.Sprintf("%s %s %s ", name, c.RemoteAddr(), c.LocalAddr()))); err != nil {
		return
	}
	var said string
	var size int64
	if _, err := fmt.Sscan(string(message), &said, &size); err != nil || size < 0 || size > maxData {
		return
	}
	if _, err := io.CopyN(io.Discard, c, size); err != nil {
		return
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		return
	}
	io.Copy(io.Discard, c) // until the client closes: it must not hear a reset before it has read all
}

// AnswerTo is what a listener answers to a datagram: its name, a space, and as much of the datagram as makes it as long.
func AnswerTo(datagram []byte, name string) []byte {
	answer := append([]byte(name+" "), datagram...)
	return answer[:max(len(datagram), len(name)+1)]
}

// ServeUDP answers datagrams. It returns when c is closed.
func ServeUDP(c net.PacketConn, pod string) error {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue // such as the port unreachable that an earlier answer met
		}
		c.WriteTo(AnswerTo(buf[:n], pod), from)
	}
}

// startListener starts a pod's listener inside its namespace and waits until it serves.
func (l *Lab) startListener(ctx context.Context, pod Pod, loopback bool) error {
	read, write, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start listener of %s: %w", pod.ID(), err)
	}
	defer read.Close()
	exe := l.opts.Executable
	cmd := exec.Command(exe, listenArgs(l.Prefix, pod, loopback)...)
	cmd.ExtraFiles = []*os.File{write}
	cmd.Env = []string{"GOMAXPROCS=2", "GOTRACEBACK=none"}
	cmd.Dir = "/"
	// A session of its own: Ctrl-C at the terminal that ran "up" must not reach it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = InNetns(l.podNetns(pod), cmd.Start)
	write.Close()
	if err != nil {
		return fmt.Errorf("start listener of %s: %w", pod.ID(), err)
	}
	// The parent may live on, as in tests: somebody has to reap.
	go cmd.Wait()

	start, _ := processStart(cmd.Process.Pid)
	l.state.Listeners = append(l.state.Listeners, listener{Pod: pod.ID(), PID: cmd.Process.Pid, Start: start, Loopback: loopback})
	if err := l.state.write(l.dir); err != nil {
		return err
	}
	deadline := time.Now().Add(20 * time.Second)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := read.SetReadDeadline(deadline); err != nil {
		return fmt.Errorf("start listener of %s: %w", pod.ID(), err)
	}
	answer, err := io.ReadAll(read)
	switch text := strings.TrimSpace(string(answer)); {
	case text == "ready":
		return nil
	case text != "":
		return fmt.Errorf("start listener of %s: %s", pod.ID(), text)
	case err != nil:
		return fmt.Errorf("start listener of %s: %w", pod.ID(), err)
	default:
		return fmt.Errorf("start listener of %s: it ended without a word", pod.ID())
	}
}

// stopListeners kills the listeners of a pod, or of all pods if id is empty.
func (l *Lab) stopListeners(id string) error {
	var keep []listener
	var errs []error
	for _, li := range l.state.Listeners {
		if id != "" && li.Pod != id {
			keep = append(keep, li)
			continue
		}
		if err := killProcess(li.PID, li.Start); err != nil {
			errs = append(errs, err)
			keep = append(keep, li)
		}
	}
	l.state.Listeners = keep
	return errors.Join(append(errs, l.state.write(l.dir))...)
}

func killProcess(pid int, start uint64) error {
	if start == 0 {
		return nil // it had ended before its start could be read
	}
	p, err := openProcess(pid, start)
	if p == nil || err != nil {
		return err
	}
	defer p.close()
	return p.kill()
}

// strayListeners finds listeners of a lab that no state file knows: Up was killed between starting and recording one.
// They are known by their arguments.
func strayListeners(prefix string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find listeners: %w", err)
	}
	marker := "\x00" + strings.Join([]string{listenCommand, listenVerb, "--prefix", prefix}, "\x00") + "\x00"
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // ended since
		}
		if program, rest, ok := strings.Cut(string(cmdline), "\x00"); ok && program != "" && strings.HasPrefix("\x00"+rest, marker) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
