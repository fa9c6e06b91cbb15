package collector

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// TestZonesOfConnectionsAreWrittenAsTheToolDoes has connections in a zone, of both directions and of either.
func TestZonesOfConnectionsAreWrittenAsTheToolDoes(t *testing.T) {
	ns := newNetns(t, "zones")
	inside(t, ns, "ip", "link", "set", "lo", "up")
	inside(t, ns, "iptables", "-A", "OUTPUT", "-m", "conntrack", "--ctstate", "NEW")
	for port, option := range map[string]string{"9": "--zone-orig", "10": "--zone-reply", "11": "--zone"} {
		inside(t, ns, "iptables", "-t", "raw", "-A", "OUTPUT", "-p", "udp", "--dport", port, "-j", "CT", option, "7")
		insideThread(t, ns, func() error {
			c, err := net.Dial("udp4", "127.0.0.1:"+port)
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte("x"))
			return err
		})
	}
	got := zonesOf(string(collectNetns(t, ns, netstack.PartConntrack).Conntrack.Data))
	want := zonesOf(inside(t, ns, "conntrack", "-L", "-p", "udp"))
	if len(want) != 3 || !slices.Equal(got, want) {
		t.Errorf("zones %q, want %q", got, want)
	}
}

// zonesOf are the zones in lines of UDP, with the word before each.
func zonesOf(lines string) []string {
	var list []string
	for line := range strings.Lines(lines) {
		before := ""
		for _, word := range strings.Fields(line) {
			if strings.HasPrefix(word, "zone") {
				list = append(list, strings.Split(before, "=")[0]+" "+word)
			}
			before = word
		}
	}
	slices.Sort(list)
	return list
}
