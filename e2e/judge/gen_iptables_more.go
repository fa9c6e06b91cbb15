package judge

import (
	"fmt"
	"net/netip"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// moreConditions are those of the less usual matches.
func (x *xtables) moreConditions() []option[func() string] {
	v := x.v
	f := v.flow
	arriving := v.hook == "PREROUTING" || v.hook == "INPUT" || v.hook == "FORWARD"
	list := []option[func() string]{
		{"match:tos", func() string {
			return fmt.Sprintf("-m tos %s--tos %#x/%#x", x.not(20), x.tos(), one(x.builder, 0xfc, 0xff, 0x20))
		}},
		{"match:u32", func() string {
			if f.family == netstack.IPv6 {
				return fmt.Sprintf(`-m u32 --u32 "%s"`, one(x.builder, "4&0xFF00=0x600:0x1100", "0>>28=6", "6&0xFF=6,17,58", "4>>16=0:50"))
			}
			return fmt.Sprintf(`-m u32 --u32 "%s"`, one(x.builder, "0>>28=4", "0>>28=5", "6&0xFF=6,17", "6&0xFF=1", "0&0xFFFF=0:80", "8&0xFF000000=0x3F000000:0x41000000", "12="+hex(v.src), "16="+hex(v.dst)))
		}},
		{"match:policy", func() string {
			if v.hook == "OUTPUT" || v.hook == "POSTROUTING" {
				return "-m policy --dir out --pol " + one(x.builder, "none", "ipsec")
			}
			return "-m policy --dir in --pol " + one(x.builder, "none", "ipsec")
		}},
	}
	if arriving {
		list = append(list, option[func() string]{"match:pkttype", func() string {
			return "-m pkttype " + x.not(20) + "--pkt-type " + one(x.builder, "unicast", "multicast", "broadcast")
		}})
	}
	if v.hook == "PREROUTING" && (x.table == "raw" || x.table == "mangle") {
		list = append(list, option[func() string]{"match:rpfilter", func() string {
			return "-m rpfilter" + one(x.builder, "", " --loose") + one(x.builder, "", " --validmark") + one(x.builder, "", "", " --accept-local") + one(x.builder, "", " --invert")
		}})
	}
	if (v.hook == "PREROUTING" || v.hook == "INPUT") && v.dport != 0 && x.table != "raw" {
		list = append(list, option[func() string]{"match:socket", func() string {
			return "-m socket --nowildcard" + one(x.builder, "", "", "", " --transparent")
		}})
	}
	if arriving && v.in != "" && !v.reply && f.fromPod != nil && v.ns == f.fromNode.name {
		mac := f.fromPod.mac()
		list = append(list, option[func() string]{"match:mac", func() string {
			return fmt.Sprintf("-m mac %s--mac-source %s", x.not(20), one(x.builder, mac, mac, "02:00:00:00:99:99"))
		}})
	}
	if v.physIn != "" {
		list = append(list, option[func() string]{"match:physdev", func() string {
			if v.hook == "PREROUTING" {
				return "-m physdev " + x.not(20) + "--physdev-in " + one(x.builder, v.physIn, "veth+", v.physOut)
			}
			return "-m physdev " + one(
				x.builder, "--physdev-in "+v.physIn, "--physdev-out "+v.physOut, "--physdev-is-bridged", "! --physdev-is-bridged", "--physdev-is-in",
				"--physdev-in "+v.physIn+" --physdev-out "+v.physOut)
		}})
	}
	return list
}

func hex(a netip.Addr) string {
	return fmt.Sprintf("0x%02X%02X%02X%02X", a.As4()[0], a.As4()[1], a.As4()[2], a.As4()[3])
}

// tos is the packet's type of service: answers have their own.
func (x *xtables) tos() int {
	if x.v.reply && x.v.flow.Protocol != verdict.ICMP {
		return 0
	}
	return int(x.v.flow.DSCP) << 2
}

// moreTargets are those that change the packet so that something else decides, or let it pass on.
func (x *xtables) moreTargets() []option[func()] {
	v := x.v
	ipv6 := v.flow.family == netstack.IPv6
	list := []option[func()]{
		{"target:NFQUEUE", func() {
			// Nobody listens: bypassed, it is as good as ACCEPT. That nobody does, the simulator cannot know.
			if !x.chance(20) {
				x.drop()
				return
			}
			x.rule(x.chain, x.matches(true), "-j NFQUEUE --queue-num 9 --queue-bypass", "target:NFQUEUE")
		}},
		{"target:AUDIT", func() {
			e := x.rule(x.chain, x.matches(true), "-j AUDIT --type "+one(x.builder, "accept", "drop", "reject"), "target:AUDIT")
			e.Instead = "ACCEPT"
			x.rule(x.chain, x.selector(), "-j DROP", "target:DROP")
		}},
	}
	if x.table == "mangle" {
		list = append(
			list,
			option[func()]{"target:DSCP", func() {
				value := one(x.builder, 10, 18, 46)
				if x.chance(60) {
					x.rule(x.chain, x.matches(true), fmt.Sprintf("-j DSCP --set-dscp %#x", value), "target:DSCP")
				} else {
					x.rule(x.chain, x.matches(true), fmt.Sprintf("-j TOS --set-tos %#x/0xfc", value<<2), "target:TOS")
				}
				test := x.selector()
				test.text += fmt.Sprintf(" -m dscp --dscp %#x", value)
				test.features = append(test.features, "match:dscp")
				x.rule(x.chain, test, "-j DROP", "target:DROP")
			}},
			option[func()]{"target:TTL", func() {
				what, match := "TTL --ttl", "ttl --ttl"
				if ipv6 {
					what, match = "HL --hl", "hl --hl"
				}
				feature := "target:" + what[:len(what)-len(" --ttl")]
				if ipv6 {
					feature = "target:HL"
				}
				if x.chance(50) && v.hook != "INPUT" {
					// It dies at the next router, if there is one.
					x.rule(x.chain, x.matches(true), fmt.Sprintf("-j %s-set %d", what, one(x.builder, 1, 2)), feature)
					return
				}
				x.rule(x.chain, x.matches(true), fmt.Sprintf("-j %s-%s", what, one(x.builder, "set 40", "dec 24", "dec 23", "inc 1")), feature)
				test := x.selector()
				test.text += fmt.Sprintf(" -m %s-%s", match, one(x.builder, "lt 41", "eq 40", "gt 64"))
				x.rule(x.chain, test, "-j DROP", "target:DROP")
			}},
			option[func()]{"target:TEE", func() {
				// The copy goes to a pod that has no use for it.
				var idle *pod
				for _, p := range x.pods {
					if p.node.name == v.ns && p != v.flow.fromPod && p != v.flow.toPod {
						idle = p
					}
				}
				if idle == nil {
					x.drop()
					return
				}
				e := x.rule(x.chain, x.matches(true), "-j TEE --gateway "+idle.addrs[slot(v.flow.family)].String(), "target:TEE")
				e.Instead = "ACCEPT"
				x.rule(x.chain, x.selector(), "-j DROP", "target:DROP")
			}},
		)
	}
	if v.flow.Protocol == verdict.TCP && x.table == "mangle" && (v.hook == "FORWARD" || v.hook == "OUTPUT" || v.hook == "POSTROUTING") {
		list = append(list, option[func()]{"target:TCPMSS", func() {
			m := x.selector()
			m.text += " -m tcp --tcp-flags SYN,RST SYN"
			x.rule(x.chain, m, fmt.Sprintf("-j TCPMSS --set-mss %d", one(x.builder, 600, 1000)), "target:TCPMSS")
			test := x.selector()
			test.text += " -m length --length 1100:65535"
			test.features = append(test.features, "match:length")
			x.rule(x.chain, test, "-j DROP", "target:DROP")
		}})
	}
	return list
}

// netmap rewrites the network of an address.
func (x *xtables) netmap() option[string] {
	at := slot(x.v.flow.family)
	to := one(x.builder, x.nodes...).ranges[at]
	return option[string]{"target:NETMAP", "-j NETMAP --to " + to.String()}
}
