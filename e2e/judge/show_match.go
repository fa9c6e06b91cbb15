package judge

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// condition is a match that holds of a flow's packets, or of the first of them, where it fits.
type condition struct {
	feature string
	// rare ones fit few flows: they have worlds of their own, too.
	rare bool
	fits func(*view) bool
	text func(*xtables) string
}

func tcp(v *view) bool      { return v.flow.Protocol == verdict.TCP }
func ipv6(v *view) bool     { return v.flow.family == netstack.IPv6 }
func arriving(v *view) bool { return v.at("PREROUTING", "INPUT", "FORWARD") && v.in != "" }
func leaving(v *view) bool  { return v.at("OUTPUT", "FORWARD", "POSTROUTING") && v.out != "" }

// conditions of iptables, each of which holds.
func conditions() []condition {
	fixed := func(list ...string) func(*xtables) string {
		return func(x *xtables) string { return one(x.builder, list...) }
	}
	tracked := func(original, reply []string) func(*xtables) string {
		return func(x *xtables) string {
			if x.v.reply {
				return "-m conntrack " + one(x.builder, reply...)
			}
			return "-m conntrack " + one(x.builder, original...)
		}
	}
	return []condition{
		{"match:-i", false, arriving, func(x *xtables) string {
			return one(x.builder, "-i "+x.v.in, "-i "+x.v.in[:len(x.v.in)-1]+"+", "! -i lo")
		}},
		{"match:-o", false, leaving, func(x *xtables) string {
			return one(x.builder, "-o "+x.v.out, "-o "+x.v.out[:len(x.v.out)-1]+"+", "! -o lo")
		}},
		{"match:mac", true, func(v *view) bool {
			return arriving(v) && !v.reply && v.flow.fromPod != nil && v.ns == v.flow.fromNode.name
		}, func(x *xtables) string { return "-m mac --mac-source " + x.v.flow.fromPod.mac() }},
		{"match:owner", true, func(v *view) bool { return v.local && !v.reply && v.at("OUTPUT", "POSTROUTING") }, func(x *xtables) string {
			uid := x.v.user()
			return one(x.builder, fmt.Sprintf("-m owner --uid-owner %d", uid), fmt.Sprintf("-m owner ! --uid-owner %d", uid+1), fmt.Sprintf("-m owner --uid-owner %d-%d", uid, uid+7), "-m owner --socket-exists")
		}},
		{"match:icmp6", true, func(v *view) bool { return ipv6(v) && v.flow.Protocol == verdict.ICMP }, fixed("")}, // the selector has it
		{"match:icmp", true, func(v *view) bool { return !ipv6(v) && v.flow.Protocol == verdict.ICMP }, func(x *xtables) string {
			if x.v.reply {
				return "-m icmp --icmp-type " + one(x.builder, "echo-reply", "0/0", "any")
			}
			return "-m icmp --icmp-type " + one(x.builder, "echo-request", "8/0", "any")
		}},
		{"match:ipv6header", true, ipv6, fixed("-m ipv6header ! --header hop --soft", "-m ipv6header --header prot --soft", "-m ipv6header ! --header frag,auth")},
		{"match:-f", false, func(v *view) bool { return !ipv6(v) }, fixed("! -f")},
		{"match:pkttype", true, arriving, fixed("-m pkttype --pkt-type unicast", "-m pkttype ! --pkt-type broadcast", "-m pkttype ! --pkt-type multicast")},
		{"match:rpfilter", true, func(v *view) bool { return v.hook == "PREROUTING" && v.physIn == "" }, fixed("-m rpfilter", "-m rpfilter --loose", "-m rpfilter --validmark", "-m rpfilter --accept-local")},
		{"match:socket", true, func(v *view) bool { return tcp(v) && v.at("PREROUTING", "INPUT") && v.physIn == "" }, fixed("-m socket --nowildcard", "-m socket")},
		{"match:tcp-flags", true, func(v *view) bool { return tcp(v) && !v.reply }, fixed("-m tcp --syn", "-m tcp --tcp-flags SYN,ACK SYN", "-m tcp --tcp-flags FIN,SYN,RST,ACK,URG SYN", "-m tcp ! --tcp-flags ACK,FIN FIN,ACK")},
		{"match:tcp-option", true, func(v *view) bool { return tcp(v) && !v.reply }, fixed("-m tcp --tcp-option 2")},
		{"match:tcpmss", true, func(v *view) bool { return tcp(v) && !v.reply }, fixed("-m tcpmss --mss 1:65535", "-m tcpmss ! --mss 1:200")},
		{"match:physdev", true, func(v *view) bool { return v.physIn != "" }, func(x *xtables) string {
			v := x.v
			if v.hook == "PREROUTING" {
				return "-m physdev " + one(x.builder, "--physdev-in "+v.physIn, "--physdev-in veth+", "! --physdev-in "+v.physOut, "--physdev-is-in")
			}
			return "-m physdev " + one(x.builder, "--physdev-in "+v.physIn, "--physdev-out "+v.physOut, "--physdev-is-bridged", "--physdev-is-in", "--physdev-is-out")
		}},
		{"match:ctstate", false, nil, tracked(
			[]string{"--ctstate NEW", "! --ctstate ESTABLISHED", "! --ctstate INVALID,RELATED,ESTABLISHED", "! --ctstate DNAT"},
			[]string{"--ctstate ESTABLISHED", "! --ctstate NEW", "! --ctstate INVALID,NEW,RELATED", "--ctstate RELATED,ESTABLISHED"},
		)},
		{"match:ctstatus", false, nil, tracked(
			[]string{"! --ctstatus SEEN_REPLY", "! --ctstatus ASSURED", "! --ctstatus EXPECTED"},
			[]string{"--ctstatus SEEN_REPLY", "! --ctstatus EXPECTED", "! --ctstatus NONE"},
		)},
		{"match:ctdir", false, nil, tracked([]string{"--ctdir ORIGINAL"}, []string{"--ctdir REPLY"})},
		{"match:ctorig", false, nil, func(x *xtables) string {
			options := []string{"--ctorigsrc " + x.origSource().String(), "--ctorigdst " + x.v.flow.To.String(), "--ctproto " + x.v.flow.protocolName()}
			if p := x.v.flow.Port; p != 0 {
				options = append(options, fmt.Sprintf("--ctorigdstport %d", p), fmt.Sprintf("--ctorigdstport %d:%d", p-1, p+2), fmt.Sprintf("--ctorigsrcport %d", x.v.flow.SourcePort))
			}
			return "-m conntrack " + one(x.builder, options...)
		}},
		{"match:ctrepl", false, nil, func(x *xtables) string {
			options := []string{"--ctrepldst " + x.origSource().String(), "--ctreplsrc " + x.v.flow.To.String()}
			if p := x.v.flow.Port; p != 0 {
				options = append(options, fmt.Sprintf("--ctreplsrcport %d", p), fmt.Sprintf("--ctrepldstport %d", x.v.flow.SourcePort))
			}
			return "-m conntrack " + one(x.builder, options...)
		}},
		{"match:addrtype", false, nil, func(x *xtables) string {
			switch v := &x.v; {
			case v.hook == "INPUT":
				return "-m addrtype " + one(x.builder, "--dst-type LOCAL", "! --src-type LOCAL", "! --dst-type UNICAST")
			case v.local && v.at("OUTPUT", "POSTROUTING"):
				return "-m addrtype " + one(x.builder, "--src-type LOCAL", "--dst-type UNICAST", "! --dst-type LOCAL")
			}
			return "-m addrtype ! --src-type MULTICAST"
		}},
		{"match:iprange", false, nil, func(x *xtables) string {
			return "-m iprange " + one(x.builder, fmt.Sprintf("--src-range %s-%s", x.v.src.Prev(), x.v.src), fmt.Sprintf("--dst-range %s-%s", x.v.dst, x.v.dst.Next()), fmt.Sprintf("! --src-range %s-%s", x.v.src.Next(), x.v.src.Next().Next()))
		}},
		{"match:length", false, nil, fixed("-m length --length 28:65535", "-m length ! --length 0:27")},
		{"match:time", false, nil, fixed("-m time --datestart 2020-01-01T00:00:00", "-m time --datestop 2037-12-31T23:59:59", "-m time --timestart 12:00 --timestop 12:00")},
		{"match:ttl", false, func(v *view) bool { return !ipv6(v) }, fixed("-m ttl --ttl-gt 10", "-m ttl --ttl-lt 65", "-m ttl ! --ttl-eq 9")},
		{"match:hl", false, ipv6, fixed("-m hl --hl-gt 10", "-m hl --hl-lt 65", "-m hl ! --hl-eq 9")},
		{"match:ecn", false, nil, fixed("-m ecn --ecn-ip-ect 0", "-m ecn ! --ecn-ip-ect 2")},
		{"match:dscp", false, nil, func(x *xtables) string {
			if x.v.reply {
				return "-m dscp ! --dscp 0x33"
			}
			return fmt.Sprintf("-m dscp --dscp %#x", x.v.flow.DSCP)
		}},
		{"match:tos", false, nil, func(x *xtables) string {
			if x.v.reply {
				return "-m tos ! --tos 0x40/0xff"
			}
			return fmt.Sprintf("-m tos --tos %#x/0xff", x.v.flow.DSCP<<2)
		}},
		{"match:policy", false, nil, func(x *xtables) string {
			if x.v.at("OUTPUT", "POSTROUTING") {
				return "-m policy --dir out --pol none"
			}
			return "-m policy --dir in --pol none"
		}},
		{"match:u32", false, nil, func(x *xtables) string {
			if ipv6(&x.v) {
				return `-m u32 --u32 "` + one(x.builder, "0>>28=6", fmt.Sprintf("20=%#x", last32(x.v.src)), "4>>16=0:1460") + `"`
			}
			return `-m u32 --u32 "` + one(x.builder, "0>>28=4", fmt.Sprintf("16=%#x", last32(x.v.dst)), "0&0xFFFF=28:65535", "6&0xFF=1,6,17") + `"`
		}},
		{"match:statistic", false, nil, fixed("-m statistic --mode random --probability 1", "-m statistic --mode random ! --probability 0")},
		{"match:connlabel", false, nil, fixed("-m connlabel ! --label 3")},
		{"match:comment", false, nil, fixed(`-m comment --comment "it's \"said\""`)},
		{"match:multiport", false, func(v *view) bool { return v.dport != 0 }, func(x *xtables) string {
			return "-m multiport " + one(x.builder, fmt.Sprintf("--dports %d,7", x.v.dport), fmt.Sprintf("--sports 1,%d:%d", x.v.sport, x.v.sport+3), fmt.Sprintf("! --ports %d", x.v.dport+1))
		}},
		{"match:set", false, nil, func(x *xtables) string {
			name, family := fmt.Sprintf("has%d", len(x.world.Elements)), ""
			if ipv6(&x.v) {
				family = " family inet6"
			}
			x.ipset(x.v.ns, "create "+name+" hash:ip"+family)
			x.ipset(x.v.ns, fmt.Sprintf("add %s %s", name, x.v.src), "set:hash:ip")
			return one(x.builder, "-m set --match-set "+name+" src", "-m set ! --match-set "+name+" dst")
		}},
	}
}

