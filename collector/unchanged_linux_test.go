package collector

import (
	"context"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/plumbline-net/plumbline/simulator"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/snapshot"
)

// TestWhatIsUnchangedIsNotSentAgain has an agent collect a node again: what a controller fetches
// of it then is only what has changed. No time, counter, number or order differs by itself: but, in another
// generation of rules, the counters of nftables and the time that elements of sets have left.
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
	client := snapshot.NewClient(&http.Client{Transport: transport}, snapshot.NewStore(), time.Minute)
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

// countRuns has the tools of a collector note that they run, and returns what tells which did.
func countRuns(t *testing.T, c *Collector) func() string {
	t.Helper()
	dir := t.TempDir()
	runs := filepath.Join(dir, "runs")
	c.state.tools.look = func(name string) (string, error) {
		path, err := lookPath(name)
		if err != nil {
			return "", err
		}
		wrapper := filepath.Join(dir, name)
		return wrapper, os.WriteFile(wrapper, []byte("#!/bin/sh\necho "+name+" >>"+runs+"\nexec "+path+" \"$@\"\n"), 0o755)
	}
	return func() string {
		text, err := os.ReadFile(runs)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
}

// sameMemory says whether a text is the one that was read before, not one that reads the same.
func sameMemory(a, b []byte) bool { return len(a) > 0 && len(a) == len(b) && &a[0] == &b[0] }

// say sends a packet to an address of the namespace itself.
func say(t *testing.T, ns, address string) {
	t.Helper()
	insideThread(t, ns, func() error {
		conn, err := net.Dial("udp", net.JoinHostPort(address, "9"))
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	})
}

// A table of one family does not make the tool of the other run, and an unchanged rule set is not read again: not for
// counters, nor for the time that elements have left, nor for an interface that no rule names.
func TestAnUnchangedRuleSetIsReadOnce(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		iptables-nft -A INPUT -j ACCEPT
		nft add table inet t
		nft add set inet t s { type ipv4_addr ; flags dynamic,timeout ; timeout 1h ; }
		nft add chain inet t c { type filter hook output priority 0 ; }
		nft add rule inet t c update @s { ip daddr counter }
	`)
	say(t, ns, "127.0.0.7")
	c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartLinks, netstack.PartIPTables4, netstack.PartIPTables6, netstack.PartNFT}})
	count := countRuns(t, c)
	first := collectSnapshot(t, c).Namespaces[0]
	if !strings.Contains(string(first.NFT.Data), `"val": "127.0.0.7", "expires": 3`) {
		t.Errorf("the element is not in %s", first.NFT.Data)
	}
	say(t, ns, "127.0.0.7")
	left := regexp.MustCompile(`"expires": \d+`)
	eventually(t, "elements have another time left", func() bool {
		now := left.FindAllString(inside(t, ns, "nft", "-j", "list", "set", "inet", "t", "s"), -1)
		return !slices.Equal(now, left.FindAllString(string(first.NFT.Data), -1))
	})
	inside(t, ns, "ip", "link", "add", "e0", "type", "veth", "peer", "name", "e1")
	second := collectSnapshot(t, c).Namespaces[0]
	same(t, "tools run", "iptables-nft-save\n", count())
	if !sameMemory(first.NFT.Data, second.NFT.Data) {
		t.Errorf("the rule set was read again:\n%s", second.NFT.Data)
	}
	if !sameMemory(first.IPTables[0].Data, second.IPTables[0].Data) {
		t.Errorf("the rules of iptables-nft were read again:\n%s", second.IPTables[0].Data)
	}
	inside(t, ns, "iptables-nft", "-A", "INPUT", "-j", "DROP")
	third := collectSnapshot(t, c).Namespaces[0]
	same(t, "tools run", "iptables-nft-save\niptables-nft-save\n", count())
	if rules := ruleLines(dumpOf(t, third, netstack.IPv4, netstack.BackendNFT).Data); rules[len(rules)-2] != "-A INPUT -j DROP" {
		t.Errorf("the change is not in %q", rules)
	}
	if !strings.Contains(string(third.NFT.Data), `"drop": null`) {
		t.Errorf("the change is not in %s", third.NFT.Data)
	}
}

// Elements time out, and packets add and remove them, of which the generation of the rule set says nothing: what is
// collected is what the kernel has, whoever printed it.
func TestElementsThatComeAndGoBetweenCommits(t *testing.T) {
	for _, test := range []struct{ name, more string }{
		{name: "netlink"},
		{"tool", "nft add rule inet t c jump { tcp dport 1 accept ; }"}, // is not understood
	} {
		t.Run(test.name, func(t *testing.T) {
			ns := newNetns(t, "a")
			script(t, ns, `
				nft add table inet t
				nft add chain inet t c { type filter hook output priority 0 ; }
				nft add set inet t blocked { type ipv4_addr ; flags timeout ; elements = { 10.0.0.6 timeout 1h } ; }
				nft add rule inet t c ip daddr @blocked counter drop
				nft add table ip u
				nft add set ip u fixed { type inet_service ; elements = { 80 } ; }
				nft add set ip u bad { type ipv4_addr . inet_service ; }
				nft add set ip u good { type ipv4_addr ; elements = { 127.0.0.8 } ; flags dynamic ; }
				nft add set ip u last { type inet_service ; elements = { 81 } ; }
				nft add chain ip u c { type filter hook output priority 1 ; }
				nft add rule ip u c ip daddr 127.0.0.8 add @bad { ip daddr . udp dport }
				nft add rule ip u c ip daddr 127.0.0.8 delete @good { ip daddr }
				`+test.more)
			c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartLinks, netstack.PartNFT}, Logger: quiet()})
			collected := func() string { return string(collectSnapshot(t, c).Namespaces[0].NFT.Data) }
			eventually(t, "an element is collected before it times out", func() bool {
				inside(t, ns, "nft", "add", "element", "inet", "t", "blocked", "{ 10.0.0.5 timeout 2s }")
				text := collected()
				return strings.Contains(text, `"10.0.0.5"`)
			})
			// The first time it is there again that it was, the second time it is gone.
			collected()
			eventually(t, "the kernel has forgotten the element", func() bool {
				return !strings.Contains(inside(t, ns, "nft", "list", "set", "inet", "t", "blocked"), "10.0.0.5")
			})
			if text := collected(); strings.Contains(text, "10.0.0.5") || !strings.Contains(text, "10.0.0.6") {
				t.Errorf("collected after the element had timed out: %s", text)
			}
			say(t, ns, "127.0.0.8")
			text := collected()
			if !strings.Contains(text, `{"concat": ["127.0.0.8", 9]}`) || strings.Contains(text, `["127.0.0.8"]`) {
				t.Errorf("collected after a packet had changed two sets: %s", text)
			}
			// All that is around them is as it was.
			changing := regexp.MustCompile(`"(expires|packets|bytes)": \d+`)
			want := inside(t, ns, "bash", "-c", "nft -j list ruleset 2>/dev/null") // without its warning
			same(t, "rule set", changing.ReplaceAllString(want, ""), changing.ReplaceAllString(text, ""))
		})
	}
}

// What the tool printed is kept if no element can come or go: sets to which packets add need no flag that says so.
func TestWhatTheToolPrintedIsKeptIfNoElementsComeAndGo(t *testing.T) {
	for _, test := range []struct {
		name, rule string
		kept       bool
	}{
		{"looked up", "ip daddr 127.0.0.8 ip daddr @seen accept", true},
		{"added", "ip daddr 127.0.0.8 add @seen { ip daddr }", false},
		{"added to a map", "ip daddr 127.0.0.8 add @mapped { ip daddr : 5 }", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			ns := newNetns(t, "a")
			script(t, ns, `
				nft add table inet t
				nft add set inet t seen { type ipv4_addr ; }
				nft add map inet t mapped { type ipv4_addr : mark ; }
				nft add chain inet t c { type filter hook output priority 0 ; }
				nft add rule inet t c jump { tcp dport 1 accept ; }
				nft add rule inet t c `+test.rule)
			c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartLinks, netstack.PartNFT}, Logger: quiet()})
			first := collectSnapshot(t, c).Namespaces[0].NFT.Data
			say(t, ns, "127.0.0.8")
			second := collectSnapshot(t, c).Namespaces[0].NFT.Data
			same(t, "kept", test.kept, sameMemory(first, second))
			same(t, "an element was added", !test.kept, strings.Contains(string(second), `"elem": [`))
		})
	}
}

// Rules have the index of an interface, and dumps its name: no generation tells that it has another.
func TestRenamedInterfacesAreNamedAnew(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		ip link add e0 type veth peer name e1
		iptables-nft -A INPUT -j ACCEPT
		nft add rule ip filter INPUT iif e0 drop
		nft add table inet t
		nft add set inet t s { type iface_index ; flags dynamic ; elements = { e0 } ; }
	`)
	c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartLinks, netstack.PartIPTables4, netstack.PartNFT}})
	first := collectSnapshot(t, c).Namespaces[0]
	inside(t, ns, "ip", "link", "set", "e0", "name", "e9")
	second := collectSnapshot(t, c).Namespaces[0]
	same(t, "rule set", strings.ReplaceAll(string(first.NFT.Data), `"e0"`, `"e9"`), string(second.NFT.Data))
	text := string(dumpOf(t, second, netstack.IPv4, netstack.BackendNFT).Data)
	if !strings.Contains(text, "-i e9 -j DROP") || strings.Contains(text, "e0") {
		t.Errorf("got %s", text)
	}
	if !strings.Contains(string(second.NFT.Data), `"elem": ["e9"]`) {
		t.Errorf("got %s", second.NFT.Data)
	}
	inside(t, ns, "ip", "link", "del", "e9")
	if text := string(collectSnapshot(t, c).Namespaces[0].NFT.Data); strings.Contains(text, "e9") {
		t.Errorf("an interface that is gone is in %s", text)
	}
}

