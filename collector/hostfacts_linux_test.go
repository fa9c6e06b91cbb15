package collector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// reportOf collects a namespace with the host, and asks.
func reportOf(t *testing.T, ns string, q verdict.Query) *verdict.Report {
	t.Helper()
	world, err := simulator.Compile(collectSnapshot(t, New(Options{Namespaces: []string{ns, HostNamespace}})))
	if err != nil {
		t.Fatal(err)
	}
	report, err := world.Diagnose(q)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// shows says whether the first reason of the report is of that code and has the
// kernel's word for it.
func shows(r *verdict.Report, code verdict.Code, words string) bool {
	return r.Reason() == code && strings.Contains(strings.Join(r.Reasons[0].Evidence, "\n"), words)
}

// inKernelLog says whether the kernel has said so. It says few things in five seconds
// (net_ratelimit), to whomever: what provokes it has to be tried until it does.
func inKernelLog(t *testing.T, words string) bool {
	t.Helper()
	log, err := readKernelLog()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(log, words)
}

// flood opens more connections to a server than it has room for, and returns its
// port.
func flood(t *testing.T) (port uint16, err error) {
	server, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	t.Cleanup(func() { unix.Close(server) })
	local := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Bind(server, local); err != nil {
		return 0, err
	}
	if err := unix.Listen(server, 1); err != nil {
		return 0, err
	}
	name, err := unix.Getsockname(server)
	if err != nil {
		return 0, err
	}
	local.Port = name.(*unix.SockaddrInet4).Port
	for range 4 {
		client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return 0, err
		}
		t.Cleanup(func() { unix.Close(client) })
		if err := unix.Connect(client, local); !errors.Is(err, unix.EINPROGRESS) {
			return 0, fmt.Errorf("connect: %w", err)
		}
	}
	return uint16(local.Port), nil
}

// What the kernel says when it fails a namespace is in the report of it.
func TestWhatTheKernelSaidIsInTheReport(t *testing.T) {
	needRoot(t)
	if _, err := readKernelLog(); errors.Is(err, unix.EPERM) {
		t.Skip("CAP_SYSLOG is needed")
	}
	t.Run("a flood of SYNs", func(t *testing.T) {
		t.Parallel()
		ns := newNetns(t, "syn")
		// Nobody hears that the server answers, so that its requests stay open.
		script(t, ns, `
			nft add table ip t
			nft add chain ip t output { type filter hook output priority 0 ; }
			nft add rule ip t output tcp flags & (syn|ack) == syn|ack drop
		`)
		var port uint16
		eventually(t, "the kernel takes it for a flood", func() bool {
			insideThread(t, ns, func() (err error) {
				port, err = flood(t)
				return err
			})
			// Before Linux 6.3 without the address.
			return inKernelLog(t, fmt.Sprintf("SYN flooding on port 127.0.0.1:%d. ", port)) || inKernelLog(t, fmt.Sprintf("SYN flooding on port %d. ", port))
		})
		script(t, ns, "nft delete table ip t") // the connections open, and nobody takes them
		q := verdict.Query{From: "ns:" + ns, To: "127.0.0.1", Port: port, Protocol: verdict.TCP}
		eventually(t, "the queue is full, and the report says what the kernel said", func() bool {
			return shows(reportOf(t, ns, q), verdict.AcceptQueueFull, "TCP: Possible SYN flooding on port ")
		})
	})
	t.Run("a duplicate address", func(t *testing.T) {
		t.Parallel()
		ns, other := newNetns(t, "dad"), newNetns(t, "dup")
		network := fmt.Sprintf("fd09:%x::", os.Getpid()&0xffff)
		address := network + "1"
		script(t, ns, "ip link add e0 type veth peer name e0 netns "+other)
		script(t, other, "ip link set e0 up\nip addr add "+address+"/64 dev e0 nodad")
		// It is the only address that there is.
		script(t, ns, "ip addr del ::1/128 dev lo\nip link set e0 addrgenmode none\nip link set e0 up")
		eventually(t, "the kernel finds the other", func() bool {
			script(t, ns, "ip addr replace "+address+"/64 dev e0")
			eventually(t, "the address is looked for", func() bool { return strings.Contains(inside(t, ns, "ip", "addr", "show", "dev", "e0"), "dadfailed") })
			if inKernelLog(t, "IPv6 duplicate address "+address+" ") {
				return true
			}
			script(t, ns, "ip addr del "+address+"/64 dev e0")
			return false
		})
		q := verdict.Query{From: "ns:" + ns, To: network + "2", Port: 1, Protocol: verdict.TCP}
		eventually(t, "the report says what the kernel said", func() bool {
			return shows(reportOf(t, ns, q), verdict.AddressNotUsable, "IPv6: e0: IPv6 duplicate address "+address+" detected!")
		})
	})
}

