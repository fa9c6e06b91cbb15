package links

import (
	"net"
	"strings"
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

// listening starts a proxy on the node.
func listening(transparent bool) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		config := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) (err error) {
			if !transparent {
				return nil
			}
			controlErr := c.Control(func(fd uintptr) {
				level, option := unix.SOL_IP, unix.IP_TRANSPARENT
				if strings.HasSuffix(network, "6") {
					level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
				}
				err = unix.SetsockoptInt(int(fd), level, option, 1)
			})
			if controlErr != nil {
				return controlErr
			}
			return err
		}}
		err := lab.InNetns(w.netns("n"), func() error {
			for _, network := range []string{"tcp4", "tcp6"} {
				l, err := config.Listen(t.Context(), network, ":3129")
				if err != nil {
					return err
				}
				t.Cleanup(func() { l.Close() })
				go lab.ServeTCP(l, "proxy")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

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
		name: "a prohibit route leads to the proxy: the sender is told, if the socket is transparent", protocols: []string{"tcp"}, setup: joined + routed + prohibited + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(true), either: true, reason: verdict.RouteProhibit,
	},
	{
		name: "a prohibit route leads to the proxy, whose socket is not transparent: TPROXY drops first", protocols: []string{"tcp"}, setup: joined + routed + prohibited + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(false), either: true, reason: verdict.RouteProhibit,
	},
	{
		name: "the socket of the proxy is not transparent: TPROXY drops", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(false), opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "the socket of the proxy is not transparent: nftables goes on", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n nft add table inet t
		n nft add chain inet t c { type filter hook prerouting priority -150 ; policy accept ; }
		n nft add rule inet t c iif pa meta l4proto tcp tproxy to :3129 meta mark set 1 accept`, to: "2.1",
		only: netstack.IPv4, attach: listening(false), opaque: true, reason: verdict.ProxyInterposed,
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
		name: "a proxy of nftables takes the connection", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n nft add table inet t
		n nft add chain inet t c { type filter hook prerouting priority -150 ; policy accept ; }
		n nft add rule inet t c iif pa meta l4proto tcp tproxy to :3129 meta mark set 1 accept`, to: "2.1",
		only: netstack.IPv4, attach: listening(true), opaque: true, reason: verdict.ProxyInterposed,
	},
	{name: "nobody listens for nftables, which goes on", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n nft add table inet t
		n nft add chain inet t c { type filter hook prerouting priority -150 ; policy accept ; }
		n nft add rule inet t c iif pa meta l4proto tcp tproxy to :3129 meta mark set 1 accept`, to: "2.1", only: netstack.IPv4},
	{
		name: "no route leads to the proxy of nftables, which may go on instead", protocols: []string{"tcp"}, setup: joined + routed + `
		n nft add table inet t
		n nft add chain inet t c { type filter hook prerouting priority -150 ; policy accept ; }
		n nft add rule inet t c iif pa meta l4proto tcp tproxy to :3129`, to: "2.1",
		only: netstack.IPv4, attach: listening(true), opaque: true, reason: verdict.ProxyInterposed,
	},
	{
		name: "socket comes first, and finds none", protocols: []string{"tcp"}, setup: joined + routed + local + `
		n {iptables} -t mangle -A PREROUTING -p tcp -m socket --transparent -j DROP
		n {iptables} -t mangle -A PREROUTING -i pa -p tcp -j TPROXY --on-port 3129 --tproxy-mark 1`, to: "2.1",
		attach: listening(true), opaque: true, reason: verdict.ProxyInterposed,
	},
}
