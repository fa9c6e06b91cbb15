package links

import (
	"cmp"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline-net/plumbline/e2e/lab"
	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// local has what is marked routed to the node itself.
const local = `
	n {ip} rule add fwmark 1 lookup 100
	n {ip} route add local default dev lo table 100
`

// prohibited has no route for what is marked.
const prohibited = `
	n {ip} rule add fwmark 1 lookup 100
	n {ip} route add prohibit default table 100
`

// proxy is a program that listens at port 3129.
type proxy struct {
	in          string // namespace; the node by default
	at          string // SUBNET.HOST; any address by default
	device      string // to which it is bound
	transparent bool
	shared      bool // others may listen there, too
	mark        int  // of what it sends
}

// listening starts a proxy on the node.
func listening(transparent bool) func(*testing.T, *world) {
	return proxiesOf(proxy{transparent: transparent})
}

// proxiesOf starts proxies.
func proxiesOf(list ...proxy) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		for _, p := range list {
			if err := lab.InNetns(w.netns(cmp.Or(p.in, "n")), func() error { return p.listen(t) }); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (p *proxy) listen(t *testing.T) error {
	for _, f := range bothFamilies {
		suffix, level, option := "4", unix.SOL_IP, unix.IP_TRANSPARENT
		if f == netstack.IPv6 {
			suffix, level, option = "6", unix.SOL_IPV6, unix.IPV6_TRANSPARENT
		}
		config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
			controlErr := c.Control(func(fd uintptr) {
				if p.transparent {
					err = unix.SetsockoptInt(int(fd), level, option, 1)
				}
				if p.device != "" && err == nil {
					err = unix.BindToDevice(int(fd), p.device)
				}
				if p.mark != 0 && err == nil {
					err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, p.mark)
				}
				if p.shared && err == nil {
					err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
				}
			})
			return cmp.Or(controlErr, err)
		}}
		at := net.JoinHostPort(address(cmp.Or(p.at, unspecified), f), "3129")
		l, err := config.Listen(t.Context(), "tcp"+suffix, at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go lab.ServeTCP(l, "proxy")
		c, err := config.ListenPacket(t.Context(), "udp"+suffix, at)
		if err != nil {
			return err
		}
		t.Cleanup(func() { c.Close() })
		go lab.ServeUDP(c, "proxy")
	}
	return nil
}

// nftProxy gives what comes in to a proxy by a rule of nftables.
const nftProxy = `
	n nft add table inet t
	n nft add chain inet t c { type filter hook prerouting priority -150 ; policy accept ; }
	n nft add rule inet t c iif pa meta l4proto tcp tproxy to :3129 meta mark set 1 accept`

// redirected goes to the program that listens at the port of the proxy.
const redirected = `
	n {iptables} -t nat -A PREROUTING -i pa -p tcp -j REDIRECT --to-ports 3129`

// nftInput is the chain of what the node takes.
const nftInput = `
	n nft add table inet t
	n nft add chain inet t c { type filter hook input priority 0 ; policy accept ; }`

