package main

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/confirm"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/snapshot"
)

// agentCapabilities are those that an agent needs, and what of its work fails
// without each. docs/security.md lists them.
var agentCapabilities = map[string]string{
	"sys_admin":  "collecting needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)",
	"net_admin":  "collecting needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)",
	"net_raw":    "an echo request: open a socket: operation not permitted",
	"sys_ptrace": "the namespace of a process of another user is not there",
	"setuid":     "needs root, CAP_SETUID and CAP_SETGID",
	"setgid":     "needs root, CAP_SETUID and CAP_SETGID",
}

// pod is a process in a network namespace of its own that only /proc leads to. It
// belongs to another user, has rules, and listens.
type pod struct {
	port   uint16
	legacy bool // whether the kernel has the tables of iptables-legacy
}

func startPod(t *testing.T) *pod {
	t.Helper()
	process := exec.Command("cat")
	process.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	stdin, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = process.Wait()
	})
	pid := strconv.Itoa(process.Process.Pid)
	inside := func(command ...string) ([]byte, error) {
		return exec.Command("nsenter", append([]string{"-t", pid, "-n"}, command...)...).CombinedOutput()
	}
	for _, command := range [][]string{
		{"ip", "link", "set", "lo", "up"},
		{"nft", "add table inet plumbline-test; add chain inet plumbline-test input { type filter hook input priority 0; }; add rule inet plumbline-test input tcp dport 1 drop"},
		{"iptables-nft", "-A", "INPUT", "-p", "tcp", "--dport", "2", "-j", "DROP"},
	} {
		if out, err := inside(command...); err != nil {
			t.Fatalf("%v: %v: %s", command, err, out)
		}
	}
	_, noLegacy := inside("iptables-legacy", "-A", "INPUT", "-p", "tcp", "--dport", "3", "-j", "DROP")
	file, err := os.Open("/proc/" + pid + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var listener net.Listener
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with this
		err := unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
		if err == nil {
			listener, err = net.Listen("tcp4", "127.0.0.1:0")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return &pod{uint16(listener.Addr().(*net.TCPAddr).Port), noLegacy == nil}
}

// lacks lists what an agent with these capabilities does not do under the default seccomp
// profile of container runtimes.
func (p *pod) lacks(t *testing.T, capabilities []string) (all []string) {
	t.Helper()
	set := "-all"
	for _, c := range capabilities {
		set += ",+" + c
	}
	a, err := tryAgent(t, []string{os.Args[0], confined, "setpriv", "--bounding-set", set, "--inh-caps", "-all", "--"})
	if err != nil {
		return []string{err.Error()}
	}
	base, err := url.Parse(a.base)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	fetched, err := snapshot.NewClient(&http.Client{Transport: transport}, snapshot.NewStore(), time.Minute).Fetch(t.Context(), base, 0, nil)
	if err != nil {
		return []string{err.Error()}
	}
	for what, why := range fetched.State.Manifest.Failures {
		all = append(all, what+": "+why)
	}
	i := slices.IndexFunc(fetched.State.Namespaces, func(ns *netstack.Namespace) bool {
		return slices.ContainsFunc(ns.Sockets, func(s netstack.Socket) bool { return s.Local.Port() == p.port })
	})
	if i < 0 {
		return append(all, "the namespace of a process of another user is not there")
	}
	ns := fetched.State.Namespaces[i]
	for part, status := range ns.Parts {
		if status.State == netstack.StateFailed {
			all = append(all, fmt.Sprintf("%s: %s", part, status.Detail))
		}
	}
	if !strings.Contains(string(ns.NFT.Data), "plumbline-test") {
		all = append(all, "the rules of nftables are not there")
	}
	for backend, rule := range map[netstack.Backend]string{netstack.BackendNFT: "--dport 2 -j DROP", netstack.BackendLegacy: "--dport 3 -j DROP"} {
		if backend == netstack.BackendLegacy && !p.legacy {
			continue
		}
		if !slices.ContainsFunc(ns.IPTables, func(d netstack.IPTablesDump) bool {
			return d.Backend == backend && strings.Contains(string(d.Data), rule)
		}) {
			all = append(all, fmt.Sprintf("the rules of iptables (%s) are not there", backend))
		}
	}
	for what, probe := range map[string]string{
		"a handshake":     fmt.Sprintf(`"protocol":"tcp","port":%d`, p.port),
		"a mark":          fmt.Sprintf(`"protocol":"tcp","port":%d,"mark":7`, p.port),
		"a user":          fmt.Sprintf(`"protocol":"tcp","port":%d,"uid":1234`, p.port),
		"an echo request": `"protocol":"icmp"`,
	} {
		order := fmt.Sprintf(`{"namespace":%q,"probe":{"destination":"127.0.0.1","timeout":5000000000,%s}}`, ns.Name, probe)
		if status, body := a.post(confirm.ProbePath, order); status != http.StatusOK || !strings.Contains(body, `"outcome":"established"`) && !strings.Contains(body, `"outcome":"answered"`) {
			all = append(all, what+": "+strings.TrimSpace(body))
		}
	}
	_, metrics := a.get("/metrics")
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "plumbline_probe_attached") && strings.HasSuffix(line, " 0\n") {
			all = append(all, strings.TrimSpace(line))
		}
	}
	return all
}

func TestEachCapabilityOfAnAgentIsNeededAndNoOther(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: an agent has privileges to give up")
	}
	p := startPod(t)
	capabilities := slices.Sorted(maps.Keys(agentCapabilities))
	if lacks := p.lacks(t, capabilities); len(lacks) != 0 {
		t.Fatalf("with all of them: %q", lacks)
	}
	doc, err := os.ReadFile("../../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, without := range capabilities {
		t.Run(without, func(t *testing.T) {
			lacks := p.lacks(t, slices.DeleteFunc(slices.Clone(capabilities), func(c string) bool { return c == without }))
			if want := agentCapabilities[without]; !strings.Contains(strings.Join(lacks, "\n"), want) {
				t.Errorf("got %q, want %q", lacks, want)
			}
			if !strings.Contains(string(doc), "`CAP_"+strings.ToUpper(without)+"`") {
				t.Error("docs/security.md does not list it")
			}
		})
	}
}
