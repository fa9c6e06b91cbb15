package judge

import (
	"strings"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// rejectSubjects are the kinds of rejection, each heard in its own way.
func rejectSubjects() []subject {
	var list []subject
	for _, kind := range []string{
		"default", "tcp-reset",
		"icmp-net-unreachable", "icmp-host-unreachable", "icmp-port-unreachable", "icmp-proto-unreachable", "icmp-net-prohibited", "icmp-host-prohibited", "icmp-admin-prohibited",
		"icmp6-no-route", "icmp6-adm-prohibited", "icmp6-addr-unreachable", "icmp6-port-unreachable",
	} {
		list = append(list, subject{feature: "reject:" + kind, show: func(b *builder) bool {
			x := b.xtSpot([]string{"filter"}, func(v *view) bool {
				switch {
				case kind == "default":
					return true
				case kind == "tcp-reset":
					return v.flow.Protocol == verdict.TCP
				case v.reply: // whoever answers hears of it, and the client nothing
					return false
				}
				return strings.HasPrefix(kind, "icmp6") == (v.flow.family == netstack.IPv6)
			})
			if x == nil {
				return false
			}
			target := "-j REJECT --reject-with " + kind
			if kind == "default" {
				target = "-j REJECT"
			}
			x.shows("", target, "target:REJECT", "reject:"+kind)
			return true
		}})
	}
	return list
}
