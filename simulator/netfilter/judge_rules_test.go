package netfilter

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// The namespaces of the test topology, which no other run of the tests shares.
var (
	judgeClient = judgeName("client")
	judgeRouter = judgeName("router")
	judgeServer = judgeName("server")
)

func judgeName(of string) string { return "plnf-" + strconv.Itoa(os.Getpid()) + "-" + of }

// probe is one connection to try.
type probe struct {
	name    string
	from    string // namespace: the client's unless given
	network string // tcp unless given
	dst     string // 10.77.2.2 unless given
	port    uint16
	src     uint16 // filled in
	// drawn says whether the kernel of a release draws what the probe meets: nil for never.
	drawn func(release string) bool
}

// judgeTimes are conditions on the time, whose edges are far from now. Those of days are left out around midnight.
func judgeTimes(now time.Time) []string {
	hours := func(start, stop int) string {
		at := func(h int) string { return now.Add(time.Duration(h) * time.Hour).Format(time.TimeOnly) }
		return fmt.Sprintf("-m time --timestart %s --timestop %s", at(start), at(stop))
	}
	list := []string{
		hours(-2, 2), hours(1, 3), hours(-3, -1), hours(2, 1), hours(2, -2), hours(-1, -2),
		"-m time --datestart 2020-02-29T12:00:00", "-m time --datestop 2020-02-29", "-m time --datestart 2037", "-m time --datestart 2020-01 --datestop 2037-12-31T23:59",
	}
	today := now.Truncate(24 * time.Hour)
	if now.Sub(today) < 30*time.Minute || now.Sub(today) > 23*time.Hour+30*time.Minute {
		return list
	}
	for ago := range 3 {
		day := now.AddDate(0, 0, 1-ago)
		weekday := "--weekdays " + day.Format("Mon")
		list = append(list, "-m time "+weekday, "-m time ! "+weekday, fmt.Sprintf("-m time --monthdays %d,31", day.Day()), fmt.Sprintf("-m time ! --monthdays %d", day.Day()))
		// Almost all day long, from before now and from after it.
		for _, hour := range []int{2, -1} {
			list = append(list, hours(hour, hour-1)+" "+weekday)
			start, stop := now.Add(time.Duration(hour)*time.Hour), now.Add(time.Duration(hour-1)*time.Hour)
			if start.Day() == stop.Day() { // iptables takes --contiguous where midnight is in between, and nowhere else
				list = append(list, hours(hour, hour-1)+" --contiguous "+weekday)
			}
		}
	}
	return list
}

