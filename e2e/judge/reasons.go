package judge

import (
	"slices"
	"strings"
)

// wanted are the features that have to decide in a long run, or to say why they do not: everything that the simulator
// claims to follow. What generators name besides is wanted, too.
var wanted = strings.Fields(`
	match:-s match:-d match:-i match:-o match:-f match:tcp match:udp match:icmp match:icmp6 match:sctp match:sctp-chunks match:tcp-flags match:tcp-option match:multiport
	match:conntrack match:ctstate match:ctstatus match:ctdir match:ctorig match:ctrepl match:mark match:connmark match:connlabel match:addrtype match:comment
	match:set match:physdev match:statistic match:limit match:hashlimit match:recent match:connlimit match:rpfilter match:socket match:owner match:policy
	match:esp match:u32 match:time match:length match:ttl match:hl match:pkttype match:mac match:iprange match:ipvs match:cgroup match:dscp match:tos match:string
	set:hash:ip set:hash:net set:hash:ip,port set:hash:net,port set:hash:ip,port,ip set:hash:ip,port,net set:hash:net,iface set:bitmap:ip set:bitmap:port
	set:list:set set:nomatch set:hash:mac set:hash:ip,mac set:hash:ip,mark set:hash:net,net set:hash:net,port,net set:bitmap:ip,mac
	target:ACCEPT target:DROP target:REJECT target:RETURN target:jump target:goto target:none target:MARK target:CONNMARK target:CT target:NOTRACK target:DNAT
	target:SNAT target:MASQUERADE target:REDIRECT target:NETMAP target:TPROXY target:TCPMSS target:LOG target:NFLOG target:NFQUEUE target:TRACE target:CLASSIFY
	target:SET target:TEE target:DSCP target:TOS target:TTL target:HL target:AUDIT policy:DROP
	reject:icmp-net-unreachable reject:icmp-host-unreachable reject:icmp-port-unreachable reject:icmp-proto-unreachable reject:icmp-net-prohibited
	reject:icmp-host-prohibited reject:icmp-admin-prohibited reject:icmp6-no-route reject:icmp6-adm-prohibited reject:icmp6-addr-unreachable
	reject:icmp6-port-unreachable reject:tcp-reset
	nft:ip nft:ip6 nft:inet nft:bridge nft:netdev nft:arp nft:of-iptables nft:device-ingress nft:device-egress nft:policy nft:route-chain nft:jump nft:goto nft:return nft:set
	nft:anonymous-set nft:interval nft:concat nft:vmap nft:nat-map nft:dynamic-set nft:objects nft:limit nft:quota nft:queue nft:tproxy nft:meta-mark
	nft:meta-length nft:meta-nfproto nft:meta-pkttype nft:iifname nft:oifname nft:wildcard nft:iif nft:skuid nft:ct-state nft:ct-status nft:ct-direction
	nft:ct-tuple nft:ct-mark nft:ct-zone nft:fib-type nft:fib-oif nft:numgen nft:hash nft:symhash nft:payload-set nft:mark nft:notrack nft:dnat nft:snat
	nft:masquerade nft:redirect nft:reject nft:sctp
	route:table route:blackhole route:unreachable route:prohibit route:throw route:local route:broadcast route:metric route:multipath route:onlink route:src
	route:scope route:mtu route:advmss nexthop:object nexthop:group nexthop:blackhole source:ipv4 source:ipv6
	rule:from rule:to rule:iif rule:oif rule:mark rule:tos rule:ipproto rule:sport rule:dport rule:uidrange rule:not rule:goto rule:suppress rule:l3mdev
	sysctl:forwarding sysctl:rp_filter sysctl:accept_local sysctl:route_localnet sysctl:arp_ignore sysctl:arp_filter sysctl:proxy_arp sysctl:proxy_arp_pvlan
	sysctl:disable_ipv6 sysctl:bridge-nf-call-iptables sysctl:bridge-nf-call-ip6tables sysctl:icmp_echo_ignore_all sysctl:fib_multipath_hash_policy
	bridge:fdb bridge:hairpin bridge:isolated bridge:state bridge:flood bridge:locked bridge:bcast_flood bridge:mcast_flood neigh:permanent ndp:dropped
	link:down link:mtu link:vxlan link:macvlan link:tun link:vlan link:vlan-filtering link:bond link:ipip link:sit link:gre link:gretap link:ip6tnl link:ipvlan
	link:vrf
`)

