package kubernetes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"

	"github.com/plumbline-net/plumbline/e2e/lab"
)

const (
	// dnsImage is the image of containers that are CoreDNS.
	dnsImage = "coredns"
	// dnsService is the address of the service that pods are told to ask.
	dnsService = "10.96.0.10"
	// domain is that of the cluster.
	domain = "cluster.local"
	// apiRelay is where CoreDNS finds the API server, in its own namespace: what it
	// knows must not depend on the network that scenarios break.
	apiRelay = "127.0.0.1:6443"
)

// outsideZone is what the world outside has for names: everything else does not
// exist. CoreDNS answers for it as if it had asked.
const outsideZone = `$ORIGIN .
. 60 IN SOA ns.invalid. nobody.invalid. 1 60 60 60 60
. 60 IN NS ns.invalid.
shop.example. 60 IN A ` + outside4 + `
alias.example. 60 IN CNAME shop.example.
empty.example. 60 IN TXT "has no address"
`

// silence is how long an answer is waited for.
const silence = 900 * time.Millisecond

// startDNS runs CoreDNS in a place, and returns when it answers.
func (c *Cluster) startDNS(ctx context.Context, place, name, etc string) (relay io.Closer, err error) {
	netns := c.Netns(place)
	l, err := c.relayAPI(netns, apiRelay)
	if err != nil {
		return nil, err
	}
	config, err := kubeconfig("https://" + apiRelay)
	if err != nil {
		return l, err
	}
	file := func(kind string) string { return filepath.Join(c.dir, name+kind) }
	corefile := fmt.Sprintf(`.:53 {
	errors
	kubernetes %s {
		kubeconfig %s
		pods insecure
	}
	file %s .
}
`, domain, file(".kubeconfig"), file(".zone"))
	for kind, text := range map[string]string{".kubeconfig": string(config), ".zone": outsideZone, ".corefile": corefile} {
		if err := os.WriteFile(file(kind), []byte(text), 0o600); err != nil {
			return l, err
		}
	}
	if err := c.startContainer(name, place, etc, c.component("coredns"), "-conf", file(".corefile")); err != nil {
		return l, err
	}
	return l, await(ctx, name+" answers", func(ctx context.Context) error {
		_, err := lookUp(ctx, netns, "kubernetes.default.svc."+domain, dnsmessage.TypeA)
		return errors.Join(err, c.processes.alive())
	})
}

// relayAPI brings the API server into a namespace, at an address there.
func (c *Cluster) relayAPI(netns, at string) (net.Listener, error) {
	var l net.Listener
	err := lab.InNetns(netns, func() (err error) {
		l, err = net.Listen("tcp", at)
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.relay(conn)
		}
	}()
	return l, nil
}

func (c *Cluster) relay(near net.Conn) {
	defer near.Close()
	far, err := c.dial(context.Background(), "tcp", net.JoinHostPort(controlAddress, "6443"))
	if err != nil {
		return
	}
	go func() {
		defer far.Close()
		_, _ = io.Copy(far, near)
	}()
	_, _ = io.Copy(near, far)
}

// lookUp asks the name server that runs in a namespace one question.
func lookUp(ctx context.Context, netns, name string, kind dnsmessage.Type) (*dnsmessage.Message, error) {
	reply, err := exchange(ctx, netns, "127.0.0.1:53", packQuestion(name+".", kind))
	if err != nil {
		return nil, err
	}
	m := new(dnsmessage.Message)
	return m, m.Unpack(reply)
}

// packQuestion is the datagram that asks for a name, which is a valid one.
func packQuestion(name string, kind dnsmessage.Type) []byte {
	question := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}},
	}
	packed, err := question.Pack()
	if err != nil {
		panic(err)
	}
	return packed
}

// exchange sends a datagram from a namespace, and returns what comes back.
func exchange(ctx context.Context, netns, to string, datagram []byte) (reply []byte, err error) {
	var conn net.Conn
	err = lab.InNetns(netns, func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, "udp", to)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(silence)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(datagram); err != nil {
		return nil, err
	}
	reply = make([]byte, 4096)
	n, err := conn.Read(reply)
	return reply[:n], err
}

