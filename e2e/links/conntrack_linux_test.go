package links

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

const conntrackMax = "/proc/sys/net/netfilter/nf_conntrack_max"

// fills has the node's table of connections hold more than the limit, which all namespaces share: assured ones, which the
// kernel keeps, or others.
func fills(flags string) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		const entries = 200
		var list strings.Builder
		for i := range entries {
			fmt.Fprintf(&list, "-I -s 192.0.2.1 -d 192.0.2.2 -p tcp --sport %d --dport 80 --state ESTABLISHED -u %s -t 6000\n", 1000+i, flags)
		}
		file := t.TempDir() + "/entries"
		if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		w.command("n", "conntrack", "-R", file)
		before, err := os.ReadFile(conntrackMax)
		if err == nil {
			err = os.WriteFile(conntrackMax, []byte(strconv.Itoa(entries)), 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.WriteFile(conntrackMax, before, 0) })
	}
}

const tracked = joined + routed + `
	n iptables -A FORWARD -m conntrack --ctstate NEW -j ACCEPT
	n iptables -A OUTPUT -m conntrack --ctstate NEW -j ACCEPT
`

func TestConntrackTables(t *testing.T) {
	for i, s := range []scenario{
		{name: "a new connection is forwarded", setup: tracked, to: "2.1", reason: verdict.ConntrackTableFull},
		{name: "a new connection is made here", setup: tracked, from: "n", to: "2.1", reason: verdict.ConntrackTableFull},
		{name: "a new connection to this host", setup: tracked, to: "1.254", reason: verdict.ConntrackTableFull},
		{name: "a rule would have rejected it later", setup: tracked + `
			n iptables -I FORWARD -j REJECT`, to: "2.1", reason: verdict.ConntrackTableFull},
		{name: "what is not tracked passes", setup: tracked + `
			n iptables -t raw -A PREROUTING -j NOTRACK`, to: "2.1"},
		{name: "a rule drops it before", setup: tracked + `
			n iptables -t raw -A PREROUTING -i pa -j DROP`, to: "2.1", reason: verdict.NetfilterDrop},
	} {
		s.needs, s.only, s.attach = []string{ownKernel}, netstack.IPv4, fills("SEEN_REPLY,ASSURED")
		t.Run(s.name, func(t *testing.T) { s.run(t, fmt.Sprintf("ct%d", i)) })
	}
	s := scenario{
		name: "the kernel may make room", needs: []string{ownKernel}, only: netstack.IPv4, setup: tracked, to: "2.1",
		attach: fills("SEEN_REPLY"), opaque: true, reason: verdict.ConntrackTableFull,
	}
	t.Run(s.name, func(t *testing.T) { s.run(t, "ctr") })
}
