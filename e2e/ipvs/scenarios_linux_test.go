package ipvs

// scenario is what IPVS and the rules are set to, and what becomes of packets to
// the service 9.9:8000.
type scenario struct {
	name string
	// setup are commands in namespaces. SUBNET.HOST and SUBNET.HOST:PORT are in
	// the words of the family, and so is {iptables}.
	setup string
	// fates are by client: c is outside, a beside the servers, n the node itself.
	// They are "PROTOCOL CLIENT: SERVER..." or "PROTOCOL CLIENT: OUTCOME/REASON";
	// PROTOCOL may end in 4 or 6, for one family alone. One fate of several may
	// follow another.
	fates string
	port  string // of the service; 8000 by default
}

const (
	tracked = `n sysctl -qw net.ipv4.vs.conntrack=1
`
	service = `n ipvsadm -A -t 9.9:8000 -s rr
		n ipvsadm -A -u 9.9:8000 -s rr
`
	nat = service + `n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m
		n ipvsadm -a -u 9.9:8000 -r 1.1:80 -m
		n ipvsadm -a -u 9.9:8000 -r 1.2:80 -m
`
	masquerade = `n {iptables} -t nat -A POSTROUTING -d 1.0/24 -j MASQUERADE
`
	bridged = `n sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
`
	// direct gives the servers the service's address.
	direct = `n ipvsadm -A -t 9.9:80 -s rr
		n ipvsadm -a -t 9.9:80 -r 1.1:80 -g
		n ipvsadm -a -t 9.9:80 -r 1.2:80 -g
		p ip addr add 9.9/32 dev lo
		q ip addr add 9.9/32 dev lo
`
)