// The conditions under test: each rule drops what comes to its own port, so
// that the fate of a connection says whether the condition held.
var judgeMatches4 = slices.Concat(judgeTimes(time.Now().UTC()), []string{
	"-s 10.77.1.0/24", "! -s 10.77.1.2", "-s 10.0.0.2/255.0.0.255", "-d 10.77.2.0/24", "! -d 10.77.2.2",
	"-i c0", "-i c+", "! -i c+", "-i s+", "-o s0", "! -o s0", "-o +", "-i c", "-i c0+",
	"-m tcp --tcp-flags SYN,ACK SYN", "-m tcp ! --syn", "--syn", "-m tcp --sport 1024:", "-m tcp --sport :1023", "-m tcp ! --sport 20000:30000",
	"-m multiport --sports 1,2,20000:30000", "-m multiport ! --sports 1,2,3:4", "-m multiport --ports 20000:65535",
	"-m conntrack --ctstate NEW", "-m conntrack --ctstate ESTABLISHED", "-m conntrack --ctstate INVALID", "-m conntrack ! --ctstate NEW,ESTABLISHED",
	"-m conntrack ! --ctstate INVALID", "-m conntrack --ctstate DNAT", "-m conntrack ! --ctstate DNAT --ctdir ORIGINAL", "-m state --state NEW", "-m conntrack --ctstate UNTRACKED",
	"-m conntrack --ctstatus NONE", "-m conntrack --ctstatus CONFIRMED", "-m conntrack --ctstatus SEEN_REPLY", "-m conntrack ! --ctstatus ASSURED",
	"-m conntrack --ctproto 6", "-m conntrack --ctorigsrc 10.77.1.2", "-m conntrack ! --ctorigdst 10.77.2.2", "-m conntrack --ctreplsrc 10.77.2.2",
	"-m conntrack --ctreplsrc 10.77.2.3", "-m conntrack --ctorigdstport 1:999", "-m conntrack --ctorigsrcport 20000:30000", "-m conntrack --ctdir REPLY", "-m conntrack --ctdir ORIGINAL",
	"-m addrtype --src-type LOCAL", "-m addrtype --dst-type UNICAST", "-m addrtype ! --dst-type LOCAL", "-m addrtype --src-type UNICAST --dst-type LOCAL",
	"-m iprange --src-range 10.77.1.1-10.77.1.9", "-m iprange ! --dst-range 10.77.2.3-10.77.2.9", "-m length --length 60", "-m length --length 61:", "-m length ! --length 52",
	"-m ttl --ttl-eq 63", "-m ttl --ttl-lt 63", "-m ttl --ttl-gt 62", "-m dscp --dscp 0x00", "-m dscp ! --dscp 0x00", "-m tos --tos 0x00/0xff",
	"-m mark --mark 0x5/0xf", "-m mark ! --mark 0x5/0xf", "-m mark --mark 0x15", "-m connmark --mark 0x0", "-m connmark --mark 0x7",
	"-m pkttype --pkt-type unicast", "-m pkttype --pkt-type broadcast", "-m tcpmss --mss 1400:1500", "-m tcpmss ! --mss 1:100", "-m statistic --mode random --probability 1", "-m statistic --mode random --probability 0",
	"-m set --match-set ip src", "-m set ! --match-set ip src", "-m set --match-set net dst", "-m set --match-set netnm src", "-m set --match-set netnm src --return-nomatch",
	"-m set --match-set ipport dst,src", "-m set --match-set netport src,dst", "-m set --match-set ipportnet src,dst,dst", "-m set --match-set netiface src,src",
	"-m set --match-set bmport src", "-m set --match-set bmip dst", "-m set --match-set list src", "-m set --match-set ipport src", "-m set --match-set mask src", "-m set --match-set portip dst,dst,src",
	"-m policy --dir in --pol none", "-m policy --dir in --pol ipsec", "-m recent --set --name x", "-m comment --comment \"quoted \\\" text\"",
	"-m physdev --physdev-in c0", "-m physdev ! --physdev-is-bridged",
	"-m devgroup --src-group 5", "-m devgroup ! --src-group 5", "-m devgroup --src-group 0x4/0x6 --dst-group 0x16", "-m devgroup --src-group 5 ! --dst-group 0x10/0xf0", "-m devgroup --dst-group default",

	"-m ecn --ecn-ip-ect 0", "-m ecn ! --ecn-ip-ect 0", "-m ecn --ecn-tcp-ece", "-m ecn ! --ecn-tcp-ece", "-m ecn ! --ecn-tcp-cwr --ecn-ip-ect 0",
	"-m tcp --tcp-option 2", "-m tcp ! --tcp-option 2",
	"-m connlabel --label 5", "-m connlabel ! --label 5", "-m connlabel --label 7 --set",
	"-m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 0xdeadbeef", "-m cluster --cluster-total-nodes 2 --cluster-local-node 2 --cluster-hash-seed 0xdeadbeef",
	"-m cluster --cluster-total-nodes 7 ! --cluster-local-node 3 --cluster-hash-seed 7", "-m cluster --cluster-total-nodes 5 --cluster-local-nodemask 0x15 --cluster-hash-seed 1",
	"-m u32 --u32 \"6&0xFF=6\"", "-m u32 ! --u32 \"6&0xFF=6\"", "-m u32 --u32 \"6&0xFF=17\"", "-m u32 --u32 \"0>>22&0x3C@0&0xFFFF=1000:2000,3000\"",
	"-m u32 --u32 \"12=0x0a4d0102&&16=0x0a4d0202\"", "-m u32 --u32 \"12=0x0a4d0102&&16=0x0a4d0203\"", "-m u32 --u32 \"400=0:0xffffffff\"", "-m u32 --u32 \"8>>24=63\"",
	"-m conntrack --ctorigsrcport 1:100", "-m conntrack ! --ctorigsrcport 1:100", "-m conntrack --ctreplsrcport 1:5000", "-m conntrack --ctrepldstport 20000:30000", "-m conntrack --ctrepldst 10.77.1.2", "-m conntrack ! --ctrepldst 10.77.1.0/24",
	"-m conntrack ! --ctproto 17", "-m conntrack ! --ctstatus SEEN_REPLY,ASSURED", "-m conntrack --ctstate SNAT", "-m conntrack ! --ctstate SNAT,DNAT --ctdir REPLY",
	"-m addrtype --dst-type UNICAST --limit-iface-in", "-m addrtype ! --src-type UNICAST,LOCAL --limit-iface-out", "-m addrtype --src-type BLACKHOLE,UNREACHABLE", "-m addrtype --dst-type BROADCAST,MULTICAST",
	"-m connmark --mark 0x0/0xff", "-m connmark ! --mark 0x0", "-m mark --mark 0x10/0x10", "-m mark ! --mark 0x1/0x3", "-m iprange --src-range 10.77.1.3-10.77.1.9", "-m iprange --src-range 10.77.1.2-10.77.1.2 --dst-range 10.77.2.1-10.77.2.2",
	"-m dscp --dscp-class CS0", "-m dscp --dscp-class EF", "-m tos --tos Minimize-Delay", "-m tos ! --tos 0x10/0x3f", "-m ttl ! --ttl-eq 63", "-m tcpmss --mss 1460", "-m tcpmss --mss 1461:",
	"-m statistic --mode nth --every 1 --packet 0", "-m statistic --mode random ! --probability 1", "-m pkttype ! --pkt-type multicast",
	"-m physdev --physdev-is-in", "-m physdev ! --physdev-in c0 ! --physdev-is-in", "-m physdev --physdev-is-bridged", "-f", "! -f",
	"-m set --match-set ip src --return-nomatch", "-m set --match-set cnt src --packets-gt 0", "-m set ! --match-set ip src ! --update-counters", "-m set --match-set deny src,src", "-m set --match-set twoif src,src",
	"-m set --match-set wildif src,src", "-m set --match-set physif src,src", "-m set --match-set outif dst,dst", "-m set --match-set bmmask src", "-m set --match-set portrange dst", "-m set --match-set icmps src,dst", "-m set --match-set empty src",
	"-m mac --mac-source CLIENTMAC", "-m mac ! --mac-source CLIENTMAC", "-m mac --mac-source 02:11:22:33:44:55", "-m helper --helper ftp", "-m helper ! --helper ftp",
	"-m nfacct --nfacct-name plnf",
	"-m set --match-set orders src", "-m set --match-set ip src,src,src", "-m set --match-set ipportnet src,dst", "-m set --match-set bits src", "-m set --match-set portbits src,dst",
})

