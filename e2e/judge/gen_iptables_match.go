package judge

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// matches draws the conditions of a rule: mostly they hold for the flow, sometimes only nearly.
func (x *xtables) matches(narrow bool) match {
	var m match
	if narrow && x.chance(85) {
		m = x.selector()
		if strings.Contains(m.text, "port ") {
			m.features = append(m.features, "match:"+string(x.v.flow.Protocol))
		}
	} else {
		m.text = "-p " + x.v.flow.protocolName()
		if x.v.flow.Protocol == verdict.ICMP {
			m.text += x.echo()
		}
		m.text += " -d " + x.v.dst.String()
		m.features = []string{"match:-d"}
	}
	for range 1 + x.IntN(2) {
		o := pick(x.builder, x.conditions())
		if text := o.make(); text != "" && !strings.Contains(m.text+" ", firstWords(text)) {
			m.text += " " + text
			m.features = append(m.features, o.feature)
		}
	}
	return m
}

// firstWords are those that must not be there twice.
func firstWords(text string) string {
	words := strings.Fields(text)
	if words[0] == "!" {
		words = words[1:]
	}
	if words[0] == "-m" && len(words) > 1 {
		return words[0] + " " + words[1]
	}
	return words[0] + " "
}

// not says sometimes that the rest shall not be so.
func (x *xtables) not(percent int) string {
	if x.chance(percent) {
		return "! "
	}
	return ""
}

// near is a number that is mostly the given one, and sometimes the next.
func (x *xtables) near(n int) int {
	if x.chance(20) {
		return max(0, n+one(x.builder, -1, 1))
	}
	return n
}

// prefix holds the address, mostly.
func (x *xtables) prefix(a netip.Addr) netip.Prefix {
	bits := one(x.builder, a.BitLen(), a.BitLen(), a.BitLen()-3, a.BitLen()-8, a.BitLen()-16)
	p, _ := a.Prefix(bits)
	return p
}

// conditions are those that make sense at this place.
func (x *xtables) conditions() []option[func() string] {
	v := x.v
	f := v.flow
	list := []option[func() string]{
		{"match:-s", func() string { return x.not(10) + "-s " + x.prefix(v.src).String() }},
		{"match:-d", func() string { return x.not(10) + "-d " + x.prefix(v.dst).String() }},
		{"match:conntrack", func() string { return "-m conntrack " + x.conntrack() }},
		{"match:mark", func() string {
			mask := one[uint32](x.builder, 0xffffffff, 0xff, 0x4000)
			return fmt.Sprintf("-m mark %s--mark %#x/%#x", x.not(30), f.Mark&mask, mask)
		}},
		{"match:addrtype", func() string { return "-m addrtype " + x.addrtype() }},
		{"match:iprange", func() string {
			if x.chance(50) {
				return fmt.Sprintf("-m iprange %s--src-range %s-%s", x.not(10), x.below(v.src), x.above(v.src))
			}
			return fmt.Sprintf("-m iprange %s--dst-range %s-%s", x.not(10), x.below(v.dst), x.above(v.dst))
		}},
		{"match:comment", func() string { return `-m comment --comment "a \"quoted\" word"` }},
		{"match:dscp", func() string {
			return fmt.Sprintf("-m dscp %s--dscp %#x", x.not(20), f.DSCP)
		}},
		{"match:time", func() string {
			return "-m time " + one(x.builder, "--timestart 06:00 --timestop 18:00", "--timestart 18:00 --timestop 06:00", x.not(50)+"--weekdays Mon,Wed,Fri",
				x.not(50)+"--monthdays 2,4,6,8,10,12,14,16,18,20,22,24,26,28,30", "--timestart 12:00 --timestop 08:00 --contiguous --weekdays Tue,Thu,Sat,Sun")
		}},
		{"match:length", func() string {
			return "-m length " + x.not(20) + "--length " + one(x.builder, "0:300", "40:1500", "0:1400", "1000:65535")
		}},
	}
	if f.family == netstack.IPv4 {
		list = append(list, option[func() string]{"match:ttl", func() string {
			return "-m ttl " + one(x.builder, "--ttl-eq 64", "--ttl-lt 64", "--ttl-gt 62", "--ttl-eq 63", "--ttl-gt 10")
		}})
	} else {
		list = append(list, option[func() string]{"match:hl", func() string {
			return "-m hl " + one(x.builder, "--hl-eq 64", "--hl-lt 64", "--hl-gt 62", "--hl-eq 63", "--hl-gt 10")
		}})
	}
	if v.in != "" && v.hook != "OUTPUT" && v.hook != "POSTROUTING" {
		list = append(list, option[func() string]{"match:-i", func() string { return x.not(15) + "-i " + x.wildcard(v.in) }})
	}
	if v.out != "" && v.hook != "INPUT" && v.hook != "PREROUTING" {
		list = append(list, option[func() string]{"match:-o", func() string { return x.not(15) + "-o " + x.wildcard(v.out) }})
	}
	if v.dport != 0 {
		proto := string(f.Protocol)
		list = append(
			list,
			option[func() string]{"match:multiport", func() string {
				return "-m multiport " + one(
					x.builder, fmt.Sprintf("--dports %d,7000:7010", x.near(int(v.dport))), fmt.Sprintf("--sports %d:%d", x.near(int(v.sport)), v.sport+5),
					fmt.Sprintf("--ports 22,%d", v.dport), fmt.Sprintf("! --dports 22,%d", x.near(int(v.dport))))
			}},
			option[func() string]{"match:" + proto, func() string {
				return fmt.Sprintf("-m %s %s", proto, one(
					x.builder, fmt.Sprintf("%s--dport %d:%d", x.not(20), x.near(int(v.dport)), v.dport+10), fmt.Sprintf("%s--sport %d:%d", x.not(20), v.sport-min(v.sport, 10), x.near(int(v.sport)))))
			}},
		)
	}
	if f.Protocol == verdict.TCP {
		list = append(list, option[func() string]{"match:tcp-flags", func() string {
			return "-m tcp " + one(x.builder, "--syn", "--tcp-flags SYN,ACK,FIN,RST SYN", "--tcp-flags SYN,ACK SYN,ACK", "--tcp-flags ACK ACK", "! --syn", "--tcp-flags PSH PSH")
		}})
	}
	if f.Protocol == verdict.SCTP { // whose lengths are not known
		chunks := option[func() string]{"match:sctp-chunks", x.chunks}
		list = append(slices.DeleteFunc(list, func(o option[func() string]) bool { return o.feature == "match:length" }), chunks, chunks, chunks, chunks, chunks)
	}
	if f.Protocol == verdict.ICMP {
		list = append(list, option[func() string]{"match:icmp", func() string {
			if f.family == netstack.IPv6 {
				return "-m icmp6 --icmpv6-type " + one(x.builder, "echo-request", "echo-reply", "128", "129")
			}
			return "-m icmp --icmp-type " + one(x.builder, "echo-request", "echo-reply", "8/0", "any", "0")
		}})
	}
	if v.local && (v.hook == "OUTPUT" || v.hook == "POSTROUTING") && !v.reply {
		list = append(list, option[func() string]{"match:owner", func() string {
			uid := 0
			if f.UID != nil {
				uid = int(*f.UID)
			}
			return fmt.Sprintf("-m owner %s--uid-owner %s", x.not(20), one(x.builder, fmt.Sprint(uid), "0-999", "1000-70000"))
		}})
	}
	return append(append(list, x.moreConditions()...), x.extensions()...)
}

