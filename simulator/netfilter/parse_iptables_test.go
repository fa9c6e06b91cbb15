package netfilter

import (
	"errors"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/internal/proxyrules"
	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestMalformedDumpsAreRefusedByFileLineAndToken(t *testing.T) {
	const head = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\n"
	rule := func(spec string) string { return head + "-A FORWARD " + spec + "\nCOMMIT\n" }
	nat := func(spec string) string {
		return "*nat\n:PREROUTING ACCEPT\n:POSTROUTING ACCEPT\n-A PREROUTING " + spec + "\nCOMMIT\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"a line before any table", "-A FORWARD -j DROP\n", `f:1: expected *TABLE at "-A"`},
		{"a table that does not exist", "*fliter\n", `f:1: unknown table at "fliter"`},
		{"a table twice", "*filter\nCOMMIT\n*filter\nCOMMIT\n", `f:3: table occurs twice at "filter"`},
		{"a dump that was cut off", "*filter\n:INPUT ACCEPT [0:0]\n", `f:3: the dump ends before COMMIT of table filter at ""`},
		{"a table inside another", "*filter\n*nat\n", `f:2: table filter has no COMMIT at "*nat"`},
		{"a command other than -A", head + "-I FORWARD -j DROP\n", `f:6: expected -A CHAIN at "-I"`},
		{"a rule without a chain", head + "-A\n", `f:6: option needs a value at "-A"`},
		{"a rule of an undeclared chain", head + "-A B -j DROP\n", `f:6: chain is not declared at "B"`},
		{"a jump to an undefined chain", rule("-j KUBE-SVC"), `f:6: chain or target is not defined at "KUBE-SVC"`},
		{"a goto to an undefined chain", rule("-g DROP"), `f:6: chain or target is not defined at "DROP"`},
		{"a jump to a built-in chain", rule("-j INPUT"), `f:6: jump to a built-in chain at "INPUT"`},
		{"a loop", head + "-A A -j A\nCOMMIT\n", `f:7: chains of table filter form a loop through A at "COMMIT"`},
		{"a chain twice", head + ":A - [0:0]\n", `f:6: chain declared twice at "A"`},
		{"a chain without a policy", "*filter\n:INPUT\n", `f:2: chain has no policy at ":INPUT"`},
		{"a chain without a name", "*filter\n: ACCEPT\n", `f:2: chain has no name at ": ACCEPT"`},
		{"a policy that does not exist", "*filter\n:INPUT REJECT [0:0]\n", `f:2: invalid policy of a built-in chain at "REJECT"`},
		{"a user-defined chain with a policy", "*filter\n:A DROP [0:0]\n", `f:2: a user-defined chain has no policy at "DROP"`},
		{"counters of a chain", "*filter\n:INPUT ACCEPT [0:x]\n", `f:2: invalid counters at "[0:x]"`},
		{"text after a chain", "*filter\n:INPUT ACCEPT [0:0] x\n", `f:2: unexpected text after the chain's counters at "x"`},
		{"counters of a rule", head + "[1:] -A FORWARD -j DROP\n", `f:6: invalid counters at "[1:]"`},
		{"an open quote", rule(`-m comment --comment "abc -j DROP`), `f:6: quote is not closed at "\"abc -j DROP"`},
		{"an address", rule("-s 10.0.0.256 -j DROP"), `f:6: invalid IPv4 address or mask at "10.0.0.256"`},
		{"an address of the other family", rule("-s fd00::1 -j DROP"), `f:6: invalid IPv4 address or mask at "fd00::1"`},
		{"a prefix length", rule("-d 10.0.0.0/33 -j DROP"), `f:6: invalid IPv4 address or mask at "10.0.0.0/33"`},
		{"an interface name", rule("-i abcdefghijklmnop -j DROP"), `f:6: invalid interface name at "abcdefghijklmnop"`},
		{"a protocol", rule("-p tpc -j DROP"), `f:6: unknown protocol at "tpc"`},
		{"a port", rule("-p tcp --dport 65536 -j DROP"), `f:6: invalid range for --dport at "65536"`},
		{"a port range turned round", rule("-p tcp --dport 9:8 -j DROP"), `f:6: invalid range for --dport at "9:8"`},
		{"a port list", rule("-p tcp -m multiport --dports 1,,2 -j DROP"), `f:6: invalid range for --dports at ""`},
		{"a TCP flag", rule("-p tcp --tcp-flags SIN SYN -j DROP"), `f:6: unknown TCP flag at "SIN"`},
		{"an ICMP type", rule("-p icmp --icmp-type bing -j DROP"), `f:6: unknown ICMP type at "bing"`},
		{"a mark", rule("-m mark --mark 0x1/ -j DROP"), `f:6: invalid value for --mark at "0x1/"`},
		{"a connection state", rule("-m conntrack --ctstate NWE -j DROP"), `f:6: unknown connection state at "NWE"`},
		{"a connection status", rule("-m conntrack --ctstatus X -j DROP"), `f:6: unknown connection status at "X"`},
		{"a direction", rule("-m conntrack --ctdir BOTH -j DROP"), `f:6: unknown direction at "BOTH"`},
		{"an address type", rule("-m addrtype --dst-type HERE -j DROP"), `f:6: unknown address type at "HERE"`},
		{"a set's direction", rule("-m set --match-set s from -j DROP"), `f:6: a set's direction is src or dst at "from"`},
		{"a probability", rule("-m statistic --mode random --probability 1.5 -j DROP"), `f:6: a probability is from 0 to 1 at "1.5"`},
		{"a statistic without mode", rule("-m statistic --probability 0.5 -j DROP"), `f:6: match statistic needs --mode at "statistic"`},
		{"an option that nobody has", rule("-p tcp --dprot 80 -j DROP"), `f:6: unknown option at "--dprot"`},
		{"an option of a protocol that the rule lacks", rule("--dport 80 -j DROP"), `f:6: unknown option at "--dport"`},
		{"an option without a value", rule("-p tcp --dport"), `f:6: option needs a value at "--dport"`},
		{"a negation of nothing", rule("-j DROP !"), `f:6: nothing to negate at "!"`},
		{"a negated target", rule("! -j DROP"), `f:6: option cannot be negated at "-j"`},
		{"two targets", rule("-j DROP -j ACCEPT"), `f:6: a rule has one target at "ACCEPT"`},
		{"a kind of reject", rule("-j REJECT --reject-with icmp6-no-route"), `f:6: unknown kind of reject at "icmp6-no-route"`},
		{"a mark without operation", rule("-j MARK"), `f:6: target has no operation at "MARK"`},
		{"a translation outside nat", rule("-j DNAT --to-destination 1.2.3.4"), `f:6: target is only valid in table nat at "DNAT"`},
		{"a translation to nothing", nat("-j DNAT"), `f:4: target has no address at "DNAT"`},
		{"a translation to a bad address", nat("-j DNAT --to-destination 1.2.3:80"), `f:4: invalid value for --to-destination at "1.2.3:80"`},
		{"a translation to a bad port", nat("-p tcp -j DNAT --to-destination 1.2.3.4:99999"), `f:4: invalid value for --to-destination at "1.2.3.4:99999"`},
		{"a redirect to a bad port", nat("-p tcp -j REDIRECT --to-ports 9-8"), `f:4: invalid value for --to-ports at "9-8"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			ns := dump(netstack.IPv4, netstack.BackendNFT, c.text)
			ns.IPTables[0].File = "f"
			_, err := Compile(ns)
			if err == nil || err.Error() != c.want {
				t.Errorf("Compile:\n got %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestEveryOptionIsRead(t *testing.T) {
	for _, spec := range []string{
		`-m comment --comment "say \"hello\" \\ -j DROP" -j ACCEPT`, "-c 1 2 -j ACCEPT", "--source 10.0.0.0/255.255.0.0 --destination 1.1.1.1 -j ACCEPT",
		"-p all -j ACCEPT", "-p 0 -j ACCEPT", "-p vrrp -j ACCEPT", "-p 250 -j ACCEPT", "-f -j DROP", "! -f -j ACCEPT",
		"-p udp -m udp --sport 1:2 ! --dport 3 -j ACCEPT", "-p sctp -m sctp --dport 5 -j ACCEPT", "-p icmp -m icmp --icmp-type any -j ACCEPT",
		"-p icmp -m icmp --icmp-type 3/4 -j ACCEPT", "-p icmp ! --icmp-type echo-request -j ACCEPT", "-p tcp -m tcp --tcp-flags ALL NONE -j DROP",
		"-m owner --uid-owner 0-99 ! --gid-owner 5 -j ACCEPT", "-m rpfilter --loose --validmark --accept-local --invert -j DROP",
		"-m socket --transparent --nowildcard --restore-skmark -j ACCEPT", "-m physdev ! --physdev-in veth+ --physdev-is-bridged -j ACCEPT",
		"-m mac --mac-source 00:11:22:aa:bb:cc -j ACCEPT", "-m dscp --dscp-class AF31 -j ACCEPT", "-m hl --hl-lt 5 -j ACCEPT",
		"-m recent --rcheck --seconds 10800 --reap --name X --mask 255.255.255.255 --rsource -j ACCEPT", "-m nfacct --nfacct-name x -j ACCEPT",
		"-m limit --limit 3/min --limit-burst 10 -j ACCEPT", "-m hashlimit --hashlimit-upto 1/sec --hashlimit-mode srcip --hashlimit-name x -j ACCEPT",
		"-m time --timestart 08:00:00 --weekdays Mon,Tue --kerneltz -j ACCEPT", "-m string --string \"x y\" --algo bm --to 65535 -j DROP",
		`-m u32 --u32 "0x0>>0x16&0x3c@0x8=0x1" -j DROP`, "-m bpf --bytecode \"1,6 0 0 1\" -j DROP", "-m connlimit --connlimit-above 5 --connlimit-mask 32 --connlimit-saddr -j DROP",
		`-j LOG --log-prefix "-x y" --log-level 4 --log-uid`, "-j NFLOG --nflog-group 5 --nflog-prefix \"a b\"", "-j NFQUEUE --queue-num 3 --queue-bypass",
		"-j TCPMSS --clamp-mss-to-pmtu", "-j TCPMSS --set-mss 1400", "-j DSCP --set-dscp 0x10", "-j TOS --set-tos 0x10/0x3f", "-j TTL --ttl-inc 1",
		"-j MARK --set-xmark 0x1/0xffffffff", "-j MARK --and-mark 0x1", "-j MARK --xor-mark 0x1", "-j CONNMARK --save-mark --nfmask 0xf --ctmask 0xf",
		"-j CONNMARK --set-xmark 0x1/0xff", "-j CT --notrack", "-j CT --helper ftp", "-j CT --zone 5", "-j TPROXY --on-port 1 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x1",
		"-j SET --add-set x src --exist", "-j CHECKSUM --checksum-fill", "-j TEE --gateway 10.0.0.9", "-j CLASSIFY --set-class 1:1", "-j QUEUE",
		"-j ODDITY --with options", "-m oddity --with options -j DROP", "-m tcpmss --mss 1:100 -j ACCEPT", "-m multiport ! --ports 1,2:3 -p tcp -j ACCEPT",
	} {
		t.Run(spec, func(t *testing.T) {
			line := "-A FORWARD " + spec
			rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendLegacy, "*filter\n:FORWARD ACCEPT\n[12:345] "+line+"\nCOMMIT\n"))
			var found bool
			for _, op := range rs.pipelines[0][Forward].ops {
				if op.chain == nil {
					continue
				}
				r := op.chain.rules[0]
				found = true
				if r.text != line || r.number != 1 {
					t.Errorf("rule %d is kept as %q", r.number, r.text)
				}
				if len(r.steps) != 1 {
					t.Errorf("the rule does %d things", len(r.steps))
				}
			}
			if !found {
				t.Error("the chain is not at its hook")
			}
		})
	}
}

func TestCoverageCountsWhatIsNotModelled(t *testing.T) {
	rs := mustCompile(t, dump(netstack.IPv4, netstack.BackendNFT, "*filter\n:FORWARD ACCEPT\n-A FORWARD -j DROP\n-A FORWARD -m oddity -j DROP\n-A FORWARD -j ODDITY --x\n-A FORWARD -m limit --limit 1/s -j LOG\nCOMMIT\n"))
	if rules, unmodelled := rs.Coverage(); rules != 4 || unmodelled != 2 {
		t.Errorf("Coverage() = %d, %d, want 4, 2", rules, unmodelled)
	}
}

func FuzzIPTables(f *testing.F) {
	f.Add(string((&proxyrules.Spec{Services: 2, Endpoints: 2}).IPTables()))
	for _, m := range judgeMatches4 {
		f.Add("*filter\n:FORWARD DROP [0:0]\n-A FORWARD " + m + " -j DROP\nCOMMIT\n")
	}
	for _, c := range judgeTargets {
		f.Add(c.rules)
	}
	for _, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
		f.Add(corpusText(family))
		for table, rules := range corpus(family) {
			for _, rule := range rules {
				if !strings.HasPrefix(rule, "-A") {
					rule = "-A PREROUTING " + rule
				}
				f.Add("*" + table + "\n:PREROUTING ACCEPT [0:0]\n:SUB - [0:0]\n" + rule + "\nCOMMIT\n")
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
			ns := dump(family, netstack.BackendNFT, text)
			rs, err := Compile(ns)
			if err != nil {
				pointsAt(t, err, text)
				continue
			}
			runEverything(rs)
			printedAgain(t, ns.IPTables[0])
		}
	})
}

// pointsAt checks that an error names a line that is there, and text of it.
func pointsAt(t *testing.T, err error, text string) {
	t.Helper()
	var at *SyntaxError
	if !errors.As(err, &at) {
		t.Fatalf("error without file and line: %v", err)
	}
	lines := strings.Split(text, "\n")
	switch {
	case at.Line == len(lines)+1 || at.Line == len(lines) && lines[at.Line-1] == "":
		if at.Token != "" {
			t.Errorf("%v: beyond the end", err)
		}
	case at.Line < 1 || at.Line > len(lines):
		t.Errorf("%v: no such line", err)
	case !strings.Contains(lines[at.Line-1], at.Token) && !strings.Contains(lines[at.Line-1], `\`):
		t.Errorf("%v: not on that line", err)
	}
}

// runEverything passes a packet through every hook, for the panics.
func runEverything(rs *Ruleset) {
	for _, answer := range []bool{false, true} {
		env := &fakeEnv{unknown: map[string]bool{}}
		st := &State{Packet: packet(), In: "eth0", Out: "eth1"}
		if answer {
			st.Packet = packet6()
		}
		for _, hook := range []Hook{Prerouting, Input, Forward, Output, Postrouting} {
			rs.Run(st.Packet.Family(), hook, st, env)
		}
	}
}