// judgeMatches6 are the same of IPv6.
var judgeMatches6 = []string{
	"-s fd77:1::/64", "! -s fd77:1::2", "-s fd77:1::2/ffff::ffff", "-d fd77:2::/ffff:ffff:0:0:ffff::", "-i c+", "! -o s0",
	"-m frag --fragid 1", "-m frag ! --fragid 1", "-m frag --fragmore", "-m rt --rt-type 0", "-m rt ! --rt-type 0", "-m hbh --hbh-len 8", "-m hbh ! --hbh-len 8", "-m dst --dst-len 8", "-m dst ! --dst-len 8",
	"-m srh --srh-next-hdr 6", "-m srh ! --srh-next-hdr 6", "-m ah", "-m ah ! --ahspi 1", "-m eui64", "-m ipv6header --header prot", "-m ipv6header ! --header prot", "-m ipv6header --header prot --soft", "-m ipv6header --header hop,prot", "-m ipv6header --header hop,prot --soft",
	"-m ipv6header --header hop --soft", "-m ipv6header ! --header hop --soft", "-m ipv6header ! --header hop,route,prot --soft", "-m ipv6header ! --header hop",
	"-m hl --hl-eq 63", "-m hl ! --hl-eq 63", "-m hl --hl-lt 63", "-m hl --hl-gt 62", "-m length --length 80", "-m length --length 60", "-m dscp --dscp 0", "-m tos --tos 0x00/0xff", "-m ecn --ecn-ip-ect 0", "-m ecn --ecn-tcp-ece",
	"-m addrtype --src-type LOCAL", "-m addrtype --dst-type UNICAST", "-m addrtype ! --dst-type LOCAL", "-m addrtype --dst-type MULTICAST", "-m addrtype --src-type UNICAST --limit-iface-in", "-m addrtype --dst-type LOCAL --limit-iface-in",
	"-m iprange --src-range fd77:1::1-fd77:1::9", "-m iprange ! --dst-range fd77:2::3-fd77:2::9", "-m multiport --dports 1:60000", "-m multiport ! --sports 1:60000", "-m conntrack --ctorigsrc fd77:1::/64", "-m conntrack ! --ctreplsrc fd77:2::2", "-m conntrack --ctstate NEW",
	"-m conntrack --ctstate INVALID", "-m mark --mark 0x15", "-m pkttype --pkt-type unicast", "-m tcpmss --mss 1440", "-m u32 --u32 \"4>>8&0xFF=6\"", "-m u32 --u32 \"8=0xfd770001\"", "-m u32 --u32 \"8=0xfd770002\"", "-m u32 --u32 \"40&0xFFFF=1000:2000\"",
	"-m cluster --cluster-total-nodes 2 --cluster-local-node 1 --cluster-hash-seed 5", "-m cluster --cluster-total-nodes 2 --cluster-local-node 2 --cluster-hash-seed 5", "-m set --match-set ip6 src", "-m set --match-set net6 src", "-m set --match-set net6 src --return-nomatch",
	"-m set --match-set ipport6 dst,dst", "-m set --match-set netiface6 src,src", "-m set --match-set bmport src", "-m rpfilter", "-m rpfilter --invert",
	"-m mac --mac-source CLIENTMAC", "-m mac ! --mac-source CLIENTMAC", "-m mac --mac-source 02:11:22:33:44:55", "-m helper --helper ftp", "-m helper ! --helper ftp",
	"-m nfacct --nfacct-name plnf",
	"-m policy --dir in --pol none", "-m policy --dir in --pol ipsec --proto esp", "-m socket", "-m tcp ! --syn", "-m tcp --tcp-flags ALL SYN", "-m statistic --mode random --probability 1",
}

const judgeSets6 = `create ip6 hash:ip family inet6
add ip6 fd77:1::2
create net6 hash:net family inet6
add net6 fd77:1::/48
add net6 fd77:1::/64 nomatch
create ipport6 hash:ip,port family inet6
add ipport6 fd77:2::2,tcp:1000-1200
create netiface6 hash:net,iface family inet6
add netiface6 ::/0,c0
create ip4 hash:ip
add ip4 10.77.1.2
create bmport bitmap:port range 20000-20999
add bmport 20000-20999
`

const judgeSets = `create ip hash:ip
add ip 10.77.1.2
create net hash:net
add net 10.77.2.0/25
create netnm hash:net
add netnm 10.77.0.0/16
add netnm 10.77.1.0/28 nomatch
create ipport hash:ip,port
add ipport 10.77.2.2,tcp:20000-20999
create netport hash:net,port
add netport 10.77.1.0/24,tcp:1000-1200
create ipportnet hash:ip,port,net
add ipportnet 10.77.1.2,1000-1200,10.77.2.0/24
create netiface hash:net,iface
add netiface 10.77.0.0/16,c0
create bmport bitmap:port range 20000-20999
add bmport 20000-20999
create bmip bitmap:ip range 10.77.2.0/24
add bmip 10.77.2.3
create list list:set
add list bmip
add list ip
create mask hash:ip netmask 24
add mask 10.77.1.99
create portip hash:ip,port,ip
add portip 10.77.2.2,1000-1200,10.77.1.2
create cnt hash:ip
add cnt 10.77.1.2
create deny hash:net,iface
add deny 10.77.0.0/16,c0
add deny 10.77.1.0/24,c0 nomatch
create twoif hash:net,iface
add twoif 10.77.0.0/16,c0
add twoif 10.77.1.0/24,s0
create wildif hash:net,iface
add wildif 10.77.0.0/16,c wildcard
create physif hash:net,iface
add physif 10.77.0.0/16,physdev:c0
create outif hash:net,iface
add outif 0.0.0.0/0,s0
create bmmask bitmap:ip range 10.77.0.0-10.77.255.255 netmask 24
add bmmask 10.77.1.0
create portrange bitmap:port range 1-3000
add portrange 100-2000
create icmps hash:ip,port
add icmps 10.77.1.2,icmp:echo-request
add icmps 10.77.1.2,udp:1000-1200
create empty hash:net
create orders list:set
add orders empty
add orders ip
add orders netnm before ip
create v6only hash:ip family inet6
` + judgeSetsNewer

// judgeSetsNewer are those that came with Linux 6.3.
const judgeSetsNewer = `create bits hash:ip bitmask 255.255.0.255
add bits 10.77.9.2
create portbits hash:ip,port netmask 16
add portbits 10.77.200.1,tcp:1000-1200
`

// judgeOutput are conditions on what the router itself sends.
var judgeOutput = []string{
	"-m owner --uid-owner 0", "-m owner ! --uid-owner 0", "-m owner --uid-owner 1-5", "-m owner --socket-exists", "-m owner ! --socket-exists",
	"-o s0", "! -o s0", "-m addrtype --src-type LOCAL", "-m conntrack --ctstate NEW", "-m conntrack ! --ctstate NEW,ESTABLISHED", "-m ttl --ttl-eq 64",
}

// nptAddr becomes fd77:2::2 when fd99::/48 becomes fd77:2::/48: the checksum's
// difference stands in the fourth word.
const nptAddr = "fd99:0:0:ffdf::2"

// judgeTargetSets are sets that the rules use.
const judgeTargetSets = `create added hash:ip
create addedport hash:ip,port
create removed hash:ip
add removed 10.77.1.2
create mapped hash:ip skbinfo
add mapped 10.77.1.2 skbmark 0x12/0xff
create addednet hash:net
add addednet 10.99.0.0/24
create addedlist list:set
create listed hash:ip
add addedlist listed
`

// judgeRules is a rule set with what to send through it.
type judgeRules struct {
	name, restore, rules string
	probes               []probe
}