// Why something does not decide.
const (
	askedAbout   = "no snapshot shows what it looks at: unknown, by name, where it decides ("
	noSuchPacket = "no query asks about packets that it matches ("
)

// reasons say why a feature decides seldom in any kernel, and which test judges it.
var reasons = map[string]string{
	"match:limit": askedAbout + "TestWhatNoDumpShowsIsAskedAboutByName)", "match:hashlimit": askedAbout + "TestWhatNoDumpShowsIsAskedAboutByName)",
	"match:recent": askedAbout + "TestWhatNoDumpShowsIsAskedAboutByName)", "match:connlimit": askedAbout + "TestWhatNoDumpShowsIsAskedAboutByName)",
	"match:string": askedAbout + "TestWhatNoDumpShowsIsAskedAboutByName)",
	"match:quota":  askedAbout + "TestWhatNoDumpShowsIsAskedAboutByName)", "match:cgroup": askedAbout + "TestWhatNoDumpShowsOfASenderIsAskedAboutByName)",
	"nft:limit": askedAbout + "TestEveryStatementOfNftIsRead)", "nft:quota": askedAbout + "TestEveryStatementOfNftIsRead)",
	"target:NFQUEUE":                   "a program decides, if one listens: unknown, UserspaceDecides (TestAnUnknownMatchMakesOnlyItsOwnRuleUndecidable)",
	"nft:queue":                        "a program decides, if one listens: unknown, UserspaceDecides (TestEveryStatementOfNftIsRead)",
	"nft:tproxy":                       "without a transparent socket it decides nothing, and with one a program does: unknown, ProxyInterposed (TestProxies)",
	"match:esp":                        noSuchPacket + "TestWhatNoDumpShowsIsAskedAboutByName)",
	"match:ipvs":                       "IPVS is not in this kernel: TestScenarios of e2e/ipvs, in the virtual machine",
	"rule:oif":                         "no query binds a socket to a device (TestLookups)",
	"rule:l3mdev":                      "the kernel adds it with the first VRF, and no world of VRFs is without it (TestVRFs)",
	"route:scope":                      "it decides which next hops and sources are taken (TestLookups)",
	"route:broadcast":                  "no query asks about broadcasts (TestLookups)",
	"sysctl:fib_multipath_hash_policy": "it decides which flows go together, not how likely each way is (TestFlowsSpreadAsTheKernelSpreadsThem)",
}

// kernelReasons are kernelFeatures that features need.
var kernelReasons = map[string]string{
	"link:vlan": "vlan", "link:vlan-filtering": "vlan-filtering", "link:bond": "bond", "link:ipip": "ipip", "link:sit": "sit", "link:gre": "gre", "link:gretap": "gretap",
	"link:ip6tnl": "ip6tnl", "link:ipvlan": "ipvlan", "link:vrf": "vrf", "link:vxlan": "vxlan", "link:macvlan": "macvlan", "link:tun": "tun",
	"set:hash:mac": "hash:mac", "set:hash:ip,mac": "hash:ip,mac", "set:hash:ip,mark": "hash:ip,mark", "set:hash:net,net": "hash:net,net", "set:hash:net,port,net": "hash:net,port,net",
}

// reason says why a feature need not decide often on the kernel; empty if there is no reason.
func (k Kernel) reason(feature string) string {
	if need, ok := kernelReasons[feature]; ok && !k.has(need) {
		return "this kernel lacks " + need + ": the judge in the virtual machine has it"
	}
	if strings.Count(feature, ":") > 1 && strings.HasPrefix(feature, "link:") {
		return "a part of " + feature[:strings.LastIndex(feature, ":")]
	}
	return reasons[feature]
}

// missing are the features that have to decide and do not, without a reason.
func (c coverage) missing(k Kernel) []string {
	c.declare(wanted)
	var list []string
	for feature, t := range c {
		if t.decided < enough && k.reason(feature) == "" {
			list = append(list, feature)
		}
	}
	slices.Sort(list)
	return list
}

// asksFor says whether a feature is among those that a run is restricted to.
func asksFor(only []string, feature string) bool {
	return len(only) == 0 || slices.ContainsFunc(only, func(o string) bool {
		return o == feature || strings.HasPrefix(feature, o+":") ||
			slices.ContainsFunc(linkKinds(), func(k linkKind) bool { return k.feature == feature && k.is(o) })
	})
}
