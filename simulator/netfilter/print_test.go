package netfilter

import (
	"bytes"
	"strings"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
)

func TestPrintedRulesAreSpelledAsIPTablesSaveDoes(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{"--append FORWARD --jump DROP --protocol tcp --dport 80", "-A FORWARD -p tcp -m tcp --dport 80 -j DROP"},
		{"-A FORWARD -p icmp --icmp-type 8 ! --source 10.0.0.1 -j ACCEPT", "-A FORWARD ! -s 10.0.0.1 -p icmp -m icmp --icmp-type 8 -j ACCEPT"},
		{`[3:180] -A FORWARD -m comment --comment "a \"b\" \\ c" -m mark ! --mark 1 -g A`, `[3:180] -A FORWARD -m comment --comment "a \"b\" \\ c" -m mark ! --mark 1 -g A`},
		{"-A FORWARD -j LOG --log-prefix \"x y\" -m limit --limit 3/min", `-A FORWARD -m limit --limit 3/min -j LOG --log-prefix "x y"`},
		{"-A FORWARD -m oddity --with options ! --and more -j ODDITY --x 1", "-A FORWARD -m oddity --with options ! --and more -j ODDITY --x 1"},
		{"-A FORWARD -p tcp ! --syn -m multiport --dports 1,2:3", "-A FORWARD -p tcp -m tcp ! --syn -m multiport --dports 1,2:3"},
	} {
		text := "# comment\n*filter\n:FORWARD ACCEPT [1:2]\n:A - [0:0]\n" + c.rule + "\nCOMMIT\n"
		got, err := PrintIPTables(&dump(netstack.IPv4, netstack.BackendNFT, text).IPTables[0])
		want := "*filter\n:FORWARD ACCEPT [1:2]\n:A - [0:0]\n" + c.want + "\nCOMMIT\n"
		if err != nil || string(got) != want {
			t.Errorf("%s:\n got %q (%v)\nwant %q", c.rule, got, err, want)
		}
	}
}

// printedAgain prints a dump, and checks that what was printed reads and prints
// as the same.
func printedAgain(t *testing.T, d netstack.IPTablesDump) []byte {
	t.Helper()
	first, err := PrintIPTables(&d)
	if err != nil {
		t.Fatalf("PrintIPTables: %v", err)
	}
	d.Data = first
	second, err := PrintIPTables(&d)
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("printed again (%v):\n%s\nat first:\n%s", err, second, first)
	}
	return first
}