var judgeSetTargets = judgeRules{"sets that rules change", "iptables-nft-restore", `*mangle
-A FORWARD -p tcp --dport 1001 -j SET --add-set added src
-A FORWARD -p tcp --dport 1002 --syn -j SET --add-set addedport src,dst
-A FORWARD -p tcp --dport 1003 -j SET --del-set removed src
-A FORWARD -p tcp --dport 1004 -j SET --map-set mapped src --map-mark
-A FORWARD -p tcp --dport 1005 -j SET --map-set mapped dst --map-mark
-A FORWARD -p tcp --dport 1006 --syn -j SET --add-set addednet dst
-A FORWARD -p tcp --dport 1007 --syn -j SET --add-set addedlist dst
COMMIT
*filter
:FORWARD ACCEPT
-A FORWARD -p tcp --dport 1001 -m set --match-set added src -j DROP
-A FORWARD -p tcp --dport 1002 --tcp-flags SYN,ACK ACK -m set --match-set addedport src,dst -j DROP
-A FORWARD -p tcp --dport 1003 -m set ! --match-set removed src -j DROP
-A FORWARD -p tcp --dport 1004 -m mark --mark 0x12/0xff -j DROP
-A FORWARD -p tcp --dport 1005 -m mark --mark 0x12/0xff -j DROP
-A FORWARD -p tcp --dport 1006 --tcp-flags SYN,ACK ACK -m set --match-set addednet dst -j DROP
-A FORWARD -p tcp --dport 1007 --tcp-flags SYN,ACK ACK -m set --match-set listed dst -j DROP
COMMIT
`, ports(1001, 1002, 1003, 1004, 1005, 1006, 1007)}