// Tables that all namespaces share, of a kernel that nobody else uses.
func TestTheKernelSaysThatTablesAreFull(t *testing.T) {
	if os.Getenv("PLUMBLINE_REQUIRE") != "all" {
		t.Skip("fills tables that all namespaces share: for a kernel of its own (PLUMBLINE_REQUIRE=all)")
	}
	set := func(key, value string) {
		t.Helper()
		file := "/proc/sys/" + key
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(value), 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile(file, before, 0) })
	}
	t.Run("connections", func(t *testing.T) {
		ns := newNetns(t, "full")
		script(t, ns, `
			nft add table ip t
			nft add chain ip t output { type filter hook output priority 0 ; }
			nft add rule ip t output ct state new accept
		`)
		send := func(port int) {
			insideThread(t, ns, func() error {
				conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
				if err == nil {
					_, _ = conn.Write([]byte("x")) // EPERM when it is full
					conn.Close()
				}
				return err
			})
		}
		send(1)
		set("net/netfilter/nf_conntrack_max", "1")
		q := verdict.Query{From: "ns:" + ns, To: "127.0.0.1", Port: 9, Protocol: verdict.UDP}
		eventually(t, "the table is full, and the report says what the kernel said", func() bool {
			send(2)
			return shows(reportOf(t, ns, q), verdict.ConntrackTableFull, "nf_conntrack: table full")
		})
	})
	t.Run("neighbours", func(t *testing.T) {
		ns := newNetns(t, "neighbours")
		script(t, ns, "ip link add e0 type veth peer name e1\nip link set e1 up\nip link set e0 up\nip addr add 10.9.0.1/16 dev e0")
		set("net/ipv4/neigh/default/gc_thresh3", "8")
		q := verdict.Query{From: "ns:" + ns, To: "10.9.9.9", Port: 9, Protocol: verdict.UDP}
		eventually(t, "the table is full, and the report says what the kernel said", func() bool {
			insideThread(t, ns, func() error {
				for i := range 20 { // none of which is there
					if conn, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(10, 9, 1, byte(i)), Port: 9}); err == nil {
						_, _ = conn.Write([]byte("x"))
						conn.Close()
					}
				}
				return nil
			})
			return shows(reportOf(t, ns, q), verdict.NeighbourFailed, "neighbour: arp_cache: neighbor table overflow!")
		})
	})
}