// corpus are rules with every match and target that the kernel here knows, by
// family.
func corpus(family netstack.Family) map[string][]string {
	tables := map[string][]string{
		"raw": {"-j NOTRACK", "-j CT --notrack", "-j CT --zone 5", "-j CT --zone mark", "-j CT --zone-orig 7", "-j CT --ctevents new,destroy", "-j TRACE", "-A PREROUTING -m rpfilter --loose --validmark --accept-local --invert"},
		"mangle": {
			"-j MARK --set-xmark 0x1/0xff", "-j MARK --and-mark 0xff", "-j MARK --or-mark 0x2", "-j MARK --xor-mark 0x3", "-j MARK --set-mark 0x4/0xc",
			"-j CONNMARK --save-mark --nfmask 0xf --ctmask 0xff", "-j CONNMARK --restore-mark --mask 0xf0", "-j CONNMARK --set-xmark 0x1/0x3", "-j CONNMARK --and-mark 0xf", "-j CONNMARK --or-mark 0x1", "-j CONNMARK --xor-mark 0x1",
			"-j CONNMARK --set-xmark 0x1/0x3 --left-shift-mark 4", "-j CONNMARK --save-mark --right-shift-mark 2", "-j DSCP --set-dscp 0x10", "-j DSCP --set-dscp-class EF", "-j TOS --set-tos 0x10/0x3f", "-j TOS --and-tos 0x3f", "-j TOS --or-tos 0x1", "-j TOS --xor-tos 0x1",
			"-p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu", "-p tcp --syn -j TCPMSS --set-mss 1200", "-p tcp -j TCPOPTSTRIP --strip-options mss,sack-permitted,19", "-j CHECKSUM --checksum-fill", "-j CLASSIFY --set-class 1:a",
			"-j IDLETIMER --timeout 600 --label plnf", "-j RATEEST --rateest-name plnf --rateest-interval 250ms --rateest-ewmalog 500ms", "-j HMARK --hmark-tuple src,dst --hmark-mod 7 --hmark-offset 0x64 --hmark-rnd 0x5", "-j AUDIT --type accept",
			"-A PREROUTING -p tcp -j TPROXY --on-port 1080 --on-ip ADDR --tproxy-mark 0x1/0x1", "-A PREROUTING -m socket --transparent --nowildcard --restore-skmark", "-j SET --add-set plnf src --exist --timeout 60", "-j SET --del-set plnf dst", "-j SET --map-set plnfskb src --map-mark --map-prio --map-queue",
		},
		"nat": {
			"-A PREROUTING -p tcp -j DNAT --to-destination BRACKET:80-90", "-A PREROUTING -j DNAT --to-destination ADDR --random --persistent", "-A PREROUTING -p udp -j DNAT --to-destination :53", "-A PREROUTING -p tcp -j REDIRECT --to-ports 1000-2000 --random", "-A PREROUTING -j NETMAP --to A/N",
			"-A POSTROUTING -j SNAT --to-source ADDR-ADDR9 --random-fully", "-A POSTROUTING -p tcp -j SNAT --to-source BRACKET:1-9", "-A POSTROUTING -p tcp -j MASQUERADE --to-ports 1024-31000 --random-fully", "-A POSTROUTING -j MASQUERADE",
		},
		"filter": {
			"-j ACCEPT", "-j DROP", "-j RETURN", "-j REJECT", "-p tcp -j REJECT --reject-with tcp-reset", "-j LOG --log-prefix \"a b\" --log-level 6 --log-tcp-sequence --log-tcp-options --log-ip-options --log-uid --log-macdecode", "-j NFLOG --nflog-group 3 --nflog-prefix x --nflog-size 80 --nflog-threshold 5",
			"-j NFQUEUE --queue-num 3 --queue-bypass", "-j NFQUEUE --queue-balance 0:3 --queue-cpu-fanout", "-A INPUT -p tcp -j SYNPROXY --sack-perm --timestamp --wscale 7 --mss 1460", "-g SUB", "-j SUB", "", "-m comment --comment \"quoted \\\"x\\\" \\\\\"",
			"-m limit --limit 5/min --limit-burst 9 -j ACCEPT", "-m hashlimit --hashlimit-above 1/sec --hashlimit-burst 3 --hashlimit-mode srcip,dstport --hashlimit-name plnf --hashlimit-srcmask 24 -j DROP", "-m connlimit --connlimit-above 3 --connlimit-mask 24 --connlimit-saddr -j DROP",
			"-m connbytes --connbytes 10:100 --connbytes-mode bytes --connbytes-dir both -j DROP", "-m quota --quota 1000 -j ACCEPT", "-m recent --set --name plnf --mask MASK --rsource", "-m recent --update --seconds 60 --hitcount 3 --name plnf --rsource -j DROP", "-m recent ! --rcheck --name plnf --rdest -j DROP",
			"-m statistic --mode random --probability 0.25 -j DROP", "-m statistic --mode nth --every 3 --packet 1 -j DROP", "-m time --timestart 08:00 --timestop 17:00 --weekdays Mon,Tue --kerneltz -j DROP", "-m string --string \"x y\" --algo bm --from 1 --to 100 -j DROP", "-m string --hex-string \"|00ff|\" --algo kmp --icase -j DROP",
			"-m u32 ! --u32 \"6&0xFF=0x1:0x6&&4&0x1fff=0\" -j DROP", "-m bpf --bytecode \"1,6 0 0 1\" -j DROP", "-m cpu ! --cpu 1 -j DROP", "-m devgroup --src-group 0x1/0xff -j DROP", "-m connlabel ! --label 3 -j DROP", "-m connlabel --label 4 --set",
			"-m cluster --cluster-total-nodes 4 ! --cluster-local-node 2 --cluster-hash-seed 9 -j DROP", "-m ecn ! --ecn-ip-ect 2 -j DROP", "-p tcp -m ecn --ecn-tcp-cwr ! --ecn-tcp-ece -j DROP", "-m iprange --src-range ADDR-ADDR9 ! --dst-range ADDR-ADDR9 -j DROP", "-m length ! --length 10:20 -j DROP",
			"-m mac ! --mac-source 00:11:22:33:44:55 -j DROP", "-m pkttype --pkt-type broadcast -j DROP", "-m mark ! --mark 0x1/0x3 -j DROP", "-m connmark --mark 0x1 -j DROP", "-m dscp ! --dscp 0x2e -j DROP", "-m dscp --dscp-class AF21 -j DROP", "-m tos --tos 0x10/0x3f -j DROP", "-A OUTPUT -m owner ! --uid-owner 0-99 --gid-owner 5 -j DROP",
			"-A OUTPUT -m owner --socket-exists -j DROP", "-A INPUT -m policy --dir in --pol none -j DROP", "-A INPUT -m policy --dir in --pol ipsec --proto esp --mode tunnel -j DROP", "-m physdev --physdev-in v+ --physdev-is-bridged -j DROP", "-m addrtype ! --src-type LOCAL --dst-type UNICAST --limit-iface-in -j DROP",
			"-m conntrack --ctstate RELATED,ESTABLISHED -j DROP", "-m conntrack ! --ctstate DNAT --ctproto 6 --ctdir REPLY -j DROP", "-m conntrack --ctorigsrc A/N ! --ctorigdst ADDR --ctreplsrc ADDR --ctrepldst ADDR -j DROP", "-m conntrack --ctorigsrcport 1:2 ! --ctorigdstport 3 --ctreplsrcport 4 --ctrepldstport 5:6 -j DROP",
			"-m conntrack --ctstatus SEEN_REPLY,ASSURED --ctexpire 10:20 -j DROP", "-m state --state NEW -j DROP", "-m set --match-set plnf src -j DROP", "-m set ! --match-set plnf src --return-nomatch -j DROP", "-m set --match-set plnfcnt src ! --update-counters --packets-gt 5 --bytes-lt 100 -j DROP",
			"-p tcp -m multiport --ports 1,2:3 -j DROP", "-p udp -m multiport ! --sports 1,2:3 -j DROP", "-p tcp --dport 1:2 ! --sport 3 -m tcp --tcp-option 5 -j DROP", "-p tcp --tcp-flags ALL NONE -m tcpmss ! --mss 1:100 -j DROP",
			"-p sctp -m sctp --dport 5 --chunk-types any INIT,DATA:Be -j DROP", "-p dccp -m dccp --dport 5 --dccp-types REQUEST,RESPONSE -j DROP", "-p esp -m esp --espspi 1:500 -j DROP", "-p 112 -j DROP", "! -p tcp -j DROP", "-s A/N ! -d ADDR -i e+ ! -o f0 -j DROP", "-m rateest --rateest plnf --rateest-gt --rateest-bps 1000bit -j DROP",
			"-A INPUT -m cgroup --path plnf -j DROP",
		},
	}
	if family == netstack.IPv4 {
		tables["mangle"] = append(tables["mangle"], "-j TTL --ttl-set 5", "-j TTL --ttl-inc 1", "-j TTL --ttl-dec 1", "-p tcp -j ECN --ecn-tcp-remove", "-j TEE --gateway ADDR")
		tables["filter"] = append(tables["filter"], "-j REJECT --reject-with icmp-admin-prohibited", "-p icmp --icmp-type 3/4 -j DROP", "-p icmp ! --icmp-type any -j DROP", "-m ttl ! --ttl-eq 5 -j DROP", "-m ttl --ttl-lt 5 -j DROP", "-m ttl --ttl-gt 5 -j DROP",
			"-p ah -m ah --ahspi 1:2 -j DROP", "-f -j DROP", "! -f -j DROP", "-m realm --realm 0x5/0xff -j DROP", "-m osf --genre Linux --log 0 -p tcp -j DROP")
	} else {
		tables["mangle"] = append(tables["mangle"], "-j HL --hl-set 5", "-j HL --hl-inc 1", "-j HL --hl-dec 1", "-A POSTROUTING -j SNPT --src-pfx fd00:1::/48 --dst-pfx fd00:2::/48", "-A PREROUTING -j DNPT --src-pfx fd00:2::/48 --dst-pfx fd00:1::/48")
		tables["filter"] = append(tables["filter"], "-j REJECT --reject-with icmp6-adm-prohibited", "-p icmpv6 --icmpv6-type 1/4 -j DROP", "-p icmpv6 ! --icmpv6-type echo-request -j DROP", "-m hl ! --hl-eq 5 -j DROP", "-m hl --hl-lt 5 -j DROP", "-m frag --fragid 1:2 --fragfirst -j DROP",
			"-m rt --rt-type 0 --rt-segsleft 1:2 --rt-len 8 -j DROP", "-m hbh --hbh-len 8 --hbh-opts 1:2,3 -j DROP", "-m dst --dst-len 8 --dst-opts 1:2 -j DROP", "-p mh -m mh --mh-type 1:2 -j DROP", "-m srh --srh-next-hdr 17 --srh-segs-left-eq 1 -j DROP", "-m eui64 -j DROP", "-m ipv6header --header hop,dst --soft -j DROP",
			"-m ah --ahspi 1 --ahlen 5 --ahres -j DROP")
	}
	return tables
}

