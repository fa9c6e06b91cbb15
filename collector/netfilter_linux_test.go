package collector

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/mdlayher/netlink"
	"github.com/mdlayher/netlink/nlenc"
	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

// ruleLines are the lines of a dump without comments and counters.
func ruleLines(dump []byte) []string {
	var out []string
	for line := range strings.Lines(string(dump)) {
		if line = counters.ReplaceAllString(strings.TrimSpace(line), ""); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}

var counters = regexp.MustCompile(` \[\d+:\d+\]$`)

func dumpOf(t testing.TB, ns *netstack.Namespace, family netstack.Family, backend netstack.Backend) netstack.IPTablesDump {
	t.Helper()
	return find(t, family.String()+" "+string(backend), ns.IPTables, func(d *netstack.IPTablesDump) bool {
		return d.Family == family && d.Backend == backend
	})
}

func TestRuleSetsOfAllBackends(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		ipset create blocked hash:ip
		ipset add blocked 10.0.0.9
		iptables-legacy -A INPUT -p tcp --dport 80 -j ACCEPT
		iptables-legacy -t nat -A POSTROUTING -j MASQUERADE
		ip6tables-legacy -t raw -A PREROUTING -j NOTRACK
		iptables-nft -A FORWARD -s 10.0.0.0/8 -j DROP
		ip6tables-nft -t mangle -A OUTPUT -j MARK --set-mark 0x1
		nft add table inet own
		nft add chain inet own input { type filter hook input priority 5 ; policy drop ; }
		nft add rule inet own input tcp dport 22 accept
	`)
	got := collectNetns(t, ns)
	for _, test := range []struct {
		family  netstack.Family
		backend netstack.Backend
		file    string
		want    []string
	}{
		{netstack.IPv4, netstack.BackendLegacy, "iptables-save-legacy.txt", []string{
			"*nat", ":PREROUTING ACCEPT", ":INPUT ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT", "-A POSTROUTING -j MASQUERADE", "COMMIT",
			"*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", "-A INPUT -p tcp -m tcp --dport 80 -j ACCEPT", "COMMIT",
		}},
		{netstack.IPv6, netstack.BackendLegacy, "ip6tables-save-legacy.txt", []string{
			"*raw", ":PREROUTING ACCEPT", ":OUTPUT ACCEPT", "-A PREROUTING -j NOTRACK", "COMMIT",
		}},
		{netstack.IPv4, netstack.BackendNFT, "iptables-save.txt", []string{
			"*filter", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", "-A FORWARD -s 10.0.0.0/8 -j DROP", "COMMIT",
		}},
		{netstack.IPv6, netstack.BackendNFT, "ip6tables-save.txt", []string{
			"*mangle", ":PREROUTING ACCEPT", ":INPUT ACCEPT", ":FORWARD ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT",
			"-A OUTPUT -j MARK --set-xmark 0x1/0xffffffff", "COMMIT",
		}},
	} {
		dump := dumpOf(t, got, test.family, test.backend)
		if want := "netns/" + ns + "/" + test.file; dump.File != want {
			t.Errorf("%s %s is called %s, want %s", test.family, test.backend, dump.File, want)
		}
		if diff := cmp.Diff(test.want, ruleLines(dump.Data)); diff != "" {
			t.Errorf("%s %s: -want +got\n%s", test.family, test.backend, diff)
		}
	}
	if want := inside(t, ns, "nft", "-j", "list", "ruleset"); string(got.NFT.Data) != want {
		t.Errorf("nft.json is not what the tool prints:\n%s", got.NFT.Data)
	}
	if want := inside(t, ns, "ipset", "save"); string(got.IPSet.Data) != want || !strings.Contains(want, "add blocked 10.0.0.9\n") {
		t.Errorf("got sets\n%swant\n%s", got.IPSet.Data, want)
	}
}

// What the kernel has of arptables is written as its tool prints it.
func TestLegacyARPTables(t *testing.T) {
	if _, err := lookPath("arptables-legacy"); err != nil {
		t.Skip("arptables-legacy is not installed")
	}
	ns := newNetns(t, "a")
	if out, err := exec.Command("ip", "netns", "exec", ns, "arptables-legacy", "-N", "own").CombinedOutput(); err != nil {
		t.Skipf("the kernel has no arptables: %s", out)
	}
	script(t, ns, `
		arptables-legacy -N empty
		arptables-legacy -P OUTPUT DROP
		arptables-legacy -A INPUT -s 10.9.1.1 -i eth0 --opcode Request -j DROP
		arptables-legacy -A INPUT ! -s 10.9.1.0/24 ! -i eth+ -j own
		arptables-legacy -A INPUT -d 10.9.1.9/255.0.0.255 ! --opcode 2 -j empty
		arptables-legacy -A own --source-mac 02:00:00:00:00:01/ff:ff:ff:ff:ff:00 --h-length 6 --h-type 1 --proto-type 0x800 -j RETURN
		arptables-legacy -A own ! --destination-mac 02:00:00:00:00:01 -d 10.0.0.1
		arptables-legacy -A OUTPUT -o eth1 --h-length 6 -j mangle --mangle-ip-s 10.0.0.3 --mangle-mac-d 02:00:00:00:00:07 --mangle-target DROP
		arptables-legacy -A FORWARD -j CLASSIFY --set-class 1:2
		arptables-legacy -A FORWARD --h-length 7 -j QUEUE
	`)
	got := collectNetns(t, ns, netstack.PartARPTablesLegacy)
	want := []string{
		"*filter", ":INPUT ACCEPT", ":OUTPUT DROP", ":FORWARD ACCEPT", ":own -", ":empty -",
		"-A INPUT -j DROP -i eth0 -s 10.9.1.1 --opcode 1",
		"-A INPUT -j own ! -i eth+ ! -s 10.9.1.0/24",
		"-A INPUT -j empty -d 10.0.0.9/255.0.0.255 ! --opcode 2",
		"-A OUTPUT -j mangle -o eth1 --h-length 6 --mangle-mac-d 02:00:00:00:00:07 --mangle-ip-s 10.0.0.3 --mangle-target DROP",
		"-A FORWARD -j CLASSIFY --set-class 1:2",
		"-A FORWARD -j QUEUE --h-length 7",
		"-A own -j RETURN --src-mac 02:00:00:00:00:00/ff:ff:ff:ff:ff:00 --h-length 6 --h-type 1 --proto-type 0x800",
		"-A own -d 10.0.0.1 ! --dst-mac 02:00:00:00:00:01",
	}
	if diff := cmp.Diff(want, ruleLines(got.ARPTables.Data)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	same(t, "file", "netns/"+ns+"/arptables-save-legacy.txt", got.ARPTables.File)
}

func TestWithoutRulesEveryRuleSetIsEmptyAndNoToolIsRun(t *testing.T) {
	ns := newNetns(t, "a")
	c := New(Options{Namespaces: []string{ns}, Logger: quiet()})
	c.state.tools.look = func(name string) (string, error) {
		t.Errorf("%s was run", name)
		return "", exec.ErrNotFound
	}
	got := collectSnapshot(t, c).Namespaces[0]
	for _, part := range []netstack.Part{
		netstack.PartIPTables4, netstack.PartIPTables6, netstack.PartIPTables4Legacy, netstack.PartIPTables6Legacy,
		netstack.PartNFT, netstack.PartIPSet, netstack.PartTC, netstack.PartXFRM,
	} {
		if s := got.PartStatus(part); s.State != netstack.StateOK {
			t.Errorf("%s is %v, want ok", part, s)
		}
	}
	if len(got.IPTables) != 4 {
		t.Errorf("got %d dumps of iptables, want one for each family and backend", len(got.IPTables))
	}
	for _, d := range got.IPTables {
		same(t, d.File, 0, len(d.Data))
	}
	for _, text := range []netstack.Text{got.NFT, got.IPSet, got.TC, got.XFRM} {
		same(t, text.File, 0, len(text.Data))
	}
}

// The kernel is asked first, and the tool for what is not understood.
func TestTheToolIsAskedForWhatIsNotUnderstood(t *testing.T) {
	ns := newNetns(t, "a")
	collect := func() (*netstack.Namespace, string, bool) {
		c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartNFT}})
		asked := false
		c.state.tools.look = func(name string) (string, error) {
			asked = true
			return lookPath(name)
		}
		got := collectSnapshot(t, c).Namespaces[0]
		return got, find(t, "nft", c.Results(), func(r *Result) bool { return r.Collector == "nft" }).Note, asked
	}
	script(t, ns, `
		nft add table inet t
		nft add chain inet t c
		nft add rule inet t c tcp dport 22 accept
	`)
	want := inside(t, ns, "nft", "-j", "list", "ruleset")
	got, note, asked := collect()
	same(t, "rule set", want, string(got.NFT.Data))
	same(t, "note", "", note)
	same(t, "tool", false, asked)
	inside(t, ns, "nft", "add", "rule", "inet", "t", "c", "jump", "{", "tcp", "dport", "1", "accept", ";", "}")
	want = inside(t, ns, "bash", "-c", "nft -j list ruleset 2>/dev/null") // without its warning
	got, note, asked = collect()
	same(t, "rule set", want, string(got.NFT.Data))
	same(t, "note", "asked nft: list the chains of nftables: chain flags 0x4 is not understood", note)
	same(t, "tool", true, asked)
}

// Rules are found by their number both in what iptables-nft-save prints and in nftables: both are of one moment.
func TestTheTextOfIPTablesIsOfTheSameRuleSetAsNft(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		iptables-nft -A INPUT -j ACCEPT
		ip6tables-nft -A INPUT -j ACCEPT
	`)
	c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartIPTables4, netstack.PartIPTables6, netstack.PartNFT}})
	wrapper, marker := filepath.Join(t.TempDir(), "wrapper"), filepath.Join(t.TempDir(), "changed")
	c.state.tools.look = func(name string) (string, error) {
		path, err := lookPath(name)
		if err != nil || name != "ip6tables-nft-save" {
			return path, err
		}
		return wrapper, os.WriteFile(wrapper, []byte("#!/bin/sh\n[ -e "+marker+" ] || iptables-nft -A INPUT -j DROP\ntouch "+marker+"\nexec "+path+"\n"), 0o755)
	}
	got := collectSnapshot(t, c).Namespaces[0]
	if rules := ruleLines(dumpOf(t, got, netstack.IPv4, netstack.BackendNFT).Data); rules[len(rules)-2] != "-A INPUT -j DROP" {
		t.Errorf("the rule that nftables has is not in %q", rules)
	}
	same(t, "dumps", 2, len(got.IPTables))
}