func (x *xtables) wildcard(dev string) string {
	if x.chance(30) {
		return dev[:len(dev)-1] + "+"
	}
	return dev
}

func (x *xtables) below(a netip.Addr) netip.Addr {
	if x.chance(15) {
		return a.Next()
	}
	return one(x.builder, a, a.Prev())
}

func (x *xtables) above(a netip.Addr) netip.Addr {
	next := a.Next().Next()
	return one(x.builder, next, next.Next())
}

func (x *xtables) conntrack() string {
	v := x.v
	orig := func(reply, plain string) string {
		if v.reply {
			return reply
		}
		return plain
	}
	options := []string{
		x.not(20) + "--ctstate " + one(x.builder, "NEW", "ESTABLISHED", "RELATED,ESTABLISHED", "INVALID", "NEW,ESTABLISHED", "DNAT", "SNAT", "UNTRACKED"),
		x.not(20) + "--ctstate " + orig("ESTABLISHED", "NEW"),
		"--ctdir " + orig("REPLY", "ORIGINAL"),
		x.not(20) + "--ctstatus " + one(x.builder, "SEEN_REPLY", "ASSURED", "CONFIRMED", "NONE"),
		x.not(10) + "--ctproto " + v.flow.protocolName(),
		fmt.Sprintf("%s--ctorigdst %s", x.not(10), v.flow.To),
		fmt.Sprintf("%s--ctorigsrc %s", x.not(10), x.origSource()),
	}
	if v.flow.Port != 0 {
		options = append(options, fmt.Sprintf("%s--ctorigdstport %d", x.not(10), x.near(int(v.flow.Port))), fmt.Sprintf("--ctreplsrc %s", v.flow.To))
	}
	return one(x.builder, options...)
}

func (x *xtables) origSource() netip.Addr {
	if x.v.reply {
		return x.v.dst
	}
	return x.v.src
}

func (x *xtables) addrtype() string {
	text := x.not(20) + one(x.builder, "--src-type ", "--dst-type ") + one(x.builder, "LOCAL", "UNICAST", "LOCAL", "MULTICAST", "BROADCAST")
	switch {
	case x.v.hook == "PREROUTING" || x.v.hook == "INPUT" || x.v.hook == "FORWARD":
		if x.chance(25) && !strings.Contains(text, "MULTICAST") && !strings.Contains(text, "BROADCAST") {
			text += " --limit-iface-in"
		}
	case x.v.hook == "POSTROUTING" || x.v.hook == "OUTPUT":
		if x.chance(25) && !strings.Contains(text, "MULTICAST") && !strings.Contains(text, "BROADCAST") {
			text += " --limit-iface-out"
		}
	}
	if x.v.flow.family == netstack.IPv6 {
		text = strings.ReplaceAll(text, "BROADCAST", "ANYCAST")
	}
	return text
}