// corpusText is the corpus as a dump.
func corpusText(family netstack.Family) string {
	words := strings.NewReplacer("ADDR9", "10.9.0.9", "ADDR", "10.9.0.1", "A/N", "10.8.0.0/16", "BRACKET", "10.9.0.1", "MASK", "255.255.255.0")
	if family == netstack.IPv6 {
		words = strings.NewReplacer("ADDR9", "fd09::9", "ADDR", "fd09::1", "A/N", "fd08::/64", "BRACKET", "[fd09::1]", "MASK", "ffff:ffff::")
	}
	chains := map[string]string{"raw": "PREROUTING", "mangle": "FORWARD", "nat": "PREROUTING", "filter": "FORWARD"}
	var b strings.Builder
	tables := corpus(family)
	for _, table := range []string{"raw", "mangle", "nat", "filter"} {
		b.WriteString("*" + table + "\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n:SUB - [0:0]\n")
		for _, rule := range tables[table] {
			if !strings.HasPrefix(rule, "-A ") {
				rule = "-A " + chains[table] + " " + rule
			}
			b.WriteString(words.Replace(strings.TrimSpace(rule)) + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	text := b.String()
	for table, has := range map[string][]string{"raw": {"PREROUTING", "OUTPUT"}, "nat": {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"}, "filter": {"INPUT", "FORWARD", "OUTPUT"}} {
		head, tail, _ := strings.Cut(text, "*"+table+"\n")
		body, rest, _ := strings.Cut(tail, "COMMIT\n")
		for _, chain := range []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"} {
			if !strings.Contains(strings.Join(has, " "), chain) {
				body = strings.Replace(body, ":"+chain+" ACCEPT [0:0]\n", "", 1)
			}
		}
		text = head + "*" + table + "\n" + body + "COMMIT\n" + rest
	}
	return text
}

func TestWhatIsPrintedReadsAsTheSame(t *testing.T) {
	for _, family := range []netstack.Family{netstack.IPv4, netstack.IPv6} {
		d := dump(family, netstack.BackendNFT, corpusText(family)).IPTables[0]
		printedAgain(t, d)
	}
	for _, sets := range []string{judgeSets, judgeSets6} {
		first, err := PrintIPSet(netstack.Text{File: "f", Data: []byte(sets)})
		if err != nil || string(first) != sets {
			t.Errorf("%v: printed as\n%s", err, first)
		}
	}
}