// addChain makes a chain with a name that the tools do not take.
func addChain(table, name string) error {
	conn, err := dialNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer conn.Close()
	attributes, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_CHAIN_TABLE, Data: nlenc.Bytes(table)}, {Type: unix.NFTA_CHAIN_NAME, Data: nlenc.Bytes(name)},
	})
	if err != nil {
		return err
	}
	message := func(typ netlink.HeaderType, flags netlink.HeaderFlags, family byte, resource byte, data []byte) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: typ, Flags: netlink.Request | flags}, Data: append([]byte{family, 0, 0, resource}, data...)}
	}
	_, err = conn.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWCHAIN, netlink.Create|netlink.Acknowledge, unix.NFPROTO_IPV4, 0, attributes),
		message(unix.NFNL_MSG_BATCH_END, 0, 0, unix.NFNL_SUBSYS_NFTABLES, nil),
	})
	if err != nil {
		return err
	}
	_, err = conn.Receive()
	return err
}

// Of a table that iptables-nft-save does not print, or fails at, the chains are read that it can read.
func TestATableThatIPTablesDoesNotPrintIsReadByChains(t *testing.T) {
	for i, test := range []struct{ rule, note string }{
		{"ip dscp 3 drop", "read chain by chain: iptables-nft-save: exit status 3: Error: unknown payload offset"},
		{"ct state invalid drop", "read chain by chain: iptables-nft-save does not print a table"},
	} {
		ns := newNetns(t, fmt.Sprint("a", i))
		script(t, ns, `
			iptables-nft -t nat -A POSTROUTING -j MASQUERADE
			iptables-nft -N mine
			iptables-nft -A mine -m conntrack --ctstate NEW -j RETURN
			iptables-nft -P FORWARD DROP
			iptables-nft -A FORWARD -p tcp -j mine
			iptables-nft -A INPUT -s 10.0.0.0/8 -j DROP
			nft add chain ip filter own { type filter hook input priority 5 ; }
			nft add rule ip filter INPUT `+test.rule)
		insideThread(t, ns, func() error { return addChain("filter", "-F") }) // which flushes, as an option of iptables
		before := inside(t, ns, "nft", "list", "ruleset")
		c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartIPTables4, netstack.PartNFT}})
		got := collectSnapshot(t, c).Namespaces[0]
		dump := dumpOf(t, got, netstack.IPv4, netstack.BackendNFT).Data
		want := []string{
			"*nat", ":PREROUTING ACCEPT", ":INPUT ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT", "-A POSTROUTING -j MASQUERADE", "COMMIT",
			"*filter", ":mine -", ":FORWARD DROP", ":INPUT ACCEPT", "-A mine -m conntrack --ctstate NEW -j RETURN", "-A FORWARD -p tcp -j mine", "COMMIT",
		}
		same(t, "rules", want, ruleLines(dump))
		if mark := "# Chain `INPUT' is incompatible, use 'nft' tool.\n"; !strings.Contains(string(dump), mark) {
			t.Errorf("%q is not in %s", mark, dump)
		}
		same(t, "rule set once it was read", before, inside(t, ns, "nft", "list", "ruleset"))
		same(t, "state", netstack.StateOK, got.PartStatus(netstack.PartIPTables4).State)
		same(t, "note", test.note, find(t, "iptables", c.Results(), func(r *Result) bool { return r.Collector == string(netstack.PartIPTables4) }).Note)
	}
}