// A daemon is found by its name in the namespace, and asked there.
func TestDaemonsAreFoundAndAsked(t *testing.T) {
	ns := newNetns(t, "daemons")
	sleeper := filepath.Join(t.TempDir(), "sleeper")
	copyFile(t, "/bin/sleep", sleeper)
	run := func(name string) (pid int) {
		link := filepath.Join(filepath.Dir(sleeper), name)
		if err := os.Link(sleeper, link); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("ip", "netns", "exec", ns, "sh", "-c", `mount -t tmpfs tmpfs /run && exec "$0" infinity`, link)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		})
		eventually(t, name+" runs", func() bool {
			comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
			return err == nil && strings.TrimSpace(string(comm)) == name
		})
		return cmd.Process.Pid
	}
	run("kubelet")
	run("kube-proxy")
	run("sshd")
	containerd := run("containerd")
	serve := func(address string, answer http.HandlerFunc) {
		insideThread(t, ns, func() error {
			listener, err := net.Listen("tcp4", address)
			if err != nil {
				return err
			}
			server := httptest.NewUnstartedServer(answer)
			server.Listener.Close()
			server.Listener = listener
			server.Start()
			t.Cleanup(server.Close)
			return nil
		})
	}
	began := time.Now()
	read := func() *netstack.HostFacts {
		c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartHostFacts}, Node: "n", Logger: quiet()})
		var facts netstack.HostFacts
		insideThread(t, ns, func() error {
			key, err := statNS("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			all, _, err := discover("/proc")
			if err != nil {
				return err
			}
			for _, n := range all {
				defer n.close()
				if n.key == key {
					facts, err = c.state.readHostFacts(all)
					tt := &target{proc: "/proc", pids: n.pids}
					facts.Daemons, facts.ProxyMode = tt.daemons(context.Background(), facts.Booted)
				}
			}
			return err
		})
		return &facts
	}
	facts := read()
	if len(facts.Daemons) != 3 {
		t.Fatalf("%+v", facts.Daemons)
	}
	for _, name := range []string{"kubelet", "kube-proxy"} {
		d := facts.Daemon(name)
		if d == nil || d.Failure != "connection refused" || d.Started.After(began.Add(time.Second)) || d.Started.Before(facts.Booted) {
			t.Errorf("%s: %+v", name, d)
		}
	}
	// Where it listens is not known, until a socket is found: of K3s, and then its own.
	if d := facts.Daemon("containerd"); d == nil || d.Asked != "" || d.Failure != "" {
		t.Errorf("%+v", d)
	}
	for _, socket := range []string{"/run/k3s/containerd/containerd.sock", "/run/containerd/containerd.sock"} {
		at := fmt.Sprintf("/proc/%d/root%s", containerd, socket)
		if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
			t.Fatal(err)
		}
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: at})
		if err != nil {
			t.Fatal(err)
		}
		if d := read().Daemon("containerd"); d == nil || d.Asked != socket || d.Failure != "" {
			t.Errorf("%s: %+v", socket, d)
		}
		listener.SetUnlinkOnClose(false)
		listener.Close()
		if d := read().Daemon("containerd"); d == nil || d.Asked != socket || d.Failure != "connection refused" {
			t.Errorf("%s, where nobody listens: %+v", socket, d)
		}
	}
	healthy := http.StatusInternalServerError
	serve(kubeletHealth, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(healthy) })
	mode := "a secret"
	serve(proxyMode, func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, mode) })
	facts = read()
	if d := facts.Daemon("kubelet"); d.Failure != "HTTP status 500" {
		t.Errorf("%+v", d)
	}
	if d := facts.Daemon("kube-proxy"); d.Failure != "not an answer" || facts.ProxyMode != "" {
		t.Errorf("%+v, mode %q", d, facts.ProxyMode)
	}
	healthy, mode = http.StatusOK, "ipvs"
	facts = read()
	if facts.Daemon("kubelet").Failure != "" || facts.Daemon("kube-proxy").Failure != "" || facts.ProxyMode != "ipvs" {
		t.Errorf("%+v, mode %q", facts.Daemons, facts.ProxyMode)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o755); err != nil {
		t.Fatal(err)
	}
}

// What changes all the time is told only when it has changed by much.
func TestAnIdleHostStaysTheSame(t *testing.T) {
	h := newHostState("/proc")
	for _, test := range []struct{ now, want usage }{
		{usage{[3]float64{0.1, 0.2, 0.3}, 0}, usage{[3]float64{0.1, 0.2, 0.3}, 0}},
		{usage{[3]float64{1.9, 0.5, 0.1}, 9}, usage{[3]float64{0.1, 0.2, 0.3}, 0}},
		{usage{[3]float64{2.2, 0.5, 0.1}, 9}, usage{[3]float64{2.2, 0.5, 0.1}, 9}},
		{usage{[3]float64{2.2, 0.5, 0.1}, 20}, usage{[3]float64{2.2, 0.5, 0.1}, 20}},
	} {
		if got := h.steady(test.now, 4); got != test.want {
			t.Errorf("%v after %v, want %v", got, test.now, test.want)
		}
	}
}
