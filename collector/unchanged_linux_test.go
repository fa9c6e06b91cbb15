package collector

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/snapshot"
)

// TestWhatIsUnchangedIsNotSentAgain has an agent collect a node again: what a controller fetches
// of it then is only what has changed. No time, counter, number or order differs by itself: but the
// time that elements of sets have left, and, in another generation of rules, the counters of nftables.
func TestWhatIsUnchangedIsNotSentAgain(t *testing.T) {
	ns, peer := newNetns(t, "a"), newNetns(t, "b")
	// Nothing is to change by itself meanwhile: an address that is checked for duplicates, a
	// port that begins to forward, a bridge that tells of the group that it has joined to snoop, or a station that says
	// something.
	script(t, peer, `
		sysctl -qw net.ipv6.conf.default.disable_ipv6=1
	`)
	script(t, ns, `
		sysctl -qw net.ipv6.conf.default.accept_dad=0
		ip link add br0 type bridge forward_delay 0 mcast_snooping 0
		ip link add p0 type veth peer name p1 netns `+peer+`
		ip link set p0 master br0
		bridge link set dev p0 learning off
		ip link set br0 up
		ip link set p0 up
		ip addr add 10.0.0.1/24 dev br0
		ip addr add fd00::1/64 dev br0 nodad
		ip neighbour add 10.0.0.2 lladdr 02:00:00:00:00:02 dev br0 nud permanent
		bridge fdb add 02:00:00:00:00:02 dev p0 master static
		ip route add 10.9.0.0/16 via 10.0.0.2
		ip -6 route add fd09::/64 via fd00::2
		ip rule add fwmark 7 lookup 77
		tc qdisc add dev br0 clsact
		tc filter add dev br0 ingress protocol ip u32 match ip dst 10.8.0.1/32 flowid 1:1
		ip xfrm policy add dir out src 10.7.0.0/16 dst 10.6.0.0/16 action block
		ipset create s hash:ip
		ipset add s 10.0.0.9
		iptables-legacy -A INPUT -m set --match-set s src -j DROP
		iptables-legacy -t nat -A POSTROUTING -p tcp -j MASQUERADE
		ip6tables-legacy -A INPUT -p tcp -j ACCEPT
		iptables-nft -A INPUT -p tcp -j ACCEPT
		ip6tables-nft -A INPUT -p tcp -j ACCEPT
		nft add table inet t
		nft add set inet t s { type ipv4_addr ; elements = { 10.0.0.7 } ; }
		nft add chain inet t c
		nft add rule inet t c counter ip saddr @s drop
		sysctl -qw net.netfilter.nf_conntrack_udp_timeout=3600
	`)
	script(t, peer, "ip link set p1 up")
	operational(t, ns, "p0", "br0")

	c := New(Options{Namespaces: []string{ns}, Logger: quiet()})
	agent := httptest.NewServer(snapshot.NewServer("node", func(ctx context.Context, _ time.Duration) (*simulator.Snapshot, time.Time, error) {
		began := time.Now()
		snap, err := c.Collect(ctx)
		return snap, began, err
	}, quiet()))
	defer agent.Close()
	address, err := url.Parse(agent.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	client := snapshot.NewClient(&http.Client{Transport: transport}, snapshot.NewStore())
	var state *snapshot.State
	// changed are the files of the namespace that are others than before.
	changed := func() []string {
		before := state
		got, err := client.Fetch(t.Context(), address, 0, before)
		if err != nil {
			t.Fatal(err)
		}
		state = got.State
		files := maps.Clone(state.Manifest.Namespaces[ns])
		if before != nil {
			maps.DeleteFunc(files, func(name string, e snapshot.Entry) bool { return before.Manifest.Namespaces[ns][name] == e })
		}
		return slices.Sorted(maps.Keys(files))
	}
	if all := strings.Join(changed(), " "); !strings.Contains(all, "iptables-save-legacy.txt") || !strings.Contains(all, "ip6tables-save.txt") {
		t.Fatalf("collected: %s", all)
	}

	// Tools print the time, to the second.
	now := time.Now().Unix()
	eventually(t, "another second", func() bool { return time.Now().Unix() > now })
	// Another generation of nftables' rules, which are the same: they are read again.
	script(t, ns, "nft add table ip x\nnft delete table ip x")
	if files := changed(); len(files) > 0 {
		t.Errorf("changed on a node that is idle: %s", files)
	}

	insideThread(t, ns, func() error {
		conn, err := net.Dial("udp4", "127.0.0.1:9")
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	})
	if files := changed(); !slices.Equal(files, []string{"conntrack.txt", "sysctl.txt"}) { // nf_conntrack_count
		t.Errorf("changed with a connection: %s, and not only what has it", files)
	}
}