// The kernel's own tables have no generation: they are compared, and the tool runs only if they are others.
func TestUnchangedLegacyTablesAreNotPrintedAgain(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		ipset create old hash:ip
		ipset create blocked hash:ip
		ipset add blocked 127.0.0.9
		ipset create other hash:ip
		iptables-legacy -A OUTPUT -m set --match-set blocked dst -j DROP
		iptables-legacy -A OUTPUT -p udp -m limit --limit 5/min
		iptables-legacy -t nat -A PREROUTING -p tcp --dport 80 -j DNAT --to-destination 10.0.0.1:8080
		ip6tables-legacy -A OUTPUT -p udp -d ::1
	`)
	c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartIPTables4Legacy, netstack.PartIPTables6Legacy}})
	count := countRuns(t, c)
	var last *netstack.Namespace
	// ran are the tools that run as the namespace is collected; what is collected is what they print.
	ran := func() string {
		t.Helper()
		runs := count()
		got := collectSnapshot(t, c).Namespaces[0]
		for _, d := range got.IPTables {
			tool := map[netstack.Family]string{netstack.IPv4: "iptables-legacy-save", netstack.IPv6: "ip6tables-legacy-save"}[d.Family]
			same(t, tool, ruleLines([]byte(inside(t, ns, tool))), ruleLines(d.Data))
		}
		runs = strings.TrimPrefix(count(), runs)
		if last != nil {
			for i, tool := range []string{"iptables-legacy-save", "ip6tables-legacy-save"} {
				if again := slices.Contains(strings.Split(runs, "\n"), tool); again == sameMemory(last.IPTables[i].Data, got.IPTables[i].Data) {
					t.Errorf("%s ran: %v, and what it printed before was kept: %v", tool, again, !again)
				}
			}
		}
		last = got
		return runs
	}
	same(t, "tools run at first", "iptables-legacy-save\nip6tables-legacy-save\n", ran())
	say(t, ns, "127.0.0.7")
	say(t, ns, "::1")
	before := hookState(t, ns)
	if text := inside(t, ns, "iptables-legacy-save", "-c"); strings.Contains(text, "\n[0:0] -A OUTPUT -p udp") {
		t.Errorf("no counter moved: %s", text)
	}
	same(t, "tools run after packets were counted", "", ran())
	same(t, "tables and hooks", before, hookState(t, ns))
	for _, test := range []struct{ change, runs string }{
		{"iptables-legacy -t nat -R PREROUTING 1 -p tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080", "iptables-legacy-save\n"},
		{"iptables-legacy -P INPUT DROP", "iptables-legacy-save\n"},
		{"iptables-legacy -t mangle -L", "iptables-legacy-save\n"}, // which makes the table
		{"ip6tables-legacy -A OUTPUT -p udp -d ::2", "ip6tables-legacy-save\n"},
		{"ipset swap blocked other", ""}, // exchanges what is in them: the rule has the other one, by the same name
		{"ipset add other 127.0.0.10", ""},
		{"ip6tables-legacy -Z", ""},
	} {
		script(t, ns, test.change)
		same(t, "tools run after "+test.change, test.runs, ran())
	}
	// The same rule again, to the byte, that is about a set of another name.
	script(t, ns, `
		iptables-legacy -D OUTPUT 1
		ipset rename blocked renamed
		iptables-legacy -I OUTPUT -m set --match-set renamed dst -j DROP
	`)
	ran()
	if text := string(last.IPTables[0].Data); !strings.Contains(text, "--match-set renamed dst") {
		t.Errorf("got %s", text)
	}
}

// Tables that change while the tool prints them are printed again, and so are those that cannot be compared.
func TestLegacyTablesThatMayHaveChangedArePrintedAgain(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, "iptables-legacy -A INPUT -j ACCEPT")
	c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartIPTables4Legacy}, Logger: quiet()})
	dir := t.TempDir()
	marker := filepath.Join(dir, "changed")
	c.state.tools.look = func(name string) (string, error) {
		path, err := lookPath(name)
		if err != nil {
			return "", err
		}
		wrapper := filepath.Join(dir, name)
		return wrapper, os.WriteFile(wrapper, []byte("#!/bin/sh\n"+path+"\n[ -e "+marker+" ] || iptables-legacy -A INPUT -j DROP\ntouch "+marker+"\n"), 0o755)
	}
	collected := func() []string {
		lines := ruleLines(collectSnapshot(t, c).Namespaces[0].IPTables[0].Data)
		return slices.DeleteFunc(lines, func(line string) bool { return !strings.HasPrefix(line, "-A") })
	}
	same(t, "printed before the change", []string{"-A INPUT -j ACCEPT"}, collected())
	same(t, "printed after it", []string{"-A INPUT -j ACCEPT", "-A INPUT -j DROP"}, collected())

	entrySize := ipv4XTables.entrySize
	t.Cleanup(func() { ipv4XTables.entrySize = entrySize })
	ipv4XTables.entrySize = 1 << 16
	script(t, ns, "iptables-legacy -D INPUT 1")
	same(t, "printed though it is not understood", []string{"-A INPUT -j DROP"}, collected())
	results := c.Results()
	at := slices.IndexFunc(results, func(r Result) bool { return r.Collector == string(netstack.PartIPTables4Legacy) })
	if at < 0 {
		t.Fatalf("no result of the tables: %+v", results)
	}
	same(t, "note", "tables cannot be compared: an entry is not understood", results[at].Note)
}