// What is read while the rule set changes is one of the rule sets that there
// were, or an error.
func TestARuleSetThatChangesIsReadWhole(t *testing.T) {
	ns := newNetns(t, "a")
	load := func(n int) {
		var text strings.Builder
		text.WriteString("flush ruleset\n")
		for table := range 3 {
			fmt.Fprintf(&text, "table inet t%d {\n set s%d { type inet_service; elements = { %d } }\n chain c%d { tcp dport { %d, 7 } tcp sport @s%d drop; }\n}\n", table, n, n, n, n, n)
		}
		cmd := exec.Command("ip", "netns", "exec", ns, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(text.String())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	load(1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := range 40 {
			load(1001 + n)
		}
	}()
	names := regexp.MustCompile(`\b[cs](1\d{3})\b|\b(1\d{3})\b`)
	read := 0
	for changing := true; changing; {
		select {
		case <-done:
			changing = false
		default:
		}
		c := New(Options{Namespaces: []string{ns}, Parts: []netstack.Part{netstack.PartNFT}, Logger: quiet()})
		got := collectSnapshot(t, c).Namespaces[0]
		if got.PartStatus(netstack.PartNFT).State != netstack.StateOK {
			continue
		}
		read++
		seen := make(map[string]int)
		for _, m := range names.FindAllSubmatch(got.NFT.Data, -1) {
			seen[string(m[1])+string(m[2])]++
		}
		// In each table a set, its element, a chain, a rule of it, what it looks up.
		for n, times := range seen {
			if len(seen) != 1 || times != 3*6 {
				t.Errorf("%s is there %d times of %d, among %d", n, times, 3*6, len(seen))
			}
		}
	}
	if read == 0 {
		t.Error("the rule set was never read, not even at rest")
	}
}

func TestAMissingToolFailsItsPartAlone(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		iptables-legacy -A INPUT -j ACCEPT
		iptables-nft -A INPUT -j ACCEPT
		ipset create blocked hash:ip
	`)
	c := New(Options{Namespaces: []string{ns}, Logger: quiet()})
	c.state.tools.look = func(name string) (string, error) {
		if name == "nft" {
			return lookPath(name)
		}
		return "", exec.ErrNotFound
	}
	got := collectSnapshot(t, c).Namespaces[0]
	failed := make(map[netstack.Part]string)
	for part, status := range got.Parts {
		if status.State == netstack.StateFailed {
			failed[part] = status.Detail
		}
	}
	same(t, "failed parts", map[netstack.Part]string{
		netstack.PartIPTables4Legacy: "iptables-legacy-save is not installed: install the package iptables",
		netstack.PartIPTables4:       "iptables-nft-save is not installed: install the package iptables",
		netstack.PartIPSet:           "ipset is not installed: install the package ipset",
	}, failed)
	if len(got.NFT.Data) == 0 || len(got.Links) != 1 {
		t.Errorf("other parts were affected: %d bytes of nftables, %d links", len(got.NFT.Data), len(got.Links))
	}
	results := make(map[string]string)
	for _, r := range c.Results() {
		if r.Err != nil {
			results[r.Collector] = r.Err.Error()
		}
	}
	same(t, "results", map[string]string{
		"iptables-legacy": failed[netstack.PartIPTables4Legacy], "iptables": failed[netstack.PartIPTables4], "ipset": failed[netstack.PartIPSet],
	}, results)
}

func TestAToolThatFailsIsQuoted(t *testing.T) {
	tool := filepath.Join(t.TempDir(), "nft")
	if err := os.WriteFile(tool, []byte("#!/bin/sh\necho netlink is tired >&2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tools := newTools()
	tools.look = func(string) (string, error) { return tool, nil }
	_, err := tools.run(context.Background(), "nft")
	if want := "nft: exit status 3: netlink is tired"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestFiltersOfTCAndPoliciesOfXFRM(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		ip link add e0 type veth peer name e1
		tc qdisc add dev e0 clsact
		tc filter add dev e0 egress protocol ip pref 7 u32 match u32 0 0 flowid 1:1
		ip xfrm policy add dir out src 10.9.0.0/24 dst 10.8.0.0/24 priority 4 tmpl src 1.1.1.1 dst 2.2.2.2 proto esp reqid 9 mode tunnel
	`)
	got := collectNetns(t, ns)
	const u32 = `{"dev":"e0","kind":"u32","parent":"egress","protocol":"ip","pref":7%}`
	same(t, "tc", `[{"dev":"e0","kind":"clsact","handle":"ffff:","parent":"ffff:fff1"},`+
		strings.Replace(u32, "%", "", 1)+","+strings.Replace(u32, "%", `,"options":{"fh":"800:","ht_divisor":1}`, 1)+","+
		strings.Replace(u32, "%", `,"options":{"fh":"800::800","key_ht":"800","bkt":"0","match":{"value":"0","mask":"0","offmask":"","off":0}}`, 1)+"]", string(got.TC.Data))
	same(t, "xfrm", "src 10.9.0.0/24 dst 10.8.0.0/24\n\tdir out action allow priority 4\n"+
		"\ttmpl src 1.1.1.1 dst 2.2.2.2\n\t\tproto esp reqid 9 mode tunnel\n", string(got.XFRM.Data))
}

func TestSysctlsAreThoseOfTheNamespace(t *testing.T) {
	ns := newNetns(t, "a")
	script(t, ns, `
		ip link add e0.5 type veth peer name e1
		sysctl -qw net.ipv4.ip_forward=1
		sysctl -qw net.ipv4.conf.e0/5.rp_filter=2
		sysctl -qw net.ipv6.conf.e1.disable_ipv6=1
		sysctl -qw net.bridge.bridge-nf-call-iptables=0
	`)
	inside(t, ns, "sysctl", "-qw", "net.ipv4.ping_group_range=5 9")
	got := collectNetns(t, ns).Sysctls
	for key, want := range map[string]string{
		"net.ipv4.ping_group_range":            "5\t9",
		"net.ipv4.ip_forward":                  "1",
		"net.ipv4.conf.e0/5.rp_filter":         "2",
		"net.ipv4.conf.e1.forwarding":          "1",
		"net.ipv6.conf.e1.disable_ipv6":        "1",
		"net.ipv6.conf.all.forwarding":         "0",
		"net.ipv6.conf.e1.mtu":                 "1500",
		"net.bridge.bridge-nf-call-iptables":   "0",
		"net.netfilter.nf_conntrack_tcp_loose": "1",
		"net.netfilter.nf_conntrack_count":     "0",
		"net.ipv4.ip_default_ttl":              "64",
		"net.ipv4.fib_multipath_hash_policy":   "0",
		"net.ipv4.conf.e0/5.src_valid_mark":    "0",
	} {
		if got[key] != want {
			t.Errorf("%s is %q, want %q", key, got[key], want)
		}
	}
	// Whatever is collected must be what sysctl(8) prints, to the letter.
	printed := make(map[string]string)
	for line := range strings.Lines(inside(t, ns, "sysctl", "-a")) {
		if key, value, ok := strings.Cut(strings.TrimRight(line, "\n"), " = "); ok {
			printed[key] = value
		}
	}
	for key, value := range got {
		if want, ok := printed[key]; !ok || want != value {
			t.Errorf("%s is %q, sysctl prints %q (known: %v)", key, value, want, ok)
		}
	}
}
