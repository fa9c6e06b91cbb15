package judge

import (
	"fmt"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// condition is a match of iptables that holds, or not, where it fits.
type condition struct {
	feature string
	tables  []string
	fits    func(*view) bool
	text    func(*xtables) string
}

// matchSubjects are matches of iptables on a flow of which they hold.
func matchSubjects() []subject {
	anywhere := []string{"filter", "mangle"}
	tcp := func(v *view) bool { return v.flow.Protocol == verdict.TCP }
	ipv6 := func(v *view) bool { return v.flow.family == netstack.IPv6 }
	arriving := func(v *view) bool { return v.at("PREROUTING", "INPUT", "FORWARD") && v.in != "" }
	fixed := func(list ...string) func(*xtables) string {
		return func(x *xtables) string { return one(x.builder, list...) }
	}
	var list []subject
	for _, c := range []condition{
		{"match:mac", anywhere, func(v *view) bool {
			return arriving(v) && !v.reply && v.flow.fromPod != nil && v.ns == v.flow.fromNode.name
		}, func(x *xtables) string { return "-m mac --mac-source " + x.v.flow.fromPod.mac() }},
		{"match:owner", anywhere, func(v *view) bool { return v.local && !v.reply && v.at("OUTPUT", "POSTROUTING") }, func(x *xtables) string {
			uid := uint32(0)
			if x.v.flow.UID != nil {
				uid = *x.v.flow.UID
			}
			return one(x.builder, fmt.Sprintf("-m owner --uid-owner %d", uid), fmt.Sprintf("-m owner ! --uid-owner %d", uid+1), fmt.Sprintf("-m owner --uid-owner %d-%d", uid, uid+7), "-m owner --socket-exists")
		}},
		{"match:icmp6", anywhere, func(v *view) bool { return ipv6(v) && v.flow.Protocol == verdict.ICMP }, func(x *xtables) string {
			return "" // the selector has it
		}},
		{"match:icmp", anywhere, func(v *view) bool { return !ipv6(v) && v.flow.Protocol == verdict.ICMP }, func(x *xtables) string {
			if x.v.reply {
				return "-m icmp --icmp-type " + one(x.builder, "echo-reply", "0/0", "any")
			}
			return "-m icmp --icmp-type " + one(x.builder, "echo-request", "8/0", "any")
		}},
		{"match:ipv6header", anywhere, ipv6, fixed("-m ipv6header ! --header hop --soft", "-m ipv6header --header prot --soft", "-m ipv6header ! --header frag,auth")},
		{"match:pkttype", anywhere, arriving, fixed("-m pkttype --pkt-type unicast", "-m pkttype ! --pkt-type broadcast", "-m pkttype ! --pkt-type multicast")},
		{"match:rpfilter", []string{"raw", "mangle"}, func(v *view) bool { return v.hook == "PREROUTING" && v.physIn == "" }, fixed("-m rpfilter", "-m rpfilter --loose", "-m rpfilter --validmark", "-m rpfilter --accept-local")},
		{"match:socket", []string{"mangle"}, func(v *view) bool { return tcp(v) && v.at("PREROUTING", "INPUT") && v.physIn == "" }, fixed("-m socket --nowildcard", "-m socket")},
		{"match:tcp-flags", anywhere, func(v *view) bool { return tcp(v) && !v.reply }, fixed("-m tcp --syn", "-m tcp --tcp-flags SYN,ACK SYN", "-m tcp --tcp-flags ACK ACK", "-m tcp ! --syn", "-m tcp --tcp-flags FIN,SYN,RST,ACK,URG SYN")},
		{"match:tcp-option", anywhere, tcp, fixed("-m tcp --tcp-option 2", "-m tcp ! --tcp-option 2")},
		{"match:physdev", anywhere, func(v *view) bool { return v.physIn != "" }, func(x *xtables) string {
			v := x.v
			if v.hook == "PREROUTING" {
				return "-m physdev " + one(x.builder, "--physdev-in "+v.physIn, "--physdev-in veth+", "! --physdev-in "+v.physOut, "--physdev-is-in")
			}
			return "-m physdev " + one(x.builder, "--physdev-in "+v.physIn, "--physdev-out "+v.physOut, "--physdev-is-bridged", "--physdev-is-in", "--physdev-is-out")
		}},
		{"match:ctstate", anywhere, nil, func(x *xtables) string {
			if x.v.reply {
				return "-m conntrack " + one(x.builder, "--ctstate ESTABLISHED", "! --ctstate NEW", "! --ctstate INVALID,NEW,RELATED", "--ctstate RELATED,ESTABLISHED")
			}
			return "-m conntrack " + one(x.builder, "--ctstate NEW", "! --ctstate ESTABLISHED", "! --ctstate INVALID,RELATED,ESTABLISHED", "! --ctstate DNAT")
		}},
		{"match:ctstatus", anywhere, nil, func(x *xtables) string {
			if x.v.reply {
				return "-m conntrack " + one(x.builder, "--ctstatus SEEN_REPLY", "! --ctstatus EXPECTED", "! --ctstatus NONE")
			}
			return "-m conntrack ! --ctstatus " + one(x.builder, "SEEN_REPLY", "ASSURED", "EXPECTED")
		}},
		{"match:ctdir", anywhere, nil, func(x *xtables) string {
			if x.v.reply {
				return "-m conntrack --ctdir REPLY"
			}
			return "-m conntrack --ctdir ORIGINAL"
		}},
		{"match:ctorig", anywhere, nil, func(x *xtables) string {
			options := []string{"--ctorigsrc " + x.origSource().String(), "--ctorigdst " + x.v.flow.To.String(), "--ctproto " + x.v.flow.protocolName()}
			if p := x.v.flow.Port; p != 0 {
				options = append(options, fmt.Sprintf("--ctorigdstport %d", p), fmt.Sprintf("--ctorigdstport %d:%d", p-1, p+2), fmt.Sprintf("--ctorigsrcport %d", x.v.flow.SourcePort))
			}
			return "-m conntrack " + one(x.builder, options...)
		}},
		{"match:ctrepl", anywhere, nil, func(x *xtables) string {
			options := []string{"--ctrepldst " + x.origSource().String(), "--ctreplsrc " + x.v.flow.To.String()}
			if p := x.v.flow.Port; p != 0 {
				options = append(options, fmt.Sprintf("--ctreplsrcport %d", p), fmt.Sprintf("--ctrepldstport %d", x.v.flow.SourcePort))
			}
			return "-m conntrack " + one(x.builder, options...)
		}},
	} {
		list = append(list, subject{feature: c.feature, show: func(b *builder) bool {
			x := b.xtSpot(c.tables, c.fits)
			if x == nil {
				return false
			}
			features := []string{c.feature}
			if len(c.feature) > 8 && c.feature[:8] == "match:ct" {
				features = append(features, "match:conntrack")
			}
			text := c.text(x)
			if x.chance(60) {
				x.shows(text, "-j DROP", append(features, "target:DROP")...)
				return true
			}
			x.shows(text, "-j ACCEPT", append(features, "target:ACCEPT")...)
			x.shows("", "-j DROP", "target:DROP")
			return true
		}})
	}
	return list
}
