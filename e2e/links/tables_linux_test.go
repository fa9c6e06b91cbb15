package links

import (
	"fmt"
	"testing"

	"github.com/plumbline-net/plumbline/simulator/netstack"
	"github.com/plumbline-net/plumbline/simulator/verdict"
)

// tables are the rules that arptables and ebtables of the nft backend load: of
// nf_tables, some with matches and targets of xtables.
var tables = []scenario{
	{name: "arptables drops requests by source", only: netstack.IPv4, setup: pair + `
		b arptables-nft -A INPUT -s 10.9.1.1 -i eth0 --opcode Request -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "arptables drops requests of another source", only: netstack.IPv4, setup: pair + `
		b arptables-nft -A INPUT -s 10.9.1.9 -j DROP`, to: "1.2"},
	{name: "arptables drops what the host asks", only: netstack.IPv4, setup: pair + `
		a arptables-nft -A OUTPUT -d 10.9.1.2 -o eth0 -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "arptables drops by hardware address", only: netstack.IPv4, setup: pair + `
		mac MACA a:eth0
		b arptables-nft -A INPUT --source-mac MACA -j DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "a policy of arptables", only: netstack.IPv4, setup: pair + `
		b arptables-nft -P INPUT DROP`, to: "1.2", reason: verdict.NetfilterDrop},
	{name: "arptables rewrites the request", only: netstack.IPv4, opaque: true, setup: pair + `
		a arptables-nft -A OUTPUT -d 10.9.1.2 -j mangle --mangle-ip-d 10.9.1.7`, to: "1.2", reason: verdict.UnmodelledRule},
	{name: "a policy of ebtables", only: netstack.IPv4, setup: onBridge + `
		n ebtables-nft -P FORWARD DROP`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "ebtables drops between ports", only: netstack.IPv4, setup: onBridge + `
		n ebtables-nft -A FORWARD -i pa -o pb -j DROP`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "ebtables drops between other ports", only: netstack.IPv4, setup: onBridge + `
		n ebtables-nft -A FORWARD -i pb -o pb -j DROP`, to: "0.2"},
	{name: "ebtables drops by hardware address", only: netstack.IPv4, setup: onBridge + `
		mac MACA a:eth0
		n ebtables-nft -A FORWARD -s MACA -j DROP`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "a user chain of ebtables", only: netstack.IPv4, setup: onBridge + `
		n ebtables-nft -N own
		n ebtables-nft -P own RETURN
		n ebtables-nft -A own -p IPv4 -j DROP
		n ebtables-nft -A FORWARD -j own`, to: "0.2", reason: verdict.NetfilterDrop},
	{name: "ebtables drops a port", only: netstack.IPv4, opaque: true, protocols: []string{"tcp"}, setup: onBridge + `
		n ebtables-nft -A FORWARD -p IPv4 --ip-dst 10.9.0.2 --ip-proto tcp --ip-dport 80 -j DROP`, to: "0.2", reason: verdict.UnmodelledRule},
	{name: "ebtables looks at the mark", only: netstack.IPv4, opaque: true, setup: onBridge + `
		n ebtables-nft -A FORWARD --mark 1 -j DROP`, to: "0.2", reason: verdict.UnmodelledRule},
	{name: "ebtables drops ARP", only: netstack.IPv4, opaque: true, setup: onBridge + `
		n ebtables-nft -A FORWARD -p ARP --arp-op Request -j DROP`, to: "0.2", reason: verdict.UnmodelledRule},
	{name: "ebtables turns frames to another station", only: netstack.IPv4, opaque: true, setup: onBridge + `
		mac MACB b:eth0
		n ebtables-nft -t nat -A PREROUTING -d MACB -j dnat --to-destination 02:00:00:00:00:77`, to: "0.2", reason: verdict.UnmodelledRule},
	{name: "ebtables takes frames for the host", only: netstack.IPv4, opaque: true, setup: onBridge + `
		n ebtables-nft -t nat -A PREROUTING -p IPv4 -j redirect`, to: "0.2", reason: verdict.UnmodelledRule},
}

// legacyTables are rules of the kernel's own arptables.
var legacyTables = []scenario{
	{
		name: "legacy arptables drops requests by source", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		b arptables-legacy -A INPUT -s 10.9.1.1 -i eth+ --opcode Request -j DROP`, to: "1.2", reason: verdict.NetfilterDrop,
		rule: "arptables filter/INPUT rule 1: -A INPUT -j DROP -i eth+ -s 10.9.1.1 --opcode 1",
	},
	{name: "legacy arptables drops requests of others", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		b arptables-legacy -A INPUT -s 10.9.1.9 -j DROP
		b arptables-legacy -A INPUT ! -s 10.9.1.0/24 -j DROP
		b arptables-legacy -A INPUT ! -i eth0 -j DROP
		b arptables-legacy -A INPUT --opcode 3 -j DROP
		b arptables-legacy -A INPUT --proto-type 0x86dd -j DROP
		b arptables-legacy -A INPUT -d 10.9.1.3/255.255.0.255 -j DROP`, to: "1.2"},
	{
		name: "legacy arptables drops what the host asks", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		a arptables-legacy -A OUTPUT -d 10.9.0.2/255.255.0.255 -o eth0 -j DROP`, to: "1.2", reason: verdict.NetfilterDrop,
		rule: "arptables filter/OUTPUT rule 1: ",
	},
	{
		name: "legacy arptables drops answers", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		b arptables-legacy -A OUTPUT --opcode Reply -j DROP`, to: "1.2", reason: verdict.NetfilterDrop,
		rule: "arptables filter/OUTPUT rule 1: -A OUTPUT -j DROP --opcode 2",
	},
	{name: "legacy arptables drops by hardware address", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		mac MACA a:eth0
		b arptables-legacy -A INPUT --source-mac MACA -j DROP`, to: "1.2", reason: verdict.NetfilterDrop, rule: "filter/INPUT rule 1: "},
	{name: "legacy arptables drops all but a hardware address", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		mac MACA a:eth0
		b arptables-legacy -A INPUT ! --source-mac MACA -j DROP`, to: "1.2"},
	{name: "a policy of legacy arptables", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		b arptables-legacy -A INPUT -s 10.9.1.7 -j ACCEPT
		b arptables-legacy -P INPUT DROP`, to: "1.2", reason: verdict.NetfilterDrop, rule: "arptables filter/INPUT policy: DROP"},
	{name: "a user chain of legacy arptables", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		b arptables-legacy -N own
		b arptables-legacy -N empty
		b arptables-legacy -A own -s 10.9.1.1 -j RETURN
		b arptables-legacy -A own -j ACCEPT
		b arptables-legacy -A INPUT -j empty
		b arptables-legacy -A INPUT -j own
		b arptables-legacy -A INPUT -d 10.9.1.2
		b arptables-legacy -A INPUT -d 10.9.1.2 -j DROP`, to: "1.2", reason: verdict.NetfilterDrop, rule: "filter/INPUT rule 4: "},
	{name: "a user chain of legacy arptables accepts", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		b arptables-legacy -N own
		b arptables-legacy -A own -j ACCEPT
		b arptables-legacy -A INPUT -j own
		b arptables-legacy -A INPUT -j DROP`, to: "1.2"},
	{name: "both arptables drop", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		b arptables-nft -A INPUT -s 10.9.1.1 -j ACCEPT
		b arptables-legacy -A INPUT -s 10.9.1.1 -j DROP`, to: "1.2", reason: verdict.NetfilterDrop, rule: "arptables filter/INPUT rule 1: "},
	{name: "a permanent neighbour needs no ARP", needs: []string{"arptables"}, only: netstack.IPv4, setup: pair + `
		mac MACA a:eth0
		mac MACB b:eth0
		a ip neigh replace 10.9.1.2 lladdr MACB dev eth0 nud permanent
		b ip neigh replace 10.9.1.1 lladdr MACA dev eth0 nud permanent
		b arptables-legacy -P INPUT DROP`, to: "1.2"},
	{
		name: "legacy arptables rewrites the request", needs: []string{"arptables"}, only: netstack.IPv4, opaque: true, setup: pair + `
		a arptables-legacy -A OUTPUT -d 10.9.1.2 -j mangle --mangle-ip-d 10.9.1.7`, to: "1.2", reason: verdict.UnmodelledRule,
		rule: "-A OUTPUT -j mangle -d 10.9.1.2 --mangle-ip-d 10.9.1.7",
	},
	{
		name: "legacy arptables drops what a bridge passes on", needs: []string{"arptables", "br_netfilter"}, only: netstack.IPv4, setup: onBridge + `
		n sysctl -qw net.bridge.bridge-nf-call-arptables=1
		n arptables-legacy -A FORWARD -i pa -o pb -s 10.9.0.1 -j DROP`, to: "0.2", reason: verdict.NetfilterDrop,
		rule: "arptables filter/FORWARD rule 1: -A FORWARD -j DROP -i pa -o pb -s 10.9.0.1",
	},
	{name: "legacy arptables of a bridge that does not call it", needs: []string{"arptables", "br_netfilter"}, only: netstack.IPv4, setup: onBridge + `
		n sysctl -qw net.bridge.bridge-nf-call-arptables=0
		n arptables-legacy -P FORWARD DROP`, to: "0.2"},
	{name: "legacy arptables of a bridge that calls it itself", needs: []string{"arptables", "br_netfilter"}, only: netstack.IPv4, setup: onBridge + `
		n sysctl -qw net.bridge.bridge-nf-call-arptables=0
		n ip link set br0 type bridge nf_call_arptables 1
		n arptables-legacy -P FORWARD DROP`, to: "0.2", reason: verdict.NetfilterDrop, rule: "arptables filter/FORWARD policy: DROP"},
	{name: "INPUT of legacy arptables is not asked by a bridge", needs: []string{"arptables", "br_netfilter"}, only: netstack.IPv4, setup: onBridge + `
		n sysctl -qw net.bridge.bridge-nf-call-arptables=1
		n arptables-legacy -P INPUT DROP
		n arptables-legacy -P OUTPUT DROP`, to: "0.2"},
}

// The rules of legacy ebtables cannot be read: that there are some is seen.
func TestLegacyEBTables(t *testing.T) {
	for i, s := range []scenario{
		{name: "legacy ebtables drops between ports", only: netstack.IPv4, opaque: true, setup: onBridge + `
			n ebtables-legacy -A FORWARD -i pa -o pb -j DROP`, to: "0.2", reason: verdict.CollectorFailed, rule: "legacy ebtables has rules on this host (filter)"},
		{name: "legacy ebtables is not asked without a bridge", only: netstack.IPv4, setup: pair + `
			n ebtables-legacy -t nat -A PREROUTING -j DROP`, to: "1.2"},
		{name: "legacy ebtables is in vain where the frame is lost, too", only: netstack.IPv4, setup: onBridge + `
			n ebtables-legacy -A FORWARD -i pa -o pb -j DROP
			n ebtables-nft -A FORWARD -j DROP`, to: "0.2", reason: verdict.NetfilterDrop},
	} {
		// The whole host has rules, or none.
		s.needs = []string{ownKernel, "ebtables"}
		s.attach = func(t *testing.T, w *world) {
			t.Cleanup(func() {
				for _, table := range []string{"filter", "nat"} {
					w.command("n", "ebtables-legacy", "-t", table, "-F")
				}
			})
		}
		t.Run(s.name, func(t *testing.T) { s.run(t, fmt.Sprintf("le%d", i)) })
	}
}

func TestLegacyTables(t *testing.T) { runAll(t, "lt", legacyTables) }

func TestTables(t *testing.T) { runAll(t, "tb", tables) }