// nameServers are the network namespaces in which CoreDNS runs.
func (c *Cluster) nameServers() (list []string) {
	for _, k := range c.kubelets {
		k.mu.Lock()
		for _, p := range k.pods {
			if p.dns != "" {
				list = append(list, p.dns)
			}
		}
		k.mu.Unlock()
	}
	return list
}

// knows says in its error what a name server has not heard of the marker yet.
func knows(ctx context.Context, netns string, port int) error {
	service := markerName + ".default.svc." + domain
	for _, name := range []string{service, strings.ReplaceAll(markerEndpoints[0], ".", "-") + "." + service} {
		m, err := lookUp(ctx, netns, name, dnsmessage.TypeSRV)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(m.Answers, func(r dnsmessage.Resource) bool {
			srv, ok := r.Body.(*dnsmessage.SRVResource)
			return ok && int(srv.Port) == port
		}) {
			return fmt.Errorf("%s has not the port %d yet: %v", name, port, m.Answers)
		}
	}
	return nil
}

// writeEtc makes what a pod sees of /etc, as kubelets do.
func (c *Cluster) writeEtc(object *corev1.Pod, name string) (dir string, err error) {
	dir = filepath.Join(c.dir, name+".etc")
	files := map[string]string{
		"nsswitch.conf": "hosts: files dns\n",
		"host.conf":     "multi on\n", // as in the images of most distributions
		"hosts":         "127.0.0.1 localhost\n::1 localhost\n",
		"resolv.conf":   resolvConf(object),
	}
	for _, a := range object.Spec.HostAliases {
		files["hosts"] += a.IP + " " + strings.Join(a.Hostnames, " ") + "\n"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// resolvConf is the file of a pod whose DNS policy is ClusterFirst or None.
func resolvConf(object *corev1.Pod) string {
	var servers, search, options []string
	if object.Spec.DNSPolicy != corev1.DNSNone {
		servers = []string{dnsService}
		search = []string{object.Namespace + ".svc." + domain, "svc." + domain, domain}
		options = []string{"ndots:5"}
	}
	if more := object.Spec.DNSConfig; more != nil {
		servers, search = append(servers, more.Nameservers...), append(search, more.Searches...)
		for _, o := range more.Options {
			option := o.Name
			if o.Value != nil {
				option += ":" + *o.Value
			}
			options = append(options, option)
		}
	}
	var text strings.Builder
	if len(search) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(search, " "))
	}
	for _, s := range servers {
		fmt.Fprintf(&text, "nameserver %s\n", s)
	}
	if len(options) > 0 {
		fmt.Fprintf(&text, "options %s\n", strings.Join(options, " "))
	}
	return text.String()
}

// resolve has the C library resolve a name, as a process in the pod does: with
// the pod's files, from its network namespace. There may be no address.
func (c *Cluster) resolve(ctx context.Context, pod, name string) (addrs []netip.Addr, err error) {
	pid, err := c.pid(containerName(pod))
	if err != nil {
		return nil, err
	}
	out, err := runIn(ctx, c.Netns(pod), "nsenter", "--target", fmt.Sprint(pid), "--mount", "getent", "ahosts", name)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == 2 { // getent(1): the key could not be found
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(out)) {
		addr, err := netip.ParseAddr(strings.Fields(line)[0])
		if err != nil {
			return nil, err
		}
		if !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs, nil
}

// kubeconfig configures clients of the API server at a URL.
func kubeconfig(server string) ([]byte, error) {
	return json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "tests",
		"clusters": []any{map[string]any{"name": "tests", "cluster": map[string]any{"server": server, "insecure-skip-tls-verify": true}}},
		"users":    []any{map[string]any{"name": "tests", "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "tests", "context": map[string]any{"cluster": "tests", "user": "tests"}}},
	})
}