var scenarios = []scenario{
	{name: "masquerading, and servers that answer through the node", setup: nat, fates: `
		tcp c: p q
		udp c: p q
		tcp n: p q
		udp n: p q`},
	{name: "a client beside the servers gets answers from strangers", setup: nat, fates: `
		tcp a: timeout/ReplyNotTranslated
		udp a: timeout/ReplyNotTranslated`},
	{name: "answers over the bridge meet IPVS if the bridge asks", setup: nat + bridged, fates: `
		tcp a: p q
		udp a: p q`},
	{name: "the source is masqueraded, too", setup: tracked + nat + masquerade, fates: `
		tcp c: p q
		tcp a: p q
		tcp n: p q
		udp a: p q
		udp n: p q`},
	{name: "what belongs to the service is masqueraded", setup: tracked + nat + `
		n {iptables} -t nat -A POSTROUTING -m ipvs --vaddr 9.9 --vport 8000 --vmethod MASQ -j MASQUERADE`, fates: `
		tcp c: p q
		tcp a: p q
		udp a: p q`},
	{name: "what belongs to another service is not masqueraded", setup: tracked + nat + `
		n {iptables} -t nat -A POSTROUTING -m ipvs --vaddr 9.9 --vport 8001 -j MASQUERADE`, fates: `
		tcp c: p q
		tcp a: timeout/ReplyNotTranslated`},
	{name: "nothing is masqueraded while IPVS keeps packets from connection tracking", setup: nat + masquerade, fates: `
		tcp c: p q
		tcp a: timeout/ReplyNotTranslated`},
	{name: "kube-proxy's mark, and masquerading by it", setup: tracked + nat + `
		n {iptables} -t nat -A PREROUTING -d 9.9 -j MARK --set-xmark 0x4000/0x4000
		n {iptables} -t nat -A OUTPUT -d 9.9 -j MARK --set-xmark 0x4000/0x4000
		n {iptables} -t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE`, fates: `
		tcp a: p q
		tcp n: p q
		tcp c: p q`},
	{name: "one server is quiesced", setup: service + `
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 0
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m -w 1`, fates: `
		tcp c: q
		tcp n: q`},
	{name: "all servers are quiesced", setup: service + `
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 0
		n ipvsadm -a -u 9.9:8000 -r 1.1:80 -m -w 0`, fates: `
		tcp c: refused/IPVSNoDestination
		tcp n: refused/IPVSNoDestination
		udp c: refused/IPVSNoDestination
		udp n: prohibited/IPVSNoDestination`},
	{name: "there is no server", setup: service, fates: `
		tcp c: refused/IPVSNoDestination
		tcp a: refused/IPVSNoDestination
		tcp n: refused/IPVSNoDestination`},
	{name: "an address without a service", setup: nat, port: "8001", fates: `
		tcp c: refused/IPVSNoService
		tcp n: refused/IPVSNoService
		udp c: refused/IPVSNoService`},
	{name: "an address without a service, on a port of the node", setup: nat, port: "80", fates: `
		tcp c: n
		tcp n: n`},
	{name: "echo requests are none of its business", setup: nat, fates: `
		icmp c: n
		icmp n: n`},
	{name: "servers by weight", setup: `
		n ipvsadm -A -t 9.9:8000 -s wrr
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 1
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m -w 2`, fates: `
		tcp c: p q`},
	{name: "the fail-over scheduler takes the greatest weight", setup: `
		n ipvsadm -A -t 9.9:8000 -s fo
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 1
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m -w 2`, fates: `
		tcp c: q`},
	{name: "the overflow scheduler", setup: `
		n ipvsadm -A -t 9.9:8000 -s ovf
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 1
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m -w 2`, fates: `
		tcp c: p q`},
	{name: "schedulers by load: wlc", setup: `
		n ipvsadm -A -t 9.9:8000 -s wlc
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: p q`},
	{name: "schedulers by load: lc, with one server", setup: `
		n ipvsadm -A -t 9.9:8000 -s lc
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 0
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: q`},
	{name: "schedulers by load: sed", setup: `
		n ipvsadm -A -t 9.9:8000 -s sed
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 3
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: p q`},
	{name: "schedulers by load: nq", setup: `
		n ipvsadm -A -t 9.9:8000 -s nq
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 3
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: p q`},
	{name: "schedulers by load and address: lblc", setup: `
		n ipvsadm -A -t 9.9:8000 -s lblc
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: p q`},
	{name: "schedulers by hash: sh", setup: `
		n ipvsadm -A -t 9.9:8000 -s sh
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: p q`},
	{name: "schedulers by hash: sh refuses clients of a quiesced server", setup: `
		n ipvsadm -A -t 9.9:8000 -s sh -b sh-port
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 0
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: q refused/IPVSNoDestination`},
	{name: "schedulers by hash: sh with a fallback", setup: `
		n ipvsadm -A -t 9.9:8000 -s sh -b sh-fallback,sh-port
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 0
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: q`},
	{name: "schedulers by hash: dh", setup: `
		n ipvsadm -A -t 9.9:8000 -s dh
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 0
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: q refused/IPVSNoDestination`},
	{name: "schedulers by hash: mh", setup: `
		n ipvsadm -A -t 9.9:8000 -s mh -b mh-port
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m -w 0
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: q`},
	{name: "a client is kept with its server", setup: `
		n ipvsadm -A -t 9.9:8000 -s rr -p 60
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m
		n ipvsadm -a -t 9.9:8000 -r 1.2:80 -m`, fates: `
		tcp c: p q`},
	{name: "a service for all ports", setup: `
		n ipvsadm -A -t 9.9:0 -s rr -p 60
		n ipvsadm -a -t 9.9:0 -r 1.1:0 -m`, port: "80", fates: `
		tcp c: p
		tcp n: p`},
	{name: "single packets: the answer is not translated", setup: `
		n ipvsadm -A -u 9.9:8000 -s rr -o
		n ipvsadm -a -u 9.9:8000 -r 1.1:80 -m`, fates: `
		udp c: timeout/ReplyNotTranslated`},
	{name: "the server is the node itself", setup: service + `
		n ipvsadm -a -t 9.9:8000 -r 1.254:80 -m`, fates: `
		tcp c: n
		tcp a: n
		tcp n: n`},
	{name: "the server is the node itself, tracked", setup: tracked + service + masquerade + `
		n ipvsadm -a -t 9.9:8000 -r 1.254:80 -m`, fates: `
		tcp c: n
		tcp n: n`},
	{name: "the node or a pod", setup: service + `
		n ipvsadm -a -t 9.9:8000 -r 1.254:80 -m
		n ipvsadm -a -t 9.9:8000 -r 1.1:80 -m`, fates: `
		tcp c: n p
		tcp n: n p`},
	{name: "a server that refuses", setup: service + `
		n ipvsadm -a -t 9.9:8000 -r 1.1:81 -m
		n ipvsadm -a -u 9.9:8000 -r 1.1:81 -m`, fates: `
		tcp c: refused/NoListener
		tcp n: refused/NoListener
		udp c: refused/NoListener
		udp n: refused/NoListener`},
	{name: "a server without a route", setup: service + `
		n ipvsadm -a -t 9.9:8000 -r 77.1:80 -m`, fates: `
		tcp c: host-unreachable/NoRoute
		tcp n: host-unreachable/NoRoute`},
	{name: "a server behind a blackhole", setup: service + `
		n ip route add blackhole 77.1
		n ipvsadm -a -t 9.9:8000 -r 77.1:80 -m`, fates: `
		tcp c: host-unreachable/RouteBlackhole`},
	{name: "FORWARD sees the answers alone", setup: nat + `
		n {iptables} -A FORWARD -d 1.0/24 -j DROP`, fates: `
		tcp c: p q`},
	{name: "FORWARD drops the answers, which are not translated yet", setup: nat + `
		n {iptables} -A FORWARD -s 1.0/24 -p tcp --sport 80 -j DROP`, fates: `
		tcp c: timeout/NetfilterDrop
		tcp n: p q`},
	{name: "INPUT sees requests before IPVS does", setup: nat + `
		n {iptables} -A INPUT -d 9.9 -p tcp --dport 8000 -j DROP`, fates: `
		tcp c: timeout/NetfilterDrop
		tcp n: p q`},
	{name: "OUTPUT sees requests translated, wherever they come from", setup: nat + `
		n {iptables} -A OUTPUT -d 1.0/24 -p tcp --dport 80 -j REJECT
		n {iptables} -A OUTPUT -d 1.0/24 -p udp --dport 80 -j REJECT`, fates: `
		tcp c: refused/NetfilterReject
		tcp n: refused/NetfilterReject
		udp c: refused/NetfilterReject
		udp n: refused/NetfilterReject`},
	{name: "OUTPUT drops in silence what IPVS sends", setup: nat + `
		n {iptables} -A OUTPUT -d 1.0/24 -j DROP`, fates: `
		tcp c: timeout/NetfilterDrop
		tcp n: timeout/NetfilterDrop
		udp n: timeout/NetfilterDrop`},
	{name: "INPUT sees answers to the node untranslated", setup: nat + `
		n {iptables} -A INPUT -s 9.9 -j DROP`, fates: `
		tcp n: p q`},
	{name: "untracked packets have another state after IPVS", setup: nat + `
		n {iptables} -A OUTPUT -d 1.0/24 -m conntrack --ctstate NEW -j DROP`, fates: `
		tcp c: p q`},
	{name: "tracked packets keep their state", setup: tracked + nat + `
		n {iptables} -A OUTPUT -d 1.0/24 -m conntrack --ctstate NEW -j DROP`, fates: `
		tcp c: timeout/NetfilterDrop`},
	{name: "the answer to an untracked packet is invalid", setup: nat + `
		n {iptables} -A FORWARD -m conntrack --ctstate INVALID -j DROP`, fates: `
		tcp c: timeout/ConntrackInvalid`},
	{name: "the answer to a tracked packet is not", setup: tracked + nat + `
		n {iptables} -A FORWARD -m conntrack --ctstate INVALID -j DROP`, fates: `
		tcp c: p q`},
	{name: "a service by mark", setup: `
		n {iptables} -t mangle -A PREROUTING -d 9.9 -p tcp --dport 80 -j MARK --set-mark 7
		n ipvsadm -A -f 7 {family} -s rr
		n ipvsadm -a -f 7 {family} -r 1.1:0 -m
		n ipvsadm -a -f 7 {family} -r 1.2:0 -m`, port: "80", fates: `
		tcp c: p q
		tcp n: p q`},
	{name: "direct routing: the node hears its own address on the way back", setup: direct, port: "80", fates: `
		tcp4 c: timeout/MartianSource
		tcp a: p q`},
	{name: "direct routing", setup: direct + `
		n sysctl -qw net.ipv4.conf.all.accept_local=1`, port: "80", fates: `
		tcp c: p q
		tcp a: p q`},
	{name: "direct routing to a server that does not have the address", setup: `
		n ipvsadm -A -t 9.9:80 -s rr
		n ipvsadm -a -t 9.9:80 -r 1.1:80 -g`, port: "80", fates: `
		tcp c: host-unreachable/RoutingLoop`},
	{name: "tunnels", setup: `
		n ipvsadm -A -t 9.9:80 -s rr
		n ipvsadm -a -t 9.9:80 -r 1.1:80 -i
		n sysctl -qw net.ipv4.conf.all.accept_local=1
		p ip link add t0 type {tunnel} local 1.1
		p ip link set t0 up
		p ip addr add 9.9/32 dev lo`, port: "80", fates: `
		tcp c: p
		tcp a: p`},
	{name: "a tunnel in UDP is not seen through", setup: service + `
		n ipvsadm -a -t 9.9:8000 -r 1.1:8000 -i --tun-type gue --tun-port 6080`, fates: `
		tcp4 c: unknown/UnmodelledRule`},
	{name: "a tunnel to the node itself", setup: `
		n ipvsadm -A -t 9.9:80 -s rr
		n ipvsadm -a -t 9.9:80 -r 1.254:80 -i`, port: "80", fates: `
		tcp c: n
		tcp n: n`},
}
