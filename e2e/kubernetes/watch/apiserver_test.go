//go:build k8s && linux

package watch_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// patience bounds each wait for a condition: machines that run tests are slow
// at times.
const patience = 2 * time.Minute

// Tokens of the two accounts: one may do anything, one may only read, as far as
// a test lets it.
const (
	adminToken  = "admin"
	readerToken = "reader"
)

// apiServer is a real one, with its etcd, on loopback.
type apiServer struct {
	t      testing.TB
	dir    string
	etcd   string    // URL
	store  *exec.Cmd // etcd
	port   string
	server *exec.Cmd
	admin  *dynamic.DynamicClient
}

func start(t testing.TB) *apiServer { return startThrough(t, nil) }

// startThrough has the server reach its etcd through a link, if there is one.
func startThrough(t testing.TB, link *link) *apiServer {
	t.Helper()
	s := &apiServer{t: t, dir: t.TempDir(), port: freePort(t)}
	port := freePort(t)
	own := "http://127.0.0.1:" + port
	s.etcd = own
	if link != nil {
		s.etcd = "http://" + link.listen(t, "127.0.0.1:"+port)
	}
	peer := "http://127.0.0.1:" + freePort(t)
	s.store = s.run("etcd", "etcd", "--data-dir", filepath.Join(s.dir, "etcd"), "--unsafe-no-fsync", "--quota-backend-bytes=4294967296",
		"--listen-client-urls", own, "--advertise-client-urls", own, "--listen-peer-urls", peer)
	s.stopAtEnd(s.store)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s.write("key", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})))
	s.write("tokens", adminToken+",admin,1,system:masters\n"+readerToken+",reader,2\n")
	if s.admin, err = dynamic.NewForConfig(s.config(adminToken)); err != nil {
		t.Fatal(err)
	}
	s.up()
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := os.ReadFile(filepath.Join(s.dir, "kube-apiserver.log"))
			t.Logf("kube-apiserver printed:\n%s", text[max(0, len(text)-4000):])
		}
		s.down()
	})
	return s
}

// up starts the server and waits until it answers.
func (s *apiServer) up() {
	s.t.Helper()
	file := func(name string) string { return filepath.Join(s.dir, name) }
	s.server = s.run("kube-apiserver", filepath.Join(os.Getenv("PLUMBLINE_KUBERNETES"), "kube-apiserver"), "--etcd-servers="+s.etcd,
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--secure-port="+s.port, "--cert-dir="+file("certificates"),
		"--token-auth-file="+file("tokens"), "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount", "--endpoint-reconciler-type=none",
		"--max-requests-inflight=4000", "--max-mutating-requests-inflight=2000",
		"--service-cluster-ip-range=10.96.0.0/16", "--service-account-issuer=https://plumbline.invalid",
		"--service-account-key-file="+file("key"), "--service-account-signing-key-file="+file("key"))
	s.await("the API server answers", func(ctx context.Context) error {
		_, err := s.resource("v1", "namespaces", "").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// down kills the server. Its connections break; etcd goes on.
func (s *apiServer) down() {
	_ = s.server.Process.Kill()
	_ = s.server.Wait()
}

func (s *apiServer) run(name string, argv ...string) *exec.Cmd {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("start %s: %v", name, err)
	}
	return cmd
}

func (s *apiServer) stopAtEnd(cmd *exec.Cmd) {
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

func (s *apiServer) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *apiServer) config(token string) *rest.Config {
	return &rest.Config{
		Host: "https://127.0.0.1:" + s.port, BearerToken: token, QPS: -1,
		TLSClientConfig: rest.TLSClientConfig{Insecure: true}, // it has signed its certificate itself
	}
}

// kubeconfig writes a file for the account, and returns its path.
func (s *apiServer) kubeconfig(token string) string {
	return s.kubeconfigAt("kubeconfig", "127.0.0.1:"+s.port, token)
}

// kubeconfigAt writes one by which the API server is reached at another address.
func (s *apiServer) kubeconfigAt(name, address, token string) string {
	s.write(name, fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: "https://%s", insecure-skip-tls-verify: true}}], users: [{name: u, user: {token: %s}}]}`, address, token))
	return filepath.Join(s.dir, name)
}

// resource is a resource of the API by its apiVersion and name.
func (s *apiServer) resource(apiVersion, name, namespace string) dynamic.ResourceInterface {
	version, err := schema.ParseGroupVersion(apiVersion)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.admin.Resource(version.WithResource(name)).Namespace(namespace)
}

// create creates an object of a resource from YAML.
func (s *apiServer) create(resource, text string) {
	s.t.Helper()
	object := parse(s.t, text)
	// A server that has just come up, or was just told of a kind, may not take it yet.
	s.await("the API server takes a new object", func(ctx context.Context) error {
		_, err := s.resource(object.GetAPIVersion(), resource, object.GetNamespace()).Create(ctx, object, metav1.CreateOptions{})
		return err
	})
}

func parse(t testing.TB, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	return object
}

// await waits until a condition holds.
func (s *apiServer) await(what string, condition func(context.Context) error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("wait until %s: %v", what, err)
		case <-tick.C:
		}
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// connections are those of a client, which a test may cut, or silence.
type connections struct {
	mu   sync.Mutex
	open []*connection
}

// connection is one that nothing comes from any more once it is silent, as
// behind a router that has forgotten it.
type connection struct {
	net.Conn
	silence chan struct{} // closed when it falls silent
	closed  chan struct{}
	once    sync.Once
}

func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	select {
	case <-c.silence:
		<-c.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

func (c *connection) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}

func (c *connections) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	one := &connection{Conn: conn, silence: make(chan struct{}), closed: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = append(c.open, one)
	return one, nil
}

// hush silences all, and returns how many there were.
func (c *connections) hush() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.open)
	for _, conn := range c.open {
		close(conn.silence)
	}
	c.open = nil
	return n
}

func (c *connections) cut() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.open)
	for _, conn := range c.open {
		conn.Close()
	}
	c.open = nil
	return n
}