// judgeTargets are rule sets in full: what their rules do to each other.
var judgeTargets = []judgeRules{
	{"mark and comments continue, return and goto find their way", "iptables-nft-restore", `*mangle
-A FORWARD -p tcp --dport 1001 -j MARK --set-mark 0x4/0xf
-A FORWARD -p tcp --dport 1001 -j MARK --or-mark 0x100
-A FORWARD -p tcp --dport 1001 -j CONNMARK --save-mark
-A FORWARD -p tcp --dport 1002 -j CONNMARK --set-mark 0x7
-A FORWARD -p tcp --dport 1002 -j CONNMARK --restore-mark --nfmask 0x3 --ctmask 0x3
COMMIT
*filter
:FORWARD ACCEPT
:A -
:B -
:C -
-A FORWARD -m comment --comment "no target"
-A FORWARD -p tcp --dport 1001 -m mark --mark 0x104 -j DROP
-A FORWARD -p tcp --dport 1002 -m mark --mark 0x3 -m connmark --mark 0x7 -j DROP
-A FORWARD -p tcp --dport 1010:1019 -j A
-A FORWARD -p tcp --dport 1010 -j DROP
-A FORWARD -p tcp --dport 1011 -j DROP
-A FORWARD -p tcp --dport 1015 -g C
-A FORWARD -p tcp --dport 1015 -j DROP
-A A -p tcp --dport 1010 -j B
-A A -p tcp --dport 1012 -g C
-A A -p tcp --dport 1012 -j DROP
-A A -p tcp --dport 1013 -j B
-A A -p tcp --dport 1013 -j DROP
-A A -p tcp --dport 1011 -j ACCEPT
-A B -p tcp --dport 1010 -j RETURN
-A B -j ACCEPT
-A C -p tcp --dport 1012 -j RETURN
-A C -p tcp --dport 1015 -j RETURN
COMMIT
`, ports(1001, 1002, 1010, 1011, 1012, 1013, 1014, 1015)},
	{"every way to reject", "iptables-legacy-restore", `*filter
:FORWARD ACCEPT
-A FORWARD -p tcp --dport 1001 -j REJECT
-A FORWARD -p tcp --dport 1002 -j REJECT --reject-with tcp-reset
-A FORWARD -p tcp --dport 1003 -j REJECT --reject-with icmp-host-prohibited
-A FORWARD -p tcp --dport 1004 -j REJECT --reject-with icmp-admin-prohibited
-A FORWARD -p udp --dport 1005 -j REJECT --reject-with icmp-port-unreachable
-A FORWARD -p udp --dport 1006 -j DROP
COMMIT
`, append(ports(1001, 1002, 1003, 1004), udp(1005, 1006, 1007)...)},
	{"a policy of drop with established connections let through", "iptables-nft-restore", `*filter
:FORWARD DROP
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -p tcp --dport 1001 -j ACCEPT
-A FORWARD -p udp --dport 1001 -j ACCEPT
COMMIT
`, append(ports(1001, 1002), udp(1001, 1002)...)},
	{"the reply is dropped, and the established leg", "iptables-nft-restore", `*filter
:FORWARD ACCEPT
-A FORWARD -i s0 -p tcp --sport 1001 -j DROP
-A FORWARD -p tcp --dport 1002 --tcp-flags SYN,ACK ACK -j DROP
-A FORWARD -p tcp --dport 1003 -m conntrack --ctstate ESTABLISHED -j DROP
-A FORWARD -p tcp --sport 1004 -m conntrack --ctstate ESTABLISHED --ctdir ORIGINAL -j DROP
-A FORWARD -p udp --sport 1005 -m conntrack --ctdir REPLY -j DROP
COMMIT
`, append(ports(1001, 1002, 1003, 1004), udp(1005)...)},
	{"untracked packets are neither new nor translated", "iptables-nft-restore", `*raw
-A PREROUTING -p tcp --dport 1001:1003 -j CT --notrack
-A PREROUTING -p tcp --sport 1001:1002 -j NOTRACK
COMMIT
*nat
-A PREROUTING -p tcp --dport 1003 -j DNAT --to-destination :8080
-A POSTROUTING -p tcp --dport 1002 -j MASQUERADE
COMMIT
*filter
:FORWARD ACCEPT
-A FORWARD -p tcp --dport 1001 -m conntrack ! --ctstate UNTRACKED -j DROP
-A FORWARD -p tcp --dport 1003 -m conntrack --ctstate UNTRACKED -j ACCEPT
-A FORWARD -p tcp --sport 1003 -m conntrack --ctstate INVALID -j DROP
COMMIT
`, ports(1001, 1002, 1003)},
	{"a half-seen connection is invalid", "iptables-nft-restore", `*raw
-A PREROUTING -p tcp --sport 1001:1002 -j NOTRACK
COMMIT
*filter
:FORWARD ACCEPT
-A FORWARD -p tcp --dport 1001 -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p tcp --dport 1002 -m conntrack --ctstate NEW -j ACCEPT
-A FORWARD -p tcp --dport 1003 -m conntrack --ctstate INVALID -j DROP
COMMIT
`, ports(1001, 1002, 1003)},
	{"translations", "iptables-nft-restore", `*nat
-A PREROUTING -p tcp --dport 1001 -j DNAT --to-destination 10.77.2.2:8080
-A PREROUTING -p tcp -d 10.77.1.1 --dport 1002 -j DNAT --to-destination 10.77.2.3
-A PREROUTING -p tcp --dport 1003 -j REDIRECT --to-ports 8080
-A PREROUTING -d 10.99.0.0/24 -p tcp -j NETMAP --to 10.77.2.0/24
-A PREROUTING -p tcp --dport 1005 -j DNAT --to-destination :2000-2002
-A PREROUTING -p tcp --dport 1006 -j DNAT --to-destination 10.77.2.2:8080
-A PREROUTING -p udp --dport 1007 -j DNAT --to-destination 10.77.2.2:8080
-A PREROUTING -p tcp --dport 1009 -j ACCEPT
-A PREROUTING -p tcp --dport 1012 -j DNAT --to-destination :2000-2002 --random
-A PREROUTING -p tcp --dport 2001 -j DNAT --to-destination :2000-2002
-A PREROUTING -p tcp --dport 1009:1010 -j DNAT --to-destination 10.77.2.2:8080
-A POSTROUTING -p tcp --dport 8080 -m conntrack --ctorigdstport 1006 -j MASQUERADE
-A POSTROUTING -p tcp --dport 1008 -j SNAT --to-source 10.77.2.1
-A POSTROUTING -p udp --dport 8080 -j MASQUERADE
COMMIT
*filter
:FORWARD ACCEPT
-A FORWARD -p tcp --dport 1006 -j DROP
-A FORWARD -p tcp -m conntrack --ctstate DNAT --ctorigdst 10.77.1.1 --ctorigdstport 1099 -j DROP
COMMIT
`, append([]probe{
		{port: 1002, dst: "10.77.1.1"},
		{port: 1004, dst: "10.99.0.2"},
		{port: 1011, dst: "10.77.1.1"},
		{port: 1005, drawn: func(release string) bool { return !portsInOrder(release) }},
		{port: 1012, drawn: always},
	}, append(ports(1001, 1003, 2001, 1006, 1008, 1009, 1010), udp(1007, 1008)...)...)},
	{"what the router itself sends is translated and routed again", "iptables-nft-restore", `*nat
-A OUTPUT -p tcp --dport 1001 -j DNAT --to-destination 10.77.2.3:8080
-A OUTPUT -p tcp -d 10.77.1.2 --dport 1002 -j DNAT --to-destination 10.77.2.2:8080
-A OUTPUT -p tcp -d 10.77.1.2 --dport 1004 -j DNAT --to-destination 10.77.2.2:1004
-A POSTROUTING -o s0 -p tcp --dport 8080 -j MASQUERADE
-A POSTROUTING -o s0 -p tcp --dport 1004 -j MASQUERADE
COMMIT
*filter
:OUTPUT ACCEPT
-A OUTPUT -o c0 -p tcp --dport 8080 -j DROP
-A OUTPUT -o s0 -p tcp --dport 1004 -j DROP
COMMIT
`, []probe{
		{from: judgeRouter, port: 1001},
		{from: judgeRouter, port: 1002, dst: "10.77.2.2"},
		{from: judgeRouter, port: 1003},
		{from: judgeRouter, port: 1002, dst: "10.77.1.2"},
		{from: judgeRouter, port: 1004, dst: "10.77.1.2"},
		{from: judgeRouter, port: 1004, dst: "10.77.2.2"},
	}},
	{"targets that rewrite, and matches that see it", "iptables-nft-restore", `*mangle
-A FORWARD -p tcp --dport 1001 -j CONNMARK --set-xmark 0x3/0xff --left-shift-mark 4
-A FORWARD -p tcp --dport 1002 -j MARK --set-mark 0xf0
-A FORWARD -p tcp --dport 1002 -j CONNMARK --save-mark --right-shift-mark 4
-A FORWARD -p tcp --dport 1003 -j CONNMARK --set-mark 0x5
-A FORWARD -p tcp --dport 1003 -j CONNMARK --restore-mark --left-shift-mark 8
-A FORWARD -p tcp --dport 1004 --syn -j TCPOPTSTRIP --strip-options mss
-A FORWARD -p tcp --dport 1005 --syn -j TCPMSS --set-mss 1000
-A FORWARD -p tcp --dport 1006 --syn -j TCPMSS --set-mss 9000
-A FORWARD -p tcp --dport 1007 --syn -j TCPOPTSTRIP --strip-options mss
-A FORWARD -p tcp --dport 1007 --syn -j TCPMSS --set-mss 1400
-A FORWARD -p tcp --dport 1008 -j ECN --ecn-ip-ect 2
-A FORWARD -p tcp --dport 1009 -j ECN --ecn-tcp-ece 1
-A FORWARD -p tcp --dport 1010 -j DSCP --set-dscp-class EF
-A FORWARD -p tcp --dport 1011 -j TOS --set-tos 0x10/0x3f
-A FORWARD -p tcp --dport 1012 -j TOS --or-tos 0x08
-A FORWARD -p tcp --dport 1013 -j TTL --ttl-set 7
-A FORWARD -p tcp --dport 1014 -j TTL --ttl-dec 3
-A FORWARD -p tcp --dport 1015 -j TTL --ttl-inc 9
-A FORWARD -p tcp --dport 1016 -j HMARK --hmark-tuple src,dst --hmark-mod 1 --hmark-offset 0x77 --hmark-rnd 0x5
-A FORWARD -p tcp --dport 1017 -j MARK --xor-mark 0x6
-A FORWARD -p tcp --dport 1017 -j MARK --and-mark 0x2
-A FORWARD -p tcp --dport 1018 -m connlabel --label 4 --set
-A FORWARD -p tcp --dport 1019 -m mark --mark 0x1 -m connlabel --label 4 --set
-A FORWARD -p tcp --dport 1020 -j CLASSIFY --set-class 1:2
-A FORWARD -p tcp --dport 1021 -j CHECKSUM --checksum-fill
-A FORWARD -p tcp --dport 1022 -j TEE --gateway 10.77.2.200
-A FORWARD -p tcp --dport 1023 -j IDLETIMER --timeout 600 --label plnfj
-A FORWARD -p tcp --dport 1024 -j RATEEST --rateest-name plnfj --rateest-interval 250ms --rateest-ewmalog 500ms
-A FORWARD -p tcp --dport 1025 -j TOS --and-tos 0xf0
-A FORWARD -p tcp --dport 1026 -j CONNSECMARK --save
-A FORWARD -p tcp --dport 1026 -j CONNSECMARK --restore
-A FORWARD -p tcp --dport 1026 -j IDLETIMER --timeout 600 --label plnfk --alarm
COMMIT
*filter
:FORWARD ACCEPT
:L -
-A FORWARD -p tcp --dport 1001 -m connmark --mark 0x30 -j DROP
-A FORWARD -p tcp --dport 1002 -m connmark --mark 0xf -j DROP
-A FORWARD -p tcp --dport 1003 -m mark --mark 0x500 -j DROP
-A FORWARD -p tcp --dport 1004 --syn -m tcpmss ! --mss 0:65535 -j DROP
-A FORWARD -p tcp --dport 1005 --syn -m tcpmss --mss 1000 -j DROP
-A FORWARD -p tcp --dport 1006 --syn -m tcpmss --mss 1460 -j DROP
-A FORWARD -p tcp --dport 1007 --syn -m tcpmss --mss 536 -j DROP
-A FORWARD -p tcp --dport 1008 -m ecn --ecn-ip-ect 2 -j DROP
-A FORWARD -p tcp --dport 1009 -m ecn --ecn-tcp-ece -j DROP
-A FORWARD -p tcp --dport 1010 -m dscp --dscp 0x2e -j DROP
-A FORWARD -p tcp --dport 1011 -m tos --tos 0x10/0xff -j DROP
-A FORWARD -p tcp --dport 1012 -m tos --tos 0x08 -j DROP
-A FORWARD -p tcp --dport 1013 -m ttl --ttl-eq 7 -j DROP
-A FORWARD -p tcp --dport 1014 -m ttl --ttl-eq 60 -j DROP
-A FORWARD -p tcp --dport 1015 -m ttl --ttl-eq 72 -j DROP
-A FORWARD -p tcp --dport 1016 -m mark --mark 0x77 -j DROP
-A FORWARD -p tcp --dport 1017 -m mark --mark 0x2 -j DROP
-A FORWARD -p tcp --dport 1018 -m connlabel --label 4 -j DROP
-A FORWARD -p tcp --dport 1019 -m connlabel --label 4 -j DROP
-A FORWARD -p tcp --dport 1026 -j L
-A FORWARD -p tcp --dport 1026 -j DROP
-A FORWARD -p tcp --dport 1028 --syn -m statistic --mode random --probability 0.5 -j DROP
-A FORWARD -p tcp --dport 1029 --syn -m statistic --mode nth --every 2 --packet 0 -j DROP
-A FORWARD -p dccp -m dccp --dport 1027 -j DROP
-A FORWARD -p esp -m esp --espspi 1 -j DROP
-A FORWARD -p ah -m ah --ahspi 1 -j DROP
-A FORWARD -p ipcomp -m ipcomp --ipcompspi 1 -j DROP
-A L -j LOG --log-prefix plnf
-A L -j NFLOG --nflog-group 9
-A L -j LOG --log-level debug --log-tcp-sequence --log-tcp-options --log-ip-options --log-uid --log-macdecode
-A L -j NFLOG --nflog-group 9 --nflog-prefix plnf --nflog-size 10 --nflog-threshold 5
-A L -j AUDIT --type accept
COMMIT
`, append(ports(span(1001, 1027)...), probe{port: 1028, drawn: always}, probe{port: 1029, drawn: always})},
	{"zones of connection tracking", "iptables-nft-restore", `*raw
-A PREROUTING -p tcp --dport 1001 -j CT --zone 5
-A PREROUTING -p tcp --dport 1002 -j CT --zone 5
-A PREROUTING -p tcp --sport 1002 -j CT --zone 5
-A PREROUTING -p tcp --dport 1003 -j CT --zone 5
-A PREROUTING -p tcp --dport 1003 -j NOTRACK
-A PREROUTING -p tcp --dport 1004 -j MARK --set-mark 0x9
-A PREROUTING -p tcp --dport 1004 -j CT --zone mark
-A PREROUTING -p tcp --sport 1004 -j CT --zone 9
-A PREROUTING -p tcp --dport 1005 -j CT --zone mark
-A PREROUTING -p tcp --sport 1005 -j CT --zone 9
-A PREROUTING -p tcp --dport 1006 -j CT --zone-orig 5
-A PREROUTING -p tcp --dport 1007 -j CT --zone-reply 5
-A PREROUTING -p tcp --dport 1008 -j CT --zone-reply 5
-A PREROUTING -p tcp --sport 1008 -j CT --zone 5
-A PREROUTING -p tcp --dport 1009 -j CT --zone-orig 5
-A PREROUTING -p tcp --sport 1009 -j CT --zone 5
-A PREROUTING -p tcp --dport 1010 -j MARK --set-mark 0x9
-A PREROUTING -p tcp --dport 1010 -j CT --zone-reply mark
-A PREROUTING -p tcp --sport 1010 -j CT --zone-reply 9
-A PREROUTING -p tcp --sport 1011 -j CT --zone-orig 6
-A PREROUTING -p tcp --dport 1012 -j CT --zone-reply 5
-A PREROUTING -p tcp --sport 1012 -j CT --zone-reply 6
COMMIT
*filter
:FORWARD ACCEPT
-A FORWARD -p tcp --sport 1001 -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p tcp --sport 1002 -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p tcp --dport 1003 -m conntrack --ctstate UNTRACKED -j DROP
-A FORWARD -p tcp --sport 1004 -m conntrack --ctstate ESTABLISHED -j DROP
-A FORWARD -p tcp --sport 1005 -m conntrack --ctstate ESTABLISHED -j DROP
-A FORWARD -p tcp --sport 1006 -m conntrack --ctstate ESTABLISHED -j DROP
-A FORWARD -p tcp --sport 1007 -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p tcp --sport 1008 -m conntrack --ctstate ESTABLISHED -j DROP
-A FORWARD -p tcp --sport 1009 -m conntrack --ctstate INVALID -j DROP
-A FORWARD -p tcp --sport 1010 -m conntrack --ctstate ESTABLISHED -j DROP
-A FORWARD -p tcp --sport 1011 -m conntrack --ctstate ESTABLISHED -j DROP
-A FORWARD -p tcp --sport 1012 -m conntrack --ctstate ESTABLISHED,INVALID -j DROP
COMMIT
`, ports(span(1001, 1012)...)},
	{"prefixes of IPv6", "ip6tables-nft-restore", `*raw
-A PREROUTING -p tcp --dport 1001:1002 -j CT --notrack
-A PREROUTING -p tcp --sport 1001:1002 -j CT --notrack
COMMIT
*mangle
-A PREROUTING -d fd99::/48 -p tcp --dport 1001 -j DNPT --src-pfx fd99::/48 --dst-pfx fd77:2::/48
-A POSTROUTING -s fd77:2::/48 -p tcp --sport 1001 -j SNPT --src-pfx fd77:2::/48 --dst-pfx fd99::/48
-A FORWARD -p tcp --dport 1003 -j HL --hl-set 9
-A FORWARD -p tcp --dport 1004 --syn -j TCPOPTSTRIP --strip-options mss
-A FORWARD -p tcp --dport 1004 --syn -j TCPMSS --set-mss 1400
COMMIT
*filter
:FORWARD ACCEPT
-A FORWARD -p tcp --dport 1003 -m hl --hl-eq 9 -j REJECT --reject-with icmp6-no-route
-A FORWARD -p tcp --dport 1004 -m tcpmss --mss 1220 -j REJECT --reject-with tcp-reset
COMMIT
`, []probe{{dst: nptAddr, port: 1001}, {dst: "fd77:2::2", port: 1002}, {dst: "fd77:2::2", port: 1003}, {dst: "fd77:2::2", port: 1004}}},
	{"IPv6", "ip6tables-nft-restore", `*nat
-A PREROUTING -p tcp --dport 1001 -j DNAT --to-destination [fd77:2::2]:8080
-A POSTROUTING -p tcp --dport 1002 -j MASQUERADE
-A PREROUTING -p tcp --dport 1006 -j REDIRECT --to-ports 8080
COMMIT
*filter
:FORWARD ACCEPT
-A FORWARD -s fd77:1::/64 -p tcp --dport 1003 -j DROP
-A FORWARD -s fd77:1::/ffff:0:0:ffff:: -p tcp --dport 1004 -j REJECT --reject-with icmp6-adm-prohibited
-A FORWARD -p tcp --dport 1005 -m addrtype --dst-type UNICAST -m hl --hl-eq 63 -j DROP
-A FORWARD -p tcp --dport 1007 -m addrtype --dst-type LOCAL -j DROP
-A FORWARD -p udp --dport 1008 -m conntrack --ctstate NEW -j DROP
COMMIT
`, []probe{{dst: "fd77:2::2", port: 1001}, {dst: "fd77:2::2", port: 1002}, {dst: "fd77:2::2", port: 1003}, {dst: "fd77:2::2", port: 1004}, {dst: "fd77:2::2", port: 1005}, {dst: "fd77:2::2", port: 1006}, {dst: "fd77:2::2", port: 1007}, {dst: "fd77:2::2", port: 1008, network: "udp"}, {dst: "fd77:2::2", port: 1009, network: "udp"}}},
	{"nftables", "nft", `table inet t {
 set ips { type ipv4_addr; flags interval; elements = { 10.77.1.0/25, 10.77.3.1-10.77.3.9 } }
 set pairs { type ipv4_addr . inet_service; elements = { 10.77.2.2 . 1003, 10.77.2.9 . 1004 } }
 set civ { type ipv4_addr . inet_service; flags interval; elements = { 10.77.2.0/24 . 1005-1006 } }
 set devs { type ifname; flags interval; elements = { "c*" } }
 map ports { type inet_service : verdict; elements = { 1001 : drop, 1002 : jump sub, 1020 : goto sub } }
 map marks { type inet_service : mark; elements = { 1012 : 0x12 } }
 chain sub { tcp dport 1002 return
  drop
 }
 chain early { type filter hook forward priority -10
  tcp dport 1012 meta mark set tcp dport map @marks
  tcp dport 1013 meta mark set meta mark or 0x30
  tcp dport 1030 accept
  tcp dport 1031 ct mark set 0x9
 }
 chain f { type filter hook forward priority 0; policy accept
  tcp dport vmap @ports
  ip daddr . tcp dport @pairs drop
  ip daddr . tcp dport @civ drop
  iifname @devs tcp dport 1007 drop
  ip saddr @ips tcp dport 1008 drop
  ip saddr != @ips tcp dport 1009 drop
  tcp flags & (syn | ack) == ack tcp dport 1010 drop
  tcp dport 1011 ct state established,related drop
  tcp dport 1012 meta mark 0x12 drop
  tcp dport 1013 meta mark & 0x10 != 0 drop
  tcp dport { 1014, 1016-1017 } drop
  tcp dport 1018 fib daddr type local drop
  tcp dport 1019 fib saddr . iif oif missing drop
  tcp dport 1021 reject with tcp reset
  tcp dport 1022 reject with icmpx admin-prohibited
  udp dport 1023 reject
  meta l4proto udp th dport 1024 drop
  tcp dport 1025 ct direction original ip ttl 63 drop
  tcp dport 1026 ct status seen-reply drop
  tcp sport 1027 ct state new drop
  tcp dport 1028 ip saddr 10.77.1.0/24 meta length > 52 drop
  tcp dport 1029 oifname "s*" iifname != "c0" drop
  tcp dport 1030 drop
  tcp dport 1031 ct mark 0x9 drop
  tcp dport 1032 ct state vmap { new : accept, established : drop }
  tcp dport 1033 ct original ip saddr 10.77.1.2 drop
  tcp dport 1034 numgen random mod 1 == 0 drop
  tcp dport 1035 meta pkttype host drop
  tcp dport != 1-1035 tcp dport < 1037 drop
 }
}
`, append(append(append(ports(span(1001, 1022)...), ports(span(1025, 1038)...)...), udp(1023, 1024, 1025)...), probe{from: judgeRouter, port: 1001})},
	{"nftables translations", "nft", `table ip t {
 map vips { type ipv4_addr . inet_service : ipv4_addr . inet_service; elements = { 10.99.0.1 . 80 : 10.77.2.2 . 8080 } }
 chain pre { type nat hook prerouting priority -100
  dnat ip to ip daddr . tcp dport map @vips
  tcp dport 1001 dnat to 10.77.2.3:8080
  tcp dport 1002 redirect to :8080
  tcp dport 1003 dnat to tcp dport map { 1003 : 10.77.2.3 }
  tcp dport 1004 dnat ip addr . port to numgen random mod 1 map { 0 : 10.77.2.2 . 8080 }
  ip daddr 10.98.0.0/24 dnat ip prefix to ip daddr map { 10.98.0.0/24 : 10.77.2.0/24 }
  tcp dport 1007 dnat to :8080
 }
 chain post { type nat hook postrouting priority 100
  tcp dport 1005 masquerade
  tcp dport 1006 snat to 10.77.2.1
 }
 chain out { type nat hook output priority -100
  tcp dport 1001 dnat to 10.77.2.3:8080
 }
}
`, append(ports(1001, 1002, 1003, 1004, 1005, 1006, 1007), probe{dst: "10.99.0.1", port: 80}, probe{dst: "10.98.0.2", port: 1008}, probe{from: judgeRouter, port: 1001})},
	{"of base chains with one priority the youngest runs first", "nft", `table ip t {
 chain one { type filter hook forward priority 0
  tcp dport 1001 meta mark 0x2 drop
  meta mark set 0x1
 }
 chain two { type filter hook forward priority 0
  tcp dport 1002 meta mark 0x1 drop
  meta mark set 0x2
 }
}
table ip u {
 chain pre { type nat hook prerouting priority -100
  tcp dport 1003 dnat to 10.77.2.3:8080
 }
}
table ip v {
 chain pre { type nat hook prerouting priority -100
  tcp dport 1003 redirect to :8080
 }
 chain later { type nat hook prerouting priority -99
  tcp dport 1004 redirect to :8080
 }
 chain sooner { type nat hook prerouting priority -101
  tcp dport 1004 dnat to 10.77.2.3:8080
 }
}
`, ports(1001, 1002, 1003, 1004)},
	{"accept ends one base chain only, drop is final", "nft", `table inet a {
 chain f { type filter hook forward priority -5; policy accept
  tcp dport 1001-1002 accept
 }
 chain g { type filter hook forward priority 5; policy drop
  tcp dport 1002 accept
  ct state established accept
 }
}
`, ports(1001, 1002, 1003)},
}

