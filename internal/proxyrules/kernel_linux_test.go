package proxyrules

import (
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// sample has everything that a Spec can have.
var sample = Spec{Services: 5, Endpoints: 3, NodePortEvery: 2, Idle: 2, Nodes: []netip.Addr{netip.MustParseAddr("192.168.1.1")}}

// inNamespace runs f in a network namespace of its own, which goes when f
// returns: the goroutine keeps its thread, which ends with it.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("namespaces need root")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func run(stdin []byte, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil, errors.New(name + " " + strings.Join(args, " ") + ": " + string(exit.Stderr))
	}
	return out, err
}

// connect opens a connection to each Service, and says which endpoint took it.
func connect(load func() error) error {
	// The client is a pod: what it sends is not masqueraded.
	commands := []string{"link set lo up", "addr add 10.128.0.1/32 dev lo", "route add " + ServiceCIDR.String() + " dev lo src 10.128.0.1"}
	for i := range sample.Services {
		for e := range sample.Endpoints {
			commands = append(commands, "addr add "+sample.Endpoint(i, e).String()+"/32 dev lo")
		}
	}
	for _, c := range commands {
		if _, err := run(nil, "ip", strings.Fields(c)...); err != nil {
			return err
		}
	}
	if err := load(); err != nil {
		return err
	}
	listener, err := net.Listen("tcp4", net.JoinHostPort("0.0.0.0", "8080"))
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	for i := range sample.Services {
		client, err := net.Dial("tcp4", netip.AddrPortFrom(sample.ClusterIP(i), ServicePort).String())
		if err != nil {
			return err
		}
		server, err := listener.Accept()
		if err != nil {
			return err
		}
		at := server.LocalAddr().(*net.TCPAddr).AddrPort().Addr()
		_, _ = client.Close(), server.Close()
		endpoints := []netip.Addr{sample.Endpoint(i, 0), sample.Endpoint(i, 1), sample.Endpoint(i, 2)}
		if !slices.Contains(endpoints, at) {
			return errors.New("Service " + sample.ClusterIP(i).String() + " leads to " + at.String())
		}
	}
	return nil
}

// TestIPTables loads the rules with both backends: the kernel prints them back
// as they are, and they do what they should.
func TestIPTables(t *testing.T) {
	for _, backend := range []string{"nft", "legacy"} {
		t.Run(backend, func(t *testing.T) {
			want := sample.IPTables()
			inNamespace(t, func() error {
				return connect(func() error {
					if _, err := run(want, "iptables-"+backend+"-restore"); err != nil {
						return err
					}
					for _, table := range []string{"mangle", "filter", "nat"} {
						out, err := run(nil, "iptables-"+backend+"-save", "-t", table)
						if err != nil {
							return err
						}
						out = regexp.MustCompile(`(?m)^#.*\n`).ReplaceAll(out, nil)
						out = regexp.MustCompile(`\[\d+:\d+\]`).ReplaceAll(out, []byte("[0:0]"))
						if !bytes.Contains(want, out) {
							t.Errorf("the kernel prints table %s differently:\n%s", table, out)
						}
					}
					return nil
				})
			})
		})
	}
}

// withoutHandles decodes what nft -j prints, and drops what the kernel numbers.
func withoutHandles(t *testing.T, data []byte) any {
	t.Helper()
	var v struct {
		List []any `json:"nftables"`
	}
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	var strip func(any)
	strip = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "handle")
			for _, member := range v {
				strip(member)
			}
		case []any:
			for _, element := range v {
				strip(element)
			}
		}
	}
	strip(v.List)
	return v.List[1:] // the first names the version of nft
}

func TestNFTables(t *testing.T) {
	text := sample.NFTables()
	var listed, listedJSON []byte
	inNamespace(t, func() error {
		return connect(func() (err error) {
			if _, err = run(text, "nft", "-f", "-"); err != nil {
				return err
			}
			if listed, err = run(nil, "nft", "list", "ruleset"); err != nil {
				return err
			}
			listedJSON, err = run(nil, "nft", "-j", "list", "ruleset")
			return err
		})
	})
	if !bytes.Equal(listed, text) {
		t.Errorf("the kernel prints the rules differently:\n%s", listed)
	}
	if want, got := withoutHandles(t, listedJSON), withoutHandles(t, sample.NFTablesJSON()); !reflect.DeepEqual(want, got) {
		t.Errorf("nft -j prints\n%v\nnot\n%v", want, got)
	}
}