// last32 are the last bits of an address of which the first word of u32 is made.
func last32(a netip.Addr) uint32 {
	b := a.AsSlice()
	b = b[len(b)-4:]
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// user is the one that sends the flow's packets.
func (v *view) user() uint32 {
	if v.flow.UID == nil {
		return 0
	}
	return *v.flow.UID
}

// holds says whether the condition can stand in the rules of the place.
func (c *condition) holds(x *xtables) bool {
	conntrack := len(c.feature) > 8 && c.feature[:8] == "match:ct"
	switch {
	case c.fits != nil && !c.fits(&x.v):
		return false
	case conntrack || c.feature == "match:connlabel":
		return x.table != "raw" && !x.untracked
	case c.feature == "match:rpfilter":
		return x.table == "raw" || x.table == "mangle"
	case c.feature == "match:socket":
		return x.table != "raw" && x.table != "nat"
	}
	return true
}

// credits are the features of a rule with the condition.
func (c *condition) credits() []string {
	if len(c.feature) > 8 && c.feature[:8] == "match:ct" {
		return []string{c.feature, "match:conntrack"}
	}
	return []string{c.feature}
}

// truths are up to two conditions that hold besides: a rule with them decides by them, too.
func (x *xtables) truths(text string) (string, []string) {
	var features []string
	list := conditions()
	for range x.IntN(3) {
		c := &list[x.IntN(len(list))]
		if !c.holds(x) {
			continue
		}
		if more := c.text(x); more != "" && !repeats(text, more) {
			text += " " + more
			features = append(features, c.credits()...)
		}
	}
	return text, features
}

// repeats says whether the rule has the match already. Those of protocols may stand twice.
func repeats(text, more string) bool {
	words := firstWords(more)
	if strings.HasPrefix(words, "-m tcp") || strings.HasPrefix(words, "-m icmp") {
		return strings.Contains(text, more)
	}
	return strings.Contains(text+" ", words)
}

// matchSubjects are those matches on a flow of which they hold that fit few.
func matchSubjects() []subject {
	var list []subject
	for _, c := range conditions() {
		if !c.rare {
			continue
		}
		list = append(list, subject{feature: c.feature, show: func(b *builder) bool {
			table := one(b, "filter", "mangle")
			if c.feature == "match:rpfilter" || c.feature == "match:socket" {
				table = "mangle"
			}
			x := b.xtSpot([]string{table}, c.fits)
			if x == nil {
				return false
			}
			text := c.text(x)
			if x.chance(60) {
				x.shows(text, "-j DROP", append(c.credits(), "target:DROP")...)
				return true
			}
			x.shows(text, "-j ACCEPT", append(c.credits(), "target:ACCEPT")...)
			x.shows("", "-j DROP", "target:DROP")
			return true
		}})
	}
	return list
}