// judgeWays are conditions that no snapshot decides, each with the name by which it is asked about, and what the kernel
// makes of a rule that drops on it.
var judgeWays = []struct {
	match, asked string
	holds        bool
}{
	{"-m limit --limit 1000/s", "match limit", true},
	{"-m hashlimit --hashlimit-upto 1000/s --hashlimit-mode srcip --hashlimit-name plnf1", "match hashlimit", true},
	{"-m hashlimit --hashlimit-above 1000/s --hashlimit-mode srcip --hashlimit-name plnf2", "match hashlimit", false},
	{"-m connlimit --connlimit-upto 10000", "match connlimit", true},
	{"-m connlimit --connlimit-above 10000", "match connlimit", false},
	{"-m connbytes --connbytes 1000000: --connbytes-dir both --connbytes-mode bytes", "match connbytes", false},
	{"-m quota --quota 1000000", "match quota", true},
	{"-m rateest --rateest plnfw --rateest-lt --rateest-bps 1gbit", "match rateest", true},
	{"-m time --timestart 00:00 --timestop 23:59:59 --kerneltz", "match time in the kernel's time zone", true},
	{"-m time --datestop 2001-01-01 --kerneltz", "match time in the kernel's time zone", false},
	{"-m cpu --cpu 1000", "match cpu", false},
	{"-m recent --rcheck --name plnf", "match recent", false},
	{"-m recent ! --rcheck --name plnf", "match recent", true},
	{"-m string --string x --algo bm", "match string", true},
	{"-m string ! --string x --algo kmp --from 2000", "match string", true},
	{"-m string --string \"nobody sends this\" --algo kmp", "match string", false},
	{"-m bpf --bytecode \"1,6 0 0 1\"", "match bpf", true},
	{"-m bpf --bytecode \"1,6 0 0 0\"", "match bpf", false},
	{"-m osf --genre Linux", "match osf", false}, // no fingerprints are loaded
	{"-m realm --realm 0", "match realm", true},
	{"-m realm --realm 5", "match realm", false},
	{"-m conntrack --ctexpire 1:1000000", "match conntrack --ctexpire", true},
	{"-m conntrack --ctexpire 1000000:2000000", "match conntrack --ctexpire", false},
	{"-m tcp --tcp-option 8", "match tcp --tcp-option", true},
	{"-m tcp --tcp-option 77", "match tcp --tcp-option", false},
	{"-m u32 --u32 \"4>>16=1,2\" -m u32 --u32 \"4>>16=3,4\"", "match u32", false}, // the identifier of IPv4
	{"-m set --match-set counted src --packets-gt 1000000", "set counted (counters of its elements)", false},
	{"-j NFQUEUE --queue-num 4711", "", true}, // nobody listens
	{"-j NFQUEUE --queue-num 4711 --queue-bypass", "", false},
}

func always(string) bool { return true }

func ports(list ...uint16) []probe {
	var probes []probe
	for _, p := range list {
		probes = append(probes, probe{port: p})
	}
	return probes
}

func udp(list ...uint16) []probe {
	probes := ports(list...)
	for i := range probes {
		probes[i].network = "udp"
	}
	return probes
}

func span(first, last uint16) []uint16 {
	var list []uint16
	for p := first; p <= last; p++ {
		list = append(list, p)
	}
	return list
}
