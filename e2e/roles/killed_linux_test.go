package roles

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/internal/synclog"
	"github.com/plumbline-net/plumbline/snapshot"
)

// agentProcess is a real agent: the half with privileges, and the one that serves.
type agentProcess struct {
	*exec.Cmd
	url *url.URL
}

func build(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "plumbline")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/plumbline").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// startProcess starts the agent of a node in a network namespace, and waits until it listens. The agent may take that for
// its host's, where it cannot look at process 1: it has to be none of the node's.
func (c *cluster) startProcess(t *testing.T, program, node, ns string) *agentProcess {
	t.Helper()
	config := filepath.Join(t.TempDir(), "plumbline.yaml")
	text := fmt.Sprintf("node: %s\nprobes: {enabled: false}\ncollector: {namespaces: [%s], maxAge: 0s}\n", node, strings.Join(names(t, c.Lab, node), ", "))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	said := &synclog.Buffer{}
	a := &agentProcess{Cmd: exec.Command(program, "agent", "--config", config, "--web.listen-address=127.0.0.1:0")}
	a.Stderr = said
	if err := lab.InNetns(ns, a.Start); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.kill)
	listening := regexp.MustCompile(`msg=listening address=(\S+)`)
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if m := listening.FindStringSubmatch(said.String()); m != nil {
			a.url = &url.URL{Scheme: "http", Host: m[1]}
			return a
		}
		if time.Now().After(deadline) {
			t.Fatalf("the agent does not listen: %s", said)
		}
	}
}

// kill ends both halves at once, as the end of a container does, and waits for them. Once they have ended it does nothing.
func (a *agentProcess) kill() {
	if a.ProcessState != nil {
		return
	}
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", a.Process.Pid))
	for _, thread := range threads {
		children, _ := os.ReadFile(thread)
		for _, child := range strings.Fields(string(children)) {
			if pid, err := strconv.Atoi(child); err == nil {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	_ = a.Process.Kill()
	_ = a.Wait() // until the half that serves has closed its end of stderr, too
}

// slowly reaches a network namespace, and lets no more wait to be read than the kernel demands.
func slowly(ns string) func(context.Context, string, string) (net.Conn, error) {
	dialer := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		failed := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1) })
		return errors.Join(failed, err)
	}}
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = lab.InNetns(ns, func() error {
			conn, err = dialer.DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}

// cut is an answer of which the first bytes that are read end the agent.
type cut struct {
	io.ReadCloser
	kill   func()
	read   int64         // once it is closed
	closed chan struct{} // by whoever reads it
}

func (c *cut) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if n > 0 && c.read == 0 {
		c.kill()
	}
	c.read += int64(n)
	return n, err
}

func (c *cut) Close() error {
	defer close(c.closed)
	return c.ReadCloser.Close()
}

// bulk is rules that nothing jumps to, and that cannot be made much smaller.
func bulk() string {
	var text strings.Builder
	text.WriteString("table inet bulk {\n chain c {\n")
	random, comment := rand.NewChaCha8([32]byte{}), make([]byte, 90)
	for range 5000 {
		_, _ = random.Read(comment)
		fmt.Fprintf(&text, "  counter comment %q\n", base64.StdEncoding.EncodeToString(comment))
	}
	return text.String() + " }\n}\n"
}

// The kernel holds little of what an agent sends to a reader that is slow, so that the agent still has most of
// a large blob to send when it is killed.
func TestAnAgentIsKilledWhileItSends(t *testing.T) {
	c := startCluster(t, "")
	between := lab.Endpoint{Kind: "fabric"}
	ns, err := c.Netns(between)
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(t.TempDir(), "bulk.nft")
	if err := os.WriteFile(rules, []byte(bulk()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []struct {
		at   lab.Endpoint
		argv []string
	}{
		{between, []string{"sysctl", "-q", "net.ipv4.tcp_wmem=4096 4096 4096"}},
		{between, []string{"ip", "link", "set", "lo", "up"}},
		{lab.NodeEndpoint("node-2"), []string{"nft", "-f", rules}},
	} {
		if out, err := c.Output(t.Context(), o.at, o.argv...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	program, front := build(t), c.agents["node-2"]
	replace := func() *agentProcess {
		a := c.startProcess(t, program, "node-2", ns)
		front.transport.CloseIdleConnections()
		front.agent.Store(a.url)
		return a
	}
	c.stops["node-2"]()
	front.transport.DialContext = slowly(ns)
	a := replace()
	var size int64
	broken, once := &cut{kill: a.kill, closed: make(chan struct{})}, sync.Once{}
	front.answer = func(r *http.Response) error {
		if strings.HasPrefix(r.Request.URL.Path, snapshot.BlobPath) && r.ContentLength > 256<<10 {
			once.Do(func() { size, broken.ReadCloser, r.Body = r.ContentLength, r.Body, broken })
		}
		return nil
	}
	c.check("with an agent that is killed while it sends", half)
	if broken.ReadCloser == nil {
		t.Fatal("no large blob was asked for")
	}
	<-broken.closed
	if broken.read == 0 || broken.read >= size {
		t.Fatalf("%d of %d bytes of a blob had arrived", broken.read, size)
	}
	c.check("later", half)
	if _, body := c.get("/metrics"); !strings.Contains(body, `plumbline_agent_up{node="node-1"} 1`) || !strings.Contains(body, `plumbline_agent_up{node="node-2"} 0`) {
		t.Error("plumbline_agent_up does not tell which agent is gone")
	}
	replace()
	c.check("with another agent", whole)
}
