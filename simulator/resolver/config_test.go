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
	}{
		{
			"a pod's", "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n",
			&Config{Servers: []netip.Addr{addr("10.96.0.10")}, Search: []string{"shop.svc.cluster.local", "svc.cluster.local", "cluster.local"}, Ndots: 5},
		},
		{"nothing means the loopback address", "", &Config{Servers: []netip.Addr{addr("127.0.0.1")}, Ndots: 1}},
		{
			"comments, unknown keywords and indented lines are passed over", "# nameserver x\n; y\n\f\n\u00a0\r\nfamily inet4\n nameserver z\nnameserver 192.0.2.1",
			&Config{Servers: []netip.Addr{addr("192.0.2.1")}, Ndots: 1},
		},
		{
			"the last of search and domain counts", "search a b\ndomain Example.org. more\nnameserver ::1%lo\n",
			&Config{Servers: []netip.Addr{addr("::1")}, Search: []string{"example.org"}, Ndots: 1},
		},
		{
			"three servers at most, fifteen dots at most", "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\noptions rotate ndots:99 edns0\nsearch .\n",
			&Config{Servers: []netip.Addr{addr("192.0.2.1"), addr("192.0.2.2"), addr("192.0.2.3")}, Search: []string{""}, Ndots: 15, Rotate: true},
		},
		{
			"servers that are no addresses", "nameserver\nnameserver dns.example\nnameserver 10.0.0.300\nnameserver 192.0.2.1 x\n",
			&Config{Servers: []netip.Addr{addr("192.0.2.1")}, Ndots: 1},
		},
		{"ndots that is no number", "options ndots:x\n", &Config{Servers: []netip.Addr{addr("127.0.0.1")}, Ndots: 0}},
		{"ndots that is half a number", "options ndots:+3x\n", &Config{Servers: []netip.Addr{addr("127.0.0.1")}, Ndots: 3}},
		{"ndots that is too large a number", "options ndots:99999999999999999999\n", &Config{Servers: []netip.Addr{addr("127.0.0.1")}, Ndots: 15}},
		{"ndots that is negative", "options ndots:-1\n", &Config{Servers: []netip.Addr{addr("127.0.0.1")}, Ndots: 15}},
		{"search domains that cannot be", "search .a b..c\n", &Config{Servers: []netip.Addr{addr("127.0.0.1")}, Search: []string{"a", "b..c"}, Ndots: 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, ParseConfig([]byte(c.text)), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
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
	broken := &Config{Search: []string{"a", "b..c", "d"}, Ndots: 1} // what cannot be asked for ends the search
	if got := strings.Join(broken.Candidates("api"), " "); got != "api.a api" {
		t.Errorf("with a search domain that cannot be: %s", got)
	}
	root := &Config{Search: []string{"", "example"}, Ndots: 1}
	if got := strings.Join(root.Candidates("api"), " "); got != "api api.example" {
		t.Errorf("with the root among the search domains: %s", got)
	}
}

func TestParseHosts(t *testing.T) {
	h := ParseHosts([]byte("127.0.0.1 localhost # me\n\n10.0.0.7\tDB db.shop\nfe80::1%eth0 link\n<TODO> x\n10.0.0.300 db\n# a\nlocalhost 127.0.0.2\n10.0.0.9\n10.0.0.8 db\n"))
	want := Hosts{
		"localhost": {netip.MustParseAddr("127.0.0.1")}, "db.shop": {netip.MustParseAddr("10.0.0.7")},
		"db": {netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.0.8")},
	}
	if diff := cmp.Diff(want, h, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := h.Lookup("Db"); len(got) != 2 {
		t.Errorf("Db: %v", got)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("search a b\nnameserver 10.96.0.10\noptions ndots:5 rotate\n"), "api.shop")
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		c := ParseConfig(data)
		if len(c.Servers) == 0 || len(c.Servers) > maxServers || c.Ndots < 0 || c.Ndots > maxNdots {
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
	f.Fuzz(func(_ *testing.T, data []byte) { ParseHosts(data) })
}