// proxies are transparent ones, which take connections for others.
var proxies = []scenario{
	{
		name: "a proxy takes the connection", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(true), opaque: true, reason: verdict.ProxyInterposed,
	},
	{name: "nobody listens for TPROXY", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "nobody listens at the address of TPROXY", protocols: []string{"tcp"}, only: netstack.IPv4, setup: joined + routed + local + `
		n iptables -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-ip 10.9.1.254 --on-port 81 --tproxy-mark 1`, to: "2.1", reason: verdict.NetfilterDrop},
	{
		name: "no route leads to the proxy", protocols: []string{"tcp"}, setup: joined + routed + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(true), reason: verdict.InvalidRoute,
	},
	{
		name: "a prohibit route leads to the proxy: the sender is told", protocols: []string{"tcp"}, setup: joined + routed + prohibited + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(true), reason: verdict.RouteProhibit,
	},
	{
		name: "a prohibit route leads to the proxy, whose socket is not transparent: TPROXY drops first", protocols: []string{"tcp"}, setup: joined + routed + prohibited + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(false), reason: verdict.NetfilterDrop,
	},
	{
		name: "the socket of the proxy is not transparent: TPROXY drops", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(false), reason: verdict.NetfilterDrop,
	},
	{
		name: "the socket of the proxy is not transparent: nftables goes on", protocols: []string{"tcp"}, setup: joined + routed + local + nftProxy, to: "2.1",
		attach: listening(false),
	},
	{name: "a prohibit route, and nobody listens for TPROXY, which drops first", protocols: []string{"tcp"}, setup: joined + routed + prohibited + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1", reason: verdict.NetfilterDrop},
	{name: "a prohibit route of the marks that another rule sets: the sender is told", protocols: []string{"tcp"}, setup: joined + routed + prohibited + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j MARK --set-mark 1`, to: "2.1", reason: verdict.RouteProhibit},
	{
		name: "a rule drops what the proxy would take", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1
		n {iptables} -A INPUT -i pa -m mark --mark 1 -j DROP`, to: "2.1",
		attach: listening(true), reason: verdict.NetfilterDrop,
	},
	{name: "another protocol is not the proxy's", protocols: []string{"udp", "icmp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1"},
	{
		name: "a proxy of nftables takes the connection", protocols: []string{"tcp"}, setup: joined + routed + local + nftProxy, to: "2.1",
		attach: listening(true), opaque: true, reason: verdict.ProxyInterposed,
	},
	{name: "nobody listens for nftables, which goes on", protocols: []string{"tcp"}, setup: joined + routed + local + nftProxy, to: "2.1"},
	{
		name: "no route leads to the proxy of nftables", protocols: []string{"tcp"}, setup: joined + routed + nftProxy, to: "2.1",
		attach: listening(true), reason: verdict.InvalidRoute,
	},
	{
		name: "socket comes first, and finds none", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -p tcp -m socket --transparent -j DROP
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(true), opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "a proxy at the address of TPROXY", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-ip {1.254} --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{at: "1.254", transparent: true}), opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "the socket at the address of TPROXY is not transparent", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-ip {1.254} --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{at: "1.254"}), reason: verdict.NetfilterDrop,
	},
	{
		name: "a proxy at the address of the device, which TPROXY means", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{at: "1.254", transparent: true}), opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "a proxy at the address of another device", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{at: "5.1", transparent: true}), reason: verdict.NetfilterDrop,
	},
	{
		name: "a proxy at any address, and a program at that of the device, which is asked first", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{transparent: true, shared: true}, proxy{at: "1.254", shared: true}), reason: verdict.NetfilterDrop,
	},
	{
		name: "a program at any address, and a proxy at that of the device, which is asked first", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{shared: true}, proxy{at: "1.254", transparent: true, shared: true}), opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "a proxy and a program share a port: who is asked is drawn", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{transparent: true, shared: true}, proxy{shared: true}), opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "a proxy takes datagrams", protocols: []string{"udp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p udp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{transparent: true}), opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "the socket for datagrams is not transparent", protocols: []string{"udp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p udp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(false), reason: verdict.NetfilterDrop,
	},
	{
		name: "TPROXY meets the answers to a client of the node, whose socket is not transparent", protocols: []string{"tcp"}, setup: joined + routed + `
		a {iptables} -t mangle -A PREROUTING -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: proxiesOf(proxy{in: "a", transparent: true}), reason: verdict.NetfilterDrop,
	},
	{
		name: "nftables meets the answers to a client of the node, and goes on", protocols: []string{"tcp"}, setup: joined + routed + `
		a nft add table inet t
		a nft add chain inet t c { type filter hook prerouting priority -150 ; policy accept ; }
		a nft add rule inet t c meta l4proto tcp tproxy to :3129 meta mark set 1 accept`, to: "2.1",
		attach: proxiesOf(proxy{in: "a", transparent: true}),
	},
	{
		name: "socket drops what a transparent socket takes", protocols: []string{"tcp"}, setup: joined + redirected + `
		n {iptables} -t mangle -A INPUT -i pa -p tcp -m socket --transparent --nowildcard -j DROP`, to: "1.254",
		attach: listening(true), reason: verdict.NetfilterDrop,
	},
	{
		name: "socket drops what a transparent socket takes that is bound to the device", protocols: []string{"tcp"}, setup: joined + redirected + `
		n {iptables} -t mangle -A INPUT -i pa -p tcp -m socket --transparent --nowildcard -j DROP`, to: "1.254",
		attach: proxiesOf(proxy{device: "pa", transparent: true}), reason: verdict.NetfilterDrop,
	},
	{
		name: "socket lets pass what a socket takes that is not transparent", protocols: []string{"tcp"}, setup: joined + redirected + `
		n {iptables} -t mangle -A INPUT -i pa -p tcp -m socket --transparent --nowildcard -j DROP`, to: "1.254",
		attach: listening(false),
	},
	{
		name: "socket sees the one that a transparent socket accepts, which has an address", protocols: []string{"tcp"}, setup: joined + redirected + `
		n {iptables} -t mangle -A INPUT -i pa -p tcp -m socket --transparent -j DROP`, to: "1.254",
		attach: listening(true), reason: verdict.NetfilterDrop,
	},
	{
		name: "socket sees the one that is accepted, which is not transparent", protocols: []string{"tcp"}, setup: joined + redirected + `
		n {iptables} -t mangle -A INPUT -i pa -p tcp -m socket --transparent -j DROP`, to: "1.254",
		attach: listening(false),
	},
	{
		name: "nftables drops what a transparent socket takes", protocols: []string{"tcp"}, setup: joined + redirected + nftInput + `
		n nft add rule inet t c iif pa meta l4proto tcp socket transparent 1 drop`, to: "1.254",
		attach: listening(true), reason: verdict.NetfilterDrop,
	},
	{
		name: "nftables lets pass what a socket takes that is not transparent", protocols: []string{"tcp"}, setup: joined + redirected + nftInput + `
		n nft add rule inet t c iif pa meta l4proto tcp socket transparent 1 drop`, to: "1.254",
		attach: listening(false),
	},
	{
		name: "nftables drops what a socket takes that is not transparent", protocols: []string{"tcp"}, setup: joined + redirected + nftInput + `
		n nft add rule inet t c iif pa meta l4proto tcp socket transparent 0 drop`, to: "1.254",
		attach: listening(false), reason: verdict.NetfilterDrop,
	},
	{
		name: "an old kernel does not tell of a proxy", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(true), untold: true, opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "an old kernel does not tell that a socket is not transparent", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(false), untold: true, opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "an old kernel does not tell nftables apart that goes on", protocols: []string{"tcp"}, setup: joined + routed + local + nftProxy, to: "2.1",
		attach: listening(false), untold: true, opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "a prohibit route leads to what may be a proxy of an old kernel", protocols: []string{"tcp"}, setup: joined + routed + prohibited + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(false), untold: true, either: true, reason: verdict.RouteProhibit,
	},
	{
		name: "an old kernel does not tell socket", protocols: []string{"tcp"}, setup: joined + redirected + `
		n {iptables} -t mangle -A INPUT -i pa -p tcp -m socket --transparent --nowildcard -j DROP`, to: "1.254",
		attach: listening(true), untold: true, opaque: true, reason: verdict.UnmodelledRule,
	},
	{
		name: "a rule drops what a marked socket answers", protocols: []string{"tcp", "udp"}, setup: joined + redirected + `
		n {iptables} -t nat -A PREROUTING -i pa -p udp -j REDIRECT --to-ports 3129
		n {iptables} -t mangle -A OUTPUT -m mark --mark 7 -j DROP`, to: "1.254",
		attach: proxiesOf(proxy{mark: 7}), reason: verdict.NetfilterDrop,
	},
	{
		name: "what a marked socket answers has no route", protocols: []string{"tcp", "udp"}, setup: joined + redirected + `
		n {iptables} -t nat -A PREROUTING -i pa -p udp -j REDIRECT --to-ports 3129
		n {ip} rule add fwmark 7 prohibit`, to: "1.254",
		attach: proxiesOf(proxy{mark: 7}), reason: verdict.RouteProhibit,
	},
	{
		name: "a socket of TCP that is marked does not take the mark of what it answers", protocols: []string{"tcp"}, setup: joined + redirected + `
		n sysctl -qw net.ipv4.tcp_fwmark_accept=1
		n {iptables} -t mangle -A PREROUTING -i pa -j MARK --set-mark 5
		n {iptables} -t mangle -A OUTPUT -p tcp -m mark ! --mark 7 -j DROP`, to: "1.254",
		attach: proxiesOf(proxy{mark: 7}),
	},
	{
		name: "a socket of TCP without a mark takes that of what it answers", protocols: []string{"tcp"}, setup: joined + redirected + `
		n sysctl -qw net.ipv4.tcp_fwmark_accept=1
		n {iptables} -t mangle -A PREROUTING -i pa -j MARK --set-mark 5
		n {iptables} -t mangle -A OUTPUT -m mark --mark 5 -j DROP`, to: "1.254",
		attach: listening(false), reason: verdict.NetfilterDrop,
	},
}
