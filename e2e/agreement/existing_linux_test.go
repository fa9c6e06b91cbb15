package agreement

import (
	"net/netip"
	"testing"

	"github.com/plumbline-net/plumbline/e2e/against"
	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// TestAnOldConnectionGoesWhereItWent changes where datagrams to an address are
// sent. A client that keeps its port goes on as before, even after what it was
// sent to is gone; another port goes by the new rule.
func TestAnOldConnectionGoesWhereItWent(t *testing.T) {
	t.Parallel()
	l := startQuick(t, "entries", nil)
	const kept, fresh, port = 20777, 20778, 53
	client, err := l.ParseEndpoint(web)
	if err != nil {
		t.Fatal(err)
	}
	backends := map[netstack.Family]map[string]netip.AddrPort{}
	for _, f := range bothFamilies {
		backends[f] = map[string]netip.AddrPort{}
		for _, pod := range []string{near, far} {
			s := scenario{to: pod}
			if backends[f][pod], _, err = s.target(l, words(t, l, f), "udp", f); err != nil {
				t.Fatal(err)
			}
		}
	}
	rule := func(verb, pod string) {
		for _, f := range bothFamilies {
			apply(t, l, `node-1 {iptables} -t nat `+verb+` PREROUTING -p udp -d {nobody} --dport 53 -j DNAT --to-destination `+backends[f][pod].String(),
				[]netstack.Family{f})
		}
	}
	judge := func(what string, source uint16, pod string, reason verdict.Code) {
		t.Helper()
		world := against.Compile(t, collect(t, l))
		for _, f := range bothFamilies {
			to := netip.AddrPortFrom(netip.MustParseAddr(words(t, l, f).Replace("{nobody}")), port)
			report := against.Diagnose(t, world, verdict.Query{From: client.String(), To: to.Addr().String(), Port: port, Protocol: verdict.UDP, SourcePort: source})
			fate, err := l.Connect(t.Context(), client, to, lab.ConnectOptions{Protocol: "udp", SourcePort: source})
			if err != nil {
				t.Fatal(err)
			}
			if len(report.Paths) != 1 {
				t.Fatalf("%s, %s: %d paths: %v", what, f, len(report.Paths), report.Reasons)
			}
			path := &report.Paths[0]
			against.Agree(t, what+", "+f.String(), "udp", fate, path, reason)
			if got := path.Destination.IP; got != backends[f][pod].Addr().String() {
				t.Errorf("%s, %s: simulated to %s, want %s", what, f, got, backends[f][pod])
			}
			if reason == "" && fate.Peer != pod {
				t.Errorf("%s, %s: %s answered, want %s", what, f, fate.Peer, pod)
			}
		}
	}
	rule("-I", far)
	judge("a new connection", kept, far, "")
	rule("-D", far)
	rule("-I", near)
	judge("the same port after the rule has changed", kept, far, "")
	judge("another port", fresh, near, "")
	for _, f := range bothFamilies {
		apply(t, l, `node-1 {ip} route add blackhole `+backends[f][far].Addr().String(), []netstack.Family{f})
	}
	judge("the same port after the backend has gone", kept, far, verdict.ConntrackStaleEntry)
	judge("another port then", fresh, near, "")
}
