package resolver

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseConfig(t *testing.T) {
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name, text string
		want       *Config
		err        string
	}{
		{
			"a pod's", "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
			&Config{Servers: []netip.Addr{addr("10.96.0.10")}, Search: []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"}, Ndots: 5}, "",
		},
		{"nothing means the loopback address", "", &Config{Servers: []netip.Addr{addr("127.0.0.1")}, Ndots: 1}, ""},
		{
			"comments, unknown keywords and indented lines are passed over", "# nameserver x\n; y\n\f\n\u00a0\r\nfamily inet4\n nameserver z\nnameserver 192.0.2.1",
			&Config{Servers: []netip.Addr{addr("192.0.2.1")}, Ndots: 1}, "",
		},
		{
			"the last of search and domain counts", "search a b\ndomain Example.org. more\nnameserver ::1%lo\n",
			&Config{Servers: []netip.Addr{addr("::1")}, Search: []string{"example.org"}, Ndots: 1}, "",
		},
		{
			"three servers at most, fifteen dots at most", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\noptions rotate ndots:99 edns0\nsearch .\n",
			&Config{Servers: []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2"), addr("192.0.2.3")}, Search: []string{""}, Ndots: 15, Rotate: true}, "",
		},
		{"a server that is no address", "search a\nnameserver dns.example\n", nil, `f:2: nameserver: not an address at "dns.example"`},
		{"a server that is missing", "nameserver\n", nil, `f:1: nameserver: want an address at "nameserver"`},
		{"ndots that is no number", "options ndots:x\n", nil, `f:1: options: ndots wants a number at "ndots:x"`},
		{"a search domain that cannot be", "search a..b\n", nil, `f:1: search: not a domain at "a..b"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ParseConfig("f", []byte(c.text))
			if (err != nil || c.err != "") && (err == nil || err.Error() != c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	c := &Config{Search: []string{"shop.svc.cluster.local", "example"}, Ndots: 2}
	for name, want := range map[string]string{
		"api":                            "api.shop.svc.cluster.local api.example api",
		"API.shop":                       "api.shop.shop.svc.cluster.local api.shop.example api.shop",
		"api.shop.svc":                   "api.shop.svc api.shop.svc.shop.svc.cluster.local api.shop.svc.example",
		"api.":                           "api",
		"a..b":                           "",
		strings.Repeat("a", 63) + ".b.c": strings.Repeat("a", 63) + ".b.c " + strings.Repeat("a", 63) + ".b.c.shop.svc.cluster.local " + strings.Repeat("a", 63) + ".b.c.example",
	} {
		if got := strings.Join(c.Candidates(name), " "); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	root := &Config{Search: []string{"", "example"}, Ndots: 1}
	if got := strings.Join(root.Candidates("api"), " "); got != "api api.example" {
		t.Errorf("with the root among the search domains: %s", got)
	}
}

func TestParseHosts(t *testing.T) {
	h, err := ParseHosts("f", []byte("127.0.0.1 localhost # me\n\n10.0.0.7\tDB db.shop\nfe80::1%eth0 link\n10.0.0.8 db\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := h.Lookup("Db"); len(got) != 2 || got[0].String() != "10.0.0.7" || got[1].String() != "10.0.0.8" {
		t.Errorf("db: %v", got)
	}
	if _, err := ParseHosts("f", []byte("# a\nlocalhost 127.0.0.1\n")); err == nil || err.Error() != `f:2: want an address at "localhost"` {
		t.Errorf("error %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("search a b\nnameserver 10.96.0.10\noptions ndots:5 rotate\n"), "api.shop")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		c, err := ParseConfig("f", data)
		if err != nil {
			return
		}
		if len(c.Servers) == 0 || len(c.Servers) > maxServers || c.Ndots > maxNdots {
			t.Errorf("%+v", c)
		}
		for _, candidate := range c.Candidates(name) {
			if !ValidName(candidate) && !strings.HasSuffix(name, ".") {
				t.Errorf("%q is not a name", candidate)
			}
		}
	})
}

func FuzzParseHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost # me\n::1 a b\n"))
	f.Fuzz(func(_ *testing.T, data []byte) { _, _ = ParseHosts("f", data) })
}
